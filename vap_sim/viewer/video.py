"""Writing H.264 videos that play everywhere."""

from __future__ import annotations

import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from vap_sim.errors import InvalidInput


def write_mp4(path: Path, frames: Iterable[np.ndarray], frame_rate: float, quality: int = 18) -> int:
    """Write frames (H, W, 3) uint8, H and W even, as MP4; returns their number. The file appears whole or not at all.

    Args:
        path: where to. frame_rate: [Hz]. quality: x264's constant rate factor, lower is better.

    Raises:
        InvalidInput: no frames, odd sizes, or frames of different sizes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.stem + ".partial" + path.suffix)
    count, shape = 0, None
    try:
        with av.open(str(partial), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(frame_rate).limit_denominator(1000))
            stream.pix_fmt, stream.options = "yuv420p", {"crf": str(quality)}
            for image in frames:
                if shape is None:
                    shape = _checked(image)
                    stream.height, stream.width = shape[:2]
                if image.shape != shape:
                    raise InvalidInput("video frame", f"shape {image.shape}", f"{shape}, as the first frame")
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
                count += 1
            if not count:
                raise InvalidInput("video", "no frames", "at least one")
            container.mux(stream.encode())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return count


def _checked(image: np.ndarray) -> tuple[int, ...]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.shape[0] % 2 or image.shape[1] % 2:
        raise InvalidInput("video frame", f"{image.dtype} {image.shape}", "uint8 (H, W, 3) with even H and W")
    return image.shape
