"""Limits of trust: episodes are truncated with a reason, and rows stop and begin again as single environments do."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.envs import TrustLimit, TrustLimits, TrustLimitVector
from vap_sim.envs.trust_limit import REASON, row_info
from vap_sim.errors import InvalidInput, Unsupported

OPTIONS: dict[str, Any] = {"world": "kinematic", "trust": True, "task": "push"}
ACTIONS = np.array([[0.9, 0.4, 0, 0.5, 0, 0, 0, 0], [-0.2, 0, 0, 0, 0, 0, 0, 0]], np.float32)


class Scripted(gym.Env[int, int]):
    """Tells the signals that it was given, one dict a step."""

    observation_space = action_space = gym.spaces.Discrete(2)

    def __init__(self, *infos: dict[str, float]) -> None:
        self.infos = list(infos)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        return 0, {"prompt_agreement": 1.0, "dream_drift": 0.0, "dream_doubt": 0.0, "dream_risk": 0.0}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        return 0, 0.0, False, False, dict(self.infos.pop(0))


@pytest.mark.parametrize(
    ("limits", "good", "bad"),
    [
        (TrustLimits(agreement=0.5), {"prompt_agreement": 0.5}, {"prompt_agreement": 0.49}),
        (TrustLimits(doubt=0.5), {"dream_doubt": 0.5}, {"dream_doubt": 0.51}),
        (TrustLimits(drift=1.0), {"dream_drift": 1.0, "dream_risk": 1.0}, {"dream_drift": 1.1}),
        (TrustLimits(risk=0.3, drift=1.0), {"prompt_agreement": 0.0}, {"dream_risk": 0.31, "dream_drift": 0.0}),
    ],
)
def test_a_signal_beyond_its_limit_truncates_and_says_why(
    limits: TrustLimits, good: dict[str, float], bad: dict[str, float]
) -> None:
    env = TrustLimit(Scripted(good, bad), limits)
    env.reset()
    _, _, terminated, truncated, info = env.step(0)
    assert (terminated, truncated, REASON in info) == (False, False, False)
    _, _, terminated, truncated, info = env.step(0)
    assert (terminated, truncated) == (False, True)
    assert next(iter(bad)) in info[REASON]


def test_limits_that_ask_nothing_or_nonsense_are_refused() -> None:
    for wrong in ({}, {"doubt": -1.0}, {"risk": float("nan")}):
        with pytest.raises(InvalidInput, match="limits of trust"):
            TrustLimits(**wrong)


def test_signals_that_do_not_exist_are_named_at_the_reset() -> None:
    env = TrustLimit(gym.make("VAPWorld-DROID-v0", **OPTIONS), TrustLimits(doubt=1.0, agreement=0.2))
    with pytest.raises(Unsupported, match="world 'kinematic' gives no dream_doubt"):
        env.reset(seed=0)
    env = TrustLimit(gym.make("VAPWorld-DROID-v0", **{**OPTIONS, "trust": False}), TrustLimits(agreement=0.2))
    with pytest.raises(Unsupported, match="gives no signals of trust"):
        env.reset(seed=0)
    with pytest.raises(Unsupported, match="autoreset mode"):
        TrustLimitVector(gym.vector.SyncVectorEnv([Scripted]).env_fns and Foreign(), TrustLimits(agreement=0.2))


class Foreign(gym.vector.VectorEnv):  # type: ignore[type-arg]
    """A vector environment that says nothing of itself."""

    num_envs = 1


def told(info: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in info.items() if name.startswith(("prompt_", "dream_", "start", REASON))}


def chosen_limits() -> TrustLimits:
    """A limit of agreement that some steps of two rows pass and others do not."""
    envs = gym.make_vec("VAPWorld-DROID-v0", num_envs=2, **OPTIONS)
    envs.reset(seed=0)
    seen = [envs.step(ACTIONS)[4]["prompt_agreement"] for _ in range(4)]
    envs.close()
    return TrustLimits(agreement=float(np.median(seen)))


def test_rows_stop_and_begin_again_as_single_environments_do() -> None:
    limits, steps = chosen_limits(), 5
    envs = TrustLimitVector(gym.make_vec("VAPWorld-DROID-v0", num_envs=2, **OPTIONS), limits)
    singles = [TrustLimit(gym.make("VAPWorld-DROID-v0", **OPTIONS), limits) for _ in range(2)]
    observations, _ = envs.reset(seed=0)
    over, stops = [False, False], 0
    for row, env in enumerate(singles):
        np.testing.assert_array_equal(env.reset(seed=row)[0]["image"], observations["image"][row])
    for _ in range(steps):
        observations, _, _, truncated, infos = envs.step(ACTIONS)
        for row, env in enumerate(singles):
            if over[row]:
                (single, info), over[row] = env.reset(), False
            else:
                single, _, _, over[row], info = env.step(ACTIONS[row])
                stops += over[row]
            np.testing.assert_array_equal(single["image"], observations["image"][row])
            assert told(info) == told(row_info(infos, row))
            assert bool(truncated[row]) == over[row]
    assert 0 < stops < 2 * steps
    for env in (envs, *singles):
        env.close()


def test_rows_that_stop_begin_again_at_once_where_that_is_the_mode() -> None:
    limits = chosen_limits()
    mode = AutoresetMode.SAME_STEP
    envs = TrustLimitVector(gym.make_vec("VAPWorld-DROID-v0", num_envs=2, autoreset_mode=mode, **OPTIONS), limits)
    bare = gym.make_vec("VAPWorld-DROID-v0", num_envs=2, **OPTIONS)
    for one in (envs, bare):
        one.reset(seed=0)
    for _ in range(3):
        _, _, _, truncated, infos = envs.step(ACTIONS)
        if truncated.any():
            break
        bare.step(ACTIONS)
    last = bare.step(ACTIONS)[0]
    assert truncated.any()
    for row in np.flatnonzero(truncated):
        np.testing.assert_array_equal(infos["final_obs"][row]["image"], last["image"][row])
        assert "prompt_agreement" in infos["final_info"][REASON][row]
        assert row_info(infos, int(row))["steps"] == 0
    for row in np.flatnonzero(~truncated):
        assert row_info(infos, int(row))["steps"] > 0
        assert "final_info" not in row_info(infos, int(row))
    envs.close()
    bare.close()
