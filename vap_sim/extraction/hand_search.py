"""Looking for hands several times in one picture: detectors made for selfies miss small hands, and guess where views
differ.

A picture is cut into overlapping squares of two sizes, in which a hand fills more of the view than in the whole.
Wherever something was found, closer views are taken around it, plain and mirrored, and what they agree on is kept:
their median is steadier than any one of them, and what only one view saw is no hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from vap_sim.errors import InvalidInput
from vap_sim.extraction.hand_detection import Box, Floats, HandDetection, Picture, apart, box_of
from vap_sim.extraction.hand_wire import SIDES

Look = Callable[[Picture], Sequence[HandDetection]]
"""Finds hands in a picture (H, W, 3) uint8 RGB."""


@dataclass(frozen=True)
class SearchSettings:
    """How a picture is searched.

    tiles: sides of the squares, as shares of the picture's shorter side; closer: sides of the views around a find, in
    the longer side of its box; turns: degrees by which these are turned, each taken plain and mirrored; same: mean
    distance of points, in a hand's size, up to which two finds are one hand; agree: share of the closer views that must
    find a hand again."""

    tiles: tuple[float, ...] = (1.0, 2 / 3)
    closer: tuple[float, ...] = (2.2, 3.2, 4.8)
    turns: tuple[float, ...] = (0.0,)
    same: float = 0.35
    agree: float = 0.3

    def __post_init__(self) -> None:
        if not self.tiles or not all(0.05 <= share <= 1 for share in self.tiles):
            raise InvalidInput("tiles of a search", self.tiles, "shares of the picture's shorter side, 0.05 to 1")
        if not self.closer or not all(1 <= share <= 20 for share in self.closer):
            raise InvalidInput("closer views of a search", self.closer, "sizes of 1 to 20 hands")
        if not self.turns or not all(abs(turn) <= 180 for turn in self.turns):
            raise InvalidInput("turns of closer views", self.turns, "at least one, -180 to 180 degrees")
        if not 0 < self.same <= 1 or not 0 <= self.agree <= 1:
            raise InvalidInput("search settings", f"same {self.same}, agree {self.agree}", "0 to 1")


@dataclass(frozen=True)
class View:
    """A square of a picture, `side` pixels wide from (left, top), which may lie outside; mirrored, then turned about
    its middle by `turn` degrees, where that is said."""

    left: int
    top: int
    side: int
    mirrored: bool = False
    turn: float = 0.0

    def cut(self, picture: Picture) -> Picture:
        """What the view shows (side, side, 3), black outside the picture."""
        matrix, shift = self._map()
        whole = np.concatenate([matrix, shift[:, None]], axis=1)
        return np.asarray(cv2.warpAffine(picture, whole, (self.side, self.side), flags=cv2.INTER_LINEAR), np.uint8)

    def put_back(self, hand: HandDetection) -> HandDetection:
        """A hand found in the view as a hand of the picture."""
        matrix, shift = self._map()
        metres = hand.metres
        if metres is not None:
            metres = np.concatenate([metres[:, :2] @ matrix, metres[:, 2:]], axis=1)
        side = SIDES[1 - SIDES.index(hand.side)] if self.mirrored else hand.side
        return replace(hand, side=side, points=(hand.points - shift) @ matrix, metres=metres)

    def _map(self) -> tuple[Floats, Floats]:
        """Matrix (2, 2), whose inverse is its transpose, and shift (2,) from pixels of the picture to the view's."""
        angle, half = np.radians(self.turn), (self.side - 1) / 2
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = turn * ((-1.0 if self.mirrored else 1.0), 1.0)
        return matrix, half - matrix @ (self.left + half, self.top + half)


