"""An environment that is held against the contracts, and how it is played."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import data_equivalence

Step = tuple[dict[str, Any], float, bool, bool, dict[str, Any]]


@dataclass(frozen=True)
class EnvSubject:
    """`name` and `arguments` make it; `start` is one it can begin from; `fork_seconds` bounds a fork."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    start: str = "push_01"
    fork_seconds: float = 1e-3

    def make(self, **changes: Any) -> gymnasium.Env[Any, Any]:
        return gymnasium.make(self.name, **{**self.arguments, **changes})

    def bare(self, **changes: Any) -> Any:
        """The environment without wrappers; typed loosely, to reach what Gymnasium does not know."""
        return self.make(**changes).unwrapped


def moves(env: Any, steps: int) -> list[np.ndarray]:
    """The same gentle random actions for every environment with these bounds."""
    rng, space = np.random.default_rng(3), env.action_space
    middle, reach = (space.high + space.low) / 2, (space.high - space.low) / 4
    return [(middle + reach * rng.uniform(-1, 1, space.shape)).astype(np.float32) for _ in range(steps)]


def play(env: Any, steps: int) -> list[Step]:
    return [env.step(action) for action in moves(env, steps)]


def same(a: object, b: object) -> bool:
    """Whether two results of an environment are equal bit by bit."""
    return bool(data_equivalence(a, b, exact=True))
