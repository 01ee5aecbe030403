"""Looking at many views of a picture: where they lie, that mirrors come back, and that agreement decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from tests.extraction.hand_figures import hand
from vap_sim.errors import InvalidInput
from vap_sim.extraction.hand_detection import Box, HandDetection, apart
from vap_sim.extraction.hand_search import PlainDetector, SearchingDetector, SearchSettings, View

SIZE = (480, 320)


def numbered() -> np.ndarray:
    """A picture whose first two channels tell where a pixel is."""
    y, x = np.mgrid[: SIZE[1], : SIZE[0]]
    return np.stack([x // 2, y // 2, np.full_like(x, 255)], axis=-1).astype(np.uint8)


@dataclass
class Seer:
    """Sees `hands` in views of `numbered()`, to the even pixel, where they lie inside and are between 1/8 and 1/1.5 of
    the view's size; mirrored views show a hand of the other side. `shows`: whether a view, by its number, shows
    anything."""

    hands: Sequence[HandDetection]
    shows: object = None
    views: list[np.ndarray] = field(default_factory=list)

    def __call__(self, view: np.ndarray) -> tuple[HandDetection, ...]:
        self.views.append(view)
        if callable(self.shows) and not self.shows(len(self.views) - 1):
            return ()
        known = np.argwhere(view[..., 2] == 255)
        if not len(known):
            return ()
        row, column = known[0]
        step = int(view[row, known[-1][1], 0]) - int(view[row, column, 0])
        mirrored = step < 0
        shown = view[:, ::-1] if mirrored else view
        row, column = np.argwhere(shown[..., 2] == 255)[0]
        left = 2 * int(shown[row, column, 0]) - int(column)
        top = 2 * int(shown[row, column, 1]) - int(row)
        found = []
        for one in self.hands:
            points = one.points - (left, top)
            size = len(view)
            if (points < 0).any() or (points >= size).any() or not size / 8 < one.box.size < size / 1.5:
                continue
            side = one.side
            if mirrored:
                points = np.stack([size - 1 - points[:, 0], points[:, 1]], axis=1)
                side = {"left": "right", "right": "left"}[side]
            found.append(HandDetection(side, one.score, points))
        return tuple(found)


HANDS = (hand(120, 200, "left", size=50), hand(380, 260, "right", size=70))


def test_both_hands_are_found_once_on_their_sides() -> None:
    seer = Seer(HANDS)
    found = sorted(SearchingDetector(seer, "seer").detect(0, numbered()), key=lambda one: one.points[0, 0])
    assert [one.side for one in found] == ["left", "right"]
    for got, expected in zip(found, HANDS, strict=True):
        assert apart(got.points, expected.points) < 0.05
        assert got.agreed[1] == 6
        assert got.agreed[0] >= 4


def test_closer_views_may_be_turned_as_well() -> None:
    seer = Seer(HANDS)
    (found,) = SearchingDetector(seer, "seer", SearchSettings(turns=(-90.0, 0.0))).detect(0, numbered(), HANDS[0].box)
    assert found.agreed[1] == 12


def test_what_only_a_first_look_saw_is_no_hand() -> None:
    detector = SearchingDetector(Seer(HANDS, shows=lambda number: number < 14), "seer")
    tiles = Seer(())
    SearchingDetector(tiles, "seer").detect(0, numbered())
    assert len(tiles.views) <= 14
    assert detector.detect(0, numbered()) == ()


def test_a_second_look_looks_around_the_box_alone() -> None:
    seer = Seer(HANDS)
    (found,) = SearchingDetector(seer, "seer").detect(0, numbered(), HANDS[0].box)
    assert found.side == "left"
    assert max(len(view) for view in seer.views) <= 5 * HANDS[0].box.size
    assert SearchingDetector(Seer(HANDS), "seer").detect(0, numbered(), Box(0, 0, 20, 20)) == ()


def test_tiles_cover_the_picture_and_overlap() -> None:
    seen = Seer(())
    SearchingDetector(seen, "seer", SearchSettings(tiles=(0.5,))).detect(0, numbered())
    assert {view.shape for view in seen.views} == {(160, 160, 3)}
    lefts = sorted({2 * int(view[0, 0, 0]) for view in seen.views})
    assert lefts[0] == 0
    assert lefts[-1] == 320
    assert max(np.diff(lefts)) <= 82


@pytest.mark.parametrize("mirrored", [False, True])
def test_views_put_back_what_they_show(mirrored: bool) -> None:
    view = View(-10, 250, 120, mirrored)
    shown = view.cut(numbered())
    assert shown.shape == (120, 120, 3)
    spot = np.argwhere((shown == (30, 140, 255)).all(-1))
    points = np.zeros((21, 2)) + spot.mean(0)[::-1]
    points[0] += (30, 0)
    metres = np.arange(63.0).reshape(21, 3)
    back = view.put_back(HandDetection("left", 0.5, points, metres))
    assert back.side == ("right" if mirrored else "left")
    np.testing.assert_allclose(back.points[1], (60.5, 280.5))
    assert back.metres is not None
    np.testing.assert_array_equal(back.metres, metres * (-1 if mirrored else 1, 1, 1))
    assert not shown[:, -5:].any() if mirrored else not shown[:, :5].any(), "black outside the picture"
    assert not shown[-5:].any()


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("turn", [-20.0, 35.0, 90.0])
def test_turned_views_put_back_what_they_show(mirrored: bool, turn: float) -> None:
    """A blob of the picture is found where it was, and the shape turns with its pixels."""
    picture = np.zeros((320, 480, 3), np.uint8)
    picture[199:202, 149:152] = 255
    view = View(100, 150, 120, mirrored, turn)
    rows, columns = np.nonzero(view.cut(picture)[..., 0] > 60)
    points = np.tile([columns.mean(), rows.mean()], (21, 1))
    points[1:] += 25 * np.stack([np.cos(np.arange(20)), np.sin(np.arange(20))], axis=1)
    metres = np.concatenate([0.001 * points, np.ones((21, 1))], axis=1)
    back = view.put_back(HandDetection("left", 0.5, points, metres))
    np.testing.assert_allclose(back.points[0], (150, 200), atol=0.3)
    assert back.side == ("right" if mirrored else "left")
    assert back.metres is not None
    np.testing.assert_allclose(np.diff(back.metres[:, :2], axis=0), 0.001 * np.diff(back.points, axis=0), atol=1e-12)
    np.testing.assert_array_equal(back.metres[:, 2], 1)


def test_a_plain_detector_looks_once() -> None:
    seer = Seer(HANDS)
    assert len(PlainDetector(lambda view: HANDS, "all").detect(0, numbered())) == 2
    (found,) = PlainDetector(seer, "seer").detect(0, numbered(), HANDS[1].box)
    assert len(seer.views) == 1
    assert apart(found.points, HANDS[1].points) < 0.05


@pytest.mark.parametrize(
    "values", [{"tiles": ()}, {"tiles": (2.0,)}, {"closer": (0.5,)}, {"turns": ()}, {"same": 0.0}, {"agree": 2.0}]
)
def test_impossible_settings(values: dict[str, object]) -> None:
    with pytest.raises(InvalidInput):
        SearchSettings(**values)  # type: ignore[arg-type]
