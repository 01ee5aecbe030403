"""The `vap-sim` command: demo, record, train. Heavy imports happen inside the command that needs them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from vap_sim.errors import VAPSimError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status: 0 done, 1 a named error (on standard error), 130 interrupted.

    Raises SystemExit: 0 after help, 2 for a command or an option that does not exist.
    """
    import tyro

    from vap_sim.commands import demo, record, train

    runs: dict[type, Callable[[Any], object]] = {demo.Demo: demo.run, record.Record: record.run, train.Train: train.run}
    try:
        command = tyro.extras.subcommand_cli_from_dict(
            {kind.__name__.lower(): kind for kind in runs}, prog="vap-sim", args=arguments
        )
        result = runs[type(command)](command)
    except (VAPSimError, OSError) as error:  # OSError: the disk is full, a folder is read-only
        print(f"vap-sim: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("vap-sim: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    print(result)
    return 0
