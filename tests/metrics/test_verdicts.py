"""Answers against labels: every episode counts once, silence is neither right nor wrong, shares of nothing raise."""

from __future__ import annotations

import numpy as np
import pytest

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.metrics.verdicts import Confusion, auroc, confusion

TRUTH = [True] * 6 + [False] * 10
TOLD = ["yes"] * 4 + ["no"] + ["cannot tell"] + ["yes"] * 2 + ["no"] * 6 + ["cannot tell"] * 2


def test_every_episode_is_counted_once_and_in_any_order() -> None:
    told = confusion(told=TOLD, truth=TRUTH)
    assert told == Confusion(4, 1, 1, 2, 6, 2)
    assert (told.answered, told.episodes) == (13, 16)
    order = np.random.default_rng(0).permutation(16)
    assert confusion(told=[TOLD[i] for i in order], truth=[TRUTH[i] for i in order]) == told
    assert confusion(told=[{"yes": True, "no": False}.get(one) for one in TOLD], truth=TRUTH) == told
    assert confusion(told=np.array(TRUTH), truth=np.array(TRUTH)) == Confusion(6, 0, 0, 0, 10, 0)


def test_shares_are_of_what_they_say() -> None:
    told = confusion(told=TOLD, truth=TRUTH)
    assert told.accuracy == 10 / 13
    assert told.recall_on_failures == 6 / 8
    assert told.share("recall_on_successes") == 4 / 5
    assert told.share("precision_of_failures") == 6 / 7
    assert told.optimism == 1 - told.recall_on_failures
    assert told.pessimism == 1 / 5
    assert told.abstention == 3 / 16


def test_shares_of_nothing_raise() -> None:
    told = confusion(told=["yes", "cannot tell"], truth=[True, False])
    assert told.accuracy == 1
    for name in ("recall_on_failures", "optimism", "precision_of_failures"):
        with pytest.raises(InvalidInput, match=f"{name}: given no such episodes"):
            told.share(name)
    with pytest.raises(InvalidInput, match="abstention"):
        _ = confusion(told=[], truth=[]).abstention
    with pytest.raises(UnknownName, match="Did you mean 'optimism'"):
        told.share("optimizm")


def test_foreign_answers_and_labels_are_named() -> None:
    with pytest.raises(UnknownName, match=r"unknown verdict 'Yes'\. Did you mean 'yes'"):
        confusion(told=["Yes"], truth=[True])
    with pytest.raises(UnknownName, match=r"unknown verdict 1\.0"):
        confusion(told=[1.0], truth=[True])  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match="label: given None"):
        confusion(told=["yes"], truth=[None])  # type: ignore[list-item]
    with pytest.raises(InvalidInput, match="1 for 2 labels"):
        confusion(told=["yes"], truth=[True, False])


def by_pairs(score: np.ndarray, event: np.ndarray) -> float:
    gap = np.sign(score[event][:, None] - score[~event])
    return float((gap + 1).mean() / 2)


def test_auroc_is_the_share_of_pairs_in_order_and_laws_follow() -> None:
    rng = np.random.default_rng(1)
    for _ in range(30):
        score, event = rng.integers(0, 8, 25) / 8, rng.random(25) < 0.4
        found = auroc(score=score, event=event)
        assert found == pytest.approx(by_pairs(score, event))
        assert auroc(score=np.exp(score), event=event) == pytest.approx(found)
        assert auroc(score=-score, event=event) == pytest.approx(1 - found)
        assert auroc(score=score, event=~event) == pytest.approx(1 - found)
        times = rng.integers(0, 4, 25)
        times[[int(event.argmax()), int(event.argmin())]] = 1
        again = auroc(score=score.repeat(times), event=event.repeat(times))
        assert auroc(score=score, event=event, weight=times) == pytest.approx(again)
    assert auroc(score=[0, 1, 2, 3], event=[False, False, True, True]) == 1
    assert auroc(score=[1, 1, 1], event=[True, False, True]) == 0.5


def test_auroc_of_one_kind_alone_or_of_no_numbers_raises() -> None:
    with pytest.raises(InvalidInput, match="0 episodes with the event, 2 without"):
        auroc(score=[0.1, 0.2], event=[False, False])
    with pytest.raises(InvalidInput, match="no finite numbers"):
        auroc(score=[0.1, np.nan], event=[True, False])
    with pytest.raises(InvalidInput, match="bools"):
        auroc(score=[0.1, 0.2], event=[0.0, 1.0])  # type: ignore[list-item]
