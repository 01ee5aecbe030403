"""What every policy must obey. A new policy adds a class of a few lines to test_policies.py."""

from __future__ import annotations

import copy
import io
from typing import Any, ClassVar

import numpy as np

from vap_sim.envs.start import load_start
from vap_sim.policies.policy import Carry, Observations, Policy, carry_rows

ROWS = 3
SEED = 4
STARTS = ("push_00", "push_04", "push_06")


def observations(step: int, rows: int = ROWS) -> dict[str, np.ndarray]:
    """What `rows` environments show at a step: pictures, arms near a home pose, grippers anywhere."""
    rng = np.random.default_rng(step)
    home = load_start(STARTS[0]).joints[:7].numpy()
    coarse = rng.integers(0, 256, (rows, 16, 16, 3), np.uint8)
    return {
        "image": coarse.repeat(8, axis=1).repeat(8, axis=2),
        "image_wrist": coarse[:, ::-1].repeat(8, axis=1).repeat(8, axis=2),
        "joint_position": (home + rng.normal(0, 0.1, (rows, 7))).astype(np.float32),
        "gripper_position": rng.uniform(0, 1, (rows, 1)).astype(np.float32),
    }


def briefing(rows: list[int]) -> dict[str, Any]:
    """The info of a reset of these environments, as a vector environment gives it."""
    starts = [load_start(STARTS[row]) for row in rows]
    present = np.ones(len(rows), bool)

    def told(values: list[Any]) -> np.ndarray:
        out = np.empty(len(values), object)
        out[:] = values
        return out

    values = {
        "joints": np.stack([start.joints.numpy() for start in starts]),
        "scene": told([start.scene for start in starts]),
        "instruction": np.array([f"do the thing number {row}" for row in rows], object),
    }
    return values | {f"_{name}": present for name in values}


def play(policy: Policy, carry: Carry, rows: list[int], first: int, steps: int) -> tuple[np.ndarray, Carry]:
    """Actions (b, steps, A) for the observations of the chosen rows, and the carry after them."""
    actions = []
    for step in range(first, first + steps):
        action, carry = policy.act(carry_rows(observations(step), rows), carry)
        actions.append(action)
    return np.stack(actions, axis=1), carry


class PolicyContract:
    """Subclass it as Test<Policy> with `make`. A policy with a network may say by how much rows of a batch differ."""

    tolerance: ClassVar[float] = 0.0
    steps: ClassVar[int] = 11
    size: ClassVar[int] = 8
    seeded: ClassVar[bool] = False  # whether another seed must make another episode

    @staticmethod
    def make(rows: list[int]) -> Policy:
        """The policy, briefed for the environments `rows`."""
        raise NotImplementedError("a contract class says how its policy is made")

    def same(self, one: np.ndarray, other: np.ndarray) -> bool:
        return one.shape == other.shape and bool(np.abs(one - other).max(initial=0.0) <= self.tolerance)

    def test_actions_are_finite_float32_for_every_row(self) -> None:
        policy = self.make([0, 1, 2])
        carry = policy.reset(ROWS, SEED)
        for step in range(self.steps):
            assert all(isinstance(value, np.ndarray) and len(value) == ROWS for value in carry.values())
            actions, carry = policy.act(observations(step), carry)
            assert actions.dtype == np.float32 and actions.shape == (ROWS, self.size)
            assert np.isfinite(actions).all()

    def test_a_row_alone_acts_as_in_a_batch(self) -> None:
        batch = self.make([0, 1, 2])
        together, _ = play(batch, batch.reset(ROWS, SEED), [0, 1, 2], 0, self.steps)
        for row in range(ROWS):
            single = self.make([row])
            alone, _ = play(single, single.reset(1, SEED + row), [row], 0, self.steps)
            assert self.same(alone[0], together[row])

    def test_rows_of_a_carry_go_on_alone_and_in_any_order(self) -> None:
        policy = self.make([0, 1, 2])
        _, carry = play(policy, policy.reset(ROWS, SEED), [0, 1, 2], 0, 3)
        expected, _ = play(policy, carry, [0, 1, 2], 3, self.steps - 3)
        for rows in ([2], [2, 0], [1, 2, 0]):
            apart, _ = play(policy, carry_rows(carry, rows), rows, 3, self.steps - 3)
            assert self.same(apart, expected[rows])

    def test_a_saved_and_loaded_carry_acts_the_same(self) -> None:
        policy = self.make([0, 1, 2])
        for moment in (0, 1, self.steps // 2):
            _, carry = play(policy, policy.reset(ROWS, SEED), [0, 1, 2], 0, moment) if moment else (
                None, policy.reset(ROWS, SEED),
            )  # fmt: skip
            file = io.BytesIO()
            np.savez(file, **carry)
            file.seek(0)
            with np.load(file, allow_pickle=False) as saved:
                again = {name: saved[name] for name in saved.files}
            expected, _ = play(policy, carry, [0, 1, 2], moment, self.steps)
            # Another policy of the same kind, which has never acted, goes on from the saved memory.
            actions, _ = play(self.make([0, 1, 2]), again, [0, 1, 2], moment, self.steps)
            assert np.array_equal(actions, expected)

    def test_input_is_left_untouched(self) -> None:
        policy = self.make([0, 1, 2])
        carry: Carry = policy.reset(ROWS, SEED)
        for step in range(self.steps):
            seen: Observations = observations(step)
            before, memory = copy.deepcopy(dict(seen)), copy.deepcopy(dict(carry))
            actions, after = policy.act(seen, carry)
            kept = copy.deepcopy(dict(after))
            actions[:] = -9.0
            assert all(np.array_equal(seen[name], before[name]) for name in before)
            assert all(np.array_equal(carry[name], memory[name]) for name in memory)
            assert all(np.array_equal(after[name], kept[name]) for name in kept), "actions share memory with the carry"
            carry = after

    def test_same_seed_same_bits(self) -> None:
        policy = self.make([0, 1, 2])
        first, _ = play(policy, policy.reset(ROWS, SEED), [0, 1, 2], 0, self.steps)
        play(policy, policy.reset(ROWS, 99), [0, 1, 2], 5, self.steps)  # another episode in between leaves no trace
        again, _ = play(policy, policy.reset(ROWS, SEED), [0, 1, 2], 0, self.steps)
        assert np.array_equal(first, again)

    def test_another_seed_is_another_episode_where_chance_plays_a_part(self) -> None:
        policy = self.make([0, 1, 2])
        first, other = (play(policy, policy.reset(ROWS, seed), [0, 1, 2], 0, self.steps)[0] for seed in (SEED, 40))
        assert np.array_equal(first, other) != self.seeded
