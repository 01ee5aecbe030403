"""What a hand detector finds in one picture, and what every such detector offers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.extraction.hand_wire import POINTS, SIDES

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]
SMALLEST = 2.0
"""Pixels below which what was found is no hand that anybody could see."""


@dataclass(frozen=True)
class Box:
    """An upright rectangle in a picture [px]."""

    left: float
    top: float
    right: float
    bottom: float

    @property
    def size(self) -> float:
        """Its longer side [px]."""
        return max(self.right - self.left, self.bottom - self.top)

    @property
    def centre(self) -> tuple[float, float]:
        """x and y of its middle [px]."""
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2

    def overlap(self, other: Box) -> float:
        """Area that both cover over area that either covers, 0 to 1."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        both = max(width, 0.0) * max(height, 0.0)
        either = self.area + other.area - both
        return both / either if either > 0 else 0.0

    @property
    def area(self) -> float:
        """In square pixels."""
        return (self.right - self.left) * (self.bottom - self.top)


@dataclass(frozen=True, eq=False)
class HandDetection:
    """One hand in one picture.

    side: "left" or "right", whose it is by its looks, in a picture that is not mirrored. score: the detector's own
    confidence, 0 to 1. points (21, 2) [px]: the wrist, then thumb, index, middle, ring and little finger, each from its
    root to its tip; they may lie outside the picture. metres (21, 3) [m]: the same in the camera's axes (x right, y
    down, z forward) about any origin, or, where `placed`, about the camera's own. agreed: views of this picture that
    found this hand, and views that should have, where a detector looks more than once.

    Raises InvalidInput for wrong shapes, numbers that are not finite, a score outside its range and a hand without
    extent, UnknownName for a side.
    """

    side: str
    score: float
    points: Floats
    metres: Floats | None = None
    placed: bool = False
    agreed: tuple[int, int] = (1, 1)

    def __post_init__(self) -> None:
        if self.side not in SIDES:
            raise UnknownName("side of a hand", self.side, SIDES)
        if not 0 <= self.score <= 1:
            raise InvalidInput("score of a hand", self.score, "0 to 1")
        for name, values, axes in (("points", self.points, 2), ("metres", self.metres, 3)):
            if values is not None and (values.shape != (POINTS, axes) or not np.isfinite(values).all()):
                given = f"{values.shape}, {int((~np.isfinite(values)).sum())} not finite"
                raise InvalidInput(f"{name} of a hand", given, f"({POINTS}, {axes}), all finite")
        if self.placed and self.metres is None:
            raise InvalidInput("a hand placed in space", "no metres", f"({POINTS}, 3) [m]")
        if self.box.size < SMALLEST:
            raise InvalidInput("size of a hand", f"{self.box.size:.3g} px", f"at least {SMALLEST:g} px")

    @property
    def box(self) -> Box:
        """The smallest rectangle around the points."""
        return box_of(self.points)


class HandDetector(Protocol):
    """Finds hands in the frames of one video, which are shown to it in order and perhaps again."""

    @property
    def name(self) -> str:
        """What it is, with its version and settings: results of detectors of equal names are interchangeable."""
        ...

    def detect(self, frame: int, picture: Picture, near: Box | None = None) -> tuple[HandDetection, ...]:
        """The hands in a picture (H, W, 3) uint8 RGB that is frame number `frame` of the video.

        With `near`, a hand is thought to be there: only around it is looked, and more closely.
        """
        ...


def box_of(points: Floats) -> Box:
    """The smallest rectangle around points (..., 2) [px]."""
    low, high = points.reshape(-1, 2).min(0), points.reshape(-1, 2).max(0)
    return Box(float(low[0]), float(low[1]), float(high[0]), float(high[1]))


def apart(a: Floats, b: Floats) -> float:
    """Mean distance of two hands' points (21, 2), in the longer side of the larger one's box."""
    size = max(box_of(a).size, box_of(b).size, SMALLEST)
    return float(np.linalg.norm(a - b, axis=-1).mean()) / size
