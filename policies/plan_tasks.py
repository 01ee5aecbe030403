"""Tasks to plan for: a push across the table as a few numbers, and action sequences as they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.imagination import Imagination
from vap_sim.policies.motion_plans import CLEAR_HEIGHT, Waypoint
from vap_sim.policies.objectives import ObjectAt, Objective, Smooth, ToolAbove, ToolAt, Weighted
from vap_sim.policies.plan_problems import Detour, Futures, Moment, Problem
from vap_sim.policies.planners import Floats, Prior
from vap_sim.policies.scripted import tool_path, tool_pose
from vap_sim.policies.sight import Sight, points_at_height
from vap_sim.robots.control import ControlState
from vap_sim.robots.inverse import solve_inverse

_HEIGHT = 0.03  # [m] of an object's middle above the table, unknown: half of a common size
_PUSH_HEIGHT, _STANDOFF, _TOUCH = 0.03, 0.10, 0.05  # [m] of the tool: above the table; before the object's middle
_APPROACH_SPEED, _PUSH_SPEED = 0.40, 0.16
_BACK = 0.02  # [m] the tool withdraws while it rises, so that it does not drag what it pushed


@dataclass(frozen=True)
class PushOntoGoal:
    """Push the object onto the goal disc, with closed fingers and in one straight line a plan.

    Three numbers are searched: the push's direction, as an angle from the straight way to the goal, up to `widest`
    [rad]; how far beside the object's middle its line runs, up to `beside` [m]; and how far the tool passes that
    middle, from hardly a touch to `reach` times the way to the goal. Where the object is and where it would end is read
    from pictures.
    """

    widest: float = 1.0
    beside: float = 0.03
    reach: float = 1.5
    longest: int = 48
    shape: tuple[int, int] = (1, 3)
    actions_per_step: int | None = None

    def problem(self, moment: Moment, imagination: Imagination) -> Problem | Detour:
        """See `PlannedTask`. A detour where the object is not seen. Raises InvalidInput for a brief without goal."""
        brief = moment.brief
        if brief.goal is None:
            raise InvalidInput("brief of a push", "no goal", "a goal disc")
        sight, goal = Sight(brief.color, brief.colors), brief.goal[:2]
        here = seen_at(sight, moment)
        if here is None:
            return look_elsewhere(moment, imagination, self.longest)
        way = np.array(goal) - here
        straight, distance = float(np.arctan2(way[1], way[0])), float(np.hypot(*way))

        def futures(parameters: Floats) -> Futures:
            plans = [self._waypoints(here, straight, *numbers) for numbers in parameters[:, 0].tolist()]
            return follow(imagination, moment.control, plans, self.longest)

        ends = np.array([[self.widest, self.beside, self.reach * distance]])
        starts = np.array([[-self.widest, -self.beside, -_TOUCH]])
        return Problem(Prior.of(starts, ends), futures, ObjectAt(sight, brief.cameras[0], goal, _HEIGHT))

    def _waypoints(self, here: Floats, straight: float, turn: float, beside: float, passes: float) -> list[Waypoint]:
        along = np.array([np.cos(straight + turn), np.sin(straight + turn)])
        middle = here + beside * np.array([-along[1], along[0]])
        (x, y), (stop_x, stop_y) = (middle - _STANDOFF * along).tolist(), (middle + passes * along).tolist()
        (back_x, back_y) = (middle + (passes - _BACK) * along).tolist()
        # The closed fingers are as good turned by half a turn, so the wrist takes the nearer one.
        yaw = float((straight + turn + np.pi / 2) % np.pi - np.pi / 2)
        over = Waypoint(x, y, CLEAR_HEIGHT, yaw, gripper=1.0, speed=_APPROACH_SPEED)
        down = replace(over, z=_PUSH_HEIGHT)
        pushed = replace(down, x=stop_x, y=stop_y, speed=_PUSH_SPEED)
        return [over, down, pushed, replace(over, x=back_x, y=back_y)]


@dataclass(frozen=True)
class ActionSequence:
    """Actions as they are: `steps` of them, each held for `hold` control intervals, between the bounds of the control.

    objective: what is wanted, the same at every moment, or a function of the moment; gripper: its position throughout,
    searched if None; spread: std of the first candidates, as a share of half the range.
    """

    robot_actions: int
    objective: Objective | Callable[[Moment], Objective | None]
    steps: int = 10
    hold: int = 1
    gripper: float | None = None
    spread: float = 0.15

    def __post_init__(self) -> None:
        if min(self.steps, self.hold, self.robot_actions) < 1 or not 0 < self.spread <= 2:
            given = f"steps {self.steps}, hold {self.hold}, spread {self.spread}"
            raise InvalidInput("action sequence", given, "at least 1 of each, and a spread in (0, 2]")

    @property
    def shape(self) -> tuple[int, int]:
        """(steps, numbers an action)."""
        return self.steps, self.robot_actions - (self.gripper is not None)

    @property
    def longest(self) -> int:
        """Actions of a plan."""
        return self.steps * self.hold

    @property
    def actions_per_step(self) -> int:
        """A plan can be continued after each searched step."""
        return self.hold

    def problem(self, moment: Moment, imagination: Imagination) -> Problem | Detour:
        """See `PlannedTask`. A detour where the objective is a function that gives none."""
        objective = self.objective(moment) if callable(self.objective) else self.objective
        if objective is None:
            return look_elsewhere(moment, imagination, self.longest)
        spec, size = imagination.controller.spec, self.shape[1]
        if spec.size != self.robot_actions:
            raise InvalidInput("action sequence", f"{self.robot_actions} numbers", f"{spec.size}: {spec.names}")
        low, high = (np.repeat(v[None, :size].astype(np.float64), self.steps, axis=0) for v in (spec.low, spec.high))

        def futures(parameters: Floats) -> Futures:
            actions = parameters
            if self.gripper is not None:
                actions = np.concatenate([actions, np.full((*actions.shape[:2], 1), self.gripper)], axis=2)
            held = np.repeat(actions, self.hold, axis=1).astype(np.float32)
            return Futures(held, np.full(len(held), held.shape[1], np.int64))

        return Problem(Prior.of(low, high, std=self.spread * (high - low) / 2), futures, objective)


def reach_object(above: float = 0.10) -> Callable[[Moment], Objective | None]:
    """The objective of task "reach" for an `ActionSequence`: the tool over the object that is seen, `above` [m] the
    table, soon, pointing down, smoothly, and never lower on the way; None where the object is not seen."""

    def objective(moment: Moment) -> Objective | None:
        here = seen_at(Sight(moment.brief.color, moment.brief.colors), moment)
        if here is None:
            return None
        pose = tool_pose(Waypoint(float(here[0]), float(here[1]), above))
        over = ToolAt(pose[:3, 3], pose[:3, :3], turn_weight=0.1, along=0.3)
        return Weighted((1.0, over), (5.0, ToolAbove(above - 0.015)), (0.3, Smooth()))

    return objective


def seen_at(sight: Sight, moment: Moment) -> Floats | None:
    """Where on the table (x, y) [m] the object is by the first camera, or None where it is not seen."""
    middles, seen = sight.find(moment.frames[:1])
    return points_at_height(middles, moment.brief.cameras[0], _HEIGHT)[0] if seen[0] else None


def look_elsewhere(moment: Moment, imagination: Imagination, longest: int) -> Detour:
    """Take the arm out of the way, to one side and then to the other, so that what it hides can be seen."""
    side = -0.3 if moment.plans % 2 == 0 else 0.3
    aside = Waypoint(0.36, side, 0.40, gripper=1.0, speed=_APPROACH_SPEED)
    found = follow(imagination, moment.control, [[aside]], longest)
    return Detour(found.actions[0], "the object is not seen")


def follow(imagination: Imagination, control: ControlState, plans: list[list[Waypoint]], longest: int) -> Futures:
    """Actions that bring the tool along n plans from one control state, cut after `longest`.

    Candidates share their inverse kinematics, one batch a control interval. Where a tool pose is out of reach the
    nearest joint pose found is used. Raises Unsupported for a robot without a gripper.
    """
    controller, model = imagination.controller, imagination.model
    gripper = model.gripper
    if gripper is None:
        raise Unsupported(f"plans move a gripper, which robot {model.name!r} does not have")
    robot, joint = model.robot, model.robot.joint_index(gripper.joint)
    q = torch.from_numpy(control.target[:1])
    start = robot.forward(q)[0, robot.link_index(model.tool_link)].numpy()
    opening = float(gripper.to_position(q[0, joint]))
    paths = [tool_path(start, opening, plan, controller.control_dt) for plan in plans]
    lengths = np.minimum([max(len(poses), 1) for poses, _ in paths], longest)
    every = imagination.intervals
    total = int(-(-lengths.max() // every) * every)
    poses = np.stack([_held(path, total, start) for path, _ in paths])
    grips = np.stack([_held(positions, total, np.asarray(opening)) for _, positions in paths])
    q = q.repeat(len(plans), 1)
    state = ControlState(*(np.repeat(values[:1], len(plans), axis=0) for values in (control.target, control.joints)))
    actions: list[NDArray[np.float32]] = []
    for step in range(total):
        goal = torch.from_numpy(poses[:, step])
        q = solve_inverse(
            robot, model.tool_link, goal, q, max_iterations=25, position_tolerance=3e-4, rotation_tolerance=2e-3
        ).q
        targets = q.numpy().copy()
        targets[:, joint] = gripper.to_joint(torch.from_numpy(grips[:, step])).numpy()
        actions.append(controller.actions_for(state, targets))
        state, _ = controller.step(state, actions[-1], 0)
    return Futures(np.stack(actions, axis=1), lengths.astype(np.int64))


def _held(values: Floats, total: int, before: Floats) -> Floats:
    """The first `total` of values (T, ...), the last one repeated where there are fewer."""
    some = values[:total] if len(values) else before[None]
    return np.concatenate([some, np.repeat(some[-1:], total - len(some), axis=0)])
