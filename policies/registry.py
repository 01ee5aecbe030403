"""Policies by name: `KIND[@TARGET][+VARIANT[=VALUE]]...`, such as "scripted+noise=0.03" or "bc@reach.safetensors".

A plus sign or a percent sign within a target is written %2B or %25.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote

from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.policies import effects
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.effects import Effect
from vap_sim.policies.plan_policy import ScriptedPolicy
from vap_sim.policies.policy import Policy
from vap_sim.policies.variants import MisledExpert, Variant

# Each loader is `load(context, **options)`, or `load(target, context, **options)` where a target is needed.
_KINDS: Mapping[str, tuple[str, str, str]] = MappingProxyType(
    {
        "scripted": ("vap_sim.policies.builtin", "load_scripted", ""),
        "random": ("vap_sim.policies.builtin", "load_random", ""),
        "idle": ("vap_sim.policies.builtin", "load_idle", ""),
        "plan": ("vap_sim.policies.planned", "load_plan", ""),
        "replay": ("vap_sim.policies.builtin", "load_replay", "FILE"),
        "bc": ("vap_sim.policies.cloning", "load_clone", "FILE"),
        "sb3": ("vap_sim.policies.sb3", "load_sb3", "FILE"),
        "lerobot": ("vap_sim.policies.lerobot", "load_lerobot", "FOLDER"),
        "torchscript": ("vap_sim.policies.adapters", "load_torchscript", "FILE"),
        "onnx": ("vap_sim.policies.adapters", "load_onnx", "FILE"),
        "openpi": ("vap_sim.policies.remote", "load_openpi", "HOST:PORT"),
    }
)

GRADED: tuple[str, ...] = (
    "scripted",
    "scripted+miss=0.01",
    "scripted+miss=0.02",
    "scripted+miss=0.04",
    "scripted+noise=0.01",
    "scripted+noise=0.03",
    "scripted+held_noise=0.01",
    "scripted+bias=0.01",
    "scripted+speed=0.9",
    "scripted+mirror=0",
    "scripted+gripper=open",
    "scripted+early_gripper=2",
    "scripted+freeze=8",
    "scripted+random_share=0.1",
    "scripted+wrong_object",
    "scripted+wrong_goal=0.06",
    "random",
    "idle",
)
"""Policies of graded quality that exist for every task and need no file."""


@dataclass(frozen=True)
class PolicyName:
    """A parsed name: what kind of policy, from where, and the variants that change it, in the order given."""

    kind: str
    target: str | None
    variants: tuple[tuple[str, str | None], ...]


def policy_kinds() -> tuple[str, ...]:
    """The kinds that `load_policy` knows."""
    return tuple(_KINDS)


def variant_names() -> tuple[str, ...]:
    """The variants that a name may add."""
    return (*_PLANS, *_EFFECTS)


def parse_policy(name: str) -> PolicyName:
    """Read a name. Raises UnknownName for kinds and variants, InvalidInput where the name is malformed."""
    first, *rest = name.split("+")
    kind, at, target = first.partition("@")
    if kind not in _KINDS:
        raise UnknownName("policy", kind, _KINDS)
    wanted = _KINDS[kind][2]
    if bool(wanted) != bool(target) or bool(at) != bool(target):
        raise InvalidInput(f"policy {kind!r}", name, f"{kind}@{wanted}" if wanted else f"{kind} alone, without @")
    variants = []
    for part in rest:
        variant, equals, value = part.partition("=")
        if variant not in variant_names():
            raise UnknownName(f"variant of policy {first!r}", variant, variant_names())
        variants.append((variant, value if equals else None))
    return PolicyName(kind, unquote(target) if target else None, tuple(variants))


def load_policy(name: str, context: PolicyContext | None = None, **options: Any) -> Policy:
    """The policy of that name, ready for `brief`, `reset` and `act`.

    name: as this module's first line says. context: where it will act; the default DROID station where None.
    options: go to the loader of the kind, which names those it knows.

    Raises:
        UnknownName: no such kind, variant or option; the message tells the nearest.
        InvalidInput: a target is missing, or a value is no number or out of range; the message names the variant.
        Unsupported: the variant does not apply to this policy or control.
        BadFile, MissingDependency: from the loader.
    """
    parsed, where = parse_policy(name), PolicyContext() if context is None else context
    module, function, wanted = _KINDS[parsed.kind]
    load = getattr(import_module(module), function)
    known = list(inspect.signature(load).parameters)[2 if wanted else 1 :]
    for option in options:
        if option not in known:
            raise UnknownName(f"option of policy {parsed.kind!r}", option, known)
    policy: Policy = load(parsed.target, where, **options) if wanted else load(where, **options)
    return with_variants(policy, parsed.variants, where)


def with_variants(policy: Policy, variants: Sequence[tuple[str, str | None]], context: PolicyContext) -> Policy:
    """The policy under variants (name, value): those of its plan first, then effects in the order given.

    Raises as `load_policy` does."""
    for variant, value in variants:
        if variant in _PLANS:
            expert = policy.policy if isinstance(policy, MisledExpert) else policy
            if not isinstance(expert, ScriptedPolicy):
                raise Unsupported(f"variant {variant!r} changes a plan, which only policy 'scripted' makes")
            policy = _PLANS[variant](policy, value)
        elif variant not in _EFFECTS:
            raise UnknownName("variant", variant, variant_names())
    for variant, value in variants:
        if variant in _EFFECTS:
            effect = _EFFECTS[variant](context, value)
            policy = Variant(policy, effect, context.low, context.high, context.idle)
    return policy


# What the values mean ----------------------------------------------------------------------------------------------


def _number(variant: str, value: str | None) -> float:
    try:
        return float(value or "")
    except ValueError as error:
        raise InvalidInput(f"variant {variant!r}", value, f"a number: {variant}=NUMBER") from error


def _whole(variant: str, value: str | None) -> int:
    if value is None or not re.fullmatch(r"\d{1,9}", value):
        raise InvalidInput(f"variant {variant!r}", value, f"a whole number: {variant}=NUMBER")
    return int(value)


def _entry(context: PolicyContext, value: str | None) -> int:
    names = context.spec.names[: int(context.arm.sum())]
    if value in names:
        return names.index(value)
    if value is None or not value.isdecimal() or int(value) >= len(names):
        raise UnknownName("entry of the action to mirror", value, (*names, *map(str, range(len(names)))))
    return int(value)


def _stuck(context: PolicyContext, value: str | None) -> Effect:
    words = {"open": 0.0, "closed": 1.0}
    return effects.GripperStuck(context, words[value] if value in words else _number("gripper", value))


def _unit(number: float, variant: str) -> float:
    if not 0 <= number <= 10:
        raise InvalidInput(f"variant {variant!r}", number, "0 to 10")
    return number


def _miss(policy: Any, value: str | None) -> Policy:
    spread = _unit(_number("miss", value), "miss")
    if isinstance(policy, MisledExpert):
        return replace(policy, policy=replace(policy.policy, noise=spread))
    return replace(policy, noise=spread)  # type: ignore[no-any-return]


def _misled(policy: Any, **changes: Any) -> Policy:
    return replace(policy if isinstance(policy, MisledExpert) else MisledExpert(policy), **changes)


_PLANS: Mapping[str, Callable[[Policy, str | None], Policy]] = MappingProxyType(
    {
        "miss": _miss,
        "wrong_object": lambda policy, value: _misled(
            policy, other=1 if value is None else _whole("wrong_object", value)
        ),
        "wrong_goal": lambda policy, value: _misled(policy, shift=_unit(_number("wrong_goal", value), "wrong_goal")),
    }
)
_EFFECTS: Mapping[str, Callable[[PolicyContext, str | None], Effect]] = MappingProxyType(
    {
        "noise": lambda where, value: effects.Noise(where, _unit(_number("noise", value), "noise")),
        # Held for about a second.
        "held_noise": lambda where, value: effects.Noise(
            where, _unit(_number("held_noise", value), "held_noise"), max(1, round(where.control_hz))
        ),
        "bias": lambda where, value: effects.Bias(where, _unit(_number("bias", value), "bias")),
        "speed": lambda where, value: effects.Scaled(where, _unit(_number("speed", value), "speed")),
        "mirror": lambda where, value: effects.Scaled(where, -1.0, _entry(where, value)),
        "delay": lambda where, value: effects.Delayed(where, _whole("delay", value)),
        "gripper": _stuck,
        "early_gripper": lambda where, value: effects.Delayed(where, _whole("early_gripper", value), gripper=False),
        "freeze": lambda where, value: effects.Frozen(where, _whole("freeze", value)),
        "random_share": lambda where, value: effects.RandomShare(where, _number("random_share", value)),
    }
)
