"""The command line: help with examples, exit statuses, named errors without a traceback, commands that do their work.

The demonstration is run by `make demo` and looked at there.
"""

from __future__ import annotations

import json
import multiprocessing
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vap_sim.cli import main
from vap_sim.commands import record as record_command
from vap_sim.commands import train as train_command
from vap_sim.data.twin import load_episode, save_episode

COMMANDS = ("clone", "demo", "record", "serve-policy", "train")


def plain(text: str) -> str:
    """Without colors, frames and line breaks."""
    return re.sub(r"[\s│╭╮╰╯─•]+", " ", re.sub(r"\x1b\[[0-9;]*m", "", text))


def test_help_lists_every_command_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    text = plain(capsys.readouterr().out)
    assert stop.value.code == 0
    for name in COMMANDS:
        assert re.search(rf"\b{name} [A-Z]", text), name
        assert f"Example: vap-sim {name} --" in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_explains_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    text = plain(capsys.readouterr().out)
    assert stop.value.code == 0 and f"usage: vap-sim {name}" in text and f"Example: vap-sim {name} --" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Expected one of"),
        (["recrod"], "recrod"),
        (["record"], "--out"),
        (["record", "--out", "x", "--episodes", "many"], "--episodes"),
        (["record", "--out", "x", "--epsiodes", "3"], "--epsiodes"),
    ],
)
def test_what_does_not_exist_ends_with_status_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    shown = capsys.readouterr()
    assert words in plain(shown.err) and shown.out == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["record", "--out", "{}/x", "--episodes", "0"],
            "given 0 episodes, 50 steps, 2 workers, expected at least one",
        ),
        (["record", "--out", "{}/x", "--steps", "0"], "given 800 episodes, 0 steps"),
        (
            ["record", "--out", "{}/x", "--seed", "999990", "--episodes", "20"],
            "seed: given 1000000, expected one zero or",
        ),
        (["record", "--out", "{}/x", "--held-out"], "seed: given 0, expected one inside"),
        (["train", "--data", "{}", "--run", "{}/x"], "no episode files"),
        (["train", "--data", "{}", "--run", "{}/x", "--steps", "5"], "training steps: given 5 with cooldown 2000"),
        (["train", "--data", "{}", "--run", "{}/x", "--weights", "{}/none"], "no such weights file"),
        (["train", "--data", "{}", "--run", "{}/x", "--threads", "0"], "--threads: given 0, expected more than 0"),
        (["train", "--data", "{}", "--run", "{}/x", "--learning-rate", "-1"], "--learning-rate: given -1.0"),
        (["train", "--data", "{}", "--run", "{}/x", "--device", "abacus"], "--device: given abacus, expected one that"),
    ],
)
def test_a_named_error_is_one_line_and_status_1(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pybullet")
    assert main([argument.format(tmp_path) for argument in arguments]) == 1
    shown = capsys.readouterr()
    assert shown.err.startswith("vap-sim: ") and words in shown.err and shown.err.count("\n") == 1
    assert shown.out == "" and not (tmp_path / "x").exists()


def test_a_refusing_disk_is_one_line_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(command: object) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record_command, "run", refuse)
    assert main(["record", "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err == "vap-sim: [Errno 28] No space left on device\n"


def test_an_interrupt_is_status_130(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(command: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(record_command, "run", interrupt)
    assert main(["record", "--out", str(tmp_path)]) == 130
    assert "interrupted; what was finished is kept" in capsys.readouterr().err


def test_the_module_is_the_command(tmp_path: Path) -> None:
    """In a process of its own, as a shell would run it."""
    done = subprocess.run(
        [sys.executable, "-m", "vap_sim", "record", "--out", str(tmp_path), "--episodes", "0"],
        capture_output=True, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.returncode == 1 and done.stdout == ""
    assert "expected at least one of each" in done.stderr and "Traceback" not in done.stderr


def test_record_writes_episodes_and_keeps_those_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process instead of in workers, which would take seconds to start."""
    pytest.importorskip("pybullet")
    monkeypatch.setattr(record_command, "ProcessPoolExecutor", _Here)
    arguments = ["record", "--out", str(tmp_path / "data"), "--episodes", "2", "--steps", "1", "--seed", "7"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip().endswith(str(tmp_path / "data"))
    files = sorted((tmp_path / "data").iterdir())
    assert [path.name for path in files] == ["twin_00000007.vap.npz", "twin_00000008.vap.npz"]
    assert load_episode(files[0]).length == 2
    before = [path.stat().st_mtime_ns for path in files]
    assert main([*arguments[:4], "3", *arguments[5:]]) == 0
    assert [path.stat().st_mtime_ns for path in files] == before
    assert len(list((tmp_path / "data").iterdir())) == 3


class _Here:
    """Stands in for a pool of processes."""

    def __init__(self, workers: int, **options: Any) -> None:
        assert workers == 2

    def __enter__(self) -> _Here:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def map(self, function: Any, jobs: list[Any]) -> Any:
        return map(function, jobs)


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
    config = network.CompactConfig(size=32, style=2, scene=net, motion=net, robot=net)
    monkeypatch.setattr(network, "CompactConfig", lambda: config)
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
def test_both_parts_are_trained_side_by_side(
    episodes: Path, tiny: list[Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from vap_sim.models.compact.model import CompactWorld

    run = tmp_path / "run"
    assert train(episodes, run, "--minutes", "0", "--seed", "3") == 0
    assert not tiny  # no recipe was made in this process
    path = run / "compact.safetensors"
    assert capsys.readouterr().out.strip() == str(path) and CompactWorld.load(path).spec.size == (32, 32)
    told = json.loads((run / "run.json").read_text())
    assert told["step"] == {"pictures": 0, "motion": 0} and told["seed"] == 3 and told["episodes"] == 2
    joined = tensors(path)
    for part in ("pictures", "motion"):
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
    sent = (train_command._train_beside, command, "motion", 1, [Path("a")])
    assert pickle.loads(pickle.dumps(sent)) == sent


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--parts", "pictures"], "--parts: given ('pictures',), expected also motion, or --weights to take it from"),
        (["--parts", "motion"], "--parts: given ('motion',), expected also pictures, or --weights"),
        (["--parts"], "--parts: given (), expected some of ('pictures', 'motion'), each once"),
        (["--parts", "motion", "motion"], "given ('motion', 'motion'), expected some of ('pictures', 'motion')"),
        (["--parts", "motions"], "unknown part to train 'motions'. Did you mean 'motion'? Known: 'pictures', 'motion'"),
        (["--batch-scale", "0"], "--batch-scale: given 0, expected more than 0"),
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
