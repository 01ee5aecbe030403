"""Which finds of different frames are the same hand: tracks, and the default way to make them.

A tracker is pluggable, because better ones need networks: a mask tracker (the paper uses SAMURAI) decides by the
pixels, the default by how well a hand's points overlap with where its track expects them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped, unused-ignore]

from vap_sim.data.episode import Footage
from vap_sim.errors import InvalidInput
from vap_sim.extraction.hand_detection import Floats, HandDetection, apart
from vap_sim.extraction.hand_wire import SIDES


@dataclass(frozen=True, eq=False)
class HandTrack:
    """One hand through time: what was found of it, by frame number, at least once."""

    seen: Mapping[int, HandDetection]

    def __post_init__(self) -> None:
        if not self.seen:
            raise InvalidInput("a track of a hand", "no frames", "at least one")
        object.__setattr__(self, "seen", dict(sorted(self.seen.items())))

    @property
    def first(self) -> int:
        """Its first frame."""
        return next(iter(self.seen))

    @property
    def last(self) -> int:
        """Its last frame."""
        return next(reversed(self.seen.keys()))  # type: ignore[call-overload, no-any-return]

    @property
    def votes(self) -> tuple[float, float]:
        """How much speaks for left and for right: a frame counts by its score and by how many views agreed in it."""
        left, right = (
            sum(hand.score * hand.agreed[0] / hand.agreed[1] for hand in self.seen.values() if hand.side == side)
            for side in SIDES
        )
        return left, right

    @property
    def rightness(self) -> float:
        """The share of the votes that say right, 0 to 1; 0.5 where there are none."""
        left, right = self.votes
        return right / (left + right) if left + right > 0 else 0.5

    def expected(self, frame: int) -> Floats:
        """Where its points (21, 2) [px] are to be looked for: between its neighbours in time, or carried on from one
        with a speed that fades."""
        before = max((known for known in self.seen if known <= frame), default=None)
        after = min((known for known in self.seen if known >= frame), default=None)
        if before is not None and after is not None:
            if before == after:
                return self.seen[frame].points
            share = (frame - before) / (after - before)
            return (1 - share) * self.seen[before].points + share * self.seen[after].points
        known = list(self.seen)
        ends = known[-2:] if after is None else known[1::-1]
        last = self.seen[ends[-1]].points
        if len(ends) < 2 or abs(ends[1] - ends[0]) > _RECENT:
            return last
        speed = (last.mean(0) - self.seen[ends[0]].points.mean(0)) / abs(ends[1] - ends[0])
        steps = abs(frame - ends[-1])
        return np.asarray(last + speed * (_FADE * (1 - _FADE**steps) / (1 - _FADE)))

    def with_frames(self, more: Mapping[int, HandDetection]) -> HandTrack:
        """The track with further frames."""
        return replace(self, seen={**self.seen, **more})


_RECENT = 4  # frames up to which two finds tell a speed
_FADE = 0.7  # of a speed from frame to frame


class HandTracker(Protocol):
    """Joins finds into tracks."""

    @property
    def name(self) -> str:
        """What it is, with its settings."""
        ...

    def join(self, found: Sequence[Sequence[HandDetection]], footage: Footage) -> tuple[HandTrack, ...]:
        """Tracks of T frames of finds, in any order; a find that belongs to no hand is in none of them.

        footage: the T frames themselves, for a tracker that looks at pixels.
        """
        ...


@dataclass(frozen=True)
class OverlapTracker:
    """Joins a find to the track whose expectation it overlaps best; it never looks at a picture.

    reach: mean distance of points from the expectation, in the hand's size, up to which a find is joined, and by which
    half it grows for every frame that was missed, up to twice; patience: frames without a find after which a track is
    given up; sides: what a find of the other side than all of a track's costs, in hand sizes."""

    reach: float = 0.8
    patience: int = 12
    sides: float = 0.3

    def __post_init__(self) -> None:
        if not (0 < self.reach < 100 and self.patience >= 1 and 0 <= self.sides < 100):
            raise InvalidInput(
                "hand tracker", self, "a positive reach, a patience of 1 frame or more, a cost from 0 on"
            )

    @property
    def name(self) -> str:
        """Its settings."""
        return str(self)

    def join(self, found: Sequence[Sequence[HandDetection]], footage: Footage) -> tuple[HandTrack, ...]:
        ended: list[HandTrack] = []
        alive: list[HandTrack] = []
        for frame, hands in enumerate(found):
            ended += [track for track in alive if frame - track.last > self.patience + 1]
            alive = [track for track in alive if frame - track.last <= self.patience + 1]
            taken = self._assigned(alive, hands, frame)
            alive = [
                track.with_frames({frame: hands[taken[number]]}) if number in taken else track
                for number, track in enumerate(alive)
            ]
            alive += [HandTrack({frame: hand}) for number, hand in enumerate(hands) if number not in taken.values()]
        return tuple(sorted(ended + alive, key=lambda track: track.first))

    def _assigned(self, tracks: Sequence[HandTrack], hands: Sequence[HandDetection], frame: int) -> dict[int, int]:
        """For each track that goes on, by number: the number of its hand. The whole frame is decided at once."""
        costs = np.array([[self._cost(track, hand, frame) for hand in hands] for track in tracks])
        if not costs.size:
            return {}
        # A pair out of reach costs more than any number of pairs within.
        bound = 1e3 * (self.reach + self.sides + 1)
        rows, columns = linear_sum_assignment(np.minimum(costs, bound))
        return {int(row): int(column) for row, column in zip(rows, columns, strict=True) if costs[row, column] < bound}

    def _cost(self, track: HandTrack, hand: HandDetection, frame: int) -> float:
        distance = apart(track.expected(frame), hand.points)
        missed = frame - track.last - 1
        if distance > self.reach * min(1 + 0.5 * missed, 2.0):
            return float("inf")
        against = track.rightness if hand.side == "left" else 1 - track.rightness
        return distance + self.sides * against
