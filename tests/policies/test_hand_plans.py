"""Plans of a hand: they pass where they should, within limits, and the head keeps its eyes on the work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.policies.hand_plans import (
    FROM_ABOVE,
    FROM_THE_SIDE,
    PLANS,
    Thing,
    follow,
    grasp_lift,
    hand_targets,
    noisy,
    put_down,
)
from vap_sim.policies.head_motion import onlooking
from vap_sim.robots.control import Controller
from vap_sim.robots.gaze import HEAD, looked_at, looking_at
from vap_sim.robots.library import RobotModel, load_robot

DT = 0.2
TASK = pytest.mark.parametrize("task", PLANS)


@pytest.fixture(scope="module")
def model() -> RobotModel:
    return load_robot("human_hand")


@pytest.fixture(scope="module")
def start(model: RobotModel) -> np.ndarray:
    return looking_at(model, model.home.double().numpy(), np.array([0.0, 0.02, 0.5]), np.array([0.42, 0.0, 0.03]))


def scene(shape: str = "cylinder", height: float = 0.06) -> dict[str, Any]:
    item = {"shape": shape, "size": [0.05, 0.05, height], "x": 0.42, "y": 0.05, "yaw": 0.4, "color": "red"}
    return {"objects": [item], "goal": [0.5, -0.05, 0.06]}


def columns(model: RobotModel, *names: str) -> list[int]:
    return [model.robot.joint_names.index(name) for name in names]


def grip_middle(model: RobotModel, targets: np.ndarray, offset: tuple[float, float, float]) -> np.ndarray:
    """Where the middle of a grip is in each row, by the robot's own kinematics."""
    wrist = model.robot.forward(torch.from_numpy(targets))[:, model.robot.link_index("wrist")]
    return np.asarray((wrist[:, :3, :3] @ torch.tensor(offset, dtype=torch.float64) + wrist[:, :3, 3]).numpy())


@TASK
def test_targets_keep_the_limits_and_move_hand_head_and_grasp_alone(
    task: str, model: RobotModel, start: np.ndarray
) -> None:
    targets = hand_targets(model, scene(height=0.11), start, task, DT, 3)
    robot = model.robot
    assert (targets >= robot.lower.double().numpy() - 1e-9).all()
    assert (targets <= robot.upper.double().numpy() + 1e-9).all()
    moving = columns(model, *(f"hand_{part}" for part in ("x", "y", "z", "yaw", "pitch", "roll")), "grasp", *HEAD)
    still = np.delete(np.arange(robot.num_joints), moving)
    np.testing.assert_array_equal(targets[:, still], np.repeat(start[None, still], len(targets), axis=0))


@TASK
def test_the_controller_of_hand_and_head_can_follow(task: str, model: RobotModel, start: np.ndarray) -> None:
    controller = Controller(model, "ee_head_delta", DT)
    state = controller.initial(start[None])
    for goal in hand_targets(model, scene(height=0.11), start, task, DT, 3):
        state, _ = controller.step(state, controller.actions_for(state, goal[None]), 0)
        poses = model.robot.forward(torch.from_numpy(np.stack([goal, state.target[0]])))
        for link in ("wrist", "head"):
            wanted, got = poses[:, model.robot.link_index(link)]
            assert float((wanted - got).abs().max()) < 5e-3


def test_the_grip_closes_about_the_thing_and_rises_with_it(model: RobotModel, start: np.ndarray) -> None:
    targets = hand_targets(model, scene("sphere"), start, "grasp_lift", DT, 0)
    middle = grip_middle(model, targets, FROM_ABOVE.offset)
    grasp = targets[:, columns(model, "grasp")[0]]
    first = int(np.argmax(grasp > 0.7))
    np.testing.assert_allclose(middle[first], [0.42, 0.05, 0.03], atol=1e-9)
    np.testing.assert_allclose(middle[-1] - middle[first], [0, 0, 0.12], atol=1e-9)
    assert (grasp[:first] <= start[columns(model, "grasp")[0]] + 1e-9).all()


