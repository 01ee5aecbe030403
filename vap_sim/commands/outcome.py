"""What a command hands back: words for a person, and the same as plain values for a program (`--json`)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any


class Outcome(str):
    """The text that a command shows, which carries `record`: its figures and the files it wrote, by name."""

    record: dict[str, Any]

    def __new__(cls, text: str, record: Mapping[str, Any]) -> Outcome:
        """Join a text (several lines are fine) with its record, whose values `plain` must be able to tell."""
        made = super().__new__(cls, text)
        made.record = dict(record)
        return made


def record_of(result: object) -> dict[str, Any]:
    """The plain record of whatever a command returned: an Outcome's own, where a path lies, else the text."""
    if isinstance(result, Outcome):
        return {name: plain(value) for name, value in result.record.items()}
    return {"written": [str(result)]} if isinstance(result, Path) else {"text": str(result)}


def plain(value: object) -> Any:
    """A value as JSON has it: records become objects, arrays lists, paths text, numbers that do not exist null.

    Raises TypeError for what has no plain form."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, int | float):
        return value if isinstance(value, int) or math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if callable(getattr(value, "tolist", None)):  # of NumPy or torch
        return plain(value.tolist())  # type: ignore[attr-defined]
    raise TypeError(f"{type(value).__name__} has no plain form")
