"""The `vap-sim` command, one file a subcommand. Heavy imports happen inside the command that needs them."""

from __future__ import annotations

import ctypes
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout
from dataclasses import field, fields, make_dataclass
from typing import Annotated, Any, NoReturn

from vap_sim.errors import UnknownName, VAPSimError

GROUPS: dict[str, tuple[str, ...]] = {
    "See it and drive it": ("demo", "teleop", "replay", "preview", "imagine"),
    "Your own recordings": ("inspect", "calibrate", "prepare", "prepare-hands", "adapt"),
    "Policies": ("evaluate", "clone", "improve", "serve-policy", "train-judge"),
    "World models": ("record", "train", "distill", "train-conditioner", "learn-action"),
    "Your shell": ("completion",),
}
"""How help arranges the commands; one that stands nowhere here is listed at the end."""

_FOOT = """Every command explains itself: vap-sim COMMAND --help. With --json the result is one JSON object on standard
output. Progress goes to standard error. Exit status: 0 done, 1 a named error, 2 wrong usage, 130 interrupted."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 a named error (on standard error), 130 interrupted.

    Raises SystemExit: 0 after help, 2 for a command or an option that does not exist.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    runs = commands()
    name, rest = _command(words, runs)
    kind, act = runs[name]
    command, as_json = parse(name, kind, rest)
    # Programs read one object; whatever else the work prints, libraries in C included, would spoil it.
    with _nothing_on_standard_output() if as_json else nullcontext():
        status, record, shown = _run(act, command, as_json)
    if as_json:
        shown = json.dumps({"command": name, "status": status, **record}, ensure_ascii=False, allow_nan=False)
    if shown:
        print(f"{shown}\n", end="", flush=True)  # in one piece, where several processes share an output
    return status


def parse(name: str, kind: type, words: Sequence[str]) -> tuple[Any, bool]:
    """The record of a command from its words, and whether a program will read the result.

    Raises SystemExit: 0 after help, 2 for what cannot be understood (the nearest options are on standard error)."""
    import tyro

    told = tyro.conf.arg(help="Print the result as one JSON object.")
    flag = Annotated[bool, told, tyro.conf.FlagCreatePairsOff]
    # Made for parsing alone: commands travel to other processes and must be of a class that has a home.
    given_fields = [("json", flag, field(default=False, kw_only=True))]
    with_json = make_dataclass(kind.__name__, given_fields, bases=(kind,), frozen=True)
    with_json.__doc__ = kind.__doc__
    given = tyro.cli(with_json, prog=f"vap-sim {name}", args=list(words))
    return kind(**{one.name: getattr(given, one.name) for one in fields(kind)}), given.json


def commands() -> dict[str, tuple[type, Callable[[Any], object]]]:
    """All commands by name: the record of a command's options, and what runs it."""
    from vap_sim.commands import (
        adapt,
        calibrate,
        clone,
        completion,
        demo,
        distill,
        evaluate,
        imagine,
        improve,
        inspect,
        learn_action,
        prepare,
        prepare_hands,
        preview,
        record,
        replay,
        serve_policy,
        teleop,
        train,
        train_conditioner,
        train_judge,
    )

    runs: dict[type, Callable[[Any], object]] = {
        adapt.Adapt: adapt.run,
        calibrate.Calibrate: calibrate.run,
        clone.Clone: clone.run,
        completion.Completion: completion.run,
        demo.Demo: demo.run,
        prepare.Prepare: prepare.run,
        prepare_hands.PrepareHands: prepare_hands.run,
        preview.Preview: preview.run,
        record.Record: record.run,
        replay.Replay: replay.run,
        train.Train: train.run,
        distill.Distill: distill.run,
        evaluate.Evaluate: evaluate.run,
        imagine.Imagine: imagine.run,
        improve.Improve: improve.run,
        inspect.Inspect: inspect.run,
        learn_action.LearnAction: learn_action.run,
        serve_policy.ServePolicy: serve_policy.run,
        teleop.Teleop: teleop.run,
        train_conditioner.TrainConditioner: train_conditioner.run,
        train_judge.TrainJudge: train_judge.run,
    }
    return {_command_name(kind): (kind, act) for kind, act in runs.items()}


def overview() -> str:
    """All commands in groups: what each does, and an example of it."""
    left = {name: _first_line(kind) for name, (kind, _) in commands().items()}
    lines = ["usage: vap-sim COMMAND [options]", "       vap-sim COMMAND --help", "       vap-sim --version", ""]
    for title, names in {**GROUPS, "More": tuple(left)}.items():
        listed = [(name, *left.pop(name)) for name in names if name in left]
        lines += [title] if listed else []
        for name, does, example in listed:
            lines += [f"  {name:18} {does}", f"  {'':18} Example: {example}"]
        lines += [""] if listed else []
    return "\n".join([*lines, _FOOT])


def _command(words: Sequence[str], runs: dict[str, tuple[type, Callable[[Any], object]]]) -> tuple[str, list[str]]:
    """The name of a command and what follows it. Raises SystemExit as `main` does."""
    if not words:
        _misused(overview())
    first, rest = words[0], list(words[1:])
    if first in ("-h", "--help", "help") and not rest:
        print(overview())
        raise SystemExit(0)
    if first in ("-V", "--version"):
        from importlib.metadata import version

        print(f"vap-sim {version('vap-sim')}")
        raise SystemExit(0)
    if first == "help":
        first, rest = rest[0], ["--help"]
    if first not in runs:
        _misused(f"vap-sim: {UnknownName('command', first, sorted(runs))}")
    return first, rest


def _misused(words: str) -> NoReturn:
    print(words, file=sys.stderr)
    raise SystemExit(2)


def _run(act: Callable[[Any], object], command: object, as_json: bool) -> tuple[int, dict[str, Any], str]:
    """Exit status, record for a program, and text for a person; what failed is told on standard error."""
    from vap_sim.commands.outcome import record_of

    try:
        result = act(command)
        return 0, record_of(result) if as_json else {}, str(result)
    except (VAPSimError, OSError) as error:  # OSError: the disk is full, a folder is read-only
        print(f"vap-sim: {error}", file=sys.stderr)
        return 1, {"error": {"kind": type(error).__name__, "message": str(error)}}, ""
    except KeyboardInterrupt:
        print("vap-sim: interrupted; what was finished is kept", file=sys.stderr)
        return 130, {"error": {"kind": "interrupted", "message": "what was finished is kept"}}, ""


@contextmanager
def _nothing_on_standard_output() -> Iterator[None]:
    """Lead everything that is written to standard output to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        ctypes.CDLL(None).fflush(None)  # what C has printed but not written yet
        os.dup2(kept, 1)
        os.close(kept)


def _first_line(kind: type) -> tuple[str, str]:
    """What a command does, and its example, from the first line of its record's docstring."""
    does, _, example = str(kind.__doc__).splitlines()[0].partition("Example: ")
    return does.strip(), example


def _command_name(kind: type) -> str:
    """`serve-policy` for ServePolicy."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()
