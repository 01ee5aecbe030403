"""Paths that a dataset's own index names: they must stay inside the dataset, whatever the index says.

The one way out that is allowed is that of a download cache, whose snapshots are links into a folder of contents beside
them.
"""

from __future__ import annotations

import os
from itertools import accumulate, islice
from pathlib import Path

from vap_sim.errors import BadFile


def inside(root: Path, relative: str, field: str) -> Path:
    """The file `relative` of the dataset at `root`, which need not exist.

    field: what named it, for errors. Raises BadFile for a path that leaves the dataset, by its name or by a link.
    """
    if not relative or "\0" in relative or Path(relative).is_absolute():
        raise BadFile(root, f"{field}: {relative!r} is no path within the dataset")
    path, parts = root / relative, Path(relative).parts
    steps = accumulate(parts, os.path.join, initial=str(root))
    if ".." not in parts and not any(os.path.islink(step) for step in islice(steps, 1, None)):
        return path  # without links there is no way out
    try:
        real = path.resolve()
    except (OSError, RuntimeError) as error:  # links in a circle
        raise BadFile(path, f"{field}: cannot be followed ({error})") from error
    if ".." in parts or not any(real.is_relative_to(home) for home in _homes(root)):
        raise BadFile(path, f"{field}: leads out of the dataset, to {real}")
    return path


def _homes(root: Path) -> list[Path]:
    """The folders in which a dataset's files may lie."""
    home = root.resolve()
    # A cache of downloads: NAME/snapshots/REVISION/... are links to NAME/blobs/CONTENT.
    return [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
