"""The videos of a raw DROID episode: which file is which view, which frame belongs to which row, one eye of two."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vap_sim.data.episode import Footage
from vap_sim.data.folders import enclosed, read_list
from vap_sim.data.footage import VideoFootage
from vap_sim.data.hdf5_file import Hdf5Tables
from vap_sim.data.logged import Log

_PLACES = ("recordings/MP4", "recordings/SVO", "recordings")
_MOST_OFF = 2
"""Frames by which a video may differ from the log: the recorder begins and ends beside it."""
_TWO_EYES = 3.0
"""Width over height from which a picture must show two, side by side."""


@dataclass(frozen=True)
class LeftEye:
    """The left half of pictures that show what both eyes of a stereo camera saw; pictures of one eye as they are."""

    both: VideoFootage

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) [px]."""
        width, height = self.both.size
        return (width // 2 if width >= _TWO_EYES * height else width), height

    @property
    def length(self) -> int:
        """Number of frames."""
        return self.both.length

    def frames(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        """Pictures (H, W, 3) uint8 RGB from `first` to before `last`. Raises BadFile, InvalidInput."""
        pictures, width = self.both.frames(first, last), self.size[0]
        return (picture[:, :width] for picture in pictures)


@dataclass(frozen=True)
class Recorded:
    """Footage by its view, the rows `first` to before `last` that it shows, and what was decided about it."""

    views: Mapping[str, Footage]
    first: int
    last: int
    notes: tuple[str, ...]


def recorded(root: Path, folder: Path, tables: Hdf5Tables, serials: Mapping[str, str], rows: int) -> Recorded:
    """The videos of an episode, cut to the rows that all of them show.

    Args:
        root: the dataset. folder: the episode. tables: its log. serials: of the cameras, by view. rows: of the log.

    Raises BadFile for a video that does not fit the log, or leads out of the dataset.
    """
    found = {view: path for view, serial in serials.items() if (path := _video(root, folder, serial)) is not None}
    notes = [f"view {view}: there is no video of camera {serials[view]}" for view in serials if view not in found]
    starts = {view: _first_row(root, tables, path, serials[view], rows) for view, path in found.items()}
    lengths = {view: VideoFootage(path).length for view, path in found.items()}
    first = max([0, *starts.values()])
    last = min([rows, *(starts[view] + length for view, length in lengths.items())])
    if last <= first:
        tables.log.refuse("recordings", f"its videos share no frame with the {rows} rows of the log")
    if last - first < rows:
        notes.append(f"{rows - last + first} rows at the ends have no frame in every view and are left out")
    parts = {view: (first - starts[view], last - starts[view]) for view in found}
    views = {view: LeftEye(VideoFootage(path, *parts[view])) for view, path in found.items()}
    return Recorded(views, first, last, tuple(notes))


def _video(root: Path, folder: Path, serial: str) -> Path | None:
    """The video of a camera: that of its left eye where there is one, else that of both."""
    for place in _PLACES:
        for name in (f"{serial}.mp4", f"{serial}-stereo.mp4"):
            path = folder / place / name
            if path.exists() or path.is_symlink():
                return enclosed(root, path)
    return None


def _first_row(root: Path, tables: Hdf5Tables, path: Path, serial: str, rows: int) -> int:
    """The row of a video's first frame, by the times of frames and rows where both are kept; else 0.

    Raises BadFile for a video that is too long or too short, and for times that do not run as the rows do.
    """
    times_path = path.with_name(f"{serial}_timestamps.json")
    field = f"observation/timestamp/cameras/{serial}_frame_received"
    frames = VideoFootage(path).length
    if not times_path.exists() or not tables.has(field):
        if abs(frames - rows) > _MOST_OFF:
            tables.log.refuse(f"recordings of camera {serial}", f"{path.name} has {frames} frames, the log {rows} rows")
        return 0
    log = Log(times_path, tables.log.episode)
    times = log.table(read_list(root, times_path), "times", 1, frames)[:, 0]
    received = tables.table(field, 1, rows)[:, 0]
    row = np.minimum(np.searchsorted(received, times), rows - 1)
    known = received[row] == times
    starts = np.unique((row - np.arange(frames))[known])
    if len(starts) != 1:
        log.refuse("times", f"do not run as field {field!r} of {tables.log.path.name} does")
    return int(starts[0])
