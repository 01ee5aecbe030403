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

import json
import os
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from vap_sim.errors import BadFile

FORMAT = 1
SUFFIX = ".vap.npz"
FLOW_SCALE = 32
_DELTA = ("frames", "objects", "robot", "labels")
_KINDS = {
    "frames": ("u1", 5), "objects": ("u1", 5), "plate": ("u1", 4), "robot": ("u1", 4), "labels": ("u1", 4),
    "flow": ("i2", 5), "joints": ("f4", 2), "measured": ("f4", 2), "actions": ("f4", 2), "object_poses": ("f4", 3),
}  # fmt: skip
_LARGEST = 2**31  # bytes of one member; refuses decompression bombs


@dataclass(frozen=True)
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
    """Write `path`, by a temporary name first, so that a file under its final name is always whole."""
    path = Path(path)
    partial = path.with_name(path.name + ".partial")
    try:
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_LZMA) as archive:
            archive.writestr("meta.json", json.dumps({"format": FORMAT, "delta": list(_DELTA), **episode.meta}))
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
        BadFile: missing, truncated, of another format, or a member of wrong type or length; names the member.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            meta = json.loads(archive.read("meta.json"))
            if not isinstance(meta, dict) or meta.get("format") != FORMAT:
                raise BadFile(path, f"meta.json: this reader knows format {FORMAT}")
            values = {
                name: _member(archive, path, name) if only is None or name in only else np.zeros(0, _KINDS[name][0])
                for name in _KINDS
            }
    except FileNotFoundError as error:
        raise BadFile(path, "no such file") from error
    except (zipfile.BadZipFile, KeyError, EOFError, json.JSONDecodeError, OSError) as error:
        raise BadFile(path, f"not a whole episode file ({error})") from error
    length = len(values["joints"])
    for name in (*_DELTA, "flow"):
        if values[name].size and values[name].shape[1] != length:
            raise BadFile(path, f"{name}: {values[name].shape[1]} frames beside {length} joint poses")
    return TwinEpisode(**values, meta=meta)


def _member(archive: zipfile.ZipFile, path: Path, name: str) -> np.ndarray:
    kind, axes = _KINDS[name]
    if archive.getinfo(f"{name}.npy").file_size > _LARGEST:
        raise BadFile(path, f"{name}: larger than {_LARGEST} bytes")
    try:
        with archive.open(f"{name}.npy") as member:
            values = np.lib.format.read_array(member, allow_pickle=False)
    except Exception as error:  # lzma, zlib and numpy raise many types on damaged bytes
        raise BadFile(path, f"{name}: damaged ({error})") from error
    if values.dtype != np.dtype(kind) or values.ndim != axes:
        raise BadFile(path, f"{name}: {values.dtype} with {values.ndim} axes, expected {np.dtype(kind)} with {axes}")
    if name in _DELTA:
        values = np.cumsum(values, axis=1, dtype=np.uint8)
    return np.asarray(values)


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
