"""Which part of a picture a robot can be seen in: a frame around its drawn skeleton, so that only there it is painted.

A network that looks at less of a picture takes less time, in proportion. Frames have few sizes, because a processor
lays out weights anew for every size of picture, and begin and end where the coarsest level of a network has whole
positions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

NEAR = 8
"""How far from the drawn skeleton a robot's body may be seen, and painted [px]."""
_SIDES = ((1, 2), (3, 4), (1, 1))  # of a picture


@dataclass(frozen=True)
class Frame:
    """A part of a picture, in blocks of 2 x 2 pixels."""

    rows: slice
    columns: slice


def frame_around(skeleton: Tensor, near: int, grid: int) -> Frame | None:
    """The frame of what is drawn and what is `near` it [px]; None where nothing is drawn.

    skeleton (12, h, w) as `layers.skeleton_blocks` gives it, its background -1; grid: the blocks of one position of the
    network's coarsest level."""
    drawn = (skeleton > -1).any(0).cpu().numpy()
    if not drawn.any():
        return None
    rows, columns = (_side(np.flatnonzero(drawn.any(axis=1 - side)), drawn.shape[side], near, grid) for side in (0, 1))
    return Frame(rows, columns)


def _side(lit: NDArray[np.intp], size: int, near: int, grid: int) -> slice:
    """One side of a frame: blocks of a picture of `size` of them, of which those that are `lit` show something."""
    margin = -(-near // 2)
    first = max(0, int(lit[0]) - margin) // grid * grid
    last = min(size, int(lit[-1]) + 1 + margin)
    lengths = (-(-size * share // (whole * grid)) * grid for share, whole in _SIDES)
    length = min((one for one in lengths if last - first <= one <= size), default=size)
    first = min(first, size - length)
    return slice(first, first + length)
