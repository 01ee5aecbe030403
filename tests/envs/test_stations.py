"""Stations: what they name exists, what they draw fits them, and the environments registered for them agree."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import combinations
from typing import Any

import gymnasium
import numpy as np
import pytest

import vap_sim
from vap_sim.envs.scenes import Scene
from vap_sim.envs.start import check_start, load_start, shipped_starts
from vap_sim.envs.stations import DROID, RT1, get_station, station_names
from vap_sim.envs.tasks import Task
from vap_sim.envs.view_choice import default_views
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.actions import action_spec
from vap_sim.robots.library import load_robot

STATIONS = [get_station(name) for name in station_names()]
TASKS = [(station.name, name) for station in STATIONS for name in station.tasks]


@pytest.mark.parametrize("name", station_names())
def test_a_station_names_what_exists(name: str) -> None:
    station = get_station(name)
    assert station.name == name and get_station(station) is station
    model = load_robot(station.robot)
    assert model.gripper is not None
    assert action_spec(model, station.control).size > 1
    cameras = {spread.name for spread in station.layout.cameras} | set(model.cameras)
    assert station.views and set(station.views) <= cameras
    assert set(station.start_spreads) <= set(model.robot.joint_names)
    assert station.get_task() is station.get_task(station.task)


@pytest.mark.parametrize(("place", "name"), TASKS)
def test_scenes_of_a_task_fit_it(place: str, name: str) -> None:
    task = get_station(place).get_task(name)
    scenes = [task.scene(np.random.default_rng(seed)) for seed in range(40)]
    assert scenes[:3] == [task.scene(np.random.default_rng(seed)) for seed in range(3)]
    assert len({json.dumps(scene.to_dict()) for scene in scenes}) == len(scenes)
    for scene in scenes:
        assert task.lacks(scene) is None
        assert scene.objects and task.instruction(scene)
        assert Scene.from_dict(json.loads(json.dumps(scene.to_dict()))) == scene
    bare = replace(scenes[0], objects=scenes[0].objects[:1], goal=None, cabinets=())
    assert task.lacks(bare) is None or task.lacks(bare) in (
        "goal", "cabinet", "second object", "plate as its second object", "second object that is level on top",
    )  # fmt: skip


@pytest.mark.parametrize(("place", "name"), [(place, name) for place, name in TASKS if place in ("Bridge", "RT1")])
def test_things_begin_apart_from_each_other(place: str, name: str) -> None:
    for seed in range(60):
        scene = get_station(place).get_task(name).scene(np.random.default_rng(seed))
        for one, other in combinations(scene.objects, 2):
            reach = sum(
                item.width / 2 if item.shape == "plate" else np.hypot(*item.size[:2]) / 2 for item in (one, other)
            )
            assert np.hypot(one.x - other.x, one.y - other.y) > reach + 0.01


@pytest.mark.parametrize("name", ["DROID", "Bridge", "RT1"])
def test_start_joints_are_near_home_and_the_gripper_is_open(name: str) -> None:
    station = get_station(name)
    model = load_robot(station.robot)
    assert model.gripper is not None
    scene = station.sample_scene(np.random.default_rng(0))
    drawn = np.stack([station.draw_joints(np.random.default_rng(seed), model, scene) for seed in range(200)])
    gripper = model.robot.joint_index(model.gripper.joint)
    off = drawn - model.home.double().numpy()
    assert not off[:, gripper].any()
    for index, joint in enumerate(model.robot.joint_names):
        if index != gripper:
            spread = station.start_spreads.get(joint, station.start_spread)
            assert 0.8 * spread < off[:, index].std() < 1.2 * spread
    assert (drawn >= model.robot.lower.numpy() - 1e-9).all() and (drawn <= model.robot.upper.numpy() + 1e-9).all()


def test_scenes_of_droid_are_what_they_always_were() -> None:
    """Thousands of recordings and held-out evaluations follow from seeds."""
    digest = hashlib.sha256()
    for seed in range(60):
        for task in DROID.tasks.values():
            digest.update(json.dumps(task.scene(np.random.default_rng(seed)).to_dict()).encode())
        digest.update(json.dumps(DROID.sample_scene(np.random.default_rng(seed)).to_dict()).encode())
    assert digest.hexdigest()[:16] == "146ddf558c94b593"


@pytest.mark.parametrize("name", [name for name in station_names() if f"VAPWorld-{name}-v0" in gymnasium.registry])
def test_registered_environments_agree_with_their_station(name: str) -> None:
    station = get_station(name)
    told = gymnasium.spec(f"VAPWorld-{name}-v0").kwargs
    defaults = {
        "robot": "panda_robotiq", "task": "pick_place", "control": "joint_velocity", "control_hz": 5.0, "video_hz": 5.0,
        "views": default_views(load_robot(station.robot)),
    }  # fmt: skip
    assert told.keys() <= {*defaults, "world", "world_options"}
    for field, value in {**defaults, **told}.items():
        if field in defaults:
            assert getattr(station, field) == value, field
    assert told.get("world_options", {"frame_rate": 5.0})["frame_rate"] == station.video_hz
    twin = gymnasium.spec(f"VAPTwin-{name}-v0").kwargs
    assert get_station(twin.get("station", "DROID")) is station


@pytest.mark.parametrize("name", ["Bridge", "RT1", "EgoVid"])
def test_every_task_of_a_station_has_starts(name: str) -> None:
    station = get_station(name)
    model = load_robot(station.robot)
    assert len(shipped_starts(station=name)) == 4 * len(station.tasks)
    for task in station.tasks.values():
        names = shipped_starts(task.name, name)
        assert len(names) == 4
        for start in map(load_start, names):
            check_start(start, model, station.size, len(start.cameras))
            assert {camera.name for camera in start.cameras} >= set(station.views)
            assert start.scene is not None
            scene = Scene.from_dict(start.scene)
            assert task.lacks(scene) is None and start.instruction == task.instruction(scene)


def test_dreams_of_a_station_draw_from_its_own_starts() -> None:
    env = gymnasium.make("VAPWorld-Bridge-v0", task="stack").unwrapped
    assert {env.reset(seed=seed)[1]["start"] for seed in range(12)} == set(shipped_starts("stack", "Bridge"))
    env.close()


def test_wrong_names_and_rates_are_told() -> None:
    with pytest.raises(UnknownName, match=r"unknown station 'Brigde'. Did you mean 'Bridge'"):
        get_station("Brigde")
    with pytest.raises(UnknownName, match=r"unknown task of station 'RT1' 'pik'. Did you mean 'pick'"):
        RT1.get_task("pik")
    with pytest.raises(UnknownName, match="task of station 'RT1'"):
        replace(RT1, task="stack")
    with pytest.raises(InvalidInput, match=r"rates of station 'RT1' \[Hz\]: given 7.0, expected a divisor of 240"):
        replace(RT1, control_hz=7.0)
    pick: Task = RT1.tasks["pick"]
    with pytest.raises(InvalidInput, match="tasks of station 'RT1': given 'pick' under 'lift'"):
        replace(RT1, task="lift", tasks={"lift": pick})
    assert vap_sim.shipped_starts() == shipped_starts(station="DROID")


@pytest.mark.parametrize("name", ["Bridge", "RT1", "EgoVid"])
def test_a_moment_of_the_twin_begins_a_dream(name: str) -> None:
    pytest.importorskip("pybullet", reason="pybullet is not installed")
    twin: Any = gymnasium.make(f"VAPTwin-{name}-v0").unwrapped
    seen, told = twin.reset(seed=1)
    dream: Any = gymnasium.make(f"VAPWorld-{name}-v0").unwrapped
    observation, info = dream.reset(options={"start": twin.start()})
    assert np.array_equal(observation["image"], seen["image"])
    assert np.abs(observation["joint_position"] - seen["joint_position"]).max() < 1e-6
    assert info["instruction"] == told["instruction"] and info["world"] == "compact"
    assert dream.action_space == twin.action_space and dream.observation_space == twin.observation_space
    twin.close()
    dream.close()


def test_twins_of_a_station_in_a_row() -> None:
    pytest.importorskip("pybullet", reason="pybullet is not installed")
    rows = gymnasium.make_vec("VAPTwin-RT1-v0", num_envs=2, vectorization_mode="sync", task="open_drawer")
    observations, infos = rows.reset(seed=3)
    assert observations["image"].shape == (2, 128, 128, 3) and infos["joints"].shape == (2, 10)
    assert rows.step(rows.action_space.sample())[1].shape == (2,)
    rows.close()
