"""Planners by law: they find optima, keep bounds, answer to keys alone, and a row does not see its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vap_sim.errors import InvalidInput
from vap_sim.policies.planners import CEM, ICEM, MPPI, Blind, Floats, Planner, Prior, colored_noise

STEPS, SIZE = 5, 2
GOALS = np.random.default_rng(3).uniform(-0.7, 0.7, (3, STEPS, SIZE))
LOW, HIGH = np.full((STEPS, SIZE), -1.0), np.full((STEPS, SIZE), 1.0)
PLANNERS: dict[str, Planner] = {
    "cem": CEM(candidates=100, elites=10, iterations=12),
    "icem": ICEM(candidates=200, elites=10, iterations=12, color=0.5, decay=1.1),
    "mppi": MPPI(candidates=400, iterations=12, temperature=0.02),
}


def bowl(goals: Floats) -> Callable[[Floats], Floats]:
    """Mean squared distance from one goal a row."""
    return lambda drawn: np.square(drawn - goals[:, None]).mean((2, 3))


def priors(rows: int) -> Prior:
    one = Prior.of(LOW, HIGH, std=0.4 * HIGH)
    return Prior(*(np.repeat(getattr(one, name), rows, axis=0) for name in ("low", "high", "mean", "std", "kept")))


@pytest.mark.parametrize("name", PLANNERS)
def test_finds_the_lowest_point(name: str) -> None:
    found = PLANNERS[name].search(bowl(GOALS), priors(3), [0, 1, 2])
    start = np.square(GOALS).mean((1, 2))
    assert (bowl(GOALS)(found.mean[:, None])[:, 0] < 0.03 * start).all()
    assert (found.cost < 0.1 * start).all()
    assert np.array_equal(found.cost, bowl(GOALS)(found.best[:, None])[:, 0])


@pytest.mark.parametrize("name", PLANNERS)
def test_stays_within_bounds_and_reaches_them(name: str) -> None:
    seen: list[Floats] = []

    def outside(drawn: Floats) -> Floats:
        seen.append(drawn)
        return np.square(drawn - 3.0).mean((2, 3))

    found = PLANNERS[name].search(outside, priors(1), [0])
    every = np.concatenate(seen, axis=1)
    assert every.min() >= -1 and every.max() <= 1
    assert found.best.min() > 0.4 and found.mean.max() <= 1


@pytest.mark.parametrize("name", PLANNERS)
def test_a_row_alone_equals_the_row_in_a_batch(name: str) -> None:
    planner = PLANNERS[name]
    if not isinstance(planner, MPPI):
        planner = replace(planner, enough=0.02)  # rows that stop early must not hear of those that do not
    together = planner.search(bowl(GOALS), priors(3), [5, 6, 7])
    for row in range(3):
        alone = planner.search(bowl(GOALS[row : row + 1]), priors(1), [5 + row])
        for field in ("best", "cost", "mean", "std", "kept", "scored"):
            assert np.array_equal(getattr(alone, field)[0], getattr(together, field)[row]), field


@pytest.mark.parametrize("name", PLANNERS)
def test_answers_to_its_key_alone(name: str) -> None:
    found = [PLANNERS[name].search(bowl(GOALS[:1]), priors(1), [key]).best for key in (4, 4, 5)]
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("name", ["cem", "mppi"])
def test_does_not_see_the_order_of_candidates(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means of the best, and weighted means of all, are sums: candidates in another order change but the rounding."""
    plain = PLANNERS[name].search(bowl(GOALS[:1]), priors(1), [4])

    def turned(*args: object) -> Floats:
        return colored_noise(*args)[:, ::-1]  # type: ignore[arg-type]

    monkeypatch.setattr("vap_sim.policies.planners.colored_noise", turned)
    again = PLANNERS[name].search(bowl(GOALS[:1]), priors(1), [4])
    assert again.mean == pytest.approx(plain.mean, abs=1e-9)
    assert again.best == pytest.approx(plain.best, abs=1e-9)


def test_mppi_becomes_the_best_candidate_when_cold_and_the_plain_mean_when_hot() -> None:
    cold = MPPI(candidates=50, temperature=1e-9).search(bowl(GOALS[:1]), priors(1), [1])
    one_elite = CEM(candidates=49, elites=1, iterations=1).search(bowl(GOALS[:1]), priors(1), [1])
    assert cold.mean == pytest.approx(cold.best)
    assert cold.cost[0] <= one_elite.cost[0]
    hot = MPPI(candidates=51, temperature=1e9).search(bowl(GOALS[:1]), priors(1), [1])
    every = CEM(candidates=50, elites=50, iterations=1).search(bowl(GOALS[:1]), priors(1), [1])
    # MPPI also counts the old mean, zero, as one of its 51 candidates.
    assert hot.mean * 51 / 50 == pytest.approx(every.mean)


