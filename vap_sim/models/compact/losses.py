"""What the picture networks of the compact model are trained for: reading a picture apart, painting the robot.

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
class Pictures:
    """A batch of P pictures each of b scenes, channels first; the first of a scene is read, the others are painted.

    frames (b, P, 3, H, W), skeletons (b, P, 3, H, W), objects (b, P, 4, H, W) premultiplied rgba, plate (b, 3, H, W),
    or (b, P, 3, H, W) one a frame, robot (b, P, 1, H, W) and seen (b, P, 1, H, W) visible shares of robot and objects:
    uint8.
    """

    frames: Tensor
    skeletons: Tensor
    objects: Tensor
    plate: Tensor
    robot: Tensor
    seen: Tensor


@dataclass(frozen=True)
class PictureWeights:
    """Shares of the terms."""

    object_alpha: float = 1.0
    object_color: float = 3.0
    object_unseen: float = 0.2
    plate: float = 2.0
    unseen: float = 0.5
    robot_alpha: float = 1.0
    robot_color: float = 1.0
    frame: float = 6.0


def unit(values: Tensor) -> Tensor:
    """uint8 -> [0, 1]."""
    return values.float() / 255


def picture_loss(
    network: CompactNetwork, pictures: Pictures, weights: PictureWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, in the network's training precision (autocast is the caller's).

    Returns the weighted sum, and every term by name (detached)."""
    terms: dict[str, Tensor] = {}
    objects, plate = unit(pictures.objects), unit(pictures.plate)
    robot, seen = unit(pictures.robot), unit(pictures.seen)
    skeletons = torch.stack([layers.skeleton_blocks(unit(item)) for item in pictures.skeletons.unbind(1)], dim=1)
    reading = layers.read(network, unit(pictures.frames[:, 0]), skeletons[:, 0])
    painted = pictures.frames.shape[1] - 1
    plates = plate if plate.ndim == 5 else plate[:, None].expand(-1, 1 + painted, -1, -1, -1)
    _reading_terms(terms, reading, objects[:, 0], plates[:, 0], robot[:, 0], seen[:, 0])
    painting = layers.paint(
        network,
        skeletons[:, 1:].flatten(0, 1),
        objects[:, 1:].flatten(0, 1),
        reading.style.repeat_interleave(painted, 0),
        plates[:, 1:].flatten(0, 1),
    )
    truth = unit(pictures.frames[:, 1:].flatten(0, 1))
    _painting_terms(terms, painting, truth, robot[:, 1:].flatten(0, 1), seen[:, 1:].flatten(0, 1))
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


def _painting_terms(
    terms: dict[str, Tensor], painting: layers.Painting, frame: Tensor, robot: Tensor, seen: Tensor
) -> None:
    edge = _grown(robot, 2)
    area = robot.sum() + 100
    terms["robot_alpha"] = (_bce(painting.robot_logit, robot) * (0.2 + edge)).sum() / area
    terms["robot_color"] = (_error(painting.robot_rgb, frame) * (robot > 0.9)).sum() / area
    importance = 0.5 + edge + 2 * _grown(seen, 2)
    terms["frame"] = (_error(painting.frame, frame) * importance).sum() / (edge.sum() + 0.5 * edge.numel())


def _error(image: Tensor, truth: Tensor) -> Tensor:
    """(b, 1, H, W): absolute error, which keeps edges sharp, and a share of the squared one, which judges agree on."""
    error = (image - truth).abs()
    return (error + 5 * error.square()).mean(1, keepdim=True)


def _color_error(color: Tensor, objects: Tensor) -> Tensor:
    """Mean error of unmultiplied colors where there are objects (premultiplied rgba)."""
    alpha = objects[:, 3:4]
    return ((color * alpha - objects[:, :3]).abs().mean(1, keepdim=True)).sum() / (alpha.sum() + 100)


def _bce(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def _grown(mask: Tensor, radius: int) -> Tensor:
    """Grey dilation by a square of side 2 radius + 1."""
    return F.max_pool2d(mask, 2 * radius + 1, stride=1, padding=radius)
