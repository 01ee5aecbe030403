"""Fidelity at any station: which episodes, views, world and detector a command means, and what is judged of them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch

from tests.benchmark_parts import benchmark_modules
from vap_sim.data.twin import load_episode
from vap_sim.envs.stations import get_station, station_names
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.metrics.detector import BODY_CLASSES, DetectorConfig, DetectorNet, describe
from vap_sim.models.checkpoint import save_tensors
from vap_sim.models.protocol import WorldModel

DRAWER_SEED = 900_002
"""One whose scene at RT1 has a cabinet."""


@pytest.fixture(scope="module")
def parts() -> Iterator[SimpleNamespace]:
    """The benchmark's files as modules."""
    with benchmark_modules(("harness", "station_dreams", "fidelity"), needs=("pybullet",)) as modules:
        yield SimpleNamespace(**modules)


def record(folder: Path, seed: int, **settings: Any) -> Path:
    from vap_sim.envs.twin_recorder import RecorderSettings, record_file

    return record_file(seed, folder, RecorderSettings(steps=3, size=(128, 128), **settings))


@pytest.fixture(scope="module")
def drawer(parts: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("rt1"), DRAWER_SEED, station="RT1")


@pytest.fixture(scope="module")
def two_views(parts: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return record(tmp_path_factory.mktemp("bridge"), 7, station="Bridge", views=("exterior_1", "exterior_2"))


def told(parts: SimpleNamespace, *words: str) -> argparse.Namespace:
    """The options of a command."""
    parser = parts.harness.arguments("", "fidelity.json")
    parts.station_dreams.add_station_options(parser)
    options: argparse.Namespace = parser.parse_args(words)
    return options


def stand(parts: SimpleNamespace, *words: str) -> Any:
    return parts.station_dreams.Stand.of(told(parts, *words))


def dreams_with(parts: SimpleNamespace, *words: str) -> WorldModel:
    """The world of a command."""
    found: WorldModel = stand(parts, *words).world(told(parts, *words).world)
    return found


def test_droid_keeps_its_episodes_and_others_have_their_own(parts: SimpleNamespace) -> None:
    assert stand(parts).folder == Path("out/episodes")
    assert stand(parts, "--station", "RT1").folder == Path("out/episodes_RT1")
    pair = stand(parts, "--station", "Bridge", "--views", "exterior_1", "exterior_2")
    assert pair.folder == Path("out/episodes_Bridge_exterior_1_exterior_2")
    assert stand(parts, "--views", "wrist").folder == Path("out/episodes_DROID_wrist")
    with pytest.raises(UnknownName, match=r"unknown station 'RT2'. Did you mean 'RT1'"):
        stand(parts, "--station", "RT2")


@pytest.mark.filterwarnings("ignore::vap_sim.models.compact.model.UntrainedRate")
@pytest.mark.parametrize("name", station_names())
def test_a_station_is_judged_in_the_world_that_its_environment_dreams_with(parts: SimpleNamespace, name: str) -> None:
    env: Any = gymnasium.make(f"VAPWorld-{name}-v0", views=get_station(name).views[:1]).unwrapped
    assert dreams_with(parts, "--station", name).spec == env.world_spec
    assert dreams_with(parts, "--station", name, "--world", "still").spec.name == "still"


def test_a_world_that_is_named_is_taken(parts: SimpleNamespace) -> None:
    own, panda, bodies = (
        dreams_with(parts, "--station", "Bridge", *words).spec.fingerprint
        for words in ([], ["--world", "compact"], ["--world", "compact_bodies"])
    )
    assert own == bodies != panda == dreams_with(parts).spec.fingerprint


@pytest.mark.filterwarnings("ignore::vap_sim.models.compact.model.UntrainedRate")
def test_worlds_are_told_the_rate_and_the_cameras(parts: SimpleNamespace) -> None:
    worlds = {name: stand(parts, "--station", name).world("compact").spec for name in ("DROID", "RT1", "EgoVid")}
    assert {name: spec.frame_rate for name, spec in worlds.items()} == {"DROID": 5, "RT1": 3, "EgoVid": 5}
    assert all(spec.reads_cameras and spec.reads_bones for spec in worlds.values())
    assert stand(parts, "--station", "Bridge", "--views", "exterior_1", "exterior_2").world("compact").spec.views == 2


def test_views_are_chosen_by_name_in_any_order(parts: SimpleNamespace, two_views: Path) -> None:
    episode = load_episode(two_views)
    turned = parts.harness.seen_by(episode, ["exterior_2", "exterior_1"])
    np.testing.assert_array_equal(turned.frames, episode.frames[::-1])
    assert [camera["name"] for camera in turned.meta["cameras"]] == ["exterior_2", "exterior_1"]
    np.testing.assert_array_equal(parts.harness.seen_by(episode, None).labels, episode.labels[:1])
    with pytest.raises(UnknownName, match="unknown view of episode 7 'wrist'"):
        parts.harness.seen_by(episode, ["wrist"])


def test_every_view_is_dreamt_from_its_own_first_frame(parts: SimpleNamespace, two_views: Path) -> None:
    world = stand(parts, "--station", "Bridge", "--views", "exterior_2", "exterior_1").world("still")
    ((episode, dream),) = parts.harness.dreamt_views(world, [two_views], ("exterior_2", "exterior_1"))
    assert dream.shape == (2, 4, 128, 128, 3)
    truth = torch.from_numpy(episode.frames)
    torch.testing.assert_close(dream, truth[:, :1].expand_as(dream))
    for view, name in enumerate(("exterior_2", "exterior_1")):
        read = parts.fidelity.read_truth(episode, view)
        torch.testing.assert_close(read.frames, truth[view])
        assert read.episode.meta["cameras"][0]["name"] == name


def test_true_masks_are_perfect_and_a_drawer_is_one_of_the_things(parts: SimpleNamespace, drawer: Path) -> None:
    truth = parts.fidelity.read_truth(load_episode(drawer), 0, BODY_CLASSES)
    assert truth.things[-1] == "drawer"
    assert bool((truth.labels == BODY_CLASSES.index("drawer")).any())
    found = parts.fidelity.judge_masks(truth, truth.labels)
    for measure in ("robot-mask ST-IoU", "object-mask ST-IoU"):
        assert found[measure][0]
        assert set(found[measure][0]) == {1.0}
    without = torch.where(truth.labels == BODY_CLASSES.index("drawer"), 0, truth.labels)
    assert 0.0 in parts.fidelity.judge_masks(truth, without)["object-mask ST-IoU"][0]
    with pytest.raises(UnknownName, match="unknown thing to detect 'drawer'"):
        parts.fidelity.read_truth(load_episode(drawer))


def test_one_command_judges_a_station(
    parts: SimpleNamespace, drawer: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    network = DetectorNet(DetectorConfig((8, 8, 8, 8), BODY_CLASSES))
    save_tensors(tmp_path / "eye.safetensors", network.state_dict(), describe(network))
    words = ["--station", "RT1", "--world", "still", "--seed", str(DRAWER_SEED), "--limit", "1"]
    words += ["--episodes", str(drawer.parent), "--detector", str(tmp_path / "eye.safetensors")]
    words += ["--sheet", str(tmp_path / "sheet.png")]
    monkeypatch.setattr(sys, "argv", ["fidelity.py", *words])
    monkeypatch.chdir(tmp_path)
    parts.fidelity.main()
    assert "1 episodes of RT1 from seed 900002, head, nominal joints" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "fidelity_RT1.json").read_text())["results"]
    bars = {row["name"]: row["bar"] for row in rows if row["bar"] is not None}
    assert bars == parts.fidelity.BARS_OF_BODIES
    assert (tmp_path / "sheet.png").stat().st_size
    with pytest.raises(InvalidInput, match=r"without seeds \[900003\]"):
        stand(parts, "--station", "RT1").files(drawer.parent, DRAWER_SEED, 2)
