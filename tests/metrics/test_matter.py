"""Drift of pictures: objects may move and hide, but matter must neither come nor go."""

from __future__ import annotations

import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.metrics.detector import BODY_CLASSES, ROBOT, class_number
from vap_sim.metrics.matter import Matter

RED, BLUE = class_number("red"), class_number("blue")


def scene(*boxes: tuple[int, int, int, int, int]) -> torch.Tensor:
    """Labels (1, 32, 32); boxes: what, x, y, width, height, the later ones in front."""
    labels = torch.zeros(1, 32, 32, dtype=torch.uint8)
    for what, x, y, width, height in boxes:
        labels[0, y : y + height, x : x + width] = what
    return labels


START = scene((RED, 4, 4, 6, 6), (BLUE, 20, 20, 4, 6))


def drift(*pictures: torch.Tensor) -> float:
    matter = Matter.begin(START)
    for picture in pictures:
        matter = matter.after(picture)
    return float(matter.drift())


def test_nothing_drifts_where_objects_rest_or_move_or_are_hidden_for_a_while() -> None:
    moved = scene((RED, 14, 9, 6, 6), (BLUE, 20, 20, 4, 6))
    arm = scene((RED, 4, 4, 6, 6), (BLUE, 20, 20, 4, 6), (ROBOT, 0, 0, 12, 12))
    assert float(Matter.begin(START).drift()) == 0
    assert drift(START) == drift(moved) == drift(arm) == drift(arm, arm, START) == 0


@pytest.mark.parametrize(("size", "doublings"), [((6, 3), 1), ((6, 12), 1), ((3, 3), 2)])
def test_drift_counts_doublings_of_the_area(size: tuple[int, int], doublings: float) -> None:
    assert drift(scene((RED, 4, 4, *size), (BLUE, 20, 20, 4, 6))) == pytest.approx(doublings)


def test_the_color_that_changed_most_tells() -> None:
    assert drift(scene((RED, 4, 4, 6, 3), (BLUE, 20, 20, 2, 3))) == pytest.approx(2)


def test_what_is_gone_when_the_robot_withdraws_is_lost() -> None:
    arm = scene((BLUE, 20, 20, 4, 6), (ROBOT, 0, 0, 12, 12))
    gone = scene((BLUE, 20, 20, 4, 6))
    assert drift(arm) == 0
    assert drift(arm, gone) > 3


def test_crumbs_and_colors_that_were_not_there_at_first_do_not_count() -> None:
    green = class_number("green")
    begun = Matter.begin(scene((RED, 4, 4, 6, 6), (BLUE, 20, 20, 3, 3)))
    assert float(begun.after(scene((RED, 4, 4, 6, 6), (green, 0, 20, 6, 8))).drift()) == 0


def test_a_drawer_that_slides_out_is_no_matter_that_came() -> None:
    drawer = BODY_CLASSES.index("drawer")
    shut, out = (scene((RED, 4, 4, 6, 6), (drawer, 16, 4, 12, height)) for height in (3, 12))
    assert float(Matter.begin(shut).after(out).drift()) == 0


def test_pictures_drift_alone_as_together() -> None:
    other = scene((RED, 4, 4, 6, 3), (BLUE, 20, 20, 4, 6))
    together = Matter.begin(torch.cat([START, START])).after(torch.cat([START, other])).drift()
    assert together.tolist() == [drift(START), drift(other)]


def test_labels_of_another_kind_are_refused() -> None:
    with pytest.raises(InvalidInput, match="numbers below"):
        Matter.begin(START + 100)
    with pytest.raises(InvalidInput, match=r"labels: given \(1, 16, 32\)"):
        Matter.begin(START).after(START[:, :16])
