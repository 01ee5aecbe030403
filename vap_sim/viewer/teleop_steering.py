"""From what a person asks for, by keys, sticks, a dragged gizmo or a slider, to joint targets by inverse kinematics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.inverse import solve_inverse
from vap_sim.robots.library import RobotModel
from vap_sim.robots.rotations import rotation_vector

Array = NDArray[np.float64]
_REACHED, _TURNED = 5e-4, 5e-3  # [m], [rad] nearer than this to a goal is there
_ASTRAY = 0.5  # of the way that an inverse misses is no way
_GRIPPED = 5e-3
_BENT = 1e-3  # [rad or m]


@dataclass(frozen=True)
class Speeds:
    """How fast the tool moves: `linear` [m/s] and `angular` [rad/s] under full keys, `goal` times that towards a gizmo;
    `gripper` [share of its range per second]."""

    linear: float = 0.25
    angular: float = 1.0
    goal: float = 2.0
    gripper: float = 2.0

    def __post_init__(self) -> None:
        if not all(0 < value < 100 for value in (self.linear, self.angular, self.goal, self.gripper)):
            raise InvalidInput("speeds of driving", self, "positive numbers below 100")


@dataclass(frozen=True, eq=False)
class Wish:
    """What is asked for now. linear, angular: (3,) shares of full speed in [-1, 1] along and about the base frame's
    axes; goal: (4, 4) pose that the tool shall reach, or None; gripper: where it shall be (0 open, 1 closed), or None;
    joints: where single joints shall be [rad or m], by name, whatever the tool does then.
    """

    linear: Array = field(default_factory=lambda: np.zeros(3))
    angular: Array = field(default_factory=lambda: np.zeros(3))
    goal: Array | None = None
    gripper: float | None = None
    joints: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Steered:
    """action: (A,) float32 for a world with control "joint_position", or None where nothing is left to do; arrived:
    whether the goal is reached or cannot be approached further; out_of_reach: whether the arm could not follow."""

    action: NDArray[np.float32] | None
    arrived: bool = False
    out_of_reach: bool = False


class Steering:
    """Steers one robot; `dt` [s] is how long an action lasts. An action is the arm's joints in the robot's order
    [rad or m], then the gripper's position where there is one."""

    def __init__(self, model: RobotModel, dt: float, speeds: Speeds | None = None) -> None:
        self.model, self.dt, self.speeds = model, float(dt), speeds or Speeds()
        robot, gripper = model.robot, model.gripper
        self._gripper = None if gripper is None else robot.joint_index(gripper.joint)
        self._arm = [index for index in range(robot.num_joints) if index != self._gripper]
        self._longest = robot.max_speed.double().numpy()[self._arm] * self.dt
        self._tool = robot.link_index(model.tool_link)

    @property
    def singly(self) -> tuple[str, ...]:
        """The joints that can be asked for one by one: all but the gripper's."""
        names = self.model.robot.joint_names
        return tuple(names[index] for index in self._arm)

    def resting(self, joints: Array, gripper: float | None = None) -> NDArray[np.float32]:
        """The action (A,) that keeps joints (J,); `gripper` instead of what the joints say of it."""
        values = np.asarray(joints, np.float64)
        asked = values[self._arm]
        if self._gripper is not None and self.model.gripper is not None:
            measured = float(self.model.gripper.to_position(torch.tensor(values[self._gripper])))
            asked = np.append(asked, np.clip(measured if gripper is None else gripper, 0.0, 1.0))
        return asked.astype(np.float32)

    def joints(self, asked: NDArray[np.floating]) -> Array:
        """The joints (J,) that an action (A,) asks for."""
        values = np.empty(self.model.robot.num_joints)
        values[self._arm] = asked[: len(self._arm)]
        if self._gripper is not None and self.model.gripper is not None:
            values[self._gripper] = float(self.model.gripper.to_joint(torch.tensor(float(asked[-1]))))
        return values

    def tool(self, joints: Array) -> Array:
        """Pose of the tool (4, 4) in the base frame at joints (J,)."""
        q = torch.from_numpy(np.asarray(joints, np.float64))
        return np.asarray(self.model.robot.forward(q)[self._tool].numpy())

    def steer(self, asked: NDArray[np.floating], wish: Wish) -> Steered:
        """The next action from what was asked last, (A,).

        Raises InvalidInput for a wish that is not finite, UnknownName for a joint that there is not."""
        start = self.joints(asked)
        pose = self.tool(start)
        aim, arrived = self._aim(pose, wish)
        grip, bent = self._grip(asked, wish), self._bent(start, wish)
        found = None if aim is None else self._inverse(start, pose, aim)
        if found is None:
            moved = None if grip is None and not bent else self._action(_with(start, bent), grip, asked)
            return Steered(moved, arrived or aim is not None, out_of_reach=aim is not None)
        move = (found - start)[self._arm]
        # All joints slow down together, so that the tool keeps its direction.
        slow = max(1.0, float(np.max(np.abs(move) / self._longest)))
        joints = start.copy()
        joints[self._arm] = start[self._arm] + move / slow
        return Steered(self._action(_with(joints, bent), grip, asked), arrived and slow == 1.0)

    def _action(self, joints: Array, grip: float | None, asked: NDArray[np.floating]) -> NDArray[np.float32]:
        return self.resting(joints, float(asked[-1]) if grip is None else grip)

    def _grip(self, asked: NDArray[np.floating], wish: Wish) -> float | None:
        if self._gripper is None or wish.gripper is None:
            return None
        if not np.isfinite(wish.gripper):
            raise InvalidInput("gripper that is asked for", wish.gripper, "a number from 0 (open) to 1 (closed)")
        left = float(np.clip(wish.gripper, 0, 1)) - float(asked[-1])
        if abs(left) < _GRIPPED:
            return None
        most = self.speeds.gripper * self.dt
        return float(asked[-1]) + float(np.clip(left, -most, most))

    def _bent(self, start: Array, wish: Wish) -> dict[int, float]:
        """Where the joints that are asked for singly are after one action, by number; without those that are there."""
        robot, bent = self.model.robot, dict[int, float]()
        for name, target in wish.joints.items():
            if name not in self.singly:
                raise UnknownName(f"joint of {self.model.name}", name, self.singly)
            if not np.isfinite(target):
                raise InvalidInput(f"place of {name} that is asked for", target, "a finite number")
            index = robot.joint_index(name)
            left = float(np.clip(target, float(robot.lower[index]), float(robot.upper[index]))) - float(start[index])
            if abs(left) >= _BENT:
                most = self._longest[self._arm.index(index)]
                bent[index] = float(start[index]) + float(np.clip(left, -most, most))
        return bent

    def _aim(self, pose: Array, wish: Wish) -> tuple[Array | None, bool]:
        """Where the tool shall be after one action, None to stay; and whether a goal is reached with that."""
        numbers = [wish.linear, wish.angular, *([] if wish.goal is None else [wish.goal])]
        if not all(np.isfinite(part).all() for part in numbers):
            raise InvalidInput("motion that is asked for", "a number that is not finite", "finite numbers")
        speeds, dt = self.speeds, self.dt
        if np.any(wish.linear) or np.any(wish.angular):
            shift = np.clip(wish.linear, -1, 1) * speeds.linear * dt
            turn = np.clip(wish.angular, -1, 1) * speeds.angular * dt
            return moved(pose, shift, turn), False
        if wish.goal is None:
            return None, False
        shift = wish.goal[:3, 3] - pose[:3, 3]
        turn = _vector(torch.from_numpy(wish.goal[:3, :3] @ pose[:3, :3].T))
        far, round_ = float(np.linalg.norm(shift)), float(np.linalg.norm(turn))
        if far < _REACHED and round_ < _TURNED:
            return None, True
        share = min(
            1.0,
            speeds.goal * speeds.linear * dt / max(far, 1e-9),
            speeds.goal * speeds.angular * dt / max(round_, 1e-9),
        )
        return moved(pose, shift * share, turn * share), share == 1.0

    def _inverse(self, start: Array, pose: Array, aim: Array) -> Array | None:
        """Joints (J,) that bring the tool from `pose` to `aim`, or None where most of the way would be left."""
        found = solve_inverse(
            self.model.robot,
            self.model.tool_link,
            torch.from_numpy(aim)[None],
            torch.from_numpy(start)[None],
            max_iterations=30,
            position_tolerance=1e-4,
            rotation_tolerance=1e-3,
        )
        shift = float(np.linalg.norm(aim[:3, 3] - pose[:3, 3]))
        turn = float(np.linalg.norm(_vector(torch.from_numpy(aim[:3, :3] @ pose[:3, :3].T))))
        missed = float(found.position_error[0]) > max(_REACHED, _ASTRAY * shift)
        if missed or float(found.rotation_error[0]) > max(_TURNED, _ASTRAY * turn):
            return None
        return np.asarray(found.q[0].numpy())


def _with(joints: Array, bent: Mapping[int, float]) -> Array:
    out = joints.copy()
    out[list(bent)] = list(bent.values())
    return out


def moved(pose: Array, shift: Array, turn: Array) -> Array:
    """A pose (4, 4) moved by `shift` (3,) [m] and turned in place by the rotation vector `turn` (3,) [rad], both along
    the axes of the base frame."""
    x, y, z = (float(value) for value in turn)
    skew = torch.tensor([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]], dtype=torch.float64)
    out = np.array(pose, np.float64)
    out[:3, :3] = torch.linalg.matrix_exp(skew).numpy() @ pose[:3, :3]
    out[:3, 3] = pose[:3, 3] + shift
    return out


def _vector(turn: Tensor) -> Array:
    return np.asarray(rotation_vector(turn).numpy())
