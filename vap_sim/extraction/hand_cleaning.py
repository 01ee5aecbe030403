"""From tracks to a left and a right hand: sides by majority, outliers rejected, short gaps filled, long ones splitting.

Of every frame and side it says what became of it and why; see `HandFate`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vap_sim.errors import InvalidInput
from vap_sim.extraction.hand_detection import Floats, HandDetection, apart
from vap_sim.extraction.hand_tracks import HandTrack
from vap_sim.extraction.hand_wire import POINTS, SIDES

STATES = ("absent", "dropped", "filled", "kept")


@dataclass(frozen=True)
class Cleaning:
    """What is kept. score: least confidence of the detector; jump: distance [hand sizes] from where the frames beside
    it put a hand, beyond which it is rejected; growth: ratio to its track's size nearby, beyond which it is rejected;
    inside: least share of its points in the picture; fill: longest gap [frames] that is filled; shortest: frames that a
    piece must have; person: a picture shows one person's hands, so that two hands at a time are not of one side."""

    score: float = 0.2
    jump: float = 0.6
    growth: float = 1.8
    inside: float = 0.25
    fill: int = 5
    shortest: int = 5
    person: bool = True

    def __post_init__(self) -> None:
        if not (0 <= self.score <= 1 and 0 <= self.inside <= 1 and self.jump > 0 and self.growth > 1):
            raise InvalidInput("cleaning of hands", self, "shares of 0 to 1, a positive jump, a growth above 1")
        if self.fill < 0 or self.shortest < 1:
            raise InvalidInput("cleaning of hands", self, "a gap of 0 frames or more, pieces of 1 frame or more")


@dataclass(frozen=True)
class HandFate:
    """What became of one side in one frame: a state of STATES, and why."""

    state: str
    reason: str


@dataclass(frozen=True, eq=False)
class HandSeries:
    """One side through T frames. points (T, 21, 2) [px], not a number where the hand is neither kept nor filled; metres
    (T, 21, 3) [m], not a number where unknown, from the camera where `placed` (T,) bool; fates: T of them; pieces:
    first and one past the last frame of each run without a gap."""

    side: str
    points: Floats
    metres: Floats
    placed: np.ndarray
    fates: tuple[HandFate, ...]
    pieces: tuple[tuple[int, int], ...]

    @property
    def there(self) -> np.ndarray:
        """(T,) bool: kept or filled."""
        return np.isfinite(self.points[:, 0, 0])


def clean(
    tracks: Sequence[HandTrack],
    length: int,
    size: tuple[int, int],
    settings: Cleaning | None = None,
    again: Collection[tuple[int, int]] = (),
) -> tuple[HandSeries, HandSeries]:
    """The left and the right hand of T = `length` frames of `size` (width, height).

    again: (track, frame) of finds that took a second look, which their reason then says.
    """
    settings = Cleaning() if settings is None else settings
    sides = _sides(tracks, settings.person)
    left, right = (
        _series(side, *_joined(tracks, sides, side, length, size, settings, again), settings) for side in SIDES
    )
    return left, right


def _sides(tracks: Sequence[HandTrack], person: bool) -> list[str]:
    """The side of each track, by its votes; of two of one person that coincide, the less sure one gives way."""
    sides = ["right" if track.rightness > 0.5 else "left" for track in tracks]
    decided: list[int] = []
    for number in sorted(range(len(tracks)), key=lambda n: -_weight(tracks[n])):
        unsure = abs(2 * tracks[number].rightness - 1) < _UNSURE
        if (
            person
            and unsure
            and any(sides[n] == sides[number] and _together(tracks[n], tracks[number]) for n in decided)
        ):
            sides[number] = SIDES[1 - SIDES.index(sides[number])]
        decided.append(number)
    return sides


def _weight(track: HandTrack) -> float:
    """How much speaks for a track's side, more than for the other."""
    return abs(track.votes[0] - track.votes[1])


_UNSURE = 0.5  # margin of the votes below which a track may be of the other side
_TOGETHER = 3  # frames in which two tracks must coincide to be two hands


def _together(a: HandTrack, b: HandTrack) -> bool:
    return len(a.seen.keys() & b.seen.keys()) >= _TOGETHER


def _joined(
    tracks: Sequence[HandTrack],
    sides: Sequence[str],
    side: str,
    length: int,
    size: tuple[int, int],
    settings: Cleaning,
    again: Collection[tuple[int, int]],
) -> tuple[dict[int, tuple[int, HandDetection]], list[HandFate]]:
    """What is kept of one side, by frame, with the number of its track, and the fates of all T frames."""
    fates = [HandFate("absent", "no hand was found") for _ in range(length)]
    kept: dict[int, tuple[int, HandDetection]] = {}
    # Those that are surest come first: where two of one side are there at once, the others give way.
    chosen: list[HandTrack] = []
    for number in sorted((n for n, its in enumerate(sides) if its == side), key=lambda n: -_weight(tracks[n])):
        track = tracks[number]
        trouble = _trouble(track, size, settings)
        for frame, hand in track.seen.items():
            if any(other.first <= frame <= other.last for other in chosen):
                if fates[frame].state == "absent":
                    fates[frame] = HandFate("dropped", f"another {side} hand is followed here, more surely")
            elif frame in trouble:
                fates[frame] = HandFate("dropped", trouble[frame])
            else:
                kept[frame] = (number, hand)
                fates[frame] = HandFate("kept", _told(hand, side, (number, frame) in again))
        chosen.append(track)
    return kept, fates


