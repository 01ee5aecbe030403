"""A small extractor of clips that ships no weights: fixed random space-time filters. **Not FVD, nor a scale like it.**

For machines without the network of FVD: it compares two models under one roof, says nothing about papers, and knows no
actions or objects. Filters are drawn once from a seed; features are how strongly, and how unevenly, clips answer them.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.errors import InvalidInput
from vap_sim.metrics.extractors import check_clips
from vap_sim.metrics.report import NetworkCard

SIDE = 32
"""Clips are averaged down to squares of this side [px]."""
LEAST_FRAMES = 5
_FIRST, _SECOND = 8, 16
DIMENSION = 2 * (_FIRST + _SECOND)


class FixedFilters:
    """Clips uint8 (n, T, H, W, 3) -> features (n, DIMENSION): mean and deviation of two layers of filtered clips.

    Every filter sums to zero, so that an even picture answers with nothing; half of what the first layer sees is change
    from frame to frame.
    """

    def __init__(self, seed: int = 0) -> None:
        """Equal seeds give equal filters on every machine."""
        rng = np.random.default_rng(seed)
        first = rng.standard_normal((_FIRST, 3, 3, 5, 5)).astype(np.float32)
        second = rng.standard_normal((_SECOND, _FIRST, 3, 3, 3)).astype(np.float32)
        drawn = hashlib.sha256(first.tobytes() + second.tobytes()).hexdigest()  # before sums, which machines round
        first[: _FIRST // 2] -= first[: _FIRST // 2].mean(2, keepdims=True)  # sums to zero over time: sees change alone
        first -= first.mean((1, 2, 3, 4), keepdims=True)
        second -= second.mean((1, 2, 3, 4), keepdims=True)
        self._first, self._second = (
            torch.from_numpy(filters / np.sqrt(np.square(filters).sum((1, 2, 3, 4), keepdims=True)))
            for filters in (first, second)
        )
        name = f"fixed random space-time filters, seed {seed} (not FVD)"
        how = f"RGB to [-1, 1], averaged down to {SIDE} x {SIDE}"
        self._card = NetworkCard(name, drawn, how)

    @property
    def card(self) -> NetworkCard:
        return self._card

    @torch.inference_mode()
    def __call__(self, frames: Tensor, /) -> Tensor:
        """Features (n, DIMENSION) float64. Raises InvalidInput for other clips or fewer than LEAST_FRAMES frames."""
        check_clips(frames)
        if frames.shape[1] < LEAST_FRAMES:
            raise InvalidInput("clips", f"{frames.shape[1]} frames", f"at least {LEAST_FRAMES}")
        return torch.cat([self._one(clip) for clip in frames.cpu()])

    def _one(self, clip: Tensor) -> Tensor:
        """One clip at a time: its features then cannot depend on the others, to the bit."""
        pictures = clip.permute(0, 3, 1, 2).float() / 127.5 - 1
        small = F.interpolate(pictures, (SIDE, SIDE), mode="area").transpose(0, 1)[None]
        first = F.conv3d(small, self._first, stride=(1, 2, 2)).abs()
        second = F.conv3d(first, self._second, stride=(1, 2, 2)).abs()
        layers = [layer.double().flatten(2) for layer in (first, second)]
        return torch.cat([part for layer in layers for part in (layer.mean(-1), layer.std(-1, correction=0))], 1)
