"""The twin: scenes from starts and back, exact masks, rewards, cameras, states that live as long as their episode."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

pytest.importorskip("pybullet", reason="pybullet is not installed")

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.envs.start import Start, load_start
from vap_sim.envs.twin_env import TwinEnv
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.policies.plan_policy import ScriptedPolicy
from vap_sim.robots.control import Controller

ROOT = Path(__file__).resolve().parents[2]
STILL = np.zeros(8, np.float32)


@pytest.fixture
def env() -> Iterator[TwinEnv]:
    twin = TwinEnv(task="push")
    yield twin
    twin.close()


def test_start_builds_the_same_scene_again(env: TwinEnv, start: Start) -> None:
    env.reset(seed=0, options={"start": start})
    again = env.start("again")
    assert again.name == "again"
    assert again.robot == start.robot
    assert again.instruction == start.instruction
    assert torch.allclose(again.joints, start.joints, atol=1e-3)
    assert again.cameras[0].to_dict() == start.cameras[0].to_dict()
    assert start.scene is not None
    assert again.scene is not None
    for now, then in zip(again.scene["objects"], start.scene["objects"], strict=True):
        assert (now["shape"], now["color"]) == (then["shape"], then["color"])
        assert np.hypot(now["x"] - then["x"], now["y"] - then["y"]) < 2e-3
        assert abs(np.angle(np.exp(1j * (now["yaw"] - then["yaw"])))) < 0.02
    assert (again.frames[:1].int() - start.frames.int()).abs().float().mean() < 0.3


def test_start_after_a_push_has_the_objects_where_they_are_now(start: Start) -> None:
    env = TwinEnv(task="push", video_hz=1.0)
    env.reset(options={"start": start})
    for action in ScriptedPolicy("push").plan(start, 30):
        if env.step(action)[2]:
            break
    moved = env.start()
    assert moved.scene is not None
    assert start.scene is not None
    assert env.situation().objects[0][:2] == pytest.approx([moved.scene["objects"][0][name] for name in "xy"])
    assert abs(moved.scene["objects"][0]["x"] - start.scene["objects"][0]["x"]) > 0.01
    assert moved.gripper == pytest.approx(1, abs=0.05)
    env.reset(options={"start": moved})
    assert np.linalg.norm(env.situation().objects[0][:2] - [moved.scene["objects"][0][name] for name in "xy"]) < 3e-3
    env.close()


@pytest.mark.parametrize("task", ["reach", "push", "pick_place"])
def test_scripted_expert_succeeds_and_is_rewarded(task: str) -> None:
    env = TwinEnv(task=task, video_hz=1.0)  # fewer pictures, the same physics
    start = load_start(f"{task}_02")
    env.reset(options={"start": start})
    rows = []
    for action in ScriptedPolicy(task).plan(start, 40):
        row = env.step(action)
        rows.append(row)
        assert row[1] == float(row[2]) == float(row[4]["success"])
        assert type(row[1]) is float
        if row[2]:
            break
    assert rows[-1][2], "the expert fails"
    assert not any(row[2] for row in rows[:-1])
    assert rows[-1][4]["distance"] < rows[0][4]["distance"]
    with pytest.warns(UserWarning, match="after the task was done"):
        env.step(STILL)
    env.reset(options={"start": start})
    env.step(STILL)
    env.close()


def test_dense_reward_is_the_distance_left(start: Start) -> None:
    env = TwinEnv(task="push", dense_reward=True)
    env.reset(options={"start": start})
    _, reward, _, _, info = env.step(STILL)
    assert reward == -info["distance"]
    assert start.scene is not None
    item, goal = start.scene["objects"][0], start.scene["goal"]
    assert info["distance"] == pytest.approx(np.hypot(item["x"] - goal[0], item["y"] - goal[1]), abs=3e-3)
    env.close()


def test_masks_are_those_of_the_picture(env: TwinEnv) -> None:
    start = load_start("push_00")
    observation, info = env.reset(options={"start": start})
    robot, objects = env.masks()
    assert (robot.dtype, robot.shape) == (bool, (128, 128))
    assert objects.shape == (len(info["scene"]["objects"]), 128, 128)
    assert robot.any()
    assert not (robot & objects.any(0)).any()
    pink = observation["image"][objects[0]].mean(0)
    assert pink[0] > pink[1] + 40, "the first object of this start is pink"
    robot[...] = False
    assert env.masks()[0].any()


def test_masks_and_pictures_wait_for_the_next_picture_together() -> None:
    env = TwinEnv(task="push", control_hz=15.0)
    env.reset(seed=0)
    action = np.array([1, 0, 0, 0, 0, 0, 0, 0], np.float32)
    before = env.masks()[0]
    env.step(action)
    env.step(action)
    assert np.array_equal(env.masks()[0], before)
    env.step(action)
    assert not np.array_equal(env.masks()[0], before)
    env.close()


def test_start_shows_this_moment_even_between_two_pictures() -> None:
    env = TwinEnv(task="push", control_hz=15.0)
    env.reset(seed=0)
    observation = env.step(np.array([1, 0, 0, 0, 0, 0, 0, 0], np.float32))[0]
    assert not np.array_equal(env.start().frames[0].numpy(), observation["image"])
    assert env.start().joints[:7].numpy() == pytest.approx(observation["joint_position"])
    env.close()


def test_going_back_before_the_end_undoes_the_end(env: TwinEnv, recwarn: pytest.WarningsRecorder) -> None:
    env.reset(seed=0)
    state = env.get_state()
    env._ended = True
    env.set_state(state)
    env.step(STILL)
    assert not recwarn.list


def test_wrist_camera_rides_on_the_hand() -> None:
    env = TwinEnv(task="reach", views=("exterior_2", "wrist"), size=(96, 64))
    first, _ = env.reset(seed=0)
    assert first["image"].shape == first["image_wrist"].shape == (64, 96, 3)
    action = np.array([0, 0, 0, 0, 0, 0, 0.5, 0], np.float32)
    second = env.step(action)[0]
    table = (env.masks(1)[0] | env.masks(1)[1].any(0)) == 0
    assert (first["image_wrist"] != second["image_wrist"]).any(-1)[table].mean() > 0.01
    assert env.masks(1)[0].mean() == pytest.approx(0.2, abs=0.2)
    start = env.start()
    assert [camera.name for camera in start.cameras] == ["exterior_2", "wrist"]
    assert start.cameras[1].parent_link == "robotiq_base"
    seen = env.reset(options={"start": start})[0]
    bare = env.reset(options={"start": replace(start, frames=start.frames[:1], cameras=start.cameras[:1])})[0]
    assert all(np.array_equal(bare[name], seen[name]) for name in ("image", "image_wrist"))
    env.close()


def test_measured_joints_follow_the_nominal_ones(env: TwinEnv, start: Start) -> None:
    env.reset(options={"start": start})
    controller = Controller(env._model, "joint_velocity", 0.2)
    state = controller.initial(start.joints[None].numpy())
    for action in np.random.default_rng(0).uniform(-0.15, 0.15, (5, 8)).astype(np.float32):
        state, path = controller.step(state, action[None])
        info = env.step(action)[4]
        assert np.abs(info["joints"][:7] - path[0, -1, :7]).max() < 0.02


def test_state_ends_with_its_episode(env: TwinEnv) -> None:
    env.reset(seed=0)
    state, episode = env.get_state(), env._episode
    assert episode is not None
    env.reset(seed=0)
    assert episode.physics.world.client == -1, "an episode that is over is freed, whoever still knows it"
    with pytest.raises(InvalidInput, match="state: given one of an episode that is over, expected one of this episode"):
        env.set_state(state)
    other = TwinEnv(task="push")
    other.reset(seed=0)
    with pytest.raises(InvalidInput, match="episode that is over"):
        other.set_state(env.get_state())
    other.close()


def test_engine_forgets_states_and_episodes_that_nobody_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    env = TwinEnv(task="push")
    env.reset(seed=0)
    episode = env._episode
    assert episode is not None
    forgotten: list[object] = []
    monkeypatch.setattr(episode.physics, "forget", forgotten.append)
    env.get_state()
    gc.collect()
    assert len(forgotten) == 1
    physics = episode.physics
    late = env.get_state()
    del env, episode
    gc.collect()
    assert physics.world.client >= 0, "a state keeps its episode"
    del late
    gc.collect()
    assert physics.world.client == -1


def test_state_may_outlive_the_environment(env: TwinEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    env.reset(seed=0)
    assert env._episode is not None
    forgotten: list[object] = []
    monkeypatch.setattr(env._episode.physics, "forget", forgotten.append)
    state = env.get_state()
    env.close()
    del state
    gc.collect()
    assert not forgotten, "a closed engine has nothing to free"


def test_start_must_have_what_the_task_needs(env: TwinEnv, start: Start) -> None:
    assert start.scene is not None
    with pytest.raises(InvalidInput, match="scene of start 'push_00': given None, expected a scene"):
        env.reset(options={"start": replace(start, scene=None)})
    with pytest.raises(InvalidInput, match="given no goal, expected a goal, as task 'push' needs"):
        env.reset(options={"start": load_start("reach_00")})
    with pytest.raises(InvalidInput, match="no goal"):
        TwinEnv(task="push", start="reach_00")
    with pytest.raises(InvalidInput, match=r"scene record.*'objects'"):
        env.reset(options={"start": replace(start, scene={"goal": None})})


def test_default_start_is_an_argument(start: Start) -> None:
    env = TwinEnv(task="push", start=start)
    assert env.reset(seed=0)[1]["start"] == env.reset(seed=1)[1]["start"] == "push_00"
    env.close()


def test_views_that_a_start_lacks_are_seen_all_the_same(env: TwinEnv) -> None:
    whole = env.reset(options={"start": "push_00"})[0]
    mine = replace(load_start("push_00"), name="mine")
    assert [camera.name for camera in mine.cameras] == ["exterior_1"]
    for start in (mine, replace(mine, cameras=(replace(mine.cameras[0], name="phone"),))):
        seen = env.reset(options={"start": start})[0]
        assert all(np.array_equal(seen[key], whole[key]) for key in ("image", "image_wrist"))
        assert len(env.start().cameras) == 2


def test_rates_that_the_physics_cannot_keep() -> None:
    with pytest.raises(InvalidInput, match=r"control_hz of the twin: given 7.0, expected a divisor of 240"):
        TwinEnv(control_hz=7.0, video_hz=7.0)
    env = TwinEnv(task="push", control_hz=80.0, video_hz=80.0)  # three physics steps an action
    env.reset(seed=0)
    env.step(STILL)
    env.close()


def test_unknown_view_is_named() -> None:
    env = TwinEnv(views=("exterior_3",))
    with pytest.raises(UnknownName, match=r"unknown view of the twin 'exterior_3'. Did you mean 'exterior_"):
        env.reset(seed=0)
    generator = env.np_random.bit_generator.state
    with pytest.raises(UnknownName, match="exterior_3"):
        env.reset()
    assert env.np_random.bit_generator.state == generator


def test_start_pose_is_near_home_and_differs(env: TwinEnv) -> None:
    poses = [env.reset(seed=seed)[1]["joints"] for seed in range(3)]
    home = env._model.home.numpy()
    for pose in poses:
        assert 1e-3 < np.abs(pose - home).max() < 0.25
        assert pose[7] == pytest.approx(0, abs=1e-3)
    assert np.abs(poses[0] - poses[1]).max() > 1e-3


def test_without_pybullet_only_making_the_twin_fails() -> None:
    script = """
import sys
sys.modules["pybullet"] = None
import gymnasium
gymnasium.make("vap_sim:VAPWorld-DROID-v0", world="kinematic").reset(seed=0)
try:
    gymnasium.make("VAPTwin-DROID-v0")
except ImportError as error:
    print(type(error).__name__, error)
"""
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout.startswith(
        "MissingDependency pybullet is not installed; it comes with: pip install 'vap-sim[twin]'"
    )


def test_gymnasium_makes_it_by_module_name() -> None:
    env = gymnasium.make("vap_sim:VAPTwin-DROID-v0", task="reach")
    assert isinstance(env.unwrapped, TwinEnv)
    env.close()
