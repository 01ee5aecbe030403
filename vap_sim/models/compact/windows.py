"""What surrounds an object: the picture as it is seen from the object's own centre.

An object in a window is always in its middle, so the network that moves it need not learn the same contact anew for
every place of the picture. A window may be seen through a frame (a turn, a zoom, a mirror), by which training
multiplies its examples.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.models.compact.slots import PATCH

WINDOW = 64
"""Side of a window [px]."""
OVERVIEW = 16
"""Side of the overview of a whole picture [positions]."""


def offsets(frames: Tensor | None = None) -> Tensor:
    """Where the pixels of a window lie from its centre [px]: (1, WINDOW, WINDOW, 2) x, y.

    frames: (n, 2, 2), what takes an offset in the window to one in the picture; then (n, WINDOW, WINDOW, 2)."""
    plain = _offsets(torch.device("cpu") if frames is None else frames.device)
    return plain if frames is None else torch.einsum("nij,hwj->nhwi", frames, plain[0])


@lru_cache(maxsize=4)
def _offsets(device: torch.device) -> Tensor:
    along = torch.arange(WINDOW, dtype=torch.float32, device=device) - WINDOW // 2
    return torch.stack(torch.meshgrid(along, along, indexing="xy"), dim=-1)[None]


def look(pictures: Tensor, centre: Tensor, away: Tensor) -> Tensor:
    """Windows (n, C, WINDOW, WINDOW) around centre (n, 2) [px], black outside of the picture.

    pictures (n, C, H, W), or (1, C, H, W) for all; away (n or 1, WINDOW, WINDOW, 2) as `offsets` gives."""
    count, (height, width) = len(centre), pictures.shape[-2:]
    side = away.new_tensor([2 / (width - 1), 2 / (height - 1)])
    grid = (centre[:, None, None] + away) * side - 1
    if len(pictures) == 1 and count > 1:  # one below the other: one picture need not be copied for each
        tall = F.grid_sample(pictures, grid.reshape(1, count * WINDOW, WINDOW, 2), align_corners=True)
        return tall[0].reshape(-1, count, WINDOW, WINDOW).transpose(0, 1)
    return F.grid_sample(pictures, grid, align_corners=True)


def look_at_patch(patches: Tensor, turn: Tensor, away: Tensor) -> Tensor:
    """Cut-outs (n, C, PATCH, PATCH) turned by turn (n, 2), in their own windows: (n, C, WINDOW, WINDOW)."""
    length = turn.square().sum(1)[:, None, None]
    real, imaginary = turn[:, 0, None, None] / length, turn[:, 1, None, None] / length
    x, y = away.unbind(-1)
    place = torch.stack([x * real + y * imaginary, y * real - x * imaginary], dim=-1) + PATCH // 2  # (x + iy) / turn
    return F.grid_sample(patches, place * (2 / (PATCH - 1)) - 1, align_corners=True)


def overview(pictures: Tensor, frames: Tensor | None = None) -> Tensor:
    """Whole pictures (n, C, H, W) coarsely: (n, C, OVERVIEW, OVERVIEW); frames as in `offsets`, n or of one picture."""
    coarse = F.adaptive_avg_pool2d(pictures, OVERVIEW)
    if frames is None:
        return coarse
    coarse = coarse.expand(len(frames), -1, -1, -1)
    still = frames.new_zeros(len(frames), 2, 1)
    grid = F.affine_grid(torch.cat([frames, still], dim=2), list(coarse.shape), align_corners=False)
    return F.grid_sample(coarse, grid, align_corners=False)
