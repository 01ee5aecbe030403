"""The twin's physics: things fall and rest, the tool follows its path, fingers hold, saved moments come back."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from vap_sim.envs.scenes import Scene, SceneObject, sample_scene
from vap_sim.errors import InvalidInput, MissingDependency
from vap_sim.policies.motion_plans import CLEAR_HEIGHT, Target, Waypoint, pick_place, push
from vap_sim.policies.scripted import joint_targets
from vap_sim.robots.library import RobotModel, load_robot

pybullet = pytest.importorskip("pybullet")
from vap_sim.envs.twin_physics import TwinPhysics  # noqa: E402
from vap_sim.envs.twin_renderer import Snapshot  # noqa: E402

BLANK = sample_scene(np.random.default_rng(0), 1)
CUBE = SceneObject("cube", "red", (0.055, 0.055, 0.055), 0.48, 0.05, 0.2)
FAR_CUBE = SceneObject("cube", "blue", (0.05, 0.05, 0.05), 0.40, -0.20, 0.0)
CONTROL_DT = 0.2
POSES = 24


@pytest.fixture(scope="module")
def model() -> RobotModel:
    return load_robot("panda_robotiq")


@pytest.fixture(scope="module")
def home(model: RobotModel) -> np.ndarray:
    return model.home.double().numpy()


def scene_of(*objects: SceneObject) -> Scene:
    return replace(BLANK, objects=objects, goal=None)


def build(scene: Scene, model: RobotModel, joints: np.ndarray) -> TwinPhysics:
    return TwinPhysics(scene, model.folder / "robot.urdf", joints)


def play(physics: TwinPhysics, targets: np.ndarray, start: np.ndarray) -> Iterator[Snapshot]:
    """Straight lines between joint targets, one control interval each."""
    share = np.linspace(0, 1, POSES + 1)[1:, None]
    for target in targets:
        physics.follow((1 - share) * start + share * target, CONTROL_DT)
        start = target
        yield physics.snapshot()


def height(snapshot: Snapshot, index: int = 0) -> float:
    return snapshot.objects[index][0][2]


def test_objects_rest_where_they_were_put(model: RobotModel, home: np.ndarray) -> None:
    shapes = ("cube", "brick", "cylinder", "hexagon", "wedge", "sphere")
    colors = ("red", "green", "blue", "yellow", "pink", "cyan")
    objects = tuple(
        SceneObject(shape, color, (0.06, 0.06, 0.06), 0.36 + 0.13 * (k % 3), 0.2 - 0.35 * (k // 3), 0.3 * k)
        for k, (shape, color) in enumerate(zip(shapes, colors, strict=True))
    )
    with closing(build(scene_of(*objects), model, home)) as physics:
        list(play(physics, np.repeat(home[None], 5, axis=0), home))
        assert physics.object_speed() < 0.005
        for item, (position, _) in zip(objects, physics.snapshot().objects, strict=True):
            # The engine keeps convex meshes about a millimetre apart.
            assert np.allclose(position, (item.x, item.y, item.size[2] / 2), atol=2.5e-3), item.shape


def test_a_lifted_object_falls_freely_and_comes_to_rest(model: RobotModel, home: np.ndarray) -> None:
    with closing(build(scene_of(FAR_CUBE), model, home)) as physics:
        pybullet.resetBasePositionAndOrientation(
            physics.world.objects[0], (0.4, -0.2, 0.225), (0, 0, 0, 1), physicsClientId=physics.world.client
        )
        physics.follow(np.repeat(home[None], POSES, axis=0), 0.1)
        assert height(physics.snapshot()) == pytest.approx(0.225 - 9.81 * 0.1**2 / 2, abs=2.5e-3)
        assert physics.object_speed() == pytest.approx(0.981, abs=0.02)
        list(play(physics, np.repeat(home[None], 6, axis=0), home))
        assert height(physics.snapshot()) == pytest.approx(0.025, abs=2e-3) and physics.object_speed() < 0.01


def test_the_robot_starts_where_it_is_put(model: RobotModel, home: np.ndarray) -> None:
    for finger in (0.0, 0.5):
        start = np.append(home[:7] + 0.1, finger)
        with closing(build(scene_of(FAR_CUBE), model, start)) as physics:
            assert np.allclose(physics.joints(), start, atol=5e-3)


def test_the_tool_follows_its_nominal_path(model: RobotModel, home: np.ndarray) -> None:
    plan = [Waypoint(0.55, 0.2, 0.25, yaw=0.8, gripper=1.0), Waypoint(0.38, -0.05, 0.1, tilt=0.2, speed=0.4)]
    targets = joint_targets(model, home, plan, CONTROL_DT)
    nominal = model.robot.forward(torch.as_tensor(targets))[:, model.robot.link_index(model.tool_link), :3, 3].numpy()
    with closing(build(scene_of(FAR_CUBE), model, home)) as physics:
        tools = [physics.tool_position() for _ in play(physics, targets, home)]
        assert np.linalg.norm(np.stack(tools) - nominal, axis=1).max() < 0.01
        assert np.abs(physics.joints() - targets[-1])[:7].max() < 0.02


def test_empty_fingers_close_and_open_all_the_way(model: RobotModel, home: np.ndarray) -> None:
    with closing(build(scene_of(FAR_CUBE), model, home)) as physics:
        for angle in (0.8, 0.0):
            goal = np.append(home[:7], angle)
            list(play(physics, np.repeat(goal[None], 6, axis=0), goal))
            assert physics.joints()[7] == pytest.approx(angle, abs=0.03)
            joints = physics.snapshot().joints
            for side in ("left", "right"):  # the pads stay parallel
                assert joints[f"{side}_inner_finger_joint"] == pytest.approx(-angle, abs=0.03)
                assert joints[f"{side}_inner_knuckle_joint"] == pytest.approx(angle, abs=0.03)
            assert not physics.touched(0) and not physics.held(0)


@pytest.mark.parametrize(
    "item",
    [
        CUBE,
        SceneObject("brick", "green", (0.10, 0.055, 0.05), 0.48, 0.05, -0.9),
        SceneObject("cylinder", "blue", (0.06, 0.06, 0.07), 0.48, 0.05, 0.0),
        SceneObject("sphere", "pink", (0.055, 0.055, 0.055), 0.48, 0.05, 0.0),
    ],
    ids=lambda item: item.shape,
)
def test_the_scripted_grasp_lifts_carries_and_lets_go(item: SceneObject, model: RobotModel, home: np.ndarray) -> None:
    target = Target(item.x, item.y, item.yaw, item.size, item.shape != "brick")
    targets = joint_targets(model, home, pick_place(target, (0.40, -0.12)), CONTROL_DT)
    with closing(build(scene_of(item), model, home)) as physics:
        heights, held = [], []
        for snapshot in play(physics, targets, home):
            heights.append(height(snapshot))
            held.append(physics.held(0))
            assert physics.touched(0) or not held[-1]
            if heights[-1] > 0.1:  # in the air it can only be held, by fingers that stopped on it
                assert held[-1] and 0.05 < physics.joints()[7] < 0.7
        x, y, z = physics.snapshot().objects[0][0]
        assert max(heights) > CLEAR_HEIGHT - 0.03
        assert np.hypot(x - 0.40, y + 0.12) < 0.03 and z < item.size[2]
        assert not held[-1] and not held[0]


def test_a_push_slides_the_object_along_the_table(model: RobotModel, home: np.ndarray) -> None:
    targets = joint_targets(model, home, push(Target(0.48, 0.05, 0.2, CUBE.size), (0.50, -0.10)), CONTROL_DT)
    with closing(build(scene_of(CUBE), model, home)) as physics:
        touched = []
        for snapshot in play(physics, targets, home):
            touched.append(physics.touched(0))
            assert height(snapshot) < 0.045 and not physics.held(0)
        x, y, _ = physics.snapshot().objects[0][0]
        assert np.hypot(x - 0.50, y + 0.10) < 0.03 and any(touched) and not touched[-1]


def test_one_finger_touches_and_does_not_hold(model: RobotModel, home: np.ndarray) -> None:
    plan = [Waypoint(0.48, 0.2, 0.2), Waypoint(0.48, 0.2, 0.04), Waypoint(0.48, 0.08, 0.04, speed=0.16)]
    targets = joint_targets(model, home, plan, CONTROL_DT)
    with closing(build(scene_of(replace(CUBE, yaw=0.0)), model, home)) as physics:
        touched = []
        for _ in play(physics, targets, home):
            touched.append(physics.touched(0))
            assert not physics.held(0)
        assert touched[-1] and not touched[0]
        assert physics.snapshot().objects[0][0][1] < 0.03


def test_equal_worlds_move_alike_and_do_not_disturb_each_other(model: RobotModel, home: np.ndarray) -> None:
    targets = joint_targets(model, home, push(Target(0.48, 0.05, 0.2, CUBE.size), (0.50, -0.10)), CONTROL_DT)[4:]
    start = targets[0]
    with closing(build(scene_of(CUBE, FAR_CUBE), model, start)) as alone:
        expected = list(play(alone, targets, start))
    with (
        closing(build(scene_of(CUBE, FAR_CUBE), model, start)) as first,
        closing(build(scene_of(CUBE, FAR_CUBE), model, start)) as second,
    ):
        together = list(zip(play(first, targets, start), play(second, targets, start), strict=True))
    assert together == [(snapshot, snapshot) for snapshot in expected]
    assert expected[-1].objects != expected[0].objects


def test_a_saved_moment_comes_back_to_the_bit(model: RobotModel, home: np.ndarray) -> None:
    """Saved while the fingers hold the cube: contacts are the hardest thing to bring back."""
    target = Target(CUBE.x, CUBE.y, CUBE.yaw, CUBE.size, True)
    targets = joint_targets(model, home, pick_place(target, (0.40, -0.12)), CONTROL_DT)
    with (
        closing(build(scene_of(FAR_CUBE), model, home)) as other,
        closing(build(scene_of(CUBE), model, home)) as physics,
    ):
        saved_elsewhere = other.save()
        list(play(physics, targets[:16], home))
        assert physics.held(0) and height(physics.snapshot()) > 0.04
        moment, saved = physics.snapshot(), physics.save()
        unforked = list(play(physics, targets[16:], targets[15]))
        for _ in range(2):
            physics.restore(saved)
            assert physics.snapshot() == moment and physics.held(0)
            assert list(play(physics, targets[16:], targets[15])) == unforked
        physics.forget(saved)
        other.restore(saved_elsewhere)  # the other world's first state has the same number
        with pytest.raises(pybullet.error, match="restore"):
            physics.restore(saved)


def test_wrong_paths_and_joints_are_refused(model: RobotModel, home: np.ndarray) -> None:
    with closing(build(scene_of(FAR_CUBE), model, home)) as physics:
        for path in (home, home[None, :7], np.repeat(home[None], 5, axis=0), np.zeros((0, 8))):
            with pytest.raises(InvalidInput, match=r"joint path.*\(n, 8\), n a divisor of 48 physics steps"):
                physics.follow(path, CONTROL_DT)
    with pytest.raises(InvalidInput, match=r"joints of the twin: given shape \(7,\), expected \(8,\)"):
        build(scene_of(FAR_CUBE), model, home[:7])


def test_closing_twice_is_harmless_and_an_empty_table_is_still(model: RobotModel, home: np.ndarray) -> None:
    physics = build(scene_of(), model, home)
    assert physics.object_speed() == 0.0 and physics.snapshot().objects == ()
    physics.close()
    physics.close()


def test_a_missing_engine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("vap_sim.envs.twin_")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "pybullet", None)
    for name in ("twin_physics", "twin_renderer", "twin_recorder"):
        with pytest.raises(MissingDependency, match=r"pybullet is not installed.*vap-sim\[twin\].*Python 3\.11"):
            importlib.import_module(f"vap_sim.envs.{name}")
