"""One table of trials against another: how far success in a sim tells success in reality.

Trials pair up by (policy, task, seed), and only pairs count. Where not a single start matches (a robot knows no seeds)
all trials count, sim and real are drawn apart, and figures of single episodes do not exist. In a success rate a trial
on which the judge could not tell counts by its probability (`Trial.chance`); figures of single episodes are of those
with an outcome.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from vap_sim.errors import InvalidInput
from vap_sim.metrics import agreement as statistics
from vap_sim.metrics.episodes import Episodes, Pair, compare_episodes
from vap_sim.metrics.rate_rows import ROW_STATISTICS
from vap_sim.metrics.report import Interval
from vap_sim.metrics.resampling import RESAMPLES, Array, percentile_interval, resampled_rates
from vap_sim.metrics.told import Told, tell
from vap_sim.metrics.trials import Cell, Source, Trial, TrialTable

STATISTICS: Mapping[str, Callable[[Array, Array], float]] = {
    "pearson": lambda sim, real: statistics.pearson(sim=sim, real=real),
    "spearman": lambda sim, real: statistics.spearman(sim=sim, real=real),
    "kendall": lambda sim, real: statistics.kendall(sim=sim, real=real),
    "mmrv_sim_real": lambda sim, real: statistics.mmrv(sim=sim, real=real),
    "mmrv_real_sim": lambda sim, real: statistics.mmrv_mirrored(sim=sim, real=real),
    "slope": lambda sim, real: statistics.slope_intercept(sim=sim, real=real).slope,
    "intercept": lambda sim, real: statistics.slope_intercept(sim=sim, real=real).intercept,
    "bias_mean": lambda sim, real: statistics.bias(sim=sim, real=real).mean,
    "bias_mean_size": lambda sim, real: statistics.bias(sim=sim, real=real).mean_size,
    "bias_largest": lambda sim, real: statistics.bias(sim=sim, real=real).largest,
}
"""The figures of every scope, by the keys of reports, as `vap_sim.metrics.rate_rows` has them for many rows."""


@dataclass(frozen=True)
class Success:
    """How often a policy succeeded in a task, in sim and in reality, with Wilson intervals; None where no trial has an
    outcome."""

    policy: str
    task: str
    sim: Cell
    real: Cell
    sim_interval: Interval | None
    real_interval: Interval | None


@dataclass(frozen=True)
class Comparison:
    """Sim against real.

    paired: whether starts matched; pairs: trials of each side that count, where paired; unmatched: trials left out for
    want of a partner, in sim and in real; success: by policy and task; incomplete: policies without an outcome in some
    task, which figures over several tasks leave out; over_policies: one point a policy, its mean over tasks;
    over_cells: one point a policy and task; by_task: one point a policy, for each task. All three hold the figures of
    STATISTICS. episodes: figures of single episodes, None where not paired.
    """

    name: str
    sim_by: Source
    real_by: Source
    paired: bool
    pairs: int
    unmatched: tuple[int, int]
    policies: tuple[str, ...]
    tasks: tuple[str, ...]
    success: tuple[Success, ...]
    incomplete: tuple[str, ...]
    over_policies: Mapping[str, Told]
    over_cells: Mapping[str, Told]
    by_task: Mapping[str, Mapping[str, Told]]
    episodes: Episodes | None


def compare(
    *,
    sim: TrialTable,
    real: TrialTable,
    name: str = "dream",
    sim_by: Source | None = None,
    real_by: Source | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Comparison:
    """Compare two tables, each of one environment.

    sim_by, real_by: who tells outcomes; as `TrialTable.source` has it unless given. level, resamples, seed: of the
    bootstrap intervals over tasks and starts. Raises InvalidInput for tables of several environments or none, for
    tables without a policy or task in common, and for outcomes of mixed sources.
    """
    for side, table in (("sim", sim), ("real", real)):
        if len(table.env_ids) != 1:
            raise InvalidInput(f"{side} table", f"environments {list(table.env_ids)}", "trials of one (see `where`)")
    by = (sim_by or sim.source(), real_by or real.source())
    ours, theirs = ({one.key[1:]: one for one in table} for table in (sim, real))
    paired = bool(ours.keys() & theirs.keys())
    if paired:
        shared = [key for key in ours if key in theirs]
        left, right = [ours[key] for key in shared], [theirs[key] for key in shared]
    else:
        left, right = list(sim), list(real)
    policies = _in_both(left, right, lambda one: one.policy, "policy")
    tasks = _in_both(left, right, lambda one: one.task, "task")
    outcomes = [_outcomes(left, policies, tasks, by[0]), _outcomes(right, policies, tasks, by[1])]
    told = [np.stack([np.isfinite(rows).any(1) for rows in side]) for side in outcomes]
    complete = np.flatnonzero((told[0] & told[1]).all(0))
    settings = _Settings(level, resamples, seed)
    rates = resampled_rates(sim=outcomes[0], real=outcomes[1], paired=paired, resamples=resamples, seed=seed)
    points = [_rates(side)[:, complete] for side in outcomes]
    drawn = [side[:, :, complete] for side in rates]
    cells = [_cells(rows, by_whom) for rows, by_whom in zip((left, right), by, strict=True)]
    pairs = (
        [Pair(a, b, a.outcome(by[0]), b.outcome(by[1])) for a, b in zip(left, right, strict=False)] if paired else []
    )
    return Comparison(
        name=name,
        sim_by=by[0],
        real_by=by[1],
        paired=paired,
        pairs=len(pairs),
        unmatched=(len(sim) - len(left), len(real) - len(right)),
        policies=policies,
        tasks=tasks,
        success=tuple(
            _success(policy, task, cells[0].get((policy, task), Cell()), cells[1].get((policy, task), Cell()), level)
            for policy, task in product(policies, tasks)
        ),
        incomplete=tuple(policy for index, policy in enumerate(policies) if index not in complete),
        over_policies=_figures([one.mean(0) for one in points], [one.mean(1) for one in drawn], settings),
        over_cells=_figures(
            [one.ravel() for one in points], [one.reshape(len(one), -1) for one in drawn], settings, fisher=False
        ),
        by_task={
            task: _task_figures([side[index] for side in outcomes], paired, settings)
            for index, task in enumerate(tasks)
        },
        episodes=compare_episodes(pairs, level=level, resamples=resamples, seed=seed) if paired else None,
    )


@dataclass(frozen=True)
class _Settings:
    level: float
    resamples: int
    seed: int


def _in_both(left: Sequence[Trial], right: Sequence[Trial], of: Callable[[Trial], str], kind: str) -> tuple[str, ...]:
    there = {of(one) for one in right}
    names = tuple(dict.fromkeys(of(one) for one in left if of(one) in there))
    if not names:
        given = f"{sorted({of(one) for one in left})} in sim, {sorted(there)} in real"
        raise InvalidInput("trials to compare", given, f"at least one {kind} in both")
    return names


def _outcomes(trials: Sequence[Trial], policies: Sequence[str], tasks: Sequence[str], by: Source) -> list[Array]:
    """Per task (P, S) over all its starts in ascending order: chances of success, NaN for no trial and for one of which
    nothing is known."""
    told = {one.key[1:]: one.chance(by) for one in trials}
    arrays = []
    for task in tasks:
        seeds = sorted({one.seed for one in trials if one.task == task})
        rows = [[told.get((policy, task, seed)) for seed in seeds] for policy in policies]
        arrays.append(np.array(rows, np.float64))
    return arrays


def _rates(outcomes: Sequence[Array]) -> Array:
    """(T, P), NaN where a policy has no outcome."""
    there = [np.isfinite(rows) for rows in outcomes]
    with np.errstate(invalid="ignore"):
        return np.stack([np.nansum(rows, 1) / ok.sum(1) for rows, ok in zip(outcomes, there, strict=True)])


def _cells(trials: Sequence[Trial], by: Source) -> dict[tuple[str, str], Cell]:
    return TrialTable(tuple(trials)).pivot(by)


def _success(policy: str, task: str, sim: Cell, real: Cell, level: float) -> Success:
    intervals = [
        statistics.wilson_interval(successes=cell.likely, trials=cell.counted, level=level) if cell.counted else None
        for cell in (sim, real)
    ]
    return Success(policy, task, sim, real, *intervals)


def _figures(
    points: Sequence[Array], drawn: Sequence[Array], settings: _Settings, fisher: bool = True
) -> dict[str, Told]:
    """All statistics of rates (n,) with the intervals of their resamples (B, n)."""
    # Means over tasks taken in another order differ by rounding, which would break ties.
    sim, real = (one.round(12) for one in points)
    finite = np.asarray(np.isfinite(np.concatenate(drawn, axis=1)).all(1))
    rows = [side[finite].round(12) for side in drawn]

    def figure(name: str) -> Told:
        def percentile(_: float) -> Interval:
            values = np.full(len(finite), np.nan)
            values[finite] = ROW_STATISTICS[name](sim=rows[0], real=rows[1])
            return percentile_interval(values, level=settings.level, what=name, seed=settings.seed)

        def by_fisher(value: float) -> Interval:
            return statistics.fisher_interval(correlation=value, policies=len(sim), level=settings.level)

        intervals = [percentile, by_fisher] if fisher and name == "pearson" else [percentile]
        return tell(name, lambda: STATISTICS[name](sim, real), intervals, number=len(sim))

    return {name: figure(name) for name in STATISTICS}


def _task_figures(outcomes: Sequence[Array], paired: bool, settings: _Settings) -> dict[str, Told]:
    """Over the policies that have outcomes in one task, starts drawn alone."""
    told = np.isfinite(outcomes[0]).any(1) & np.isfinite(outcomes[1]).any(1)
    rows = [[side[told]] for side in outcomes]
    rates = resampled_rates(sim=rows[0], real=rows[1], paired=paired, resamples=settings.resamples, seed=settings.seed)
    return _figures([_rates(side)[0] for side in rows], [side[:, 0] for side in rates], settings)