def test_a_thing_is_carried_over_the_goal_before_it_is_turned(model: RobotModel, start: np.ndarray) -> None:
    targets = hand_targets(model, scene(height=0.11), start, "tilt", DT, 0)
    middle = grip_middle(model, targets, FROM_THE_SIDE.offset)
    roll = targets[:, columns(model, "hand_roll")[0]]
    turned = roll < FROM_THE_SIDE.roll - 0.3
    over = np.hypot(middle[:, 0] - 0.5, middle[:, 1] + 0.05) < 1e-6
    assert turned.any()
    late = turned & (np.arange(len(targets)) > np.argmax(targets[:, columns(model, "grasp")[0]] > 0.7))
    assert over[late].all()
    assert np.ptp(roll[late]) > 0.5
    with pytest.raises(InvalidInput, match="goal of a tilting hand"):
        hand_targets(model, {**scene(), "goal": None}, start, "tilt", DT, 0)


def test_a_fist_passes_behind_and_stops_before_the_goal(model: RobotModel, start: np.ndarray) -> None:
    targets = hand_targets(model, scene("cube"), start, "push", DT, 0)
    middle = grip_middle(model, targets, (0.100, 0.000, -0.040))
    low = middle[middle[:, 2] < 0.05, :2]
    along = np.array([0.5 - 0.42, -0.05 - 0.05]) / np.hypot(0.08, 0.10)
    progress = (low - [0.42, 0.05]) @ along
    assert progress[0] < -0.08
    assert progress.max() == pytest.approx(np.hypot(0.08, 0.10) - 0.025 - 0.042, abs=1e-6)
    beside = (low - [0.42, 0.05]) @ [-along[1], along[0]]
    assert np.abs(beside).max() < 1e-6


def test_a_low_hand_rises_first(model: RobotModel, start: np.ndarray) -> None:
    low = start.copy()
    low[columns(model, "hand_z")] = 0.08
    targets = hand_targets(model, scene(), low, "grasp_lift", DT, 0)
    middle = grip_middle(model, np.stack([low, *targets]), FROM_ABOVE.offset)
    up = int(np.argmax(middle[:, 2] > 0.139))
    assert up > 0
    np.testing.assert_allclose(middle[: up + 1, :2], np.repeat(middle[:1, :2], up + 1, axis=0), atol=1e-9)


@pytest.mark.parametrize(("shape", "period"), [("cube", np.pi / 2), ("hexagon", np.pi / 3), ("brick", np.pi)])
def test_things_that_look_alike_are_grasped_alike(shape: str, period: float) -> None:
    def yaw(turn: float) -> float:
        return Thing(shape, 0.4, 0.0, turn, (0.05, 0.05, 0.05)).grasp_yaw

    for turn in np.linspace(-3, 3, 25):
        assert yaw(turn + period) == pytest.approx(yaw(turn))
        assert abs(yaw(turn) - 0.45) <= period / 2 + 1e-9
        # Fingers and thumb close along the hand, on the two sides that look along the thing's y.
        assert np.cos(2 * np.pi / period * (yaw(turn) - turn - np.pi / 2)) == pytest.approx(1.0)
    assert Thing("sphere", 0.4, 0.0, 2.0, (0.05, 0.05, 0.05)).grasp_yaw == 0.45


def test_what_is_put_down_is_let_go_of_where_it_stands() -> None:
    thing = Thing("cylinder", 0.4, 0.0, 0.0, (0.05, 0.05, 0.11))
    for grip in (FROM_ABOVE, FROM_THE_SIDE):
        plan = put_down(grasp_lift(thing, grip=grip)[-1], thing, grip)
        assert [point.closed for point in plan[:2]] == [1.0, 0.0]
        assert plan[0].z == plan[1].z == pytest.approx(0.059)
        assert plan[-1].z > 0.1


