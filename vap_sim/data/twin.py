"""Recorded twin episodes: the record, and its file format (one compressed archive an episode, no pickle).

A file `NAME.vap.npz` is a ZIP archive of `.npy` members that `numpy.load(..., allow_pickle=False)` opens. Image-like
members hold differences to the previous frame, modulo 256, because a static camera makes them nearly empty; `delta` in
`meta.json` lists them. `meta.json` also holds the format version, seed, behaviours, robot, scene, cameras and control.

| member | shape | type | meaning |
| --- | --- | --- | --- |
| frames | (V, T, H, W, 3) | uint8 | what the cameras saw |
| objects | (V, T, H, W, 4) | uint8 | loose objects alone, premultiplied rgba, nothing hides them |
| plate | (V, H, W, 3) | uint8 | the scene without robot and objects |
| robot | (V, T, H, W) | uint8 | visible share of the robot in each pixel, 0..255 |
| labels | (V, T, H, W) | uint8 | what fills most of a pixel: 0 other, 1 robot, 2 + k object k |
| flow | (V, T, 2, H/2, W/2) | int16 | where an object pixel was one frame before, minus where it is [px / 32]; or 0 |
| joints | (T, 8) | float32 | nominal joints [rad]: what a prompt is drawn from |
| measured | (T, 8) | float32 | the joints that physics arrived at [rad] |
| actions | (T - 1, A) | float32 | action between frame t and t + 1 |
| object_poses | (T, K, 7) | float32 | position [m] and quaternion xyzw |
"""

from __future__ import annotations

import io
import json
import lzma
import math
import os
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from vap_sim.errors import BadFile, UnknownName

FORMAT = 1
SUFFIX = ".vap.npz"
FLOW_SCALE = 32
_DELTA = ("frames", "objects", "robot", "labels")
_KINDS = {
    "frames": ("u1", "VTHW3"), "objects": ("u1", "VTHW4"), "plate": ("u1", "VHW3"), "robot": ("u1", "VTHW"),
    "labels": ("u1", "VTHW"), "flow": ("i2", "VT2hw"), "joints": ("f4", "TJ"), "measured": ("f4", "TJ"),
    "actions": ("f4", "tA"), "object_poses": ("f4", "TK7"),
}  # fmt: skip
"""Type and axes of each member: a capital is a length that members share; h, w are half of H, W, and t is T - 1."""
_META = ("seed", "behaviours", "robot", "control_mode", "control_dt", "scene", "cameras")
_LARGEST_META = 2**24
_LARGEST = 2**31  # bytes of one member; refuses decompression bombs
_BLOCK = 2**12
_DAMAGE = (
    zipfile.BadZipFile, EOFError, OSError, RuntimeError, NotImplementedError, ValueError, zlib.error, lzma.LZMAError
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class TwinEpisode:
    """One recorded episode; see the module's table for shapes, types and units."""

    frames: np.ndarray
    objects: np.ndarray
    plate: np.ndarray
    robot: np.ndarray
    labels: np.ndarray
    flow: np.ndarray
    joints: np.ndarray
    measured: np.ndarray
    actions: np.ndarray
    object_poses: np.ndarray
    meta: dict[str, Any]

    @property
    def length(self) -> int:
        """Number of frames."""
        return int(self.joints.shape[0])


def save_episode(path: Path, episode: TwinEpisode) -> None:
    """Write `path`, by a temporary name first, so that a file under its final name is always whole.

    Equal episodes make equal files, to the byte. Raises OSError where the disk refuses.
    """
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_LZMA) as archive:
            # `writestr` would stamp the member with the clock.
            with archive.open("meta.json", "w") as member:
                member.write(json.dumps({"format": FORMAT, "delta": list(_DELTA), **episode.meta}).encode())
            for name in _KINDS:
                values = getattr(episode, name)
                if name in _DELTA:
                    values = np.diff(values, axis=1, prepend=np.zeros_like(values[:, :1]))
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.ascontiguousarray(values), allow_pickle=False)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_episode(path: Path, only: tuple[str, ...] | None = None) -> TwinEpisode:
    """Read a file of `save_episode`.

    Args:
        path: the file. only: members to read; the others become empty arrays.

    Raises:
        BadFile: missing, truncated, of another format, or a member of wrong type or shape; names the member.
        UnknownName: `only` names no member.
    """
    path = Path(path)
    for name in only or ():
        if name not in _KINDS:
            raise UnknownName("member of an episode", name, _KINDS)
    wanted = tuple(_KINDS) if only is None else only
    try:
        with zipfile.ZipFile(path) as archive:
            meta = _meta(archive, path)
            values = {name: _member(archive, path, name) for name in wanted}
    except FileNotFoundError as error:
        raise BadFile(path, "no such file") from error
    except (zipfile.BadZipFile, OSError) as error:
        raise BadFile(path, f"not a whole episode file ({error})") from error
    _check_shapes(path, values)
    empty = {name: np.zeros((0,) * len(axes), kind) for name, (kind, axes) in _KINDS.items() if name not in values}
    return TwinEpisode(**values, **empty, meta=meta)


def _meta(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    try:
        meta = json.loads(_bytes(archive, path, "meta.json", _LARGEST_META))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(path, f"meta.json: not JSON ({error})") from error
    if not isinstance(meta, dict) or meta.pop("format", None) != FORMAT:
        raise BadFile(path, f"meta.json: this reader knows format {FORMAT}")
    if meta.pop("delta", None) != list(_DELTA):
        raise BadFile(path, f"meta.json: field 'delta' must be {list(_DELTA)}")
    for field in _META:
        if field not in meta:
            raise BadFile(path, f"meta.json: field {field!r} is missing")
    return meta


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    kind, axes = _KINDS[name]
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
    return np.cumsum(values, axis=1, dtype=np.uint8) if name in _DELTA else values


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


def _check_shapes(path: Path, values: dict[str, np.ndarray]) -> None:
    """Raise BadFile naming the first member, in the table's order, that disagrees with those before it."""
    sizes: dict[str, int] = {}
    for name in (known for known in _KINDS if known in values):
        for axis, length in zip(_KINDS[name][1], values[name].shape, strict=True):
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


def episode_files(folder: Path) -> list[Path]:
    """All episode files below `folder`, in name order; BadFile when there are none."""
    files = sorted(Path(folder).rglob(f"*{SUFFIX}"))
    if not files:
        raise BadFile(folder, f"no episode files (*{SUFFIX})")
    return files


def iterate_episodes(folder: Path) -> Iterator[TwinEpisode]:
    """Read the episodes of a folder one by one."""
    for path in episode_files(folder):
        yield load_episode(path)


assert set(_KINDS) == {field.name for field in fields(TwinEpisode)} - {"meta"}
