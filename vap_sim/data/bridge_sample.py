"""Bridge V2 clips as `ID.mp4` beside `ID.npz`: one picture and one row of ten numbers a frame.

The layout is that of the world-model-eval repository, whose converter writes Open X-Embodiment datasets so. Columns
are steps of the gripper's frame in x y z, roll pitch yaw, then the gripper, 1 to close and -1 to open, and three that
Bridge leaves at zero. Steps are in the converter's normalised units, clipped, in which 1.75 is 0.05 m and 1.4 is
0.25 rad; they are left as they are.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from vap_sim.data.episode import Array, Episode
from vap_sim.data.folders import enclosed, folders
from vap_sim.data.footage import VideoFootage
from vap_sim.data.listed import ListedDataset
from vap_sim.data.logged import Log
from vap_sim.data.npy import numbers_of
from vap_sim.data.video_file import video_frame_rate
from vap_sim.errors import BadFile

FRAME_RATE = 5.0
"""At which Bridge was recorded. The converter writes every video at 20 Hz, whatever the robot's own rate."""
ACTION_NAMES = ("x", "y", "z", "roll", "pitch", "yaw", "gripper_close", "unused_1", "unused_2", "unused_3")
_MEMBER = "arr_0.npy"
_DEPTH = 2
_LARGEST = 2**26  # bytes of a clip's actions
_DAMAGE = (zipfile.BadZipFile, OSError, RuntimeError, NotImplementedError, ValueError, EOFError, zlib.error)


def recognises(path: Path) -> bool:
    """Whether there are clips in `path` or below it."""
    return path.is_dir() and next(_found(path), None) is not None


def open_dataset(path: Path) -> ListedDataset[Path]:
    """The clips in `path` and below it. Raises BadFile where there is none."""
    places = {actions.relative_to(path).with_suffix("").as_posix(): actions for actions in _found(path)}
    if not places:
        raise BadFile(path, "holds no ID.npz beside an ID.mp4")
    return ListedDataset("bridge_sample", path, places, _episode)


def _found(path: Path) -> Iterator[Path]:
    for folder, inside in folders(path, _DEPTH):
        # A dot within a name belongs to another format, such as NAME.vap.npz.
        stems = (name.removesuffix(".npz") for name in sorted(inside) if name.endswith(".npz"))
        yield from (folder / f"{stem}.npz" for stem in stems if "." not in stem and f"{stem}.mp4" in inside)


def _episode(root: Path, path: Path, name: str) -> Episode:
    log = Log(enclosed(root, path), name)
    actions = log.table(_array(log), "arr_0", len(ACTION_NAMES))
    views = {"image": VideoFootage(enclosed(root, path.with_suffix(".mp4")))}
    log.same_length(views, len(actions))
    stated = video_frame_rate(views["image"].path)
    notes = (
        "actions are in normalised units, in which 1.75 is 0.05 m and 1.4 is 0.25 rad",
        f"the frame rate is Bridge's own; the video's header states {stated:g} Hz",
    )
    return Episode(
        name=name, source=path, views=views, length=len(actions), frame_rate=FRAME_RATE, robot="widowx",
        actions=actions, action_names=ACTION_NAMES, notes=notes,
    )  # fmt: skip


def _array(log: Log) -> Array:
    """The only array of the archive. Raises BadFile."""
    try:
        with zipfile.ZipFile(log.path) as archive:
            size = archive.getinfo(_MEMBER).file_size
            if size > _LARGEST:
                log.refuse("arr_0", f"has {size} bytes, expected at most {_LARGEST}")
            with archive.open(_MEMBER) as member:
                content = member.read(_LARGEST)
    except KeyError:
        log.refuse("arr_0", "is missing")
    except _DAMAGE as error:
        if isinstance(error, BadFile):
            raise
        log.refuse("arr_0", f"cannot be read ({error})")
    return numbers_of(content, log, "arr_0")
