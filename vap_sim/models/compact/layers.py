"""A picture in three layers (plate, objects, robot): reading it apart and painting it together.

The plate (table, wall) never changes in a dream, the robot is painted afresh from its skeleton in every frame, and
only where the objects are is carried from frame to frame (see `slots`, `motion`). What the arm hides is therefore never
forgotten, errors of the robot cannot accumulate, and an object out of contact stays what and where it is, bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.models.compact.network import CompactNetwork, to_blocks
from vap_sim.models.compact.slots import Slots, cut, number_objects


@dataclass(frozen=True)
class Reading:
    """What one picture was read as: plate (b, 3, H, W), objects (b, 4, H, W) premultiplied rgba, both in [0, 1];
    style (b, S). For losses: color (b, 3, H, W) of the objects before alpha, planes (b, 10, H, W) the raw logits."""

    plate: Tensor
    objects: Tensor
    color: Tensor
    style: Tensor
    planes: Tensor


@dataclass(frozen=True)
class Painting:
    """The finished frame (b, 3, H, W) in [0, 1]; for losses robot alpha logits (b, 1, H, W) and rgb (b, 3, H, W)."""

    frame: Tensor
    robot_logit: Tensor
    robot_rgb: Tensor


def share(logits: Tensor) -> Tensor:
    """A sigmoid that reaches exactly 0 and 1, so that 'none of it' and 'all of it' can be said.

    Its gradient is the sigmoid's also where it is clamped: a share that has reached an end can come back."""
    stretched = torch.sigmoid(logits) * 1.1 - 0.05
    if not torch.is_grad_enabled():
        return stretched.clamp(0, 1)
    return stretched + (stretched.clamp(0, 1) - stretched).detach()


def skeleton_blocks(skeleton: Tensor) -> Tensor:
    """A drawn skeleton (b, 3, H, W) in [0, 1] as the networks read it: (b, 12, h, w) in [-1, 1]."""
    return to_blocks(skeleton * 2 - 1)


def read(network: CompactNetwork, frame: Tensor, skeleton: Tensor) -> Reading:
    """Take a picture apart; frame (b, 3, H, W) in [0, 1], skeleton (b, 12, h, w) as `skeleton_blocks` gives it."""
    planes, style = network.scene(to_blocks(frame * 2 - 1), skeleton)
    planes, style = planes.float(), style.float()
    frame = frame.float()
    alpha = share(planes[:, 0:1])
    color = torch.lerp(frame, torch.sigmoid(planes[:, 2:5]), share(planes[:, 1:2]))
    unseen = share(planes[:, 5:6])
    guess = fill(frame, 1 - F.max_pool2d(unseen, 3, stride=1, padding=1).detach())
    plate = torch.lerp(frame, (guess + torch.sigmoid(planes[:, 6:9]) - 0.5).clamp(0, 1), unseen)
    return Reading(plate, torch.cat([color * alpha, alpha], dim=1), color, style, planes)


def bare(reading: Reading) -> Tensor:
    """Where a picture showed its plate, (b, 1, H, W): 1, down to 0 where robot or objects hid it."""
    return 1 - F.max_pool2d(share(reading.planes[:, 5:6]), 3, stride=1, padding=1)


def fill(image: Tensor, known: Tensor) -> Tensor:
    """Continue what is known into what is not, from ever coarser means; image (b, 3, H, W), known (b, 1, H, W) in [0,
    1].

    The network then only has to correct this guess, which is nearly right for plain tables and walls."""
    sums, weights = [image * known], [known]
    while sums[-1].shape[-1] > 1:
        sums.append(F.avg_pool2d(sums[-1], 2))
        weights.append(F.avg_pool2d(weights[-1], 2))
    value = sums[-1] / weights[-1].clamp_min(1e-4)
    for total, weight in zip(reversed(sums[:-1]), reversed(weights[:-1]), strict=True):
        coarse = F.interpolate(value, scale_factor=2.0, mode="bilinear", align_corners=False)
        value = torch.lerp(coarse, total / weight.clamp_min(1e-4), (weight * 2).clamp_max(1.0))
    return value


def find_slots(objects: Tensor) -> Slots:
    """Tell the objects of a reading apart; objects (b, 4, H, W) premultiplied rgba."""
    pictures = (objects * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    numbers = torch.from_numpy(np.stack([number_objects(picture) for picture in pictures]))
    return cut(objects, numbers.to(objects.device))


def paint(
    network: CompactNetwork,
    skeleton: Tensor,
    objects: Tensor,
    style: Tensor,
    plate: Tensor,
    *,
    object_blocks: Tensor | None = None,
) -> Painting:
    """Paint the robot over the scene; skeleton (b, 12, h, w) as `skeleton_blocks` gives; object_blocks what
    `to_blocks(objects)` gives, where that is at hand."""
    object_blocks = to_blocks(objects) if object_blocks is None else object_blocks
    planes = network.robot(skeleton, object_blocks, style).float()
    objects, rgb = objects.float(), torch.sigmoid(planes[:, 1:4])
    scene = objects[:, :3] + (1 - objects[:, 3:4]) * plate.float()
    return Painting(torch.lerp(scene, rgb, share(planes[:, 0:1])), planes[:, 0:1], rgb)
