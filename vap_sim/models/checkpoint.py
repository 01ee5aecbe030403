"""Weights on disk: safetensors with a JSON description, split into files below a size, whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vap_sim.errors import BadFile

LARGEST_FILE = 15 * 2**20
"""Bytes of tensors in one file of a split save."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write one safetensors file under a temporary name, then rename it; `description` goes into its header as JSON."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        values = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        save_file(values, partial, metadata={"description": json.dumps(dict(description))})
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a file of `save_tensors`. Raises BadFile for a missing, damaged or foreign file."""
    path = Path(path)
    if not path.is_file():
        raise BadFile(path, "no such weights file")
    try:
        with safetensors.safe_open(path, "pt") as file:
            header = file.metadata() or {}
        description = json.loads(header["description"])
        return load_file(path), description
    except KeyError as error:
        raise BadFile(path, "a safetensors file of another program (its header has no field 'description')") from error
    except (safetensors.SafetensorError, json.JSONDecodeError, OSError) as error:
        raise BadFile(path, f"not a whole safetensors file ({error})") from error


def save_split(folder: Path, name: str, tensors: Mapping[str, Tensor], description: Mapping[str, Any]) -> None:
    """Write `tensors` as `NAME-000.safetensors`, ... and last `NAME.json`, which alone makes the set valid.

    Files of an older set stay readable until the new JSON replaces the old one, so a kill at any moment loses nothing.
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
    tag = str(description.get("step", 0))
    files = [f"{name}-{tag}-{index:03d}.safetensors" for index in range(len(groups))]
    for file, group in zip(files, groups, strict=True):
        save_tensors(folder / file, group, {"part_of": name})
    partial = folder / f"{name}.json.partial"
    partial.write_text(json.dumps({**description, "files": files}))
    os.replace(partial, folder / f"{name}.json")
    for old in folder.glob(f"{name}-*.safetensors"):
        if old.name not in files:
            old.unlink()


def load_split(folder: Path, name: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read a set of `save_split`, or None where there is none. Raises BadFile when it is damaged."""
    index = folder / f"{name}.json"
    if not index.is_file():
        return None
    try:
        description = json.loads(index.read_text())
        files = [str(file) for file in description["files"]]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise BadFile(index, f"not a checkpoint index ({error})") from error
    tensors: dict[str, Tensor] = {}
    for file in files:
        if Path(file).name != file:
            raise BadFile(index, f"file name {file!r} leaves the folder")
        tensors.update(load_tensors(folder / file)[0])
    return tensors, description


def fill(network: nn.Module, tensors: Mapping[str, Tensor], source: object) -> None:
    """Copy tensors into a network of exactly these names and shapes. Raises BadFile naming the first that differs."""
    own = network.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors or name not in own:
            raise BadFile(source, f"tensor {name!r} is {'missing' if name not in tensors else 'unknown to this model'}")
        if own[name].shape != tensors[name].shape:
            raise BadFile(source, f"tensor {name!r} is {tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])