def _told(hand: HandDetection, side: str, again: bool) -> str:
    found, views = hand.agreed
    parts = ["found on a second look" if again else "found"]
    parts += [f"by {found} of {views} views"] if views > 1 else []
    parts += [f"by its looks a {hand.side} one, by its track {side}"] if hand.side != side else []
    return ", ".join([" ".join(parts[:2]), *parts[2:]]) if views > 1 else ", ".join(parts)


def _trouble(track: HandTrack, size: tuple[int, int], settings: Cleaning) -> dict[int, str]:
    """Why frames of a track are rejected, by frame."""
    trouble: dict[int, str] = {}
    for frame, hand in track.seen.items():
        inside = ((hand.points >= -0.5) & (hand.points <= np.subtract(size, 0.5))).all(-1).mean()
        if hand.score < settings.score:
            trouble[frame] = f"the detector is {hand.score:.0%} sure, less than {settings.score:.0%}"
        elif inside < settings.inside:
            trouble[frame] = f"{inside:.0%} of its points are in the picture, less than {settings.inside:.0%}"
    alive = [frame for frame in track.seen if frame not in trouble]
    sizes = np.array([track.seen[frame].box.size for frame in alive])
    for number, frame in enumerate(alive):
        ratio = sizes[number] / np.median(sizes[max(number - _NEARBY, 0) : number + _NEARBY + 1])
        if max(ratio, 1 / ratio) > settings.growth:
            trouble[frame] = f"{ratio:.2f} times as large as in the frames around it"
    return {**trouble, **_jumps(track, [frame for frame in alive if frame not in trouble], settings.jump)}


_NEARBY = 7  # finds before and after that tell a hand's size


def _jumps(track: HandTrack, alive: list[int], most: float) -> dict[int, str]:
    """Frames that lie off the line between their neighbours in time, the worst first, since it is its neighbours'
    trouble as well."""
    rejected: dict[int, str] = {}
    off = {frame: _off(track, alive, number) for number, frame in enumerate(alive)}
    while off and (worst := max(off, key=lambda frame: off[frame])) is not None and off[worst] > most:
        rejected[worst] = f"{off[worst]:.1f} hand sizes from where the frames around it put it"
        number = alive.index(worst)
        del alive[number], off[worst]
        for near in (number - 1, number):
            if 0 <= near < len(alive):
                off[alive[near]] = _off(track, alive, near)
    return rejected


def _off(track: HandTrack, alive: Sequence[int], number: int) -> float:
    """Hand sizes between a find and the line through its two neighbours; 0 where they are too far away to tell."""
    if not 0 < number < len(alive) - 1:
        return 0.0
    before, frame, after = alive[number - 1 : number + 2]
    if after - before > _TELLING:
        return 0.0
    share = (frame - before) / (after - before)
    line = (1 - share) * track.seen[before].points + share * track.seen[after].points
    return apart(track.seen[frame].points, line)


_TELLING = 8  # frames between two neighbours that still tell where a hand is between them


def _series(
    side: str, kept: dict[int, tuple[int, HandDetection]], fates: list[HandFate], settings: Cleaning
) -> HandSeries:
    """Arrays of what is kept, with short gaps filled and short pieces dropped."""
    length = len(fates)
    points, metres = np.full((length, POINTS, 2), np.nan), np.full((length, POINTS, 3), np.nan)
    placed = np.zeros(length, bool)
    pieces = []
    for numbers in _runs(kept, settings):
        if len(numbers) < settings.shortest:
            for frame in numbers:
                fates[frame] = HandFate("dropped", _short(numbers, settings))
            continue
        for frame in numbers:
            hand = kept[frame][1]
            points[frame], placed[frame] = hand.points, hand.placed
            if hand.metres is not None:
                metres[frame] = hand.metres
        for before, after in pairwise(numbers):
            for frame in range(before + 1, after):
                share = (frame - before) / (after - before)
                points[frame] = (1 - share) * points[before] + share * points[after]
                metres[frame] = (1 - share) * metres[before] + share * metres[after]
                placed[frame] = placed[before] and placed[after]
                why = f"; {fates[frame].reason}" if fates[frame].state == "dropped" else ""
                fates[frame] = HandFate("filled", f"between frames {before} and {after}{why}")
        pieces.append((numbers[0], numbers[-1] + 1))
    return HandSeries(side, points, metres, placed, tuple(fates), tuple(pieces))


def _short(numbers: Sequence[int], settings: Cleaning) -> str:
    count = f"{len(numbers)} frame{'s' if len(numbers) > 1 else ''}"
    return f"in a piece of {count} between gaps, shorter than {settings.shortest}"


def _runs(kept: dict[int, tuple[int, HandDetection]], settings: Cleaning) -> list[list[int]]:
    """Frame numbers in runs whose gaps are short, and in which one track follows another only where it ended."""
    runs: list[list[int]] = []
    for frame in sorted(kept):
        before = runs[-1][-1] if runs else None
        if before is None or frame - before - 1 > settings.fill or _elsewhere(kept[before], kept[frame]):
            runs.append([frame])
        else:
            runs[-1].append(frame)
    return runs


def _elsewhere(before: tuple[int, HandDetection], after: tuple[int, HandDetection]) -> bool:
    return before[0] != after[0] and apart(before[1].points, after[1].points) > _CONTINUED


_CONTINUED = 1.0  # hand sizes between the end of a track and the beginning of another that may carry it on
