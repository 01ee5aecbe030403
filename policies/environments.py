"""Environments by their Gymnasium ids, as evaluations meet them: found, asked what they take, and made.

An id may name the module that registers it, as Gymnasium writes it: `my_package:MyRobot-v0`. Then other processes and
machines find it too.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import gymnasium
from gymnasium.envs.registration import EnvSpec, load_env_creator

from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.policies.policy import Observations


def environment_spec(env_id: str) -> EnvSpec:
    """What Gymnasium knows of an id.

    Raises UnknownName for an id that nothing registers, and Unsupported where the module that should register it cannot
    be imported.
    """
    module, _, name = env_id.rpartition(":")
    if module:
        try:
            import_module(module)
        except ImportError as error:
            raise Unsupported(f"environment {env_id!r}: its module {module!r} cannot be imported ({error})") from error
    found = gymnasium.registry.get(name)
    if found is None:
        # Gymnasium's own, dozens of games, would hide the few that can be meant.
        meant = [one.id for one in gymnasium.registry.values() if not _home(one).startswith("gymnasium.")]
        raise UnknownName("environment", env_id, sorted(meant))
    return found


def accepted(env_id: str) -> frozenset[str] | None:
    """Names of the arguments that an environment takes; None where it takes any. Raises as `environment_spec` does."""
    entry = environment_spec(env_id).entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    if creator is None:
        return frozenset()
    parameters = inspect.signature(creator).parameters.values()
    if any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters):
        return None
    return frozenset(one.name for one in parameters)


def takes(env_id: str, argument: str) -> bool:
    """Whether an environment takes an argument. Raises as `environment_spec` does."""
    names = accepted(env_id)
    return names is None or argument in names


def check_options(env_id: str, options: Mapping[str, Any]) -> None:
    """Raises UnknownName for an argument that the environment does not take, and as `environment_spec` does."""
    names = accepted(env_id)
    for name in options:
        if names is not None and name not in names:
            raise UnknownName(f"argument of environment {env_id!r}", name, sorted(names))


def with_picture(env_id: str, observations: Any) -> Observations:
    """The observations. Raises InvalidInput where they are no arrays by name, or show no picture."""
    if not isinstance(observations, Mapping) or "image" not in observations:
        given = f"names {sorted(observations)}" if isinstance(observations, Mapping) else type(observations).__name__
        raise InvalidInput(f"observation of environment {env_id!r}", given, "arrays by name, 'image' among them")
    return observations


def _home(spec: EnvSpec) -> str:
    """The module an environment comes from."""
    entry = spec.entry_point
    return entry if isinstance(entry, str) else f"{getattr(entry, '__module__', '')}."
