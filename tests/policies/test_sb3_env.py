"""Stable-Baselines3 sees the vector environment as it is, trains on it, and what it saved acts as it did."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.envs.start import load_start
from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.policies.judge import CallableJudge
from vap_sim.policies.judge_reward import JudgeReward
from vap_sim.policies.reach_reward import ReachReward
from vap_sim.policies.registry import load_policy
from vap_sim.robots.library import load_robot

sb3 = pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed (extra rl)")
DREAM: dict[str, Any] = {"world": "kinematic", "task": "reach"}
JOINTS = ("joint_position", "gripper_position")


def opened(**changes: Any) -> Any:
    from vap_sim.policies.sb3_env import DreamVecEnv

    return DreamVecEnv(**{**DREAM, "num_envs": 2, "max_episode_steps": 3, **changes})


def turned() -> JudgeReward:
    """Says yes where the arm has turned its base."""
    return JudgeReward(CallableJudge(lambda _first, _last, joints, _text: bool(joints[0] > 0.05)), "reach")


def actions(env: Any, count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.uniform(-0.1, 0.1, (env.num_envs, 8)).astype(np.float32) for _ in range(count)]


def test_rows_are_what_the_vector_environment_shows() -> None:
    """Against the environment itself, over an end: observation, terminal observation, flags, sums."""
    env = opened()
    env.seed(7)
    mine = env.reset()
    other = gymnasium.make_vec("VAPWorld-DROID-v0", num_envs=2, max_episode_steps=3, autoreset_mode="SameStep", **DREAM)
    theirs, _ = other.reset(seed=7)
    assert sorted(mine) == ["gripper_position", "image", "image_wrist", "joint_position"]
    for step, action in enumerate(actions(env, 4), 1):
        assert all(np.array_equal(mine[key], theirs[key]) for key in mine)
        mine, rewards, over, infos = env.step(action)
        theirs, _, _, truncated, told = other.step(action)
        assert rewards.dtype == np.float32 and np.array_equal(over, truncated)
        assert over.tolist() == [step == 3] * 2 == [info["TimeLimit.truncated"] for info in infos]
        for row, info in enumerate(infos):
            assert ("terminal_observation" in info) == (step == 3) == ("episode" in info)
            assert info["steps"] == (step if step < 4 else 1)
            if step == 3:
                assert info["episode"] == {"r": 0.0, "l": 3}
                assert np.array_equal(info["terminal_observation"]["image"], told["final_obs"][row]["image"])
                assert "start" not in info and env.reset_infos[row]["start"].startswith("reach_")
    other.close()
    env.close()


def test_a_row_that_is_done_is_not_truncated() -> None:
    """Only row 0 turns its base as far as the judge asks for; at the last step it is done and time is up."""
    env = opened(reward=turned(), max_episode_steps=2, keys=JOINTS, start="reach_00")
    first = env.reset()
    turn = np.zeros((2, 8), np.float32)
    turn[0, 0] = 0.3 if first["joint_position"][0, 0] < 0.05 else 0.0
    env.step(0 * turn)
    seen, rewards, over, infos = env.step(turn)
    assert over.tolist() == [True, True] and rewards.tolist() == [1.0, 0.0]
    assert [info["TimeLimit.truncated"] for info in infos] == [False, True]
    assert [info["episode"]["r"] for info in infos] == [1.0, 0.0]
    assert infos[0]["terminal_observation"]["joint_position"][0] > 0.05
    assert sorted(seen) == sorted(JOINTS) and np.array_equal(seen["joint_position"][0], seen["joint_position"][1])
    env.close()


def test_seeds_options_and_checks_of_the_library(tmp_path: Path) -> None:
    from stable_baselines3.common.vec_env import VecCheckNan, VecMonitor

    env = opened(render_mode="rgb_array")
    env.seed(3)
    env.set_options([{"start": "reach_03"}, {"start": "reach_01"}])
    shown = env.reset()
    for row, name in enumerate(("reach_03", "reach_01")):
        assert np.array_equal(shown["image"][row], load_start(name).frames[0].numpy())
    env.seed(3)
    again = env.reset()
    env.seed(3)
    assert np.array_equal(env.reset()["image"], again["image"])
    wrapped = VecMonitor(VecCheckNan(env, raise_exception=True), str(tmp_path / "log.csv"))
    wrapped.reset()
    for action in actions(env, 3):
        _, _, over, infos = wrapped.step(action)
    assert over.all() and infos[0]["episode"]["l"] == 3
    assert env.get_images()[0].shape == (128, 128, 3) and wrapped.render("rgb_array").shape[2] == 3
    assert env.get_attr("num_envs") == [2, 2] and env.get_attr("num_envs", 0) == [2]
    assert env.env_is_wrapped(gymnasium.Wrapper) == [False, False]
    wrapped.close()


@pytest.mark.parametrize("algorithm", ["PPO", "SAC"])
def test_it_trains_saves_and_acts_as_it_did(algorithm: str, tmp_path: Path) -> None:
    env = opened(keys=JOINTS, reward=ReachReward(turned()))
    quick = {"n_steps": 4, "batch_size": 8, "n_epochs": 1} if algorithm == "PPO" else {"learning_starts": 4}
    small = {"policy_kwargs": {"net_arch": [8]}, "seed": 0, "device": "cpu"}
    model = getattr(sb3, algorithm)("MultiInputPolicy", env, **quick, **small)
    before = [value.clone() for value in model.policy.parameters()]
    model.learn(12)
    after = list(model.policy.parameters())
    assert any((one != other).any() for one, other in zip(before, after, strict=True)), "nothing was learned"
    assert model.num_timesteps >= 12 and len(model.ep_info_buffer) >= 4, "no episode was told"
    model.save(tmp_path / "model.zip")
    policy = load_policy(f"sb3@{tmp_path}/model.zip", trust=True, algorithm=algorithm)
    seen = env.reset()
    wanted, _ = model.predict(seen, deterministic=True)
    # The environments that it is tested in show pictures too, which it does not look at.
    shown = {**seen, "image": np.zeros((2, 128, 128, 3), np.uint8)}
    assert np.array_equal(policy.act(shown, policy.reset(2, 0))[0], wanted)
    env.close()


def test_nearness_is_paid_once() -> None:
    """What a way earns is what it leads nearer; what is read from the picture is where the scene has the object."""
    reward = ReachReward(turned(), per_metre=5.0)
    off = []
    for name in ("reach_00", "reach_01", "reach_02", "push_00"):
        start = load_start(name)
        target = reward.target(start)
        assert target is not None and start.scene is not None
        thing = start.scene["objects"][0]
        off.append(np.hypot(target[0] - thing["x"], target[1] - thing["y"]))
    assert np.median(off) < 0.02, f"{off} m from the objects"
    env = gymnasium.make("VAPWorld-DROID-v0", judge=reward, start="reach_00", **DREAM)
    env.reset(seed=0)
    turn = np.zeros(8, np.float32)
    turn[1] = 0.05
    total, left = 0.0, []
    for action in (turn, turn, -turn, -turn):
        _, gained, _, _, info = env.step(action)
        total += float(gained)
        left.append(info["distance_seen"])
    start, model = load_start("reach_00"), load_robot("panda_robotiq")
    tool = model.robot.forward(start.joints)[model.robot.link_index(model.tool_link), :3, 3].numpy()
    target = reward.target(start)
    assert target is not None
    # Whatever the way, its sum is what was gained from end to end.
    assert total == pytest.approx(5.0 * (np.linalg.norm(tool - target) - left[-1]), abs=1e-4)
    assert left[1] != pytest.approx(left[0], abs=1e-4)
    state = env.unwrapped.get_state()
    env.step(turn)
    env.unwrapped.set_state(state)
    assert env.step(-10 * turn)[1] == 0.0, "after a jump nobody knows what was left before"
    assert reward.target(replace(start, instruction="move the red one above the blue one")) is None
    env.close()


def test_misuse_is_named() -> None:
    for changes, error, words in (
        ({"keys": ("joints",)}, UnknownName, "observation key"),
        ({"num_envs": 0}, InvalidInput, "num_envs"),
        ({"env_id": "VAPTwin-DROID-v0"}, Unsupported, "no vector form"),
    ):
        with pytest.raises(error, match=words):
            opened(**changes)
    env = opened()
    for call in (lambda: env.set_attr("x", 1), lambda: env.env_method("reset")):
        with pytest.raises(Unsupported, match="of single dreams cannot be"):
            call()
    env.reset()
    with pytest.raises(InvalidInput, match="step_async"):
        env.step_wait()
    env.close()
    with pytest.raises(InvalidInput, match="'reach', whose goal"):
        ReachReward(JudgeReward(turned().judge, "push"))
    with pytest.raises(InvalidInput, match="above and per_metre"):
        ReachReward(turned(), above=2.0)
    with pytest.raises(InvalidInput, match="info for nearness"):
        ReachReward(turned())({}, {"steps": 1})
