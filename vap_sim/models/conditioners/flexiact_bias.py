"""How strongly video tokens are drawn to learned ones, by noise level: FlexiAct's frequency-aware schedule."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput


@dataclass(frozen=True)
class NoiseBias:
    """What is added to the logits where video queries look at learned tokens, by timestep (FlexiAct, arXiv 2505.03730).

    `alpha` from timestep `high` on, where a clip is mostly noise and its coarse motion is decided; nothing below `low`,
    where its looks are; half a cosine in between. The whole ramp is `alpha` times the cosine, so it begins at alpha
    wherever that is (in the authors' code it begins at 1 and jumps for another alpha). Raises InvalidInput.
    """

    alpha: float = 1.0
    high: float = 800
    low: float = 700

    def __post_init__(self) -> None:
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, int | float) or not math.isfinite(self.alpha):
            raise InvalidInput("alpha of a noise bias", self.alpha, "a finite number; 1 as published, 0 for no bias")
        if not 0 <= self.low <= self.high < math.inf:
            expected = "0 <= low <= high, as timesteps; 700 and 800 as published"
            raise InvalidInput("low and high of a noise bias", (self.low, self.high), expected)

    def at(self, timestep: Tensor) -> Tensor:
        """The bias at timesteps of any shape, 0 .. 999, float32 of the same shape; exactly 0 below `low`."""
        level = timestep.to(torch.float32)
        # With low = high there is no ramp, and the division is of numbers that are not used.
        fallen = (self.high - level) / max(self.high - self.low, 1e-6)
        ramp = 0.5 * (1 + torch.cos(math.pi * fallen.clamp(0, 1)))
        bias = torch.where(level >= self.high, torch.ones_like(level), torch.where(level > self.low, ramp, 0.0))
        return self.alpha * bias
