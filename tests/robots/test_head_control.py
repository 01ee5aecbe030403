"""Control of what looks on: the joints that carry a camera but not the hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vap_sim.robots.actions import JOINT_SPEED, action_spec, head_joints
from vap_sim.robots.control import Controller
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.robots.rotations import rotation_vector

HEADS = {
    "human_hand": ("head_x", "head_y", "head_z", "head_yaw", "head_pitch", "head_roll"),
    "google_robot": ("joint_head_pan", "joint_head_tilt"),
    "panda_robotiq": (),
}


@pytest.mark.parametrize("name", HEADS)
def test_heads_are_found_and_entries_name_them(name: str) -> None:
    model = load_robot(name)
    assert tuple(model.robot.joint_names[i] for i in head_joints(model)) == HEADS[name]
    spec = action_spec(model, "ee_head_delta")
    assert spec.names == ("x", "y", "z", "roll", "pitch", "yaw", *HEADS[name], "gripper")
    assert (spec.low[:-1] == -1).all()
    assert (spec.high == 1).all()


@pytest.mark.parametrize("name", HEADS)
def test_movers_are_the_joints_with_a_jacobian(name: str) -> None:
    robot = load_robot(name).robot
    q = robot.clamp(torch.linspace(-0.3, 0.3, robot.num_joints, dtype=torch.float64))
    for link in robot.link_names[::6]:
        moving = robot.jacobian(q, link).abs().amax(0) > 1e-9
        assert set(moving.nonzero()[:, 0].tolist()) <= robot.movers(link)
    assert robot.movers(robot.link_names[0]) == frozenset()


@pytest.mark.parametrize("name", ["human_hand", "google_robot"])
def test_hand_and_head_go_where_they_are_asked(name: str) -> None:
    model = load_robot(name)
    robot, head = model.robot, list(head_joints(model))
    controller = Controller(model, "ee_head_delta", 0.2)
    state = controller.initial(model.home.double().numpy()[None])
    hand = sorted(robot.movers(model.flange_link))
    goal = state.target.copy()
    goal[:, hand] += 0.02
    goal[:, head] += np.linspace(-0.04, 0.05, len(head))
    after, _ = controller.step(state, controller.actions_for(state, goal))
    np.testing.assert_allclose(after.target[:, head], goal[:, head], atol=1e-6)
    wanted, got = (
        robot.forward(torch.from_numpy(q))[0, robot.link_index(model.flange_link)] for q in (goal, after.target)
    )
    assert float((wanted - got)[:3, 3].norm()) < 1e-4
    assert float(rotation_vector((wanted[:3, :3] @ got[:3, :3].mT)[None]).norm()) < 2e-3


def test_the_head_moves_alone_at_the_speed_asked_for() -> None:
    model = load_robot("human_hand")
    controller = Controller(model, "ee_head_delta", 0.2)
    state = controller.initial(model.home.double().numpy()[None])
    action = np.zeros((1, controller.spec.size))
    action[0, controller.spec.names.index("head_yaw")] = 0.1
    moved = (controller.step(state, action)[0].target - state.target)[0]
    joint = model.robot.joint_index("head_yaw")
    assert moved[joint] == pytest.approx(0.1 * JOINT_SPEED * 0.2)
    assert np.abs(np.delete(moved, joint)).max() < 1e-9


def test_without_a_head_the_mode_is_the_delta_of_the_end_effector(model: RobotModel) -> None:
    both = [Controller(model, mode, 0.2) for mode in ("ee_delta", "ee_head_delta")]
    state = both[0].initial(model.home.double().numpy()[None])
    action = np.array([[0.1, -0.05, 0.1, 0.1, 0.0, -0.1, 0.7]])
    first, second = (controller.step(state, action)[0].target for controller in both)
    np.testing.assert_array_equal(first, second)
