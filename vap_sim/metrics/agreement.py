"""Does the sim rank and score policies as reality does? Statistics over success rates, one pair a policy.

Here `sim` is what is on trial (a dream) and `real` what it is held against (the twin, or a robot). Both are keywords
everywhere, because statistics of this family change with the order of their arguments and no error tells. A statistic
that does not exist (of constant rates, of too few policies, of NaN) raises InvalidInput; it is never a number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm  # type: ignore[import-untyped, unused-ignore]

from vap_sim.errors import InvalidInput
from vap_sim.metrics import rate_rows
from vap_sim.metrics.report import Interval

Rates = Sequence[float] | NDArray[Any]
"""One number a policy, in one order for sim and real: success from 0 to 1, or any other score on one scale."""
LEAST = 3
"""Policies below which a correlation says nothing: two points always lie on a line."""


def pearson(*, sim: Rates, real: Rates) -> float:
    """The linear correlation of n >= 3 rates (n,), from -1 to 1.

    SIMPLER's program of that name adds 1e-8 to the denominator and returns 0 for constant rates; this one raises.
    """
    x, y = _varying(sim, real, "pearson")
    return _one(rate_rows.pearson, x, y)


def spearman(*, sim: Rates, real: Rates) -> float:
    """The correlation of the ranks of n >= 3 rates (n,), from -1 to 1; equal rates share their mean rank."""
    x, y = _varying(sim, real, "spearman")
    return _one(rate_rows.spearman, x, y)


def kendall(*, sim: Rates, real: Rates) -> float:
    """Kendall's tau-b of n >= 3 rates (n,), from -1 to 1: pairs ordered alike less pairs ordered otherwise, over pairs.

    Pairs that tie on one side count on the other alone.
    """
    x, y = _varying(sim, real, "kendall")
    return _one(rate_rows.kendall, x, y)


def mmrv(*, sim: Rates, real: Rates) -> float:
    """Mean maximum rank violation of n >= 2 rates (n,), as SIMPLER's signature has it: what errors cost in reality.

    Each policy is charged the largest difference of *real* rates to a policy that sim orders otherwise than real does;
    the mean over policies, 0 for no violation. "Orders" is a strict comparison, so a tie is charged on one side alone:
    of two policies that tie in sim the one better in reality is charged, of two that tie in reality nobody pays.
    Source: SIMPLER (arXiv 2405.05941), `mean_maximum_rank_violation(perf_sim, perf_real)`.
    """
    x, y = _pair(sim, real, "mmrv", least=2)
    return _one(rate_rows.mmrv, x, y)


def mmrv_mirrored(*, sim: Rates, real: Rates) -> float:
    """The other convention of `mmrv`: violations are priced by the differences of *sim* rates.

    It is what SIMPLER's program returns when called as its usage text says, (real, sim). The two differ many times over
    on SIMPLER's own tables, so a figure must say which it is.
    """
    x, y = _pair(sim, real, "mmrv_mirrored", least=2)
    return _one(rate_rows.mmrv_mirrored, x, y)


@dataclass(frozen=True)
class Line:
    """sim = slope * real + intercept. Slope 1 and intercept 0 where sim scores as reality does."""

    slope: float
    intercept: float


def slope_intercept(*, sim: Rates, real: Rates) -> Line:
    """The least-squares line of sim over real, of n >= 3 rates (n,) of which the real ones differ."""
    x, y = _pair(sim, real, "slope_intercept", LEAST)
    if rate_rows.constant(y[None])[0]:
        raise InvalidInput("slope_intercept", f"{len(y)} equal real rates of {y[0]:g}", "real rates that differ")
    return Line(_one(rate_rows.slope, x, y), _one(rate_rows.intercept, x, y))


@dataclass(frozen=True)
class Bias:
    """sim less real: mean over policies (above 0: sim is optimistic), mean of its size, and the one largest in size."""

    mean: float
    mean_size: float
    largest: float


def bias(*, sim: Rates, real: Rates) -> Bias:
    """How much sim overrates policies, of n >= 1 rates (n,)."""
    x, y = _pair(sim, real, "bias", least=1)
    told = (rate_rows.bias_mean, rate_rows.bias_mean_size, rate_rows.bias_largest)
    return Bias(*(_one(statistic, x, y) for statistic in told))


def fisher_interval(*, correlation: float, policies: int, level: float = 0.95) -> Interval:
    """The interval of a Pearson correlation by Fisher's z: tanh(atanh r -+ quantile / sqrt(n - 3)).

    It treats policies as drawn from a population that is normal in both rates, and knows nothing of the trials behind a
    rate. Raises InvalidInput for less than four policies, for |r| of 1, where it does not exist, and for an impossible
    correlation or level.
    """
    if policies < 4:
        raise InvalidInput("policies for Fisher's interval", policies, "at least 4")
    if not abs(correlation) < 1 - 1e-12:
        raise InvalidInput("correlation for Fisher's interval", correlation, "more than -1 and less than 1")
    reach = float(norm.ppf(0.5 + check_level(level) / 2)) / np.sqrt(policies - 3)
    low, high = (float(np.tanh(np.arctanh(correlation) + side * reach)) for side in (-1, 1))
    return Interval(low, high, level, f"Fisher's z, {policies} policies")


def wilson_interval(*, successes: float, trials: int, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share; it stays within 0 and 1 and is not empty where all trials end alike.

    successes: expected ones may be among them; that they vary less than drawn ones is not made use of.
    Raises InvalidInput for no trials, for more successes than trials, and for an impossible level.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise InvalidInput("share", f"{successes} of {trials} trials", "0 to all of at least one trial")
    z = float(norm.ppf(0.5 + check_level(level) / 2))
    share, below = successes / trials, 1 + z * z / trials
    centre = (share + z * z / (2 * trials)) / below
    reach = z / below * np.sqrt(share * (1 - share) / trials + (z / (2 * trials)) ** 2)
    # At the ends the bound is the share itself; rounding must not move it off.
    low = 0.0 if successes == 0 else float(centre - reach)
    high = 1.0 if successes == trials else float(centre + reach)
    return Interval(low, high, level, f"Wilson's score, {trials} trials")


def check_level(level: float) -> float:
    """The level of an interval. Raises InvalidInput unless it lies between 0 and 1."""
    if not 0 < level < 1:
        raise InvalidInput("level of an interval", level, "more than 0 and less than 1, such as 0.95")
    return level


def _pair(sim: Rates, real: Rates, name: str, least: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Both as arrays (n,) of finite numbers. Raises InvalidInput."""
    pair = np.asarray(sim, np.float64), np.asarray(real, np.float64)
    if pair[0].ndim != 1 or pair[0].shape != pair[1].shape:
        raise InvalidInput(f"rates for {name}", f"sim {pair[0].shape}, real {pair[1].shape}", "one length (n,)")
    if len(pair[0]) < least:
        raise InvalidInput(f"rates for {name}", f"{len(pair[0])} policies", f"at least {least}")
    for side, values in zip(("sim", "real"), pair, strict=True):
        if not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise InvalidInput(f"rates for {name}", f"{values[row]} in {side}, policy {row}", "finite numbers")
    return pair


def _varying(sim: Rates, real: Rates, name: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    pair = _pair(sim, real, name, LEAST)
    for side, values in zip(("sim", "real"), pair, strict=True):
        if rate_rows.constant(values[None])[0]:
            given = f"{len(values)} equal {side} rates of {values[0]:g}"
            raise InvalidInput(f"rates for {name}", given, f"{side} rates that differ: it is undefined else")
    return pair


def _one(statistic: rate_rows.RowStatistic, sim: NDArray[np.float64], real: NDArray[np.float64]) -> float:
    return float(statistic(sim=sim[None], real=real[None])[0])
