"""What a hand does in recordings: courses within limits, planned from how things lie now, reproducible by seed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

pytest.importorskip("pybullet", reason="pybullet is not installed")
from vap_sim.data.twin import load_episode
from vap_sim.envs.hand_behaviours import BEHAVIOURS, hand_course, thing_now
from vap_sim.envs.hand_station import EGOVID
from vap_sim.envs.scenes import Scene, SceneObject
from vap_sim.envs.stations import get_station
from vap_sim.envs.twin_behaviours import Stage
from vap_sim.envs.twin_recorder import RecorderSettings, record_episode, record_file
from vap_sim.envs.twin_renderer import Snapshot
from vap_sim.errors import UnknownName
from vap_sim.robots.library import RobotModel, load_robot

TALL = SceneObject("cylinder", "red", (0.05, 0.05, 0.11), 0.40, 0.02, 0.0)
LOW = SceneObject("brick", "blue", (0.09, 0.05, 0.05), 0.48, -0.10, 0.5)


@pytest.fixture(scope="module")
def model() -> RobotModel:
    return load_robot("human_hand")


def standing(scene: Scene) -> Snapshot:
    places = [(item.x, item.y, item.size[2] / 2) for item in scene.objects]
    turns = [tuple(Rotation.from_euler("z", item.yaw).as_quat().tolist()) for item in scene.objects]
    return Snapshot({}, tuple(zip(places, turns, strict=True)))


def stage(model: RobotModel, *objects: SceneObject) -> Stage:
    scene = replace(EGOVID.sample_scene(np.random.default_rng(1)), objects=objects)
    return Stage(model, scene, lambda: standing(scene), 0.2, EGOVID.layout.low, EGOVID.layout.high)


def test_the_station_is_known_by_name() -> None:
    assert get_station("EgoVid") is EGOVID
    assert abs(sum(BEHAVIOURS.values()) - 1) < 1e-9


def test_the_eyes_look_at_the_work_and_the_hand_hovers_open(model: RobotModel) -> None:
    robot, camera, beside = model.robot, model.cameras["head"], list[float]()
    for seed in range(20):
        rng = np.random.default_rng(seed)
        scene = EGOVID.sample_scene(rng)
        joints = EGOVID.draw_joints(rng, model, scene)
        np.testing.assert_array_equal(joints, robot.clamp(torch.from_numpy(joints)).numpy())
        poses = robot.forward(torch.from_numpy(joints))
        places = torch.tensor([(item.x, item.y, item.size[2] / 2) for item in scene.objects]).to(poses)
        xy, depth = camera.project(places, poses, robot)
        assert bool((xy[0] > 2).all() & (xy[0] < 125).all() & (depth[0] > 0))
        points, seen = model.skeleton.positions(robot, poses), xy[0]
        xy, _ = camera.project(points, poses, robot)
        beside.append(float((xy - seen).norm(dim=-1).min()))
        assert float(((xy > 0) & (xy < 127)).all(-1).double().mean()) > 0.5
        assert float(points[:, 2].min()) > max(item.size[2] for item in scene.objects)
    assert np.mean(np.array(beside) > 11) > 0.9  # px: nearly always the hand hides nothing


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_courses_begin_where_the_hand_is_and_keep_limits_and_speeds(name: str, model: RobotModel) -> None:
    joints = EGOVID.draw_joints(np.random.default_rng(2), model, stage(model, TALL).scene)
    lower, upper = model.robot.lower.double().numpy(), model.robot.upper.double().numpy()
    grasp = model.robot.joint_index("grasp")
    for seed, things in enumerate(((TALL, LOW), (LOW,))):
        course = hand_course(name, np.random.default_rng(seed), stage(model, *things), joints)
        again = hand_course(name, np.random.default_rng(seed), stage(model, *things), joints)
        np.testing.assert_array_equal(course, again)
        assert course.shape[1] == model.robot.num_joints
        assert (course >= lower - 1e-9).all()
        assert (course <= upper + 1e-9).all()
        steps = np.diff(np.concatenate([joints[None], course]), axis=0)
        assert np.abs(np.delete(steps, grasp, axis=1)).max() < 0.6  # what a recording's controller can follow
        if name == "idle":
            assert np.abs(steps[:, :28]).max() == 0


def test_things_are_planned_for_as_they_stand_or_lie(model: RobotModel) -> None:
    scene = stage(model, TALL, LOW).scene
    now = standing(scene)
    for index, item in enumerate(scene.objects):
        thing = thing_now(scene, now, index)
        assert (thing.shape, thing.size) == (item.shape, item.size)
        assert thing.yaw == pytest.approx(item.yaw)
    fallen = Rotation.from_euler("z", 0.7) * Rotation.from_euler("y", np.pi / 2)
    place = (0.45, 0.03, 0.025)
    lying = replace(now, objects=((place, tuple(fallen.as_quat().tolist())), now.objects[1]))
    thing = thing_now(scene, lying, 0)
    assert thing == replace(thing, shape="brick", x=0.45, y=0.03, size=(0.11, 0.05, 0.05))
    assert np.cos(2 * (thing.yaw - 0.7)) == pytest.approx(1.0)


def test_names_that_do_not_exist_are_refused(model: RobotModel) -> None:
    with pytest.raises(UnknownName, match="pour"):
        hand_course("poor", np.random.default_rng(0), stage(model, TALL), model.home.double().numpy())


def test_recordings_carry_a_plate_for_each_place_of_the_head(tmp_path: Path) -> None:
    settings = RecorderSettings(station="EgoVid", steps=3, size=(32, 32), behaviours=("lift",))
    episode = record_episode(7, settings)
    assert episode.frames.shape == (1, 4, 32, 32, 3)
    assert episode.plates.shape == (1, 4, 32, 32, 3)
    assert episode.joints.shape == (4, 34)
    assert len({frame.tobytes() for frame in episode.plates[0]}) == 4
    read = load_episode(record_file(7, tmp_path, settings))
    for name in ("frames", "plates", "robot", "joints", "measured"):
        np.testing.assert_array_equal(getattr(read, name), getattr(episode, name))
