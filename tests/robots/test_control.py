"""Control: actions within bounds become motion within limits and speeds, the same at every rate of reading."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.actions import MODES, action_spec
from vap_sim.robots.control import DROID_TAU, Controller, ControlState
from vap_sim.robots.kinematics import Robot
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.robots.rotations import rotation_vector, rpy_to_matrix

ANY = pytest.mark.parametrize("anchor", ["target", "joints"])
MODE = pytest.mark.parametrize("mode", MODES)
NAN = float("nan")


def random_actions(controller: Controller, *shape: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    low, high = controller.spec.low, controller.spec.high
    return (low + generator.random((*shape, low.size)) * (high - low)).astype(np.float32)


def start(model: RobotModel, rows: int = 3) -> np.ndarray:
    return model.home.repeat(rows, 1).numpy() + np.linspace(-0.1, 0.1, rows)[:, None]


def pose(model: RobotModel, joints: Any) -> torch.Tensor:
    poses = model.robot.forward(torch.as_tensor(np.asarray(joints, dtype=np.float64)))
    return poses[:, model.robot.link_index(model.flange_link)]


@MODE
@ANY
def test_limits_and_speeds_hold(model: RobotModel, mode: str, anchor: str) -> None:
    controller = Controller(model, mode, anchor=anchor, tau=0.04 if anchor == "target" else 0.22)
    lower, upper, speed = (t.numpy() for t in (model.robot.lower, model.robot.upper, model.robot.max_speed))
    state = controller.initial(start(model))
    for action in random_actions(controller, 25, 3):
        before = state.joints
        state, path = controller.step(state, action, 5)
        assert path.shape == (3, 5, 8)
        assert path.dtype == np.float32
        assert ((path >= lower) & (path <= upper)).all()
        steps = np.diff(np.concatenate([before[:, None], path], axis=1), axis=1)
        assert (np.abs(steps) <= speed * (1 / 75) * (1 + 1e-4) + 1e-6).all()
        assert np.abs(path[:, -1] - state.joints).max() < 1e-6


@ANY
def test_motion_is_the_solution_of_the_lag(model: RobotModel, anchor: str) -> None:
    """A thousand Euler steps of dq/dt = (target - q) / tau, with the target moving evenly or at once."""
    controller = Controller(model, anchor=anchor, tau=0.05)
    state = ControlState(*(controller.initial(start(model)).target + d for d in (0.03, 0.0)))
    action = random_actions(controller, 3)
    after, path = controller.step(state, action, 4)
    base, q, n = (state.target if anchor == "target" else state.joints), state.joints.copy(), 4000
    for i in range(n):
        share = (i + 0.5) / n if anchor == "target" else 1.0
        q += (base + share * (after.target - base) - q) * controller.control_dt / n / 0.05
        if (i + 1) % 1000 == 0:
            np.testing.assert_allclose(path[:, i // 1000], q, atol=1e-4)


@MODE
@ANY
def test_reading_more_poses_changes_nothing(model: RobotModel, mode: str, anchor: str) -> None:
    controller = Controller(model, mode, anchor=anchor)
    state, action = controller.initial(start(model)), random_actions(controller, 3)
    ends, paths = zip(*(controller.step(state, action, n) for n in (0, 2, 4)), strict=True)
    assert paths[0].shape == (3, 0, 8)
    np.testing.assert_array_equal(paths[1], paths[2][:, 1::2])
    for end in ends:
        np.testing.assert_array_equal(end.joints, ends[0].joints)
        np.testing.assert_array_equal(end.target, ends[0].target)


@MODE
def test_batch_equals_single_and_states_are_left_alone(model: RobotModel, mode: str) -> None:
    controller = Controller(model, mode)
    state, action = controller.initial(start(model)), random_actions(controller, 3)
    kept = state.target.copy(), state.joints.copy()
    together, path = controller.step(state, action, 2)
    assert (np.array_equal(state.target, kept[0]), np.array_equal(state.joints, kept[1])) == (True, True)
    for i in range(3):
        alone, line = controller.step(
            ControlState(state.target[i : i + 1], state.joints[i : i + 1]), action[i : i + 1], 2
        )
        np.testing.assert_allclose(alone.target[0], together.target[i], atol=1e-12)
        np.testing.assert_allclose(line[0], path[i], atol=1e-6)


@MODE
@ANY
def test_action_for_a_near_target_reaches_it(model: RobotModel, mode: str, anchor: str) -> None:
    controller = Controller(model, mode, anchor=anchor)
    state = controller.initial(start(model))
    goal = state.target + np.array([0.03, -0.03, 0.02, 0.04, -0.05, 0.03, 0.05, 0.1])
    goal = np.clip(goal, model.robot.lower.numpy(), model.robot.upper.numpy())
    action = controller.actions_for(state, goal)
    assert action.dtype == np.float32
    after, _ = controller.step(state, action)
    if mode.startswith("joint"):
        np.testing.assert_allclose(after.target, goal, atol=1e-6)
    wanted, got = pose(model, goal), pose(model, after.target)
    assert float((wanted - got)[:, :3, 3].norm(dim=-1).max()) < 1e-4
    assert float(rotation_vector(wanted[:, :3, :3] @ got[:, :3, :3].mT).norm(dim=-1).max()) < 1e-3
    np.testing.assert_allclose(after.target[:, -1], goal[:, -1], atol=1e-6)


@MODE
def test_far_target_is_reached_in_many_intervals(model: RobotModel, mode: str) -> None:
    controller = Controller(model, mode)
    state = controller.initial(start(model))
    goal = start(model) + np.array([0.4, 0.3, -0.2, 0.4, 0.2, -0.3, 0.5, 0.7])
    for _ in range(30):
        state, path = controller.step(state, controller.actions_for(state, goal))
    reached = np.clip(goal, model.robot.lower.numpy(), model.robot.upper.numpy())
    assert float((pose(model, reached) - pose(model, path[:, -1]))[:, :3].abs().max()) < 2e-3
    assert abs(path[0, -1, -1] - reached[0, -1]) < 1e-3


def test_normalised_speed_means_the_same_at_every_rate(model: RobotModel) -> None:
    ends = []
    for rate in (5, 15, 30):
        controller = Controller(model, "joint_velocity", 1 / rate, tau=0.0)
        state = controller.initial(start(model))
        action = np.full((3, 8), 0.5, dtype=np.float32)
        for _ in range(rate):
            state, _ = controller.step(state, action)
        ends.append(state.joints)
    np.testing.assert_allclose(ends[0], ends[1], atol=1e-9)
    np.testing.assert_allclose(ends[0], ends[2], atol=1e-9)
    moved = ends[0] - start(model)
    np.testing.assert_allclose(moved[:, 0], 1.5, atol=1e-6)


def test_droid_scales(model: RobotModel) -> None:
    state = Controller(model).initial(start(model))
    one = np.zeros((3, 8), dtype=np.float32)
    one[:, 0], one[:, 7] = 0.5, 1.0
    moved = Controller(model).step(state, one)[0].target - state.target
    np.testing.assert_allclose(moved[:, 0], 0.1, atol=1e-7)
    np.testing.assert_allclose(moved[:, 7], 0.25 * 0.8, atol=1e-7)
    one[:, 0] = 1.0
    fastest = Controller(model).step(state, one)[0].target - state.target
    np.testing.assert_allclose(fastest[:, 0], 2.175 / 15, atol=1e-7)


def test_ee_delta_moves_and_turns_in_the_base_frame(model: RobotModel) -> None:
    controller = Controller(model, "ee_delta")
    state = controller.initial(start(model))
    action = np.tile(np.array([0.2, 0.1, -0.3, 0.2, -0.1, 0.3, 0.0], dtype=np.float32), (3, 1))
    after, _ = controller.step(state, action)
    before, got = pose(model, state.target), pose(model, after.target)
    shift = torch.tensor([0.2, 0.1, -0.3], dtype=torch.float64) * 0.075
    torch.testing.assert_close(got[:, :3, 3] - before[:, :3, 3], shift.expand(3, 3), atol=1e-4, rtol=0)
    turn = rpy_to_matrix(torch.tensor([0.2, -0.1, 0.3], dtype=torch.float64) * 0.15) @ before[:, :3, :3]
    torch.testing.assert_close(got[:, :3, :3], turn, atol=1e-3, rtol=0)


def test_far_poses_are_approached_by_all_joints_together(model: RobotModel) -> None:
    state = Controller(model).initial(start(model))
    goal = state.target + np.array([0.6, 0.3, 0.0, 0.4, 0.0, 0.3, 0.0, 0.0])
    slow, unhurried = Controller(model, "ee_pose", 1 / 15), Controller(model, "ee_pose", 100.0)
    action = slow.actions_for(state, goal)
    part, whole = (c.step(state, action)[0].target[:, :7] - state.target[:, :7] for c in (slow, unhurried))
    share = np.abs(part).max(axis=1, keepdims=True) / np.abs(whole).max(axis=1, keepdims=True)
    assert (share < 0.5).all()
    np.testing.assert_allclose(part, share * whole, atol=1e-9)


def test_gripper_keeps_to_its_own_speed(model: RobotModel) -> None:
    speed = torch.full_like(model.robot.max_speed, 99.0)
    controller = Controller(replace(model, robot=replace(model.robot, max_speed=speed)))
    state = controller.initial(start(model) * [1, 1, 1, 1, 1, 1, 1, 0])
    after, _ = controller.step(state, np.array([[0, 0, 0, 0, 0, 0, 0, 1.0]] * 3))
    np.testing.assert_allclose(after.target[:, 7], 0.2)


def test_link_of_the_end_effector_can_be_chosen(model: RobotModel) -> None:
    controller = Controller(model, "ee_pose", link="tool")
    state = controller.initial(start(model))
    tool = model.robot.forward(torch.from_numpy(state.target))[:, model.robot.link_index("tool"), :3, 3]
    np.testing.assert_allclose(controller.actions_for(state, state.target)[:, :3], tool, atol=1e-6)


def test_logged_commands_give_the_logged_motion(model: RobotModel, droid_episodes: list[Path]) -> None:
    """One second of a real station's commands, from many starts, is followed to a few degrees."""
    controller = Controller(model, anchor="joints", tau=DROID_TAU)
    errors, moved = [], []
    for path in droid_episodes:
        log = json.loads(path.read_text())
        if "action.joint_velocity" not in log:
            continue
        joints, gripper, command, grasp = (
            np.array(log[f"{k}_{v}"]).reshape(len(log["action.joint_velocity"]), -1)
            for k, v in (
                ("observation.state.joint", "position"),
                ("observation.state.gripper", "position"),
                ("action.joint", "velocity"),
                ("action.gripper", "position"),
            )
        )
        starts = np.arange(0, len(joints) - 16, 5)
        state = controller.initial(np.concatenate([joints, 0.8 * gripper], axis=1)[starts])
        for k in range(15):
            action = np.concatenate([command, grasp], axis=1)[starts + k]
            state, _ = controller.step(state, action)
        errors.append(np.abs(state.joints[:, :7] - joints[starts + 15]).mean())
        moved.append(np.abs(joints[starts] - joints[starts + 15]).mean())
    assert len(errors) > 0
    assert np.mean(errors) < 0.06
    assert np.mean(errors) < 0.4 * np.mean(moved)


