"""Noise levels of a training row, and the loss of a predicted velocity: the arithmetic of diffusion training."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput, UnknownName

MODES = ("chunk", "history", "forcing")


def draw_levels(
    rng: np.random.Generator, mode: str, frames: int, steps: int, shift: float = 1.0
) -> tuple[Tensor, Tensor]:
    """Timesteps (T,) int64 of a row's latent frames, and which of them are noisy and learned from, (T,) bool.

    mode: "chunk": one level for all, as diffusers trains CogVideoX. For stream mode "history": the first 1 .. T - 1
    frames are clean, all others have one level; "forcing": the first is clean, every other has a level of its own.
    Clean frames have timestep 0, as in a stream; steps: timesteps of the schedule. shift: 1 draws all of them alike,
    more draws noisier ones, where a dream decides what happens, more often: the share u of the schedule becomes
    s u / (1 + (s - 1) u) (Esser et al., arXiv 2403.03206). Raises UnknownName, InvalidInput.
    """
    if mode not in MODES:
        raise UnknownName("mode of training", mode, MODES)
    if mode == "chunk":
        levels = np.full(frames, rng.integers(steps))
        clean = 0
    elif frames < 2:
        raise InvalidInput(f"latent frames for training in mode {mode!r}", frames, "at least 2, one to look back at")
    elif mode == "history":
        clean = int(rng.integers(1, frames))
        levels = np.full(frames, rng.integers(steps))
    else:
        clean = 1
        levels = rng.integers(steps, size=frames)
    if shift != 1:
        share = (levels + 0.5) / steps
        levels = np.floor(steps * shift * share / (1 + (shift - 1) * share))
    levels[:clean] = 0
    return torch.from_numpy(levels.astype(np.int64)), torch.arange(frames) >= clean


def velocity_loss(prediction: Tensor, target: Tensor, learned: Tensor, weight: Tensor | None = None) -> Tensor:
    """The loss of each row (b,), float32: squared error of the velocity, its mean over the frames learned from.

    prediction, target: (b, T, C, h, w); learned: (b, T) bool, some in every row; weight: (b, T, h, w), multiplies the
    error. The squared error of a velocity is that of the clean clip it means, times 1 / (1 - alpha): the weighting of
    diffusers' training, here without a division that breaks where a frame is nearly clean.
    """
    error = (prediction.float() - target.float()).square().mean(2)
    if weight is not None:
        error = error * weight
    each = error.mean((2, 3)) * learned
    return each.sum(1) / learned.sum(1)
