"""What a robot does in recorded episodes: scripted, clumsy, random and idle motion, and how it goes wrong.

A behaviour is a course of joint targets, one a control step, planned from where everything is now. A flaw changes such
a course as a policy that errs would: fingers open that should be closed, all speeds too low, a hand that drifts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.envs.scenes import WORKSPACE_HIGH, WORKSPACE_LOW, Scene
from vap_sim.envs.twin_renderer import Snapshot
from vap_sim.policies import motion_plans
from vap_sim.policies.motion_plans import Target, Waypoint
from vap_sim.policies.scripted import joint_targets
from vap_sim.robots.library import RobotModel

Course = NDArray[np.float64]
"""Joint targets (T, J) [rad], the gripper's joint last."""
PlanFlaw = Callable[[np.random.Generator, list[Waypoint]], list[Waypoint]]
CourseFlaw = Callable[[np.random.Generator, NDArray[np.float64], Course], Course]

BEHAVIOURS: Mapping[str, float] = MappingProxyType(
    {
        "pick_place": 0.24, "clumsy_pick_place": 0.19, "push": 0.15, "clumsy_push": 0.10, "sweep": 0.14,
        "wander": 0.06, "joints": 0.09, "idle": 0.03,
    }
)  # fmt: skip
"""Shares of the motions from which episodes are chained."""


@dataclass(frozen=True, eq=False)
class Stage:
    """Where behaviours are played. snapshot: tells where the objects are now; control_dt [s]: between targets."""

    model: RobotModel
    scene: Scene
    snapshot: Callable[[], Snapshot]
    control_dt: float


def course_of(
    behaviour: str, rng: np.random.Generator, stage: Stage, joints: NDArray[np.float64], flaw: str | None = None
) -> Course:
    """One behaviour from `joints` (J,) on. flaw: a name of FLAWS, or None for the behaviour as it is meant."""
    course = _meant(behaviour, rng, stage, joints, _ON_PLANS.get(flaw))
    change = _ON_COURSES.get(flaw)
    if change is None or not len(course):
        return course
    changed = change(rng, np.asarray(joints, np.float64), course)
    return np.asarray(stage.model.robot.clamp(torch.as_tensor(changed)))


def _meant(
    behaviour: str, rng: np.random.Generator, stage: Stage, joints: NDArray[np.float64], change: PlanFlaw | None
) -> Course:
    """The course of a behaviour, of a changed plan where it has one."""
    if behaviour == "joints":
        return _joint_wander(rng, stage.model, joints)
    if behaviour == "idle":
        return np.repeat(joints[None], int(rng.integers(3, 10)), axis=0)
    plans: dict[str, Callable[[], list[Waypoint]]] = {
        "sweep": lambda: motion_plans.sweep(rng, int(rng.integers(3, 8))),
        "wander": lambda: motion_plans.wander(rng, int(rng.integers(3, 8))),
    }
    plan = plans[behaviour]() if behaviour in plans else _object_plan(behaviour, rng, stage.scene, stage.snapshot())
    plan = plan if change is None else change(rng, plan)
    return joint_targets(stage.model, joints, plan, stage.control_dt)


def _object_plan(behaviour: str, rng: np.random.Generator, scene: Scene, snapshot: Snapshot) -> list[Waypoint]:
    index = int(rng.integers(len(scene.objects)))
    target = object_target(scene, snapshot, index)
    goal = tuple(float(v) for v in rng.uniform(WORKSPACE_LOW, WORKSPACE_HIGH))
    if scene.goal is not None and rng.uniform() < 0.4:
        goal = scene.goal[:2]
    if np.hypot(goal[0] - target.x, goal[1] - target.y) < 0.05:
        goal = (target.x + 0.08, target.y)
    make = motion_plans.pick_place if behaviour.endswith("pick_place") else motion_plans.push
    plan = make(target, (goal[0], goal[1]))
    return motion_plans.noisy(plan, rng, float(rng.uniform(0.005, 0.03))) if behaviour.startswith("clumsy") else plan


def object_target(scene: Scene, snapshot: Snapshot, index: int) -> Target:
    """What a plan needs of object `index` as it lies now."""
    item = scene.objects[index]
    (x, y, _), (qx, qy, qz, qw) = snapshot.objects[index]
    yaw = float(np.arctan2(2 * (qw * qz + qx * qy), 1 - 2 * (qy * qy + qz * qz)))
    return Target(float(x), float(y), yaw, item.size, item.shape in ("cube", "cylinder", "sphere"))


