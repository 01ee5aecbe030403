"""The One-Euro filter: little lag while something moves fast, little jitter while it rests.

Casiez, Roussel and Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems",
CHI 2012: exponential smoothing whose cut-off frequency rises with the speed, which is itself smoothed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OneEuro:
    """Settings of the filter. rest: cut-off at rest [Hz]; beta: what a unit of speed adds to it [Hz per unit per
    second]; speed: cut-off of the speed's own smoothing [Hz]. Raises InvalidInput."""

    rest: float = 4.0
    beta: float = 2.0
    speed: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.rest < math.inf and 0 <= self.beta < math.inf and 0 < self.speed < math.inf):
            raise InvalidInput("One-Euro filter", self, "positive cut-offs [Hz] and a beta of at least 0")

    def smooth(self, values: Floats, rate: float) -> Floats:
        """Values (T, ...) sampled at `rate` [Hz], each component for itself, as the filter gives them one after
        another.

        Output t depends on inputs up to t alone. Raises InvalidInput for values that are not finite or no rate.
        """
        self._check(values, rate)
        out = np.array(values, dtype=np.float64)
        slope = np.zeros_like(out[0]) if len(out) else out
        keep = _weight(np.asarray(self.speed), rate)
        for t in range(1, len(out)):
            slope = keep * (values[t] - out[t - 1]) * rate + (1 - keep) * slope
            share = _weight(self.rest + self.beta * np.abs(slope), rate)
            out[t] = share * values[t] + (1 - share) * out[t - 1]
        return out

    def smooth_both_ways(self, values: Floats, rate: float) -> Floats:
        """The mean of filtering (T, ...) forwards and backwards, for recordings: what one lags behind, the other
        leads."""
        return (self.smooth(values, rate) + self.smooth(values[::-1], rate)[::-1]) / 2

    @staticmethod
    def _check(values: Floats, rate: float) -> None:
        if not 0 < rate < math.inf:
            raise InvalidInput("rate of values to be smoothed", rate, "a positive number of Hz")
        if not np.isfinite(values).all():
            raise InvalidInput("values to be smoothed", "some that are not finite", "finite numbers")


def _weight(cutoff: Floats, rate: float) -> Floats:
    """What a new sample counts in exponential smoothing with this cut-off [Hz]."""
    return np.asarray(1 / (1 + rate / (2 * math.pi * cutoff)))
