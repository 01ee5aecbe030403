"""What a person's hand does at a table, as joint targets: grasp and lift, push, tilt, while the head looks on.

A plan is a list of waypoints for the middle of what the hand holds or pushes. The hand's own joints are its pose, so
that no inverse kinematics is needed. The head sways a little and follows the hand with its gaze.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.policies.head_motion import onlooking
from vap_sim.robots.library import RobotModel

Array = NDArray[np.float64]
_POSE = ("hand_x", "hand_y", "hand_z", "hand_yaw", "hand_pitch", "hand_roll")
_TURN_SPEED = 1.6  # [rad/s]
_EASY_YAW = 0.45  # [rad] where a right hand points with an easy wrist
_CLEAR = 0.14  # [m] above the table from where a plan begins: a lower hand rises first
_ASIDE = 0.10  # [m] beside a thing, where the hand comes from that takes it from the side
_TURNS = MappingProxyType({"cube": np.pi / 2, "hexagon": np.pi / 3, "brick": np.pi, "wedge": np.pi})
"""After which angle [rad] a thing can be grasped as before; round things can be from everywhere."""


@dataclass(frozen=True)
class Grip:
    """How the hand stands to a thing: where the thing's middle is in the wrist's frame [m], pitch and roll [rad]."""

    offset: tuple[float, float, float]
    pitch: float
    roll: float


FROM_ABOVE = Grip((0.122, 0.011, -0.053), 0.38, 0.08)
"""Palm down over a low thing, the fingers beyond it and the thumb on this side."""
FROM_THE_SIDE = Grip((0.107, -0.002, -0.043), -0.14, 1.40)
"""The palm against the right side of a tall thing, fingers around it."""
FIST = Grip((0.100, 0.000, -0.040), 0.30, 0.0)
"""Closed fingers, knuckles ahead."""


@dataclass(frozen=True)
class HandPoint:
    """Where the middle of a grip is (x, y, z) [m]; the hand's yaw, pitch, roll [rad]; how far it is closed, 0 to 1.

    The hand goes there at `speed` [m/s], then closes or opens, and rests for `hold` control steps."""

    x: float
    y: float
    z: float
    yaw: float
    pitch: float
    roll: float
    closed: float = 0.0
    hold: int = 0
    speed: float = 0.30


@dataclass(frozen=True)
class Thing:
    """What a plan must know of an object: shape, middle (x, y) [m] on the table, yaw [rad], bounding box [m]."""

    shape: str
    x: float
    y: float
    yaw: float
    size: tuple[float, float, float]

    @property
    def grasp_yaw(self) -> float:
        """The hand's yaw [rad] that closes on two even sides, as easy for a right wrist as there is one."""
        period = _TURNS.get(self.shape)
        if period is None:
            return _EASY_YAW
        # Fingers and thumb close along the hand, and the even sides look along the thing's own y.
        yaw = self.yaw + np.pi / 2 - _EASY_YAW
        return float((yaw + period / 2) % period - period / 2 + _EASY_YAW)


Plan = list[HandPoint]
Goal = tuple[float, float]


def grasp_lift(thing: Thing, goal: Goal | None = None, grip: Grip = FROM_ABOVE) -> Plan:
    """Take a thing, from above unless told otherwise, and lift it."""
    side = grip is FROM_THE_SIDE
    yaw = _EASY_YAW if side else thing.grasp_yaw
    here = HandPoint(thing.x, thing.y, thing.size[2] / 2, yaw, grip.pitch, grip.roll, speed=0.22)
    taken = replace(here, closed=1.0, hold=4)
    lifted = replace(taken, z=here.z + 0.12, hold=3, speed=0.25)
    if not side:
        return [replace(here, z=here.z + 0.12, speed=0.35), here, taken, lifted]
    aside = replace(here, x=here.x + _ASIDE * np.sin(yaw), y=here.y - _ASIDE * np.cos(yaw), speed=0.35)
    return [replace(aside, z=aside.z + 0.10), aside, here, taken, lifted]


