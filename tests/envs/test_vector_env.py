"""Many dreams at once: equal to single ones row by row, in every autoreset mode, with one model call a step."""

from __future__ import annotations

import warnings
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode

import vap_sim  # noqa: F401 - registers the environments
from tests.envs.test_world_env import Recording
from vap_sim.envs.observations import Observation
from vap_sim.envs.start import load_start
from vap_sim.envs.vector_env import WorldVectorEnv
from vap_sim.envs.world_env import WorldEnv
from vap_sim.errors import InvalidInput, UnknownName

NAME = "VAPWorld-DROID-v0"
ROWS = 3


def same(a: object, b: object) -> bool:
    return bool(data_equivalence(a, b, exact=True))


def judge(observation: Observation, info: dict[str, Any]) -> tuple[float, bool]:
    """Ends episodes at different times in different rows."""
    angle = float(observation["joint_position"][0])
    return angle, int(abs(angle) * 1000) % 5 == 0


def pair(mode: str, **changes: Any) -> tuple[Any, Any]:
    """The native vector environment and Gymnasium's own over single ones."""
    options: dict[str, Any] = {"world": "kinematic", "judge": judge, "max_episode_steps": 5, **changes}
    sync = {"vectorization_mode": "sync", "vector_kwargs": {"autoreset_mode": AutoresetMode(mode)}}
    native = gymnasium.make_vec(NAME, num_envs=ROWS, autoreset_mode=mode, **options)
    return native, gymnasium.make_vec(NAME, num_envs=ROWS, **sync, **options)


@pytest.mark.parametrize("control_hz", [5.0, 15.0])
@pytest.mark.parametrize("mode", [mode.value for mode in AutoresetMode])
def test_equals_gymnasiums_own_bit_by_bit(mode: str, control_hz: float) -> None:
    native, sync = pair(mode, control_hz=control_hz)
    assert isinstance(native, WorldVectorEnv)
    assert native.metadata["autoreset_mode"] == sync.metadata["autoreset_mode"]
    assert native.single_observation_space == sync.single_observation_space
    assert native.action_space == sync.action_space
    assert same(native.reset(seed=5), sync.reset(seed=5))
    rng, ended = np.random.default_rng(0), np.zeros(2, int)
    for _ in range(14):
        actions = rng.uniform(-0.3, 0.3, (ROWS, 8)).astype(np.float32)
        mine, theirs = native.step(actions), sync.step(actions)
        assert same(mine, theirs)
        assert mine[0] in native.observation_space
        done = mine[2] | mine[3]
        ended += mine[2].sum(), mine[3].sum()
        if mode == AutoresetMode.DISABLED.value and done.any():
            assert same(
                native.reset(seed=9, options={"reset_mask": done}), sync.reset(seed=9, options={"reset_mask": done})
            )
    assert (ended > 0).all(), "the test must see both ends"
    assert native.np_random_seed == sync.np_random_seed
    states = [[generator.bit_generator.state for generator in env.np_random] for env in (native, sync)]
    assert states[0] == states[1]
    native.close()
    sync.close()


def test_a_row_equals_a_single_environment_whatever_the_others_do() -> None:
    rows, single = WorldVectorEnv(ROWS, world="kinematic"), WorldEnv(world="kinematic")
    observations, _ = rows.reset(seed=[7, 8, 9])
    alone, _ = single.reset(seed=8)
    rng = np.random.default_rng(0)
    for _ in range(4):
        assert all(np.array_equal(observations[key][1], alone[key]) for key in alone)
        actions = rng.uniform(-1, 1, (ROWS, 8)).astype(np.float32)
        observations, alone = rows.step(actions)[0], single.step(actions[1])[0]


def test_one_model_call_a_step() -> None:
    world = Recording()
    env = WorldVectorEnv(8, world=world)  # type: ignore[arg-type]
    env.reset(seed=0)
    assert len(world.seeds) == 1
    for _ in range(3):
        env.step(env.action_space.sample())
    assert [len(prompt) for prompt in world.prompts] == [8, 8, 8]


def test_rows_between_pictures_are_not_given_to_the_model() -> None:
    world = Recording()
    env = WorldVectorEnv(2, world=world, control_hz=15.0, autoreset_mode="Disabled")  # type: ignore[arg-type]
    env.reset(seed=0)
    env.step(np.zeros((2, 8), np.float32))
    env.reset(options={"reset_mask": np.array([True, False])})
    counts = []
    for _ in range(4):
        env.step(np.zeros((2, 8), np.float32))
        counts.append([len(prompt) for prompt in world.prompts])
        world.prompts.clear()
    assert counts == [[], [1], [1], []]


def test_make_vec_passes_the_time_limit() -> None:
    assert gymnasium.make_vec(NAME, num_envs=2, world="kinematic")._limit == 200
    for none in (None, -1):
        assert WorldVectorEnv(2, none, world="kinematic")._limit == np.inf


def test_fork_and_single_rows() -> None:
    env = WorldVectorEnv(ROWS, world="kinematic")
    env.reset(seed=0)
    actions = np.random.default_rng(2).uniform(-0.5, 0.5, (4, ROWS, 8)).astype(np.float32)
    env.step(actions[0])
    state = env.get_state()
    ahead = [env.step(action) for action in actions[1:]]
    env.set_state(state)
    assert same([env.step(action) for action in actions[1:]], ahead)
    single = WorldEnv(world="kinematic")
    single.set_state(state.index([2]))
    assert np.array_equal(single.step(actions[1][2])[0]["image"], ahead[0][0]["image"][2])
    with pytest.raises(InvalidInput, match="state: given 1 rows, expected 3"):
        env.set_state(state.index([0]))
    with pytest.raises(InvalidInput, match="state: given NoneType"):
        env.set_state(None)  # type: ignore[arg-type]