@dataclass(frozen=True)
class SearchingDetector:
    """A `HandDetector` that looks at many views of a picture. `look`: of one view; `title`: what looks."""

    look: Look
    title: str
    settings: SearchSettings = SearchSettings()

    @property
    def name(self) -> str:
        """What looks, and how."""
        return f"{self.title}, {self.settings}"

    def detect(self, frame: int, picture: Picture, near: Box | None = None) -> tuple[HandDetection, ...]:
        """The hands that enough views agree on; each once, the surest first."""
        height, width = picture.shape[:2]
        views = (
            _tiles(width, height, self.settings.tiles)
            if near is None
            else _closer(near, self.settings.closer, self.settings.turns)
        )
        finds = [view.put_back(hand) for view in views for hand in self.look(view.cut(picture))]
        hands: list[HandDetection] = []
        for group in _grouped(finds, self.settings.same):
            hand = self._looked_at_closely(picture, group)
            # Groups of one hand that a first, rough look took for two come to the same place.
            if hand is not None and all(apart(hand.points, known.points) > self.settings.same for known in hands):
                hands.append(hand)
        return tuple(sorted(hands, key=lambda hand: -hand.score))

    def _looked_at_closely(self, picture: Picture, group: Sequence[HandDetection]) -> HandDetection | None:
        """What the closer views around a group make of it, None where too few of them see it."""
        about = _median([hand.points for hand in group])
        views = tuple(_closer(box_of(about), self.settings.closer, self.settings.turns))
        seen = []
        for view in views:
            found = [view.put_back(hand) for hand in self.look(view.cut(picture))]
            nearest = min(found, key=lambda hand: apart(hand.points, about), default=None)
            if nearest is not None and apart(nearest.points, about) <= self.settings.same:
                seen.append(nearest)
        if len(seen) < max(self.settings.agree * len(views), 1):
            return None
        return _agreed(seen, len(views))


@dataclass(frozen=True)
class PlainDetector:
    """A `HandDetector` that looks once, at the whole picture: for detectors that search it themselves. `look`: of a
    picture; `title`: what looks; closer: side of the view of a second look, in the longer side of the box."""

    look: Look
    title: str
    closer: float = 3.0

    @property
    def name(self) -> str:
        """What looks, and how."""
        return f"{self.title}, once, closer {self.closer:g}"

    def detect(self, frame: int, picture: Picture, near: Box | None = None) -> tuple[HandDetection, ...]:
        """What the detector says of the picture, or of a square around a box."""
        if near is None:
            return tuple(self.look(picture))
        view = next(_closer(near, (self.closer,), (0.0,)))
        return tuple(view.put_back(hand) for hand in self.look(view.cut(picture)))


def _agreed(seen: Sequence[HandDetection], views: int) -> HandDetection:
    """One hand of those that several views saw: the side most sure of itself, medians of the points."""
    votes = {side: sum(hand.score for hand in seen if hand.side == side) for side in SIDES}
    side = max(SIDES, key=lambda name: votes[name])
    spaces = [hand.metres for hand in seen if hand.metres is not None]
    return HandDetection(
        side,
        votes[side] / len(seen),
        _median([hand.points for hand in seen]),
        _median(spaces) if spaces else None,
        agreed=(len(seen), views),
    )


def _grouped(finds: Sequence[HandDetection], same: float) -> list[list[HandDetection]]:
    """Finds of one hand together; larger groups first."""
    groups: list[list[HandDetection]] = []
    for find in sorted(finds, key=lambda hand: -hand.score):
        near = [(apart(find.points, _median([hand.points for hand in group])), group) for group in groups]
        distance, group = min(near, key=lambda pair: pair[0], default=(np.inf, None))
        if group is not None and distance <= same:
            group.append(find)
        else:
            groups.append([find])
    return sorted(groups, key=lambda group: -len(group))


def _median(points: Sequence[Floats]) -> Floats:
    return np.asarray(np.median(np.stack(points), axis=0), dtype=np.float64)


def _tiles(width: int, height: int, shares: Sequence[float]) -> Iterator[View]:
    """Squares of each size that cover the picture, neighbours sharing half their width or more."""
    for share in shares:
        side = max(round(min(width, height) * share), 1)
        lefts, tops = (_starts(length, side) for length in (width, height))
        yield from (View(left, top, side) for top in tops for left in lefts)


def _starts(length: int, side: int) -> list[int]:
    count = -(-2 * (length - side) // side) + 1
    return [round(start) for start in np.linspace(0, length - side, count)]


def _closer(box: Box, shares: Sequence[float], turns: Sequence[float]) -> Iterator[View]:
    x, y = box.centre
    for share in shares:
        side = max(round(box.size * share), 16)
        for turn in turns:
            for mirrored in (False, True):
                yield View(round(x - side / 2), round(y - side / 2), side, mirrored, turn)
