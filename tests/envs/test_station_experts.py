"""Scripted experts at work in the twin: one episode a task of the stations beside DROID."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pybullet")
from vap_sim.envs.stations import get_station
from vap_sim.envs.twin_env import TwinEnv
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.policy import as_batch, brief
from vap_sim.policies.registry import load_policy

CASES = (("Bridge", "stack"), ("RT1", "pick"), ("RT1", "open_drawer"))


def played(station_name: str, task: str, name: str, seed: int = 900_001) -> bool:
    """Whether a policy does the task within 40 steps."""
    station = get_station(station_name)
    env = TwinEnv(station=station_name, task=task, size=(16, 16))
    policy = load_policy(name, PolicyContext(station.robot, station.control, station.control_hz, task))
    obs, info = env.reset(seed=seed)
    told = brief(policy, info)
    carry, done = told.reset(1, seed), False
    for _ in range(40):
        action, carry = told.act(as_batch(obs), carry)
        obs, _, done, _, _ = env.step(np.asarray(action[0]))
        if done:
            break
    env.close()
    return bool(done)


@pytest.mark.parametrize(("station", "task"), CASES)
def test_an_expert_does_its_task(station: str, task: str) -> None:
    assert played(station, task, "scripted")


@pytest.mark.parametrize(("station", "task"), [("Bridge", "put_on_plate"), ("RT1", "close_drawer")])
def test_an_expert_that_means_something_else_does_not(station: str, task: str) -> None:
    """What is planned for is 0.2 m beside, or the plate is 0.12 m off."""
    assert not played(
        station, task, "scripted+wrong_object=1" if task == "close_drawer" else "scripted+wrong_goal=0.12"
    )
