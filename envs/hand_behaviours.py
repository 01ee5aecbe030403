"""What a hand does in recorded episodes: lifting, carrying, pouring, pushing, at times clumsily, and aimless motion.

A behaviour is a course of joint targets, one a control step, planned from where everything is now; the head looks on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.envs.scenes import Scene
from vap_sim.envs.twin_behaviours import Course, Stage
from vap_sim.envs.twin_renderer import Snapshot
from vap_sim.errors import UnknownName
from vap_sim.policies import hand_plans
from vap_sim.policies.hand_plans import FIST, FROM_ABOVE, FROM_THE_SIDE, Goal, Grip, HandPoint, Plan, Thing

BEHAVIOURS: Mapping[str, float] = MappingProxyType(
    {
        "lift": 0.14, "clumsy_lift": 0.09, "pick_place": 0.18, "clumsy_pick_place": 0.12, "pour": 0.10,
        "clumsy_pour": 0.05, "push": 0.12, "clumsy_push": 0.07, "sweep": 0.07, "wander": 0.03, "fingers": 0.02,
        "idle": 0.01,
    }
)  # fmt: skip
"""Shares of the motions from which a hand's episodes are chained."""
_CLUMSY = (0.008, 0.025)  # [m] by which clumsy plans miss
_TALL = 0.085  # [m] from which on a thing is taken from the side
_LYING = 0.7  # cosine of the tilt [rad] from which on a thing lies
_LOW, _HIGH = (0.32, -0.20, 0.03), (0.60, 0.24, 0.20)
"""Corners (x, y, z) [m] of where aimless motion goes."""


def hand_course(name: str, rng: np.random.Generator, stage: Stage, joints: NDArray[np.float64]) -> Course:
    """Joint targets (T, J) [rad, m] of a behaviour from `joints` (J,) on. Raises UnknownName."""
    if name not in BEHAVIOURS:
        raise UnknownName("behaviour of a hand", name, BEHAVIOURS)
    if name in ("idle", "fingers"):
        return _in_place(name, rng, stage, joints)
    if name in ("sweep", "wander"):
        plan, grip = (_sweep(rng), FIST) if name == "sweep" else (_wander(rng), FROM_ABOVE)
    else:
        plan, grip = _object_plan(name.removeprefix("clumsy_"), rng, stage)
        if name.startswith("clumsy"):
            plan = hand_plans.noisy(plan, rng, float(rng.uniform(*_CLUMSY)))
    return hand_plans.follow(stage.model, joints, plan, grip, stage.control_dt, rng)


def thing_now(scene: Scene, snapshot: Snapshot, index: int) -> Thing:
    """What a plan needs of object `index` as it stands or lies now."""
    item, (position, quaternion) = scene.objects[index], snapshot.objects[index]
    turn = Rotation.from_quat(quaternion).as_matrix()
    x, y = float(position[0]), float(position[1])
    if abs(turn[2, 2]) > _LYING or item.shape in ("cube", "sphere"):
        yaw = float(np.arctan2(turn[1, 0], turn[0, 0]))
        return Thing(item.shape, x, y, yaw, item.size)
    # It lies: its own axis is level, and it is taken like a brick that is as long as it was high.
    width = min(item.size[:2])
    return Thing("brick", x, y, float(np.arctan2(turn[1, 2], turn[0, 2])), (item.size[2], width, width))


def _object_plan(behaviour: str, rng: np.random.Generator, stage: Stage) -> tuple[Plan, Grip]:
    scene = stage.scene
    thing = thing_now(scene, stage.snapshot(), int(rng.integers(len(scene.objects))))
    goal = _goal(rng, stage, thing)
    if behaviour == "push":
        return hand_plans.push(thing, goal), FIST
    grip = FROM_THE_SIDE if thing.size[2] > _TALL else FROM_ABOVE
    if behaviour == "pour" and grip is FROM_THE_SIDE:
        poured = hand_plans.tilt(thing, goal)
        return [*poured, *hand_plans.put_down(poured[-2], thing, grip)], grip
    lifted = hand_plans.grasp_lift(thing, grip=grip)
    if behaviour == "lift":
        return lifted, grip
    over = replace(lifted[-1], x=goal[0], y=goal[1], hold=0)
    return [*lifted, over, *hand_plans.put_down(over, thing, grip)], grip


def _goal(rng: np.random.Generator, stage: Stage, thing: Thing) -> Goal:
    """Where a thing goes: the goal disc at times, anywhere on the table else."""
    goal = stage.scene.goal
    x, y = (float(value) for value in rng.uniform(stage.low, stage.high))
    if goal is not None and rng.uniform() < 0.4:
        x, y = goal[:2]
    return (thing.x + 0.08, thing.y) if np.hypot(x - thing.x, y - thing.y) < 0.05 else (x, y)


def _sweep(rng: np.random.Generator) -> Plan:
    """Low passes over the table, which hit whatever stands there."""
    draw: Callable[[], HandPoint] = lambda: _anywhere(rng, (*_LOW[:2], 0.04), (*_HIGH[:2], 0.07))  # noqa: E731
    passes = [replace(draw(), closed=float(rng.integers(2)), pitch=FIST.pitch, roll=0.0) for _ in range(4)]
    return [replace(passes[0], z=0.18), *passes]


def _wander(rng: np.random.Generator) -> Plan:
    """Free motion above the table, the hand turning, opening and closing."""
    low = (_LOW[0], _LOW[1], 0.12)
    return [replace(_anywhere(rng, low, _HIGH), hold=int(rng.integers(3))) for _ in range(int(rng.integers(3, 6)))]


def _anywhere(rng: np.random.Generator, low: tuple[float, ...], high: tuple[float, ...]) -> HandPoint:
    x, y, z = (float(value) for value in rng.uniform(low, high))
    yaw, pitch, roll = float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.0, 0.5)), float(rng.uniform(-0.5, 1.3))
    return HandPoint(x, y, z, yaw, pitch, roll, float(rng.uniform()), speed=float(rng.uniform(0.12, 0.4)))


def _in_place(name: str, rng: np.random.Generator, stage: Stage, joints: NDArray[np.float64]) -> Course:
    """The hand stays while the head looks about; its fingers may close, open and bend."""
    steps = int(rng.integers(3, 10))
    course = np.repeat(np.asarray(joints, np.float64)[None], steps, axis=0)
    if name == "fingers":
        names = stage.model.robot.joint_names
        bends = [index for index, joint in enumerate(names) if joint.endswith("_bend")]
        goal = course[0].copy()
        goal[bends] += rng.normal(0, 0.15, len(bends))
        goal[stage.grip] = rng.uniform(0, float(stage.model.robot.upper[stage.grip]))
        course += (goal - course[0]) * (np.arange(1, steps + 1)[:, None] / steps)
    return hand_plans.looked_on(stage.model, course, stage.control_dt, rng)
