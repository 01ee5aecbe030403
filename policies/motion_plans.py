"""Tool paths as data: what a scripted expert, a clumsy expert or an idle hand would do in a scene, drawn from a seed.

A plan is a list of waypoints for the point between the gripper's pads, with the gripper pointing down unless tilted.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vap_sim.errors import InvalidInput

CLEAR_HEIGHT = 0.20
"""Height [m] at which the tool passes over everything that stands on the table."""
_LOWEST = 0.024  # [m] the finger tips reach 18 mm below the tool point


@dataclass(frozen=True)
class Waypoint:
    """Tool position (x, y, z) [m], yaw about the vertical and tilt away from it [rad], gripper 0 open to 1 closed.

    The tool moves there at `speed` [m/s]; then the gripper moves for `hold` control steps."""

    x: float
    y: float
    z: float
    yaw: float = 0.0
    tilt: float = 0.0
    gripper: float = 0.0
    hold: int = 0
    speed: float = 0.30


@dataclass(frozen=True)
class Target:
    """What a plan must know of an object: position, yaw, and bounding box (x, y, z) [m]."""

    x: float
    y: float
    yaw: float
    size: tuple[float, float, float]
    square: bool = False

    @property
    def grasp_yaw(self) -> float:
        """Tool yaw [rad] that closes the fingers on the narrow side with the least turning."""
        quarter = np.pi / 2 if self.square else np.pi
        return float((self.yaw + quarter / 2) % quarter - quarter / 2)


def reach(target: Target, height: float | None = None) -> list[Waypoint]:
    """Bring the tool just above an object."""
    z = target.size[2] + 0.03 if height is None else height
    return [Waypoint(target.x, target.y, CLEAR_HEIGHT), Waypoint(target.x, target.y, z, hold=3, speed=0.2)]


def pick_place(target: Target, goal: tuple[float, float]) -> list[Waypoint]:
    """Grasp an object, carry it over, put it down at `goal` (x, y) [m] and let go."""
    x, y, yaw = target.x, target.y, target.grasp_yaw
    grasp = max(_LOWEST, target.size[2] / 2)
    down = replace(Waypoint(x, y, grasp, yaw), speed=0.22)
    return [
        Waypoint(x, y, CLEAR_HEIGHT, yaw),
        down,
        replace(down, gripper=1.0, hold=3),
        Waypoint(x, y, CLEAR_HEIGHT, yaw, gripper=1.0, speed=0.22),
        Waypoint(*goal, CLEAR_HEIGHT, yaw, gripper=1.0),
        Waypoint(*goal, grasp + 0.006, yaw, gripper=1.0, speed=0.22),
        Waypoint(*goal, grasp + 0.006, yaw, hold=3),
        Waypoint(*goal, CLEAR_HEIGHT, yaw),
    ]


def push(target: Target, goal: tuple[float, float]) -> list[Waypoint]:
    """Slide an object along the table to `goal` (x, y) [m] with closed fingers."""
    start, end = np.array([target.x, target.y]), np.array(goal)
    distance = float(np.linalg.norm(end - start))
    if distance < 1e-3:
        raise InvalidInput("push goal", goal, "a point away from the object")
    along = (end - start) / distance
    reach_out = max(target.size[:2]) / 2 + 0.055
    yaw = float(np.arctan2(along[1], along[0]))
    yaw = (yaw + np.pi / 2) % np.pi - np.pi / 2
    height = max(_LOWEST, 0.45 * target.size[2])
    behind, stop = start - along * reach_out, end - along * (max(target.size[:2]) / 2 + 0.012)
    back = stop - along * 0.02
    return [
        Waypoint(float(behind[0]), float(behind[1]), CLEAR_HEIGHT, yaw, gripper=1.0),
        Waypoint(float(behind[0]), float(behind[1]), height, yaw, gripper=1.0),
        Waypoint(float(stop[0]), float(stop[1]), height, yaw, gripper=1.0, speed=0.16),
        Waypoint(float(back[0]), float(back[1]), CLEAR_HEIGHT, yaw, gripper=1.0),
    ]


def noisy(plan: list[Waypoint], rng: np.random.Generator, spread: float = 0.015) -> list[Waypoint]:
    """The same plan with every place off by normal errors [m]: one for the whole plan and a small one a waypoint."""
    common = rng.normal(0, spread, 2)
    return [
        replace(
            point,
            x=point.x + float(common[0] + rng.normal(0, spread / 3)),
            y=point.y + float(common[1] + rng.normal(0, spread / 3)),
            z=max(_LOWEST, point.z + float(rng.normal(0, spread / 3))),
            yaw=point.yaw + float(rng.normal(0, 6 * spread)),
        )
        for point in plan
    ]


def sweep(rng: np.random.Generator, count: int = 8) -> list[Waypoint]:
    """Low random passes over the table, which hit whatever stands there."""
    plan = []
    for _ in range(count):
        z = _LOWEST + abs(float(rng.normal(0, 0.03)))
        x, y = rng.uniform((0.30, -0.30), (0.66, 0.30))
        yaw, gripper, speed = float(rng.uniform(-1.2, 1.2)), float(rng.integers(2)), float(rng.uniform(0.1, 0.35))
        plan.append(Waypoint(float(x), float(y), z, yaw, gripper=gripper, speed=speed))
    return [replace(plan[0], z=CLEAR_HEIGHT), *plan]


def wander(rng: np.random.Generator, count: int = 10) -> list[Waypoint]:
    """Free random motion of the tool above the table, with tilts and gripper movements."""
    low, high = (0.28, -0.38, 0.10), (0.68, 0.38, 0.52)
    plan = []
    for _ in range(count):
        x, y, z = rng.uniform(low, high)
        yaw, tilt = float(rng.uniform(-1.5, 1.5)), float(rng.normal(0, 0.3))
        gripper, hold, speed = float(rng.uniform()), int(rng.integers(3)), float(rng.uniform(0.15, 0.5))
        plan.append(Waypoint(float(x), float(y), float(z), yaw, tilt, gripper, hold, speed))
    return plan
