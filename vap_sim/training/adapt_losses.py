"""What the picture networks of the compact model are trained for on real recordings, where layers are partly known.

The terms are those of the twin's recipe (`models.compact.losses`) with two differences: every one of them counts a
pixel only as far as its truth is known, and objects have no layer of their own. What lies behind the robot in a frame
holds them, so that an object at rest is part of the scene, and one that was moved is where it is in that frame.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.models.compact import layers
from vap_sim.models.compact.losses import unit
from vap_sim.models.compact.network import CompactNetwork

_FEW = 100.0
"""Pixels added to areas that terms are divided by, so that an almost empty picture does not weigh without bound."""


@dataclass(frozen=True)
class StationPictures:
    """A batch of P pictures each of b recordings, channels first; the first of each is read, the others are painted.

    frames, skeletons and plates (b, P, 3, H, W), robot and sure (b, P, 1, H, W), known (b, P, 1, H, W): uint8; plates:
    what lies behind the robot in each, where known is 255; robot: its share of the pixel, sure: trust in that share.
    """

    frames: Tensor
    skeletons: Tensor
    plates: Tensor
    robot: Tensor
    sure: Tensor
    known: Tensor


@dataclass(frozen=True)
class StationWeights:
    """Shares of the terms. object_alpha: for reading no loose objects into a station, of which none are known."""

    object_alpha: float = 1.0
    plate: float = 2.0
    unseen: float = 0.5
    robot_alpha: float = 1.0
    robot_color: float = 1.0
    frame: float = 6.0


def station_loss(
    network: CompactNetwork, pictures: StationPictures, weights: StationWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch, in the network's training precision (autocast is the caller's).

    Returns the weighted sum, and every term by name (detached)."""
    terms: dict[str, Tensor] = {}
    frames, plates = unit(pictures.frames), unit(pictures.plates)
    robot, sure, known = unit(pictures.robot), unit(pictures.sure), unit(pictures.known)
    skeletons = torch.stack([layers.skeleton_blocks(unit(item)) for item in pictures.skeletons.unbind(1)], dim=1)
    reading = layers.read(network, frames[:, 0], skeletons[:, 0])
    _reading_terms(terms, reading, plates[:, 0], robot[:, 0], sure[:, 0], known[:, 0])
    painted = frames.shape[1] - 1
    later = (item[:, 1:].flatten(0, 1) for item in (frames, plates, robot, sure, known))
    truth, behind, share, trust, seen = later
    none = torch.zeros_like(behind[:, :1]).expand(-1, 4, -1, -1)
    style = reading.style.repeat_interleave(painted, 0)
    painting = layers.paint(network, skeletons[:, 1:].flatten(0, 1), none, style, behind)
    _painting_terms(terms, painting, truth, share, trust, seen)
    total = torch.stack([getattr(weights, name) * value for name, value in terms.items()]).sum()
    return total, {name: value.detach() for name, value in terms.items()}


def _reading_terms(
    terms: dict[str, Tensor], reading: layers.Reading, plate: Tensor, robot: Tensor, sure: Tensor, known: Tensor
) -> None:
    planes = reading.planes
    # Objects of the twin are rare; here one everywhere would be as wrong as one anywhere else.
    terms["object_alpha"] = _bce(planes[:, 0:1], torch.zeros_like(robot)).mean()
    foreground = _grown((robot > 0.02).float(), 1)
    told = _bce(planes[:, 5:6], foreground) + _bce(planes[:, 9:10], robot)
    terms["unseen"] = (told * sure).sum() / (sure.sum() + _FEW)
    error = (reading.plate - plate).abs().mean(1, keepdim=True) * known
    hidden = foreground * known
    terms["plate"] = (error * hidden).sum() / (hidden.sum() + _FEW) + error.sum() / (known.sum() + _FEW)


def _painting_terms(
    terms: dict[str, Tensor], painting: layers.Painting, frame: Tensor, robot: Tensor, sure: Tensor, known: Tensor
) -> None:
    edge = _grown(robot, 2)
    near = (0.2 + edge) * sure
    terms["robot_alpha"] = (_bce(painting.robot_logit, robot) * near).sum() / (robot.sum() + _FEW)
    certain = (robot > 0.9) * sure
    terms["robot_color"] = (_error(painting.robot_rgb, frame) * certain).sum() / (robot.sum() + _FEW)
    # Where nothing is known behind the robot, only the robot's own color can be asked for.
    importance = (0.5 + edge) * torch.maximum(known, certain)
    terms["frame"] = (_error(painting.frame, frame) * importance).sum() / (importance.sum() + _FEW)


def _error(image: Tensor, truth: Tensor) -> Tensor:
    """(b, 1, H, W): absolute error, which keeps edges sharp, and a share of the squared one, which judges agree on."""
    error = (image - truth).abs()
    return (error + 5 * error.square()).mean(1, keepdim=True)


def _bce(logits: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def _grown(mask: Tensor, radius: int) -> Tensor:
    """Grey dilation by a square of side 2 radius + 1."""
    return F.max_pool2d(mask, 2 * radius + 1, stride=1, padding=radius)
