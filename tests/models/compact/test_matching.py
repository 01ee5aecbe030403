"""Objects are found again across views, and stand where they stand."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import numpy as np
import pytest

from tests.models.compact.two_views import BLUE, GREEN, RED, cameras, picture, projections, slots_of
from vap_sim.models.compact.matching import Thing, match, pieces_of

SCENE = (((0.42, 0.12, 0.03), RED), ((0.55, -0.1, 0.03), BLUE), ((0.45, -0.02, 0.18), GREEN))  # the last one is held


def things(shown: Sequence[Sequence[int]], order: Sequence[int] | None = None, table: float = 0.0) -> list[Thing]:
    """Of the scene, of which each view shows the boxes with these numbers; order: of views."""
    views = cameras(len(shown))
    order = range(len(shown)) if order is None else order
    views, shown = [views[n] for n in order], [shown[n] for n in order]
    pieces = []
    for view, (camera, numbers) in enumerate(zip(views, shown, strict=True)):
        pieces += pieces_of(slots_of(picture(camera, [SCENE[n] for n in numbers])), view)
    return match(pieces, projections(views).double().numpy(), table)


def nearest(thing: Thing) -> tuple[int, float]:
    """The box that a thing is nearest to, and how far [m]."""
    off = [float(np.linalg.norm(thing.position - np.array(middle))) for middle, _ in SCENE]
    return int(np.argmin(off)), min(off)


def test_what_all_views_show_is_one_object_each_in_its_place() -> None:
    found = things([(0, 1, 2)] * 3)
    assert len(found) == 3 and all(len(thing.slots) == 3 for thing in found)
    assert {nearest(thing)[0] for thing in found} == {0, 1, 2}
    assert max(nearest(thing)[1] for thing in found) < 0.008


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_order_of_views_does_not_matter(order: tuple[int, ...]) -> None:
    shown = [(0, 1, 2), (0, 2), (1, 0)]
    plain, turned = things(shown), things(shown, order)
    assert [len(thing.slots) for thing in plain] == [len(thing.slots) for thing in turned]
    for one, other in zip(plain, turned, strict=True):
        assert np.allclose(one.position, other.position, atol=1e-9)
        assert set(one.slots) == {order[view] for view in other.slots}


def test_what_one_view_shows_stands_on_the_table() -> None:
    found = things([(0, 1), (1,)])
    alone = next(thing for thing in found if len(thing.slots) == 1)
    number, off = nearest(alone)
    assert number == 0 and off < 0.025


def test_the_height_of_the_table_matters_to_it() -> None:
    low, high = (things([(0,), ()], table=height)[0].position for height in (0.0, 0.1))
    assert high[2] - low[2] > 0.05


def test_things_of_one_color_are_told_apart_by_where_they_are() -> None:
    views = cameras(2)
    scene = [((0.42, 0.15, 0.03), RED), ((0.5, -0.15, 0.03), RED)]
    pieces = [piece for view, camera in enumerate(views) for piece in pieces_of(slots_of(picture(camera, scene)), view)]
    found = match(pieces, projections(views).double().numpy(), 0.0)
    assert len(found) == 2 and all(len(thing.slots) == 2 for thing in found)
    for middle, _ in scene:
        assert min(np.linalg.norm(thing.position - np.array(middle)) for thing in found) < 0.01


def test_things_of_two_colors_in_one_place_are_two() -> None:
    """One view shows a red box, the other a green one, where lines of sight meet."""
    views = cameras(2)
    pieces = [
        piece
        for view, color in enumerate((RED, GREEN))
        for piece in pieces_of(slots_of(picture(views[view], [((0.45, 0.0, 0.03), color)])), view)
    ]
    assert len(match(pieces, projections(views).double().numpy(), 0.0)) == 2


def test_nothing_seen_is_nothing_found() -> None:
    assert things([(), ()]) == []