def test_the_key_moves_the_head_alone_unless_plans_err(model: RobotModel, start: np.ndarray) -> None:
    def targets(key: int, noise: float = 0.0) -> np.ndarray:
        return hand_targets(model, scene(), start, "grasp_lift", DT, key, noise=noise)

    head = columns(model, *HEAD)
    one, other = targets(1), targets(2)
    np.testing.assert_array_equal(one, targets(1))
    assert np.abs(one[:, head] - other[:, head]).max() > 1e-3
    np.testing.assert_array_equal(np.delete(one, head, axis=1), np.delete(other, head, axis=1))
    missed = [grip_middle(model, targets(key, 0.02), FROM_ABOVE.offset)[-1] for key in range(40)]
    assert 0.01 < np.std([place[:2] for place in missed], axis=0).mean() < 0.03
    plan = grasp_lift(Thing("cube", 0.4, 0.0, 0.0, (0.05, 0.05, 0.05)))
    assert noisy(plan, np.random.default_rng(0), 0.0) == plan


def test_the_gaze_goes_through_the_middle_of_the_picture(model: RobotModel) -> None:
    rng, camera = np.random.default_rng(0), model.cameras["head"]
    for _ in range(10):
        eye, target = rng.uniform((-0.1, -0.1, 0.4), (0.1, 0.1, 0.6)), rng.uniform((0.3, -0.2, 0), (0.6, 0.2, 0.1))
        joints = looking_at(model, model.home.double().numpy(), eye, target, roll=float(rng.normal(0, 0.1)))
        poses = model.robot.forward(torch.from_numpy(joints))
        xy, depth = camera.project(torch.from_numpy(target)[None], poses, model.robot)
        np.testing.assert_allclose(xy[0], camera.intrinsics[:2, 2], atol=1e-3)
        assert float(depth[0]) == pytest.approx(np.linalg.norm(target - eye), abs=1e-5)
        np.testing.assert_allclose(looked_at(joints[columns(model, *HEAD)], float(target[2])), target, atol=1e-9)


def test_the_head_starts_where_it_is_sways_a_little_and_follows(model: RobotModel, start: np.ndarray) -> None:
    steps, head = 100, columns(model, *HEAD)
    targets = np.repeat(start[None], steps, axis=0)
    watched = np.repeat([[0.42, 0.30, 0.03]], steps, axis=0)
    for seed in range(5):
        rows = onlooking(model, targets, watched, DT, np.random.default_rng(seed))[:, head]
        speed = np.diff(np.concatenate([start[None, head], rows]), axis=0) / DT
        assert np.abs(speed[:, :3]).max() < 0.12
        assert np.abs(speed[:, 3:]).max() < 0.6
        assert np.abs(rows[:, :3] - start[head[:3]]).max() < 0.08
        # It turns most of the way to what it watches, far to the left of what it looked at.
        assert rows[-1, 3] - start[head[3]] > 0.2
        still = onlooking(
            model, targets, np.repeat([[0.42, 0.0, 0.03]], steps, axis=0), DT, np.random.default_rng(seed)
        )
        assert np.abs(still[:, head[3]] - start[head[3]]).max() < 0.08


def test_what_cannot_be_planned_is_refused(model: RobotModel, start: np.ndarray) -> None:
    with pytest.raises(UnknownName, match="grasp_lift"):
        hand_targets(model, scene(), start, "grasp_lft", DT, 0)
    with pytest.raises(InvalidInput, match="no objects"):
        hand_targets(model, {"objects": []}, start, "grasp_lift", DT, 0)
    with pytest.raises(InvalidInput, match="away from the thing"):
        hand_targets(model, {**scene(), "goal": [0.42, 0.05, 0.06]}, start, "push", DT, 0)
    panda = load_robot("panda_robotiq")
    home = panda.home.double().numpy()
    with pytest.raises(Unsupported, match="hand_x"):
        follow(panda, home, [], FROM_ABOVE, DT, np.random.default_rng(0))
    with pytest.raises(Unsupported, match="head_x"):
        looking_at(panda, home, np.zeros(3), np.ones(3))
