"""What is asked for and what the arm is told: straight, no faster than it may, there in the end, and never nonsense."""

from __future__ import annotations

import json

import numpy as np
import pytest

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.library import load_robot
from vap_sim.viewer.teleop_input import LARGEST, InputReader
from vap_sim.viewer.teleop_scene import panels, pose_of, quaternion, surfaces
from vap_sim.viewer.teleop_steering import Speeds, Steering, Wish, moved

ROBOTS = ("panda_robotiq", "widowx", "google_robot", "human_hand")


def _steering(robot: str = "panda_robotiq") -> tuple[Steering, np.ndarray]:
    model = load_robot(robot)
    steering = Steering(model, 0.2)
    return steering, steering.resting(model.home.double().numpy())


@pytest.mark.parametrize("robot", ROBOTS)
def test_asking_for_what_is_there_is_what_is_there(robot: str) -> None:
    steering, rest = _steering(robot)
    home = steering.model.home.double().numpy()
    assert np.allclose(steering.joints(rest), home, atol=1e-6)
    assert steering.steer(rest, Wish()).action is None
    there = steering.steer(rest, Wish(goal=steering.tool(steering.joints(rest))))
    assert there.action is None and there.arrived


@pytest.mark.parametrize("robot", ROBOTS)
def test_single_joints_go_where_they_are_asked_no_faster_than_they_may_and_no_other_moves(robot: str) -> None:
    steering, asked = _steering(robot)
    body, start = steering.model.robot, steering.joints(asked)
    names = steering.singly[:2] + steering.singly[-1:]
    wish = Wish(joints={name: float(body.upper[body.joint_index(name)]) + 1 for name in names})
    before, steps = start, 0
    while (steered := steering.steer(asked, wish)).action is not None:
        asked = steered.action
        now = steering.joints(asked)
        assert np.all(np.abs(now - before) <= body.max_speed.double().numpy() * steering.dt + 1e-5)
        before, steps = now, steps + 1
        assert steps < 200
    chosen = [body.joint_index(name) for name in names]
    assert before[chosen] == pytest.approx(body.upper.double().numpy()[chosen], abs=2e-3)  # limits are kept
    others = np.setdiff1d(np.arange(body.num_joints), chosen)
    assert before[others] == pytest.approx(start[others], abs=1e-6)


def test_a_single_joint_can_move_while_the_tool_goes_and_the_gripper_closes() -> None:
    steering, asked = _steering("human_hand")
    wish = Wish(linear=np.array([0.0, 0.0, 1.0]), gripper=1.0, joints={"head_yaw": 0.3})
    after = steering.steer(asked, wish).action
    assert after is not None
    start, now, names = steering.joints(asked), steering.joints(after), steering.model.robot.joint_names
    assert now[names.index("head_yaw")] != start[names.index("head_yaw")] and after[-1] > asked[-1]
    rise = steering.tool(now)[:3, 3] - steering.tool(start)[:3, 3]
    assert rise == pytest.approx([0, 0, 0.2 * 0.25], abs=1e-3)


def test_a_joint_that_there_is_not_or_a_place_that_is_none_is_named() -> None:
    steering, asked = _steering("google_robot")
    with pytest.raises(UnknownName, match="joint_head_pan"):
        steering.steer(asked, Wish(joints={"joint_head_pam": 0.1}))
    with pytest.raises(UnknownName, match="joint_finger_right"):  # the gripper has its own wish
        steering.steer(asked, Wish(joints={"joint_finger_right": 0.1}))
    with pytest.raises(InvalidInput, match="finite"):
        steering.steer(asked, Wish(joints={"joint_head_pan": float("nan")}))


@pytest.mark.parametrize(("axis", "sign"), [(0, 1), (1, -1), (2, 1)])
def test_keys_move_the_tool_along_the_axes_of_the_base(axis: int, sign: int) -> None:
    steering, asked = _steering()
    start = steering.tool(steering.joints(asked))
    linear = np.zeros(3)
    linear[axis] = sign
    for _ in range(2):
        asked = steering.steer(asked, Wish(linear=linear)).action
    moved_by = steering.tool(steering.joints(asked))[:3, 3] - start[:3, 3]
    assert moved_by == pytest.approx(2 * 0.2 * 0.25 * linear, abs=1e-3)
    assert steering.tool(steering.joints(asked))[:3, :3] == pytest.approx(start[:3, :3], abs=5e-3)


def test_a_goal_is_reached_straight_and_then_nothing_is_left() -> None:
    steering, asked = _steering()
    start = steering.tool(steering.joints(asked))
    goal = moved(start, np.array([0.06, -0.12, -0.08]), np.array([0.0, 0.0, 0.6]))
    way, steered = [start[:3, 3]], steering.steer(asked, Wish(goal=goal))
    while steered.action is not None:
        asked = steered.action
        way.append(steering.tool(steering.joints(asked))[:3, 3])
        if steered.arrived:
            break
        steered = steering.steer(asked, Wish(goal=goal))
        assert len(way) < 20
    assert steering.tool(steering.joints(asked)) == pytest.approx(goal, abs=2e-3)
    straight = goal[:3, 3] - start[:3, 3]
    off = np.cross(np.array(way) - start[:3, 3], straight / np.linalg.norm(straight))
    assert np.linalg.norm(off, axis=1).max() < 2e-3
    assert np.linalg.norm(np.diff(way, axis=0), axis=1).max() <= 2 * 0.25 * 0.2 + 1e-3
    last = steering.steer(asked, Wish(goal=goal))
    assert last.action is None and last.arrived


