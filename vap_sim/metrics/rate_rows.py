"""The arithmetic of `vap_sim.metrics.agreement` for many rows of rates at once, as resampling needs it.

Every function takes sim and real rates (B, n) of finite numbers and returns (B,), with NaN in rows in which the figure
is undefined. The checks and definitions stand in `agreement`, which passes a single row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata  # type: ignore[import-untyped, unused-ignore]

Rows = NDArray[np.float64]


class RowStatistic(Protocol):
    """A figure of each row."""

    def __call__(self, *, sim: Rows, real: Rows) -> Rows: ...


def constant(rates: Rows) -> NDArray[np.bool_]:
    """Whether the rates of a row differ by rounding alone: (B, n) -> (B,)."""
    return np.asarray(np.ptp(rates, axis=1) <= 1e-12 * np.abs(rates).max(1))


def pearson(*, sim: Rows, real: Rows) -> Rows:
    """Linear correlation."""
    sides = []
    for rates in (sim, real):
        centred = np.where(constant(rates)[:, None], np.nan, rates - rates.mean(1, keepdims=True))
        sides.append(centred / np.abs(centred).max(1, keepdims=True))
    x, y = sides
    return np.asarray(np.clip((x * y).sum(1) / np.sqrt((x * x).sum(1) * (y * y).sum(1)), -1, 1))


def spearman(*, sim: Rows, real: Rows) -> Rows:
    """Correlation of ranks."""
    ranks = [np.where(constant(rates)[:, None], 0.0, rankdata(rates, axis=1)) for rates in (sim, real)]
    return pearson(sim=ranks[0], real=ranks[1])


def kendall(*, sim: Rows, real: Rows) -> Rows:
    """Tau-b."""
    a, b = (np.sign(rates[:, :, None] - rates[:, None]) for rates in (sim, real))
    untied = np.sqrt(np.abs(a).sum((1, 2)) * np.abs(b).sum((1, 2)))
    untied[constant(sim) | constant(real)] = np.nan
    return np.asarray(np.clip((a * b).sum((1, 2)) / untied, -1, 1))


def mmrv(*, sim: Rows, real: Rows) -> Rows:
    """Mean maximum rank violation, priced in real rates."""
    violated = (sim[:, :, None] > sim[:, None]) != (real[:, :, None] > real[:, None])
    cost = np.abs(real[:, :, None] - real[:, None])
    return np.asarray(np.where(violated, cost, 0.0).max(2).mean(1))


def mmrv_mirrored(*, sim: Rows, real: Rows) -> Rows:
    """Mean maximum rank violation, priced in sim rates."""
    return mmrv(sim=real, real=sim)


def slope(*, sim: Rows, real: Rows) -> Rows:
    """Of the least-squares line of sim over real."""
    x, y = (rates - rates.mean(1, keepdims=True) for rates in (sim, real))
    below = np.where(constant(real), np.nan, (y * y).sum(1))
    return np.asarray((x * y).sum(1) / below)


def intercept(*, sim: Rows, real: Rows) -> Rows:
    """Of the least-squares line of sim over real."""
    return np.asarray(sim.mean(1) - slope(sim=sim, real=real) * real.mean(1))


def bias_mean(*, sim: Rows, real: Rows) -> Rows:
    """Mean of sim less real."""
    return np.asarray((sim - real).mean(1))


def bias_mean_size(*, sim: Rows, real: Rows) -> Rows:
    """Mean size of sim less real."""
    return np.asarray(np.abs(sim - real).mean(1))


def bias_largest(*, sim: Rows, real: Rows) -> Rows:
    """The difference sim less real that is largest in size, with its sign."""
    gap = sim - real
    return np.asarray(np.take_along_axis(gap, np.abs(gap).argmax(1)[:, None], 1)[:, 0])


ROW_STATISTICS: Mapping[str, RowStatistic] = {
    "pearson": pearson,
    "spearman": spearman,
    "kendall": kendall,
    "mmrv_sim_real": mmrv,
    "mmrv_real_sim": mmrv_mirrored,
    "slope": slope,
    "intercept": intercept,
    "bias_mean": bias_mean,
    "bias_mean_size": bias_mean_size,
    "bias_largest": bias_largest,
}
"""By the keys that reports use."""
