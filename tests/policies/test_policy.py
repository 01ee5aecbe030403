"""Policies by law: a row alone equals the row in a batch, and the carry is all a policy remembers."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from gymnasium.vector import SyncVectorEnv

from vap_sim.envs.start import load_start
from vap_sim.envs.world_env import WorldEnv
from vap_sim.policies.plan_policy import IdlePolicy, RandomPolicy, ReplayPolicy, ScriptedPolicy
from vap_sim.policies.policy import Carry, Policy, as_batch, brief, carry_rows, info_rows

LOW, HIGH = np.array([-1.0] * 7 + [0.0], np.float32), np.ones(8, np.float32)
NAMES = ("push_00", "push_04", "push_06")
TAPE = np.random.default_rng(0).uniform(0, 1, (3, 4, 8)).astype(np.float32)


def scripted(rows: list[int]) -> Policy:
    starts = [load_start(NAMES[row]) for row in rows]
    scenes, joints = tuple(s.scene or {} for s in starts), tuple(s.joints.numpy() for s in starts)
    return ScriptedPolicy("push", noise=0.01, scenes=scenes, joints=joints)


MAKERS: dict[str, Callable[[list[int]], Policy]] = {
    "scripted": scripted,
    "random": lambda rows: RandomPolicy(LOW, HIGH, hold=2),
    "idle": lambda rows: IdlePolicy(),
    "replay": lambda rows: ReplayPolicy(TAPE[rows]),
}


def observations(rows: int, step: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(step)
    home = load_start("push_00").joints[:7].numpy()
    arm = (home + rng.normal(0, 0.1, (rows, 7))).astype(np.float32)
    return {"joint_position": arm, "gripper_position": rng.uniform(0, 1, (rows, 1)).astype(np.float32)}


def play(policy: Policy, carry: Carry, rows: slice, first: int = 0, steps: int = 6) -> np.ndarray:
    actions = []
    for step in range(first, first + steps):
        seen = {key: value[rows] for key, value in observations(3, step).items()}
        action, carry = policy.act(seen, carry)
        actions.append(action)
    return np.stack(actions, axis=1)


@pytest.mark.parametrize("name", MAKERS)
def test_a_row_alone_acts_as_in_a_batch(name: str) -> None:
    batch = MAKERS[name]([0, 1, 2])
    together = play(batch, batch.reset(3, seed=4), slice(None))
    assert together.dtype == np.float32
    assert together.shape == (3, 6, 8)
    for row in range(3):
        single = MAKERS[name]([row])
        alone = play(single, single.reset(1, seed=4 + row), slice(row, row + 1))
        assert np.array_equal(alone[0], together[row])


@pytest.mark.parametrize("name", MAKERS)
def test_carry_is_complete_and_never_written_to(name: str) -> None:
    policy = MAKERS[name]([0, 1, 2])
    _, carry = policy.act(observations(3, 0), policy.reset(3, seed=4))
    file = io.BytesIO()
    np.savez(file, **carry)
    file.seek(0)
    expected = play(policy, carry, slice(None), first=1)
    with np.load(file, allow_pickle=False) as saved:
        again: Mapping[str, Any] = {key: saved[key] for key in saved.files}
    # Another policy of the same kind, which has never acted, goes on from the saved memory.
    assert np.array_equal(play(MAKERS[name]([0, 1, 2]), again, slice(None), first=1), expected)
    assert all(np.array_equal(carry[key], again[key]) for key in carry)


@pytest.mark.parametrize("name", MAKERS)
def test_rows_of_a_carry_go_on_alone(name: str) -> None:
    policy = MAKERS[name]([0, 1, 2])
    carry = policy.reset(3, seed=4)
    expected = play(policy, carry, slice(None))
    assert np.array_equal(play(policy, carry_rows(carry, [2]), slice(2, 3))[0], expected[2])


@pytest.mark.parametrize("name", ["random", "scripted"])
def test_seed_decides(name: str) -> None:
    policy = MAKERS[name]([0, 1, 2])
    first = [play(policy, policy.reset(3, seed=seed), slice(None), steps=8) for seed in (4, 4, 40)]
    assert np.array_equal(first[0], first[1])
    assert not np.array_equal(first[0], first[2])


def test_infos_of_vector_environments_come_apart() -> None:
    rows = SyncVectorEnv([lambda name=name: WorldEnv(world="kinematic", start=name) for name in NAMES])
    _, infos = rows.reset(seed=0)
    singles = [WorldEnv(world="kinematic", start=name).reset(seed=0)[1] for name in NAMES]
    apart = info_rows(infos)
    assert [info["scene"] for info in apart] == [info["scene"] for info in singles]
    assert [info["start"] for info in apart] == list(NAMES)
    assert all(np.array_equal(a["joints"], b["joints"]) for a, b in zip(apart, singles, strict=True))
    assert info_rows(singles[0]) == [singles[0]]


def test_rows_of_an_info_have_only_what_they_were_told() -> None:
    mask = np.array([True, False])
    info = {
        "joints": np.zeros((2, 8)),
        "_joints": np.ones(2, bool),
        "scene": {"name": np.array(["a", None]), "_name": mask},
    }
    first, second = info_rows(info | {"_scene": mask})
    assert first["scene"] == {"name": "a"}
    assert set(second) == {"joints"}


def test_batch_of_one() -> None:
    batch = as_batch({"image": np.zeros((4, 5, 3)), "gripper_position": np.zeros(1)})
    assert {key: value.shape for key, value in batch.items()} == {"image": (1, 4, 5, 3), "gripper_position": (1, 1)}


def test_only_policies_that_want_to_be_briefed_are() -> None:
    idle = IdlePolicy()
    assert brief(idle, {}) is idle
    _, info = WorldEnv(world="kinematic", start="push_00").reset()
    told = brief(ScriptedPolicy("push"), info)
    assert isinstance(told, ScriptedPolicy)
    assert len(told.scenes) == 1