def put_down(over: HandPoint, thing: Thing, grip: Grip) -> Plan:
    """From above a place, put down there what is held, let go of it and withdraw."""
    down = replace(over, z=thing.size[2] / 2 + 0.004, pitch=grip.pitch, roll=grip.roll, hold=0, speed=0.2)
    left = replace(down, closed=0.0, hold=3)
    if grip is not FROM_THE_SIDE:
        return [down, left, replace(left, z=left.z + 0.12, hold=0, speed=0.3)]
    aside = replace(left, x=left.x + _ASIDE * np.sin(left.yaw), y=left.y - _ASIDE * np.cos(left.yaw), hold=0)
    return [down, left, aside, replace(aside, z=0.2, speed=0.3)]


def tilt(thing: Thing, goal: Goal | None) -> Plan:
    """Take a tall thing from the side, carry it over the goal and turn it as if to pour."""
    if goal is None:
        raise InvalidInput("goal of a tilting hand", None, "a place (x, y) on the table")
    lifted = replace(grasp_lift(thing, grip=FROM_THE_SIDE)[-1], hold=0)
    over = replace(lifted, x=goal[0], y=goal[1])
    poured = replace(over, roll=FROM_THE_SIDE.roll - 1.5, pitch=0.15, hold=3)
    return [*grasp_lift(thing, grip=FROM_THE_SIDE)[:-1], lifted, over, poured]


def push(thing: Thing, goal: Goal | None) -> Plan:
    """Slide a thing along the table to the goal with a fist."""
    start, end = np.array([thing.x, thing.y]), np.asarray((thing.x, thing.y) if goal is None else goal)
    distance = float(np.linalg.norm(end - start))
    if distance < 1e-3:
        raise InvalidInput("goal of a pushing hand", goal, "a place (x, y) away from the thing")
    along = (end - start) / distance
    angle = float(np.arctan2(along[1], along[0]))
    half = max(thing.size[:2]) / 2
    behind, stop = start - along * (half + 0.075), end - along * (half + 0.042)
    yaw = float(np.clip(_EASY_YAW + 0.5 * (angle - _EASY_YAW), -0.1, 1.0))
    low = HandPoint(float(behind[0]), float(behind[1]), 0.042, yaw, FIST.pitch, FIST.roll, closed=1.0)
    pushed = replace(low, x=float(stop[0]), y=float(stop[1]), speed=0.16)
    back = stop - along * 0.03
    return [
        replace(low, z=0.16, speed=0.35),
        low,
        pushed,
        replace(low, x=float(back[0]), y=float(back[1]), speed=0.2),
        replace(low, x=float(back[0]), y=float(back[1]), z=0.16, hold=2),
    ]


PLANS: Mapping[str, tuple[Callable[[Thing, Goal | None], Plan], Grip]] = MappingProxyType(
    {"grasp_lift": (grasp_lift, FROM_ABOVE), "push": (push, FIST), "tilt": (tilt, FROM_THE_SIDE)}
)
"""The plan of every task, and the grip whose middle it moves."""


def hand_targets(
    model: RobotModel,
    scene: Mapping[str, Any],
    joints: Array,
    task: str,
    control_dt: float,
    key: int,
    *,
    noise: float = 0.0,
) -> Array:
    """Joint targets (T, J) [rad, m] of the expert of a task, one a control step of `control_dt` [s], T at least 1.

    Args:
        scene: a scene record; object 0 is what the task is about. joints: (J,) where the hand is now.
        task: one of PLANS. key: decides how the head moves, and how the plan errs.
        noise: how far the plan misses [m].

    Raises UnknownName for the task, InvalidInput for a scene without object or goal, Unsupported for another robot.
    """
    if task not in PLANS:
        raise UnknownName("task of a hand", task, PLANS)
    if not scene["objects"]:
        raise InvalidInput("scene of a hand's plan", "no objects", "at least one object")
    make, grip = PLANS[task]
    goal = scene.get("goal")
    plan = make(thing_of(scene["objects"][0]), None if goal is None else (float(goal[0]), float(goal[1])))
    rng = np.random.default_rng([key, 61])
    if noise > 0:
        plan = noisy(plan, rng, noise)
    return follow(model, joints, plan, grip, control_dt, rng)


