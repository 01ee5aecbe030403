"""A second look for hands that a track lost: where the frames beside know a hand, the picture is searched more
closely.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vap_sim.data.episode import Footage
from vap_sim.errors import InvalidInput
from vap_sim.extraction.hand_detection import HandDetection, HandDetector, Picture, apart, box_of
from vap_sim.extraction.hand_tracks import HandTrack

_AT_ONCE = 24  # frames held in memory


@dataclass(frozen=True)
class Following:
    """How lost hands are looked for. reach: mean distance of points from the expectation, in a hand's size, up to which
    a find is the lost hand; within: frames from the last find after which it is not looked for any more; same: distance
    up to which two tracks hold the same hand."""

    reach: float = 0.5
    within: int = 2
    same: float = 0.3

    def __post_init__(self) -> None:
        if not (0 < self.reach < 10 and self.within >= 1 and 0 < self.same < 10):
            raise InvalidInput("following of hands", self, "positive distances and 1 frame or more")


def follow(
    tracks: Sequence[HandTrack], footage: Footage, detector: HandDetector, settings: Following | None = None
) -> tuple[tuple[HandTrack, ...], frozenset[tuple[int, int]]]:
    """Tracks with what a second look added, and (track, frame) of those finds.

    The video is read once forwards and once backwards, so that a hand is followed beyond both ends of its track; where
    two tracks meet in the same hand, they become one.
    """
    settings = Following() if settings is None else settings
    known = [dict(track.seen) for track in tracks]
    added: list[set[int]] = [set() for _ in tracks]
    for step in (1, -1):
        for frame, picture in _read(footage, step, known, settings.within):
            for number in range(len(known)):
                if frame in known[number] or not _lately(known[number], frame, step, settings.within):
                    continue
                hand = _find(HandTrack(known[number]), frame, picture, detector, settings.reach)
                if hand is None:
                    continue
                holder = _holder(known, frame, hand, settings.same)
                if holder is None:
                    known[number][frame] = hand
                    added[number].add(frame)
                elif not known[holder].keys() & known[number].keys():
                    known[number] |= known[holder]
                    added[number] |= added[holder]
                    known[holder], added[holder] = {}, set()
    left = [(seen, more) for seen, more in zip(known, added, strict=True) if seen]
    again = {(number, frame) for number, (_, more) in enumerate(left) for frame in more}
    return tuple(HandTrack(seen) for seen, _ in left), frozenset(again)


def _read(
    footage: Footage, step: int, known: Sequence[dict[int, HandDetection]], within: int
) -> Iterator[tuple[int, Picture]]:
    """Frames with their numbers, forwards or backwards; parts in which no hand can be looked for are not decoded."""
    starts = range(0, footage.length, _AT_ONCE)
    for start in starts if step > 0 else reversed(starts):
        end = min(start + _AT_ONCE, footage.length)
        around = range(start - within, end) if step > 0 else range(start, end + within)
        if any(seen.keys() & set(around) and set(range(start, end)) - seen.keys() for seen in known):
            pictures = list(zip(range(start, end), footage.frames(start, end), strict=True))
            yield from pictures if step > 0 else reversed(pictures)


def _lately(seen: dict[int, HandDetection], frame: int, step: int, within: int) -> bool:
    return any(frame - step * back in seen for back in range(1, within + 1))


def _find(track: HandTrack, frame: int, picture: Picture, detector: HandDetector, reach: float) -> HandDetection | None:
    expected = track.expected(frame)
    found = detector.detect(frame, picture, near=box_of(expected))
    nearest = min(found, key=lambda hand: apart(hand.points, expected), default=None)
    return nearest if nearest is not None and apart(nearest.points, expected) <= reach else None


def _holder(known: Sequence[dict[int, HandDetection]], frame: int, hand: HandDetection, same: float) -> int | None:
    """The track that has this hand already."""
    for number, seen in enumerate(known):
        if frame in seen and apart(seen[frame].points, hand.points) <= same:
            return number
    return None