def _joint_wander(rng: np.random.Generator, model: RobotModel, joints: NDArray[np.float64]) -> Course:
    """Smooth motion between random arm poses that keep clear of the table."""
    spread = np.array([0.6, 0.5, 0.6, 0.5, 0.9, 0.6, 1.0, 0.0])
    targets: list[NDArray[np.float64]] = []
    for _ in range(int(rng.integers(2, 5))):
        for _ in range(50):
            goal = np.asarray(model.robot.clamp(model.home.double() + torch.as_tensor(rng.normal(0, 1, 8) * spread)))
            heights = model.robot.forward(torch.as_tensor(goal))[3:, 2, 3]
            if heights.min() > 0.09:
                break
        else:
            goal = model.home.double().numpy()
        goal[7] = rng.uniform(0, 0.8)
        steps = max(2, int(np.ceil(np.abs(goal[:7] - joints[:7]).max() / rng.uniform(0.08, 0.3))))
        share = np.arange(1, steps + 1)[:, None] / steps
        targets += list((1 - share) * joints + share * goal)
        joints = goal
    return np.stack(targets)


# Flaws -------------------------------------------------------------------------------------------------------------


def _fingers(rng: np.random.Generator, plan: list[Waypoint]) -> list[Waypoint]:
    """The gripper stays as it is throughout: mostly open, sometimes closed or half-way."""
    opening = float(rng.choice([0.0, 0.0, 1.0, rng.uniform()]))
    return [replace(point, gripper=opening) for point in plan]


def _pace(rng: np.random.Generator, plan: list[Waypoint]) -> list[Waypoint]:
    """The same way, slower or faster."""
    factor = float(rng.uniform(0.5, 1.5))
    return [replace(point, speed=point.speed * factor) for point in plan]


def _turned(rng: np.random.Generator, plan: list[Waypoint]) -> list[Waypoint]:
    """The hand is turned the wrong way: what it meets, it meets with another side."""
    angle = float(rng.uniform(-np.pi / 2, np.pi / 2))
    return [replace(point, yaw=point.yaw + angle) for point in plan]


def _high(rng: np.random.Generator, plan: list[Waypoint]) -> list[Waypoint]:
    """Too high all the way: what it should touch, it grazes or misses."""
    lift = float(rng.uniform(0.01, 0.08))
    return [replace(point, z=point.z + lift) for point in plan]


def _slack(rng: np.random.Generator, joints: NDArray[np.float64], course: Course) -> Course:
    """Every step of the arm falls short, or goes too far, by the same share."""
    out = course.copy()
    out[:, :-1] = joints[:-1] + float(rng.uniform(0.75, 1.1)) * (course[:, :-1] - joints[:-1])
    return out


def _drifting(rng: np.random.Generator, joints: NDArray[np.float64], course: Course) -> Course:
    """Errors of every step, some held for a while, are never made good."""
    hold, arm = int(rng.integers(1, 6)), course.shape[1] - 1
    spread = float(rng.uniform(0.002, 0.012))
    errors = np.repeat(rng.normal(0, spread, (len(course) // hold + 1, arm)), hold, axis=0)[: len(course)]
    out = course.copy()
    out[:, :-1] += np.cumsum(errors, axis=0)
    return out


def _early(rng: np.random.Generator, joints: NDArray[np.float64], course: Course) -> Course:
    """The gripper acts some steps before its time."""
    out, steps = course.copy(), min(int(rng.integers(1, 5)), len(course))
    out[:, -1] = np.concatenate([course[steps:, -1], np.repeat(course[-1:, -1], steps)])
    return out


def _frozen(rng: np.random.Generator, joints: NDArray[np.float64], course: Course) -> Course:
    """Stops in the middle and stays there for a while."""
    stop = int(rng.integers(1, len(course) + 1))
    return np.concatenate([course[:stop], np.repeat(course[stop - 1 : stop], int(rng.integers(4, 12)), axis=0)])


_ON_PLANS: Mapping[str | None, PlanFlaw] = MappingProxyType(
    {"fingers": _fingers, "pace": _pace, "turned": _turned, "high": _high}
)
_ON_COURSES: Mapping[str | None, CourseFlaw] = MappingProxyType(
    {"slack": _slack, "drifting": _drifting, "early": _early, "frozen": _frozen}
)
FLAWS: tuple[str, ...] = tuple(name for name in (*_ON_PLANS, *_ON_COURSES) if name is not None)
"""Names of what may go wrong; those that change a plan leave motion without a plan as it is."""
