"""The model card of a run: how its weights came to be, in a README.md beside them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vap_sim.models.tensor_cache import hash_file
from vap_sim.training.loop import Outcome
from vap_sim.training.parallel import Team

_SHOWN = 12


@dataclass(frozen=True)
class Card:
    """What a card tells. title: of the model; command: that began the run; settings: by part, plain values; data: by
    data set, such as its episodes, clips, seeds; weights: the files, by which the model is known again."""

    title: str
    command: str
    settings: Mapping[str, Mapping[str, Any]]
    data: Mapping[str, Mapping[str, Any]]
    weights: tuple[Path, ...]


def write_card(folder: Path, card: Card, outcome: Outcome, team: Team) -> Path:
    """Write FOLDER/README.md, whole or not at all, and return its path. Raises BadFile for missing weights, OSError."""
    path = folder / "README.md"
    partial = folder / "README.md.partial"
    try:
        partial.write_text(_text(card, outcome, team), encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def _text(card: Card, outcome: Outcome, team: Team) -> str:
    files = [(f.name, f"{f.stat().st_size / 2**20:.1f} MiB", f"`{hash_file(f)}`") for f in card.weights]
    steps = sorted(outcome.losses)
    shown = steps[:: max(1, len(steps) // _SHOWN)] + steps[-1:]
    losses = [(step, f"{outcome.losses[step]:.4f}") for step in dict.fromkeys(shown)]
    parts = [
        f"# {card.title}",
        f"Trained for {outcome.step} of {outcome.steps} steps in {outcome.seconds:.0f} seconds of training.",
        "The weights are averages over the last steps (see `average` below).",
        "## Weights",
        _table(("file", "size", "SHA-256"), files),
        "## Data",
        _table(("data set", "what"), [(name, _values(about)) for name, about in card.data.items()]),
        "## Loss",
        _table(("step", "loss"), losses) if losses else "No step was logged.",
        "## Settings",
        *(
            f"{name}:\n\n```json\n{json.dumps(dict(v), indent=1, default=str)}\n```"
            for name, v in card.settings.items()
        ),
        "## Machine",
        f"{machine(team)}\n\nCommand: `{card.command}`",
    ]
    return "\n\n".join(parts) + "\n"


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers as "0-3, 7": each once, in order."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def machine(team: Team) -> str:
    """What a run was made on: processes, device, system, versions."""
    device = torch.cuda.get_device_name(team.device) if team.device.type == "cuda" else f"{os.cpu_count()} CPU threads"
    split = ", weights split" if team.shard else ""
    where = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"
    return f"{team.size} process{'es' if team.size > 1 else ''}{split}, {device}, {where}"


def _values(about: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {value}" for name, value in about.items())


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(str(item) for item in line) + " |" for line in lines)
