"""Bootstrap over tasks and starts: what is drawn together, what the sums are, and that intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from vap_sim.errors import InvalidInput
from vap_sim.metrics.agreement import bias, mmrv, pearson
from vap_sim.metrics.report import Interval
from vap_sim.metrics.resampling import bootstrap, draw, percentile_interval, resampled_rates


def mean_bias(*, sim: np.ndarray, real: np.ndarray) -> float:
    return bias(sim=sim, real=real).mean


def outcomes(rng: np.random.Generator, rates: np.ndarray, starts: int) -> list[np.ndarray]:
    """Per task outcomes (P, S) of policies with the given rates (T, P)."""
    return [(rng.random((len(row), starts)) < row[:, None]).astype(float) for row in rates]


def test_draws_are_tasks_and_as_many_starts_as_the_task_has() -> None:
    draws = draw([4, 7, 1], resamples=200, seed=3)
    assert draws.task.shape == (200, 3)
    assert set(draws.task.ravel()) == {0, 1, 2}
    for index, size in enumerate((4, 7, 1)):
        weight = draws.weight[draws.task == index]
        assert (weight.sum(-1) == size).all()
        assert not weight[:, size:].any()
    again = draw([4, 7, 1], resamples=200, seed=3)
    assert (again.task == draws.task).all() and (again.weight == draws.weight).all()
    assert (draw([4, 7, 1], resamples=200, seed=4).weight != draws.weight).any()
    assert not draw([5], resamples=200).task.any()


def test_sums_are_those_of_the_starts_written_out() -> None:
    draws = draw([4, 7], resamples=100, seed=0)
    rng = np.random.default_rng(1)
    features = [rng.random((4, 3)), rng.random((7, 3))]
    sums, totals = draws.sums(features), draws.totals()
    for b in (0, 17, 99):
        for slot in range(2):
            task = draws.task[b, slot]
            rows = features[task].repeat(draws.weight[b, slot, : len(features[task])].astype(int), axis=0)
            assert sums[b, slot] == pytest.approx(rows.sum(0))
        told = sum(totals[task][b] @ features[task] for task in range(2))
        assert told == pytest.approx(sums[b].sum(0))


def test_equal_outcomes_in_equal_starts_have_no_bias_in_any_resample() -> None:
    told = outcomes(np.random.default_rng(2), np.full((3, 5), 0.5), 20)
    paired = bootstrap(mean_bias, sim=told, real=told, paired=True, resamples=200)
    assert (paired.low, paired.high) == (0, 0)
    apart = bootstrap(mean_bias, sim=told, real=told, paired=False, resamples=200)
    assert apart.low < 0 < apart.high


def test_apart_sim_and_real_share_their_tasks() -> None:
    """Rates that depend on the task alone stay equal, whatever starts are drawn."""
    rates = [np.full((2, 6), value) for value in (0.0, 1.0)]
    sim, real = resampled_rates(sim=rates, real=[row[:, :4] for row in rates], paired=False, resamples=100, seed=0)
    assert (sim == real).all()
    assert set(sim.mean((1, 2))) == {0, 0.5, 1}


def test_trials_without_an_outcome_count_on_neither_side() -> None:
    told = np.array([[1, 0, np.nan, np.nan], [1, 1, 1, 0]])
    sim, _ = resampled_rates(sim=[told], real=[told], paired=True, resamples=400, seed=0)
    draws = draw([4], resamples=400, seed=0)
    answered = draws.weight[:, 0, :2].sum(-1)
    with np.errstate(invalid="ignore"):
        assert sim[:, 0, 0] == pytest.approx(draws.weight[:, 0, 0] / answered, nan_ok=True)
    assert np.isnan(sim[:, 0, 0]).sum() == (answered == 0).sum() > 0


def test_more_starts_or_more_tasks_make_it_shorter_and_the_seed_makes_it_again() -> None:
    rng = np.random.default_rng(5)
    rates = np.linspace(0.1, 0.9, 6)[None].repeat(8, 0)

    def width(tasks: int, starts: int, seed: int = 0) -> float:
        sim, real = outcomes(rng, rates[:tasks], starts), outcomes(rng, rates[:tasks], starts)
        told = bootstrap(mean_bias, sim=sim, real=real, paired=True, resamples=400, seed=seed)
        assert told == bootstrap(mean_bias, sim=sim, real=real, paired=True, resamples=400, seed=seed)
        return told.high - told.low

    assert width(8, 50) < 0.6 * width(8, 10)
    assert width(8, 20) < 0.8 * width(2, 20)


def bias_interval(sim: list[np.ndarray], real: list[np.ndarray], seed: int) -> Interval:
    """As `bootstrap` of the mean bias, computed for all resamples at once."""
    rates = resampled_rates(sim=sim, real=real, paired=True, resamples=200, seed=seed)
    return percentile_interval((rates[0] - rates[1]).mean((1, 2)), seed=seed)


def test_the_interval_of_one_tasks_bias_covers_the_truth_nineteen_times_of_twenty() -> None:
    rng, held, repeats = np.random.default_rng(6), 0, 400
    rates = np.linspace(0.2, 0.9, 6)[None]
    for seed in range(repeats):
        sim, real = outcomes(rng, rates, 50), outcomes(rng, rates - 0.1, 50)
        told = bias_interval(sim, real, seed)
        held += told.low <= 0.1 <= told.high
        if not seed:
            slow = bootstrap(mean_bias, sim=sim, real=real, paired=True, resamples=200)
            assert (slow.low, slow.high) == pytest.approx((told.low, told.high))
    assert held / repeats == pytest.approx(0.95, abs=0.03)


def test_over_many_tasks_it_covers_the_bias_of_the_tasks_they_were_drawn_from() -> None:
    """Starts alone would not: here the tasks differ by much more than the starts of each."""
    rng, held, held_by_starts, repeats = np.random.default_rng(7), 0, 0, 200
    for seed in range(repeats):
        gap = rng.normal(0.05, 0.1, size=(16, 1))
        real = rng.uniform(0.3, 0.7, size=(16, 4))
        sim, true = outcomes(rng, np.clip(real + gap, 0, 1), 20), outcomes(rng, real, 20)
        told = bias_interval(sim, true, seed)
        held += told.low <= 0.05 <= told.high
        fixed = bias_interval([np.concatenate(sim, 1)], [np.concatenate(true, 1)], seed)
        held_by_starts += fixed.low <= 0.05 <= fixed.high
    assert held / repeats == pytest.approx(0.95, abs=0.045)
    assert held_by_starts < held - 0.1 * repeats


def test_correlations_and_violations_have_intervals_that_hold_their_value() -> None:
    rng = np.random.default_rng(8)
    rates = np.linspace(0.05, 0.95, 12)[None].repeat(3, 0)
    sim, real = outcomes(rng, rates, 50), outcomes(rng, rates, 50)
    for statistic in (pearson, mmrv):
        told = bootstrap(statistic, sim=sim, real=real, paired=True, resamples=300)
        rows = np.stack([one.mean(1) for one in sim]).mean(0), np.stack([one.mean(1) for one in real]).mean(0)
        value = statistic(sim=rows[0], real=rows[1])
        assert told.low <= value <= told.high or statistic is mmrv  # noise adds violations to a resample
        assert told.high - told.low < 0.1
        assert "300 resamples" in told.method


def test_what_cannot_be_told_is_no_interval() -> None:
    same = [np.ones((4, 10))]
    with pytest.raises(InvalidInput, match="resamples of pearson: given 100 % of them undefined, expected 5 % at most"):
        bootstrap(pearson, sim=same, real=same, paired=True, resamples=100)
    values = np.arange(100.0)
    values[:4] = np.nan
    assert "4 undefined" in percentile_interval(values).method
    values[:6] = np.nan
    with pytest.raises(InvalidInput, match="6 % of them undefined"):
        percentile_interval(values)
    one, two = np.ones((4, 10)), np.ones((4, 9))
    with pytest.raises(InvalidInput, match="paired outcomes"):
        bootstrap(mean_bias, sim=[one], real=[two], paired=True)
    with pytest.raises(InvalidInput, match="sim 1 and real 2 tasks"):
        bootstrap(mean_bias, sim=[one], real=[one, one], paired=True)
    with pytest.raises(InvalidInput, match="at least one task"):
        draw([])
    with pytest.raises(InvalidInput, match="at least 100"):
        draw([5], resamples=10)
    with pytest.raises(InvalidInput, match=r"\[3\] starts a task, expected \[4\]"):
        draw([4], resamples=100).sums([np.ones((3, 1))])
