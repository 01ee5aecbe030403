"""Tensors that were costly to make, kept on disk: safetensors named by a hash of all that decides the contents.

Any number of processes may share a folder. A file appears under its name only when it is whole; one that was damaged
later counts as missing and is made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vap_sim.errors import BadFile
from vap_sim.models.checkpoint import load_tensors, read_description, save_tensors

_SUFFIX = ".safetensors"
_PIECE = 2**20


def key_of(**parts: Any) -> str:
    """A name for contents that these plain values decide: 40 hexadecimal digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes. Raises BadFile."""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error})") from error
    return digest.hexdigest()


def fingerprint(thing: object) -> str:
    """Which codec or encoder this is: its class and all its values, down to the last bit of its weights.

    Values that are neither plain, paths, tensors nor modules are left out.
    """
    digest = hashlib.sha256(type(thing).__qualname__.encode())
    for name, value in sorted(vars(thing).items()):
        digest.update(f"\n{name}=".encode())
        if isinstance(value, Tensor):
            _add(digest, value)
        elif isinstance(value, nn.Module):
            for key, tensor in sorted(value.state_dict().items()):
                digest.update(key.encode())
                _add(digest, tensor)
        elif value is None or isinstance(value, str | int | float | bool | Path | tuple):
            digest.update(repr(value).encode())
    return digest.hexdigest()[:16]


def _add(digest: Any, value: Tensor) -> None:
    value = value.detach().cpu().contiguous()
    digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
    digest.update(value.flatten().view(torch.uint8).numpy())


@dataclass(frozen=True)
class TensorCache:
    """A folder of tensors by key."""

    folder: Path

    def path(self, key: str) -> Path:
        """Where the contents of a key are, or will be."""
        return self.folder / f"{key}{_SUFFIX}"

    def has(self, key: str) -> bool:
        """Whether there is a whole file of this key."""
        try:
            return read_description(self.path(key)).get("key") == key
        except BadFile:
            return False

    def put(self, key: str, tensors: Mapping[str, Tensor], **description: Any) -> Path:
        """Write the contents of a key; of two processes that do so at once, the last stays. Raises OSError."""
        own = self.folder / f"{key}-{os.getpid()}-{uuid.uuid4().hex[:8]}{_SUFFIX}"
        try:
            save_tensors(own, tensors, {**description, "key": key})
            os.replace(own, self.path(key))
        finally:
            own.unlink(missing_ok=True)
        return self.path(key)

    def get(self, key: str) -> dict[str, Tensor]:
        """The contents of a key. Raises BadFile for a file that is missing, damaged or of another key."""
        tensors, description = load_tensors(self.path(key))
        if description.get("key") != key:
            raise BadFile(self.path(key), f"holds {description.get('key')!r}, which its name does not say")
        return tensors

    def made(self, key: str, make: Callable[[], Mapping[str, Tensor]], **description: Any) -> dict[str, Tensor]:
        """The contents of a key, made and kept if they are not there. Raises OSError."""
        if not self.has(key):
            self.put(key, make(), **description)
        return self.get(key)
