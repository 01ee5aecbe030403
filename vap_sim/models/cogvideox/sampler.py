"""The noise schedule and its solvers as pure functions, which let every latent frame have a noise level of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput, UnknownName, Unsupported

SOLVERS: Mapping[str, str] = MappingProxyType({"ddim": "CogVideoXDDIMScheduler", "dpm": "CogVideoXDPMScheduler"})
"""Solvers by name, and the class of diffusers that each equals."""
PUBLISHED: Mapping[str, Any] = MappingProxyType(
    {
        "_class_name": "CogVideoXDDIMScheduler", "num_train_timesteps": 1000, "beta_start": 0.00085,
        "beta_end": 0.012, "beta_schedule": "scaled_linear", "set_alpha_to_one": True, "steps_offset": 0,
        "prediction_type": "v_prediction", "timestep_spacing": "trailing", "rescale_betas_zero_snr": True,
        "snr_shift_scale": 1.0, "clip_sample": False,
    }
)  # fmt: skip
"""The schedule of the published 5B models, for a folder that comes without one."""
_SPACINGS = ("leading", "trailing", "linspace")
_CURVES = ("scaled_linear", "linear", "squaredcos_cap_v2")

Predict = Callable[[Tensor, int], Tensor]
"""Noisy latents (b, T, C, h, w) and a timestep to the predicted velocity of the same shape."""


@dataclass(frozen=True, eq=False)
class Schedule:
    """How much of a clean clip is left at each timestep.

    alphas: (N,) float64, the share of signal power at timesteps 0 .. N - 1, falling; last: the share where a solver
    ends; spacing: which of the N timesteps a solver visits; offset: added to them with the spacing "leading".
    """

    alphas: Tensor
    last: float = 1.0
    spacing: str = "trailing"
    offset: int = 0

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Schedule:
        """The schedule that a folder's scheduler config describes; what it leaves out has diffusers' defaults.

        Raises Unsupported for a model that predicts something else than velocity, UnknownName, InvalidInput.
        """
        kind = config.get("prediction_type", "epsilon")
        if kind != "v_prediction":
            raise Unsupported(f"prediction_type {kind!r} of the noise schedule: CogVideoX predicts 'v_prediction'")
        spacing = config.get("timestep_spacing", "leading")
        if spacing not in _SPACINGS:
            raise UnknownName("timestep_spacing of the noise schedule", spacing, _SPACINGS)
        alphas = torch.cumprod(1.0 - _betas(config), dim=0)
        shift = float(config.get("snr_shift_scale", 3.0))
        alphas = alphas / (shift + (1 - shift) * alphas)
        if config.get("rescale_betas_zero_snr", False):
            roots = alphas.sqrt()
            alphas = ((roots - roots[-1]) * (roots[0] / (roots[0] - roots[-1]))) ** 2
        last = 1.0 if config.get("set_alpha_to_one", True) else float(alphas[0])
        return cls(alphas.double(), last, spacing, int(config.get("steps_offset", 0)))

    @property
    def length(self) -> int:
        """Timesteps the model was trained with, N."""
        return len(self.alphas)

    def timesteps(self, steps: int) -> tuple[int, ...]:
        """The timesteps that a solver of so many steps visits, falling. Raises InvalidInput."""
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= self.length:
            raise InvalidInput("denoising steps", steps, f"a whole number from 1 to {self.length}")
        if self.spacing == "trailing":
            # The last one may come out below zero by rounding, where the range's end is not quite met.
            chosen = np.round(np.arange(self.length, 0, -self.length / steps)).astype(np.int64)[:steps] - 1
        elif self.spacing == "leading":
            chosen = (np.arange(steps) * (self.length // steps))[::-1] + self.offset
        else:
            chosen = np.linspace(0, self.length - 1, steps).round()[::-1].astype(np.int64)
        return tuple(int(one) for one in chosen)

    def after(self, timestep: int, steps: int) -> int:
        """The timestep a solver of so many steps goes to from here; below 0 it has arrived."""
        return timestep - self.length // steps

    def alpha(self, timestep: int | Tensor) -> Tensor:
        """Share of signal power at a timestep, () or of the timesteps' shape, float64; `last` below timestep 0."""
        where = torch.as_tensor(timestep, dtype=torch.int64)
        table = self.alphas.to(where.device)
        return torch.where(where < 0, torch.full_like(table[0], self.last), table[where.clamp_min(0)])


