"""Statistics of sim against real: laws, equality with scipy, SIMPLER's published tables, and named errors."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from vap_sim.errors import InvalidInput
from vap_sim.metrics import agreement
from vap_sim.metrics.agreement import (
    bias,
    fisher_interval,
    kendall,
    mmrv,
    mmrv_mirrored,
    pearson,
    slope_intercept,
    spearman,
    wilson_interval,
)

CORRELATIONS = (pearson, spearman, kendall)
VIOLATIONS = (mmrv, mmrv_mirrored)

# Success rates as SIMPLER publishes them (arXiv 2405.05941). Policies: RT-2-X, RT-1 converged, RT-1 at 15 %, RT-1-X,
# RT-1 at the beginning, Octo base; with WidowX RT-1-X, Octo base, Octo small. Then Pearson, MMRV (sim, real) and MMRV
# (real, sim) to four digits, found by running SIMPLER's own program on them.
SIMPLER = {
    "pick coke can": (
        (0.787, 0.857, 0.71, 0.567, 0.027, 0.17), (0.907, 0.853, 0.92, 0.76, 0.133, 0.293), (0.9754, 0.0313, 0.0618),
    ),
    "move near": (
        (0.779, 0.442, 0.354, 0.317, 0.05, 0.042), (0.733, 0.633, 0.583, 0.45, 0.017, 0.35), (0.8561, 0.111, 0.0027),
    ),
    "open drawer": ((0.157, 0.601, 0.463, 0.296, 0, 0.009), (0.333, 0.815, 0.704, 0.519, 0, 0.148), (0.9832, 0, 0)),
    "close drawer": (
        (0.343, 0.861, 0.667, 0.891, 0.278, 0.444), (0.63, 0.926, 0.889, 0.741, 0, 0.519), (0.7712, 0.1233, 0.1133),
    ),
    "apple in closed drawer": (
        (0.037, 0.065, 0.13, 0.213, 0, 0), (0.074, 0.185, 0.185, 0.407, 0, 0), (0.9692, 0, 0.0108),
    ),
    "spoon on towel": ((0, 0.125, 0.472), (0, 0.333, 0.417), (0.8269, 0, 0)),
    "carrot on plate": ((0.042, 0.083, 0.097), (0, 0.25, 0.083), (0.5714, 0.1113, 0.0093)),
    "stack cube": ((0, 0, 0.042), (0, 0, 0.125), (1, 0, 0)),
    "eggplant in basket": ((0, 0.431, 0.569), (0, 0.25, 0.4), (0.9894, 0, 0)),
}  # fmt: skip


def pairs(count: int = 40) -> list[tuple[np.ndarray, np.ndarray]]:
    """Rates of 3 to 12 policies, about half of them with ties."""
    rng = np.random.default_rng(0)
    found = []
    while len(found) < count:
        sim, real = rng.random((2, int(rng.integers(3, 13))))
        if len(found) % 2:
            sim, real = (sim * 4).round() / 4, (real * 4).round() / 4
        if np.ptp(sim) and np.ptp(real):
            found.append((sim, real))
    return found


@pytest.mark.parametrize("task", SIMPLER)
def test_simplers_tables_to_four_digits(task: str) -> None:
    sim, real, told = SIMPLER[task]
    found = (pearson(sim=sim, real=real), mmrv(sim=sim, real=real), mmrv_mirrored(sim=sim, real=real))
    # SIMPLER adds 1e-8 to Pearson's denominator, which the fifth digit does not show.
    assert tuple(round(value, 4) for value in found) == told


@pytest.mark.parametrize(("sim", "real"), pairs())
def test_equal_to_scipy(sim, real) -> None:
    assert pearson(sim=sim, real=real) == pytest.approx(stats.pearsonr(sim, real).statistic, abs=1e-12)
    assert spearman(sim=sim, real=real) == pytest.approx(stats.spearmanr(sim, real).statistic, abs=1e-12)
    assert kendall(sim=sim, real=real) == pytest.approx(stats.kendalltau(sim, real).statistic, abs=1e-12)
    line, other = slope_intercept(sim=sim, real=real), stats.linregress(real, sim)
    assert (line.slope, line.intercept) == pytest.approx((other.slope, other.intercept), abs=1e-12)


@pytest.mark.parametrize("statistic", [*CORRELATIONS, *VIOLATIONS], ids=lambda one: one.__name__)
def test_the_order_of_policies_is_irrelevant(statistic) -> None:
    rng = np.random.default_rng(1)
    for sim, real in pairs():
        order = rng.permutation(len(sim))
        assert statistic(sim=sim[order], real=real[order]) == pytest.approx(statistic(sim=sim, real=real), abs=1e-12)


def test_bounds_and_the_value_of_perfection() -> None:
    for sim, real in pairs():
        assert all(-1 <= statistic(sim=sim, real=real) <= 1 for statistic in CORRELATIONS)
        assert all(statistic(sim=real, real=real) == pytest.approx(1) for statistic in CORRELATIONS)
        assert all(statistic(sim=-real, real=real) == pytest.approx(-1) for statistic in CORRELATIONS)
        assert mmrv(sim=real, real=real) == mmrv_mirrored(sim=real, real=real) == 0
        assert 0 <= mmrv(sim=sim, real=real) <= np.ptp(real)
        assert 0 <= mmrv_mirrored(sim=sim, real=real) <= np.ptp(sim)


def test_what_leaves_which_statistic_as_it_is() -> None:
    for sim, real in pairs():
        assert pearson(sim=3 * sim - 7, real=real) == pytest.approx(pearson(sim=sim, real=real), abs=1e-10)
        assert pearson(sim=-2 * sim, real=real) == pytest.approx(-pearson(sim=sim, real=real), abs=1e-10)
        for statistic in (spearman, kendall):
            assert statistic(sim=np.exp(3 * sim), real=real**3) == pytest.approx(statistic(sim=sim, real=real))
        assert mmrv(sim=np.exp(3 * sim), real=real) == mmrv(sim=sim, real=real)
        assert mmrv(sim=sim, real=5 * real + 1) == pytest.approx(5 * mmrv(sim=sim, real=real))


def test_the_two_conventions_are_mirror_images_and_differ() -> None:
    assert all(mmrv(sim=sim, real=real) == mmrv_mirrored(sim=real, real=sim) for sim, real in pairs())
    assert any(mmrv(sim=sim, real=real) != mmrv_mirrored(sim=sim, real=real) for sim, real in pairs())


def test_a_tie_is_charged_on_one_side_alone() -> None:
    assert mmrv(sim=(0.5, 0.5), real=(0.1, 0.3)) == pytest.approx(0.1)
    assert mmrv(sim=(0.1, 0.3), real=(0.5, 0.5)) == 0


def test_known_rank_errors_cost_what_they_are_worth() -> None:
    real = np.arange(10) / 10
    for left, right in ((0, 1), (3, 7), (0, 9)):
        sim = real.copy()
        sim[[left, right]] = sim[[right, left]]
        gap = (right - left) / 10
        # The two that changed places are charged the whole gap; each one between them its distance to the farther.
        between = sum(max(k - left, right - k) / 10 for k in range(left + 1, right))
        assert mmrv(sim=sim, real=real) == pytest.approx((2 * gap + between) / 10)


def test_bias_counts_optimism_as_above_zero_and_the_line_runs_over_real() -> None:
    told = bias(sim=(0.5, 0.9, 0.1), real=(0.4, 0.6, 0.5))
    assert (told.mean, told.mean_size, told.largest) == pytest.approx((0.0, 0.8 / 3, -0.4))
    real = np.array([0.1, 0.4, 0.8])
    line = slope_intercept(sim=0.87 * real - 0.04, real=real)
    assert (line.slope, line.intercept) == pytest.approx((0.87, -0.04))
    assert slope_intercept(sim=(0.2, 0.2, 0.2), real=real).slope == pytest.approx(0)


@pytest.mark.parametrize(
    ("policies", "correlation", "low", "high"),
    [(5, 0.90, 0.09, 0.99), (7, 0.75, -0.01, 0.96), (7, 0.929, 0.59, 0.99)],
)
def test_fishers_interval_of_figures_that_peers_print_without(policies, correlation, low, high) -> None:
    told = fisher_interval(correlation=correlation, policies=policies)
    assert (round(told.low, 2), round(told.high, 2)) == (low, high)


@pytest.mark.parametrize("policies", [4, 12])
def test_fishers_interval_equals_scipys(policies) -> None:
    sim, real = np.random.default_rng(2).random((2, policies))
    told = fisher_interval(correlation=pearson(sim=sim, real=real), policies=policies, level=0.9)
    other = stats.pearsonr(sim, real).confidence_interval(0.9)
    assert (told.low, told.high) == pytest.approx((other.low, other.high))


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (0, 20), (7, 20), (20, 20), (49, 50)])
def test_wilsons_interval_equals_scipys_and_holds_the_share(successes, trials) -> None:
    told = wilson_interval(successes=successes, trials=trials)
    other = stats.binomtest(successes, trials).proportion_ci(0.95, "wilson")
    assert (told.low, told.high) == pytest.approx((other.low, other.high), abs=1e-9)
    assert 0 <= told.low <= successes / trials <= told.high <= 1
    assert told.low < told.high


def test_fishers_interval_covers_the_true_correlation_nineteen_times_of_twenty() -> None:
    rng, true, held = np.random.default_rng(3), 0.8, 0
    for _ in range(600):
        real, noise = rng.normal(size=(2, 12))
        found = pearson(sim=true * real + np.sqrt(1 - true**2) * noise, real=real)
        told = fisher_interval(correlation=found, policies=12)
        held += told.low <= true <= told.high
    assert held / 600 == pytest.approx(0.95, abs=0.025)


def test_wilsons_interval_covers_the_true_rate_about_as_often_as_it_says() -> None:
    rates = np.linspace(0.05, 0.95, 19)
    held = 0.0
    for rate in rates:
        for successes in range(51):
            told = wilson_interval(successes=successes, trials=50)
            held += stats.binom.pmf(successes, 50, rate) * (told.low <= rate <= told.high)
    assert held / len(rates) == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize("statistic", [*CORRELATIONS, *VIOLATIONS, slope_intercept, bias], ids=lambda one: one.__name__)
@pytest.mark.parametrize(
    ("sim", "real", "words"),
    [
        ((0.1, np.nan, 0.3), (0.1, 0.2, 0.3), "nan in sim, policy 1"),
        ((0.1, 0.2, 0.3), (0.1, 0.2, np.inf), "inf in real, policy 2"),
        ((0.1, 0.2, 0.3), (0.1, 0.2), r"sim \(3,\), real \(2,\), expected one length"),
        (((0.1, 0.2), (0.3, 0.4)), ((0.1, 0.2), (0.3, 0.4)), "expected one length"),
        ((), (), "0 policies, expected at least"),
    ],
)
def test_rates_that_are_none_are_named(statistic, sim, real, words) -> None:
    with pytest.raises(InvalidInput, match=words):
        statistic(sim=sim, real=real)


@pytest.mark.parametrize("statistic", CORRELATIONS, ids=lambda one: one.__name__)
def test_an_undefined_correlation_is_no_number(statistic) -> None:
    constant = (0.1 + 0.2, 0.3, 0.3)  # differs by rounding alone
    with pytest.raises(InvalidInput, match=r"3 equal sim rates of 0\.3"):
        statistic(sim=constant, real=(0.1, 0.2, 0.3))
    with pytest.raises(InvalidInput, match="3 equal real rates of 0"):
        statistic(sim=(0.1, 0.2, 0.3), real=(0, 0, 0))
    with pytest.raises(InvalidInput, match="2 policies, expected at least 3"):
        statistic(sim=(0.1, 0.2), real=(0.1, 0.2))


def test_other_undefined_figures_are_no_numbers() -> None:
    with pytest.raises(InvalidInput, match="3 equal real rates"):
        slope_intercept(sim=(0.1, 0.2, 0.3), real=(0.5, 0.5, 0.5))
    with pytest.raises(InvalidInput, match="given 3, expected at least 4"):
        fisher_interval(correlation=0.5, policies=3)
    with pytest.raises(InvalidInput, match=r"given 1\.0, expected more than -1"):
        fisher_interval(correlation=1.0, policies=5)
    with pytest.raises(InvalidInput, match="given nan"):
        fisher_interval(correlation=np.nan, policies=5)
    for successes, trials in ((0, 0), (-1, 5), (6, 5)):
        with pytest.raises(InvalidInput, match=f"{successes} of {trials} trials"):
            wilson_interval(successes=successes, trials=trials)
    with pytest.raises(InvalidInput, match="level of an interval: given 95"):
        wilson_interval(successes=1, trials=5, level=95)


def test_no_statistic_takes_sim_and_real_by_position() -> None:
    for statistic in (*CORRELATIONS, *VIOLATIONS, slope_intercept, bias, agreement.fisher_interval):
        with pytest.raises(TypeError):
            statistic((0.1, 0.2, 0.3), (0.1, 0.2, 0.3))  # type: ignore[misc]
