"""What may go wrong between a policy and the robot: noise, bias, delay, a stuck gripper, a frozen arm and the like.

Each effect changes actions (b, A) and keeps what it must remember in arrays of its own. It sees one row at a time: what
it does to a row follows from the row's key and step alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.noise import standard_normals
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.policy import Actions, Carry

Keys = NDArray[np.int64]
Rest = Callable[[], Actions]
"""The actions (b, A) that keep the robots where they are seen to be."""


class Effect(Protocol):
    """A change of actions, with its memory as argument and result."""

    def begin(self, keys: Keys) -> Carry:
        """The memory of episodes that begin, one key a row."""
        ...

    def apply(self, actions: Actions, memory: Carry, rest: Rest) -> tuple[Actions, Carry]:
        """Changed actions (b, A), which may leave the bounds, and the memory of the next step."""
        ...


@dataclass(frozen=True, eq=False)
class Noise:
    """Normal errors on the arm's entries, new after every `hold` steps; `spread` is a share of half their range."""

    context: PolicyContext
    spread: float
    hold: int = 1

    def __post_init__(self) -> None:
        _require("action noise", self.spread, self.spread >= 0, "zero or more, a share of half the range")
        _require("steps that noise is held", self.hold, self.hold >= 1, "1 or more")

    def begin(self, keys: Keys) -> Carry:
        return _counters(keys)

    def apply(self, actions: Actions, memory: Carry, rest: Rest) -> tuple[Actions, Carry]:
        errors = _normals(memory["key"], memory["step"] // self.hold, self.context.size)
        return actions + errors * np.float32(self.spread) * _half_range(self.context), _counted(memory)


@dataclass(frozen=True, eq=False)
class Bias:
    """An error of the arm's entries that stays for the episode, drawn by the seed; `spread` as in Noise."""

    context: PolicyContext
    spread: float

    def __post_init__(self) -> None:
        _require("action bias", self.spread, self.spread >= 0, "zero or more, a share of half the range")

    def begin(self, keys: Keys) -> Carry:
        return {"offset": _normals(keys, np.zeros_like(keys), self.context.size)}

    def apply(self, actions: Actions, memory: Carry, rest: Rest) -> tuple[Actions, Carry]:
        return actions + memory["offset"] * np.float32(self.spread) * _half_range(self.context), memory


@dataclass(frozen=True, eq=False)
class Scaled:
    """Speeds times `factor`: of the arm's `entry`, or of all. A factor of -1 mirrors. Needs a control of speeds."""

    context: PolicyContext
    factor: float
    entry: int | None = None

    def __post_init__(self) -> None:
        _require("factor of speeds", self.factor, bool(np.isfinite(self.factor)), "a finite number")
        if not self.context.speeds:
            raise Unsupported(
                f"speeds cannot be scaled under control {self.context.control!r}, whose entries are places"
            )
        if self.entry is not None:
            inside = 0 <= self.entry < int(self.context.arm.sum())
            _require("entry of the action", self.entry, inside, f"one of the arm's {int(self.context.arm.sum())}")

    def begin(self, keys: Keys) -> Carry:
        return {}

    def apply(self, actions: Actions, memory: Carry, rest: Rest) -> tuple[Actions, Carry]:
        chosen = self.context.arm if self.entry is None else np.arange(self.context.size) == self.entry
        return np.where(chosen, actions * self.factor, actions).astype(np.float32), memory


@dataclass(frozen=True, eq=False)
class Delayed:
    """Actions reach the arm `steps` later, and the gripper too unless `gripper` is false, which is then early.

    Until the first one arrives the robot rests."""

    context: PolicyContext
    steps: int
    gripper: bool = True

    def __post_init__(self) -> None:
        _require("steps of delay", self.steps, self.steps >= 1, "1 or more")
        if not self.gripper:
            _needs_gripper(self.context)

    def begin(self, keys: Keys) -> Carry:
        return {
            "queue": np.zeros((len(keys), self.steps, self.context.size), np.float32),
            "step": np.zeros(len(keys), np.int64),
        }

    def apply(self, actions: Actions, memory: Carry, rest: Rest) -> tuple[Actions, Carry]:
        queue, step = memory["queue"], memory["step"]
        if (step == 0).any():
            queue = np.where((step == 0)[:, None, None], rest()[:, None], queue)
        late = queue[:, 0]
        out = late if self.gripper else np.where(self.context.arm, late, actions)
        return out, {"queue": np.concatenate([queue[:, 1:], actions[:, None]], axis=1), "step": step + 1}


@dataclass(frozen=True, eq=False)
class GripperStuck:
    """The gripper is told to be at `position` always: 0 open, 1 closed."""

    context: PolicyContext
    position: float

    def __post_init__(self) -> None:
        _require("position of a stuck gripper", self.position, 0 <= self.position <= 1, "0 (open) to 1 (closed)")
        _needs_gripper(self.context)

    def begin(self, keys: Keys) -> Carry:
        return {}

    def apply(self, actions: Actions, memory: Carry, rest: Rest) -> tuple[Actions, Carry]:
        return np.where(self.context.arm, actions, np.float32(self.position)), memory


@dataclass(frozen=True, eq=False)
class Frozen:
    """From step `after` on the arm rests and the gripper is told what it was told last."""

    context: PolicyContext
    after: int

    def __post_init__(self) -> None:
        _require("step to freeze at", self.after, self.after >= 0, "0 or more")

    def begin(self, keys: Keys) -> Carry:
        return {"last": np.zeros((len(keys), self.context.size), np.float32), "step": np.zeros(len(keys), np.int64)}

    def apply(self, actions: Actions, memory: Carry, rest: Rest) -> tuple[Actions, Carry]:
        step, last = memory["step"], memory["last"]
        if (step == 0).any():
            last = np.where((step == 0)[:, None], rest(), last)
        still = np.where(self.context.arm, np.float32(0), last) if self.context.speeds else last
        out = np.where((step >= self.after)[:, None], still, actions)
        return out, {"last": out, "step": step + 1}


@dataclass(frozen=True, eq=False)
class RandomShare:
    """Each action is, with chance `share`, one drawn evenly between the bounds instead."""

    context: PolicyContext
    share: float

    def __post_init__(self) -> None:
        _require("share of random actions", self.share, 0 <= self.share <= 1, "0 to 1")

    def begin(self, keys: Keys) -> Carry:
        return _counters(keys)

    def apply(self, actions: Actions, memory: Carry, rest: Rest) -> tuple[Actions, Carry]:
        rows = zip(memory["key"].tolist(), memory["step"].tolist(), strict=True)
        draws = np.stack([_uniform(key, step, 1 + self.context.size) for key, step in rows])
        low, high = self.context.low, self.context.high
        others = (low + draws[:, 1:] * (high.astype(np.float64) - low)).astype(np.float32)
        return np.where(draws[:, :1] < self.share, others, actions), _counted(memory)


def _counters(keys: Keys) -> Carry:
    return {"key": keys, "step": np.zeros(len(keys), np.int64)}


def _counted(memory: Carry) -> Carry:
    return {"key": memory["key"], "step": memory["step"] + 1}


def _half_range(context: PolicyContext) -> NDArray[np.float32]:
    """(A,) float32, zero for the gripper."""
    return np.where(context.arm, (context.high - context.low) / 2, 0).astype(np.float32)


def _normals(keys: Keys, draws: Keys, size: int) -> NDArray[np.float32]:
    return standard_normals(torch.from_numpy(keys), torch.from_numpy(draws), (size,)).numpy()


def _uniform(key: int, step: int, count: int) -> NDArray[np.float64]:
    return np.random.default_rng([key % 2**64, step, 41]).random(count)


def _require(what: str, given: object, holds: bool, expected: str) -> None:
    if not holds:
        raise InvalidInput(what, given, expected)


def _needs_gripper(context: PolicyContext) -> None:
    if context.arm.all():
        raise Unsupported(f"robot {context.robot!r} has no gripper to act on")
