"""What every environment must obey. A new one adds a class of a few lines to test_envs.py."""

from __future__ import annotations

import pickle
import time
import warnings
from copy import deepcopy
from typing import Any, ClassVar

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import SyncVectorEnv

from vap_sim.envs.start import load_start
from vap_sim.errors import InvalidInput, UnknownName, Unsupported

Step = tuple[dict[str, Any], float, bool, bool, dict[str, Any]]


def same(a: object, b: object) -> bool:
    """Whether two results of an environment are equal bit by bit."""
    return bool(data_equivalence(a, b, exact=True))


class EnvContract:
    """`name` and `arguments` make the environment; `start` is one it can begin from; `fork_seconds` bounds a fork."""

    name: ClassVar[str]
    arguments: ClassVar[dict[str, Any]] = {}
    start: ClassVar[str] = "push_01"
    fork_seconds: ClassVar[float] = 1e-3

    def make(self, **changes: Any) -> gymnasium.Env[Any, Any]:
        return gymnasium.make(self.name, **{**self.arguments, **changes})

    def bare(self, **changes: Any) -> Any:
        """The environment without wrappers; typed loosely, to reach what Gymnasium does not know."""
        return self.make(**changes).unwrapped

    def moves(self, env: Any, steps: int) -> list[np.ndarray]:
        """The same gentle random actions for every environment with these bounds."""
        rng, space = np.random.default_rng(3), env.action_space
        middle, reach = (space.high + space.low) / 2, (space.high - space.low) / 4
        return [(middle + reach * rng.uniform(-1, 1, space.shape)).astype(np.float32) for _ in range(steps)]

    def play(self, env: Any, steps: int) -> list[Step]:
        return [env.step(action) for action in self.moves(env, steps)]

    def test_gymnasium_checker_has_no_objection_and_no_warning(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(self.bare())

    def test_stable_baselines_checker_only_recommends_another_range_for_the_gripper(self) -> None:
        checker = pytest.importorskip(
            "stable_baselines3.common.env_checker", reason="stable-baselines3 is not installed"
        )
        env = self.bare()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", message="We recommend you to use a symmetric and normalized Box")
            checker.check_env(env)
        env.close()

    def test_equal_seeds_and_actions_give_equal_bits(self) -> None:
        results = []
        for _ in range(2):
            env = self.make()
            results.append([env.reset(seed=11), *self.play(env, 3), env.reset()])
            env.close()
        assert same(results[0], results[1])

    def test_other_seeds_begin_elsewhere(self) -> None:
        env = self.bare()
        pictures = [env.reset(seed=seed)[0]["image"].tobytes() for seed in range(4)]
        env.close()
        assert len(set(pictures)) > 1

    def test_observations_stay_in_the_space_and_follow_the_actions(self) -> None:
        env = self.bare()
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
        env = self.bare(control="joint_velocity")
        start, _ = env.reset(seed=1)
        state = env.get_state()
        for entry in range(7):
            env.set_state(state)
            action = np.zeros(8, np.float32)
            action[entry] = 0.2
            moved = env.step(action)[0]["joint_position"] - start["joint_position"]
            assert np.abs(moved).argmax() == entry
            assert moved[entry] > 0.05
            assert np.abs(np.delete(moved, entry)).max() < 0.01
        env.close()

    def test_fork_goes_on_bit_by_bit(self) -> None:
        env = self.bare()
        env.reset(seed=2)
        self.play(env, 2)
        state = env.get_state()
        assert state.nbytes <= 2**20
        ahead = self.play(env, 3)
        env.set_state(state)
        again = self.play(env, 3)
        assert same(ahead, again)
        env.set_state(state)
        assert env.get_state().nbytes == state.nbytes
        env.close()

    def test_fork_is_quick(self) -> None:
        env = self.bare()
        env.reset(seed=2)
        taken = []
        for _ in range(20):
            began = time.perf_counter()
            env.set_state(env.get_state())
            taken.append(time.perf_counter() - began)
        env.close()
        assert min(taken) < self.fork_seconds

    def test_state_of_another_control_is_refused_and_changes_nothing(self) -> None:
        env, other = self.bare(), self.bare(control="joint_position")
        env.reset(seed=2)
        other.reset(seed=2)
        state = env.get_state()
        expected = self.play(env, 1)
        env.set_state(state)
        with pytest.raises(InvalidInput, match=r"control 'joint_position'.*expected.*control 'joint_velocity'"):
            env.set_state(other.get_state())
        with pytest.raises(InvalidInput, match="state: given int, expected what get_state returned"):
            env.set_state(3)
        assert same(self.play(env, 1), expected)
        env.close()
        other.close()

    def test_failed_reset_changes_nothing(self) -> None:
        env = self.bare()
        env.reset(seed=2)
        generator, state = deepcopy(env.np_random.bit_generator.state), env.get_state()
        expected = self.play(env, 1)
        env.set_state(state)
        for seed in (None, 7):
            with pytest.raises(UnknownName, match=r"unknown start 'pushh_01'. Did you mean 'push_01'"):
                env.reset(seed=seed, options={"start": "pushh_01"})
            with pytest.raises(InvalidInput, match="size of the pictures of start 'push_01'"):
                env.reset(seed=seed, options={"start": load_start(self.start).resized((64, 64))})
        assert env.np_random.bit_generator.state == generator
        assert env.np_random_seed == 2
        assert same(self.play(env, 1), expected)
        env.close()

    def test_reset_begins_where_it_is_told(self) -> None:
        env = self.bare(task="push")
        observation, info = env.reset(seed=0, options={"start": self.start, "my_own_note": 1})
        start = load_start(self.start)
        assert info["start"] == self.start
        assert info["instruction"] == start.instruction
        assert info["scene"]["objects"][0]["color"] == start.scene["objects"][0]["color"]
        assert np.abs(observation["joint_position"] - start.joints[:7].numpy()).max() < 2e-3
        difference = np.abs(observation["image"].astype(int) - start.frames[0].numpy())
        assert difference.mean() < 0.5
        env.close()

    def test_nothing_returned_is_read_again(self) -> None:
        env = self.bare()
        first, info = env.reset(seed=2)
        state = env.get_state()
        expected = self.play(env, 2)
        env.set_state(state)
        told = [(first, info), *((row[0], row[4]) for row in self.play(env, 1))]
        for observation, details in told:
            for value in (*observation.values(), details["joints"]):
                value[...] = 0
        info.get("scene", {}).clear()
        env.set_state(state)
        assert same(self.play(env, 2), expected)
        again, details = env.reset(seed=2)
        assert again["image"].any()
        assert "objects" in details["scene"]
        env.close()

    def test_info_says_what_it_is(self) -> None:
        env = self.bare()
        _, info = env.reset(seed=2)
        assert info["steps"] == 0
        info = self.play(env, 2)[-1][4]
        assert info["steps"] == 2
        assert info["joints"].shape == (8,)
        assert info["joints"].dtype == np.float32
        assert info["state_source"] in ("nominal", "measured")
        assert info["new_frame"] is True
        assert isinstance(info["instruction"], str)
        assert isinstance(info["world"], str)
        env.close()

    def test_three_actions_a_picture(self) -> None:
        env = self.bare(control_hz=15.0, video_hz=5.0)
        assert env.metadata["render_fps"] == 15
        before, info = env.reset(seed=1)
        assert info["new_frame"]
        for step, action in enumerate(self.moves(env, 6), start=1):
            after, _, _, _, info = env.step(action)
            assert info["new_frame"] is (step % 3 == 0)
            assert np.array_equal(before["image"], after["image"]) is (step % 3 != 0)
            assert not np.array_equal(before["joint_position"], after["joint_position"])
            before = after
        env.close()

    def test_fork_between_two_pictures(self) -> None:
        env = self.bare(control_hz=15.0, video_hz=5.0)
        env.reset(seed=1)
        self.play(env, 4)
        state = env.get_state()
        ahead = self.play(env, 4)
        env.set_state(state)
        self.play(env, 1)
        env.set_state(state)
        assert same(self.play(env, 4), ahead)
        env.close()

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"control_hz": 0.0}, "control_hz: given 0.0, expected a positive number"),
            ({"control_hz": 7.5}, "control_hz: given 7.5, expected an integer multiple of video_hz 5"),
            ({"video_hz": float("nan")}, "video_hz: given nan"),
            ({"control": "joint_torque"}, "unknown control mode 'joint_torque'"),
            ({"robot": "panda"}, "unknown robot 'panda'. Did you mean 'panda_robotiq'"),
            ({"task": "pul"}, "task"),
            ({"start": "push_001"}, "unknown start 'push_001'. Did you mean 'push_0"),
            ({"render_mode": "rgb"}, "unknown render_mode 'rgb'.*'rgb_array'"),
            ({"render_views": ("images",)}, "unknown render view 'images'. Did you mean 'image'"),
            ({"views": ()}, "views"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:.*not in the possible render_modes")
    def test_bad_arguments_are_named(self, change: dict[str, Any], words: str) -> None:
        with pytest.raises((InvalidInput, UnknownName), match=words):
            self.make(**change)

    def test_bad_actions_are_named_and_change_nothing(self) -> None:
        env = self.bare()
        env.reset(seed=2)
        state = env.get_state()
        expected = self.play(env, 1)
        env.set_state(state)
        with pytest.raises(InvalidInput, match=r"joint_velocity action: given shape \(1, 7\), expected \(1, 8\)"):
            env.step(np.zeros(7, np.float32))
        with pytest.raises(InvalidInput, match=r"panda_joint3.*nan"):
            env.step(np.array([0, 0, np.nan, 0, 0, 0, 0, 0], np.float32))
        assert same(self.play(env, 1), expected)
        env.close()

    def test_actions_beyond_the_box_are_clipped_or_refused(self) -> None:
        env, strict = self.bare(), self.bare(clip_actions=False)
        action = np.array([0.1, 0, 0, 0, 0, 0, 0, 1.7], np.float32)
        env.reset(seed=2)
        wild = env.step(action)
        env.reset(seed=2)
        assert same(env.step(np.clip(action, env.action_space.low, env.action_space.high)), wild)
        strict.reset(seed=2)
        with pytest.raises(InvalidInput, match=r"gripper of row 0: given 1.7"):
            strict.step(action)
        env.close()
        strict.close()

    def test_step_needs_a_reset_and_an_open_environment(self) -> None:
        env = self.bare(render_mode="rgb_array")
        for verb in (env.get_state, env.render, lambda: env.step(env.action_space.sample())):
            with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
                verb()
        env.reset(seed=0)
        state = env.get_state()
        env.close()
        env.close()
        for verb in (env.reset, env.get_state, env.render, lambda: env.step(None), lambda: env.set_state(state)):
            with pytest.raises(ClosedEnvironmentError, match="closed"):
                verb()

    def test_time_limit_truncates_and_the_world_goes_on(self) -> None:
        env = self.make(max_episode_steps=2)
        env.reset(seed=0)
        assert [row[3] for row in self.play(env, 3)] == [False, True, True]
        env.reset()
        assert not self.play(env, 1)[0][3]
        env.close()

    def test_default_time_limit(self) -> None:
        assert gymnasium.spec(self.name).max_episode_steps == 200

    def test_spec_is_picklable(self) -> None:
        env = self.make(task="push")
        spec = pickle.loads(pickle.dumps(env.spec))
        env.close()
        copies = [gymnasium.make(spec), spec.make()]
        assert same(copies[0].reset(seed=3), copies[1].reset(seed=3))
        for env in copies:
            env.close()

    def test_sync_vector_env_works(self) -> None:
        rows = SyncVectorEnv([lambda: self.make(task="push")] * 2)
        observations, infos = rows.reset(seed=4)
        env = self.make(task="push")
        single, _ = env.reset(seed=5)
        assert np.array_equal(observations["image"][1], single["image"])
        assert infos["joints"].shape == (2, 8)
        observations, rewards, _, _, _ = rows.step(rows.action_space.sample())
        assert observations["image"].shape == (2, 128, 128, 3)
        assert rewards.shape == (2,)
        rows.close()
        env.close()

    def test_render_shows_the_picture_and_the_prompt(self) -> None:
        env = self.bare(render_mode="rgb_array", render_views=("image", "prompt"))
        observation, _ = env.reset(seed=0)
        picture = env.render()
        assert picture.dtype == np.uint8
        assert picture.shape == (128, 256, 3)
        assert np.array_equal(picture[:, :128], observation["image"])
        prompt = picture[:, 128:]
        assert 0 < (prompt.max(-1) > 0).mean() < 0.3
        picture[...] = 0
        assert env.render().any()
        env.close()
        plain = self.bare(render_mode="rgb_array", render_views="image")
        observation, _ = plain.reset(seed=0)
        assert np.array_equal(plain.render(), observation["image"])
        plain.close()

    def test_render_without_a_mode_warns(self) -> None:
        env = self.bare()
        env.reset(seed=0)
        with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
            assert env.render() is None
        env.close()

    def test_human_mode_needs_a_display(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("vap_sim.envs.world_env.window_problem", lambda: "there is no display")
        with pytest.raises(Unsupported, match="there is no display; use render_mode='rgb_array'"):
            self.make(render_mode="human")
        env = self.bare()
        assert env.metadata["render_modes"] == ["rgb_array"]
        env.close()

    def test_human_mode_shows_every_picture(self, monkeypatch: pytest.MonkeyPatch) -> None:
        shown: list[np.ndarray] = []

        class Window:
            def __init__(self, title: str) -> None:
                assert title.startswith("VAPSim")

            def show(self, picture: np.ndarray) -> None:
                shown.append(picture)

            def close(self) -> None:
                shown.append(np.zeros(0, np.uint8))

        monkeypatch.setattr("vap_sim.envs.world_env.window_problem", lambda: None)
        monkeypatch.setattr(f"{type(self.bare()).__module__}.Window", Window)
        env = self.bare(render_mode="human")
        assert "human" in env.metadata["render_modes"]
        first, _ = env.reset(seed=0)
        after = self.play(env, 1)[0][0]
        assert env.render() is None
        env.close()
        for expected, picture in zip((first, after, after), shown[:3], strict=True):
            assert np.array_equal(picture, expected["image"])
        assert len(shown) == 4
