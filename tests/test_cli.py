"""The command line: help with examples, exit statuses, named errors without a traceback, commands that do their work.

The demonstration is run by `make demo` and looked at there.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro

from vap_sim.cli import commands, main
from vap_sim.commands import record as record_command
from vap_sim.data.twin import load_episode

COMMANDS = tuple(commands())


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
        assert f"Example: vap-sim {name} " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_explains_its_options(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([name, "--help"])
    text = plain(capsys.readouterr().out)
    assert stop.value.code == 0 and f"usage: vap-sim {name}" in text and f"Example: vap-sim {name} " in text


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_of_a_command_is_one(name: str) -> None:
    kind, _ = commands()[name]
    example = shlex.split(str(kind.__doc__).splitlines()[0].partition("Example: ")[2])
    assert example[:2] == ["vap-sim", name] and len(example) > 2
    assert isinstance(tyro.cli(kind, args=example[2:]), kind)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "usage: vap-sim COMMAND"),
        (["recrod"], "unknown command 'recrod'. Did you mean 'record'?"),
        (["help", "recrod"], "Did you mean 'record'?"),
        (["record", "--out", "x", "--frobnicate"], "--frobnicate"),
        (["record"], "--out"),
        (["record", "--out", "x", "--episodes", "many"], "--episodes"),
        (["record", "--out", "x", "--epsiodes", "3"], "Perhaps you meant: --episodes"),
        (["prepare", "x", "--out", "y", "--fit", "crip"], "Expected one of ('crop', 'stretch')"),
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
