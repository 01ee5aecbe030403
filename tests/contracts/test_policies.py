"""The shipped policies against the contract, and the contract against policies that break it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.contracts.policy import ROWS, PolicyContract, briefing
from vap_sim.policies.chunks import ChunkPolicy
from vap_sim.policies.cloning import CloneSource, new_network
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.demonstrations import demonstration
from vap_sim.policies.plan_policy import IdlePolicy, RandomPolicy, ReplayPolicy
from vap_sim.policies.policy import Actions, Carry, Observations, Policy, brief
from vap_sim.policies.registry import load_policy
from vap_sim.policies.served import ServedPolicy
from vap_sim.policies.server import PolicyServer

TAPE = np.random.default_rng(0).uniform(0, 1, (3, 4, 8)).astype(np.float32)


def named(name: str, rows: list[int], **context: Any) -> Policy:
    return brief(load_policy(name, PolicyContext(task="push", **context)), briefing(rows))


class TestScripted(PolicyContract):
    seeded = True

    @staticmethod
    def make(rows: list[int]) -> Policy:
        return named("scripted+miss=0.01", rows)


class TestRandom(PolicyContract):
    seeded = True

    @staticmethod
    def make(rows: list[int]) -> Policy:
        return named("random", rows)


class TestIdle(PolicyContract):
    @staticmethod
    def make(rows: list[int]) -> Policy:
        return IdlePolicy()


class TestReplay(PolicyContract):
    @staticmethod
    def make(rows: list[int]) -> Policy:
        return ReplayPolicy(TAPE[rows])


class TestNoise(PolicyContract):
    seeded = True

    @staticmethod
    def make(rows: list[int]) -> Policy:
        return named("idle+noise=0.1+held_noise=0.1", rows)


class TestBias(PolicyContract):
    seeded = True

    @staticmethod
    def make(rows: list[int]) -> Policy:
        return named("idle+bias=0.1", rows)


class TestScaledAndMirrored(PolicyContract):
    @staticmethod
    def make(rows: list[int]) -> Policy:
        return named("scripted+speed=0.5+mirror=panda_joint4", rows)


class TestDelayed(PolicyContract):
    @staticmethod
    def make(rows: list[int]) -> Policy:
        return named("scripted+delay=3", rows)


class TestEarlyGripperAtPlaces(PolicyContract):
    @staticmethod
    def make(rows: list[int]) -> Policy:
        return named("scripted+early_gripper=2", rows, control="joint_position")


class TestGripperStuck(PolicyContract):
    seeded = True

    @staticmethod
    def make(rows: list[int]) -> Policy:
        return named("random+gripper=closed", rows)


class TestFrozen(PolicyContract):
    @staticmethod
    def make(rows: list[int]) -> Policy:
        return named("scripted+freeze=4", rows)


class TestFrozenAtPlaces(PolicyContract):
    size = 7

    @staticmethod
    def make(rows: list[int]) -> Policy:
        return named("scripted+freeze=4", rows, control="ee_pose")


class TestRandomShare(PolicyContract):
    seeded = True

    @staticmethod
    def make(rows: list[int]) -> Policy:
        return named("scripted+random_share=0.3", rows)


class TestMisled(PolicyContract):
    seeded = True

    @staticmethod
    def make(rows: list[int]) -> Policy:
        return named("scripted+wrong_object+wrong_goal=0.08", rows)


class TestCloned(PolicyContract):
    """A network with random weights, told what to do."""

    tolerance = 1e-5

    @staticmethod
    def make(rows: list[int]) -> Policy:
        data = demonstration(
            np.zeros((2, 8, 8, 3), np.uint8), TAPE[0, :2, :7], TAPE[0, :2, 7:], TAPE[0, :2], "do 0 1 2"
        )
        network = new_network(data, seed=3, chunk=3)
        return brief(ChunkPolicy(CloneSource(network), 8, 2), briefing(rows))


class TestServed(PolicyContract):
    """A policy behind a server of this package, asked over a socket of the loopback."""

    seeded = True
    servers: ClassVar[list[Any]] = []

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _serving(cls) -> Iterator[None]:
        pytest.importorskip("websockets", reason="websockets is not installed (extra remote)")
        pytest.importorskip("msgpack", reason="msgpack is not installed (extra remote)")
        context = PolicyContext(control_hz=15.0)
        with PolicyServer(ServedPolicy(load_policy("random+delay=2", context), context, 3), port=0) as server:
            cls.servers.append(server)
            yield
            cls.servers.pop()

    @staticmethod
    def make(rows: list[int]) -> Policy:
        (server,) = TestServed.servers
        context = PolicyContext(control_hz=15.0)
        return brief(load_policy(f"openpi@127.0.0.1:{server.port}", context, execute=2), briefing(rows))


# The contract itself ------------------------------------------------------------------------------------------------


class Broken:
    """A policy that obeys the contract until a test replaces one of its verbs."""

    def __init__(
        self, reset: Callable[..., Carry] | None = None, act: Callable[..., tuple[Actions, Carry]] | None = None
    ) -> None:
        self.inner = RandomPolicy(-np.ones(8, np.float32), np.ones(8, np.float32))
        self.calls = 0
        self._reset, self._act = reset, act

    def reset(self, num_envs: int, seed: int) -> Carry:
        return self._reset(self, num_envs, seed) if self._reset else self.inner.reset(num_envs, seed)

    def act(self, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
        self.calls += 1
        return self._act(self, obs, carry) if self._act else self.inner.act(obs, carry)


def _keeps_count_to_itself(self: Broken, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
    actions, carry = self.inner.act(obs, carry)
    return actions * np.float32(0.9**self.calls), carry


def _mixes_rows(self: Broken, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
    actions, carry = self.inner.act(obs, carry)
    return actions - actions.mean(axis=0), carry


def _writes_into_its_carry(self: Broken, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
    actions, after = self.inner.act(obs, carry)
    carry["step"][:] += 1
    return actions, {"key": after["key"], "step": carry["step"]}


def _writes_into_its_input(self: Broken, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
    obs["joint_position"][:] = 0
    return self.inner.act(obs, carry)


def _gives_doubles(self: Broken, obs: Observations, carry: Carry) -> tuple[Any, Carry]:
    actions, carry = self.inner.act(obs, carry)
    return actions.astype(np.float64), carry


def _gives_its_memory_away(self: Broken, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
    actions, after = self.inner.act(obs, carry)
    return actions, {**after, "last": actions}


def _seeds_rows_alike(self: Broken, num_envs: int, seed: int) -> Carry:
    return {"key": np.full(num_envs, seed), "step": np.zeros(num_envs, np.int64)}


def _ignores_the_seed(self: Broken, num_envs: int, seed: int) -> Carry:
    return self.inner.reset(num_envs, 0)


OFFENDERS: list[tuple[str, dict[str, Callable[..., Any]]]] = [
    ("test_a_saved_and_loaded_carry_acts_the_same", {"act": _keeps_count_to_itself}),
    ("test_same_seed_same_bits", {"act": _keeps_count_to_itself}),
    ("test_a_row_alone_acts_as_in_a_batch", {"act": _mixes_rows}),
    ("test_rows_of_a_carry_go_on_alone_and_in_any_order", {"act": _mixes_rows}),
    ("test_input_is_left_untouched", {"act": _writes_into_its_carry}),
    ("test_input_is_left_untouched", {"act": _writes_into_its_input}),
    ("test_input_is_left_untouched", {"act": _gives_its_memory_away}),
    ("test_actions_are_finite_float32_for_every_row", {"act": _gives_doubles}),
    ("test_a_row_alone_acts_as_in_a_batch", {"reset": _seeds_rows_alike}),
    ("test_another_seed_is_another_episode_where_chance_plays_a_part", {"reset": _ignores_the_seed}),
]


@pytest.mark.parametrize(("law", "changes"), OFFENDERS)
def test_contract_catches(law: str, changes: dict[str, Callable[..., Any]]) -> None:
    class Suspect(PolicyContract):
        seeded = True

        @staticmethod
        def make(rows: list[int]) -> Policy:
            return Broken(**changes)

    with pytest.raises(AssertionError):
        getattr(Suspect(), law)()


def test_every_law_has_an_offender() -> None:
    laws = {name for name, _ in inspect.getmembers(PolicyContract) if name.startswith("test_")}
    assert laws == {law for law, _ in OFFENDERS}
    assert ROWS == 3
