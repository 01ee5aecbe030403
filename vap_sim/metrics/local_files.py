"""Files of networks that a user names: read once, hashed, checked against the hash that is expected; never fetched."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import safetensors
import torch
from safetensors.torch import load
from torch import Tensor

from vap_sim.errors import BadFile


@dataclass(frozen=True, eq=False)
class LocalFile:
    """A file's bytes and their SHA-256; what is used is what was hashed, even if the file changes meanwhile."""

    path: Path
    content: bytes
    sha256: str

    def tensors(self) -> dict[str, Tensor]:
        """What a safetensors file holds. Raises BadFile for another format and for values that are not finite."""
        try:
            tensors = load(self.content)
        except (safetensors.SafetensorError, ValueError, KeyError) as error:
            raise BadFile(self.path, f"not a whole safetensors file ({error})") from error
        for name, value in tensors.items():
            if value.is_floating_point() and not bool(torch.isfinite(value).all()):
                raise BadFile(self.path, f"tensor {name!r} has values that are not finite")
        return tensors


def read_local(path: Path | str, *, sha256: str | None = None) -> LocalFile:
    """Read a file; `sha256`, if given, is the hash that it must have. Raises BadFile where it is missing or another."""
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadFile(path, f"no such network file ({error.strerror}); nothing is ever downloaded") from error
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise BadFile(path, f"its sha256 is {found}, expected {sha256}")
    return LocalFile(path, content, found)
