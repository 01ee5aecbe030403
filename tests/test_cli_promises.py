"""What the command line promises of every command: groups, `--json`, one object on standard output, completion."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim import cli
from vap_sim.cli import GROUPS, commands, main, overview, parse
from vap_sim.commands.completion import Completion, known_names, options_by_command, run
from vap_sim.commands.outcome import Outcome, plain, record_of
from vap_sim.errors import BadFile, UnknownName

COMMANDS = commands()


@dataclass(frozen=True)
class Probe:
    """Do what a test wants. Example: vap-sim probe --count 3

    Attributes:
        count: How often.
    """

    count: int = 1
    loud: bool = False


def probing(monkeypatch: pytest.MonkeyPatch, act: Any) -> None:
    monkeypatch.setattr(cli, "commands", lambda: {"probe": (Probe, act)})


def test_every_command_has_one_place_in_help() -> None:
    placed = [name for names in GROUPS.values() for name in names]
    assert len(placed) == len(set(placed)) and set(COMMANDS) <= set(placed)
    text = overview()
    assert all(text.count(f"\n  {name} ") == 1 for name in COMMANDS)
    assert max(map(len, text.splitlines())) <= 120 and "More" not in text


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_takes_json(name: str) -> None:
    import shlex

    kind, _ = COMMANDS[name]
    words = shlex.split(str(kind.__doc__).splitlines()[0].partition("Example: ")[2])[2:]
    command, as_json = parse(name, kind, words)
    assert type(command) is kind and not as_json
    assert parse(name, kind, [*words, "--json"]) == (command, True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Beside the option, by the section Attributes of the command's record."""
    kind, _ = COMMANDS[name]
    attributes = str(kind.__doc__).partition("Attributes:\n")[2]
    assert [one.name for one in fields(kind)] == re.findall(r"^ {8}(\w+): \S", attributes, re.MULTILINE)
    with pytest.raises(SystemExit):
        main([name, "--help"])
    text = capsys.readouterr().out
    assert "--json" in text and "Attributes:" not in text