def thing_of(item: Mapping[str, Any]) -> Thing:
    """What a plan needs of an object's record."""
    size = (float(item["size"][0]), float(item["size"][1]), float(item["size"][2]))
    return Thing(str(item["shape"]), float(item["x"]), float(item["y"]), float(item["yaw"]), size)


def noisy(plan: Plan, rng: np.random.Generator, spread: float) -> Plan:
    """The same plan with every place off by normal errors [m]: one for the whole plan and a small one a waypoint."""
    common = rng.normal(0, spread, 2)
    return [
        replace(
            point,
            x=point.x + float(common[0] + rng.normal(0, spread / 3)),
            y=point.y + float(common[1] + rng.normal(0, spread / 3)),
            z=max(0.02, point.z + float(rng.normal(0, spread / 3))),
            yaw=point.yaw + float(rng.normal(0, 4 * spread)),
        )
        for point in plan
    ]


def follow(
    model: RobotModel, joints: Array, plan: Plan, grip: Grip, control_dt: float, rng: np.random.Generator
) -> Array:
    """Joint targets (T, J) along a plan from `joints` (J,), and of a head that looks on as `rng` decides."""
    names, gripper = model.robot.joint_names, model.gripper
    if gripper is None or any(name not in names for name in _POSE):
        raise Unsupported(f"plans of a hand move {', '.join(_POSE)}, which robot {model.name!r} does not have")
    pose, offset = [names.index(name) for name in _POSE], np.asarray(grip.offset)
    grasp = names.index(gripper.joint)
    travel = gripper.closed_value - gripper.open_value
    here = np.asarray(joints, np.float64)[pose].copy()
    here[:3] += _turned(here, offset)
    closed = float((joints[grasp] - gripper.open_value) / travel)
    rows = [np.append(here, closed)]
    if here[2] < _CLEAR:
        x, y, _, yaw, pitch, roll = here.tolist()
        plan = [HandPoint(x, y, _CLEAR, yaw, pitch, roll, closed), *plan]
    for point in plan:
        there = np.array([point.x, point.y, point.z, point.yaw, point.pitch, point.roll])
        distance, turn = np.linalg.norm(there[:3] - here[:3]), np.abs(there[3:] - here[3:]).max()
        steps = int(np.ceil(max(distance / point.speed, turn / _TURN_SPEED) / control_dt - 1e-6))
        for share in np.arange(1, steps + 1) / max(steps, 1):
            held = closed if point.hold else point.closed
            rows.append(np.append((1 - share) * here + share * there, held))
        rows += [np.append(there, point.closed)] * point.hold
        here, closed = there, point.closed
    path = np.stack(rows[1:] or rows)
    targets = np.repeat(np.asarray(joints, np.float64)[None], len(path), axis=0)
    targets[:, pose] = path[:, :6]
    targets[:, pose[:3]] -= np.stack([_turned(row, offset) for row in path])
    targets[:, grasp] = gripper.open_value + path[:, 6] * travel
    return onlooking(model, targets, path[:, :3], control_dt, rng)


def looked_on(model: RobotModel, targets: Array, control_dt: float, rng: np.random.Generator) -> Array:
    """The same joint targets (T, J) with a head that looks on, at where the hand closes."""
    place = model.robot.link_index(model.tool_link)
    watched = model.robot.forward(torch.as_tensor(targets, dtype=torch.float64))[:, place, :3, 3].numpy()
    return onlooking(model, targets, watched, control_dt, rng)


def _turned(pose: Array, offset: Array) -> Array:
    """A point of the wrist's frame in the base frame's directions, for a pose x y z yaw pitch roll."""
    return np.asarray(Rotation.from_euler("ZYX", pose[3:6]).apply(offset))
