"""Reading a video file: its frames at a rate that is asked for, upright, and a named error where it is damaged.

Only containers of recorded video are opened, and only from this machine: a playlist could name other files.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput

MOST_BYTES = 2**31
"""Bytes of frames that one call keeps."""
_INSTANT = 1e-6
"""Seconds by which rounding may move a frame."""
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,apng,mpeg,mpegts,ogg,flv,asf"


def read_video(path: Path | str, frame_rate: float | None = None, *, most_bytes: int = MOST_BYTES) -> Tensor:
    """The frames (T, H, W, 3) uint8 RGB of a video, at its own rate or at `frame_rate` [Hz].

    With a rate, frame k is the one whose time is nearest to k / frame_rate seconds after the first, up to the last.
    Pictures are turned as the file says they are to be shown. Sound is left out.

    Raises BadFile for a file that is missing, no video, damaged or without a frame, InvalidInput for an impossible rate
    and for a video of more than `most_bytes`.
    """
    if frame_rate is not None and not 0.01 <= frame_rate <= 1000:
        raise InvalidInput("frame rate to read a video at", frame_rate, "0.01 to 1000 Hz")
    kept: list[np.ndarray] = []
    for picture in _chosen(path, frame_rate):
        if kept and picture.shape != kept[0].shape:
            given = f"{picture.shape[:2]} pixels after {kept[0].shape[:2]}"
            raise BadFile(path, f"frame {len(kept)} has {given}; its frames must be of one size")
        kept.append(picture)
        if kept[0].nbytes * len(kept) > most_bytes:
            seconds = f" ({len(kept) / frame_rate:.0f} seconds)" if frame_rate else ""
            given = f"{len(kept)} frames or more of {picture.shape[:2]}{seconds}"
            expected = f"at most {most_bytes // 2**20} MiB of frames: cut it, or make its pictures smaller"
            raise InvalidInput(f"video {path}", given, expected)
    if not kept:
        raise BadFile(path, "is a video without a single frame")
    return torch.from_numpy(np.stack(kept))


def video_frame_rate(path: Path | str) -> float:
    """The mean rate that a video's own header states [Hz]. Raises BadFile as `read_video` does."""
    with opened_video(path) as container:
        rate = container.streams.video[0].average_rate
    if not rate:
        raise BadFile(path, "its header states no frame rate")
    return float(rate)


def _chosen(path: Path | str, frame_rate: float | None) -> Iterator[np.ndarray]:
    """Frames as they are decoded, or those that are nearest to the ticks of a clock."""
    if frame_rate is None:
        yield from (picture for _, picture in _decoded(path))
        return
    step, ticks, start = 1 / frame_rate, 0, 0.0
    before: tuple[float, np.ndarray] | None = None
    for time, picture in _decoded(path):
        start = time if before is None else start
        while before is not None and start + ticks * step < (before[0] + time) / 2:
            yield before[1]
            ticks += 1
        before = time, picture
    while before is not None and start + ticks * step <= before[0] + _INSTANT:
        yield before[1]
        ticks += 1


def _decoded(path: Path | str) -> Iterator[tuple[float, np.ndarray]]:
    """Seconds and picture (H, W, 3) uint8 of every frame, in the order they are shown."""
    count = 0
    with opened_video(path) as container:
        stream = container.streams.video[0]
        rate = stream.average_rate or Fraction(25)
        try:
            for frame in container.decode(stream):
                time = float(count / rate) if frame.time is None else frame.time
                yield time, upright_picture(frame)
                count += 1
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise BadFile(path, f"is damaged at frame {count} ({error})") from error


def upright_picture(frame: av.VideoFrame) -> np.ndarray:
    """The picture (H, W, 3) uint8 RGB of a decoded frame, turned as the file says (in quarters, against the clock)."""
    picture = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(picture, round(getattr(frame, "rotation", 0) / 90)))


def opened_video(path: Path | str) -> av.container.InputContainer:
    """A container with at least one stream of pictures, for the caller to close. Raises BadFile."""
    if not Path(path).is_file():
        raise BadFile(path, "is a folder, expected a video file" if Path(path).is_dir() else "no such video file")
    limits = {"protocol_whitelist": "file", "format_whitelist": _FORMATS}
    try:
        container = av.open(f"file:{path}", "r", container_options=limits)
    except (av.error.FFmpegError, OSError, ValueError) as error:
        raise BadFile(path, f"is no video that can be read ({error})") from error
    if not container.streams.video:
        container.close()
        raise BadFile(path, "has no pictures in it, only sound or text")
    return container
