"""From actions to nominal joint motion: targets within limits and speeds, followed with a first-order lag."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.actions import (
    GRIPPER_SPEED,
    JOINT_SPEED,
    LINEAR_SPEED,
    TURN_SPEED,
    ActionSpec,
    action_spec,
    head_joints,
)
from vap_sim.robots.inverse import solve_inverse
from vap_sim.robots.library import RobotModel
from vap_sim.robots.rotations import matrix_to_rpy, rpy_to_matrix

Array = NDArray[np.float64]
ANCHORS = ("target", "joints")
DROID_TAU = 0.22
"""Lag [s] of a real DROID station with anchor "joints": fitted to the commands and joints of nine logged episodes."""


@dataclass(frozen=True, eq=False)
class ControlState:
    """What a controller remembers: the commanded `target` and the lagging `joints`, both (b, J) float64 [rad, m]."""

    target: Array
    joints: Array


class Controller:
    """Turns actions into the nominal motion of a robot, that is, without the scene.

    The joints follow a target with time constant `tau`, integrated in closed form, so that the motion does not depend
    on how many poses are read off. `anchor` says what actions add to and how the target moves in a control interval:

    - "target": to the previous target, evenly over the interval and no faster than the joints' speed limits. Joints
      settle on what was asked for; the right choice for exact scripted motion.
    - "joints": to where the joints are, at once, as DROID's own controller does; no joint exceeds its speed limit on
      average over an interval. With `tau` 0.22 s this is the motion of the real station (docs of `DROID_TAU`).

    `control_dt` and `tau` are in seconds; `clip` moves out-of-range actions to the nearest valid ones (otherwise they
    raise); `link` is the link that the end-effector modes move, by default the flange, which DROID logs.
    """

    def __init__(
        self,
        model: RobotModel,
        mode: str = "joint_velocity",
        control_dt: float = 1 / 15,
        *,
        tau: float = 0.04,
        anchor: str = "target",
        clip: bool = True,
        link: str | None = None,
    ) -> None:
        if not (0 < control_dt < np.inf):
            raise InvalidInput("control_dt", control_dt, "a positive number of seconds")
        if not (0 <= tau < np.inf):
            raise InvalidInput("tau", tau, "zero or a positive number of seconds")
        self.model, self.mode, self.control_dt, self.tau, self.clip = model, mode, float(control_dt), float(tau), clip
        if anchor not in ANCHORS:
            raise UnknownName("anchor", anchor, ANCHORS)
        self.anchor = anchor
        self.link = model.flange_link if link is None else link
        self.spec: ActionSpec = action_spec(model, mode, link=self.link)
        self._head = np.array(head_joints(model, link=self.link) if mode == "ee_head_delta" else (), np.intp)
        robot = model.robot
        self._lower, self._upper, speed = (
            t.numpy().astype(np.float64) for t in (robot.lower, robot.upper, robot.max_speed)
        )
        gripper = model.gripper
        self._gripper = None if gripper is None else robot.joint_index(gripper.joint)
        self._arm = np.array([i for i in range(robot.num_joints) if i != self._gripper])
        self._open, self._travel = 0.0, 1.0
        if gripper is not None and self._gripper is not None:
            self._open, self._travel = gripper.open_value, gripper.closed_value - gripper.open_value
            speed[self._gripper] = min(speed[self._gripper], GRIPPER_SPEED * abs(self._travel))
        # A lagging joint's speed is its distance from a resting target over tau.
        self._longest = speed * (self.control_dt if anchor == "target" else max(self.tau, self.control_dt))
        self._low, self._high = self.spec.low.astype(np.float64), self.spec.high.astype(np.float64)
        # Joint modes ask every joint for kept * base + gain * entry + rest.
        self._kept, self._rest = np.ones(robot.num_joints), np.zeros(robot.num_joints)
        self._gains = np.full(robot.num_joints, JOINT_SPEED * self.control_dt if mode == "joint_velocity" else 1.0)
        self._entries = np.zeros(robot.num_joints, np.intp)
        self._entries[self._arm] = np.arange(self._arm.size)
        if self._gripper is not None:
            self._entries[self._gripper], self._gains[self._gripper] = self._arm.size, self._travel
            self._kept[self._gripper], self._rest[self._gripper] = 0.0, self._open
        self._asks: Callable[[Array, Array], Array] = getattr(self, f"_ask_{mode}")
        self._coefficients: dict[int, tuple[Array, Array, Array]] = {}

    def initial(self, q: ArrayLike) -> ControlState:
        """At rest at joint values q (b, J), moved into the limits. Raises InvalidInput."""
        joints = _between(self._joints("joints q", q), self._lower, self._upper)
        return ControlState(joints, joints)

    def step(self, state: ControlState, action: ArrayLike, poses: int = 1) -> tuple[ControlState, NDArray[np.float32]]:
        """One control interval: action (b, A) as `spec` describes -> (next state, path (b, poses, J) float32).

        The poses are equally spaced in time; the last is where the interval ends. Zero poses are allowed, for rates
        where several intervals make one picture. Raises InvalidInput naming the entry of the action at fault.
        """
        values = self._checked(action, state.target.shape[0])
        base = self._base(state)
        wish = _between(self._asks(base, values), self._lower, self._upper)
        move = _between(wish - base, -self._longest, self._longest)
        path = self._follow(state.joints, base, move, poses)
        return ControlState(path[:, -1].copy(), path[:, -2].copy()), path[:, :poses].astype(np.float32)

    def actions_for(self, state: ControlState, q_target: ArrayLike) -> NDArray[np.float32]:
        """The action (b, A) that moves the target to q_target (b, J) within one interval, or as near as bounds allow.

        End-effector modes reach the link's pose at q_target, which need not be the same joint values.
        """
        goal = _between(self._joints("q_target", q_target), self._lower, self._upper)
        base = self._base(state)
        if self.mode == "joint_velocity":
            body = (goal - base)[:, self._arm] / (JOINT_SPEED * self.control_dt)
        elif self.mode == "joint_position":
            body = goal[:, self._arm]
        else:
            head = (goal - base)[:, self._head] / (JOINT_SPEED * self.control_dt)
            body = np.concatenate([self._pose_action(base, goal), head], axis=1)
        if self._gripper is not None:
            body = np.concatenate([body, (goal[:, [self._gripper]] - self._open) / self._travel], axis=1)
        return _between(body, self._low, self._high).astype(np.float32)

    def _joints(self, what: str, q: ArrayLike) -> Array:
        values = np.asarray(q, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != self._lower.size:
            raise InvalidInput(what, f"shape {values.shape}", f"(b, {self._lower.size})")
        if not np.isfinite(values).all():
            row, joint = np.argwhere(~np.isfinite(values))[0]
            name = self.model.robot.joint_names[joint]
            raise InvalidInput(f"{what}, {name} of row {row}", values[row, joint], "a finite number")
        return values

    def _checked(self, action: ArrayLike, rows: int) -> Array:
        values = np.asarray(action, dtype=np.float64)
        if values.shape != (rows, self._low.size):
            expected = f"({rows}, {self._low.size}): {', '.join(self.spec.names)}"
            raise InvalidInput(f"{self.mode} action", f"shape {values.shape}", expected)
        inside = _between(values, self._low, self._high)
        # Not a number compares unequal to itself, so one comparison finds every kind of bad entry.
        if (inside == values).all():
            return values
        if not self.clip or np.isnan(values).any():
            bad = np.isnan(values) if self.clip else inside != values
            row, entry = np.argwhere(bad)[0]
            low, high, unit = self.spec.low[entry], self.spec.high[entry], self.spec.units[entry]
            what = f"{self.mode} action, {self.spec.names[entry]} of row {row}"
            raise InvalidInput(what, values[row, entry], f"a number in [{low:g}, {high:g}] ({unit})")
        return inside

    def _base(self, state: ControlState) -> Array:
        return state.target if self.anchor == "target" else state.joints

    def _follow(self, joints: Array, base: Array, move: Array, poses: int) -> Array:
        """Lagged joints at each pose's time and at the end of the interval, then the target there (b, poses + 2, J)."""
        if poses not in self._coefficients:
            self._coefficients[poses] = self._response(poses)
        decay, start, ramp = self._coefficients[poses]
        path: Array = decay * joints[:, None] + start * base[:, None] + ramp * move[:, None]
        return _between(path, self._lower, self._upper)

    def _response(self, poses: int) -> tuple[Array, Array, Array]:
        """Weights (poses + 2, 1) of the old joints, the target before, and its move over the interval."""
        if poses < 0:
            raise InvalidInput("poses", poses, "zero or more")
        share = np.append(np.arange(1, poses + 1) / max(poses, 1), 1.0)[:, None]
        lag = self.tau / self.control_dt
        decay = np.exp(-share / lag) if lag > 0 else np.zeros_like(share)
        ramp = share - lag * (1 - decay) if self.anchor == "target" else 1 - decay
        last = np.ones((1, 1))  # the target itself: what it was, and all of its move
        weights = (decay, 0 * last), (1 - decay, last), (ramp, last)
        of_joints, of_target, of_move = (np.concatenate(rows) for rows in weights)
        return of_joints, of_target, of_move

    def _with_gripper(self, base: Array, arm: Array, action: Array) -> Array:
        """Full joint wish (b, J) from the arm's and the action's last entry."""
        wish = base.copy()
        wish[:, self._arm] = arm
        if self._gripper is not None:
            wish[:, self._gripper] = self._open + action[:, -1] * self._travel
        return wish

    def _ask_joint_velocity(self, base: Array, action: Array) -> Array:
        wish: Array = self._kept * base + (action.take(self._entries, axis=1) * self._gains + self._rest)
        return wish

    def _ask_joint_position(self, base: Array, action: Array) -> Array:
        wish: Array = action.take(self._entries, axis=1) * self._gains + self._rest
        return wish

    def _ask_ee_delta(self, base: Array, action: Array) -> Array:
        pose = self._pose(base)
        twist = torch.from_numpy(action[:, :6] * self.control_dt)
        goal = pose.clone()
        goal[:, :3, 3] += twist[:, :3] * LINEAR_SPEED
        goal[:, :3, :3] = rpy_to_matrix(twist[:, 3:] * TURN_SPEED) @ pose[:, :3, :3]
        return self._reach(base, goal, action)

    def _ask_ee_head_delta(self, base: Array, action: Array) -> Array:
        wish = self._ask_ee_delta(base, action)
        wish[:, self._head] += action[:, 6 : 6 + self._head.size] * (JOINT_SPEED * self.control_dt)
        return wish

    def _ask_ee_pose(self, base: Array, action: Array) -> Array:
        goal = torch.eye(4, dtype=torch.float64).repeat(action.shape[0], 1, 1)
        values = torch.from_numpy(action)
        goal[:, :3, 3] = values[:, :3]
        goal[:, :3, :3] = rpy_to_matrix(values[:, 3:6])
        return self._reach(base, goal, action)

    def _reach(self, base: Array, goal: torch.Tensor, action: Array) -> Array:
        """Joint wish (b, J) for a pose of the link; the arm joints slow down together, which keeps their direction."""
        start = torch.from_numpy(base)
        found = solve_inverse(
            self.model.robot,
            self.link,
            goal,
            start,
            max_iterations=20,
            position_tolerance=1e-4,
            rotation_tolerance=1e-3,
        )
        move = found.q.numpy()[:, self._arm] - base[:, self._arm]
        excess = (np.abs(move) / self._longest[self._arm]).max(axis=1, keepdims=True)
        return self._with_gripper(base, base[:, self._arm] + move / np.maximum(excess, 1.0), action)

    def _pose(self, joints: Array) -> torch.Tensor:
        robot = self.model.robot
        return robot.forward(torch.from_numpy(joints))[:, robot.link_index(self.link)]

    def _pose_action(self, start: Array, goal: Array) -> Array:
        pose = self._pose(goal)
        if self.mode == "ee_pose":
            return torch.cat([pose[:, :3, 3], matrix_to_rpy(pose[:, :3, :3])], dim=1).numpy()
        before = self._pose(start)
        turn = matrix_to_rpy(pose[:, :3, :3] @ before[:, :3, :3].mT) / TURN_SPEED
        shift = (pose[:, :3, 3] - before[:, :3, 3]) / LINEAR_SPEED
        return torch.cat([shift, turn], dim=1).numpy() / self.control_dt


def _between(values: Array, low: Array, high: Array) -> Array:
    """`np.clip`, in a third of its time for a single robot."""
    return np.minimum(np.maximum(values, low), high)
