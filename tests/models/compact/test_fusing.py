"""Opinions of several views become one displacement, which is the true one where the views tell the truth."""

from __future__ import annotations

import numpy as np
import pytest

from tests.models.compact.two_views import cameras, projections
from vap_sim.models.compact.fusing import Opinions, displaced, fused_logit
from vap_sim.models.compact.geometry import Floats, see

START, STEP = np.array([0.45, 0.05, 0.03]), np.array([0.02, -0.03, 0.015])


def truthful(seen: Floats, logit: float = 5.0) -> Opinions:
    """What views would say of START going by STEP."""
    (old, deep), (new, deeper) = see(seen, START), see(seen, START + STEP)
    twist = np.stack([np.zeros(len(seen)), -np.log(deeper / deep)], axis=1)
    return Opinions(new - old, twist, np.full(len(seen), logit))


@pytest.mark.parametrize("views", (1, 2, 4))
def test_true_words_give_the_true_place(views: int) -> None:
    seen = projections(cameras(views)).double().numpy()
    assert np.allclose(displaced(seen, START, truthful(seen)), START + STEP, atol=1.5e-3)


def test_two_views_need_not_know_of_growth() -> None:
    seen = projections(cameras(2)).double().numpy()
    told = truthful(seen)
    blind = Opinions(told.shift, np.zeros_like(told.twist), told.logit)
    assert np.allclose(displaced(seen, START, blind), START + STEP, atol=3e-3)


def test_the_surer_view_counts_more() -> None:
    """One view says up, the other down, which no place fits."""
    seen = projections(cameras(2)).double().numpy()
    shift = np.array([[0.0, 6.0], [0.0, -6.0]])

    def miss(logit: tuple[float, float]) -> float:
        """By how much the first view does not get its will [px]."""
        moved = displaced(seen, START, Opinions(shift, np.zeros((2, 2)), np.array(logit)))
        return float(np.abs(see(seen, moved)[0][0] - see(seen, START)[0][0] - shift[0]).max())

    assert miss((6.0, -6.0)) < 0.3 < miss((6.0, 6.0)) < miss((-6.0, 6.0))


def test_the_order_of_views_does_not_matter() -> None:
    seen = projections(cameras(3)).double().numpy()
    told = truthful(seen)
    noisy = Opinions(
        told.shift + np.array([[1.0, 0.5], [-0.5, 2.0], [0.0, 0.3]]), told.twist, np.array([4.0, 1.0, -2.0])
    )
    turned = [2, 0, 1]
    other = Opinions(noisy.shift[turned], noisy.twist[turned], noisy.logit[turned])
    assert np.allclose(displaced(seen, START, noisy), displaced(seen[turned], START, other), atol=1e-12)
    assert fused_logit(noisy.logit) == fused_logit(other.logit)


def test_one_view_that_takes_passing_for_contact_is_outvoted() -> None:
    assert fused_logit(np.array([3.0, -6.0])) < 0 < fused_logit(np.array([5.0, 1.0]))
    assert fused_logit(np.array([2.5])) == 2.5


def test_no_opinion_throws_an_object_far_away() -> None:
    """Shifts that no place explains, of views that say opposite things."""
    seen = projections(cameras(2)).double().numpy()
    wild = Opinions(np.array([[30.0, 30.0], [30.0, -30.0]]), np.array([[0.0, 2.0], [0.0, -2.0]]), np.array([9.0, 9.0]))
    moved = displaced(seen, START, wild)
    assert np.isfinite(moved).all() and np.linalg.norm(moved - START) < 0.6