def test_robot_without_gripper(tmp_path: Path) -> None:
    write_slow(tmp_path, speed=2.0)
    controller = Controller(load_robot(tmp_path), tau=0.0)
    assert controller.spec.names == ("j",)
    state = controller.initial([[0.0]])
    assert controller.step(state, controller.actions_for(state, [[0.1]]))[0].joints == pytest.approx(0.1)


def write_slow(folder: Path, speed: float) -> None:
    (folder / "robot.urdf").write_text(
        '<robot name="toy"><link name="a"/><link name="b"/><joint name="j" type="revolute"><parent link="a"/>'
        f'<child link="b"/><limit lower="-1" upper="1" velocity="{speed}"/></joint></robot>'
    )
    (folder / "robot.json").write_text('{"flange_link": "b", "tool_link": "b"}')
    (folder / "skeleton.json").write_text('{"points": [{"name": "p", "link": "b"}], "bones": []}')


@MODE
def test_spec_is_a_data_sheet(model: RobotModel, mode: str) -> None:
    spec = action_spec(model, mode)
    assert len(spec.names) == len(spec.units) == spec.size == spec.low.size == spec.high.size
    assert (spec.low.dtype, spec.high.dtype) == (np.float32, np.float32)
    assert (spec.low < spec.high).all()
    assert (spec.names[-1], spec.low[-1], spec.high[-1]) == ("gripper", 0, 1)


