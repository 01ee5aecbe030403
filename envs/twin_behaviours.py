"""What a robot does in recorded episodes: scripted, clumsy, random and idle motion, and how it goes wrong.

A behaviour is a course of joint targets, one a control step, planned from where everything is now. A flaw changes such
a course as a policy that errs would: fingers open that should be closed, all speeds too low, a hand that drifts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.envs.scenes import WORKSPACE_HIGH, WORKSPACE_LOW, Scene
from vap_sim.envs.twin_renderer import Snapshot
from vap_sim.policies import motion_plans
from vap_sim.policies.drawer_plans import Drawer, close_drawer, open_drawer
from vap_sim.policies.experts import arm_of
from vap_sim.policies.handling import Handling, handling_of
from vap_sim.policies.motion_plans import Target, Waypoint
from vap_sim.policies.scripted import joint_targets
from vap_sim.robots.library import RobotModel

Course = NDArray[np.float64]
"""Joint targets (T, J) [rad or m]."""
PlanFlaw = Callable[[np.random.Generator, list[Waypoint]], list[Waypoint]]
CourseFlaw = Callable[[np.random.Generator, NDArray[np.float64], Course, int], Course]
Point = tuple[float, float]

BEHAVIOURS: Mapping[str, float] = MappingProxyType(
    {
        "pick_place": 0.24, "clumsy_pick_place": 0.19, "push": 0.15, "clumsy_push": 0.10, "sweep": 0.14,
        "wander": 0.06, "joints": 0.09, "idle": 0.03,
    }
)  # fmt: skip
"""Shares of the motions from which DROID's episodes are chained; those of others are in `twin_repertoires`."""
_CLEAR = 0.09  # [m] above the table that links keep which are higher than that at home
_PACED = 0.2  # [s] the control step for which the pace from joint to joint is given
_DROP = 0.004  # [m] above a thing at which another one is let go of over it
_HAND = 0.11  # [m] that a hand needs between an object and a cabinet
_ASIDE = 0.24  # [m] before a closed cabinet, where the hand withdraws to
_AJAR = 0.35
"""Share of its travel from which a drawer is closed rather than opened."""


@dataclass(frozen=True, eq=False)
class Stage:
    """Where behaviours are played.

    snapshot: tells where the objects are now; control_dt [s]: between targets; low, high: corners (x, y) [m] of where
    things are put down; piled: whether things may stand on one another, so that plans ask how high they stand.
    """

    model: RobotModel
    scene: Scene
    snapshot: Callable[[], Snapshot]
    control_dt: float
    low: Point = WORKSPACE_LOW
    high: Point = WORKSPACE_HIGH
    piled: bool = False

    @property
    def handling(self) -> Handling:
        """How the robot's hand goes about a table."""
        return handling_of(self.model)

    @property
    def grip(self) -> int:
        """Index of the gripper's joint. The robot has one."""
        assert self.model.gripper is not None, "plans and recordings are of robots with a gripper"
        return self.model.robot.joint_index(self.model.gripper.joint)


def course_of(
    behaviour: str, rng: np.random.Generator, stage: Stage, joints: NDArray[np.float64], flaw: str | None = None
) -> Course:
    """One behaviour from `joints` (J,) on. flaw: a name of FLAWS, or None for the behaviour as it is meant."""
    course = _meant(behaviour, rng, stage, joints, _ON_PLANS.get(flaw))
    change = _ON_COURSES.get(flaw)
    if change is None or not len(course):
        return course
    changed = change(rng, np.asarray(joints, np.float64), course, stage.grip)
    return np.asarray(stage.model.robot.clamp(torch.as_tensor(changed)))


def _meant(
    behaviour: str, rng: np.random.Generator, stage: Stage, joints: NDArray[np.float64], change: PlanFlaw | None
) -> Course:
    """The course of a behaviour, of a changed plan where it has one."""
    if behaviour == "joints":
        return _joint_wander(rng, stage, joints)
    if behaviour == "idle":
        return np.repeat(joints[None], int(rng.integers(3, 10)), axis=0)
    plans: dict[str, Callable[[], list[Waypoint]]] = {
        "sweep": lambda: motion_plans.sweep(rng, int(rng.integers(3, 8)), stage.handling),
        "wander": lambda: motion_plans.wander(rng, int(rng.integers(3, 8)), stage.handling),
    }
    if behaviour in plans:
        plan = plans[behaviour]()
    elif behaviour.endswith("drawer"):
        plan = _drawer_plan(behaviour, rng, stage)
    else:
        plan = _object_plan(behaviour, rng, stage)
    plan = plan if change is None else change(rng, plan)
    if stage.scene.cabinets:
        plan = [_withdrawn(stage, plan[0].gripper), *plan]
    return joint_targets(stage.model, joints, plan, stage.control_dt)


