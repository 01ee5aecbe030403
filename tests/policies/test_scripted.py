"""From tool plans to joint targets: poses by definition, speeds kept, kinematics inverted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vap_sim.errors import Unsupported
from vap_sim.policies.motion_plans import Target, Waypoint, pick_place, push
from vap_sim.policies.scripted import joint_targets, tool_path, tool_pose
from vap_sim.robots.library import RobotModel, load_robot

CONTROL_DT = 0.2
BRICK = Target(0.45, -0.1, 0.7, (0.10, 0.05, 0.06))
PLAN = [*pick_place(BRICK, (0.55, 0.15)), *push(BRICK, (0.4, 0.1))]


@pytest.fixture(scope="module")
def model() -> RobotModel:
    return load_robot("panda_robotiq")


def tools(model: RobotModel, joints: np.ndarray) -> np.ndarray:
    poses = model.robot.forward(torch.as_tensor(joints, dtype=torch.float64))
    return poses[..., model.robot.link_index(model.tool_link), :, :].numpy()


def angle(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Between rotations (..., 3, 3) [rad]."""
    trace = np.einsum("...ij,...ij->...", one, other)
    return np.arccos(np.clip((trace - 1) / 2, -1, 1))


def test_the_tool_points_down_and_turns_about_the_vertical() -> None:
    pose = tool_pose(Waypoint(0.4, 0.1, 0.2))
    assert np.allclose(pose[:3, :3], np.diag([1, -1, -1])) and np.allclose(pose[:3, 3], (0.4, 0.1, 0.2))
    for yaw in (-2.0, 0.5, 1.5):
        turned = tool_pose(Waypoint(0.4, 0.1, 0.2, yaw))
        assert np.allclose(turned[:3, 2], (0, 0, -1))
        assert np.allclose(turned[:3, 0], (np.cos(yaw), np.sin(yaw), 0))
        tilted = tool_pose(Waypoint(0.4, 0.1, 0.2, yaw, 0.3))
        assert np.allclose(tilted[:3, 0], turned[:3, 0])  # about its own x axis
        assert -tilted[2, 2] == pytest.approx(np.cos(0.3))
        assert np.linalg.det(tilted[:3, :3]) == pytest.approx(1)


def test_the_path_visits_every_waypoint_at_its_speed() -> None:
    start = tool_pose(Waypoint(0.3, 0.0, 0.4, 1.0))
    poses, _ = tool_path(start, 0.0, PLAN, CONTROL_DT)
    path = np.concatenate([start[None], poses])
    steps = np.linalg.norm(np.diff(path[:, :3, 3], axis=0), axis=1)
    assert steps.max() <= max(point.speed for point in PLAN) * CONTROL_DT + 1e-9
    assert angle(path[1:, :3, :3], path[:-1, :3, :3]).max() <= 1.6 * CONTROL_DT + 1e-6
    for point in PLAN:
        distance = np.abs(poses - tool_pose(point)).max(axis=(1, 2))
        assert (distance < 1e-9).sum() >= max(1, point.hold)
    assert np.allclose(poses[-1], tool_pose(PLAN[-1]))


def test_between_waypoints_the_tool_moves_straight_and_evenly() -> None:
    start = tool_pose(Waypoint(0.3, 0.0, 0.4))
    poses, grippers = tool_path(start, 0.25, [Waypoint(0.6, 0.0, 0.4, yaw=0.6, gripper=1.0, speed=0.3)], CONTROL_DT)
    share = np.arange(1, 6) / 5
    assert np.allclose(poses[:, :3, 3], np.stack([0.3 + 0.3 * share, 0 * share, 0.4 + 0 * share], axis=1))
    assert np.allclose(angle(poses[:, :3, :3], start[:3, :3]), 0.6 * share, atol=1e-6)
    assert np.allclose(grippers, 1.0)  # without a hold the fingers move on the way


def test_a_hold_moves_the_fingers_after_arriving() -> None:
    start = tool_pose(Waypoint(0.3, 0.0, 0.4))
    plan = [Waypoint(0.36, 0.0, 0.4, gripper=1.0, hold=2, speed=0.3), Waypoint(0.36, 0.0, 0.4, gripper=0.5, hold=1)]
    poses, grippers = tool_path(start, 0.25, plan, CONTROL_DT)
    assert np.allclose(grippers, [0.25, 1.0, 1.0, 0.5]) and np.allclose(poses[0], poses[-1])


def test_no_plan_is_no_path(model: RobotModel) -> None:
    poses, grippers = tool_path(np.eye(4), 0.0, [], CONTROL_DT)
    assert poses.shape == (0, 4, 4) and grippers.shape == (0,)
    home = model.home.double().numpy()
    assert joint_targets(model, home, [], CONTROL_DT).shape == (0, 8)
    assert np.allclose(joint_targets(model, home, [], CONTROL_DT, steps=3), home)


def test_joint_targets_put_the_tool_on_its_path(model: RobotModel) -> None:
    home = model.home.double().numpy()
    targets = joint_targets(model, home, PLAN, CONTROL_DT)
    poses, grippers = tool_path(tools(model, home), 0.0, PLAN, CONTROL_DT)
    found = tools(model, targets)
    assert np.linalg.norm(found[:, :3, 3] - poses[:, :3, 3], axis=1).max() < 1e-3
    assert angle(found[:, :3, :3], poses[:, :3, :3]).max() < 5e-3
    assert np.allclose(targets[:, 7], 0.8 * grippers)
    assert (targets >= model.robot.lower.numpy() - 1e-6).all() and (targets <= model.robot.upper.numpy() + 1e-6).all()
    jumps = np.abs(np.diff(np.concatenate([home[None], targets])[:, :7], axis=0))
    assert jumps.max() < 0.5  # the arm does not change its mind between two steps


def test_a_plan_is_cut_or_held_to_a_number_of_steps(model: RobotModel) -> None:
    home = model.home.double().numpy()
    whole = joint_targets(model, home, PLAN[:2], CONTROL_DT)
    assert np.array_equal(joint_targets(model, home, PLAN[:2], CONTROL_DT, steps=3), whole[:3])
    longer = joint_targets(model, home, PLAN[:2], CONTROL_DT, steps=len(whole) + 2)
    assert np.array_equal(longer[:-2], whole) and (longer[-2:] == whole[-1]).all()


def test_out_of_reach_the_arm_comes_as_near_as_it_can(model: RobotModel) -> None:
    home = model.home.double().numpy()
    targets = joint_targets(model, home, [Waypoint(2.0, 0.0, 0.3, speed=2.0)], CONTROL_DT)
    assert np.isfinite(targets).all()
    assert (targets >= model.robot.lower.numpy() - 1e-6).all() and (targets <= model.robot.upper.numpy() + 1e-6).all()
    assert tools(model, targets)[-1, 0, 3] > 0.6


def test_a_robot_without_a_gripper_is_refused(model: RobotModel) -> None:
    with pytest.raises(Unsupported, match="plans move a gripper, which robot 'panda_robotiq' does not have"):
        joint_targets(replace(model, gripper=None), model.home.numpy(), PLAN, CONTROL_DT)
