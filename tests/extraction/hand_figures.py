"""Hands made up for tests: an open hand, hands that wander, a detector that knows them, footage without pictures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from vap_sim.extraction.hand_detection import Box, HandDetection, apart
from vap_sim.robots.library import load_robot

HOME = load_robot("human_hands").home.numpy().astype(np.float64).reshape(2, 21, 3)
SIDES = ("left", "right")


def shape(side: str = "right") -> np.ndarray:
    """An open hand (21, 3) [m] about its wrist."""
    hand = HOME[SIDES.index(side)]
    return hand - hand[0]


def hand(x: float, y: float, side: str = "right", *, size: float = 100.0, score: float = 0.9) -> HandDetection:
    """A hand whose wrist is at (x, y) [px] and whose box is `size` px long."""
    metres = shape(side)
    scale = size / np.ptp(metres[:, :2], axis=0).max()
    return HandDetection(side, score, metres[:, :2] * scale + (x, y), metres)


@dataclass(frozen=True)
class Blank:
    """Footage of `length` grey frames of `size`; `read` lists the frames that were asked for."""

    length: int
    size: tuple[int, int] = (640, 360)
    read: list[int] = field(default_factory=list)

    def frames(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        for number in range(first, self.length if last is None else last):
            self.read.append(number)
            yield np.full((self.size[1], self.size[0], 3), 128, np.uint8)


@dataclass(frozen=True)
class Knowing:
    """A detector that finds at a second look, near enough, what `truth` has; at a first, what `seen` has."""

    truth: Sequence[Sequence[HandDetection]]
    seen: Sequence[Sequence[HandDetection]] = ()
    asked: list[tuple[int, bool]] = field(default_factory=list)
    name: str = "knowing"

    def detect(self, frame: int, picture: np.ndarray, near: Box | None = None) -> tuple[HandDetection, ...]:
        self.asked.append((frame, near is not None))
        if near is None:
            return tuple(self.seen[frame])
        return tuple(one for one in self.truth[frame] if one.box.overlap(near) > 0.2)


def truth_of(series_points: np.ndarray, truth: Sequence[HandDetection | None]) -> float:
    """The largest distance, in hand sizes, of points (T, 21, 2) from hands, over the frames that have one."""
    return max(apart(points, one.points) for points, one in zip(series_points, truth, strict=True) if one is not None)
