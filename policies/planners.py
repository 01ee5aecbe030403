"""Planners that search by sampling: CEM, iCEM and MPPI over any function that scores sequences.

A planner is a frozen record of settings; `search` is a pure function of its arguments. It minimises: scores are costs.
Problems come in batches of b rows, and a row's answer depends on its own prior and key alone.

- `CEM`: the cross-entropy method (Rubinstein, "The cross-entropy method for combinatorial and continuous optimization",
  2000): draw from a normal distribution, keep the best, fit the distribution to them, repeat.
- `ICEM`: CEM that wastes fewer samples (Pinneri et al., "Sample-efficient cross-entropy method for real-time planning",
  CoRL 2020): noise colored in time, elites kept within and between searches, fewer candidates in later iterations, the
  mean itself among the last candidates.
- `MPPI`: model predictive path integral control (Williams et al., "Information theoretic MPC for model-based
  reinforcement learning", ICRA 2017): the mean moves to the average of all candidates, weighted by exp(-cost / T).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.policies.colored_noise import colored_noise, key_generator

Floats = NDArray[np.float64]
Score = Callable[[Floats], Floats]
"""From candidates (b, N, T, D) to their costs (b, N), finite, lower is better."""


@dataclass(frozen=True, eq=False)
class Prior:
    """Where b searches look: sequences of T steps and D numbers. All fields (b, T, D) float64.

    low, high: bounds that no candidate leaves; mean, std: the normal distribution that the first candidates are drawn
    from; kept: (b, K, T, D), sequences to try beside them, K may be 0. Raises InvalidInput where they disagree.
    """

    low: Floats
    high: Floats
    mean: Floats
    std: Floats
    kept: Floats

    def __post_init__(self) -> None:
        shape = self.mean.shape
        for name in ("low", "high", "mean", "std", "kept"):
            values = getattr(self, name)
            without_k = (values.shape[0], *values.shape[2:]) if name == "kept" else values.shape
            if len(shape) != 3 or without_k != shape:
                raise InvalidInput(f"{name} of a prior", f"shape {values.shape}", f"as its mean {shape}, (b, T, D)")
            if not np.isfinite(values).all():
                raise InvalidInput(f"{name} of a prior", "a value that is not finite", "finite numbers")
        if (self.low > self.high).any() or (self.std < 0).any():
            raise InvalidInput("prior", "low above high or a negative std", "low <= high, std >= 0")

    @staticmethod
    def of(low: Floats, high: Floats, mean: Floats | None = None, std: Floats | None = None) -> Prior:
        """One search (b = 1) between low and high (T, D): mean in the middle and std half the way, unless given."""
        below, above = np.asarray(low, np.float64), np.asarray(high, np.float64)
        middle = (below + above) / 2 if mean is None else np.asarray(mean, np.float64)
        spread = (above - below) / 2 if std is None else np.asarray(std, np.float64)
        return Prior(below[None], above[None], middle[None], spread[None], np.zeros((1, 0, *below.shape)))

    def warmed(self, mean: Floats, kept: Floats, steps: int) -> Prior:
        """This prior for a search `steps` later than the one that found mean (b, T, D) and kept (b, K, T, D).

        Both are moved on; what comes in at their ends has the prior's own mean.
        """
        tail = self.mean[:, max(self.mean.shape[1] - steps, 0) :]
        tails = np.repeat(tail[:, None], kept.shape[1], axis=1)
        return replace(
            self,
            mean=np.concatenate([mean[:, steps:], tail], axis=1),
            kept=np.concatenate([kept[:, :, steps:], tails], axis=2),
        )


@dataclass(frozen=True, eq=False)
class Found:
    """What b searches found: `best` (b, T, D) and its `cost` (b,), the last distribution's mean and std (b, T, D),
    kept (b, K, T, D) for the next search, scored (b,) how many candidates were tried."""

    best: Floats
    cost: Floats
    mean: Floats
    std: Floats
    kept: Floats
    scored: NDArray[np.int64]


class Planner(Protocol):
    """A way to search. keeps: K, how many sequences it hands on."""

    @property
    def keeps(self) -> int:
        """K, how many sequences a search hands on."""
        ...

    def search(self, score: Score, prior: Prior, keys: Sequence[int]) -> Found:
        """Look for sequences of low cost; keys: one integer a row, from which all its randomness comes."""
        ...


@dataclass(frozen=True)
class CEM:
    """The cross-entropy method; the module says whose.

    candidates: drawn an iteration, N; elites: the best of them that the distribution is fitted to; iterations;
    momentum: share of the old mean and std that stays; least_std: below which no std falls, as a share of the range
    between the bounds; enough: a cost at which a search may stop early (when all rows have it), None for never.
    """

    candidates: int = 64
    elites: int = 8
    iterations: int = 4
    momentum: float = 0.0
    least_std: float = 0.0
    enough: float | None = None

    @property
    def keeps(self) -> int:
        """Nothing is handed on but the mean."""
        return 0

    def __post_init__(self) -> None:
        _check_counts("CEM", self.candidates, self.elites, self.iterations)
        _check_share("momentum", self.momentum)
        _check_share("least_std", self.least_std)

    def search(self, score: Score, prior: Prior, keys: Sequence[int]) -> Found:
        """See `Planner`."""
        plan = _Refinement(self.elites, self.momentum, self.least_std, self.enough)
        return _refine(score, prior, keys, [self.candidates] * self.iterations, plan)


@dataclass(frozen=True)
class ICEM:
    """CEM that wastes fewer samples; the module says whose.

    As `CEM`; besides, color: exponent of the noise's power spectrum over the T steps, 0 white, 2 brownian; decay: by
    which the candidates of each iteration are fewer than before, never fewer than two times the elites; keep: share of
    the elites that is tried again in the next iteration and, through `Prior.warmed`, in the next search.
    """

    candidates: int = 64
    elites: int = 8
    iterations: int = 4
    color: float = 2.0
    decay: float = 1.25
    keep: float = 0.3
    momentum: float = 0.1
    least_std: float = 0.0
    enough: float | None = None

    def __post_init__(self) -> None:
        _check_counts("iCEM", self.candidates, self.elites, self.iterations)
        for name in ("momentum", "least_std", "keep"):
            _check_share(name, getattr(self, name))
        if not self.decay >= 1 or not 0 <= self.color < np.inf:
            raise InvalidInput("decay and color of iCEM", (self.decay, self.color), "at least 1, and at least 0")

    @property
    def keeps(self) -> int:
        """Elites that are handed on."""
        return round(self.keep * self.elites)

    def search(self, score: Score, prior: Prior, keys: Sequence[int]) -> Found:
        """See `Planner`."""
        counts = [max(round(self.candidates / self.decay**i), 2 * self.elites) for i in range(self.iterations)]
        plan = _Refinement(self.elites, self.momentum, self.least_std, self.enough, self.color, self.keeps, True)
        return _refine(score, prior, keys, [min(count, self.candidates) for count in counts], plan)


@dataclass(frozen=True)
class MPPI:
    """Model predictive path integral control; the module says whose.

    candidates: drawn an iteration, N; temperature: T in exp(-cost / T), in units of the cost; the std stays as the
    prior has it; color: as in `ICEM`.
    """

    candidates: int = 64
    iterations: int = 1
    temperature: float = 0.1
    color: float = 0.0

    def __post_init__(self) -> None:
        _check_counts("MPPI", self.candidates, 1, self.iterations)
        if not 0 < self.temperature < np.inf or not 0 <= self.color < np.inf:
            given = (self.temperature, self.color)
            raise InvalidInput("temperature and color of MPPI", given, "a positive number, and at least 0")

    @property
    def keeps(self) -> int:
        """Nothing is handed on but the mean."""
        return 0

    def search(self, score: Score, prior: Prior, keys: Sequence[int]) -> Found:
        """See `Planner`. `best` is the best candidate, the mean included; `mean` the weighted average."""
        mean, kept, track = prior.mean, prior.kept, _Track(prior, None)
        for iteration in range(self.iterations):
            tried = np.concatenate([mean[:, None], kept], axis=1)
            drawn = _candidates(prior, mean, prior.std, tried, keys, iteration, self.candidates, self.color)
            costs = _scored(score, drawn)
            track.add(drawn, costs)
            weights = np.exp(-(costs - costs.min(axis=1, keepdims=True)) / self.temperature)
            weights /= weights.sum(axis=1, keepdims=True)
            mean = (weights[:, :, None, None] * drawn).sum(axis=1)
            kept = kept[:, :0]
        return track.found(mean, prior.std, kept)


@dataclass(frozen=True)
class Blind:
    """No search at all: one sequence a row, drawn evenly between the bounds. What planners are to be compared with."""

    @property
    def keeps(self) -> int:
        """Nothing is handed on."""
        return 0

    def search(self, score: Score, prior: Prior, keys: Sequence[int]) -> Found:
        """See `Planner`; `score` is never called, and the cost is infinite because it is not known."""
        shares = np.stack([key_generator(key, 0).random(prior.mean.shape[1:]) for key in keys])
        best = prior.low + shares * (prior.high - prior.low)
        rows = len(best)
        return Found(best, np.full(rows, np.inf), prior.mean, prior.std, prior.kept[:, :0], np.zeros(rows, np.int64))


@dataclass(frozen=True)
class _Refinement:
    """What the two cross-entropy methods differ in. again: elites that are tried again; mean_last: the mean is tried in
    the last iteration."""

    elites: int
    momentum: float
    least_std: float
    enough: float | None
    color: float = 0.0
    again: int = 0
    mean_last: bool = False


class _Track:
    """The best candidate of each row so far. Rows that are settled are left alone, whatever their neighbours do."""

    def __init__(self, prior: Prior, enough: float | None) -> None:
        self.best, self.cost = prior.mean, np.full(len(prior.mean), np.inf)
        self.scored = np.zeros(len(prior.mean), np.int64)
        self.enough = -np.inf if enough is None else enough

    @property
    def open(self) -> NDArray[np.bool_]:
        """Rows (b,) that go on."""
        return self.cost > self.enough

    def add(self, drawn: Floats, costs: Floats) -> None:
        rows, place = np.arange(len(drawn)), costs.argmin(axis=1)
        self.scored = self.scored + self.open * drawn.shape[1]
        better = self.open & (costs[rows, place] < self.cost)
        self.best = np.where(better[:, None, None], drawn[rows, place], self.best)
        self.cost = np.where(better, costs[rows, place], self.cost)

    def found(self, mean: Floats, std: Floats, kept: Floats) -> Found:
        return Found(self.best, self.cost, mean, std, kept, self.scored)


def _refine(score: Score, prior: Prior, keys: Sequence[int], counts: Sequence[int], how: _Refinement) -> Found:
    mean, std, kept = prior.mean, prior.std, prior.kept
    least, track = how.least_std * (prior.high - prior.low), _Track(prior, how.enough)
    for iteration, count in enumerate(counts):
        ends = how.mean_last and iteration == len(counts) - 1
        tried = np.concatenate([mean[:, None], kept], axis=1) if ends else kept
        drawn = _candidates(prior, mean, std, tried, keys, iteration, count, how.color)
        costs = _scored(score, drawn)
        # Stable, so that the choice among equal costs does not depend on a sorting method.
        order = costs.argsort(axis=1, kind="stable")[:, : how.elites]
        elites = np.take_along_axis(drawn, order[:, :, None, None], axis=1)
        moves = track.open[:, None, None]
        old = how.momentum
        mean = np.where(moves, old * mean + (1 - old) * elites.mean(axis=1), mean)
        std = np.where(moves, np.maximum(old * std + (1 - old) * elites.std(axis=1), least), std)
        again = elites[:, : how.again]
        kept = np.where(moves[:, None], again, kept) if iteration else again
        track.add(drawn, costs)
        if not track.open.any():
            break
    return track.found(_bounded(mean[:, None], prior)[:, 0], std, kept)


def _candidates(
    prior: Prior,
    mean: Floats,
    std: Floats,
    tried: Floats,
    keys: Sequence[int],
    draw: int,
    count: int,
    color: float,
) -> Floats:
    """`count` sequences within the bounds: those to be tried (b, K, T, D), and the rest drawn."""
    tried = tried[:, :count]
    noise = colored_noise(keys, draw, (count - tried.shape[1], *mean.shape[1:]), color)
    return _bounded(np.concatenate([tried, mean[:, None] + std[:, None] * noise], axis=1), prior)


def _bounded(drawn: Floats, prior: Prior) -> Floats:
    return np.minimum(np.maximum(drawn, prior.low[:, None]), prior.high[:, None])


def _scored(score: Score, drawn: Floats) -> Floats:
    """The costs (b, N). Raises InvalidInput for another shape and for a cost that is not finite."""
    costs = np.asarray(score(drawn), np.float64)
    if costs.shape != drawn.shape[:2]:
        raise InvalidInput("costs of candidates", f"shape {costs.shape}", f"{drawn.shape[:2]}, one a candidate")
    if not np.isfinite(costs).all():
        row, place = np.argwhere(~np.isfinite(costs))[0]
        raise InvalidInput(f"cost of candidate {place} of row {row}", costs[row, place], "a finite number")
    return costs


def _check_counts(name: str, candidates: int, elites: int, iterations: int) -> None:
    if not 1 <= elites <= candidates or iterations < 1:
        given = f"{candidates} candidates, {elites} elites, {iterations} iterations"
        raise InvalidInput(f"budget of {name}", given, "at least one of each, and no more elites than candidates")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise InvalidInput(name, value, "a share from 0 to 1")