def possible(behaviour: str, scene: Scene, snapshot: Snapshot) -> bool:
    """Whether there is anything to do it with, as things stand now."""
    if behaviour.endswith("drawer"):
        if not scene.cabinets:
            return False
        shut = _opening(scene, snapshot) < _AJAR * scene.cabinets[0].travel
        return shut == behaviour.endswith("open_drawer")
    if scene.cabinets and behaviour in ("sweep", "wander", "joints"):
        return False  # they would run into what stands fast
    if behaviour.endswith("onto"):
        return len(scene.objects) > 1 and bool(_movable(scene, snapshot))
    return behaviour in ("sweep", "wander", "joints", "idle") or bool(_movable(scene, snapshot))


def _movable(scene: Scene, snapshot: Snapshot) -> list[int]:
    """Which objects can be grasped and pushed: no plates, and nothing that a hand cannot get at for a cabinet."""
    loose = [index for index, item in enumerate(scene.objects) if item.shape != "plate"]
    if not scene.cabinets:
        return loose
    return [index for index in loose if _from_cabinet(scene, np.array([snapshot.objects[index][0][:2]])) > _HAND]


def _from_cabinet(scene: Scene, points: NDArray[np.float64]) -> float:
    """How near [m] the nearest of points (n, 2) is to the first cabinet and to where its drawer and handle go."""
    cabinet = scene.cabinets[0]
    turn = np.array([[np.cos(cabinet.yaw), np.sin(cabinet.yaw)], [-np.sin(cabinet.yaw), np.cos(cabinet.yaw)]])
    along, across = turn @ (points - [cabinet.x, cabinet.y]).T
    ahead = np.maximum(along - cabinet.travel - cabinet.handle_reach, -along - cabinet.size[0])
    beside = np.abs(across) - cabinet.size[1] / 2
    return float(np.hypot(np.maximum(ahead, 0.0), np.maximum(beside, 0.0)).min())


def _goal(rng: np.random.Generator, stage: Stage, target: Target) -> Point | None:
    """Where to bring an object: anywhere, or the scene's goal; None where a cabinet stands in every way tried."""
    for _ in range(30 if stage.scene.cabinets else 1):
        goal = tuple(float(v) for v in rng.uniform(stage.low, stage.high))
        if stage.scene.goal is not None and rng.uniform() < 0.4:
            goal = stage.scene.goal[:2]
        if np.hypot(goal[0] - target.x, goal[1] - target.y) < 0.05:
            goal = (target.x + 0.08, target.y)
        way = np.linspace((target.x, target.y), goal, 9)
        if not stage.scene.cabinets or _from_cabinet(stage.scene, way) > _HAND:
            return goal[0], goal[1]
    return None


def _object_plan(behaviour: str, rng: np.random.Generator, stage: Stage) -> list[Waypoint]:
    scene, snapshot, handling = stage.scene, stage.snapshot(), stage.handling
    items = _movable(scene, snapshot)
    index = items[int(rng.integers(len(items)))]
    target = object_target(scene, snapshot, index, piled=stage.piled)
    if behaviour.endswith("onto"):
        plan = _onto_plan(rng, stage, snapshot, index, target)
    else:
        goal = None if behaviour.endswith("lift") else _goal(rng, stage, target)
        if goal is None:
            plan = motion_plans.lift(target, handling, hold=int(rng.integers(1, 6)))
        else:
            make = motion_plans.pick_place if behaviour.endswith("pick_place") else motion_plans.push
            plan = make(target, goal, handling)
    return _clumsily(plan, rng, handling) if behaviour.startswith("clumsy") else plan


def _onto_plan(
    rng: np.random.Generator, stage: Stage, snapshot: Snapshot, index: int, target: Target
) -> list[Waypoint]:
    """Put an object onto another one; where that stands too high, down where it is."""
    others = [other for other in range(len(stage.scene.objects)) if other != index]
    base = object_target(stage.scene, snapshot, others[int(rng.integers(len(others)))], piled=stage.piled)
    top = base.base + base.size[2] + _DROP
    if target.grasp_height(stage.handling) - target.base + top + 0.01 > stage.handling.clear:
        return motion_plans.pick_place(target, (target.x, target.y), stage.handling)
    return motion_plans.pick_place(target, (base.x, base.y), stage.handling, onto=top)


def _drawer_plan(behaviour: str, rng: np.random.Generator, stage: Stage) -> list[Waypoint]:
    """Open the drawer, at times not all the way, or shut it."""
    scene, handling = stage.scene, stage.handling
    cabinet = scene.cabinets[0]
    opening = float(np.clip(_opening(scene, stage.snapshot()), 0.0, cabinet.travel))
    drawer = Drawer.of(asdict(replace(cabinet, opening=opening)))
    if behaviour.endswith("open_drawer"):
        share = 1.0 if rng.uniform() < 0.6 else float(rng.uniform(0.3, 1.0))
        plan = open_drawer(replace(drawer, travel=max(drawer.travel * share, drawer.opening)), handling)
    else:
        plan = close_drawer(drawer, handling)
    return _clumsily(plan, rng, handling) if behaviour.startswith("clumsy") else plan


