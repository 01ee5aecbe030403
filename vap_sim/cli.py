"""The `vap-sim` command, one file a subcommand. Heavy imports happen inside the command that needs them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

from vap_sim.errors import VAPSimError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 a named error (on standard error), 130 interrupted.

    Raises SystemExit: 0 after help, 2 for a command or an option that does not exist.
    """
    import tyro

    runs = commands()
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            {name: kind for name, (kind, _) in runs.items()}, prog="vap-sim", args=arguments
        )
        result = next(act for kind, act in runs.values() if kind is type(command))(command)
    except (VAPSimError, OSError) as error:  # OSError: the disk is full, a folder is read-only
        print(f"vap-sim: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vap-sim: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    print(f"{result}\n", end="")  # in one piece, where several processes share an output
    return 0


def commands() -> dict[str, tuple[type, Callable[[Any], object]]]:
    """All commands by name: the record of a command's options, and what runs it."""
    from vap_sim.commands import (
        adapt,
        calibrate,
        clone,
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
        train,
        train_conditioner,
        train_judge,
    )

    runs: dict[type, Callable[[Any], object]] = {
        adapt.Adapt: adapt.run,
        calibrate.Calibrate: calibrate.run,
        clone.Clone: clone.run,
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
        train_conditioner.TrainConditioner: train_conditioner.run,
        train_judge.TrainJudge: train_judge.run,
    }
    return {_command_name(kind): (kind, act) for kind, act in runs.items()}


def _command_name(kind: type) -> str:
    """`serve-policy` for ServePolicy."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()
