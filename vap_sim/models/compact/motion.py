"""How objects move in one step: each is seen in its own window, with the skeletons and the other objects around it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vap_sim.models.compact.network import MOTION_UNIT, MotionNet
from vap_sim.models.compact.slots import Slots, advance
from vap_sim.models.compact.windows import look, look_at_patch, offsets, overview

MOVES_ABOVE = 2.0
"""The logit from which an object moves. Not 0, because training shows objects in motion far more often than they are;
chosen on 200 development seeds: from 3 on, contacts are missed that 2 finds, and nothing is gained."""


@dataclass(frozen=True)
class Motion:
    """One step of objects (...): shift (..., 2) [px], twist (..., 2) turn [rad] and log of growth, and the logit (...)
    of moving at all."""

    shift: Tensor
    twist: Tensor
    logit: Tensor


def foresee(
    network: MotionNet,
    skeletons: Tensor,
    alpha: Tensor,
    patches: Tensor,
    *,
    centre: Tensor,
    turn: Tensor,
    velocity: Tensor,
    frames: Tensor | None = None,
) -> Motion:
    """How n objects will move.

    Args:
        skeletons: (n or 1, 9, H, W) in [0, 1], three frames, newest first; 1 for all objects of one picture.
        alpha: (n or 1, 1, H, W) in [0, 1], what objects cover, these ones among them.
        patches: (n, 1, PATCH, PATCH) in [0, 1], the cut-outs' alpha.
        centre: (n, 2) [px]. turn: (n, 2). velocity: (n, 2) [px]; all three as in `Slots`.
        frames: (n, 2, 2), through which each object is looked at (see `windows`); the answer is in the picture's own.
    """
    away = offsets(frames) if frames is not None else offsets().to(centre.device)
    around = look(torch.cat([skeletons, alpha], dim=1), centre, away)
    own = look_at_patch(patches, turn, away)
    middle = centre.new_tensor([(skeletons.shape[-1] - 1) / 2, (skeletons.shape[-2] - 1) / 2])
    place, last = (centre - middle) / middle, velocity / MOTION_UNIT
    size = 0.5 * turn.square().sum(1, keepdim=True).log()
    coarse = overview(skeletons[:, :3], frames)
    if frames is not None:
        inverse = torch.linalg.inv(frames)
        place, last = _apply(inverse, place), _apply(inverse, last)
        size = size - 0.5 * torch.linalg.det(frames).abs().log()[:, None]
    state = torch.cat([place, last, size], dim=1)
    out = network(
        torch.cat([around[:, :9], own, around[:, 9:]], dim=1), coarse.expand(len(centre), -1, -1, -1), state
    ).float()
    shift, angle = out[:, 0:2] * MOTION_UNIT, out[:, 2:3]
    if frames is not None:
        shift, angle = _apply(frames, shift), angle * torch.linalg.det(frames).sign()[:, None]
    return Motion(shift, torch.cat([angle, out[:, 3:4]], dim=1), out[:, 4])


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    return torch.einsum("nij,nj->ni", matrices, vectors)


def move(network: MotionNet, skeletons: Tensor, objects: Tensor, slots: Slots) -> Motion:
    """One step of all slots (b, S), zero where a slot is empty.

    skeletons (b, 9, H, W) in [0, 1], newest first; objects (b, 4, H, W), the slots rendered."""
    rows, places = torch.nonzero(slots.present, as_tuple=True)
    shift, twist = torch.zeros_like(slots.centre), torch.zeros_like(slots.turn)
    logit = torch.zeros_like(shift[..., 0])
    if len(rows):
        one = len(skeletons) == 1
        motion = foresee(
            network,
            skeletons if one else skeletons[rows],
            objects[:, 3:4] if one else objects[rows, 3:4],
            slots.patches[rows, places, 3:4],
            centre=slots.centre[rows, places],
            turn=slots.turn[rows, places],
            velocity=slots.velocity[rows, places],
        )
        shift[rows, places], twist[rows, places], logit[rows, places] = motion.shift, motion.twist, motion.logit
    return Motion(shift, twist, logit)


def surely(logit: Tensor) -> Tensor:
    """Whether objects move, bool (...), by their logits (...)."""
    return logit > MOVES_ABOVE


def apply(slots: Slots, motion: Motion) -> Slots:
    """The slots one step on: those that surely move have moved."""
    return advance(slots, motion.shift, motion.twist, surely(motion.logit))
