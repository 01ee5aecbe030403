"""The physics of a hand: bones are where joints say, fingers stop at what they hold, and what they hold is lifted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from vap_sim.envs.hand_tasks import LAYOUT
from vap_sim.envs.scenes import Scene, SceneObject, sample_scene
from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.policies.hand_plans import FROM_ABOVE, follow, grasp_lift, thing_of
from vap_sim.robots.library import RobotModel, load_robot

pybullet = pytest.importorskip("pybullet", reason="pybullet is not installed")
from vap_sim.envs.hand_body import build_hand  # noqa: E402
from vap_sim.envs.hand_physics import HandPhysics  # noqa: E402
from vap_sim.envs.hand_station import EGOVID  # noqa: E402

CUBE = SceneObject("cube", "red", (0.054, 0.054, 0.054), 0.42, 0.02, 0.3)
DT = 0.2
POSES = 24
BLANK = sample_scene(np.random.default_rng(0), 1, layout=LAYOUT)


@pytest.fixture(scope="module")
def model() -> RobotModel:
    return load_robot("human_hand")


@pytest.fixture(scope="module")
def start(model: RobotModel) -> np.ndarray:
    return EGOVID.draw_joints(np.random.default_rng(5), model, BLANK)


def scene_of(*objects: SceneObject) -> Scene:
    return replace(BLANK, objects=objects, goal=None)


def play(physics: HandPhysics, targets: np.ndarray, start: np.ndarray) -> Iterator[np.ndarray]:
    share = np.linspace(0, 1, POSES + 1)[1:, None]
    for target in targets:
        physics.follow((1 - share) * start + share * target, DT)
        start = target
        yield physics.joints()


def grasped(physics: HandPhysics, model: RobotModel, start: np.ndarray) -> np.ndarray:
    """The joints after taking and lifting object 0."""
    plan = grasp_lift(thing_of(physics.scene.to_dict()["objects"][0]))
    targets = follow(model, start, plan, FROM_ABOVE, DT, np.random.default_rng(0))
    *_, last = play(physics, targets, start)
    return last


def engine_poses(physics: HandPhysics) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Where the engine has each link: position and rotation matrix."""
    hand, client = physics.hand, physics.world.client
    out = {}
    for name, index in hand.links.items():
        state = pybullet.getLinkState(hand.body, index, computeForwardKinematics=True, physicsClientId=client)
        turn = np.array(pybullet.getMatrixFromQuaternion(state[5])).reshape(3, 3)
        out[name] = np.array(state[4]), turn
    return out


def test_measured_joints_put_every_bone_where_it_is_even_around_a_thing(model: RobotModel, start: np.ndarray) -> None:
    robot = model.robot
    with closing(HandPhysics(scene_of(CUBE), model, start)) as physics:
        np.testing.assert_allclose(physics.joints(), start, atol=1e-3)
        joints = grasped(physics, model, start)
        np.testing.assert_allclose(joints, robot.clamp(torch.from_numpy(joints)), atol=1e-6)
        poses = robot.forward(torch.from_numpy(physics.joints()))
        found = {name: pose for name, pose in engine_poses(physics).items() if name in robot.link_names}
        assert {"wrist", "thumb_distal", "index_distal", "little_middle"} <= found.keys()
        for name, (place, turn) in found.items():
            pose = poses[robot.link_index(name)].numpy()
            np.testing.assert_allclose(place, pose[:3, 3], atol=1e-5)
            np.testing.assert_allclose(turn, pose[:3, :3], atol=1e-4)


def test_a_hand_that_meets_nothing_follows_its_path(model: RobotModel, start: np.ndarray) -> None:
    goal = start.copy()
    goal[:6] += [0.08, 0.05, 0.06, 0.2, -0.1, 0.3]
    goal[model.robot.joint_index("grasp")] = 0.6
    goal[model.robot.joint_index("index_mcp_sideways")] += 0.1
    goal[model.robot.joint_index("head_yaw")] += 0.2
    with closing(HandPhysics(scene_of(), model, start)) as physics:
        targets = start + (goal - start) * np.linspace(0.25, 1, 4)[:, None]
        *_, reached = play(physics, np.concatenate([targets, goal[None]]), start)
        np.testing.assert_allclose(reached, goal, atol=0.01)
        tool = model.robot.forward(torch.from_numpy(goal))[model.robot.link_index("tool"), :3, 3].numpy()
        np.testing.assert_allclose(physics.tool_position(), tool, atol=5e-3)
        assert physics.snapshot().joints.keys() == model.robot.moving(torch.from_numpy(goal)).keys()


