"""How things move when a robot is at them, told in space: bones around a thing, and where the thing goes.

A picture does not say how far away a finger is, and a finger before a cube is drawn like one at it. The skeleton that
a prompt draws has a place in space, though, and what lies on a table has one, roughly. A network that is told both
foresees pushes and grasps that one which sees only the drawing cannot: bones and other things are looked at one by one,
relative to the thing, and what matters most of them is pooled, so that it does not matter whose bones they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

UNIT = 0.05
"""[m] in which networks are told of lengths; displacements are told and answered in a fifth of it."""
_STEP = UNIT / 5
TOKEN, WHOLE, ANSWER = 25, 19, 11
"""Numbers of a bone beside a thing, of a thing as a whole, and of an answer: displacement, turn, logit of being held,
displacement beside what the tool would carry it by, logit of moving at all."""
_FARTHEST = 6.0  # UNITs: what is farther is told to be so far
_UNSURE = -1.0  # logit of being held, before anything is learned of it


@dataclass(frozen=True)
class Bones:
    """What surrounds n things, B of them: ends a step ago and now, before and now (n, B, 2, 3) [m] in the base frame;
    thick (n, B) [m], their radii; kind (n, B): 0 of an arm, 1 of a gripper, 2 another thing (a bone without length, by
    where it was and where it would be if it went on), -1 nothing at all."""

    before: Tensor
    now: Tensor
    thick: Tensor
    kind: Tensor


@dataclass(frozen=True)
class Things:
    """n things: place and stride (n, 3), where they are and their last displacement [m] in the base frame; size (n, 2),
    how wide and high they were seen [m]; away (n, 3), the direction of length one from which they were first seen;
    carry and turn (n, 3): by what the tool would carry them, displacement [m] and rotation vector [rad]."""

    place: Tensor
    stride: Tensor
    size: Tensor
    away: Tensor
    carry: Tensor
    turn: Tensor


@dataclass(frozen=True)
class Answer:
    """How n things will move: shift (n, 3) [m], turn (n, 3), a rotation vector [rad], logit (n,) of moving at all."""

    shift: Tensor
    turn: Tensor
    logit: Tensor


class ContactNet(nn.Module):
    """Looks at each bone and thing around a thing by itself, pools what it saw, and says how the thing will move."""

    def __init__(self, width: int = 128, hidden: int = 256) -> None:
        super().__init__()
        self.bone = nn.Linear(TOKEN, width)
        self.thing = nn.Linear(WHOLE, width)
        self.beside = nn.Sequential(nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.whole = nn.Sequential(
            nn.Linear(2 * width + WHOLE, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.head = nn.Linear(hidden, ANSWER)
        with torch.no_grad():
            self.head.weight.mul_(0.1)
            self.head.bias.zero_()
            self.head.bias[6] = _UNSURE

    def forward(self, things: Things, bones: Bones) -> Answer:
        """The answer for n things among their bones."""
        tokens, whole = tell(things, bones)
        here = (bones.kind >= 0)[..., None]
        seen = self.beside(self.bone(tokens) + self.thing(whole)[:, None]) * here
        pooled = torch.cat([seen.amax(1).clamp_min(0), seen.sum(1) / here.sum(1).clamp_min(1), whole], dim=1)
        out = self.head(self.whole(pooled))
        held = out[:, 6:7].sigmoid()
        shift = torch.lerp(out[:, :3] * _STEP, things.carry + out[:, 7:10] * _STEP, held)
        return Answer(shift, torch.lerp(out[:, 3:6], things.turn, held), out[:, 10])


def tell(things: Things, bones: Bones) -> tuple[Tensor, Tensor]:
    """What networks are told: tokens (n, B, TOKEN) and whole (n, WHOLE)."""
    middle = things.place[:, None, None]
    before, now = bones.before - middle, bones.now - middle
    nearest = [_nearest(ends) for ends in (before, now)]
    distance = [point.norm(dim=2, keepdim=True) - bones.thick[..., None] for point in nearest]
    kinds = torch.stack([bones.kind == kind for kind in range(3)], dim=2).to(before.dtype)
    tokens = [
        *(_near(ends.flatten(2)) for ends in (before, now)),
        *(_near(point) for point in nearest),
        *(1 / (0.5 + (gap / UNIT).clamp_min(-0.2)) for gap in distance),
        (distance[1] - distance[0]).clamp(-UNIT, UNIT) / _STEP,
        bones.thick[..., None] / UNIT,
        kinds,
    ]
    whole = [
        things.stride.clamp(-UNIT, UNIT) / _STEP,
        things.carry.clamp(-3 * UNIT, 3 * UNIT) / _STEP,
        things.turn.clamp(-1, 1) * 5,
        things.size.clamp(0, 6 * UNIT) / UNIT,
        things.away,
        things.place[:, 2:].clamp(-6 * UNIT, 6 * UNIT) / UNIT,
        (things.carry.norm(dim=1, keepdim=True) / _STEP).clamp_max(15.0),
        (things.stride.norm(dim=1, keepdim=True) / _STEP).clamp_max(5.0),
        (things.stride - things.carry).norm(dim=1, keepdim=True).clamp_max(UNIT) / _STEP,
        (things.stride.norm(dim=1, keepdim=True) < 1e-6).to(before.dtype),
    ]
    return torch.cat(tokens, dim=2), torch.cat(whole, dim=1)


def _near(vectors: Tensor) -> Tensor:
    return (vectors / UNIT).clamp(-_FARTHEST, _FARTHEST)


def _nearest(ends: Tensor) -> Tensor:
    """The points (n, B, 3) of segments (n, B, 2, 3) that are nearest to the origin."""
    first, along = ends[:, :, 0], ends[:, :, 1] - ends[:, :, 0]
    share = -(first * along).sum(2, keepdim=True) / along.square().sum(2, keepdim=True).clamp_min(1e-12)
    return first + share.clamp(0, 1) * along
