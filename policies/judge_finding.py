"""Where to look: the named colour in a picture, a bright ring on a map of the table, by arithmetic alone.

These are proposals, good to a few pixels; the judge's eyes look closely at what lies around them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

COLORS_OFF = 0.1
"""Distance of chromaticities (sum over channels) at which likeness to a named colour has fallen to 1 / e."""
RING_RADII = (6.5, 7.5, 8.5)
"""Outer radii [cells] of the rings that are looked for; the hole is RING_HOLE of that."""
RING_HOLE = 0.72
_BLUR, _REACH = 9, 12  # [px]
_DARK = 0.05


@dataclass(frozen=True, eq=False)
class Found:
    """cell (b, 2) int64 row and column; strength (b,): mean likeness there, or how well a ring fits, up to 1."""

    cell: Tensor
    strength: Tensor


def color_likeness(rgb: Tensor, color: Tensor) -> Tensor:
    """How alike pixels and a colour are, whatever the light: rgb (b, 3, R, C), color (b, 3) in [0, 1] -> (b, R, C)."""
    total = rgb.sum(1, keepdim=True)
    named = (color / color.sum(-1, keepdim=True))[:, :, None, None]
    off = (rgb / total.clamp_min(_DARK) - named).abs().sum(1)
    return (-off / COLORS_OFF).exp() * (total[:, 0] > _DARK)


def find_object(likeness: Tensor) -> Found:
    """The middle of the patch of greatest likeness (b, R, C) in pictures HEIGHT pixels high."""
    strong = likeness.square()
    # Along one axis after the other: the same mean in a fifth of the time.
    soft = F.avg_pool2d(strong[:, None], (_BLUR, 1), stride=1, padding=(_BLUR // 2, 0))
    soft = F.avg_pool2d(soft, (1, _BLUR), stride=1, padding=(0, _BLUR // 2))[:, 0]
    peak = _argmax(soft)
    strength = soft.flatten(1).amax(1)
    rows, columns = (torch.arange(side) for side in likeness.shape[1:])
    near = (rows[None, :, None] - peak[:, 0, None, None]).abs() <= _REACH
    near = near & ((columns[None, None, :] - peak[:, 1, None, None]).abs() <= _REACH)
    weight = strong * near
    total = weight.sum((1, 2)).clamp_min(1e-6)
    row = (weight.sum(2) * rows).sum(1) / total
    column = (weight.sum(1) * columns).sum(1) / total
    return Found(torch.stack([row, column], dim=1).round().long(), strength)


def find_ring(rgb: Tensor) -> Found:
    """The bright ring that fits best in rgb (b, 3, R, C) in [0, 1].

    Brightness is correlated with rings of RING_RADII over the cells that the picture shows; strength is that
    correlation, less where little of the ring is shown.
    """
    bright, seen = rgb.amin(1, keepdim=True), (rgb.amax(1, keepdim=True) > _DARK).float()
    fields = torch.cat([seen, seen * bright, seen * bright.square()], dim=0)
    best: Tensor | None = None
    for radius in RING_RADII:
        ring, whole = _ring(radius)
        on = F.conv2d(fields, ring, padding=ring.shape[-1] // 2).chunk(3)
        about = F.conv2d(fields, whole, padding=whole.shape[-1] // 2).chunk(3)
        count = about[0].clamp_min(1.0)
        part, mean = on[0] / count, about[1] / count
        spread = (about[2] / count - mean.square()).clamp_min(1e-4)
        fit = (on[1] / count - mean * part) / (spread * (part * (1 - part)).clamp_min(1e-3)).sqrt()
        share = (on[0] / ring.sum()).clamp(0, 1)
        score = (fit * (2 * share).clamp_max(1.0))[:, 0]
        best = score if best is None else torch.maximum(best, score)
    assert best is not None
    return Found(_argmax(best), best.flatten(1).amax(1))


def crop(planes: Tensor, cell: Tensor, side: int) -> Tensor:
    """Windows of `side` x `side` cells about cells (b, 2) of planes (b, C, R, C); zero outside."""
    half = side // 2
    padded = F.pad(planes, (half, half, half, half))
    rows = (cell[:, 0].clamp(0, planes.shape[-2] - 1)[:, None] + torch.arange(side))[:, None, :, None]
    columns = (cell[:, 1].clamp(0, planes.shape[-1] - 1)[:, None] + torch.arange(side))[:, None, None, :]
    batch = torch.arange(len(planes))[:, None, None, None]
    channel = torch.arange(planes.shape[1])[None, :, None, None]
    return padded[batch, channel, rows, columns]


def _argmax(planes: Tensor) -> Tensor:
    """(b, 2) row and column of the largest value of (b, R, C)."""
    place = planes.flatten(1).argmax(1)
    return torch.stack([place // planes.shape[-1], place % planes.shape[-1]], dim=1)


@lru_cache(maxsize=8)
def _ring(radius: float) -> tuple[Tensor, Tensor]:
    """Indicators (1, 1, n, n) of a ring and of the disc around it, for conv2d."""
    half = int(1.4 * radius) + 1
    axis = torch.arange(-half, half + 1, dtype=torch.float32)
    far = (axis[:, None].square() + axis[None, :].square()).sqrt()
    ring = ((far <= radius) & (far >= RING_HOLE * radius)).float()
    return ring[None, None], (far <= 1.4 * radius).float()[None, None]