def test_starts_one_for_all_or_one_a_row() -> None:
    env = WorldVectorEnv(ROWS, world="kinematic")
    names = ["push_00", "reach_01", None]
    _, infos = env.reset(seed=0, options={"start": names})
    assert infos["start"].tolist()[:2] == names[:2]
    assert infos["start"][2].startswith("pick_place")
    _, infos = env.reset(options={"start": "push_03"})
    assert infos["start"].tolist() == ["push_03"] * 3
    with pytest.raises(InvalidInput, match="starts: given 2 of them, expected one, or 3"):
        env.reset(options={"start": names[:2]})
    with pytest.raises(InvalidInput, match="seeds: given 2 of them, expected 3"):
        env.reset(seed=[1, 2])


def test_failed_reset_changes_nothing() -> None:
    env = WorldVectorEnv(ROWS, world="kinematic")
    env.reset(seed=0)
    state, seeds = env.get_state(), env.np_random_seed
    generators = [generator.bit_generator.state for generator in env.np_random]
    with pytest.raises(UnknownName, match=r"unknown start 'push_0'. Did you mean 'push_0"):
        env.reset(seed=3, options={"start": ["push_01", "push_0", "push_02"]})
    small = {"image": np.zeros((8, 8, 3), np.uint8), "joints": np.zeros(8), "camera": "exterior_1"}
    with pytest.raises(InvalidInput, match="size of camera"):
        env.reset(seed=3, options={"start": ["push_01", "push_01", small]})
    with pytest.raises(InvalidInput, match="size of the pictures"):
        env.reset(options={"start": [None, None, load_start("push_01").resized((64, 64))]})
    assert env.get_state() is state
    assert env.np_random_seed == seeds
    assert [generator.bit_generator.state for generator in env.np_random] == generators


@pytest.mark.parametrize("mask", [[True, False, True], np.ones(2, bool), np.ones(3), np.zeros(3, bool)])
def test_masks_that_do_not_fit_are_named(mask: Any) -> None:
    env = WorldVectorEnv(ROWS, world="kinematic", autoreset_mode="Disabled")
    env.reset(seed=0)
    with pytest.raises(InvalidInput, match=r"reset_mask: given .*expected a numpy array \(3,\) of bool"):
        env.reset(options={"reset_mask": mask})


def test_mask_is_the_callers_own() -> None:
    env = WorldVectorEnv(ROWS, world="kinematic", autoreset_mode=AutoresetMode.DISABLED)
    options = {"reset_mask": np.array([True, False, False])}
    with pytest.raises(ResetNeeded, match=r"call reset\(\) first"):
        env.reset(options=options)
    env.reset(seed=0)
    env.reset(options=options)
    assert "reset_mask" in options


def test_rows_that_are_over_must_be_reset_when_autoreset_is_off() -> None:
    env = WorldVectorEnv(ROWS, 1, AutoresetMode.DISABLED, world="kinematic")
    env.reset(seed=0)
    env.step(env.action_space.sample())
    with pytest.raises(ResetNeeded, match=r"Rows \[0, 1, 2\] are over: call reset\(options={'reset_mask': mask}\)"):
        env.step(env.action_space.sample())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"num_envs": 0}, "num_envs: given 0, expected at least 1"),
        ({"render_mode": "human"}, "render_mode of a vector environment: given human"),
        ({"autoreset_mode": "next"}, r"unknown autoreset_mode 'next'. Did you mean 'NextStep'|Known: 'NextStep'"),
    ],
)
def test_bad_arguments_are_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises((InvalidInput, UnknownName), match=words):
        WorldVectorEnv(**{"num_envs": 2, "world": "kinematic", **change})


def test_bad_actions_are_named() -> None:
    env = WorldVectorEnv(ROWS, world="kinematic")
    env.reset(seed=0)
    with pytest.raises(InvalidInput, match=r"actions: given shape \(8,\), expected \(3, 8\), one row an environment"):
        env.step(np.zeros(8, np.float32))


def test_render_profile_and_close() -> None:
    env = WorldVectorEnv(2, world="kinematic", render_mode="rgb_array", render_views=("image", "prompt"))
    with pytest.raises(ResetNeeded, match="no dreams yet"):
        env.render()
    observations, _ = env.reset(seed=0)
    pictures = env.render()
    assert pictures is not None
    for row in range(2):
        assert np.array_equal(pictures[row][:, :128], observations["image"][row])
    assert not np.array_equal(pictures[0][:, 128:], pictures[1][:, 128:])
    env.step(env.action_space.sample())
    assert env.profile.steps == 1
    env.close()
    env.close()
    for verb in (env.reset, env.render, env.get_state, lambda: env.step(None)):  # type: ignore[arg-type]
        with pytest.raises(ClosedEnvironmentError, match="closed"):
            verb()
    with pytest.warns(UserWarning, match="render_mode='rgb_array'"):
        assert WorldVectorEnv(2, world="kinematic").render() is None


def test_gymnasium_wrappers_accept_it() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gymnasium.make_vec(NAME, num_envs=2, world="kinematic", max_episode_steps=2)
        wrapped = gymnasium.wrappers.vector.RecordEpisodeStatistics(env)
        wrapped.reset(seed=0)
        for _ in range(3):
            _, _, _, _, infos = wrapped.step(env.action_space.sample())
            if "episode" in infos:
                assert infos["episode"]["l"].tolist() == [2, 2]
        wrapped.close()