def _opening(scene: Scene, snapshot: Snapshot) -> float:
    """How far the first cabinet's drawer is out [m]."""
    cabinet, (x, y, _) = scene.cabinets[0], snapshot.drawers[0][0]
    return float((x - cabinet.x) * np.cos(cabinet.yaw) + (y - cabinet.y) * np.sin(cabinet.yaw))


def _withdrawn(stage: Stage, gripper: float) -> Waypoint:
    """Before and above a cabinet, from where every way is free."""
    cabinet, handling = stage.scene.cabinets[0], stage.handling
    x, y = cabinet.x + _ASIDE * float(np.cos(cabinet.yaw)), cabinet.y + _ASIDE * float(np.sin(cabinet.yaw))
    z = max(handling.clear, cabinet.size[2]) + 0.03
    return motion_plans.suited([Waypoint(x, y, z, handling.ease(x, y), gripper=gripper)], handling)[0]


def _clumsily(plan: list[Waypoint], rng: np.random.Generator, handling: Handling) -> list[Waypoint]:
    return motion_plans.noisy(plan, rng, float(rng.uniform(*handling.clumsy)), handling)


def object_target(scene: Scene, snapshot: Snapshot, index: int, *, piled: bool = False) -> Target:
    """What a plan needs of object `index` as it lies now; `piled` asks how high it stands, too."""
    item = scene.objects[index]
    (x, y, z), (qx, qy, qz, qw) = snapshot.objects[index]
    yaw = float(np.arctan2(2 * (qw * qz + qx * qy), 1 - 2 * (qy * qy + qz * qz)))
    base = float(z) - item.size[2] / 2 if piled else 0.0
    return Target(
        float(x), float(y), yaw, item.size, item.shape in ("cube", "cylinder", "sphere"), base if base > 0.01 else 0.0
    )


def _joint_wander(rng: np.random.Generator, stage: Stage, joints: NDArray[np.float64]) -> Course:
    """Smooth motion between random arm poses that keep clear of the table."""
    model, grip, gripper = stage.model, stage.grip, stage.model.gripper
    assert gripper is not None, "as `grip` says"
    count = model.robot.num_joints
    spread, arm = stage.handling.joint_spread_of(count), arm_of(model)
    home = model.home.double()
    free = model.robot.forward(home)[:, 2, 3] > _CLEAR
    way = gripper.closed_value - gripper.open_value
    targets: list[NDArray[np.float64]] = []
    for _ in range(int(rng.integers(2, 5))):
        for _ in range(50):
            goal = np.asarray(model.robot.clamp(home + torch.as_tensor(rng.normal(0, 1, count) * spread)))
            heights = model.robot.forward(torch.as_tensor(goal))[free, 2, 3]
            if heights.min() > _CLEAR:
                break
        else:
            goal = home.numpy().copy()
        goal[grip] = gripper.open_value + np.sign(way) * rng.uniform(0, abs(way))
        pace = rng.uniform(0.08, 0.3) * (stage.control_dt / _PACED)
        steps = max(2, int(np.ceil(np.abs(goal[arm] - joints[arm]).max() / pace)))
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


def _slack(rng: np.random.Generator, joints: NDArray[np.float64], course: Course, grip: int) -> Course:
    """Every step of the arm falls short, or goes too far, by the same share."""
    out = joints + float(rng.uniform(0.75, 1.1)) * (course - joints)
    out[:, grip] = course[:, grip]
    return out


def _drifting(rng: np.random.Generator, joints: NDArray[np.float64], course: Course, grip: int) -> Course:
    """Errors of every step, some held for a while, are never made good."""
    hold, arm = int(rng.integers(1, 6)), np.delete(np.arange(course.shape[1]), grip)
    spread = float(rng.uniform(0.002, 0.012))
    errors = np.repeat(rng.normal(0, spread, (len(course) // hold + 1, arm.size)), hold, axis=0)[: len(course)]
    out = course.copy()
    out[:, arm] += np.cumsum(errors, axis=0)
    return out


def _early(rng: np.random.Generator, joints: NDArray[np.float64], course: Course, grip: int) -> Course:
    """The gripper acts some steps before its time."""
    out, steps = course.copy(), min(int(rng.integers(1, 5)), len(course))
    out[:, grip] = np.concatenate([course[steps:, grip], np.repeat(course[-1:, grip], steps)])
    return out


def _frozen(rng: np.random.Generator, joints: NDArray[np.float64], course: Course, grip: int) -> Course:
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
