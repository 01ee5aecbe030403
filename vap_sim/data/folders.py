"""The files of a dataset: found by their names, in one order everywhere, and never outside of its own folder."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vap_sim.data.inside import inside
from vap_sim.errors import BadFile

LARGEST_TEXT = 2**26
"""Bytes of one JSON file."""


def enclosed(root: Path, path: Path) -> Path:
    """`path` itself, once it is known to be a regular file that lies inside the dataset `root`, its links followed.

    Raises BadFile for a file that is missing, no file, or that leaves the dataset by a link.
    """
    if path != root:
        inside(root, path.relative_to(root).as_posix(), f"file {path.name!r}")
    if not path.is_file():
        raise BadFile(path, "is no regular file" if path.exists() else "no such file")
    return path


def folders(root: Path, depth: int) -> Iterator[tuple[Path, frozenset[str]]]:
    """Every folder at most `depth` levels below `root`, itself first, with the names in it; in the order of names.

    A link to a folder is named, but not searched any further. Raises BadFile for a `root` that cannot be listed.
    """
    try:
        entries = sorted(os.scandir(root), key=lambda entry: entry.name)
    except OSError as error:
        raise BadFile(root, f"cannot be listed ({error.strerror})") from error
    yield root, frozenset(entry.name for entry in entries)
    for entry in entries:
        if depth > 0 and entry.is_dir():
            try:
                yield from folders(root / entry.name, 0 if entry.is_symlink() else depth - 1)
            except BadFile:
                continue  # one that may not be read holds nothing for this reader


def read_json(root: Path, path: Path, largest: int = LARGEST_TEXT) -> dict[str, Any]:
    """The object in a JSON file inside `root`. Raises BadFile for a file that is missing, too large or no object."""
    values = _json(root, path, largest)
    if not isinstance(values, dict):
        raise BadFile(path, f"holds a {type(values).__name__}, expected an object")
    return values


def read_list(root: Path, path: Path, largest: int = LARGEST_TEXT) -> list[Any]:
    """The list in a JSON file inside `root`. Raises BadFile for a file that is missing, too large or no list."""
    values = _json(root, path, largest)
    if not isinstance(values, list):
        raise BadFile(path, f"holds a {type(values).__name__}, expected a list")
    return values


def _json(root: Path, path: Path, largest: int) -> Any:
    enclosed(root, path)
    try:
        if path.stat().st_size > largest:
            raise BadFile(path, f"has {path.stat().st_size} bytes, expected at most {largest}")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(path, f"is not JSON ({error})") from error


def relative_name(root: Path, path: Path) -> str:
    """Name of a file or folder inside `root`, its parts joined by "/"; the root's own name for itself."""
    return root.resolve().name if path == root else path.relative_to(root).as_posix()
