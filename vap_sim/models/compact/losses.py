"""What the compact model is trained for: reading pictures apart, moving objects over many steps, painting the robot.

Every term is normalised by the area it speaks of, so that a small object weighs as much as a large table.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.models.compact import layers
from vap_sim.models.compact.network import CompactNetwork


@dataclass(frozen=True)
class Clip:
    """A batch of clips, all channels first; T frames, the first of which is the start of a dream.

    frames (b, T, 3, H, W), skeletons (b, T + 2, 3, H, W) (two older ones first), objects (b, T, 4, H, W) premultiplied rgba,
    plate (b, 3, H, W), robot (b, T, 1, H, W), seen (b, T, 1, H, W) visible share of objects: uint8;
    flow (b, T, 2, H/2, W/2) int16 in 1/32 px.
    """

    frames: Tensor
    skeletons: Tensor
    objects: Tensor
    plate: Tensor
    robot: Tensor
    seen: Tensor
    flow: Tensor


@dataclass(frozen=True)
class LossWeights:
    """Shares of the terms, and how the rollout is fed."""

    object_alpha: float = 1.0
    object_color: float = 3.0
    object_unseen: float = 0.2
    plate: float = 2.0
    unseen: float = 0.5
    gate: float = 1.0
    flow: float = 1.0
    rollout: float = 2.0
    repaint: float = 0.3
    robot_alpha: float = 1.0
    robot_color: float = 1.0
    frame: float = 6.0


def unit(values: Tensor) -> Tensor:
    """uint8 -> [0, 1]."""
    return values.float() / 255


def compact_loss(
    network: CompactNetwork, clip: Clip, weights: LossWeights, *, own_start: Tensor, painted: tuple[int, ...]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The training loss of a batch of clips.

    Args:
        network: in its training precision (autocast is the caller's).
        clip: the batch.
        own_start: (b,) bool, rows that begin from the objects the network itself read, not from the true ones.
        painted: indices into 1..T-1 of the frames whose robot is painted (painting costs as much as moving).

    Returns:
        the weighted sum, and every term by name (detached).
    """
    terms: dict[str, Tensor] = {}
    objects = unit(clip.objects)
    skeletons = [layers.skeleton_blocks(unit(item)) for item in clip.skeletons.unbind(1)]
    plate, robot, seen = unit(clip.plate), unit(clip.robot), unit(clip.seen)
    frame = unit(clip.frames[:, 0])
    reading = layers.read(network, frame, skeletons[2])
    _reading_terms(terms, reading, objects[:, 0], plate, robot[:, 0], seen[:, 0])
    state = torch.where(own_start[:, None, None, None], reading.objects.detach(), objects[:, 0])
    flow = _flow_unit(clip.flow[:, 0]) * ~own_start[:, None, None, None]
    moves: list[dict[str, Tensor]] = []
    paints: list[dict[str, Tensor]] = []
    for step in range(1, clip.frames.shape[1]):
        history = torch.cat([skeletons[step + 2], skeletons[step + 1], skeletons[step]], dim=1)
        before = state
        motion = layers.move(network, history, before, flow)
        state, flow = motion.objects, motion.flow
        moves.append(_motion_terms(motion, objects[:, step - 1], objects[:, step], _flow_unit(clip.flow[:, step])))
        if step in painted:
            source = torch.where(own_start[:, None, None, None], state.detach(), objects[:, step])
            painting = layers.paint(network, skeletons[step + 2], source, reading.style, plate)
            paints.append(_painting_terms(painting, unit(clip.frames[:, step]), robot[:, step], seen[:, step]))
    for group in (moves, paints):
        for name in group[0] if group else ():
            terms[name] = torch.stack([item[name] for item in group]).mean()
    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    return total, {name: value.detach() for name, value in terms.items()}


