"""From scores to honest probabilities, and the band of doubt in which a judge says that it cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput

Floats = NDArray[np.float64]
_ROUNDS, _HOLD = 100, 1e-3


@dataclass(frozen=True)
class Calibration:
    """probability = sigmoid(scale * logit + shift); answers no below `low`, yes above `high`, else cannot tell."""

    scale: float = 1.0
    shift: float = 0.0
    low: float = 0.5
    high: float = 0.5

    def __post_init__(self) -> None:
        if not (0 < self.scale < np.inf and np.isfinite(self.shift) and 0 <= self.low <= self.high <= 1):
            raise InvalidInput("calibration", self, "scale > 0, finite shift, 0 <= low <= high <= 1")

    def probability(self, logits: Floats) -> Floats:
        """Probabilities (n,) of logits (n,)."""
        return _sigmoid(self.scale * np.asarray(logits, np.float64) + self.shift)

    def answer(self, probability: float) -> bool | None:
        """True (yes), False (no) or None (cannot tell). Raises InvalidInput for what is no probability."""
        if not 0 <= probability <= 1:
            raise InvalidInput("probability", probability, "a number from 0 to 1")
        if self.low < probability < self.high:
            return None
        return probability >= self.high

    @staticmethod
    def from_dict(values: Any) -> Calibration:
        """The inverse of `asdict`. Raises InvalidInput, TypeError or ValueError for anything else."""
        return Calibration(**{name: float(value) for name, value in dict(values).items()})


def calibrate(
    logits: Floats, truth: NDArray[np.bool_], *, accuracy: float, abstention: float, least: float = 0.0
) -> Calibration:
    """Scale and shift by maximum likelihood (Platt's scaling), and the narrowest band that is accurate enough.

    Args:
        logits: (n,) scores of episodes that the judge was not trained on.
        truth: (n,) what is true of them.
        accuracy: wanted where it answers.
        abstention: the most that it may abstain; where both cannot be had the band is the one of greatest accuracy
            among those that abstain so little.
        least: abstain at least that often, where the episodes are few and being always right with them means little.

    Raises InvalidInput for shapes that disagree, scores that are not finite, or truth of one kind alone.
    """
    scores, true = np.asarray(logits, np.float64), np.asarray(truth, np.bool_)
    if scores.ndim != 1 or scores.shape != true.shape or not np.isfinite(scores).all():
        raise InvalidInput("scores to calibrate by", f"{scores.shape} with {true.shape}", "finite (n,) and bool (n,)")
    if true.all() or not true.any():
        raise InvalidInput("truth to calibrate by", f"{int(true.sum())} of {len(true)} true", "some of each kind")
    scale, shift = _fit(scores, true)
    probability = _sigmoid(scale * scores + shift)
    return Calibration(scale, shift, *_band(probability, true, accuracy, abstention, least))


def _fit(scores: Floats, true: NDArray[np.bool_]) -> tuple[float, float]:
    """Newton's method; a weak hold on scale 1 and shift 0 keeps it finite where the two kinds are parted."""
    values = np.stack([scores, np.ones_like(scores)], axis=1)
    weights, hold = np.array([1.0, 0.0]), _HOLD * len(scores) * np.eye(2)
    start = weights.copy()
    for _ in range(_ROUNDS):
        share = _sigmoid(values @ weights)
        slope = values.T @ (share - true) + hold @ (weights - start)
        bend = (values * (share * (1 - share))[:, None]).T @ values + hold
        move = np.linalg.solve(bend, slope)
        weights = weights - move * min(1.0, 1.0 / max(float(np.abs(move).max()), 1e-12))
        if np.abs(move).max() < 1e-9:
            break
    return max(float(weights[0]), 1e-3), float(weights[1])


def _band(
    probability: Floats, true: NDArray[np.bool_], accuracy: float, abstention: float, least: float
) -> tuple[float, float]:
    """Edges (low, high) about one half, chosen by how sure the judge is: the least sure abstain."""
    sure = np.abs(probability - 0.5)
    order = np.argsort(sure)
    right = ((probability >= 0.5) == true)[order]
    fewest, most = int(least * len(true)), int(max(abstention, least) * len(true))
    left = np.array([right[count:].mean() for count in range(fewest, most + 1)])
    good = np.flatnonzero(left >= accuracy)
    count = fewest + (int(good[0]) if len(good) else int(left.argmax()))
    # Half way between the last that abstains and the first that answers.
    edge = 0.0 if count == 0 else float(sure[order[count - 1 : count + 1]].mean())
    return 0.5 - edge, 0.5 + edge


def _sigmoid(values: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * values)))
