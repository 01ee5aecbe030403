"""What the compact model is trained for: reading pictures apart, moving objects over many steps, painting the robot.

Every term is normalised by the area it speaks of, so that a small object weighs as much as a large table.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.models.compact import layers
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.models.compact.slots import advance, cut, render


@dataclass(frozen=True)
class Clip:
    """A batch of clips, all channels first; T frames, the first of which is the start of a dream.

    frames (b, T, 3, H, W), skeletons (b, T + 2, 3, H, W) (two older ones first), objects (b, T, 4, H, W)
    premultiplied rgba,
    plate (b, 3, H, W), robot (b, T, 1, H, W), seen (b, T, 1, H, W) visible share of objects, numbers (b, H, W) which
    object of the
    first frame: uint8; centres (b, T, S, 2) of the objects [px] and steps (b, T, S, 4) from the frame before: x, y
    [px], turn [rad], log of growth: float32.
    """

    frames: Tensor
    skeletons: Tensor
    objects: Tensor
    plate: Tensor
    robot: Tensor
    seen: Tensor
    numbers: Tensor
    centres: Tensor
    steps: Tensor


@dataclass(frozen=True)
class LossWeights:
    """Shares of the terms, and how the rollout is fed."""

    object_alpha: float = 1.0
    object_color: float = 3.0
    object_unseen: float = 0.2
    plate: float = 2.0
    unseen: float = 0.5
    moving: float = 1.0
    shift: float = 1.0
    twist: float = 1.0
    blocks: float = 0.3
    robot_alpha: float = 1.0
    robot_color: float = 1.0
    frame: float = 6.0


_MOVED, _TURNED = 0.12, 0.02  # [px], [rad] a frame: less is rest
_LOST = 10.0  # [px]
_PULL, _LARGEST_PULL = 0.3, 1.5  # share, and most [px], of a misplacement to mend in one step


def unit(values: Tensor) -> Tensor:
    """uint8 -> [0, 1]."""
    return values.float() / 255


def compact_loss(
    network: CompactNetwork, clip: Clip, weights: LossWeights, *, jitter: Tensor, painted: tuple[int, ...]
) -> tuple[Tensor, dict[str, Tensor]]:
    """The training loss of a batch of clips.

    Objects are moved by the network itself from frame to frame and pulled towards the truth, so that it meets its own
    errors; no gradient flows from one frame into another.

    Args:
        network: in its training precision (autocast is the caller's).
        clip: the batch.
        jitter: (b, S, 2) [px] by which slots start misplaced.
        painted: indices into 1..T-1 of the frames whose robot is painted (painting costs as much as moving).

    Returns:
        the weighted sum, and every term by name (detached).
    """
    terms: dict[str, Tensor] = {}
    objects = unit(clip.objects)
    skeletons = [layers.skeleton_blocks(unit(item)) for item in clip.skeletons.unbind(1)]
    plate, robot, seen = unit(clip.plate), unit(clip.robot), unit(clip.seen)
    reading = layers.read(network, unit(clip.frames[:, 0]), skeletons[2])
    _reading_terms(terms, reading, objects[:, 0], plate, robot[:, 0], seen[:, 0])
    slots = cut(objects[:, 0], clip.numbers)
    offset = slots.centre - clip.centres[:, 0]
    slots = replace(slots, centre=slots.centre + jitter)
    moves: list[dict[str, Tensor]] = []
    paints: list[dict[str, Tensor]] = []
    for step in range(1, clip.frames.shape[1]):
        history = torch.cat([skeletons[step + 2], skeletons[step + 1], skeletons[step]], dim=1)
        with torch.no_grad():
            layer = render(slots, objects.shape[-1])
        motion = layers.move(network, history, layer, slots)
        missed = clip.centres[:, step - 1] + offset - slots.centre
        moves.append(_motion_terms(motion, clip.steps[:, step], missed, slots.present))
        slots = advance(slots, motion.shift, motion.twist, motion.logit > 0).detach()
        if step in painted:
            painting = layers.paint(network, skeletons[step + 2], objects[:, step], reading.style, plate)
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


def _motion_terms(motion: layers.Motion, truth: Tensor, missed: Tensor, present: Tensor) -> dict[str, Tensor]:
    """Terms of one step: truth (b, S, 4) the true step, missed (b, S, 2) [px] by how much slots lie wrong before it."""
    moving = (truth[..., :2].abs().amax(-1) > _MOVED) | (truth[..., 2].abs() > _TURNED)
    known = (present & (missed.abs().amax(-1) < _LOST)).float()  # a slot that is lost has nothing to learn from
    goal = truth[..., :2] + (_PULL * missed).clamp(-_LARGEST_PULL, _LARGEST_PULL)
    sure = known * moving
    count, active = known.sum() + 1, sure.sum() + 1
    twist = (motion.twist - truth[..., 2:]).abs() @ truth.new_tensor([2.0, 4.0])
    spread = motion.footprint * known[..., None, None]
    target = torch.cat([goal / layers.FLOW_UNIT, truth[..., 2:]], dim=-1)
    dense = (motion.blocks[:, None, :4] - target[..., None, None]).abs().sum(2) * moving[..., None, None]
    logit = motion.blocks[:, None, 5].expand_as(spread)
    dense = dense + _bce(logit, moving[..., None, None].float().expand_as(spread))
    return {
        "moving": (_bce(motion.logit, moving.float()) * known).sum() / count,
        "shift": ((motion.shift - goal).abs().sum(-1) * sure).sum() / active / 4,
        "twist": (twist * sure).sum() / active,
        "blocks": (dense * spread).sum() / (spread.sum() + 30),
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
