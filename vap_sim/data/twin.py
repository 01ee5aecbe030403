"""Recorded twin episodes: the record, and its file format (one compressed archive an episode, no pickle).

A file `NAME.vap.npz` is a ZIP archive of `.npy` members that `numpy.load(..., allow_pickle=False)` opens. Image-like
members hold differences to the previous frame, modulo 256, because a static camera makes them nearly empty; `delta` in
`meta.json` lists them. `meta.json` also holds the format version, seed, behaviours, robot, scene, cameras and control.

| member | shape | type | meaning |
| --- | --- | --- | --- |
| frames | (V, T, H, W, 3) | uint8 | what the cameras saw |
| objects | (V, T, H, W, 4) | uint8 | loose objects alone, premultiplied rgba, nothing hides them |
| plate | (V, H, W, 3) | uint8 | the scene of the first frame without robot and objects |
| plates | (M, T, H, W, 3) | uint8 | the same of every frame, for the M views of cameras on links, in their order |
| robot | (V, T, H, W) | uint8 | visible share of the robot in each pixel, 0..255 |
| labels | (V, T, H, W) | uint8 | what fills most of a pixel: 0 other, 1 robot, 2 + k object k |
| flow | (V, T, 2, H/2, W/2) | int16 | where an object pixel was one frame before, minus where it is [px / 32]; or 0 |
| joints | (T, J) | float32 | nominal joints [rad or m]: what a prompt is drawn from |
| measured | (T, J) | float32 | the joints that physics arrived at [rad or m] |
| actions | (T - 1, A) | float32 | action between frame t and t + 1 |
| object_poses | (T, K, 7) | float32 | position [m] and quaternion xyzw |

Loose objects come first among the K; drawers, which slide, follow them as if they were objects. `flow` is that of the
objects alone, as a camera that stands still where it is in this frame sees it. Files in which no camera is on a link
are of format 1 and have no `plates`; the others are of format 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from vap_sim.data.archive import ArchiveLayout, read_archive, write_archive
from vap_sim.errors import BadFile

SUFFIX = ".vap.npz"
FLOW_SCALE = 32
_KINDS = {
    "frames": ("u1", "VTHW3"), "objects": ("u1", "VTHW4"), "plate": ("u1", "VHW3"), "robot": ("u1", "VTHW"),
    "labels": ("u1", "VTHW"), "flow": ("i2", "VT2hw"), "joints": ("f4", "TJ"), "measured": ("f4", "TJ"),
    "actions": ("f4", "tA"), "object_poses": ("f4", "TK7"),
}  # fmt: skip
_STILL = ArchiveLayout(
    what="episode",
    format=1,
    members=_KINDS,
    delta=("frames", "objects", "robot", "labels"),
    fields=("seed", "behaviours", "robot", "control_mode", "control_dt", "scene", "cameras"),
)
_MOVING = replace(_STILL, format=2, members={**_KINDS, "plates": ("u1", "MTHW3")}, delta=(*_STILL.delta, "plates"))


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
    plates: np.ndarray = field(default_factory=lambda: np.zeros((0,) * 5, np.uint8))

    @property
    def length(self) -> int:
        """Number of frames."""
        return int(self.joints.shape[0])


def save_episode(path: Path, episode: TwinEpisode) -> None:
    """Write `path`, by a temporary name first, so that a file under its final name is always whole.

    Equal episodes make equal files, to the byte. Raises OSError where the disk refuses.
    """
    layout = _MOVING if len(episode.plates) else _STILL
    write_archive(path, layout, {name: getattr(episode, name) for name in layout.members}, episode.meta)


def load_episode(path: Path, only: tuple[str, ...] | None = None) -> TwinEpisode:
    """Read a file of `save_episode`.

    Args:
        path: the file. only: members to read; the others become empty arrays.

    Raises:
        BadFile: missing, truncated, of another format, or a member of wrong type or shape; names the member.
        UnknownName: `only` names no member.
    """
    meta, values = read_archive(path, _MOVING, only, older=(_STILL,))
    return TwinEpisode(**values, meta=meta)


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


assert set(_MOVING.members) == {item.name for item in fields(TwinEpisode)} - {"meta"}
