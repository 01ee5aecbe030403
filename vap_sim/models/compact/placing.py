"""Placing slots in a dream: what `slots.render` gives, computed only where a slot can be seen."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.models.compact.slots import PATCH, Slots, drawing_order

_MIDDLE = PATCH // 2
_REACH = max(_MIDDLE + 1, PATCH - _MIDDLE)  # a cut-out ends less than so many of its pixels from its middle


def lay(slots: Slots, size: int, near: Tensor | None = None) -> Tensor:
    """Objects (b, 4, size, size) of slots, as the module says; no gradients. near: as in `slots.drawing_order`."""
    rows = range(slots.present.shape[0])
    canvas = torch.zeros(len(rows), 4, size, size, device=slots.centre.device)
    order = drawing_order(slots, near).tolist()
    present, centres, turns = slots.present.tolist(), slots.centre.tolist(), slots.turn.tolist()
    for row in rows:
        for slot in order[row]:
            window = _window(centres[row][slot], turns[row][slot], size) if present[row][slot] else None
            if window is None:
                continue
            layer = _place(slots.patches[row, slot], slots.centre[row, slot], slots.turn[row, slot], window)
            below = canvas[row][:, window[0], window[1]]
            below.mul_(1 - layer[3:4]).add_(layer)
    return canvas


def _window(centre: list[float], turn: list[float], size: int) -> tuple[slice, slice] | None:
    """Rows and columns that a cut-out may reach; None outside of the picture."""
    reach = _REACH * (abs(turn[0]) + abs(turn[1]))
    sides = []
    for middle in (centre[1], centre[0]):
        if not math.isfinite(middle + reach):
            return None
        first = max(math.floor(middle - reach), 0)
        last = min(math.ceil(middle + reach) + 1, size)
        if first >= last:
            return None
        sides.append(slice(first, last))
    return sides[0], sides[1]


def _place(patch: Tensor, centre: Tensor, turn: Tensor, window: tuple[slice, slice]) -> Tensor:
    """One cut-out (4, PATCH, PATCH) in a window of the picture; the same arithmetic as `slots.place`."""
    rows, columns = window
    x = torch.arange(columns.start, columns.stop, dtype=torch.float32, device=patch.device)[None, :] - centre[0]
    y = torch.arange(rows.start, rows.stop, dtype=torch.float32, device=patch.device)[:, None] - centre[1]
    length = turn.square().sum()
    real, imaginary = turn[0] / length, turn[1] / length
    u = x * real + y * imaginary + _MIDDLE
    v = y * real - x * imaginary + _MIDDLE
    look = torch.stack([u, v], dim=-1) * (2 / (PATCH - 1)) - 1
    return F.grid_sample(patch[None], look[None], mode="bilinear", padding_mode="zeros", align_corners=True)[0]
