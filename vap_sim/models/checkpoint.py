"""Weights on disk: safetensors with a JSON description, split into files below a size, whole or not at all."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vap_sim.errors import BadFile

LARGEST_FILE = 15 * 2**20
"""Bytes of tensors in one file of a split save; a larger tensor gets a file of its own."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write one safetensors file under a temporary name, then rename it; `description` goes into its header as JSON.

    Raises OSError where the disk refuses; what was at `path` then stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        save_file(_apart(tensors), partial, metadata={"description": json.dumps(dict(description))})
        os.replace(partial, path)
    except safetensors.SafetensorError as error:
        raise OSError(f"{path}: cannot be written ({error})") from error
    finally:
        partial.unlink(missing_ok=True)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `save_tensors`. Raises BadFile for a missing, damaged or foreign file."""
    description = read_description(path)
    try:
        return load_file(path), description
    except (safetensors.SafetensorError, OSError) as error:
        raise BadFile(path, f"not a whole safetensors file ({error})") from error


def read_description(path: Path) -> dict[str, Any]:
    """What the header of a file of `save_tensors` says about it. Raises BadFile as `load_tensors` does."""
    if not Path(path).is_file():
        raise BadFile(path, "no such weights file")
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata() or {}
    except (safetensors.SafetensorError, OSError) as error:
        raise BadFile(path, f"not a whole safetensors file ({error})") from error
    if "description" not in header:
        raise BadFile(path, "a safetensors file of another program (its header has no field 'description')")
    return _json_object(path, "field 'description' of its header", header["description"])


def save_split(folder: Path, name: str, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write `tensors` as `NAME-T-000.safetensors`, ... and last `NAME.json`, which alone makes the set valid.

    T is a number that no file of an older set has, so those stay readable until the new JSON replaces the old one, and
    a kill at any moment loses nothing. What kills left behind is removed by the next save. Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups: list[dict[str, Tensor]] = [{}]
    size = 0
    for key, value in tensors.items():
        part = value.numel() * value.element_size()
        if groups[-1] and size + part > LARGEST_FILE:
            groups.append({})
            size = 0
        groups[-1][key] = value
        size += part
    old = _parts(folder, name)
    tag = 1 + max(old.values(), default=-1)
    files = [f"{name}-{tag}-{index:03d}.safetensors" for index in range(len(groups))]
    for file, group in zip(files, groups, strict=True):
        save_tensors(folder / file, group, {"part_of": name})
    partial = folder / f"{name}.json.partial"
    try:
        partial.write_text(json.dumps({**description, "files": files}), encoding="utf-8")
        os.replace(partial, folder / f"{name}.json")
    finally:
        partial.unlink(missing_ok=True)
    for path in old:
        path.unlink(missing_ok=True)


def load_split(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a set of `save_split`, or None where there is none. Raises BadFile when it is damaged."""
    index = folder / f"{name}.json"
    if not index.is_file():
        return None
    try:
        text = index.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadFile(index, f"cannot be read as text ({error})") from error
    description = _json_object(index, "the index", text)
    files = description.get("files")
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise BadFile(index, f"field 'files' is {files!r}, expected a list of file names")
    tensors: dict[str, Tensor] = {}
    for file in files:
        if Path(file).name != file:
            raise BadFile(index, f"field 'files': {file!r} leaves the folder")
        part, header = load_tensors(folder / file)
        if header.get("part_of") != name:
            raise BadFile(folder / file, f"field 'part_of' is {header.get('part_of')!r}, expected {name!r}")
        twice = part.keys() & tensors.keys()
        if twice:
            raise BadFile(folder / file, f"tensor {min(twice)!r} is in an earlier file of the set too")
        tensors |= part
    return tensors, description


def fill(network: nn.Module, tensors: Mapping[str, Tensor], source: object) -> None:
    """Copy tensors into a network of exactly these names and shapes. Raises BadFile naming the first that differs."""
    own = network.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors or name not in own:
            raise BadFile(source, f"tensor {name!r} is {'missing' if name not in tensors else 'unknown to this model'}")
        if own[name].shape != tensors[name].shape:
            raise BadFile(source, f"tensor {name!r} is {tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}")
        if own[name].is_floating_point() != tensors[name].is_floating_point():
            raise BadFile(source, f"tensor {name!r} is {tensors[name].dtype}, expected {own[name].dtype}")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, contiguous, each with memory of its own: the format refuses to store shared memory."""
    owned: set[int] = set()
    apart: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        value = tensor.detach().cpu().contiguous()
        address = value.untyped_storage().data_ptr()
        apart[name] = value.clone() if address in owned else value
        owned.add(address)
    return apart


def _parts(folder: Path, name: str) -> dict[Path, int]:
    """Files of any set of this name, half-written ones too, and the number of the set of each."""
    pattern = re.compile(re.escape(name) + r"-(\d+)-\d+\.safetensors(\.partial)?")
    found = ((path, pattern.fullmatch(path.name)) for path in folder.iterdir())
    return {path: int(match[1]) for path, match in found if match}


def _json_object(path: Path, what: str, text: str) -> dict[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadFile(path, f"{what} is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise BadFile(path, f"{what} is a {type(values).__name__}, expected an object")
    return values
