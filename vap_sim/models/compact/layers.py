"""A picture in three layers (plate, objects, robot): reading it apart, moving it on by one frame, painting it together.

The plate (table, wall) never changes in a dream, the robot is painted afresh from its skeleton in every frame, and only the
object layer is carried from frame to frame. What the arm hides is therefore never forgotten, errors of the robot cannot
accumulate, and a pixel far from every contact is copied bit by bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.models.compact.network import CompactNetwork, to_blocks

FLOW_UNIT = 8.0
"""Networks speak of motion in units of this many pixels."""
FLOW_CELL = 4
"""Motion is one vector a square of this many blocks (8 pixels), interpolated: about one object wide, so objects move as a whole."""


@dataclass(frozen=True)
class Reading:
    """What one picture was read as: plate (b, 3, H, W), objects (b, 4, H, W) premultiplied rgba, both in [0, 1]; style (b, S).
    For losses: color (b, 3, H, W) of the objects before alpha, planes (b, 10, H, W) the raw logits."""

    plate: Tensor
    objects: Tensor
    color: Tensor
    style: Tensor
    planes: Tensor


@dataclass(frozen=True)
class Motion:
    """One step of the object layer: objects (b, 4, H, W), flow (b, 2, H/2, W/2) [8 px] zero where nothing moves.
    For losses: raw_flow before gating, planes (b, 6, H, W) logits of gate, repaint share and repainted rgba."""

    objects: Tensor
    flow: Tensor
    raw_flow: Tensor
    planes: Tensor


@dataclass(frozen=True)
class Painting:
    """The finished picture: frame (b, 3, H, W) in [0, 1], robot alpha logits (b, 1, H, W) and rgb (b, 3, H, W), for losses."""

    frame: Tensor
    robot_logit: Tensor
    robot_rgb: Tensor


def share(logits: Tensor) -> Tensor:
    """A sigmoid that reaches exactly 0 and 1, so that 'none of it' and 'all of it' can be said.

    Its gradient is the sigmoid's also where it is clamped: a share that has reached an end can come back."""
    stretched = torch.sigmoid(logits) * 1.1 - 0.05
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
    plate = torch.lerp(frame, torch.sigmoid(planes[:, 6:9]), share(planes[:, 5:6]))
    return Reading(plate, torch.cat([color * alpha, alpha], dim=1), color, style, planes)


def move(network: CompactNetwork, skeletons: Tensor, objects: Tensor, flow: Tensor) -> Motion:
    """Carry the object layer on by one frame; skeletons (b, 36, h, w): the blocks of three frames, newest first."""
    raw_flow, planes = network.motion(skeletons, to_blocks(objects), flow)
    raw_flow, planes, objects = raw_flow.float(), planes.float(), objects.float()
    gate = planes[:, 0:1]
    soft = torch.sigmoid(gate)
    open_ = (gate > 0).float() + soft - soft.detach()  # hard forward, soft gradient
    coarse = F.avg_pool2d(raw_flow, FLOW_CELL)
    raw_flow = F.interpolate(coarse, scale_factor=float(FLOW_CELL), mode="bilinear", align_corners=False)
    pixels = F.interpolate(coarse, scale_factor=2.0 * FLOW_CELL, mode="bilinear", align_corners=False) * FLOW_UNIT
    alpha = torch.sigmoid(planes[:, 5:6])
    fresh = torch.cat([torch.sigmoid(planes[:, 2:5]) * alpha, alpha], dim=1)
    moved = torch.lerp(warp(objects, pixels), fresh, share(planes[:, 1:2]))
    shut = F.avg_pool2d((gate > 0).float(), 2)
    return Motion(torch.lerp(objects, moved, open_), raw_flow * shut, raw_flow, planes)


def paint(network: CompactNetwork, skeleton: Tensor, objects: Tensor, style: Tensor, plate: Tensor) -> Painting:
    """Paint the robot over the scene; skeleton (b, 12, h, w) as `skeleton_blocks` gives it."""
    planes = network.robot(skeleton, to_blocks(objects), style).float()
    objects, rgb = objects.float(), torch.sigmoid(planes[:, 1:4])
    scene = objects[:, :3] + (1 - objects[:, 3:4]) * plate.float()
    return Painting(torch.lerp(scene, rgb, share(planes[:, 0:1])), planes[:, 0:1], rgb)


def warp(image: Tensor, flow: Tensor) -> Tensor:
    """Bilinear look-up: out(x) = image(x + flow(x)); image (b, C, H, W), flow (b, 2, H, W) [px], zero outside."""
    _, _, height, width = image.shape
    across = torch.arange(width, dtype=flow.dtype, device=flow.device)[None, None, :] + flow[:, 0]
    down = torch.arange(height, dtype=flow.dtype, device=flow.device)[None, :, None] + flow[:, 1]
    grid = torch.stack([across * (2 / (width - 1)) - 1, down * (2 / (height - 1)) - 1], dim=-1)
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
