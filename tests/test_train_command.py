"""The command `train`: parts one at a time or side by side, joined into one file; the same command goes on."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import sys
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vap_sim.cli import main
from vap_sim.commands import train as train_command
from vap_sim.data.twin import load_episode, save_episode
from vap_sim.models.checkpoint import read_description


@pytest.fixture(scope="module")
def episodes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three episodes of three frames 32 x 32 by two cameras, their frames of various brightness."""
    pytest.importorskip("pybullet")
    from vap_sim.envs.twin_recorder import RecorderSettings, record_episode

    folder = tmp_path_factory.mktemp("episodes")
    settings = RecorderSettings(steps=2, size=(32, 32), views=("exterior_1", "exterior_2"))
    episode = record_episode(5, settings)
    for number in range(3):
        save_episode(folder / f"{number}.vap.npz", replace(episode, frames=episode.frames // (1 + number)))
    return folder


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Makes `train` take a small network, and pictures and paths as short as these episodes; lists the recipes made."""
    from vap_sim.models.compact import network
    from vap_sim.training import motion, pictures

    import_module("vap_sim.models.compact.model")  # takes its CompactConfig before that is replaced
    net = network.UNetConfig((8,), (1,))
    config = partial(network.CompactConfig, size=32, style=2, scene=net, motion=net, robot=net)
    monkeypatch.setattr(network, "CompactConfig", config)
    short: list[tuple[Any, str, dict[str, Any]]] = [
        (pictures, "PictureTraining", {"scenes": 1, "painted": 1}),
        (motion, "MotionTraining", {"stages": (motion.Stage(0, 3, 1, 0.5),)}),
    ]
    for module, name, less in short:
        monkeypatch.setattr(module, name, partial(getattr(module, name), **less))
    made: list[Any] = []
    for kind in (pictures.PictureRecipe, motion.MotionRecipe):

        def watched(*given: Any, kind: Any = kind) -> Any:
            made.append(kind(*given))
            return made[-1]

        monkeypatch.setattr(sys.modules[kind.__module__], kind.__name__, watched)
    return made


def train(data: Path, run: Path, *options: str) -> int:
    return main(["train", "--data", str(data), "--run", str(run), "--validation", "1", "--threads", "1", *options])


def tensors(path: Path) -> dict[str, Any]:
    from vap_sim.models.checkpoint import load_tensors

    return dict(load_tensors(path)[0])


START = 2.0**-20
"""So small that one careful step can be seen beside it."""


def start_weights(path: Path) -> Path:
    """Weights of the small network that no training begins with."""
    from vap_sim.models.checkpoint import save_tensors
    from vap_sim.models.compact import network

    values = network.CompactNetwork(network.CompactConfig()).state_dict()
    save_tensors(path, {name: value * 0 + START for name, value in values.items()}, {})
    return path


def test_parts_are_trained_one_at_a_time_and_joined(
    episodes: Path, tiny: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The part that is missing comes from `--weights` at first, then from the run."""
    from vap_sim.models.compact.model import CompactWorld

    run, weights = tmp_path / "run", start_weights(tmp_path / "start.safetensors")
    less = ("--cooldown", "0", "--steps", "2", "--motion-steps", "1")
    assert train(episodes, run, *less, "--parts", "motion", "--weights", str(weights)) == 0
    path = run / "compact.safetensors"
    assert capsys.readouterr().out.strip() == str(path)
    first = tensors(path)
    assert (first["scene.style.weight"] == START).all() and not (first["motion.head.bias"] == START).all()
    assert train(episodes, run, *less, "--parts", "pictures") == 0
    both = tensors(path)
    for part in ("pictures", "motion"):
        trained = tensors(run / f"{part}.safetensors")
        assert trained and all((both[name] == value.to(both[name].dtype)).all() for name, value in trained.items())
    assert (both["motion.head.bias"] == first["motion.head.bias"]).all()
    assert CompactWorld.load(path).spec.size == (32, 32)
    told = json.loads((run / "run.json").read_text())
    assert told["step"] == {"pictures": 2} and told["episodes"] == 2 and told["command"]["validation"] == "1"
    assert read_description(path)["profile"] == "compact"
    assert {path.name for path in run.iterdir()} == {
        "pictures", "motion", "pictures.safetensors", "motion.safetensors", "compact.safetensors", "run.json"
    }  # fmt: skip


def test_the_last_episodes_are_kept_for_showing(episodes: Path, tiny: list[Any], tmp_path: Path) -> None:
    """Both views of the last one, and none of them is learned from."""
    weights = start_weights(tmp_path / "start.safetensors")
    assert train(episodes, tmp_path / "run", "--minutes", "0", "--parts", "pictures", "--weights", str(weights)) == 0
    (recipe,) = tiny
    assert len(recipe.films) == 4 and len(recipe.shown) == 2
    kept = {int(film.frames.sum()) for film in recipe.shown}
    assert not {int(film.frames.sum()) for film in recipe.films} & kept
    assert np.array_equal(recipe.shown[0].frames, load_episode(episodes / "2.vap.npz").frames[0])
    assert (recipe.training.profile, recipe.training.recolored) == ("compact", 0.5)


def test_profile_and_colors_are_options(episodes: Path, tiny: list[Any], tmp_path: Path) -> None:
    from vap_sim.training.films import load_films

    weights = start_weights(tmp_path / "start.safetensors")
    told = ("--minutes", "0", "--weights", str(weights), "--profile", "limbs", "--recolored", "0.1")
    for part in ("pictures", "motion"):
        assert train(episodes, tmp_path / part, *told, "--parts", part) == 0
        assert read_description(tmp_path / part / "compact.safetensors")["profile"] == "limbs"
    pictures, motion = tiny
    assert (pictures.training.profile, pictures.training.recolored) == ("limbs", 0.1)
    assert motion.training.profile == "limbs"
    assert not np.array_equal(pictures.films[0].skeletons, load_films([episodes / "0.vap.npz"], "compact")[0].skeletons)


def test_what_paints_learns_to_do_so_near_the_skeleton(episodes: Path, tiny: list[Any], tmp_path: Path) -> None:
    """With or without what reads; weights that were not taught it go on painting anywhere."""
    weights = start_weights(tmp_path / "start.safetensors")
    less = ("--cooldown", "0", "--steps", "1", "--motion-steps", "1", "--no-carry", "--weights", str(weights))
    path = tmp_path / "run" / "compact.safetensors"
    for part, near in (("motion", None), ("pictures", 8), ("motion", 8)):
        options = ("--no-reading",) if part == "pictures" else ()
        assert train(episodes, path.parent, *less, "--parts", part, *options) == 0
        assert read_description(path)["network"]["near"] == near
    values = tensors(path)
    assert (values["scene.style.weight"] == START).all() and not (values["robot.unet.head.bias"] == START).all()


def test_weights_learn_what_the_tool_would_carry_with_the_motion(
    episodes: Path, tiny: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not where motion is left as it was; and what was told of it once is told of it ever after."""
    weights = start_weights(tmp_path / "start.safetensors")

    def carries(part: str, *options: str, start: Path = weights) -> bool:
        run = tmp_path / f"{part}{len(list(tmp_path.iterdir()))}"
        assert train(episodes, run, "--minutes", "0", "--parts", part, "--weights", str(start), *options) == 0
        return bool(read_description(run / "compact.safetensors")["network"]["carry"])

    assert carries("motion") and not carries("motion", "--no-carry") and not carries("pictures")
    made = next(tmp_path.glob("motion*/compact.safetensors"))
    assert len(tensors(made)["motion.head.bias"]) == 8
    assert carries("pictures", start=made) and carries("motion", start=made)
    options = ("--minutes", "0", "--parts", "motion", "--weights", str(made), "--no-carry")
    assert train(episodes, tmp_path / "less", *options) == 1
    assert f"--no-carry: given {made}, expected weights that were trained without" in capsys.readouterr().err


def test_the_same_command_goes_on(episodes: Path, tiny: list[Any], tmp_path: Path) -> None:
    weights = start_weights(tmp_path / "start.safetensors")
    options = ("--cooldown", "0", "--parts", "motion", "--weights", str(weights))
    for run, steps in (("whole", "2"), ("broken", "1"), ("broken", "2")):
        assert train(episodes, tmp_path / run, *options, "--motion-steps", steps) == 0
    whole, broken = (tensors(tmp_path / run / "compact.safetensors") for run in ("whole", "broken"))
    assert all((broken[name] == value).all() for name, value in whole.items())


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that begin as copies of this one: with the small network, and at once."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    monkeypatch.setattr(train_command, "get_context", lambda kind: multiprocessing.get_context("fork"))


@pytest.mark.usefixtures("forked")
def test_all_parts_are_trained_side_by_side(
    episodes: Path, tiny: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vap_sim.models.compact.model import CompactWorld

    run = tmp_path / "run"
    assert train(episodes, run, "--minutes", "0", "--seed", "3") == 0
    assert not tiny  # no recipe was made in this process
    path = run / "compact.safetensors"
    assert capsys.readouterr().out.strip() == str(path) and CompactWorld.load(path).spec.size == (32, 32)
    told = json.loads((run / "run.json").read_text())
    assert told["step"] == {"pictures": 0, "motion": 0, "contact": 0} and told["seed"] == 3 and told["episodes"] == 2
    joined = tensors(path)
    for part in ("pictures", "motion", "contact"):
        for name, value in tensors(run / f"{part}.safetensors").items():
            kept = joined.pop(name)
            assert (kept == value.to(kept.dtype)).all(), name
    assert not joined


@pytest.mark.usefixtures("forked", "tiny")
def test_the_error_of_a_part_comes_back_from_its_process(
    episodes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(episodes, tmp_path / "run", "--minutes", "0", "--motion-steps", "5") == 1
    shown = capsys.readouterr().err.splitlines()[-1]
    assert shown == "vap-sim: training steps: given 5 with cooldown 2000, expected steps >= cooldown, >= 1"
    assert not (tmp_path / "run" / "compact.safetensors").exists()


def test_what_goes_to_the_processes_can_be_sent() -> None:
    """As `train` starts them, they share nothing with this one."""
    command = train_command.Train(Path("data"), Path("run"))
    sent = (train_command._train_beside, command, "motion", 1, ([Path("a")], [Path("b")]))
    assert pickle.loads(pickle.dumps(sent)) == sent


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--parts", "pictures"], "--parts: given ('pictures',), expected also motion, or --weights to take it from"),
        (["--parts", "motion"], "--parts: given ('motion',), expected also pictures, or --weights"),
        (["--parts"], "--parts: given (), expected some of ('pictures', 'motion', 'contact'), each once"),
        (
            ["--parts", "motion", "motion"],
            "given ('motion', 'motion'), expected some of ('pictures', 'motion', 'contact')",
        ),
        (
            ["--parts", "motions"],
            "unknown part to train 'motions'. Did you mean 'motion'? Known: 'pictures', 'motion',",
        ),
        (["--profile", "limb"], "unknown draw profile 'limb'. Did you mean 'limbs'?"),
        (["--profile", "mesh"], "--profile: given mesh, expected one that draws a skeleton, not mesh"),
        (["--recolored", "1.5"], "--recolored: given 1.5, expected a share from 0 to 1"),
        (["--batch-scale", "0"], "--batch-scale: given 0, expected more than 0"),
        (["--no-reading"], "--no-reading: given no --weights, expected those that read pictures"),
        (["--weights", "{}/none", "--parts", "motion"], "none: no such weights file"),
    ],
)
def test_parts_that_cannot_be_trained_are_named(
    options: list[str], words: str, episodes: Path, tiny: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(episodes, tmp_path / "run", *(option.format(tmp_path) for option in options)) == 1
    shown = capsys.readouterr().err
    assert words in shown.splitlines()[-1] and "Traceback" not in shown
    assert not (tmp_path / "run").exists()


def test_a_bad_validation_share_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.vap.npz").touch()
    assert main(["train", "--data", str(tmp_path), "--run", str(tmp_path / "run"), "--validation", "1"]) == 1
    assert "--validation: given 1, expected at least 1 and fewer than the 1 episodes" in capsys.readouterr().err
