"""Checked archives: a JSON description and arrays of settled types and axes in one ZIP file, without pickle.

An archive is a ZIP of `.npy` members, which `numpy.load(..., allow_pickle=False)` opens, and `meta.json`. Members that
are nearly still from frame to frame hold differences to the frame before, modulo 256, along their second axis.
"""

from __future__ import annotations

import io
import json
import lzma
import math
import os
import zipfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vap_sim.errors import BadFile, UnknownName

_LARGEST_META = 2**24
_LARGEST = 2**31  # bytes of one member; refuses decompression bombs
_BLOCK = 2**12
_DAMAGE = (
    zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError, ValueError, zlib.error, lzma.LZMAError
)  # fmt: skip


@dataclass(frozen=True)
class ArchiveLayout:
    """What one kind of archive holds.

    what: its name in messages; format: the version in its description; members: type and axes of each array, where a
    capital is a length that members share, a digit a length, h and w are half of H and W, and t is T - 1; delta:
    members (uint8) kept as differences; fields: what its description must have; compression: of `zipfile`.
    """

    what: str
    format: int
    members: Mapping[str, tuple[str, str]]
    delta: tuple[str, ...]
    fields: tuple[str, ...]
    compression: int = zipfile.ZIP_LZMA


def write_archive(path: Path, layout: ArchiveLayout, values: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
    """Write `path`, by a temporary name first, so that a file under its final name is always whole.

    Equal contents make equal files, to the byte. Raises OSError where the disk refuses.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with zipfile.ZipFile(partial, "w", layout.compression) as archive:
            # `writestr` would stamp the member with the clock.
            with archive.open("meta.json", "w") as member:
                member.write(json.dumps({"format": layout.format, "delta": list(layout.delta), **meta}).encode())
            for name in layout.members:
                array = values[name]
                if name in layout.delta:
                    array = np.diff(array, axis=1, prepend=np.zeros_like(array[:, :1]))
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_archive(
    path: Path, layout: ArchiveLayout, only: Iterable[str] | None = None, *, older: Sequence[ArchiveLayout] = ()
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The description and the arrays of a file of `write_archive`.

    Args:
        path: the file. only: members to read; the others become empty arrays, as do those that an older format lacks.
        older: layouts of other formats that the file may be of; none has members that `layout` lacks.

    Raises:
        BadFile: missing, truncated, of another format, or a member of wrong type or shape; names the member.
        UnknownName: `only` names no member.
    """
    path, wanted = Path(path), tuple(layout.members if only is None else only)
    for name in wanted:
        if name not in layout.members:
            raise UnknownName(f"member of {_article(layout.what)}", name, layout.members)
    try:
        with zipfile.ZipFile(path) as archive:
            meta, found = _meta(archive, path, (layout, *older))
            values = {name: _member(archive, path, found, name) for name in wanted if name in found.members}
    except FileNotFoundError as error:
        raise BadFile(path, "no such file") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise BadFile(path, f"not a whole {layout.what} file ({error})") from error
    _check_shapes(path, found, values)
    absent = {name: known for name, known in layout.members.items() if name not in values}
    empty = {name: np.zeros((0,) * len(axes), kind) for name, (kind, axes) in absent.items()}
    return meta, {**values, **empty}


def _article(what: str) -> str:
    return f"{'an' if what[0] in 'aeiou' else 'a'} {what}"


def _meta(
    archive: zipfile.ZipFile, path: Path, layouts: Sequence[ArchiveLayout]
) -> tuple[dict[str, Any], ArchiveLayout]:
    """The description, and which of the layouts it is of."""
    try:
        meta = json.loads(_bytes(archive, path, "meta.json", _LARGEST_META))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(path, f"meta.json: not JSON ({error})") from error
    given = meta.pop("format", None) if isinstance(meta, dict) else None
    layout = next((known for known in layouts if known.format == given and not isinstance(given, bool)), None)
    if layout is None:
        known = " and ".join(str(number) for number in sorted(known.format for known in layouts))
        raise BadFile(path, f"meta.json: this reader knows format {known}")
    if meta.pop("delta", None) != list(layout.delta):
        raise BadFile(path, f"meta.json: field 'delta' must be {list(layout.delta)}")
    for field in layout.fields:
        if field not in meta:
            raise BadFile(path, f"meta.json: field {field!r} is missing")
    return meta, layout


def _member(archive: zipfile.ZipFile, path: Path, layout: ArchiveLayout, name: str) -> np.ndarray:
    kind, axes = layout.members[name]
    content = io.BytesIO(_bytes(archive, path, f"{name}.npy", _LARGEST))
    try:
        version = np.lib.format.read_magic(content)
        if version != (1, 0):
            raise ValueError(f"version {version}")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(content)
    except (ValueError, TypeError, EOFError, SyntaxError, RecursionError, MemoryError) as error:
        raise BadFile(path, f"{name}: not an array of numpy's format 1.0 ({error})") from error
    if dtype != np.dtype(kind) or len(shape) != len(axes) or fortran:
        order = ", columns first" if fortran else ""
        expected = f"{np.dtype(kind)} with {len(axes)}"
        raise BadFile(path, f"{name}: {dtype} with {len(shape)} axes{order}, expected {expected}")
    data = content.getbuffer()[content.tell() :]
    # Compared before anything is allocated: a header may claim any shape.
    if math.prod(shape) * dtype.itemsize != len(data) or min(shape) < 0:
        raise BadFile(path, f"{name}: {len(data)} bytes for shape {shape}")
    values = np.frombuffer(data, dtype).reshape(shape)
    return np.cumsum(values, axis=1, dtype=np.uint8) if name in layout.delta else values


def _bytes(archive: zipfile.ZipFile, path: Path, member: str, largest: int) -> bytes:
    """Everything in a member, which may be damaged in as many ways as there are exceptions in the libraries below."""
    name = member.removesuffix(".npy")
    try:
        size = archive.getinfo(member).file_size
    except KeyError as error:
        raise BadFile(path, f"{name}: missing") from error
    if size > largest:
        raise BadFile(path, f"{name}: larger than {largest} bytes")
    content = bytearray()
    try:
        with archive.open(member) as file:
            # In small blocks: what one block unpacks to is held in memory, whatever size the member claims.
            while block := file.read(_BLOCK):
                content += block
        return bytes(content)
    except _DAMAGE as error:
        raise BadFile(path, f"{name}: damaged ({error})") from error


def _check_shapes(path: Path, layout: ArchiveLayout, values: Mapping[str, np.ndarray]) -> None:
    """Raise BadFile naming the first member, in the layout's order, that disagrees with those before it."""
    sizes: dict[str, int] = {}
    for name in (known for known in layout.members if known in values):
        for axis, length in zip(layout.members[name][1], values[name].shape, strict=True):
            if axis.isdigit():
                expected = int(axis)
            elif axis in "hw":
                expected = sizes.get(axis.upper(), 2 * length) // 2
            elif axis == "t":
                expected = sizes.get("T", length + 1) - 1
            else:
                expected = sizes.setdefault(axis, length)
            if length != expected:
                raise BadFile(path, f"{name}: shape {values[name].shape}, expected {expected} where it has {length}")
