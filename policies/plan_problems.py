"""What a planning policy knows when it plans, and what it hands to a planner: a search space and a cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.imagination import Imagination
from vap_sim.policies.objectives import Objective
from vap_sim.policies.planners import Floats, Prior
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import ControlState


@dataclass(frozen=True)
class Brief:
    """What is asked for in one episode, as a person would tell it: which object, which goal, seen by which cameras.

    color: of the object; colors: of all objects in the scene; goal: a disc on the table (x, y, radius) [m], or None.
    Where the object is must be seen.
    """

    color: str
    colors: tuple[str, ...]
    goal: tuple[float, float, float] | None
    cameras: tuple[Camera, ...]


@dataclass(frozen=True, eq=False)
class Moment:
    """What is known of one episode when a plan is made.

    frames: (V, H, W, 3) uint8 RGB, seen now; control: the nominal motion, one row; brief; plans: how many were made
    before in this episode.
    """

    frames: Tensor
    control: ControlState
    brief: Brief
    plans: int


@dataclass(frozen=True, eq=False)
class Futures:
    """Actions (n, L, A) of n candidates, and how many of each are its own (n,); what follows only holds still."""

    actions: NDArray[np.float32]
    lengths: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Problem:
    """A search: where to look (one row), what parameters (n, T, D) mean as actions, and what is wanted."""

    prior: Prior
    futures: Callable[[Floats], Futures]
    objective: Objective


@dataclass(frozen=True, eq=False)
class Detour:
    """Actions (L, A) to be carried out without a search, because no problem can be posed now; `why` says so."""

    actions: NDArray[np.float32]
    why: str


class PlannedTask(Protocol):
    """What is planned for. shape: (T, D) of the parameters; longest: no plan has more actions, L; actions_per_step: of
    one of the T steps, where a plan can be cut and continued, None where it is carried out as a whole."""

    @property
    def shape(self) -> tuple[int, int]:
        """(T, D) of the parameters that are searched."""
        ...

    @property
    def longest(self) -> int:
        """L, the most actions that a plan can have."""
        ...

    @property
    def actions_per_step(self) -> int | None:
        """Actions of one of the T steps; None where a plan is carried out as a whole."""
        ...

    def problem(self, moment: Moment, imagination: Imagination) -> Problem | Detour:
        """The search to be done at this moment, or what to do where there is none."""
        ...


def read_brief(info: Mapping[str, Any], views: Sequence[str], imagination: Imagination) -> Brief:
    """The brief from the info of one environment's `reset`. Raises InvalidInput naming what is missing there."""
    scene = info.get("scene")
    if scene is None or not scene.get("objects"):
        given = "no scene" if scene is None else "a scene without objects"
        raise InvalidInput("info for a planning policy", given, "the info of a reset, with a scene with objects")
    poses, size = {pose["name"]: pose for pose in scene["cameras"]}, imagination.world.spec.size
    cameras = []
    for name in views:
        if name in poses:
            cameras.append(Camera.from_dict({**poses[name], "size": size}))
        else:
            cameras.append(imagination.model.camera(name).resized(size))
    goal = scene.get("goal")
    return Brief(
        color=str(scene["objects"][0]["color"]),
        colors=tuple(str(item["color"]) for item in scene["objects"]),
        goal=None if goal is None else (float(goal[0]), float(goal[1]), float(goal[2])),
        cameras=tuple(cameras),
    )
