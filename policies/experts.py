"""What the scripted expert of each task does in a scene: joint targets for any robot and any task that has one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.policies import motion_plans
from vap_sim.policies.drawer_plans import Drawer, close_drawer, open_drawer
from vap_sim.policies.handling import Handling, handling_of
from vap_sim.policies.motion_plans import Target, Waypoint
from vap_sim.policies.scripted import joint_targets
from vap_sim.robots.library import RobotModel

Record = Mapping[str, Any]
"""A scene as `Scene.to_dict` writes it."""
GOAL_TASKS = ("push", "pick_place", "tilt")
"""Tasks that have a goal on the table."""
PAIR_TASKS = ("put_on_plate", "stack", "move_near")
"""Tasks that bring object 0 to object 1."""
DRAWER_TASKS = ("open_drawer", "close_drawer")
"""Tasks about the drawer of the first cabinet."""
_SQUARE = ("cube", "cylinder", "sphere")
_NEAR = 0.02  # [m] between two things that stand near each other
_DROP = 0.004  # [m] above a thing at which another one is let go of over it


def target_of(scene: Record, index: int = 0) -> Target:
    """What a plan needs of an object of a scene record. Raises InvalidInput where there are too few."""
    objects: Sequence[Record] = scene["objects"]
    if not objects:
        raise InvalidInput("scene of a scripted expert", "no objects", "at least one object")
    if len(objects) <= index:
        raise InvalidInput("scene of a scripted expert", f"{len(objects)} objects", f"at least {index + 1}")
    item = objects[index]
    size = (float(item["size"][0]), float(item["size"][1]), float(item["size"][2]))
    height = item.get("z")  # of its middle, where it does not stand on the table
    base = 0.0 if height is None else max(0.0, float(height) - size[2] / 2)
    return Target(float(item["x"]), float(item["y"]), float(item["yaw"]), size, item["shape"] in _SQUARE, base)


def arm_of(model: RobotModel) -> NDArray[np.intp]:
    """Indices of the joints that are not the gripper's."""
    gripper = None if model.gripper is None else model.gripper.joint
    return np.array([index for index, name in enumerate(model.robot.joint_names) if name != gripper], np.intp)


def _goal(task: str, scene: Record) -> tuple[float, float]:
    goal = scene.get("goal")
    if goal is None:
        raise InvalidInput("scene of a scripted expert", "no goal", f"a goal, as task {task!r} needs")
    return float(goal[0]), float(goal[1])


def _drawer(scene: Record) -> Drawer:
    cabinets = scene.get("cabinets", ())
    if not cabinets:
        raise InvalidInput("scene of a scripted expert", "no cabinet", "one with a drawer")
    return Drawer.of(cabinets[0])


def _onto(scene: Record, handling: Handling) -> list[Waypoint]:
    """Put object 0 onto object 1."""
    item, base = target_of(scene), target_of(scene, 1)
    return motion_plans.pick_place(item, (base.x, base.y), handling, onto=base.size[2] + _DROP)


def _near(scene: Record, handling: Handling) -> list[Waypoint]:
    """Put object 0 down beside object 1, where nothing else stands."""
    item, other = target_of(scene), target_of(scene, 1)
    rest = [target_of(scene, index) for index in range(2, len(scene["objects"]))]
    place = motion_plans.beside(item, other, _NEAR, handling.sweep_low, handling.sweep_high, rest)
    return motion_plans.pick_place(item, place, handling)


Planner = Callable[[Record, Handling], list[Waypoint]]
PLANNERS: Mapping[str, Planner] = MappingProxyType(
    {
        "reach": lambda scene, handling: motion_plans.reach(target_of(scene), handling=handling),
        "push": lambda scene, handling: motion_plans.push(target_of(scene), _goal("push", scene), handling),
        "pick_place": lambda scene, handling: motion_plans.pick_place(
            target_of(scene), _goal("pick_place", scene), handling
        ),
        "put_on_plate": _onto,
        "stack": _onto,
        "pick": lambda scene, handling: motion_plans.lift(target_of(scene), handling),
        "move_near": _near,
        "open_drawer": lambda scene, handling: open_drawer(_drawer(scene), handling),
        "close_drawer": lambda scene, handling: close_drawer(_drawer(scene), handling),
    }
)
"""How arms with a gripper go about each task."""
_HANDS: Mapping[str, tuple[str, tuple[str, ...]]] = MappingProxyType(
    {"human_hand": ("vap_sim.policies.hand_plans", ("grasp_lift", "push", "tilt"))}
)
"""Robots that have experts of their own: where these are, and for which tasks."""


def expert_tasks(robot: str) -> tuple[str, ...]:
    """The tasks that a robot has a scripted expert for."""
    return _HANDS[robot][1] if robot in _HANDS else tuple(PLANNERS)


def check_expert(robot: str, task: str) -> None:
    """Raises UnknownName unless the robot has an expert for the task."""
    if task not in expert_tasks(robot):
        raise UnknownName("task with a scripted expert", task, expert_tasks(robot))


def expert_targets(
    model: RobotModel,
    task: str,
    scene: Record,
    joints: NDArray[np.float64],
    control_dt: float,
    key: int = 0,
    noise: float = 0.0,
) -> NDArray[np.float64]:
    """Joint targets (T, J) [rad, m] of a task's expert from `joints` (J,) on, one each `control_dt` [s]; T may be 0.

    key decides what is drawn at random; noise: how far plans miss [m]. Raises InvalidInput where the scene lacks what
    the task is about, UnknownName for a task without an expert.
    """
    check_expert(model.name, task)
    if model.name in _HANDS:
        plans = import_module(_HANDS[model.name][0])
        found: NDArray[np.float64] = plans.hand_targets(model, scene, joints, task, control_dt, key, noise=noise)
        return found
    handling = handling_of(model)
    plan = PLANNERS[task](scene, handling)
    if noise > 0:
        plan = motion_plans.noisy(plan, np.random.default_rng([key, 29]), noise, handling)
    return joint_targets(model, joints, plan, control_dt)
