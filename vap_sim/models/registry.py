"""World models by name: what exists, and where it is loaded from once somebody asks for it."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported
from vap_sim.models.checkpoint import read_description
from vap_sim.models.protocol import WorldModel

# Each class has `load(path | None, *, device, **options)`.
_WORLDS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "still": ("vap_sim.models.still", "StillWorld"),
        "kinematic": ("vap_sim.models.kinematic", "KinematicWorld"),
        "compact": ("vap_sim.models.compact.opening", "CompactWorlds"),
        "compact_bodies": ("vap_sim.models.compact.opening", "BodiesWorlds"),
        "cogvideox": ("vap_sim.models.cogvideox.world", "CogVideoXWorld"),
    }
)


def world_names() -> tuple[str, ...]:
    """The names that `load_world` knows."""
    return tuple(_WORLDS)


def load_world(
    name_or_path: str | Path, /, *, weights: str | Path | None = None, device: str = "cpu", **options: Any
) -> WorldModel:
    """A world model ready to dream.

    name_or_path: a name of `world_names`, or a path (`is_path`): a weights file, whose header may name its world in the
    field "world"; else it is "compact"; or a folder, whose `world.json` names its world; without one, a folder with
    transformer/config.json is "cogvideox". weights: a file or folder to use instead of what ships with the named world.
    options: go to the world's own `load`.

    Raises:
        UnknownName: no such world, or the world has no such option.
        InvalidInput: weights given twice, or the device's name is malformed.
        Unsupported: this machine has no such device.
        BadFile: the weights are missing, damaged or of another model.
    """
    name, path = str(name_or_path), weights
    if is_path(name_or_path):
        if weights is not None:
            raise InvalidInput("weights", weights, f"None, because the world is given as the file {name}")
        path = Path(name_or_path)
        name = _world_of(path)
    if name not in _WORLDS:
        raise UnknownName("world", name, _WORLDS)
    _check_device(device)
    module, kind = _WORLDS[name]
    load = getattr(import_module(module), kind).load
    _check_options(name, load, options)
    world: WorldModel = load(None if path is None else Path(path), device=device, **options)
    return world


def world_settings(name_or_path: str | Path) -> tuple[str, ...]:
    """Names of the options that `load_world` takes for this world. Raises as it does for a world that is not there."""
    name = _world_of(Path(name_or_path)) if is_path(name_or_path) else str(name_or_path)
    if name not in _WORLDS:
        raise UnknownName("world", name, _WORLDS)
    module, kind = _WORLDS[name]
    return _settings(getattr(import_module(module), kind).load)


def is_path(world: str | Path) -> bool:
    """Whether `load_world` takes this for a file or folder: a Path, or a text that is no world's name but has a path
    separator, ends in .safetensors or is a folder here."""
    if isinstance(world, Path):
        return True
    if not world or world in _WORLDS:
        return False
    separators = [mark for mark in (os.sep, os.altsep) if mark]
    return any(mark in world for mark in separators) or world.endswith(".safetensors") or Path(world).is_dir()


def _check_options(name: str, load: Callable[..., WorldModel], options: Iterable[str]) -> None:
    known = _settings(load)
    for option in options:
        if option not in known:
            raise UnknownName(f"option of world {name!r}", option, known)


def _settings(load: Callable[..., WorldModel]) -> tuple[str, ...]:
    return tuple(option for option in inspect.signature(load).parameters if option not in ("path", "device"))


def _world_of(path: Path) -> str:
    if not path.is_dir():
        return str(read_description(path).get("world", "compact"))
    described = path / "world.json"
    if not described.is_file():
        if (path / "transformer" / "config.json").is_file():
            return "cogvideox"
        raise BadFile(path, "is a folder with neither world.json nor transformer/config.json")
    try:
        values = json.loads(described.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(described, f"is not JSON ({error})") from error
    name = values.get("world") if isinstance(values, dict) else None
    if not isinstance(name, str):
        raise BadFile(described, f"field 'world' is {name!r}, expected the name of a world")
    return name


def _check_device(device: str) -> None:
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InvalidInput("device", device, "the name of a torch device, like 'cpu' or 'cuda:0'") from error
    if kind == "cuda" and not torch.cuda.is_available():
        raise Unsupported(f"device {device!r}: torch finds no CUDA device on this machine")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise Unsupported(f"device {device!r}: torch finds no Metal device on this machine")
