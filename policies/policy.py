"""What a policy is: batched, without memory of its own. What it remembers is an argument and a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

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