def _reading_terms(
    terms: dict[str, Tensor], reading: layers.Reading, objects: Tensor, plate: Tensor, robot: Tensor, seen: Tensor
) -> None:
    planes, alpha = reading.planes, objects[:, 3:4]
    area = alpha.sum() + 100
    heavy = 1 + 8 * _grown(alpha, 2)
    terms["object_alpha"] = (_bce(planes[:, 0:1], alpha) * heavy).sum() / area / 4
    # Not the premultiplied color: an unsure alpha would pull it to black, where its gradient dies.
    terms["object_color"] = _color_error(reading.color, objects)
    hidden = ((alpha > 0.5) & (seen < 0.5)).float()
    terms["object_unseen"] = (_bce(planes[:, 1:2], hidden) * alpha).sum() / area
    foreground = _grown(((robot + seen) > 0.02).float(), 1)
    terms["unseen"] = _bce(planes[:, 5:6], foreground).mean() + _bce(planes[:, 9:10], robot).mean()
    error = (reading.plate - plate).abs().mean(1, keepdim=True)
    terms["plate"] = (error * foreground).sum() / (foreground.sum() + 100) + error.mean()


def _motion_terms(motion: layers.Motion, before: Tensor, after: Tensor, flow: Tensor) -> dict[str, Tensor]:
    changed = _grown(((after - before).abs().amax(1, keepdim=True) > 0.02).float(), 1)
    planes = motion.planes
    gate = _bce(planes[:, 0:1], changed) * (1 + 4 * changed)
    moving = (flow.abs().amax(1, keepdim=True) > 1e-4).float()
    wanted, share = _spread(flow, moving)
    slip = (motion.raw_flow - wanted).abs().sum(1, keepdim=True)
    area = torch.maximum(before[:, 3:4], after[:, 3:4])
    weight = 0.02 + area + 2 * changed
    error = (motion.objects - after).abs().mean(1, keepdim=True)
    return {
        "gate": gate.mean() + (gate * changed).sum() / (changed.sum() + 100),
        "flow": (slip * share).sum() / (share.sum() + 30) * layers.FLOW_UNIT / 4,
        "rollout": (error * weight).sum() / (area.sum() + 100),
        "repaint": (_bce(planes[:, 5:6], after[:, 3:4]) * changed).sum() / (changed.sum() + 100)
        + _color_error(torch.sigmoid(planes[:, 2:5]), after * changed),
    }


def _painting_terms(painting: layers.Painting, frame: Tensor, robot: Tensor, seen: Tensor) -> dict[str, Tensor]:
    edge = _grown(robot, 2)
    area = robot.sum() + 100
    error = (painting.frame - frame).abs().mean(1, keepdim=True)
    return {
        "robot_alpha": (_bce(painting.robot_logit, robot) * (0.2 + edge)).sum() / area,
        "robot_color": ((painting.robot_rgb - frame).abs().mean(1, keepdim=True) * (robot > 0.9)).sum() / area,
        "frame": (error * (0.5 + edge + 2 * _grown(seen, 2))).sum() / (edge.sum() + 0.5 * edge.numel()),
    }


def _color_error(color: Tensor, objects: Tensor) -> Tensor:
    """Mean error of unmultiplied colors where there are objects (premultiplied rgba)."""
    alpha = objects[:, 3:4]
    return ((color * alpha - objects[:, :3]).abs().mean(1, keepdim=True)).sum() / (alpha.sum() + 100)


def _bce(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def _grown(mask: Tensor, radius: int) -> Tensor:
    """Grey dilation by a square of side 2 radius + 1."""
    return F.max_pool2d(mask, 2 * radius + 1, stride=1, padding=radius)


def _spread(flow: Tensor, moving: Tensor) -> tuple[Tensor, Tensor]:
    """Extend flow three cells beyond the moving objects: vacated ground must look back past the object, not at it."""
    near = F.avg_pool2d(moving, 7, stride=1, padding=3)
    mean = F.avg_pool2d(flow * moving, 7, stride=1, padding=3) / near.clamp_min(1e-6)
    return torch.where(moving > 0, flow, mean), torch.where(moving > 0, 1.0, 0.5 * (near > 0))


def _flow_unit(flow: Tensor) -> Tensor:
    return flow.float() / (32 * layers.FLOW_UNIT)
