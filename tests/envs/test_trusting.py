"""The trust meter in environments: what it tells, that it changes nothing, and that rows do not leak."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.envs.trusting import SIGNALS, TrustMeter
from vap_sim.metrics.risk import Risk
from vap_sim.models.kinematic import KinematicWorld
from vap_sim.robots.library import RobotModel, load_robot

STILL = np.zeros(8, np.float32)


def told(info: dict[str, Any]) -> dict[str, float]:
    return {name: info[name] for name in SIGNALS if name in info}


@pytest.mark.parametrize("station", ["RT1", "EgoVid"])
def test_doubt_in_space_needs_no_camera_that_stands_still(station: str) -> None:
    env = gym.make(f"VAPWorld-{station}-v0", trust=True)
    for info in (env.reset(seed=0)[1], env.step(env.action_space.sample())[4]):
        assert {"dream_doubt", "dream_drift"} <= set(told(info)) and "dream_risk" not in info
    env.close()


def test_a_world_that_doubts_tells_all_signals_and_dreams_what_it_dreams_unasked() -> None:
    asked, plain = (gym.make("VAPWorld-DROID-v0", task="push", trust=trust).unwrapped for trust in (True, False))
    action = np.array([0.5, 0.8, 0, 0.5, 0, 0.4, 0, 0.5], np.float32)
    for env in (asked, plain):
        _, env.first = env.reset(seed=3)
    assert told(plain.first) == {}
    assert set(told(asked.first)) >= {"prompt_agreement", "dream_doubt", "dream_drift"}
    assert asked.first["dream_doubt"] == asked.first["dream_drift"] == 0
    for _ in range(3):
        (seen, *_, info), (bare, *_) = asked.step(action), plain.step(action)
        np.testing.assert_array_equal(seen["image"], bare["image"])
    assert info["dream_doubt"] >= 0 and info["dream_drift"] >= 0
    state = asked.get_state()
    again = told(asked.step(action)[4])
    asked.set_state(state)
    assert told(asked.step(action)[4]) == again
    assert state.nbytes > plain.get_state().nbytes
    for env in (asked, plain):
        env.close()


def test_a_world_without_doubt_has_none_and_no_risk() -> None:
    env = gym.make("VAPWorld-DROID-v0", world="kinematic", trust=True)
    _, info = env.reset(seed=0)
    assert set(told(info)) == {"prompt_agreement", "dream_drift"}
    assert set(told(env.step(STILL)[4])) == {"prompt_agreement", "dream_drift"}
    env.close()


def test_rows_are_told_what_each_is_told_alone() -> None:
    envs = gym.make_vec("VAPWorld-DROID-v0", num_envs=2, trust=True, task="push")
    envs.reset(seed=5)
    actions = np.stack([STILL + 0.4, STILL - 0.4])
    for _ in range(2):
        infos = envs.step(actions)[4]
    turned = envs.unwrapped.get_state().index([1, 0])
    for row in (0, 1):
        env = gym.make("VAPWorld-DROID-v0", trust=True, task="push")
        env.reset(seed=5 + row)
        for _ in range(2):
            info = env.step(actions[row])[4]
        alone = told(info)
        assert alone == {name: float(infos[name][row]) for name in SIGNALS if name in alone}
        assert turned.trust is not None
        assert turned.trust.told(1 - row) == alone
        env.close()
    envs.close()


def test_a_risk_of_another_world_is_not_told(model: RobotModel) -> None:
    risk = Risk(("doubt",), (0.0,), (1.0,), (1.0,), 0.0, world="compact")
    assert TrustMeter(model, KinematicWorld(), risk=risk).risk is None


def test_a_risk_of_another_robot_is_not_told(model: RobotModel) -> None:
    risk = Risk(("doubt",), (0.0,), (1.0,), (1.0,), 0.0, world="kinematic")
    assert TrustMeter(model, KinematicWorld(), risk=risk).risk is risk
    assert TrustMeter(model, KinematicWorld(), risk=replace(risk, robot="widowx")).risk is None
    assert TrustMeter(load_robot("widowx"), KinematicWorld(), risk=risk).risk is None


@pytest.mark.parametrize(("station", "start"), [("Bridge", "bridge_stack_00"), ("RT1", "rt1_open_drawer_00")])
def test_other_robots_are_found_where_their_joints_are(station: str, start: str) -> None:
    env = gym.make(f"VAPWorld-{station}-v0", world="still", trust=True)
    _, first = env.reset(options={"start": start})
    assert first["prompt_agreement"] > 0.85
    *_, info = env.step(np.zeros(env.action_space.shape, np.float32))
    assert set(told(info)) == {"prompt_agreement", "dream_drift"}
    assert info["dream_drift"] < 0.2
    env.close()


@pytest.mark.parametrize("rows", [[1], [0, 1], [2, 0]])
def test_rows_put_back_are_where_they_were(rows: list[int]) -> None:
    envs = gym.make_vec("VAPWorld-DROID-v0", num_envs=3, trust=True, world="kinematic")
    envs.reset(seed=0)
    state = envs.unwrapped.get_state()
    assert state.trust is not None
    chosen = np.array(rows, np.intp)
    back = state.trust.with_rows(chosen, state.trust.index(chosen))
    assert [back.told(row) for row in range(3)] == [state.trust.told(row) for row in range(3)]
    assert back.seen.equal(state.trust.seen) and back.begun.equal(state.trust.begun)
    envs.close()


def test_echoes_are_pictures_of_a_trusted_dream_in_space() -> None:
    """In the beginning they are the dream; rows show what each shows alone."""
    options: dict[str, Any] = {"task": "push", "views": ("exterior_1",)}
    alone = gym.make("VAPWorld-DROID-v0", trust=True, **options).unwrapped
    several = gym.make_vec("VAPWorld-DROID-v0", num_envs=2, trust=True, **options)
    alone.reset(seed=4)
    several.reset(seed=3)
    action = np.array([0.5, 0.8, 0, 0.5, 0, 0.4, 0, 0.5], np.float32)
    for _ in range(2):
        seen = alone.step(action)[0]
        several.step(np.stack([action, action]))
    assert alone.echoes().shape == (4, 1, 128, 128, 3)
    assert (np.abs(alone.echoes()[:, 0].astype(int) - seen["image"]).mean() < 2).all()
    np.testing.assert_array_equal(several.echoes(1), alone.echoes())
    for other in ({"trust": False}, {"trust": True, "world": "kinematic"}, {"world_options": {"moved_by": "sight"}}):
        env = gym.make("VAPWorld-DROID-v0", **options, **other).unwrapped
        env.reset(seed=4)
        assert env.echoes().shape == (0, 1, 128, 128, 3)