def test_a_result_is_text_or_one_object(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def act(command: Probe) -> Outcome:
        print("chatter")
        os.system("echo from another program")
        return Outcome("two lines\nof text", {"count": command.count, "where": tmp_path, "share": math.nan})

    probing(monkeypatch, act)
    assert main(["probe", "--count", "4", "--json"]) == 0
    shown = capfd.readouterr()
    record = {"command": "probe", "status": 0, "count": 4, "where": str(tmp_path), "share": None}
    assert json.loads(shown.out) == record and shown.out.count("\n") == 1
    assert "chatter" in shown.err and "from another program" in shown.err
    assert main(["probe"]) == 0
    assert "two lines\nof text\n" in capfd.readouterr().out


def test_what_c_prints_stays_away_from_the_object(tmp_path: Path) -> None:
    """In a process of its own: what a library in C has buffered is written when the process ends, after the object."""
    code = (
        "import ctypes, sys\nfrom vap_sim import cli\nfrom vap_sim.commands.outcome import Outcome\n"
        "from tests.test_cli_promises import Probe\n"
        "def act(command):\n    ctypes.CDLL(None).printf(b'from C\\n')\n    return Outcome('', {'x': 1})\n"
        "cli.commands = lambda: {'probe': (Probe, act)}\nsys.exit(cli.main(['probe', '--json']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False
    )
    assert json.loads(done.stdout)["x"] == 1 and "from C" in done.stderr and done.returncode == 0


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (BadFile("a.npz", "is cut short"), 1, "BadFile"),
        (OSError(28, "No space left on device"), 1, "OSError"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_failed_is_an_object_too(
    error: BaseException, status: int, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def act(command: Probe) -> str:
        raise error

    probing(monkeypatch, act)
    assert main(["probe", "--json"]) == status
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    assert (told["command"], told["status"], told["error"]["kind"]) == ("probe", status, kind)
    assert shown.err.startswith("vap-sim: ")
    assert main(["probe"]) == status
    assert capsys.readouterr().out == ""


def test_other_errors_are_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def act(command: Probe) -> str:
        raise ZeroDivisionError

    probing(monkeypatch, act)
    with pytest.raises(ZeroDivisionError):
        main(["probe", "--json"])
    os.write(1, b"")  # standard output is given back


def test_the_version_and_help_of_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    for words, told in (
        (["--version"], "vap-sim 0."),
        (["help", "record"], "usage: vap-sim record"),
        (["help"], "See it"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert stop.value.code == 0 and told in capsys.readouterr().out


def test_plain_values() -> None:
    given = {
        "array": np.arange(3, dtype=np.float32), "tensor": torch.ones(2), "number": np.float64(0.5), "none": None,
        "set": {1}, "path": Path("a") / "b", "record": Probe(2), "no number": float("inf"), 3: (True, "x"),
    }  # fmt: skip
    told = plain(given)
    assert json.loads(json.dumps(told, allow_nan=False)) == {
        "array": [0.0, 1.0, 2.0], "tensor": [1.0, 1.0], "number": 0.5, "none": None, "set": [1], "path": "a/b",
        "record": {"count": 2, "loud": False}, "no number": None, "3": [True, "x"],
    }  # fmt: skip
    assert plain(np.array([1.0, np.nan])) == [1.0, None]
    assert record_of(Path("x")) == {"written": ["x"]} and record_of("words") == {"text": "words"}
    with pytest.raises(TypeError, match="object has no plain form"):
        plain(object())


def test_a_preview_tells_a_program_what_its_report_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import cv2

    photo, out = tmp_path / "photo.png", tmp_path / "out" / "seen.png"
    cv2.imwrite(str(photo), np.full((128, 128, 3), 90, np.uint8))
    words = ["--robot", "widowx", "--image", str(photo), "--camera", "exterior_1", "--out", str(out)]
    assert main(["preview", *words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["written"] == [str(out), str(out.with_suffix(".json"))]
    report = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    assert {name: told[name] for name in report} == report and report
    assert main(["preview", *words]) == 0
    assert f"written: {out}" in capsys.readouterr().out


# Completion ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shell") / "vap-sim.bash"
    path.write_text(run(Completion("bash")) + "\n", encoding="utf-8")
    return path


def completed(script: Path, *words: str) -> list[str]:
    """What bash offers where the last of the words ends."""
    ask = 'source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _vap_sim; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", ask, str(script), *words], capture_output=True, text=True, check=True)
    assert not done.stderr
    return done.stdout.split()


def test_bash_completes_commands_options_and_names(script: Path) -> None:
    assert completed(script, "vap-sim", "rec") == ["record"]
    assert set(completed(script, "vap-sim", "")) == {*COMMANDS, "--help", "--version"}
    assert completed(script, "vap-sim", "evaluate", "--env-") == ["--env-options"]
    twins = completed(script, "vap-sim", "evaluate", "--env", "VAPT")
    assert "VAPTwin-DROID-v0" in twins and all(name.startswith("VAPTwin-") for name in twins)
    assert completed(script, "vap-sim", "evaluate", "--tasks", "reach", "pus") == ["push"]
    assert completed(script, "vap-sim", "preview", "--robot", "wid") == ["widowx"]
    assert completed(script, "vap-sim", "preview", "--robot", "widowx", "wid") == [], "one value is all it takes"
    assert set(completed(script, "vap-sim", "demo", "--world", "")) >= {"compact", "kinematic", "still"}
    assert completed(script, "vap-sim", "completion", "z") == ["zsh"]
    assert completed(script, "vap-sim", "inspect", "--no-p") == ["--no-pictures"]
    assert completed(script, "vap-sim", "record", "--station", "Br") == ["Bridge"]
    assert {"reach", "stack"} <= set(completed(script, "vap-sim", "evaluate", "--tasks", ""))
    assert completed(script, "vap-sim", "train", "--cogvideox.fra") == ["--cogvideox.frames"]


def test_zsh_and_fish_hold_the_same_words() -> None:
    assert run(Completion("zsh")).partition("\n")[2] == run(Completion("bash"))
    fish = run(Completion("fish"))
    for name, options in options_by_command().items():
        here = f"__fish_seen_subcommand_from {name}'"
        assert all(f"{here} -l {option.word[2:]}" in fish for option in options if option.word)
    assert "-l robot -x -a 'google_robot" in fish


@pytest.mark.parametrize("name", COMMANDS)
def test_completion_knows_the_options_that_are_parsed(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([name, "--help"])
    text = capsys.readouterr().out
    assert all(option.word in text for option in options_by_command()[name] if option.word)


def test_known_names_are_names_of_options() -> None:
    named: Mapping[str, object] = known_names()
    every = {one.name.strip("_") for kind, _ in COMMANDS.values() for one in fields(kind)} | {"form", "precision"}
    assert {name.rpartition(".")[2] for name in named} <= every
    assert all(name.partition(".")[0] in COMMANDS for name in named if "." in name)


def test_completion_is_a_command_like_others(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", "bash"]) == 0
    assert "complete -o default -F _vap_sim vap-sim" in capsys.readouterr().out
    assert replace(Completion("bash"), shell="fish") == Completion("fish")
    with pytest.raises(UnknownName):
        raise UnknownName("shell", "csh", ("bash",))
