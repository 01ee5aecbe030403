"""Writing H.264 videos that play everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np

from vap_sim.errors import InvalidInput

_BT709, _LIMITED = 1, 1  # FFmpeg's numbers of a color space, and of a range of values


def write_mp4(
    path: Path,
    frames: Iterable[np.ndarray],
    frame_rate: float,
    quality: int = 18,
    key_every: int | None = None,
    preset: str = "medium",
) -> int:
    """Write frames (H, W, 3) uint8, H and W even, as MP4; returns their number. The file appears whole or not at all.

    It is H.264 of half the resolution in colour, told as BT.709, and begins with its index, so that browsers show it
    before all of it has come.

    Args:
        path: where to; its name ends in .mp4. frame_rate: [Hz]. quality: x264's constant rate factor, 0 (lossless) to
            51, lower is better. key_every: frames from one at which a player can begin to the next, which makes a film
            quick to seek in; None leaves it to x264. preset: x264's, the faster the larger the file.

    Raises:
        InvalidInput: no frames, frames of odd or different sizes or of another type, an impossible rate or quality.
    """
    path = Path(path)
    rate = _rate(path, frame_rate, quality)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.stem + ".partial" + path.suffix)
    # A look at the first frame before anything is opened: a container without a stream cannot be closed.
    rest = iter(frames)
    first = next(rest, None)
    if first is None:
        raise InvalidInput("video", "no frames", "at least one")
    height, width = _checked(first, None)
    count = 0
    try:
        with av.open(str(partial), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.pix_fmt, stream.options = "yuv420p", {"crf": str(quality), "preset": preset}
            if key_every is not None:
                stream.options = {**stream.options, "g": str(key_every)}
            stream.height, stream.width = height, width
            context = stream.codec_context
            context.colorspace, context.color_primaries, context.color_trc = _BT709, _BT709, _BT709
            context.color_range = _LIMITED
            for image in chain([first], rest):
                _checked(image, (height, width))
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
                told = frame.reformat(format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG")
                told.colorspace, told.color_range = _BT709, _LIMITED
                container.mux(stream.encode(told))
                count += 1
            container.mux(stream.encode())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _rate(path: Path, frame_rate: float, quality: int) -> Fraction:
    if path.suffix.lower() != ".mp4":
        raise InvalidInput("video file", path.name, "a name that ends in .mp4")
    if not 0.01 <= frame_rate <= 1000:
        raise InvalidInput("frame rate of a video", frame_rate, "0.01 to 1000 Hz")
    if not 0 <= quality <= 51:
        raise InvalidInput("quality of a video", quality, "0 to 51, lower is better")
    return Fraction(frame_rate).limit_denominator(1000)


def _checked(image: np.ndarray, size: tuple[int, int] | None) -> tuple[int, int]:
    """(height, width) of a frame, which must be `size` where that is given."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape[0] % 2 or image.shape[1] % 2:
        raise InvalidInput("video frame", f"{image.dtype} {image.shape}", "uint8 (H, W, 3) with even H and W")
    if size is not None and image.shape[:2] != size:
        raise InvalidInput("video frame", f"(height, width) {image.shape[:2]}", f"{size}, as the first frame")
    return int(image.shape[0]), int(image.shape[1])