def noised(clean: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """Clean latents (b, T, C, h, w) at the level alpha, () or (b,) or (b, T); noise: standard normal numbers."""
    return _like(alpha.sqrt(), clean) * clean + _like((1 - alpha).sqrt(), clean) * noise


def velocity(clean: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """What the model shall predict for `noised(clean, noise, alpha)`."""
    return _like(alpha.sqrt(), clean) * noise - _like((1 - alpha).sqrt(), clean) * clean


def original(prediction: Tensor, sample: Tensor, alpha: Tensor) -> Tensor:
    """The clean latents that a predicted velocity means."""
    return _like(alpha**0.5, sample) * sample - _like((1 - alpha) ** 0.5, sample) * prediction


def ddim_step(prediction: Tensor, sample: Tensor, alpha: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """One step of `CogVideoXDDIMScheduler`: the latents at the level `after`, and the clean ones it expects.

    prediction, sample: (b, T, C, h, w), at the level alpha; alpha, after: () or (b,) or (b, T) float64. Frames that
    are clean already, alpha = 1, stay as they are.
    """
    expected = original(prediction, sample, alpha)
    kept = torch.where(alpha < 1, ((1 - after) / (1 - alpha)) ** 0.5, torch.ones_like(alpha))
    toward = after**0.5 - alpha**0.5 * kept
    return _like(kept, sample) * sample + _like(toward, sample) * expected, expected


def dpm_step(
    prediction: Tensor,
    sample: Tensor,
    alpha: Tensor,
    after: Tensor,
    noise: Tensor,
    before: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """One step of `CogVideoXDPMScheduler`, of second order if `before` is given: see `ddim_step`.

    noise: standard normal numbers of the sample's shape; before: the level of the step before and the clean latents it
    expected; None in the first step and in the last.
    """
    expected = original(prediction, sample, alpha)
    here, there = _log_ratio(alpha), _log_ratio(after)
    width = there - here
    kept = ((1 - after) / (1 - alpha)) ** 0.5 * (-width).exp()
    toward = (-2 * width).expm1() * after**0.5
    fresh = (1 - after) ** 0.5 * (1 - (-2 * width).exp()) ** 0.5
    target = expected
    if before is not None:
        share = 1 / (2 * ((here - _log_ratio(before[0])) / width))
        target = _like(1 + share, sample) * expected - _like(share, sample) * before[1]
    moved = _like(kept, sample) * sample - _like(toward, sample) * target + _like(fresh, sample) * noise
    return moved, expected


def denoise(
    noise: Tensor,
    predict: Predict,
    schedule: Schedule,
    steps: int,
    *,
    solver: str = "ddim",
    held: Tensor | None = None,
    fresh: Callable[[int], Tensor] | None = None,
) -> Tensor:
    """From noise (b, T, C, h, w) float32 to clean latents, in so many steps.

    predict: the model; held: (b, n, C, h, w) clean latents that the first n frames are and stay; fresh: the noise that
    step i of the solver "dpm" adds. Raises UnknownName, InvalidInput.
    """
    if solver not in SOLVERS:
        raise UnknownName("solver", solver, SOLVERS)
    if solver == "dpm" and fresh is None:
        raise InvalidInput("noise for the solver 'dpm'", None, "a function from its step to standard normal numbers")
    latents, before = _holding(noise, held), None
    for index, timestep in enumerate(schedule.timesteps(steps)):
        goal = schedule.after(timestep, steps)
        alpha, after = schedule.alpha(timestep), schedule.alpha(goal)
        prediction = predict(latents, timestep)
        if fresh is None or solver == "ddim":
            latents, _ = ddim_step(prediction, latents, alpha, after)
        else:
            second = before if goal >= 0 else None
            latents, expected = dpm_step(prediction, latents, alpha, after, fresh(index), second)
            before = (alpha, expected)
        latents = _holding(latents, held)
    return latents


def dynamic_guidance(scale: float, timestep: int, steps: int) -> float:
    """The guidance that diffusers' pipelines use at a timestep with `use_dynamic_cfg`."""
    return 1 + scale * (1 - math.cos(math.pi * ((steps - timestep) / steps) ** 5.0)) / 2


def _holding(latents: Tensor, held: Tensor | None) -> Tensor:
    return latents if held is None else torch.cat([held.to(latents), latents[:, held.shape[1] :]], dim=1)


def _like(factor: Tensor, sample: Tensor) -> Tensor:
    """A factor for each row or frame, ready to multiply; single ones stay on the CPU, where they cost no waiting."""
    factor = factor.to(sample.dtype)
    if factor.ndim == 0:
        return factor
    return factor.to(sample.device).reshape(*factor.shape, *[1] * (sample.ndim - factor.ndim))


def _log_ratio(alpha: Tensor) -> Tensor:
    return ((alpha / (1 - alpha)) ** 0.5).log()


def _betas(config: Mapping[str, Any]) -> Tensor:
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"], dtype=torch.float32)
    curve, count = config.get("beta_schedule", "scaled_linear"), int(config.get("num_train_timesteps", 1000))
    low, high = float(config.get("beta_start", 0.00085)), float(config.get("beta_end", 0.012))
    if curve not in _CURVES:
        raise UnknownName("beta_schedule of the noise schedule", curve, _CURVES)
    if curve == "linear":
        return torch.linspace(low, high, count, dtype=torch.float32)
    if curve == "scaled_linear":
        return torch.linspace(low**0.5, high**0.5, count, dtype=torch.float64) ** 2
    level = [math.cos((i / count + 0.008) / 1.008 * math.pi / 2) ** 2 for i in range(count + 1)]
    return torch.tensor([min(1 - level[i + 1] / level[i], 0.999) for i in range(count)], dtype=torch.float32)
