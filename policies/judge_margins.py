"""Whether tasks are done, by measures: how far inside of success a moment is, in units of the doubt about it.

The rules are those of the tasks themselves (`vap_sim.envs.tasks`), applied to what a judge can measure. A margin of +3
means done, and by three times the expected error; 0 means that nobody could tell. All conditions of a task must hold,
so the smallest margin counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vap_sim.policies.judge_network import Sighting

TASKS = ("reach", "push", "pick_place")
"""The tasks that the learned judge knows."""
REACH, ABOVE = 0.03, 0.03
"""Metres within which the tool must come to the point that lies so many metres above an object."""
STILL = 0.01
"""Metres that an object at rest moves at most between two pictures, 0.2 s apart."""
OPEN = 0.5
"""Closing of the gripper (0 open, 1 closed) below which it has let go."""
_LARGEST = 8.0
_FLOOR = 0.001  # [m] no measure is better than that
_ALIKE = 0.3  # of the doubt about a place remains in the difference of two pictures of the same thing
_GRIPPER_DOUBT = 0.03


@dataclass(frozen=True, eq=False)
class Moments:
    """What is measured of b moments: the object in the first, the last but one and the last picture, the goal in the
    first; tool (b, 3) [m] and gripper (b,) by the joints."""

    first: Sighting
    before: Sighting
    now: Sighting
    goal: Sighting
    tool: Tensor
    gripper: Tensor


def margins(moments: Moments, tasks: Sequence[str]) -> Tensor:
    """(b,) margins of success, each for the task of that name among TASKS."""
    of_task = {"reach": reached, "push": placed, "pick_place": released}
    every = {name: of_task[name](moments) for name in set(tasks)}
    return torch.stack([every[name][row] for row, name in enumerate(tasks)]).clamp(-_LARGEST, _LARGEST)


def reached(moments: Moments) -> Tensor:
    """Margin of the tool's being near the point above the object."""
    object_ = steadied(moments.first, moments.now)
    # Its height is measured in the first picture, in which nothing hides it.
    top = moments.first.size + ABOVE
    off = torch.cat([moments.tool[:, :2] - object_.places, (moments.tool[:, 2] - top)[:, None]], dim=1)
    return (REACH - _norm(off)) / _doubt(object_.spread)


def placed(moments: Moments) -> Tensor:
    """Margin of the object's lying on the disc, at rest."""
    inside = moments.goal.size - _norm(moments.now.places - moments.goal.places)
    moved = _norm(moments.now.places - moments.before.places)
    rest = (STILL - moved) / _doubt(_ALIKE * moments.now.spread, _ALIKE * moments.before.spread)
    return torch.minimum(inside / _doubt(moments.now.spread, moments.goal.spread), rest)


def released(moments: Moments) -> Tensor:
    """Margin of the object's lying on the disc, at rest, let go of."""
    return torch.minimum(placed(moments), (OPEN - moments.gripper) / _GRIPPER_DOUBT)


def steadied(first: Sighting, now: Sighting) -> Sighting:
    """Where an object is now, by both pictures as long as it seems to lie where it began, by the last one else."""
    lies = _norm(now.places - first.places) < 2 * _doubt(first.spread, now.spread)
    weight = now.spread.square() / (first.spread.square() + now.spread.square())
    both = now.places + weight[:, None] * (first.places - now.places)
    # The errors of one eye in two pictures of one thing are much the same.
    return Sighting(
        torch.where(lies[:, None], both, now.places),
        now.size,
        torch.where(lies, torch.minimum(first.spread, now.spread), now.spread),
    )


def _doubt(*spreads: Tensor) -> Tensor:
    return torch.stack([spread.square() for spread in spreads]).sum(0).add(_FLOOR**2).sqrt()


def _norm(values: Tensor) -> Tensor:
    length: Tensor = values.norm(dim=-1)
    return length
