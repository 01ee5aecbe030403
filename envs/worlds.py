"""Which world model an environment's arguments mean: a name, a path or a model, and options that go with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vap_sim.errors import InvalidInput
from vap_sim.models.protocol import WorldModel
from vap_sim.models.registry import load_world, world_settings

_ARGUMENTS = ("weights", "device")


def open_world(
    world: str | Path | WorldModel,
    *,
    weights: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    device: str = "cpu",
    views: int = 1,
    moving: bool = False,
) -> WorldModel:
    """The world model itself, or the one that `load_world` makes of a name or a path and `options`, its world's own.

    views: of the environment, and moving: whether one of them rides on a link; worlds that can be told are told so,
    unless `options` say otherwise, where they differ from the worlds' own defaults, one camera that stands still.

    Raises InvalidInput for weights or options beside a model, which is already made, and for options that are no
    mapping or are arguments of the environment; UnknownName for options that the world does not have; and what
    `load_world` raises.
    """
    if options is not None:
        _check_options(options)
    if isinstance(world, str | Path):
        told: dict[str, Any] = {"views": views} if views > 1 else {}
        if moving:
            told["moving"] = True
        known = world_settings(world) if told else ()
        told = {name: value for name, value in told.items() if name in known}
        return load_world(world, weights=weights, device=device, **{**told, **(options or {})})
    for argument, given in (("weights", weights), ("world_options", options)):
        if given is not None:
            raise InvalidInput(argument, given, "None, because the world is given as a model that is already made")
    return world


def _check_options(options: Mapping[str, Any]) -> None:
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise InvalidInput("world_options", options, "a mapping from names to values, like {'mode': 'stream'}")
    for name in _ARGUMENTS:
        if name in options:
            raise InvalidInput("world_options", f"{name!r} among them", f"{name} as an argument of the environment")
