"""The frames of a video file by number: when each is shown, and where decoding can begin. Nothing is decoded for it.

Packets are read once a file and their times kept, sixteen bytes a frame, so that a range of frames is found exactly
even where pictures are stored in another order than they are shown.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from vap_sim.data.video_file import opened_video, upright_picture
from vap_sim.errors import BadFile

_KEPT = 64
"""Files whose index is remembered."""


@dataclass(frozen=True, eq=False)
class VideoIndex:
    """The N frames of a file in the order they are shown.

    times (N,): when each is shown [ticks]; tick: length of a tick [s]; keys (K,): numbers of the frames at which
    decoding can begin; timed: whether the file states times, without which it can only be read from its start.
    """

    times: NDArray[np.int64]
    tick: float
    keys: NDArray[np.int64]
    timed: bool

    @property
    def length(self) -> int:
        """Number of frames."""
        return len(self.times)

    def key_before(self, number: int) -> int:
        """The last frame at or before frame `number` at which decoding can begin; 0 where there is none."""
        at = int(np.searchsorted(self.keys, number, side="right")) - 1
        return int(self.keys[at]) if at >= 0 else 0

    def between(self, start: float, end: float) -> tuple[int, int]:
        """First frame and the one after the last that are shown from `start` to before `end` [s].

        Times that are rounded find their frame too: both ends may be off by half of the usual step between frames.
        """
        step = float(np.median(np.diff(self.times))) * self.tick if self.length > 1 else end - start
        edges = (np.array([start, end]) - step / 2) / self.tick
        first, last = np.searchsorted(self.times, edges)
        return int(first), int(last)


def video_index(path: Path) -> VideoIndex:
    """The index of a file; read again only where the file has changed.

    Raises BadFile for a file that is missing, no video, without a frame, or shorter than its own header says.
    """
    return _index(*_state(path))


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) [px] of a file's first picture, upright. Raises BadFile."""
    return _size(*_state(path))


def _state(path: Path) -> tuple[Path, int, int]:
    """What tells one content of a file from another."""
    try:
        status = path.stat()
    except OSError as error:
        raise BadFile(path, f"no such video file ({error.strerror})") from error
    return path, status.st_mtime_ns, status.st_size


@lru_cache(maxsize=_KEPT)
def _index(path: Path, _changed: int, _bytes: int) -> VideoIndex:
    times: list[int | None] = []
    keys: list[int | None] = []
    packets = 0
    with opened_video(path) as container:
        stream = container.streams.video[0]
        tick = float(stream.time_base or 0)
        # Only these containers count their frames rather than guess.
        promised = stream.frames if container.format.name.startswith("mov") else 0
        try:
            for packet in container.demux(stream):
                if not packet.size:
                    continue
                packets += 1
                if not packet.is_discard:
                    times.append(packet.pts)
                    if packet.is_keyframe:
                        keys.append(packet.pts)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise BadFile(path, f"is damaged after frame {packets} ({error})") from error
    if packets < promised:
        raise BadFile(path, f"is cut short: {packets} of the {promised} frames that its header promises")
    if not times:
        raise BadFile(path, "is a video without a single frame")
    stated = [time for time in times if time is not None]
    if not tick or len(set(stated)) < len(times):  # no times, or several frames at one
        return VideoIndex(np.arange(len(times)), 1.0, np.zeros(1, np.int64), timed=False)
    order = np.sort(np.array(stated, np.int64))
    starts = np.searchsorted(order, np.sort(np.array([key for key in keys if key is not None], np.int64)))
    return VideoIndex(order, tick, starts, timed=True)


@lru_cache(maxsize=_KEPT)
def _size(path: Path, _changed: int, _bytes: int) -> tuple[int, int]:
    with opened_video(path) as container:
        try:
            for frame in container.decode(container.streams.video[0]):
                height, width = upright_picture(frame).shape[:2]
                return int(width), int(height)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise BadFile(path, f"is damaged at frame 0 ({error})") from error
    raise BadFile(path, "is a video without a single frame")
