"""By what the robot would carry an object if it held it: the tool's own motion, where the object is.

What is held moves as the tool does, exactly, while a network that reads motion from drawn bones errs by half a pixel a
step, which adds up. How far along the line of sight an object lies is not known, but what is held lies where the tool
does: a tool's motion takes the plane through it, parallel to the picture, by a homography, and with it the object.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from vap_sim.models.compact.geometry import NEAREST, Floats
from vap_sim.prompts.projection import product

CARRY = 4
"""Numbers that say how an object would be carried: x, y, turn, log of growth."""
HOLD = 3
"""Numbers in which a network answers: logit of being held, and by how much what is held goes beside that, x, y."""
FARTHEST = 32.0
"""[px] by which an object may be said to be carried; a tool that turns takes what is far from it farther."""
_MOST_TWIST = 0.5  # [rad], log of growth
_SHALLOWEST = 0.1  # share of its depth at which the plane may be seen next
_UNSURE = -1.0  # logit of being held, before anything is learned of it


def homographies(projections: Floats, before: Floats, now: Floats) -> Floats:
    """What takes pixels of the plane through the tool, parallel to the picture, to where the tool carries them.

    projections (..., 3, 4): of the picture; before, now (..., 4, 4): the tool's pose in the base frame a step ago and
    now [m] -> (..., 3, 3). The identity where a tool lies behind the camera."""
    linear, offset = projections[..., :3], projections[..., 3:]
    was, place = before[..., :3, :3].swapaxes(-1, -2), before[..., :3, 3:]
    turn: Floats = product(now[..., :3, :3], was)
    shift = now[..., :3, 3:] - product(turn, place)
    depth = product(linear[..., 2:, :], place) + offset[..., 2:, :]
    onto: Floats = product(linear, turn)
    turned: Floats = product(onto, np.asarray(np.linalg.inv(linear), np.float64))
    beside: Floats = product(linear, shift) + offset - product(turned, offset)
    seen = depth > NEAREST
    taken = np.concatenate([turned[..., :2], turned[..., 2:] + beside / np.where(seen, depth, 1.0)], axis=-1)
    return np.where(seen, taken, np.eye(3))


def planes(projections: Tensor, before: Tensor, now: Tensor) -> Tensor:
    """`homographies` (..., 3, 3) float32 of tensors of any type, on the device of `now`."""
    exact = (value.detach().cpu().double().numpy() for value in (projections, before, now))
    return torch.from_numpy(homographies(*exact).astype(np.float32)).to(now.device)


def carried(planes: Tensor, centre: Tensor) -> Tensor:
    """How objects would be carried (n, CARRY): shift x, y [px], turn [rad], log of growth.

    planes (n, 3, 3) of `homographies`; centre (n, 2) [px] of the objects. Sums are written out term by term, so that
    what is said of an object does not depend on the others."""
    x, y = centre[:, 0], centre[:, 1]
    across, down, deep = (planes[:, row, 0] * x + planes[:, row, 1] * y + planes[:, row, 2] for row in range(3))
    deep = deep.clamp_min(_SHALLOWEST)
    u, v = across / deep, down / deep
    # How pixels beside the object go, as one complex number: the turn and size nearest to the plane's own.
    real = (planes[:, 0, 0] - u * planes[:, 2, 0] + planes[:, 1, 1] - v * planes[:, 2, 1]) / (2 * deep)
    imaginary = (planes[:, 1, 0] - v * planes[:, 2, 0] - planes[:, 0, 1] + u * planes[:, 2, 1]) / (2 * deep)
    shift = torch.stack([u - x, v - y], dim=1)
    far = shift.square().sum(1, keepdim=True).sqrt()
    shift = shift * (FARTHEST / far.clamp_min(FARTHEST))
    growth = 0.5 * (real.square() + imaginary.square()).clamp_min(1e-6).log()
    twist = torch.stack([torch.atan2(imaginary, real), growth], dim=1)
    return torch.cat([shift, twist.clamp(-_MOST_TWIST, _MOST_TWIST)], dim=1)


def widened(tensors: Mapping[str, Tensor], prefix: str = "motion.") -> dict[str, Tensor]:
    """Weights of a motion network that was not told of carrying as those of one that is, to be trained on: it takes
    every object to be held a little."""
    wide = dict(tensors)
    told, head, bias = (f"{prefix}{name}" for name in ("overview.weight", "head.weight", "head.bias"))
    wide[told] = torch.cat([wide[told], wide[told].new_zeros(len(wide[told]), CARRY)], dim=1)
    wide[head] = torch.cat([wide[head], torch.zeros_like(wide[head][:HOLD])])
    wide[bias] = torch.cat([wide[bias], wide[bias].new_tensor([_UNSURE, 0.0, 0.0])])
    return wide
