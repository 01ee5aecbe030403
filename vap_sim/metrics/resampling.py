"""Bootstrap intervals over tasks and starts: tasks are drawn anew, and within each drawn task its starts.

Policies stay as they are: the question is how the figure would move with other tasks and starts, not with other
policies. A start stands in the same weight for every policy, and for sim and real alike where they share their starts,
so what is common to a start cancels as it does in the figure itself. With few tasks the intervals are rough: three
tasks can be drawn in ten ways only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.metrics.agreement import check_level
from vap_sim.metrics.report import Interval

RESAMPLES = 2000
MOST_UNDEFINED = 0.05
"""Share of resamples in which a figure may be undefined; above it, leaving them out would bias the interval."""
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Draws:
    """B resamples of T tasks. task: (B, T) int, the task drawn into each slot; weight: (B, T, S), how often each of its
    starts was drawn for that slot; starts: how many starts each task has; seed: of the draw."""

    task: NDArray[np.intp]
    weight: Array
    starts: tuple[int, ...]
    seed: int

    def sums(self, features: Sequence[NDArray[Any]]) -> Array:
        """Per task (S, F), summed over the drawn starts of every slot: (B, T, F)."""
        told = [np.asarray(rows, np.float64) for rows in features]
        if tuple(len(rows) for rows in told) != self.starts:
            raise InvalidInput("features", f"{[len(rows) for rows in told]} starts a task", f"{list(self.starts)}")
        sums = np.zeros((*self.task.shape, told[0].shape[1]))
        for index, rows in enumerate(told):
            here = self.task == index
            sums[here] = self.weight[here][:, : len(rows)] @ rows
        return sums

    def totals(self) -> list[Array]:
        """How often each start was drawn over all slots: per task (B, S)."""
        spread = [np.where((self.task == index)[..., None], self.weight, 0).sum(1) for index in range(len(self.starts))]
        return [rows[:, :size] for rows, size in zip(spread, self.starts, strict=True)]


def draw(starts: Sequence[int], *, resamples: int = RESAMPLES, seed: int = 0, tasks: Draws | None = None) -> Draws:
    """Draw tasks and starts with replacement. A lone task is kept, and its starts alone are drawn.

    starts: of each task; tasks: take the tasks of these draws and draw starts alone, as sim and real need where they
    share tasks and no starts. Raises InvalidInput for no tasks, empty tasks, and less than 100 resamples.
    """
    if not starts or min(starts) < 1:
        raise InvalidInput("starts", list(starts), "at least one task, and at least one start in each")
    if resamples < 100:
        raise InvalidInput("resamples", resamples, "at least 100; 2000 for figures that are told")
    rng = np.random.default_rng(seed)
    task = rng.integers(len(starts), size=(resamples, len(starts))) if tasks is None else tasks.task
    weight = np.zeros((*task.shape, max(starts)))
    for index, size in enumerate(starts):
        here = task == index
        rows = int(here.sum())
        drawn = rng.integers(size, size=(rows, size)) + size * np.arange(rows)[:, None]
        weight[here, :size] = np.bincount(drawn.ravel(), minlength=rows * size).reshape(rows, size)
    return Draws(task.astype(np.intp), weight, tuple(int(size) for size in starts), seed)


def percentile_interval(values: NDArray[Any], *, level: float = 0.95, what: str = "figure", seed: int = 0) -> Interval:
    """The percentile interval of resampled values (B,), NaN where the figure was undefined.

    Raises InvalidInput where more than 5 % of the resamples are undefined, and for an impossible level.
    """
    there = np.asarray(values, np.float64)[np.isfinite(values)]
    lost = 1 - len(there) / len(values)
    if lost > MOST_UNDEFINED:
        given = f"{100 * lost:.0f} % of them undefined"
        raise InvalidInput(f"resamples of {what}", given, f"{100 * MOST_UNDEFINED:g} % at most")
    tail = 50 * (1 - check_level(level))
    low, high = (float(bound) for bound in np.percentile(there, [tail, 100 - tail]))
    left_out = f", {len(values) - len(there)} undefined" if lost else ""
    method = f"percentile bootstrap over tasks and starts, {len(values)} resamples{left_out}, seed {seed}"
    return Interval(low, high, level, method)


class Statistic(Protocol):
    """A figure of the rates (n,) of n policies; `pearson`, `mmrv` and their like are such."""

    def __call__(self, *, sim: Array, real: Array) -> float: ...


def resampled(statistic: Statistic, *, sim: Array, real: Array) -> Array:
    """A statistic in each of B resamples of rates (B, n) -> (B,); NaN where it raises InvalidInput or a rate is NaN."""
    # Means over tasks taken in another order differ by rounding, which would break ties.
    sim, real = sim.round(12), real.round(12)
    values = np.full(len(sim), np.nan)
    for index in np.flatnonzero(np.isfinite(sim).all(1) & np.isfinite(real).all(1)):
        try:
            values[index] = statistic(sim=sim[index], real=real[index])
        except InvalidInput:
            continue
    return values


def bootstrap(
    statistic: Statistic,
    *,
    sim: Sequence[NDArray[Any]],
    real: Sequence[NDArray[Any]],
    paired: bool,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The interval of a statistic of the policies' success, means over tasks.

    Args:
        statistic: of sim and real rates (P,).
        sim: per task, outcomes (P, S) of P policies from S starts: 1, 0, or NaN where there is none.
        real: the same of the reference.
        paired: whether column s is the same start in sim and real.
        level: of the interval.
        resamples: how many the interval rests on.
        seed: of their draws.

    Raises:
        InvalidInput: shapes that disagree, and a statistic that is undefined in more than 5 % of the resamples.
    """
    sim_rates, real_rates = resampled_rates(sim=sim, real=real, paired=paired, resamples=resamples, seed=seed)
    values = resampled(statistic, sim=sim_rates.mean(1), real=real_rates.mean(1))
    return percentile_interval(values, level=level, what=getattr(statistic, "__name__", "statistic"), seed=seed)


def resampled_rates(
    *, sim: Sequence[NDArray[Any]], real: Sequence[NDArray[Any]], paired: bool, resamples: int, seed: int
) -> tuple[Array, Array]:
    """Success of P policies in every slot of every resample, sim and real: (B, T, P); arguments as in `bootstrap`.

    NaN where no outcome of a policy was drawn.
    """
    shapes = [(np.shape(a), np.shape(b)) for a, b in zip(sim, real, strict=False)]
    if len(sim) != len(real) or any(len(a) != 2 or len(b) != 2 or a[0] != b[0] for a, b in shapes):
        raise InvalidInput("outcomes", f"sim {len(sim)} and real {len(real)} tasks {shapes}", "(P, S) a task in both")
    if paired and any(a != b for a, b in shapes):
        raise InvalidInput("paired outcomes", shapes, "the same starts in sim and real")
    draws = draw([a[1] for a, _ in shapes], resamples=resamples, seed=seed)
    other = draws if paired else draw([b[1] for _, b in shapes], resamples=resamples, seed=seed + 1, tasks=draws)
    return _rates(draws, sim), _rates(other, real)


def _rates(draws: Draws, outcomes: Sequence[NDArray[Any]]) -> Array:
    successes = draws.sums([np.nan_to_num(rows.T) for rows in outcomes])
    answered = draws.sums([np.isfinite(rows.T) for rows in outcomes])
    rates = np.full(successes.shape, np.nan)
    np.divide(successes, answered, out=rates, where=answered > 0)
    return rates
