"""Sim against real episode by episode: same policy, same task, same start, and did it end alike?

A rate may be right for the wrong reasons: as many false successes as false failures. These figures see through it. The
meters of trust are judged here too: do they tell beforehand which episodes of the sim to disbelieve?
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vap_sim.metrics.agreement import wilson_interval
from vap_sim.metrics.report import Interval
from vap_sim.metrics.resampling import Array, draw, percentile_interval
from vap_sim.metrics.told import Told, tell
from vap_sim.metrics.trials import Trial
from vap_sim.metrics.verdicts import Confusion, auroc, confusion

SHARES = (
    "accuracy", "recall_on_failures", "recall_on_successes", "precision_of_failures", "optimism", "pessimism",
    "abstention",
)  # fmt: skip


def _less(value: float | None) -> float | None:
    return None if value is None else -value


def _verdict_doubt(trial: Trial) -> float | None:
    """The judge's own chance of being wrong."""
    return None if trial.probability is None else min(trial.probability, 1 - trial.probability)


def _doubt(trial: Trial) -> float | None:
    """The chance that the dream or its judge is wrong, or that an echo would have ended otherwise, as if none knew of
    the others; None where the world's drift is no probability. Where nothing echoes, that is not asked."""
    verdict, risk, dissent = _verdict_doubt(trial), trial.drift, trial.dissent or 0.0
    if verdict is None or risk is None or not 0 <= risk <= 1:
        return None
    return 1 - (1 - verdict) * (1 - risk) * (1 - dissent)


METERS: Mapping[str, Callable[[Trial], float | None]] = {
    "low agreement_min": lambda trial: _less(trial.agreement_min),
    "low agreement_mean": lambda trial: _less(trial.agreement_mean),
    "high drift": lambda trial: trial.drift,
    "judge in doubt": _verdict_doubt,
    "echoes dissent": lambda trial: trial.dissent,
    "dream or judge in doubt": _doubt,
}
"""What foretells a wrong episode; higher values mean less trust, None where the trial tells nothing."""


@dataclass(frozen=True)
class Pair:
    """The same start in sim and real, with the outcomes; None where the judge could not tell."""

    sim: Trial
    real: Trial
    sim_outcome: bool | None
    real_outcome: bool | None

    @property
    def differs(self) -> bool | None:
        """Whether the outcomes differ; None where one is unknown."""
        if self.sim_outcome is None or self.real_outcome is None:
            return None
        return self.sim_outcome != self.real_outcome


@dataclass(frozen=True)
class Disagreement:
    """An episode that ended otherwise. way: "false success" if sim alone succeeded; gap: how far the success rates of
    its policy and task lie apart, sim less real; videos: relative to their tables' folders, None where none is."""

    policy: str
    task: str
    seed: int
    way: Literal["false success", "false failure"]
    gap: float
    agreement_min: float | None
    sim_video: str | None
    real_video: str | None


@dataclass(frozen=True)
class Episodes:
    """counts: sim's outcome as answer, real's as label; unlabelled: pairs left out, their real outcome being unknown;
    shares: of `Confusion` by name; meters: AUROC of each meter for episodes that differ; disagreements: worst first."""

    counts: Confusion
    unlabelled: int
    shares: Mapping[str, Told]
    meters: Mapping[str, Told]
    disagreements: tuple[Disagreement, ...]


def compare_episodes(pairs: Sequence[Pair], *, level: float, resamples: int, seed: int) -> Episodes:
    """All figures of single episodes, with bootstrap intervals over tasks and starts; Wilson's for shares of 0 and 1.

    level, resamples, seed: of the intervals. Raises InvalidInput where there is no pair.
    """
    weights, place = _start_weights(pairs, resamples, seed)
    labelled = [pair for pair in pairs if pair.real_outcome is not None]
    counts = _confusion(labelled)
    single = [_confusion([pair] if pair.real_outcome is not None else []) for pair in pairs]

    def share(name: str) -> Told:
        parts = np.array([one.counts(name) for one in single], np.float64)
        part, whole = (weights @ np.bincount(place, column, weights.shape[1]) for column in parts.T)
        drawn = np.divide(part, whole, out=np.full(len(weights), np.nan), where=whole > 0)
        successes, trials = counts.counts(name)

        def wilson(_: float) -> Interval:
            return wilson_interval(successes=successes, trials=trials, level=level)

        # Where all ended alike every resample does too, and its interval of no width would claim to know for certain.
        interval = wilson if successes in (0, trials) else _interval(drawn, name, level, seed)
        return tell(name, lambda: counts.share(name), [interval], number=trials)

    return Episodes(
        counts=counts,
        unlabelled=len(pairs) - len(labelled),
        shares={name: share(name) for name in SHARES},
        meters={name: _meter(name, pairs, weights, place, level, seed) for name in METERS},
        disagreements=_disagreements(pairs),
    )


