"""What a foreign network wants to see and what it says, as data: names, layouts, sizes, scales.

A mapping is a JSON file, or a dictionary, of this form; fields that are left out have the values shown:

    {"inputs": [
       {"name": "image", "keys": ["image"], "size": 224, "pad": false, "layout": "CHW", "scale": 0.00392156862745098,
        "mean": [0.0], "std": [1.0]},
       {"name": "state", "keys": ["joint_position", "gripper_position"], "mean": [0.0], "std": [1.0]}],
     "output": "actions", "mean": [0.0], "std": [1.0], "execute": 1}

An input with `size` is a picture: resized (padded where `pad`), times `scale`, minus `mean`, over `std`, by channel.
Another one joins the numbers of its keys, minus mean, over std. The answer is one action (b, A) or a chunk (b, C, A);
times `std` plus `mean` it is in the environment's units; `execute` actions of it are played.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.policies.padding import resize_with_pad, resized
from vap_sim.policies.policy import Observations

_LAYOUTS = ("CHW", "HWC")
_LARGEST = 2**20  # bytes of a mapping file


@dataclass(frozen=True)
class NetworkInput:
    """One input of a network; the module says what the fields mean."""

    name: str
    keys: tuple[str, ...]
    size: int | None = None
    pad: bool = False
    layout: str = "CHW"
    scale: float = 1 / 255
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.keys or (self.size is not None and len(self.keys) != 1):
            raise InvalidInput(f"keys of input {self.name!r}", self.keys, "one for a picture, at least one for numbers")
        if self.layout not in _LAYOUTS:
            raise UnknownName(f"layout of input {self.name!r}", self.layout, _LAYOUTS)
        if self.size is not None and not 1 <= self.size <= 4096:
            raise InvalidInput(f"size of input {self.name!r}", self.size, "1 to 4096 px")
        _check_spread(f"input {self.name!r}", self.mean, self.std)

    def of(self, obs: Observations) -> NDArray[np.float32]:
        """The input (b, ...) float32. Raises InvalidInput for an observation without its keys."""
        for key in self.keys:
            if key not in obs:
                raise InvalidInput(f"observation for input {self.name!r}", sorted(obs), f"one with {key!r}")
        if self.size is None:
            values = np.concatenate([np.asarray(obs[key]).reshape(len(obs[key]), -1) for key in self.keys], axis=1)
            return _normal(values.astype(np.float32), self.mean, self.std, f"input {self.name!r}")
        resize = resize_with_pad if self.pad else resized
        picture = resize(np.asarray(obs[self.keys[0]]), self.size, self.size).astype(np.float32) * np.float32(
            self.scale
        )
        picture = _normal(picture, self.mean, self.std, f"input {self.name!r}")
        return np.ascontiguousarray(np.moveaxis(picture, -1, 1)) if self.layout == "CHW" else picture


@dataclass(frozen=True)
class NetworkMapping:
    """All inputs of a network and what its answer means."""

    inputs: tuple[NetworkInput, ...]
    output: str = "actions"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    execute: int = 1

    def __post_init__(self) -> None:
        if not self.inputs or len({item.name for item in self.inputs}) < len(self.inputs):
            raise InvalidInput(
                "inputs of a network", [item.name for item in self.inputs], "different ones, at least one"
            )
        _check_spread("the answer", self.mean, self.std)

    def chunks(self, answer: NDArray[Any]) -> NDArray[np.float32]:
        """The answer (b, A) or (b, C, A) of a network as chunks (b, C, A) in the environment's units."""
        values = np.asarray(answer, np.float32)
        values = values[:, None] if values.ndim == 2 else values
        size = values.shape[-1] if values.ndim else 0
        for numbers in (self.mean, self.std):
            if len(numbers) not in (1, size):
                raise InvalidInput("mean and std of the answer", len(numbers), f"1 or {size} numbers")
        return values * np.array(self.std, np.float32) + np.array(self.mean, np.float32)


def read_mapping(given: Mapping[str, Any] | str | Path) -> NetworkMapping:
    """The mapping in a JSON file or a dictionary. Raises BadFile or InvalidInput naming the field that is wrong."""
    if isinstance(given, Mapping):
        return _mapping(given)
    path = Path(given)
    try:
        if path.stat().st_size > _LARGEST:
            raise BadFile(path, f"larger than {_LARGEST} bytes")
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadFile(path, "no such file; it says what the network wants to see") from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(path, f"is not JSON ({error})") from error
    try:
        return _mapping(values)
    except (InvalidInput, UnknownName) as error:
        raise BadFile(path, str(error)) from error


def _mapping(values: Any) -> NetworkMapping:
    known = [field.name for field in fields(NetworkMapping)]
    values = _record("mapping", values, known, ("inputs",))
    if not isinstance(values["inputs"], list | tuple):
        raise InvalidInput("field 'inputs'", type(values["inputs"]).__name__, "a list")
    names = [field.name for field in fields(NetworkInput)]
    rows = [_record("input", item, names, ("name", "keys")) for item in values["inputs"]]
    return NetworkMapping(**{**values, "inputs": tuple(NetworkInput(**row) for row in rows)})


_TYPES: dict[str, tuple[type, ...]] = {
    "name": (str,), "keys": (list, tuple), "size": (int, type(None)), "pad": (bool,), "layout": (str,),
    "scale": (float, int), "mean": (list, tuple), "std": (list, tuple), "output": (str,), "execute": (int,),
}  # fmt: skip


def _record(what: str, values: Any, known: list[str], needed: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise InvalidInput(what, type(values).__name__, "an object")
    for field in values:
        if field not in known:
            raise UnknownName(f"field of {what}", field, known)
        if not isinstance(values[field], _TYPES.get(field, (object,))):
            raise InvalidInput(f"field {field!r} of {what}", values[field], f"a {_TYPES[field][0].__name__}")
    for field in needed:
        if field not in values:
            raise InvalidInput(what, sorted(values), f"one with {field!r}")
    return {key: tuple(value) if key in ("keys", "mean", "std") else value for key, value in values.items()}


def _check_spread(what: str, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
    numbers = (*mean, *std)
    good = all(type(value) in (int, float) and np.isfinite(value) for value in numbers)
    if not good or not mean or not std or 0 in std:
        raise InvalidInput(f"mean and std of {what}", (mean, std), "finite numbers, std other than 0")


def _normal(
    values: NDArray[np.float32], mean: tuple[float, ...], std: tuple[float, ...], what: str
) -> NDArray[np.float32]:
    for numbers in (mean, std):
        if len(numbers) not in (1, values.shape[-1]):
            raise InvalidInput(f"mean and std of {what}", len(numbers), f"1 or {values.shape[-1]} numbers")
    centre, spread = np.array(mean, np.float32), np.array(std, np.float32)
    return ((values - centre) / spread).astype(np.float32)