def test_fingers_stop_at_a_thing_which_then_is_lifted(model: RobotModel, start: np.ndarray) -> None:
    with closing(HandPhysics(scene_of(CUBE), model, start)) as physics:
        assert not physics.held(0)
        assert not physics.touched(0)
        joints = grasped(physics, model, start)
        assert model.gripper is not None
        closed = float(model.gripper.to_position(torch.tensor(joints[model.robot.joint_index("grasp")])))
        assert 0.3 < closed < 0.95  # it was told to close wholly
        assert physics.held(0)
        assert physics.touched(0)
        assert not physics.world.grounded()[0]
        assert physics.snapshot().objects[0][0][2] > CUBE.size[2] / 2 + 0.08
        body, client = physics.world.objects[0], physics.world.client
        contacts = pybullet.getContactPoints(physics.hand.body, body, physicsClientId=client)
        assert min(contact[8] for contact in contacts) > -3e-3  # nothing goes through anything


def test_a_hand_that_is_pressed_down_stays_above_the_table(model: RobotModel, start: np.ndarray) -> None:
    """Nominally it goes a hand's breadth below; the wrist's force is bounded, and skin stays out of the wood."""
    down = start.copy()
    down[model.robot.joint_index("hand_z")] = -0.1
    with closing(HandPhysics(scene_of(), model, start)) as physics:
        targets = start + (down - start) * np.linspace(0.2, 1, 5)[:, None]
        *_, joints = play(physics, targets, start)
        client = physics.world.client
        contacts = pybullet.getContactPoints(physics.hand.body, physics.world.table, physicsClientId=client)
        assert min(contact[8] for contact in contacts) > -3e-3
        assert 150 < sum(contact[9] for contact in contacts) < 300
        assert joints[model.robot.joint_index("hand_z")] > 0.02


@pytest.mark.parametrize(
    ("touching", "held"),
    [({"thumb"}, False), ({"thumb", "wrist"}, False), ({"index", "middle"}, False), ({"thumb", "little"}, True)],
)
def test_a_thing_is_held_between_the_thumb_and_another_finger(
    touching: set[str], held: bool, model: RobotModel, start: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(HandPhysics(scene_of(), model, start)) as physics:
        monkeypatch.setattr(physics, "_touching", lambda index: touching)
        assert physics.held(0) == held
        assert physics.touched(0)


def test_saved_moments_come_back_and_equal_paths_give_equal_bits(model: RobotModel, start: np.ndarray) -> None:
    plan = grasp_lift(thing_of(scene_of(CUBE).to_dict()["objects"][0]))
    targets = follow(model, start, plan, FROM_ABOVE, DT, np.random.default_rng(0))[:10]
    ends = []
    with closing(HandPhysics(scene_of(CUBE), model, start)) as physics:
        list(play(physics, targets[:8], start))
        saved = physics.save()
        for _ in range(2):
            list(play(physics, targets[8:], targets[7]))
            ends.append((physics.joints(), physics.snapshot().objects))
            physics.restore(saved)
        physics.forget(saved)
    with closing(HandPhysics(scene_of(CUBE), model, start)) as physics:
        list(play(physics, targets[:8], start))
        saved = physics.save()
        list(play(physics, targets[8:], targets[7]))
        ends.append((physics.joints(), physics.snapshot().objects))
    for joints, objects in ends[1:]:
        np.testing.assert_array_equal(joints, ends[0][0])
        assert objects == ends[0][1]


def test_what_was_held_is_held_where_a_scene_begins_in_the_middle(model: RobotModel, start: np.ndarray) -> None:
    with closing(HandPhysics(scene_of(CUBE), model, start)) as physics:
        joints = grasped(physics, model, start)
        (x, y, z), turn = physics.snapshot().objects[0]
    lifted = replace(CUBE, x=x, y=y, z=z, turn=(turn[0], turn[1], turn[2], turn[3]))
    with closing(HandPhysics(scene_of(lifted), model, joints)) as again:
        assert again.held(0)
        np.testing.assert_allclose(again.snapshot().objects[0][0], (x, y, z), atol=0.01)
        before, after = (model.robot.forward(torch.from_numpy(q))[:, :3, 3] for q in (joints, again.joints()))
        assert float((before - after).norm(dim=-1).max()) < 0.012


def test_a_left_hand_has_a_body_too() -> None:
    left = load_robot("human_hand_left")
    with closing(HandPhysics(scene_of(), left, left.home.double().numpy())) as physics:
        np.testing.assert_allclose(physics.joints(), left.home.double().numpy(), atol=1e-3)


def test_what_is_not_a_hand_is_refused(model: RobotModel, start: np.ndarray) -> None:
    with pytest.raises(InvalidInput, match=r"\(34,\): hand_x"):
        HandPhysics(scene_of(), model, start[:-1])
    with closing(HandPhysics(scene_of(), model, start)) as physics:
        with pytest.raises(InvalidInput, match="n a divisor of 48 physics steps"):
            physics.follow(np.repeat(start[None], 7, axis=0), DT)
        for name, reason in (("human_hands", "has nothing that does"), ("panda_robotiq", "about the axis before it")):
            with pytest.raises(Unsupported, match=reason):
                build_hand(load_robot(name), physics.world.client)