def _start_weights(pairs: Sequence[Pair], resamples: int, seed: int) -> tuple[Array, NDArray[np.intp]]:
    """How often each start of each task is drawn (B, N), and which of the N each pair belongs to."""
    tasks = dict.fromkeys(pair.sim.task for pair in pairs)
    starts = {task: sorted({pair.sim.seed for pair in pairs if pair.sim.task == task}) for task in tasks}
    draws = draw([len(seeds) for seeds in starts.values()], resamples=resamples, seed=seed)
    order = {place: index for index, place in enumerate((task, one) for task in tasks for one in starts[task])}
    place = np.array([order[pair.sim.task, pair.sim.seed] for pair in pairs], np.intp)
    return np.concatenate(draws.totals(), axis=1), place


def _confusion(pairs: Sequence[Pair]) -> Confusion:
    return confusion(told=[pair.sim_outcome for pair in pairs], truth=[bool(pair.real_outcome) for pair in pairs])


def _interval(drawn: Array, name: str, level: float, seed: int) -> Callable[[float], Interval]:
    return lambda _: percentile_interval(drawn, level=level, what=name, seed=seed)


def _meter(name: str, pairs: Sequence[Pair], weights: Array, place: NDArray[np.intp], level: float, seed: int) -> Told:
    """How well one meter of trust foretells that the outcomes differ, over the pairs that have both."""
    scores = [METERS[name](pair.sim) for pair in pairs]
    rows = [
        (index, pair.differs, score)
        for index, (pair, score) in enumerate(zip(pairs, scores, strict=True))
        if pair.differs is not None and score is not None
    ]
    event, score = np.array([row[1] for row in rows], bool), np.array([row[2] for row in rows], np.float64)
    own = place[[row[0] for row in rows]] if rows else place[:0]

    def interval(_: float) -> Interval:
        drawn = np.full(len(weights), np.nan)
        for index, weight in enumerate(weights[:, own]):
            if weight[event].any() and weight[~event].any():
                drawn[index] = auroc(score=score, event=event, weight=weight)
        return percentile_interval(drawn, level=level, what=name, seed=seed)

    return tell(name, lambda: auroc(score=score, event=event), [interval], number=len(rows))


def _disagreements(pairs: Sequence[Pair]) -> tuple[Disagreement, ...]:
    """Those of the policies and tasks whose rates lie farthest apart first, then false successes, then by agreement."""
    gaps: dict[tuple[str, str], list[int]] = defaultdict(list)
    for pair in pairs:
        if pair.differs is not None:
            gaps[pair.sim.policy, pair.sim.task].append(int(bool(pair.sim_outcome)) - int(bool(pair.real_outcome)))
    found = [
        Disagreement(
            policy=pair.sim.policy,
            task=pair.sim.task,
            seed=pair.sim.seed,
            way="false success" if pair.sim_outcome else "false failure",
            gap=float(np.mean(gaps[pair.sim.policy, pair.sim.task])),
            agreement_min=pair.sim.agreement_min,
            sim_video=pair.sim.video,
            real_video=pair.real.video,
        )
        for pair in pairs
        if pair.differs
    ]

    def rank(one: Disagreement) -> tuple[float, bool, float, str, str, int]:
        low = 1.0 if one.agreement_min is None else one.agreement_min
        return -abs(one.gap), one.way != "false success", low, one.policy, one.task, one.seed

    return tuple(sorted(found, key=rank))