def test_icem_without_its_refinements_is_cem() -> None:
    plain = ICEM(candidates=40, elites=6, iterations=1, color=0.0, decay=1.0, keep=0.0, momentum=0.0)
    found, same = (p.search(bowl(GOALS), priors(3), [0, 1, 2]) for p in (plain, CEM(40, 6, 1)))
    # Its last iteration tries the mean in place of one drawn candidate.
    assert plain.keeps == 0
    assert found.mean == pytest.approx(same.mean, abs=0.3)
    assert found.scored.tolist() == [40] * 3


def test_warm_start_moves_plans_on_and_tries_them_again() -> None:
    planner, prior = ICEM(candidates=60, elites=10, iterations=3), priors(1)
    found = planner.search(bowl(GOALS[:1]), prior, [0])
    warm = prior.warmed(found.mean, found.kept, 2)
    assert np.array_equal(warm.mean[:, :3], found.mean[:, 2:])
    assert not warm.mean[:, 3:].any()
    assert warm.kept.shape == (1, planner.keeps, STEPS, SIZE)
    tried: list[Floats] = []

    def score(drawn: Floats) -> Floats:
        tried.append(drawn)
        return bowl(GOALS[:1])(drawn)

    planner.search(score, warm, [1])
    assert np.array_equal(tried[0][:, : planner.keeps], np.clip(warm.kept, -1, 1))
    assert [len(drawn[0]) for drawn in tried] == [60, 48, 38]
    last = prior.warmed(found.mean, found.kept, STEPS + 1)
    assert np.array_equal(last.mean, prior.mean)


def test_stops_early_when_it_has_enough() -> None:
    planner = CEM(candidates=50, elites=5, iterations=20, enough=0.05)
    found = planner.search(bowl(GOALS), priors(3), [0, 1, 2])
    assert (found.cost <= 0.05).all()
    assert (found.scored < 1000).all()


def test_colored_noise_has_unit_variance_and_its_spectrum() -> None:
    for steps in (2, 7, 16):
        for color in (0.0, 1.0, 2.0):
            noise = colored_noise([0], 0, (4000, steps, 2), color)
            assert noise.std() == pytest.approx(1, rel=0.05)
            assert noise.shape == (1, 4000, steps, 2)
    power = np.square(np.abs(np.fft.rfft(colored_noise([0], 0, (4000, 16, 1), 2.0)[0, :, :, 0]))).mean(0)
    assert power[1] / power[4] == pytest.approx(16, rel=0.15)  # four times the frequency, power -2


def test_blind_draws_evenly_and_asks_nobody() -> None:
    def never(_drawn: Floats) -> Floats:
        raise AssertionError("scored")

    found = Blind().search(never, priors(3), [0, 1, 2])
    assert np.isinf(found.cost).all()
    assert np.abs(found.best).max() <= 1 and found.best.std() == pytest.approx(1 / np.sqrt(3), abs=0.15)
    assert np.array_equal(found.best[1], Blind().search(never, priors(1), [1]).best[0])


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: CEM(candidates=4, elites=5), "budget of CEM: given 4 candidates, 5 elites, 4 iterations"),
        (lambda: ICEM(iterations=0), "budget of iCEM"),
        (lambda: ICEM(decay=0.5), "decay and color of iCEM"),
        (lambda: CEM(momentum=1.5), "momentum: given 1.5, expected a share"),
        (lambda: MPPI(temperature=0.0), "temperature and color of MPPI"),
        (lambda: Prior.of(HIGH, LOW), "low above high"),
        (
            lambda: Prior.of(LOW, HIGH, mean=np.full((STEPS, SIZE), np.nan)),
            "mean of a prior: given a value that is not",
        ),
        (lambda: Prior.of(LOW, HIGH, std=np.ones((2, 2))), r"std of a prior: given shape \(1, 2, 2\)"),
    ],
)
def test_settings_that_make_no_sense_are_named(make: Callable[[], object], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make()


@pytest.mark.parametrize("name", PLANNERS)
def test_costs_that_are_none_are_named(name: str) -> None:
    def holed(drawn: Floats) -> Floats:
        costs = bowl(GOALS[:1])(drawn)
        costs[0, 3] = np.nan
        return costs

    with pytest.raises(InvalidInput, match="cost of candidate 3 of row 0: given nan, expected a finite number"):
        PLANNERS[name].search(holed, priors(1), [0])
    with pytest.raises(InvalidInput, match=r"costs of candidates: given shape \(1,\)"):
        PLANNERS[name].search(lambda drawn: drawn[:, 0, 0, 0], priors(1), [0])
