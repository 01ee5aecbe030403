"""What every environment must do. A new one adds a class of a few lines to test_envs.py."""

from __future__ import annotations

import pickle
import time
import warnings
from typing import ClassVar

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import SyncVectorEnv

from tests.contracts.env_subject import EnvSubject, moves, play, same
from vap_sim.envs.start import load_start
from vap_sim.robots.actions import action_spec


class EnvContract:
    """Seeds, spaces, rates, states that fork, and what Gymnasium asks for."""

    subject: ClassVar[EnvSubject]

    def test_gymnasium_checker_has_no_objection_and_no_warning(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(self.subject.bare())

    def test_stable_baselines_checker_only_recommends_another_range_for_the_gripper(self) -> None:
        checker = pytest.importorskip(
            "stable_baselines3.common.env_checker", reason="stable-baselines3 is not installed"
        )
        env = self.subject.bare()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message="We recommend you to use a symmetric and normalized Box")
            checker.check_env(env)
        env.close()

    def test_equal_seeds_and_actions_give_equal_bits(self) -> None:
        results = []
        for _ in range(2):
            env = self.subject.make()
            results.append([env.reset(seed=11), *play(env, 3), env.reset()])
            env.close()
        assert same(results[0], results[1])

    def test_other_seeds_begin_elsewhere(self) -> None:
        env = self.subject.bare()
        pictures = [env.reset(seed=seed)[0]["image"].tobytes() for seed in range(4)]
        env.close()
        assert len(set(pictures)) > 1

    def test_observations_stay_in_the_space_and_follow_the_actions(self) -> None:
        env = self.subject.bare()
        first, _ = env.reset(seed=1)
        high, _, _, _, _ = env.step(env.action_space.high)
        env.reset(seed=1)
        low, _, _, _, _ = env.step(env.action_space.low)
        for observation in (first, high, low):
            assert observation in env.observation_space
        for key in ("image", "joint_position"):
            assert not np.array_equal(high[key], low[key]), f"{key} does not depend on the action"
        env.close()

    def test_each_entry_of_an_action_moves_its_own_joint(self) -> None:
        env = self.subject.bare(control="joint_velocity")
        start, _ = env.reset(seed=1)
        state, spec = env.get_state(), action_spec(self.subject.model, "joint_velocity")
        for entry in range(spec.size - 1):
            env.set_state(state)
            action = np.zeros(spec.size, np.float32)
            action[entry] = 0.2
            moved = env.step(action)[0]["joint_position"] - start["joint_position"]
            assert np.abs(moved).argmax() == entry
            assert moved[entry] > 0.05
            assert np.abs(np.delete(moved, entry)).max() < 0.01
        env.close()

    def test_fork_goes_on_bit_by_bit(self) -> None:
        env = self.subject.bare()
        env.reset(seed=2)
        play(env, 2)
        state = env.get_state()
        assert state.nbytes <= 2**20
        ahead = play(env, 3)
        env.set_state(state)
        again = play(env, 3)
        assert same(ahead, again)
        env.set_state(state)
        assert env.get_state().nbytes == state.nbytes
        env.close()

    def test_fork_is_quick(self) -> None:
        env = self.subject.bare()
        env.reset(seed=2)
        taken = []
        for _ in range(20):
            began = time.perf_counter()
            env.set_state(env.get_state())
            taken.append(time.perf_counter() - began)
        env.close()
        assert min(taken) < self.subject.fork_seconds

    def test_reset_begins_where_it_is_told(self) -> None:
        env = self.subject.bare(task=self.subject.task)
        observation, info = env.reset(seed=0, options={"start": self.subject.start, "my_own_note": 1})
        start = load_start(self.subject.start)
        assert info["start"] == self.subject.start
        assert info["instruction"] == start.instruction
        assert info["scene"]["objects"][0]["color"] == start.scene["objects"][0]["color"]
        arm = start.joints[torch.arange(len(start.joints)) != self.subject.gripper]
        assert np.abs(observation["joint_position"] - arm.numpy()).max() < 2e-3
        difference = np.abs(observation["image"].astype(int) - start.frames[0].numpy())
        assert difference.mean() < 0.5
        env.close()

    def test_nothing_returned_is_read_again(self) -> None:
        env = self.subject.bare()
        first, info = env.reset(seed=2)
        state = env.get_state()
        expected = play(env, 2)
        env.set_state(state)
        told = [(first, info), *((row[0], row[4]) for row in play(env, 1))]
        for observation, details in told:
            for value in (*observation.values(), details["joints"]):
                value[...] = 0
        info.get("scene", {}).clear()
        env.set_state(state)
        assert same(play(env, 2), expected)
        again, details = env.reset(seed=2)
        assert again["image"].any()
        assert "objects" in details["scene"]
        env.close()

    def test_info_says_what_it_is(self) -> None:
        env = self.subject.bare()
        _, info = env.reset(seed=2)
        assert info["steps"] == 0
        info = play(env, 2)[-1][4]
        assert info["steps"] == 2
        assert info["joints"].shape == (self.subject.model.robot.num_joints,)
        assert info["joints"].dtype == np.float32
        assert info["state_source"] in ("nominal", "measured")
        assert info["new_frame"] is True
        assert isinstance(info["instruction"], str)
        assert isinstance(info["world"], str)
        env.close()

    def test_several_actions_a_picture(self) -> None:
        env, each = self.subject.fast(), self.subject.intervals
        assert env.metadata["render_fps"] == each * self.subject.station.video_hz
        before, info = env.reset(seed=1)
        assert info["new_frame"]
        for step, action in enumerate(moves(env, 2 * each), start=1):
            after, _, _, _, info = env.step(action)
            assert info["new_frame"] is (step % each == 0)
            assert np.array_equal(before["image"], after["image"]) is (step % each != 0)
            assert not np.array_equal(before["joint_position"], after["joint_position"])
            before = after
        env.close()

    def test_fork_between_two_pictures(self) -> None:
        env = self.subject.fast()
        env.reset(seed=1)
        play(env, self.subject.intervals + 1)
        state = env.get_state()
        ahead = play(env, 4)
        env.set_state(state)
        play(env, 1)
        env.set_state(state)
        assert same(play(env, 4), ahead)
        env.close()

    def test_time_limit_truncates_and_the_world_goes_on(self) -> None:
        env = self.subject.make(max_episode_steps=2)
        env.reset(seed=0)
        assert [row[3] for row in play(env, 3)] == [False, True, True]
        env.reset()
        assert not play(env, 1)[0][3]
        env.close()

    def test_default_time_limit(self) -> None:
        assert gymnasium.spec(self.subject.name).max_episode_steps == 200

    def test_spec_is_picklable(self) -> None:
        env = self.subject.make(task=self.subject.task)
        spec = pickle.loads(pickle.dumps(env.spec))
        env.close()
        copies = [gymnasium.make(spec), spec.make()]
        assert same(copies[0].reset(seed=3), copies[1].reset(seed=3))
        for env in copies:
            env.close()

    def test_sync_vector_env_works(self) -> None:
        rows = SyncVectorEnv([lambda: self.subject.make(task=self.subject.task)] * 2)
        observations, infos = rows.reset(seed=4)
        env = self.subject.make(task=self.subject.task)
        single, _ = env.reset(seed=5)
        assert np.array_equal(observations["image"][1], single["image"])
        assert infos["joints"].shape == (2, self.subject.model.robot.num_joints)
        observations, rewards, _, _, _ = rows.step(rows.action_space.sample())
        assert observations["image"].shape == (2, 128, 128, 3)
        assert rewards.shape == (2,)
        rows.close()
        env.close()
