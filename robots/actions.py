"""What the entries of an action mean in each control mode: names, units and bounds.

Normalised speeds are per second, so that an action means the same motion at every control rate. Their scales are
those of DROID at its 15 Hz: 0.2 rad, 0.075 m, 0.15 rad and a quarter of the gripper's range in 1/15 s.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.library import RobotModel

MODES = ("joint_velocity", "joint_position", "ee_delta", "ee_pose", "ee_head_delta")
SPEED_MODES = ("joint_velocity", "ee_delta", "ee_head_delta")
"""Control modes whose entries are speeds, so that zero means rest; the gripper's is a position in all of them."""
JOINT_SPEED = 0.2 * 15
"""Joint speed [rad/s] of a normalised 1.0; the joints' own limits may be lower."""
LINEAR_SPEED = 0.075 * 15
"""End-effector speed [m/s] of a normalised 1.0."""
TURN_SPEED = 0.15 * 15
"""End-effector turning speed [rad/s] of a normalised 1.0."""
GRIPPER_SPEED = 0.25 * 15
"""Fastest gripper [share of its range per second]."""


@dataclass(frozen=True, eq=False)
class ActionSpec:
    """The A entries of an action: `names`, `units`, and bounds `low`, `high` (A,) float32."""

    mode: str
    names: tuple[str, ...]
    units: tuple[str, ...]
    low: NDArray[np.float32]
    high: NDArray[np.float32]

    @property
    def size(self) -> int:
        """A, the length of an action."""
        return len(self.names)


def action_spec(model: RobotModel, mode: str = "joint_velocity", *, link: str | None = None) -> ActionSpec:
    """The action of a robot in one of MODES; the gripper's position (0 open, 1 closed) comes last where there is one.

    - joint_velocity: one normalised speed per arm joint, in [-1, 1].
    - joint_position: one value per arm joint, within its limits [rad or m].
    - ee_delta: normalised speeds of `link` in the base frame, x y z, then turning about the base frame's x, y, z.
    - ee_pose: x y z [m] and roll pitch yaw [rad, extrinsic xyz] of `link` in the base frame.
    - ee_head_delta: those of ee_delta, then one normalised speed for each of `head_joints`.

    `link` is the flange by default, which DROID logs. Raises UnknownName for another mode or link.
    """
    if mode not in MODES:
        raise UnknownName("control mode", mode, MODES)
    robot = model.robot
    joint = model.gripper.joint if model.gripper is not None else None
    arm = [i for i, name in enumerate(robot.joint_names) if name != joint]
    still = [robot.joint_names[i] for i in range(robot.num_joints) if not robot.max_speed[i] > 0]
    if still:
        raise InvalidInput(f"speed limit of joint {still[0]!r}", 0.0, "a positive limit, for a joint under control")
    names: list[str] = [robot.joint_names[i] for i in arm]
    if mode == "joint_velocity":
        units, high = ["normalised speed"] * len(arm), [1.0] * len(arm)
        low = [-1.0] * len(arm)
    elif mode == "joint_position":
        units = ["rad or m"] * len(arm)
        low, high = robot.lower[arm].tolist(), robot.upper[arm].tolist()
    else:
        names = ["x", "y", "z", "roll", "pitch", "yaw"]
        reach = robot.reach(model.flange_link if link is None else link)
        pose = mode == "ee_pose"
        units = ["m"] * 3 + ["rad"] * 3 if pose else ["normalised speed"] * 6
        high = [reach] * 3 + [np.pi] * 3 if pose else [1.0] * 6
        low = [-v for v in high]
        if mode == "ee_head_delta":
            head = [robot.joint_names[i] for i in head_joints(model, link=link)]
            names, units = [*names, *head], [*units, *["normalised speed"] * len(head)]
            low, high = [*low, *[-1.0] * len(head)], [*high, *[1.0] * len(head)]
    if joint is not None:
        names, units, low, high = [*names, "gripper"], [*units, "0 open, 1 closed"], [*low, 0.0], [*high, 1.0]
    bounds = (np.array(low, dtype=np.float32), np.array(high, dtype=np.float32))
    return ActionSpec(mode, tuple(names), tuple(units), *bounds)


def head_joints(model: RobotModel, *, link: str | None = None) -> tuple[int, ...]:
    """The joints that move a camera of the robot but not `link`, by default the flange, in order; often none.

    Raises UnknownName for a link that does not exist.
    """
    robot = model.robot
    carried = {camera.parent_link for camera in model.cameras.values() if camera.parent_link is not None}
    moving = {joint for parent in carried for joint in robot.movers(parent)}
    return tuple(sorted(moving - robot.movers(model.flange_link if link is None else link)))