def test_out_of_reach_is_told_and_moves_nothing() -> None:
    steering, asked = _steering()
    far = moved(steering.tool(steering.joints(asked)), np.array([0.0, 0.0, 0.04]), np.zeros(3))
    far[:3, 3] = [0.0, 0.0, 3.0]
    steered, steps = steering.steer(asked, Wish(goal=far)), 0
    while steered.action is not None:
        steps, asked = steps + 1, steered.action
        steered = steering.steer(asked, Wish(goal=far))
        assert steps < 60
    assert steered.out_of_reach and steered.arrived


def test_no_joint_exceeds_its_speed_or_its_limits() -> None:
    steering, asked = _steering()
    steering.speeds = Speeds(linear=5.0, angular=20.0)
    robot = steering.model.robot
    rng = np.random.default_rng(0)
    for _ in range(30):
        steered = steering.steer(asked, Wish(linear=rng.uniform(-1, 1, 3), angular=rng.uniform(-1, 1, 3)))
        if steered.action is None:
            continue
        before, after = steering.joints(asked), steering.joints(steered.action)
        assert (np.abs(after - before)[:7] <= robot.max_speed.numpy()[:7] * 0.2 + 1e-5).all()
        assert (after >= robot.lower.numpy() - 1e-5).all() and (after <= robot.upper.numpy() + 1e-5).all()
        asked = steered.action


def test_the_gripper_goes_at_its_own_speed_while_the_arm_stays() -> None:
    steering, asked = _steering()
    seen = []
    while (steered := steering.steer(asked, Wish(gripper=1.0))).action is not None:
        assert np.array_equal(steered.action[:7], asked[:7])
        asked = steered.action
        seen.append(float(asked[-1]))
    assert seen == pytest.approx([0.4, 0.8, 1.0])


def test_nonsense_is_refused() -> None:
    steering, asked = _steering()
    for wish in (Wish(linear=np.array([np.nan, 0, 0])), Wish(goal=np.full((4, 4), np.inf)), Wish(gripper=np.nan)):
        with pytest.raises(InvalidInput, match="asked for"):
            steering.steer(asked, wish)
    with pytest.raises(InvalidInput, match="speeds"):
        Speeds(linear=0.0)


# Keys and gamepads ---------------------------------------------------------------------------------------------------


def _message(**values: object) -> str:
    return json.dumps({"held": [], "pressed": [], "pad": None, "sent": 1.5, "trip": 12.0, **values})


def test_keys_and_sticks_become_motion_and_events() -> None:
    reader = InputReader()
    held = reader.read(_message(held=["KeyW", "KeyR", "ArrowUp", "KeyP"], pressed=["Space", "KeyT", "KeyP"]))
    assert held.motion.tolist() == [1, 0, 1, 0, -1, 0] and held.events == ("grip", "again")
    assert (held.trip, held.sent) == (0.012, 1.5)
    assert reader.read(_message(held=["KeyW", "KeyS"])).motion.tolist() == [0] * 6
    pad = {"axes": [0.1, -1.0, 0.5, 0.0], "buttons": [1, 0, 0, 0, 0, 0, 0, 1]}
    first, second = reader.read(_message(pad=pad)), reader.read(_message(pad=pad))
    assert first.motion[0] == 1.0 and first.motion[1] == 0.0 and 0.3 < first.motion[3] < 0.5 and first.motion[2] == 1
    assert first.events == ("grip",) and second.events == (), "a button that stays down is pressed once"
    assert reader.read(_message(pad={"axes": [], "buttons": []})).events == ()
    assert reader.read(_message(pad=pad)).events == ("grip",)


@pytest.mark.parametrize(
    "message",
    [
        b"\x00", "", "[]", "null", "{", "x" * (LARGEST + 1), _message(held=3), _message(held=["a"] * 65),
        _message(pad=1), _message(pad={"axes": ["a"]}), _message(pad={"axes": [True]}), _message(sent=None),
        _message(trip="1"), '{"sent": NaN}', '{"sent": 1e999}', "[" * 3000,
    ],
)  # fmt: skip
def test_messages_that_no_page_sends_are_refused(message: str | bytes) -> None:
    with pytest.raises(InvalidInput, match="of a page"):
        InputReader().read(message)


# Shapes and pictures -------------------------------------------------------------------------------------------------


def test_poses_survive_the_way_through_the_page() -> None:
    rng = np.random.default_rng(1)
    turns = [*rng.normal(0, 2, (20, 3)), np.zeros(3), *(np.pi * np.eye(3)), np.array([np.pi, 1e-9, 0])]
    for turn in turns:
        pose = moved(np.eye(4), rng.normal(0, 1, 3), turn)
        assert pose_of(quaternion(pose[:3, :3]), pose[:3, 3]) == pytest.approx(pose, abs=1e-8)
        assert np.linalg.det(pose[:3, :3]) == pytest.approx(1)


@pytest.mark.parametrize("robot", ROBOTS)
def test_every_shape_of_a_robot_is_shown_once(robot: str) -> None:
    model = load_robot(robot)
    shown = surfaces(model)
    assert sum(len(part) for _, _, part in shown) == sum(len(visual.triangles) for visual in model.robot.visuals) > 0
    assert len({(link, color) for link, color, _ in shown}) == len(shown)


def test_pictures_stand_side_by_side_under_their_names() -> None:
    one, two = np.full((64, 64, 3), 50, np.uint8), np.full((96, 128, 3), 200, np.uint8)
    sheet = panels({"image": one, "prompt": one, "twin image": two}, side=128)
    assert sheet.shape == (2 * (22 + 128), 2 * 171, 3) and sheet.dtype == np.uint8
    assert (sheet[60, 40] == 50).all() and (sheet[22 + 128 + 60, 40] == 200).all() and not sheet[60, 140].any()
