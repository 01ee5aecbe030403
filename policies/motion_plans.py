"""Tool paths as data: what a scripted expert, a clumsy expert or an idle hand would do in a scene, drawn from a seed.

A plan is a list of waypoints for the point between the gripper's pads, with the gripper pointing down unless tilted or
leaning. How high, how turned and how far open a robot's hand goes about it is told by its `Handling`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from vap_sim.errors import InvalidInput
from vap_sim.policies.handling import PANDA, Handling

CLEAR_HEIGHT = PANDA.clear
"""Height [m] at which the Panda's tool passes over everything that stands on the table."""


@dataclass(frozen=True)
class Waypoint:
    """Tool position (x, y, z) [m], yaw about the vertical and tilt away from it [rad], gripper 0 open to 1 closed.

    The tool moves there at `speed` [m/s]; then the gripper moves for `hold` control steps. `lean` [rad] turns the whole
    hand forward, away from the robot: at a quarter turn it points along the table."""

    x: float
    y: float
    z: float
    yaw: float = 0.0
    tilt: float = 0.0
    gripper: float = 0.0
    hold: int = 0
    speed: float = 0.30
    lean: float = 0.0


@dataclass(frozen=True)
class Target:
    """What a plan must know of an object: position, yaw, bounding box (x, y, z) [m], and how high above the table what
    it stands on is [m]."""

    x: float
    y: float
    yaw: float
    size: tuple[float, float, float]
    square: bool = False
    base: float = 0.0

    @property
    def period(self) -> float:
        """Turn [rad] after which two fingers grasp the object as well as before."""
        return float(np.pi / 2) if self.square else float(np.pi)

    @property
    def grasp_yaw(self) -> float:
        """Tool yaw [rad] that closes the Panda's fingers on the narrow side with the least turning."""
        return self.grasp_yaw_of(PANDA)

    def grasp_yaw_of(self, handling: Handling) -> float:
        """Tool yaw [rad] that closes a hand's fingers on the narrow side with the least turning."""
        return handling.nearest(self.yaw, self.x, self.y, self.period)

    def grasp_height(self, handling: Handling) -> float:
        """Height [m] of the tool point at which a hand grasps the object."""
        return max(handling.lowest, self.base + self.size[2] / 2)


def suited(plan: list[Waypoint], handling: Handling) -> list[Waypoint]:
    """The same plan as a hand carries it out: it leans as its height asks, opens no wider and goes no faster than it
    should. The Panda's plans are what they were."""
    return [
        replace(
            point,
            gripper=max(point.gripper, handling.open),
            speed=point.speed * handling.pace,
            lean=point.lean if point.lean else handling.lean(point.z),
        )
        for point in plan
    ]


def reach(target: Target, height: float | None = None, handling: Handling = PANDA) -> list[Waypoint]:
    """Bring the tool just above an object."""
    z = target.base + target.size[2] + 0.03 if height is None else height
    yaw = handling.ease(target.x, target.y)
    over = Waypoint(target.x, target.y, handling.clear, yaw)
    return suited([over, replace(over, z=z, hold=3, speed=0.2)], handling)


def pick_place(
    target: Target, goal: tuple[float, float], handling: Handling = PANDA, *, onto: float = 0.0
) -> list[Waypoint]:
    """Grasp an object, carry it over, put it down at `goal` (x, y) [m], `onto` [m] above the table, and let go of it.

    Raises InvalidInput where that is too high to be reached from above.
    """
    x, y, yaw = target.x, target.y, target.grasp_yaw_of(handling)
    grasp = target.grasp_height(handling)
    low = max(grasp - target.base + onto, handling.lowest) + 0.006
    if low > handling.clear:
        raise InvalidInput(
            "height to put an object down at [m]", onto, f"at most {handling.clear - grasp + target.base - 0.006:.3f}"
        )
    down = replace(Waypoint(x, y, grasp, yaw), speed=0.22)
    plan = [
        Waypoint(x, y, handling.clear, yaw),
        down,
        replace(down, gripper=1.0, hold=3),
        Waypoint(x, y, handling.clear, yaw, gripper=1.0, speed=0.22),
        Waypoint(*goal, handling.clear, yaw, gripper=1.0),
        Waypoint(*goal, low, yaw, gripper=1.0, speed=0.22),
        Waypoint(*goal, low, yaw, hold=3),
        Waypoint(*goal, handling.clear, yaw),
    ]
    return suited(plan, handling)


def lift(target: Target, handling: Handling = PANDA, *, hold: int = 3) -> list[Waypoint]:
    """Grasp an object, raise it and keep it there for `hold` control steps."""
    _, down, closed, up, *_ = pick_place(target, (target.x, target.y), handling)
    over = replace(down, z=handling.clear, lean=handling.lean(handling.clear), speed=0.30 * handling.pace)
    return [over, down, closed, replace(up, hold=hold)]


