"""Recorded pictures to a world's: which part of them, at which size, and the cameras and homographies that follow."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.camera import Camera

Array = NDArray[np.float64]
FITS = ("crop", "stretch")


@dataclass(frozen=True)
class PictureFit:
    """A window of recorded pictures, sampled at another size.

    source: (width, height) of the recording; left, top, width, height: the window in its pixels; size: (width, height)
    of the result.
    """

    source: tuple[int, int]
    left: int
    top: int
    width: int
    height: int
    size: tuple[int, int]

    @property
    def matrix(self) -> Array:
        """Pixels of the recording to pixels of the result (3, 3), edges on edges."""
        sx, sy = self.size[0] / self.width, self.size[1] / self.height
        scale = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1.0]])
        return np.asarray(scale @ np.array([[1, 0, -self.left], [0, 1, -self.top], [0, 0, 1.0]]))

    @property
    def words(self) -> str:
        """What is left of a recorded picture, for people."""
        across, down = (
            f"columns {self.left} to {self.left + self.width}",
            f"rows {self.top} to {self.top + self.height}",
        )
        if (self.width, self.height) == self.source:
            part = "whole pictures"
        else:
            part = f"{across} of {self.source[0]}" if self.height == self.source[1] else f"{down} of {self.source[1]}"
        return f"{part}, sampled at {self.size[0]}x{self.size[1]}"

    def picture(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The window of a recorded picture (H, W, 3) at the new size. Raises InvalidInput for another size."""
        if picture.shape[:2] != self.source[::-1]:
            raise InvalidInput("size of a recorded picture", picture.shape[1::-1], f"{self.source}, as the first")
        window = picture[self.top : self.top + self.height, self.left : self.left + self.width]
        method = cv2.INTER_AREA if self.size[0] <= self.width and self.size[1] <= self.height else cv2.INTER_CUBIC
        return np.asarray(cv2.resize(np.ascontiguousarray(window), self.size, interpolation=method), np.uint8)

    def camera(self, camera: Camera) -> Camera:
        """The camera (without batch axes) of the result, for one of the recording."""
        shift = camera.intrinsics.new_tensor([[1.0, 0.0, -self.left], [0.0, 1.0, -self.top], [0.0, 0.0, 1.0]])
        window = replace(camera, intrinsics=shift @ camera.intrinsics, size=(self.width, self.height))
        return window.resized(self.size)


def whole(size: tuple[int, int], other: tuple[int, int]) -> PictureFit:
    """Whole pictures of one (width, height) sampled at another."""
    return PictureFit(size, 0, 0, *size, other)


def fit_pictures(source: tuple[int, int], size: int, how: str, outlines: list[Array]) -> PictureFit:
    """The window that becomes a square picture of `size` pixels.

    how: "stretch" takes the whole picture, whatever its shape; "crop" the largest square that holds most of the points
    in `outlines`, each (N, 2) [px] of the recording, and of equally good ones the most central. Raises UnknownName.
    """
    if how not in FITS:
        raise UnknownName("way to fit pictures", how, FITS)
    width, height = source
    if how == "stretch":
        return PictureFit(source, 0, 0, width, height, (size, size))
    side, axis = min(width, height), int(height > width)
    room = abs(width - height)
    places = np.concatenate([*(points[:, axis] for points in outlines), np.zeros(0)])
    starts = np.arange(room + 1)
    held = np.array([np.count_nonzero((places >= start) & (places <= start + side - 1)) for start in starts])
    best = starts[held == held.max()]
    start = int(best[np.abs(best - room / 2).argmin()])
    left, top = (0, start) if axis else (start, 0)
    return PictureFit(source, left, top, side, side, (size, size))


def between_sizes(homographies: Array, matrix: Array) -> Array:
    """Homographies (T, 3, 3) of pictures as homographies of those that `matrix` (3, 3) takes their pixels to."""
    moved = matrix @ homographies @ np.linalg.inv(matrix)
    return np.asarray(moved / moved[:, 2:, 2:])


def clock_ticks(length: int, frame_rate: float, rate: float) -> tuple[NDArray[np.intp], float]:
    """The frames of a recording of `length` frames at `frame_rate` [Hz] nearest to the ticks of a clock, and its rate.

    A recording that is slower than `rate` [Hz] keeps its own: pictures that were never taken are not made up. Log and
    video are read at the same frames, so that they stay in step.
    """
    if not 0.01 <= rate <= 1000:
        raise InvalidInput("rate of prepared clips", rate, "0.01 to 1000 Hz")
    if rate >= frame_rate:
        return np.arange(length), frame_rate
    ticks = np.arange(int((length - 1) * rate / frame_rate + 1e-6) + 1)
    return np.floor(ticks * (frame_rate / rate) + 0.5 - 1e-9).astype(np.intp).clip(0, length - 1), rate
