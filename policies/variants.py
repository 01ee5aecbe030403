"""Wrong and graded policies: any policy under an effect, and scripted experts whose plan is made for something else."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from vap_sim.errors import InvalidInput
from vap_sim.policies.effects import Effect
from vap_sim.policies.experts import DRAWER_TASKS, GOAL_TASKS, PAIR_TASKS
from vap_sim.policies.plan_policy import ScriptedPolicy
from vap_sim.policies.policy import Actions, Carry, Observations, Policy, brief

_APART = 0.2  # [m] from the true object to the empty place that stands for one


@dataclass(frozen=True, eq=False)
class Variant:
    """A policy whose actions pass through an effect and are then moved into the bounds.

    Variants of variants are allowed; each draws from a stream of its own. The carry holds both memories.
    """

    policy: Policy
    effect: Effect
    low: np.ndarray
    high: np.ndarray
    rest: Policy

    @property
    def depth(self) -> int:
        """How many effects the actions pass."""
        return 1 + (self.policy.depth if isinstance(self.policy, Variant) else 0)

    def briefed(self, info: Mapping[str, Any]) -> Variant:
        """The same variant of the policy that was told what `reset` returned."""
        return replace(self, policy=brief(self.policy, info))

    def reset(self, num_envs: int, seed: int) -> Carry:
        """Memory of policy and effect."""
        keys = (np.arange(num_envs, dtype=np.int64) + seed) * 1_000_003 + self.depth
        inner, own = self.policy.reset(num_envs, seed), self.effect.begin(keys)
        return _joined(inner, own)

    def act(self, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
        """The policy's actions (b, A) after the effect, within the bounds."""
        wanted, inner = self.policy.act(obs, _part(carry, "policy/"))
        rest = self.rest
        actions, own = self.effect.apply(wanted, _part(carry, "effect/"), lambda: rest.act(obs, {})[0])
        return np.clip(actions, self.low, self.high).astype(np.float32), _joined(inner, own)


@dataclass(frozen=True, eq=False)
class MisledExpert:
    """A scripted expert that plans for the wrong thing.

    other: which other object the plan is made for, 0 for the right one; where the scene has no other, an empty place
    0.2 m beside the right one. shift: how far [m] the goal of the plan is off, in a direction drawn by the seed: the
    disc, or the object onto or beside which another one belongs; where a task has no goal but the object itself, the
    object's place is off. The object of a drawer's task is its cabinet. Raises InvalidInput for negative values.
    """

    policy: ScriptedPolicy
    other: int = 0
    shift: float = 0.0

    def __post_init__(self) -> None:
        if self.other < 0:
            raise InvalidInput("wrong object", self.other, "0 for the right one, or which of the others, from 1")
        if not 0 <= self.shift < np.inf:
            raise InvalidInput("shift of the goal", self.shift, "zero or a positive number of metres")

    def briefed(self, info: Mapping[str, Any]) -> MisledExpert:
        """The same expert, told scene and joints by the info of a reset."""
        return replace(self, policy=self.policy.briefed(info))

    def reset(self, num_envs: int, seed: int) -> Carry:
        """The expert's plans, made for the changed scenes."""
        scenes = tuple(self._changed(scene, seed + row) for row, scene in enumerate(self.policy.scenes))
        return replace(self.policy, scenes=scenes).reset(num_envs, seed)

    def act(self, obs: Observations, carry: Carry) -> tuple[Actions, Carry]:
        """The expert's own actions (b, A)."""
        return self.policy.act(obs, carry)

    def _changed(self, scene: Mapping[str, Any], seed: int) -> dict[str, Any]:
        changed = deepcopy(dict(scene))
        task = self.policy.task
        kind, parts = "cabinets" if task in DRAWER_TASKS else "objects", 2 if task in PAIR_TASKS else 1
        things = list(changed.get(kind, ()))
        if self.other and len(things) > parts:
            place = parts + (self.other - 1) % (len(things) - parts)
            things[0], things[place] = things[place], things[0]
        elif self.other and things:
            aside = -_APART if things[0]["y"] > 0 else _APART
            things[0] = {**things[0], "y": things[0]["y"] + aside}
        if self.shift:
            angle = np.random.default_rng([seed % 2**64, 43]).uniform(0, 2 * np.pi)
            dx, dy = float(self.shift * np.cos(angle)), float(self.shift * np.sin(angle))
            goal = changed.get("goal")
            if goal is not None and task in GOAL_TASKS:
                changed["goal"] = [goal[0] + dx, goal[1] + dy, *goal[2:]]
            elif len(things) >= parts:
                off = things[parts - 1]
                things[parts - 1] = {**off, "x": off["x"] + dx, "y": off["y"] + dy}
        return {**changed, kind: things}


def _joined(inner: Carry, own: Carry) -> Carry:
    return {f"policy/{name}": value for name, value in inner.items()} | {
        f"effect/{name}": value for name, value in own.items()
    }


def _part(carry: Carry, prefix: str) -> Carry:
    return {name.removeprefix(prefix): value for name, value in carry.items() if name.startswith(prefix)}
