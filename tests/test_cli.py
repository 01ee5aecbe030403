"""The command line: help with examples, exit statuses, named errors without a traceback, commands that do their work.

The demonstration is run by `make demo` and looked at there.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vap_sim.cli import main
from vap_sim.commands import record as record_command
from vap_sim.data.twin import load_episode, save_episode

COMMANDS = ("demo", "record", "train")


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


def test_train_writes_weights_and_says_how_they_were_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No step is taken, so that nothing takes long; weights of no step are weights all the same."""
    pytest.importorskip("pybullet")
    from vap_sim.envs.twin_recorder import RecorderSettings, record_episode
    from vap_sim.models.compact import model, network
    from vap_sim.training import compact

    net = network.UNetConfig((8,), (1,))
    tiny = network.CompactConfig(size=32, style=2, scene=net, motion=net, robot=net)
    monkeypatch.setattr(network, "CompactConfig", lambda: tiny)
    monkeypatch.setattr(compact.CompactTraining, "__init__", _short)
    views = ("exterior_1", "exterior_2")
    episode = record_episode(5, RecorderSettings(steps=2, size=(32, 32), views=views))
    for number in range(3):
        save_episode(tmp_path / f"{number}.vap.npz", replace(episode, frames=episode.frames // (1 + number)))
    learned: list[Any] = []
    made = compact.CompactRecipe.__init__

    def watch(self: Any, net: Any, source: Any, shown: Any, *rest: Any) -> None:
        learned.extend((source, shown))
        made(self, net, source, shown, *rest)

    monkeypatch.setattr(compact.CompactRecipe, "__init__", watch)
    arguments = ["train", "--data", str(tmp_path), "--run", str(tmp_path / "run"), "--minutes", "0"]
    assert main([*arguments, "--validation", "1", "--threads", "1"]) == 0
    path = tmp_path / "run" / "compact.safetensors"
    assert capsys.readouterr().out.strip() == str(path)
    assert model.CompactWorld.load(path).spec.size == (32, 32)
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["step"] == 0 and told["episodes"] == 2 and told["command"]["validation"] == "1"
    # Both views of the last episode are kept for showing, none of them is learned from.
    source, shown = learned
    assert len(source.films) == 4 and len(shown.films) == 2
    kept = [film.frames.sum() for film in shown.films]
    assert not {int(film.frames.sum()) for film in source.films} & {int(value) for value in kept}
    assert np.array_equal(shown.films[0].frames, episode.frames[0] // 3)


def _short(self: Any, seed: int = 0, scale: int = 1) -> None:
    """Settings of a recipe whose clips are as short as the episode above."""
    from vap_sim.models.compact.losses import LossWeights
    from vap_sim.training.compact import Stage

    values = {"seed": seed, "profile": "compact", "stages": (Stage(0, 3, 1, 1, 0.5),), "scale": scale}
    for name, value in {**values, "weights": LossWeights(), "precision": "bf16"}.items():
        object.__setattr__(self, name, value)


def test_a_bad_validation_share_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.vap.npz").touch()
    assert main(["train", "--data", str(tmp_path), "--run", str(tmp_path / "run"), "--validation", "1"]) == 1
    assert "--validation: given 1, expected at least 1 and fewer than the 1 episodes" in capsys.readouterr().err
