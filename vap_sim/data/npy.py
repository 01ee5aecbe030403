"""Arrays in numpy's file format 1.0 from a stranger: no pickle, and nothing allocated by what a header claims."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np

from vap_sim.data.episode import Array
from vap_sim.data.folders import enclosed
from vap_sim.data.logged import Log

_DAMAGE = (ValueError, TypeError, EOFError, SyntaxError, RecursionError, MemoryError, OverflowError)


def numbers_of(content: bytes, log: Log, field: str) -> Array:
    """The array (...) float64 in the bytes of a `.npy` file. Raises BadFile naming the field."""
    stream = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(stream)
        if version != (1, 0):
            raise ValueError(f"version {version}, expected (1, 0)")
        shape, fortran, kind = np.lib.format.read_array_header_1_0(stream)
    except _DAMAGE as error:
        log.refuse(field, f"is no array of numpy's format ({error})")
    if kind.kind not in "fiu" or min(shape, default=0) < 0:
        log.refuse(field, f"is {kind} of shape {shape}, expected numbers")
    left = len(content) - stream.tell()
    if math.prod(shape) * kind.itemsize != left:
        log.refuse(field, f"has {left} bytes for shape {shape}")
    values = np.frombuffer(content, kind, offset=stream.tell())
    return values.reshape(shape, order="F" if fortran else "C").astype(np.float64)


def read_numbers(root: Path, path: Path, log: Log, largest: int) -> Array:
    """The array in a `.npy` file of at most `largest` bytes inside `root`. Raises BadFile."""
    enclosed(root, path)
    try:
        if path.stat().st_size > largest:
            log.refuse(path.name, f"has {path.stat().st_size} bytes, expected at most {largest}")
        return numbers_of(path.read_bytes(), log, path.name)
    except OSError as error:
        log.refuse(path.name, f"cannot be read ({error.strerror})")
