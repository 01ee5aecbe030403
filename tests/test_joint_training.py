"""The comparison of single and joint training: diets are just, runs resume, grades and verdicts are true."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.joint_training_parts import benchmark_parts
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.training.contact import Touched, told

KINDS = ("rt1_unclosed", "guests")


@pytest.fixture(name="parts", scope="module")
def _parts() -> Iterator[SimpleNamespace]:
    with benchmark_parts() as found:
        yield found


@pytest.fixture(scope="module")
def files(parts: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """A short recording of each of two kinds, and one with pictures of a drawer that stands open."""
    folder, taught = tmp_path_factory.mktemp("recordings"), parts.diets.TAUGHT
    made = {}
    for name in KINDS:
        first = taught[name].first
        short = replace(taught[name], steps=8)
        made[name] = parts.diets.record_kind(short, range(first, first + 1), folder / name)
    short = replace(parts.diets.JUDGED["closing"], steps=2)
    made["closing"] = parts.diets.record_kind(short, range(900_200, 900_201), folder / "closing", pictures=True)
    return made


@pytest.fixture(scope="module")
def films(parts: SimpleNamespace, files: dict[str, list[Path]]) -> dict[str, Any]:
    return {name: parts.diets.films_of(name, files[name], 2) for name in KINDS}


def small(parts: SimpleNamespace, **changes: Any) -> Any:
    """Settings that train in a moment."""
    few = {"steps": 2, "grows": 1, "cooldown": 1, "batch": 2, "short": 2, "long": 3, "warmup": 1}
    return replace(parts.runs.RunSettings(), **few | changes)


def exam(parts: SimpleNamespace, step: float = 0.01) -> Any:
    """Three objects that go 4 cm until the last frame but one, and are 2 cm wide, beside one bone."""
    count, length = 3, 6
    shift = torch.tensor([step, 0.0, 0.0]).expand(count, length, 3)
    place = torch.tensor([0.4, 0.1, 0.02]) + torch.arange(length)[:, None] * shift
    batch = Touched(
        bones=torch.zeros(count, length + 1, 1, 2, 3),
        thick=torch.full((count, 1), 0.01),
        kind=torch.zeros(count, 1, dtype=torch.long),
        others=torch.zeros(count, length + 1, 1, 3),
        other_kind=torch.full((count, 1), -1),
        other_thick=torch.zeros(count, 1),
        place=place,
        shift=shift,
        turn=torch.zeros(count, length, 3),
        stride=torch.zeros(count, 3),
        size=torch.full((count, 2), 0.02),
        away=torch.tensor([0.0, 0.0, 1.0]).expand(count, 3),
        moves=torch.ones(count, length, dtype=torch.bool),
        carry=torch.eye(4).expand(count, length, 4, 4),
    )
    return parts.judge.Exam(batch, (7, 8, 9), torch.full((3,), 0.02), torch.tensor([True, True, True]))


# Diets -----------------------------------------------------------------------------------------------------------


def test_the_google_robot_is_not_to_be_shown_closing(parts: SimpleNamespace) -> None:
    taught = parts.diets.TAUGHT
    shown = taught["rt1_unclosed"].settings(740_000)
    assert shown.robot == "google_robot" and "open_drawer" in shown.behaviours and "lift" in shown.behaviours
    assert not [name for name in shown.behaviours if "close" in name]
    guests = [taught["guests"].settings(seed) for seed in (750_000, 750_001)]
    assert {one.robot for one in guests} == {"widowx", "panda_robotiq"}
    assert all("close_drawer" in one.behaviours for one in guests)
    for diet in ("rt1_unseen", "joint_unseen", "joint_no_guests"):
        assert "rt1" not in parts.diets.DIETS[diet]
    assert "guests" not in parts.diets.DIETS["joint_no_guests"]


def test_nothing_is_learned_from_that_is_judged_by(parts: SimpleNamespace) -> None:
    seeds = [set(parts.diets.seeds_of(kind, 2000)) for kind in parts.diets.TAUGHT.values()]
    assert sum(map(len, seeds)) == len(set().union(*seeds)) and max(map(max, seeds)) < 900_000
    for block, first, end in (("dev", 900_000, 901_000), ("test", 1_000_000, 2_000_000)):
        for kind in parts.diets.JUDGED.values():
            judged = parts.diets.seeds_of(kind, 100, block)
            assert first <= judged[0] and judged[-1] < end


def test_a_drawer_that_goes_in_is_noticed(parts: SimpleNamespace) -> None:
    def episode(*out: float) -> Any:
        poses = np.zeros((len(out), 2, 7))
        poses[:, 1, :2] = np.array([0.6, -0.1]) - np.array(out)[:, None] * [1.0, 0.0]
        scene = {"objects": [None], "cabinets": [{"x": 0.6, "y": -0.1, "yaw": np.pi}]}
        return SimpleNamespace(object_poses=poses, length=len(out), meta={"scene": scene})

    assert parts.diets.openings(episode(0.0, 0.1)) == pytest.approx([0.0, 0.1])
    assert parts.diets.shut_by(episode(0.0, 0.05, 0.1)) == pytest.approx(0)
    assert parts.diets.shut_by(episode(0.1, 0.15, 0.03, 0.08)) == pytest.approx(0.12)
    bare = SimpleNamespace(object_poses=np.zeros((3, 1, 7)), length=3, meta={"scene": {"objects": [None]}})
    assert parts.diets.shut_by(bare) == 0


@pytest.mark.parametrize("name", ["droid_novel", "bridge_novel"])
def test_a_novel_lab_is_one_that_no_training_draws(parts: SimpleNamespace, name: str) -> None:
    kind = parts.diets.JUDGED[name]
    known = {spread.name: spread for spread in replace(kind, novel=False).place().layout.cameras}
    for seed in range(5):
        scene = kind.place().sample_scene(np.random.default_rng(seed))
        same = replace(kind, novel=False).place().sample_scene(np.random.default_rng(seed))
        assert scene.objects == same.objects
        for camera in scene.cameras:
            spread = known[camera.name]
            off = np.linalg.norm(np.subtract(camera.eye, spread.target))
            assert off > spread.distance[1] - spread.jitter * np.sqrt(3)
            away = (np.subtract(camera.eye, camera.target) / np.linalg.norm(np.subtract(camera.eye, camera.target)))[2]
            assert np.arcsin(away) > spread.elevation[1]
        for color in (scene.table_color, scene.wall_color):
            assert max(color) - min(color) > 0.2  # greys are at most 0.14 apart


def test_guests_are_seen_from_where_the_hosts_head_would_be(
    parts: SimpleNamespace, files: dict[str, list[Path]], films: Any
) -> None:
    episode, own = parts.diets.load_motion(files["guests"][0])
    head = parts.diets.head_of_host("RT1", episode, own[0].size)
    assert [camera.name for camera in own] == ["exterior_1"] and head.name == "head"
    assert head.parent_link is None and head.size == own[0].size
    eye = head.T_parent_camera[:3, 3]
    assert abs(float(eye[0])) < 0.3 and 0.4 < float(eye[2]) < 1.2
    (film,) = films["guests"]
    assert film.shown.shape[0] == 2 and film.shown.any(1).all()
    assert not np.allclose(film.away[0], film.away[1])


# Runs ------------------------------------------------------------------------------------------------------------


def test_a_kind_feeds_every_diet_alike(parts: SimpleNamespace, films: Any) -> None:
    settings = small(parts)
    alone = parts.runs.JointRecipe({"guests": films["guests"]}, settings, 3)
    joint = parts.runs.JointRecipe({name: films[name] for name in KINDS}, settings, 3)
    for step in (0, 1):
        both = joint.batches(step)
        (own, jitter), (same, jitters) = alone.batches(step)["guests"], both["guests"]
        assert list(both) == list(KINDS) and own.place.shape == (2, (2, 3)[step], 3)
        assert torch.equal(jitters, jitter)
        for name, value in vars(own).items():
            assert torch.equal(getattr(same, name), value), name
        assert torch.equal(own.carry, torch.eye(4).expand_as(own.carry))
        each = [parts.runs.JointRecipe({name: films[name]}, settings, 3).loss(step)[0] for name in KINDS]
        assert joint.loss(step)[0].item() == pytest.approx(torch.stack(each).mean().item(), rel=1e-5)
    other = parts.runs.JointRecipe({"guests": films["guests"]}, settings, 4)
    assert not torch.equal(other.batches(0)["guests"][1], alone.batches(0)["guests"][1])


def test_a_run_that_was_stopped_ends_as_one_that_was_not(parts: SimpleNamespace, films: Any, tmp_path: Path) -> None:
    settings, run = small(parts), parts.runs.Run("joint_unseen", 0)
    meals, exams = dict.fromkeys(parts.diets.DIETS["joint_unseen"], films["guests"]), {"straight": exam(parts)}

    def go(folder: str, settings: Any = settings, **options: Any) -> Any:
        return parts.runs.run_one(run, settings, meals, exams, tmp_path / folder, **options)

    whole = go("whole")
    assert go("cut", minutes=0.0) is None and not parts.runs.record_path(tmp_path / "cut", run).exists()
    halves = go("cut")
    assert halves["marks"] == whole["marks"] and halves["loss"] == whole["loss"]
    bits = [parts.runs.weights_path(tmp_path / folder, run).read_bytes() for folder in ("whole", "cut")]
    assert bits[0] == bits[1]
    stamp = parts.runs.record_path(tmp_path / "cut", run).stat().st_mtime_ns
    assert go("cut") == halves and parts.runs.record_path(tmp_path / "cut", run).stat().st_mtime_ns == stamp
    assert not (tmp_path / "cut" / "training" / run.name).exists()
    with pytest.raises(BadFile, match="other settings"):
        go("cut", replace(settings, steps=3))
    parts.runs.record_path(tmp_path / "cut", run).write_text("{", encoding="utf-8")
    with pytest.raises(BadFile, match="joint_unseen-0"):
        go("cut")


def test_every_diet_of_a_seed_begins_with_the_same_weights(parts: SimpleNamespace) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (parts.runs.first_network(seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_runs_come_seed_by_seed_and_joint_ones_cost_more(parts: SimpleNamespace) -> None:
    runs = list(parts.main.plan(list(parts.diets.DIETS), (0, 1, 2)))
    assert len(set(runs)) == len(runs) == 24
    assert [run.seed for run in runs[:8]] == [0] * 8 and runs[0].diet == "joint"
    settings = parts.runs.RunSettings()
    single, joint = (parts.runs.seconds_of(parts.runs.Run(diet, 0), settings) for diet in ("rt1", "joint"))
    assert joint == pytest.approx(5 * single)


# Grades ----------------------------------------------------------------------------------------------------------


def test_grades_know_the_truth_from_a_standstill(parts: SimpleNamespace) -> None:
    network = parts.runs.first_network(0).eval()
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias[10] = -9.0  # nothing moves
    still = parts.judge.grade(network, exam(parts))
    assert still["closed"] == pytest.approx([0] * 3) and still["off"] == pytest.approx([1] * 3)
    assert still["end"] == still["still"] == pytest.approx([2] * 3)
    assert still["path"] == pytest.approx([1] * 3) and still["seeds"] == [7, 8, 9]
    with torch.no_grad():
        network.head.bias[10] = 9.0
        network.head.bias[0] = 1.0  # a centimetre ahead, surely
        network.head.bias[6] = -40.0  # in no hand
    true = parts.judge.grade(network, exam(parts))
    assert true["closed"] == pytest.approx([1] * 3, abs=1e-3)
    for name in ("off", "end", "path"):
        assert true[name] == pytest.approx([0] * 3, abs=1e-3)


def test_an_exam_asks_for_what_the_robot_is_near_to(
    parts: SimpleNamespace, files: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidInput, match="nothing is asked"):
        parts.judge.exam_of(files["closing"], drawers=True)  # it stays open in so short a recording
    monkeypatch.setattr(parts.judge, "_SHUT_WAY", -1.0)
    found = parts.judge.exam_of(files["closing"], drawers=True)
    assert len(found) == 1 and found.batch.place.shape == (1, 3, 3) and found.seeds == (900_200,)
    assert float(found.way.norm()) < 0.01 and found.yards.tolist() == pytest.approx([0.06])
    assert torch.equal(found.batch.carry, torch.eye(4).expand_as(found.batch.carry))


# Dreams ----------------------------------------------------------------------------------------------------------


def test_an_opening_is_read_off_a_picture(parts: SimpleNamespace, files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vap_sim.data.twin import load_episode

    monkeypatch.setattr(parts.dreams, "LEVELS", 3)
    episode = load_episode(files["closing"][0])
    scale = parts.dreams.Scale.of(episode)
    assert scale.openings == pytest.approx(np.linspace(0, parts.diets.openings(episode)[0], 3))
    for level, drawing in zip(scale.openings, scale.drawings, strict=True):
        noisy = np.clip(drawing.astype(int) + np.random.default_rng(0).integers(-20, 21, drawing.shape), 0, 255)
        assert scale.read(noisy.astype(np.uint8)) == level


def test_a_dream_is_moved_by_the_network_of_its_run(parts: SimpleNamespace, files: Any, tmp_path: Path) -> None:
    from vap_sim.data.twin import load_episode
    from vap_sim.models.checkpoint import save_tensors
    from vap_sim.models.compact.network import CompactConfig, CompactNetwork

    with torch.random.fork_rng(devices=[]):
        pictures = CompactNetwork(CompactConfig(carry=True, contact=True))
    plain = json.loads(json.dumps(asdict(pictures.config)))
    save_tensors(tmp_path / "bones.safetensors", pictures.state_dict(), {"network": plain, "profile": "compact"})
    save_tensors(tmp_path / "pictures.safetensors", pictures.state_dict(), {"network": plain, "profile": "limbs"})
    network = parts.runs.first_network(5)
    save_tensors(tmp_path / "contact.safetensors", network.state_dict(), {})
    world = parts.dreams.world_of(tmp_path / "contact.safetensors", tmp_path / "pictures.safetensors")
    again = parts.dreams.world_of(tmp_path / "contact.safetensors", tmp_path / "pictures.safetensors")
    other = tmp_path / "other.safetensors"
    save_tensors(other, parts.runs.first_network(6).state_dict(), {})
    unlike = parts.dreams.world_of(other, tmp_path / "pictures.safetensors")
    assert world.fingerprint == again.fingerprint != unlike.fingerprint
    assert world.spec.views == 1 and world.spec.reads_bones
    mover = world.mover.network
    assert all(torch.equal(mover.network.state_dict()[name], value) for name, value in network.state_dict().items())
    batch = exam(parts).batch
    taken = torch.eye(4).expand(3, 6, 4, 4).clone()
    taken[..., 0, 3] = 0.02
    asked = [told(replace(batch, carry=carry), 1, batch.place[:, 0], batch.stride) for carry in (batch.carry, taken)]
    assert torch.equal(mover(*asked[0]).shift, mover(*asked[1]).shift)
    assert not torch.equal(network(*asked[0]).shift, network(*asked[1]).shift)
    with pytest.raises(BadFile, match="reads 'compact', and the stations here draw 'limbs'"):
        parts.dreams.world_of(other, tmp_path / "bones.safetensors")
    (shown,) = parts.dreams.last_pictures(world, [load_episode(files["closing"][0])])
    assert shown.shape == (128, 128, 3) and shown.dtype == np.uint8


# Report ----------------------------------------------------------------------------------------------------------