def beside(
    target: Target,
    other: Target,
    gap: float,
    low: tuple[float, float],
    high: tuple[float, float],
    rest: Sequence[Target] = (),
) -> tuple[float, float]:
    """Where to put an object so that it stands `gap` [m] off another one: the nearest place within a rectangle.

    low, high: its corners (x, y) [m]; rest: what else stands on the table, of which as much is kept clear. Where there
    is no such place, the nearest one is taken all the same."""

    def free(place: tuple[float, float]) -> bool:
        inside = all(a <= v <= b for a, v, b in zip(low, place, high, strict=True))
        return inside and all(np.hypot(place[0] - t.x, place[1] - t.y) > _apart(target, t) + gap for t in rest)

    distance = _apart(target, other) + gap
    towards = float(np.arctan2(target.y - other.y, target.x - other.x))
    places = [
        (other.x + distance * float(np.cos(towards + turn)), other.y + distance * float(np.sin(towards + turn)))
        for turn in sorted(np.linspace(-np.pi, np.pi, 24, endpoint=False), key=abs)
    ]
    return next(filter(free, places), places[0])


def _apart(one: Target, other: Target) -> float:
    """Distance of two middles [m] at which the objects cannot touch but at their corners."""
    return (max(one.size[:2]) + max(other.size[:2])) / 2


def push(target: Target, goal: tuple[float, float], handling: Handling = PANDA) -> list[Waypoint]:
    """Slide an object along the table to `goal` (x, y) [m] with closed fingers."""
    start, end = np.array([target.x, target.y]), np.array(goal)
    distance = float(np.linalg.norm(end - start))
    if distance < 1e-3:
        raise InvalidInput("push goal", goal, "a point away from the object")
    along = (end - start) / distance
    reach_out = max(target.size[:2]) / 2 + 0.055
    yaw = handling.nearest(float(np.arctan2(along[1], along[0])), target.x, target.y, np.pi)
    height = max(handling.lowest, target.base + 0.45 * target.size[2])
    behind, stop = start - along * reach_out, end - along * (max(target.size[:2]) / 2 + 0.012)
    back = stop - along * 0.02
    plan = [
        Waypoint(float(behind[0]), float(behind[1]), handling.clear, yaw, gripper=1.0),
        Waypoint(float(behind[0]), float(behind[1]), height, yaw, gripper=1.0),
        Waypoint(float(stop[0]), float(stop[1]), height, yaw, gripper=1.0, speed=0.16),
        Waypoint(float(back[0]), float(back[1]), handling.clear, yaw, gripper=1.0),
    ]
    return suited(plan, handling)


def noisy(
    plan: list[Waypoint], rng: np.random.Generator, spread: float = 0.015, handling: Handling = PANDA
) -> list[Waypoint]:
    """The same plan with every place off by normal errors [m]: one for the whole plan and a small one a waypoint."""
    common = rng.normal(0, spread, 2)
    return [
        replace(
            point,
            x=point.x + float(common[0] + rng.normal(0, spread / 3)),
            y=point.y + float(common[1] + rng.normal(0, spread / 3)),
            z=max(handling.lowest, point.z + float(rng.normal(0, spread / 3))),
            yaw=point.yaw + float(rng.normal(0, 6 * spread)),
        )
        for point in plan
    ]


def sweep(rng: np.random.Generator, count: int = 8, handling: Handling = PANDA) -> list[Waypoint]:
    """Low random passes over the table, which hit whatever stands there."""
    plan = []
    for _ in range(count):
        z = handling.lowest + abs(float(rng.normal(0, 0.03)))
        x, y = rng.uniform(handling.sweep_low, handling.sweep_high)
        yaw, gripper, speed = float(rng.uniform(-1.2, 1.2)), float(rng.integers(2)), float(rng.uniform(0.1, 0.35))
        yaw += handling.ease(float(x), float(y))
        plan.append(Waypoint(float(x), float(y), z, yaw, gripper=gripper, speed=speed))
    return suited([replace(plan[0], z=handling.clear), *plan], handling)


def wander(rng: np.random.Generator, count: int = 10, handling: Handling = PANDA) -> list[Waypoint]:
    """Free random motion of the tool above the table, with tilts and gripper movements."""
    plan = []
    for _ in range(count):
        x, y, z = rng.uniform(handling.wander_low, handling.wander_high)
        yaw, tilt = float(rng.uniform(-1.5, 1.5)), float(rng.normal(0, 0.3))
        gripper, hold, speed = float(rng.uniform()), int(rng.integers(3)), float(rng.uniform(0.15, 0.5))
        yaw += handling.ease(float(x), float(y))
        plan.append(Waypoint(float(x), float(y), float(z), yaw, tilt, gripper, hold, speed))
    # Fingers open as they are drawn here.
    return [replace(point, gripper=drawn.gripper) for point, drawn in zip(suited(plan, handling), plan, strict=True)]
