"""Tool paths for a drawer: grasp its handle and pull it open, or push its front shut."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vap_sim.policies.handling import Handling
from vap_sim.policies.motion_plans import Waypoint, suited

_LEAN = 1.0  # [rad] of the hand at the handle: one finger goes over the bar and behind it, the other below it
_OPEN, _CLOSED = 0.55, 1.0  # of the gripper before the bar and on it
_BEFORE = 0.09  # [m] from the bar to where the hand makes ready
_PULL, _PUSH = 0.16, 0.20  # [m/s]
_OVER = 0.006  # [m] that is pulled or pushed beyond what is asked for, because fingers give way


@dataclass(frozen=True)
class Drawer:
    """A drawer as a plan sees it.

    x, y, z: middle of its handle's bar now [m]; yaw: where it slides out [rad]; opening, travel: how far it is out, and
    how far it goes [m].
    """

    x: float
    y: float
    z: float
    yaw: float
    opening: float
    travel: float

    @classmethod
    def of(cls, cabinet: Mapping[str, Any]) -> Drawer:
        """The drawer of a scene record's cabinet."""
        yaw, opening = float(cabinet["yaw"]), float(cabinet["opening"])
        out = float(cabinet["handle_reach"]) + opening
        x, y = float(cabinet["x"]) + out * np.cos(yaw), float(cabinet["y"]) + out * np.sin(yaw)
        height = float(cabinet["handle_share"]) * float(cabinet["size"][2])
        return cls(float(x), float(y), height, yaw, opening, float(cabinet["travel"]))

    def point(self, out: float, **changes: float) -> Waypoint:
        """The tool at the bar, or `out` [m] before it on the way in which the drawer slides."""
        along = float(np.cos(self.yaw)), float(np.sin(self.yaw))
        values = {"gripper": _OPEN, "lean": _LEAN, **changes}
        return Waypoint(self.x + out * along[0], self.y + out * along[1], self.z, **values)  # type: ignore[arg-type]


def open_drawer(drawer: Drawer, handling: Handling) -> list[Waypoint]:
    """Grasp the handle, pull the drawer out as far as it goes, let go and withdraw."""
    yaw, left = handling.ease(drawer.x, drawer.y), drawer.travel - drawer.opening
    before = drawer.point(_BEFORE, yaw=yaw, speed=0.25)
    at = drawer.point(0.0, yaw=yaw, speed=0.15)
    out = drawer.point(left + _OVER, yaw=yaw, speed=_PULL, gripper=_CLOSED)
    plan = [
        replace(before, z=max(before.z, handling.clear)),
        before,
        at,
        replace(at, gripper=_CLOSED, hold=2),
        out,
        replace(out, gripper=_OPEN, hold=2),
        drawer.point(left + _BEFORE, yaw=yaw, speed=0.25),
    ]
    return suited(plan, handling)


def close_drawer(drawer: Drawer, handling: Handling) -> list[Waypoint]:
    """Push the handle with closed fingers until the drawer is shut, and withdraw."""
    yaw = handling.ease(drawer.x, drawer.y)
    before = drawer.point(_BEFORE, yaw=yaw, speed=0.25, gripper=_CLOSED)
    shut = drawer.point(_OVER - drawer.opening, yaw=yaw, speed=_PUSH, gripper=_CLOSED)
    back = drawer.point(_BEFORE - drawer.opening, yaw=yaw, speed=0.25, gripper=_CLOSED)
    return suited([replace(before, z=max(before.z, handling.clear)), before, shut, back], handling)