def test_clip_moves_actions_into_bounds(model: RobotModel) -> None:
    controller = Controller(model)
    state = controller.initial(start(model))
    wild = np.full((3, 8), 7.0)
    wild[0, 0] = np.inf
    far, near = (controller.step(state, a)[0].target for a in (wild, np.ones((3, 8))))
    np.testing.assert_array_equal(far, near)


def test_bad_actions_and_joints_are_named(model: RobotModel) -> None:
    controller, strict = Controller(model), Controller(model, clip=False)
    state, action = controller.initial(start(model)), np.zeros((3, 8))
    with pytest.raises(
        InvalidInput, match=r"joint_velocity action: given shape \(2, 8\), expected \(3, 8\): panda_joint1"
    ):
        controller.step(state, action[:2])
    action[1, 2] = NAN
    with pytest.raises(InvalidInput, match=r"action, panda_joint3 of row 1: given nan, expected a number in \[-1, 1\]"):
        controller.step(state, action)
    action[1, 2], action[2, 7] = 0.0, 1.5
    with pytest.raises(InvalidInput, match=r"action, gripper of row 2: given 1.5, expected a number in \[0, 1\]"):
        strict.step(state, action)
    with pytest.raises(InvalidInput, match="poses: given -1"):
        controller.step(state, np.zeros((3, 8)), -1)
    with pytest.raises(InvalidInput, match=r"joints q: given shape \(8,\), expected \(b, 8\)"):
        controller.initial(model.home)
    with pytest.raises(InvalidInput, match="q_target, panda_joint2 of row 0: given nan"):
        controller.actions_for(state, np.array([[0, NAN, 0, 0, 0, 0, 0, 0]] * 3))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"mode": "joint_velocty"}, UnknownName, "unknown control mode 'joint_velocty'. Did you mean 'joint_velocity'"),
        ({"anchor": "joint"}, UnknownName, "unknown anchor 'joint'. Did you mean 'joints'"),
        ({"control_dt": 0.0}, InvalidInput, "control_dt: given 0.0"),
        ({"tau": NAN}, InvalidInput, "tau: given nan"),
        ({"mode": "ee_pose", "link": "tol"}, UnknownName, "unknown link 'tol'. Did you mean 'tool'"),
    ],
)
def test_bad_options_are_named(model: RobotModel, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Controller(model, **options)


def test_joint_without_speed_is_named(model: RobotModel) -> None:
    speed = model.robot.max_speed.clone()
    speed[3] = 0
    still: Robot = replace(model.robot, max_speed=speed)
    with pytest.raises(InvalidInput, match="speed limit of joint 'panda_joint4'"):
        Controller(replace(model, robot=still))
