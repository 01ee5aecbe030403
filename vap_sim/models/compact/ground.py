"""What a camera that moves sees of a scene's plates: the table plane as it was seen at first, by it or by others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vap_sim.models.compact.geometry import NEAREST, Floats
from vap_sim.models.compact.layers import fill

_BARE = 0.99
_FAINT = 1e-3
"""How much what is usual weighs where nothing is known, beside a pixel that is."""
_COARSE = 8  # [px] apart are the pixels of which the usual is the mean
FARTHEST = 4.0
"""[m] from the camera; a table ends before, and what lies there is seen as if it were infinitely far."""


def plate_now(plates: Tensor, bare: Tensor, first: Floats, now: Floats, view: int, table: float) -> Tensor:
    """The plate (1, 3, H, W) in [0, 1] of a view whose camera has moved.

    Args:
        plates: (V, 3, H, W) in [0, 1], as read from the first pictures; bare: (V, 1, H, W), 1 where they show the plate
            itself, less where robot or objects hid it and it was guessed. first: (V, 3, 4), where their cameras stood.
        now: (3, 4), where this view's camera stands. table: height of its plane [m].

    Pixels that show the table are looked up where the view's own first camera saw the same place bare, else where
    another's did, else where one of them guessed it; those above its horizon where the own first camera saw the same
    direction. What none had in its picture is continued from what lies beside it, and far from all that is known it
    has the mean colour of the table, or of what was seen beyond it.
    """
    pixels = _pixels(plates.shape[-2], plates.shape[-1])
    ground, shows = _ground(pixels, now, table)
    canvas = plates.new_zeros(1, *plates.shape[1:])
    known = plates.new_zeros(1, 1, *plates.shape[2:])
    looks: list[_Look] = []
    for source in (view, *(other for other in range(len(plates)) if other != view)):
        both = torch.cat([plates[source], bare[source]])
        looks += _looked(both, ground @ _level(first[source], table).T, shows)
    for bare_alone in (True, False):
        for look in looks:
            canvas, known = _over(canvas, known, look, bare_alone)
    if not shows.all():
        away = pixels @ (first[view, :, :3] @ np.linalg.inv(now[:, :3])).T
        for look in _looked(torch.cat([plates[view], bare[view]]), away, ~shows):
            canvas, known = _over(canvas, known, look, bare_alone=False)
    if bool((known == 1).all()):
        return canvas
    near, far = _usual(plates, first, table)
    usual = torch.where(torch.from_numpy(shows).to(plates.device), near, far)
    return fill(torch.lerp(usual, canvas, known), known.clamp_min(_FAINT))


def _ground(pixels: Floats, projection: Floats, table: float) -> tuple[Floats, NDArray[np.bool_]]:
    """What of the table pixels (h, w, 3) show, (x, y, 1) over depth; and where they show it, (h, w)."""
    ground = pixels @ np.linalg.inv(_level(projection, table)).T
    return ground, ground[..., 2] > 1 / FARTHEST


def _usual(plates: Tensor, first: Floats, table: float) -> tuple[Tensor, Tensor]:
    """Mean colours (1, 3, 1, 1) of the table and of what is beyond it, in plates (V, 3, H, W) as they were first seen;
    of everything where one of the two is in none of them."""
    pixels = _pixels(plates.shape[-2], plates.shape[-1])[::_COARSE, ::_COARSE]
    shows = torch.from_numpy(np.stack([_ground(pixels, one, table)[1] for one in first])).to(plates.device)
    seen = plates[..., ::_COARSE, ::_COARSE].movedim(1, -1)
    means = [seen[part].mean(0) if bool(part.any()) else seen.mean((0, 1, 2)) for part in (shows, ~shows)]
    return means[0].reshape(1, 3, 1, 1), means[1].reshape(1, 3, 1, 1)


@dataclass(frozen=True, eq=False)
class _Look:
    """What a plate shows in each pixel (1, 3, H, W), how bare it was there and whether it has it (1, 1, H, W)."""

    shown: Tensor
    bare: Tensor
    inside: Tensor


def _looked(plate: Tensor, found: Floats, where: NDArray[np.bool_]) -> list[_Look]:
    """A plate and how bare it is (4, H, W), looked up where it has `found` (H, W, 3), its pixels times depth; none
    where it has nothing of what is asked for."""
    height, width = plate.shape[-2:]
    ahead = found[..., 2] > NEAREST * 1e-2
    depth = np.where(ahead, found[..., 2], 1.0)
    x, y = found[..., 0] / depth, found[..., 1] / depth
    inside = where & ahead & (x >= -0.5) & (y >= -0.5) & (x <= width - 0.5) & (y <= height - 0.5)
    if not inside.any():
        return []
    grid = np.stack([x * (2 / (width - 1)) - 1, y * (2 / (height - 1)) - 1], axis=-1).astype(np.float32)
    looked = F.grid_sample(
        plate[None],
        torch.from_numpy(grid)[None].to(plate.device),
        mode="bilinear",
        padding_mode="border",
        align_corners=True,
    )
    return [_Look(looked[:, :3], looked[:, 3:], torch.from_numpy(inside).to(plate.device)[None, None])]


def _over(canvas: Tensor, known: Tensor, look: _Look, bare_alone: bool) -> tuple[Tensor, Tensor]:
    """The canvas with what a look shows where nothing is known yet; of what was bare alone, or also of guesses."""
    lets = look.inside & (look.bare > _BARE) if bare_alone else look.inside
    fresh = lets.to(canvas.dtype) * (1 - known)
    return torch.lerp(canvas, look.shown, fresh), known + fresh


def _level(projection: Floats, height: float) -> Floats:
    """What takes (x, y, 1) of the plane at this height to pixels times depth, (3, 3)."""
    return np.stack([projection[:, 0], projection[:, 1], projection[:, 2] * height + projection[:, 3]], axis=1)


@lru_cache(maxsize=4)
def _pixels(height: int, width: int) -> Floats:
    across, down = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    return np.stack([across, down, np.ones_like(across)], axis=-1)
