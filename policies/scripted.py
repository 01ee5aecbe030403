"""Turns a tool plan into joint targets, one a control step: the scripted experts of every task."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp  # type: ignore[import-untyped, unused-ignore]

from vap_sim.errors import Unsupported
from vap_sim.policies.motion_plans import Waypoint
from vap_sim.robots.inverse import solve_inverse
from vap_sim.robots.library import RobotModel

_TURN_SPEED = 1.6  # [rad/s] at which a tool turns between waypoints


def tool_pose(point: Waypoint) -> np.ndarray:
    """T_base_tool (4, 4) of a waypoint: gripper down, turned by yaw, then tilted about its own x axis, then leaning
    forward as a whole, about the base frame's y axis."""
    down = Rotation.from_euler("z", point.yaw) * Rotation.from_matrix(np.diag([1.0, -1.0, -1.0]))
    if point.lean:
        down = Rotation.from_euler("y", -point.lean) * down
    pose = np.eye(4)
    pose[:3, :3] = (down * Rotation.from_euler("x", point.tilt)).as_matrix()
    pose[:3, 3] = point.x, point.y, point.z
    return pose


def tool_path(
    start: np.ndarray, gripper: float, plan: list[Waypoint], control_dt: float
) -> tuple[np.ndarray, np.ndarray]:
    """Straight tool motion through a plan from T_base_tool `start` (4, 4), one pose a control step of `control_dt` [s].

    Returns poses (T, 4, 4) and gripper positions (T,) in [0, 1].
    """
    poses: list[np.ndarray] = []
    grippers: list[float] = []
    here = start
    for point in plan:
        there = tool_pose(point)
        turn = Rotation.from_matrix(here[:3, :3].T @ there[:3, :3]).magnitude()
        distance = float(np.linalg.norm(there[:3, 3] - here[:3, 3]))
        steps = int(np.ceil(max(distance / point.speed, turn / _TURN_SPEED) / control_dt - 1e-6))
        between = Slerp([0.0, 1.0], Rotation.from_matrix(np.stack([here[:3, :3], there[:3, :3]])))
        for share in np.arange(1, steps + 1) / max(steps, 1):
            pose = np.eye(4)
            pose[:3, :3] = between([share]).as_matrix()[0]
            pose[:3, 3] = (1 - share) * here[:3, 3] + share * there[:3, 3]
            poses.append(pose)
            grippers.append(gripper if point.hold else point.gripper)
        poses += [there] * point.hold
        grippers += [point.gripper] * point.hold
        gripper, here = point.gripper, there
    return np.stack(poses) if poses else np.zeros((0, 4, 4)), np.asarray(grippers)


def joint_targets(
    model: RobotModel, joints: np.ndarray, plan: list[Waypoint], control_dt: float, steps: int | None = None
) -> np.ndarray:
    """Joint targets (T, J) [rad] that follow a plan from `joints` (J,), padded with the last pose or cut to `steps`.

    Where a tool pose is out of reach the nearest joint pose found is used, as a real expert's controller would.
    Raises Unsupported for a robot without a gripper.
    """
    gripper = model.gripper
    if gripper is None:
        raise Unsupported(f"plans move a gripper, which robot {model.name!r} does not have")
    joint = model.robot.joint_index(gripper.joint)
    start = model.robot.forward(torch.as_tensor(joints, dtype=torch.float64))[model.robot.link_index(model.tool_link)]
    opening = float(gripper.to_position(torch.as_tensor(joints[joint])))
    poses, grippers = tool_path(start.numpy(), opening, plan, control_dt)
    if steps is not None:
        poses, grippers = poses[:steps], grippers[:steps]
    targets = np.zeros((len(poses), len(joints)))
    q = torch.as_tensor(joints, dtype=torch.float64)
    for index, (pose, position) in enumerate(zip(poses, grippers, strict=True)):
        q = solve_inverse(
            model.robot,
            model.tool_link,
            torch.as_tensor(pose),
            q,
            max_iterations=25,
            position_tolerance=3e-4,
            rotation_tolerance=2e-3,
        ).q
        targets[index] = q.numpy()
        targets[index, joint] = float(gripper.to_joint(torch.tensor(position)))
    if steps is not None and len(targets) < steps:
        last = targets[-1:] if len(targets) else np.asarray(joints, np.float64)[None]
        targets = np.concatenate([targets, np.repeat(last, steps - len(targets), axis=0)])
    return targets
