"""How objects move in one step: each is seen in its own window, with the skeletons and the other objects around it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from vap_sim.models.compact.carry import carried
from vap_sim.models.compact.network import MOTION_UNIT, MotionNet, Told
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


@dataclass(frozen=True)
class Views:
    """What the network is shown of n objects, the arguments of `MotionNet.forward`; carry (n, CARRY): by what the robot
    would carry them, as the picture shows it, for networks that are told."""

    windows: Tensor
    overview: Tensor
    state: Tensor
    carry: Tensor | None = None

    @classmethod
    def cat(cls, views: Sequence[Views]) -> Views:
        """All objects of several pictures, in order."""
        if len(views) == 1:
            return views[0]
        names = [field.name for field in fields(cls) if getattr(views[0], field.name) is not None]
        return cls(**{name: torch.cat([getattr(one, name) for one in views]) for name in names})


def view(
    skeletons: Tensor,
    alpha: Tensor,
    patches: Tensor,
    *,
    centre: Tensor,
    turn: Tensor,
    velocity: Tensor,
    planes: Tensor | None = None,
    frames: Tensor | None = None,
) -> Views:
    """What n objects look like to the network.

    Args:
        skeletons: (n or 1, 9, H, W) in [0, 1], three frames, newest first; 1 for all objects of one picture.
        alpha: (n or 1, 1, H, W) in [0, 1], what objects cover, these ones among them.
        patches: (n, 1, PATCH, PATCH) in [0, 1], the cut-outs' alpha.
        centre: (n, 2) [px]. turn: (n, 2). velocity: (n, 2) [px]; all three as in `Slots`.
        planes: (n or 1, 3, 3) as `carry.homographies` gives them, or None for networks that are not told.
        frames: (n, 2, 2), through which each object is looked at, see `windows`.
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
    windows = torch.cat([around[:, :9], own, around[:, 9:]], dim=1)
    state = [place, last, size]
    by = None if planes is None else carried(planes.expand(len(centre), -1, -1), centre)
    if by is not None:
        shift, turned = by[:, :2] / MOTION_UNIT, by[:, 2:3]
        if frames is not None:
            shift, turned = _apply(inverse, shift), turned * _hand(frames)
        state += [shift, turned, by[:, 3:]]
    return Views(windows, coarse.expand(len(centre), -1, -1, -1), torch.cat(state, dim=1), by)


def foresee(network: MotionNet, views: Views, frames: Tensor | None = None, told: Told | None = None) -> Motion:
    """How the n objects of views will move, in the picture's own frame.

    frames: those that the views were made with; told: what a demonstration adds to each object's style, or None."""
    told_by = () if told is None else (told,)
    out = network(views.windows, views.overview, views.state, *told_by).float()
    shift, angle = out[:, 0:2] * MOTION_UNIT, out[:, 2:3]
    if frames is not None:
        shift, angle = _apply(frames, shift), angle * _hand(frames)
    twist = torch.cat([angle, out[:, 3:4]], dim=1)
    if views.carry is not None:
        held, beside = out[:, 5:6].sigmoid(), out[:, 6:8] * MOTION_UNIT
        beside = beside if frames is None else _apply(frames, beside)
        shift = torch.lerp(shift, views.carry[:, :2] + beside, held)
        twist = torch.lerp(twist, views.carry[:, 2:], held)
    return Motion(shift, twist, out[:, 4])


def _hand(frames: Tensor) -> Tensor:
    """(n, 1): -1 for frames that mirror, by which a turn is seen the other way round."""
    hand: Tensor = torch.linalg.det(frames).sign()
    return hand[:, None]


def _apply(matrices: Tensor, vectors: Tensor) -> Tensor:
    # Not a product of matrices, which training would round to half of the bits.
    return (matrices * vectors[:, None]).sum(2)


def move(
    network: MotionNet,
    skeletons: Tensor,
    objects: Tensor,
    slots: Slots,
    told: Sequence[Told | None] = (),
    planes: Tensor | None = None,
) -> Motion:
    """One step of all slots (b, S), zero where a slot is empty.

    skeletons (b, 9, H, W) in [0, 1], newest first; objects (b, 4, H, W), the slots rendered. Each picture is looked at
    by itself, the network is asked once. told: what a demonstration says to each row, if any row has one; planes
    (b, 3, 3): as in `view`."""
    shift, twist = torch.zeros_like(slots.centre), torch.zeros_like(slots.turn)
    logit = torch.zeros_like(shift[..., 0])
    views = []
    for row, present in enumerate(slots.present):
        if bool(present.any()):
            poses = {name: getattr(slots, name)[row, present] for name in ("centre", "turn", "velocity")}
            alpha, patches = objects[row : row + 1, 3:4], slots.patches[row, present, 3:4]
            plane = None if planes is None else planes[row : row + 1]
            views.append(view(skeletons[row : row + 1], alpha, patches, **poses, planes=plane))
    if views:
        motion = foresee(network, Views.cat(views), told=_joined(told, slots.present.sum(1).tolist()))
        here = slots.present
        shift[here], twist[here], logit[here] = motion.shift, motion.twist, motion.logit
    return Motion(shift, twist, logit)


def _joined(told: Sequence[Told | None], counts: Sequence[int]) -> Told | None:
    """What all rows are told, each its own objects, of which there are so many."""
    if all(one is None for one in told):
        return None

    def together(style: Tensor) -> Tensor:
        parts = zip(told, torch.split(style, list(counts)), strict=True)
        return torch.cat([torch.zeros_like(part) if one is None or not len(part) else one(part) for one, part in parts])

    return together


def surely(logit: Tensor) -> Tensor:
    """Whether objects move, bool (...), by their logits (...)."""
    return logit > MOVES_ABOVE


def apply(slots: Slots, motion: Motion) -> Slots:
    """The slots one step on: those that surely move have moved."""
    return advance(slots, motion.shift, motion.twist, surely(motion.logit))
