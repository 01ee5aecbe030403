"""What a policy is: batched, without memory of its own. What it remembers is an argument and a result."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, VAPSimError

Observations = Mapping[str, NDArray[Any]]
"""Observations of b environments, every array with a leading axis b."""
Actions = NDArray[np.float32]
Carry = Mapping[str, NDArray[Any]]
"""All that a policy remembers of b episodes: plain arrays by name, each with a leading axis b. Never written to."""

_P = TypeVar("_P", bound="Policy")


class Policy(Protocol):
    """Who chooses actions. The carry is complete: saved, loaded and passed to an equal policy it acts the same.

    Row i of `reset(n, seed)` behaves like `reset(1, seed + i)`, whatever the other rows do.
    """

    def reset(self, num_envs: int, seed: int) -> Carry:
        """The memory of `num_envs` episodes that begin."""
        ...

    def act(self, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
        """Actions (b, A) float32 for observations with leading axis b, and the memory to pass next time."""
        ...


@runtime_checkable
class Briefable(Protocol):
    """A policy that must be told something before an episode: where the objects are, what is asked for."""

    def briefed(self, info: Mapping[str, Any]) -> Policy:
        """The same policy that knows what an environment's `reset` told, of one environment or of several."""
        ...


def brief(policy: Policy, info: Mapping[str, Any]) -> Policy:
    """The policy told what `reset` returned as info, if it wants to be told; else the policy itself."""
    return policy.briefed(info) if isinstance(policy, Briefable) else policy


class PolicyFault(VAPSimError, RuntimeError):
    """A policy did not deliver: nothing, not a number, another shape, too late, or its server is gone."""

    def __init__(self, policy: str, problem: str) -> None:
        self.policy, self.problem = policy, problem
        super().__init__(f"policy {policy!r}: {problem}")

    def __reduce__(self) -> tuple[type[PolicyFault], tuple[str, str]]:
        return type(self), (self.policy, self.problem)


@dataclass(frozen=True, eq=False)
class CheckedPolicy:
    """A policy whose every answer is looked at before it moves anything; made by `checked`."""

    policy: Policy
    size: int
    name: str = "policy"
    seconds: float | None = None

    def briefed(self, info: Mapping[str, Any]) -> CheckedPolicy:
        """The policy told what `reset` returned, under the same checks."""
        return CheckedPolicy(brief(self.policy, info), self.size, self.name, self.seconds)

    def reset(self, num_envs: int, seed: int) -> Carry:
        """The policy's own memory. Raises PolicyFault for one whose arrays do not lead with `num_envs`."""
        return self._whole(self.policy.reset(num_envs, seed), num_envs)

    def act(self, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
        """The policy's own actions (b, A). Raises PolicyFault where they are none."""
        began = perf_counter()
        answer = self.policy.act(obs, carry)
        taken = perf_counter() - began
        if not isinstance(answer, tuple) or len(answer) != 2:
            raise PolicyFault(self.name, f"gave {type(answer).__name__}, expected actions and a carry")
        if self.seconds is not None and taken > self.seconds:
            raise PolicyFault(self.name, f"answered after {taken:.3f} s, expected within {self.seconds:g} s")
        rows = len(next(iter(obs.values()))) if obs else None
        actions = checked_actions(answer[0], rows, self.size, self.name)
        return actions, self._whole(answer[1], len(actions))

    def _whole(self, carry: Carry, rows: int) -> Carry:
        if not isinstance(carry, Mapping):
            raise PolicyFault(self.name, f"gave {type(carry).__name__} as carry, expected arrays by name")
        for name, value in carry.items():
            if not isinstance(value, np.ndarray) or value.ndim < 1 or len(value) != rows or value.dtype == object:
                kind = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
                raise PolicyFault(self.name, f"gave {kind} as {name!r} of its carry, expected an array of {rows} rows")
        return carry


def checked(
    policy: Policy, action_space: spaces.Space[Any], name: str = "policy", seconds: float | None = None
) -> CheckedPolicy:
    """The policy, whose answers raise PolicyFault unless they are finite numbers (b, A), and a whole carry, in time.

    action_space: of one environment; actions beyond its bounds are the environment's business. name: for the message;
    seconds: the longest that one `act` may take, measured once it has answered: a policy within this process that never
    answers cannot be stopped. Raises InvalidInput for a space that is no box.
    """
    if not isinstance(action_space, spaces.Box) or len(action_space.shape) != 1:
        raise InvalidInput("action space", action_space, "a Box of shape (A,)")
    return CheckedPolicy(policy, action_space.shape[0], name, seconds)


def checked_actions(actions: object, rows: int | None, size: int, name: str) -> Actions:
    """Actions (b, size) as float32. Raises PolicyFault for another shape or type, or numbers that are not finite."""
    if not isinstance(actions, np.ndarray) or actions.dtype.kind not in "fiu":
        kind = f"an array of {actions.dtype}" if isinstance(actions, np.ndarray) else type(actions).__name__
        raise PolicyFault(name, f"gave {kind}, expected an array of numbers")
    if actions.ndim != 2 or actions.shape[1] != size or rows not in (None, len(actions)):
        raise PolicyFault(name, f"gave actions {actions.shape}, expected ({'b' if rows is None else rows}, {size})")
    if not np.isfinite(actions).all():
        row, entry = np.argwhere(~np.isfinite(actions))[0]
        raise PolicyFault(name, f"gave {actions[row, entry]} as entry {entry} of row {row}, expected a finite number")
    return actions.astype(np.float32, copy=False)


def as_batch(observation: Observations) -> dict[str, NDArray[Any]]:
    """The observation of one environment as a batch of one."""
    return {key: np.asarray(value)[None] for key, value in observation.items()}


def carry_rows(carry: Carry, rows: NDArray[np.intp] | list[int]) -> dict[str, NDArray[Any]]:
    """The memory of the chosen episodes, in the order given."""
    return {name: value[np.asarray(rows, dtype=np.intp)] for name, value in carry.items()}


def info_rows(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The infos of the single environments from the info of a reset, of one environment or of a vector environment."""
    mask = info.get("_joints")
    if mask is None:
        return [dict(info)]
    return [_info_row(info, row) for row in range(len(mask))]


def _info_row(info: Mapping[str, Any], row: int) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in info.items():
        present = info.get(f"_{name}")
        if present is not None and present[row]:
            out[name] = _info_row(value, row) if isinstance(value, dict) else value[row]
    return out
