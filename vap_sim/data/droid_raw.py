"""DROID as recorded: a folder an episode with `trajectory.h5`, `metadata_*.json` and `recordings/MP4/SERIAL.mp4`.

Rows are at 15 Hz; row k belongs to frame k of every video, as in the platform's own loader. Videos are often a frame
short, and rows without a frame are left out. Where `SERIAL_timestamps.json` lies beside a video, frames are found by
the times in the log instead. Source: recorder, loader and post-processing of the DROID platform (arXiv 2403.12945).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from vap_sim.data import droid_log
from vap_sim.data.droid_cameras import logged_cameras
from vap_sim.data.droid_videos import recorded
from vap_sim.data.episode import Episode
from vap_sim.data.folders import enclosed, folders, read_json, relative_name
from vap_sim.data.hdf5_file import Hdf5Tables, opened_tables
from vap_sim.data.listed import ListedDataset
from vap_sim.data.logged import Log
from vap_sim.errors import BadFile

TRAJECTORY = "trajectory.h5"
ANNOTATIONS = "aggregated-annotations-030724.json"
_DEPTH = 6  # droid_raw/VERSION/LAB/OUTCOME/DATE/TIME
_SERIAL = re.compile(r"[0-9A-Za-z]+")
_STATE = "observation/robot_state/"
_TEXTS = ("language_instruction1", "language_instruction2", "language_instruction3")


def recognises(path: Path) -> bool:
    """Whether `path` is an episode or a folder of episodes."""
    return path.is_dir() and next(_found(path), None) is not None


def open_dataset(path: Path) -> ListedDataset[Path]:
    """The episodes at `path`, itself one or a folder of them. Raises BadFile where there is none."""
    places = {relative_name(path, folder): folder for folder in _found(path)}
    if not places:
        raise BadFile(path, f"holds no folder with {TRAJECTORY}")
    return ListedDataset("droid_raw", path, places, _episode)


def _found(path: Path) -> Iterator[Path]:
    for folder, inside in folders(path, _DEPTH):
        if TRAJECTORY in inside:
            yield folder
            if folder == path:
                return


def _episode(root: Path, folder: Path, name: str) -> Episode:
    log = Log(enclosed(root, folder / TRAJECTORY), name)
    metadata = _metadata(root, folder)
    with opened_tables(log) as tables:
        serials = _serials(tables)
        joints = tables.table(_STATE + "joint_positions", droid_log.ARM_JOINTS)
        rows = len(joints)
        gripper = tables.table(_STATE + "gripper_position", 1, rows)[:, 0]
        flange = tables.table(_STATE + "cartesian_position", 6, rows)
        fields = (_STATE + "joint_positions", _STATE + "gripper_position", _STATE + "cartesian_position")
        members = droid_log.measured(log, joints, gripper, flange, fields)
        commands = [tables.table("action/joint_velocity", 7, rows), tables.table("action/gripper_position", 1, rows)]
        members["actions"] = np.concatenate(commands, axis=1)
        members["joint_targets"] = tables.table("action/joint_position", droid_log.ARM_JOINTS, rows)
        shown = recorded(root, folder, tables, serials, rows)
        cameras, told = logged_cameras(tables, serials, shown.views, rows)
        success = _success(tables, metadata, folder)
    part = slice(shown.first, shown.last)
    kept: dict[str, Any] = {
        key: value[part] if isinstance(value, np.ndarray) else value for key, value in members.items()
    }
    text, source = _instruction(root, folder, metadata)
    kept["notes"] = (*members["notes"], droid_log.COMMAND_NOTE, *shown.notes, *told, *source)
    return Episode(
        name=name, source=folder, views=shown.views, length=shown.last - shown.first, frame_rate=droid_log.CONTROL_RATE,
        instruction=text, action_names=droid_log.COMMANDS, cameras=cameras, success=success, **kept,
    )  # fmt: skip


def _serials(tables: Hdf5Tables) -> dict[str, str]:
    """Serial numbers of the cameras by their views: type 0 is the hand's; the others count in the order of serials."""
    views = {}
    exterior = iter(droid_log.VIEWS[:2])
    for serial in tables.names("observation/camera_type"):
        if not _SERIAL.fullmatch(serial):
            tables.log.refuse("observation/camera_type", f"serial number {serial!r} is none")
        kind = tables.table(f"observation/camera_type/{serial}", 1)[:1, 0]
        view = droid_log.VIEWS[2] if kind.tolist() == [0.0] else next(exterior, None)
        if view is None or view in views:
            tables.log.refuse("observation/camera_type", "names more than two exterior cameras and one on the hand")
        views[view] = serial
    return dict(sorted(views.items()))


@lru_cache(maxsize=1)
def _annotations(root: Path, path: Path, _changed: int) -> dict[str, Any]:
    """Instructions of the whole dataset, some ten megabytes; read again only where the file has changed."""
    return read_json(root, path)


def _metadata(root: Path, folder: Path) -> dict[str, Any]:
    """What `metadata_*.json` says; nothing where there is none. Raises BadFile for one that is damaged."""
    files = sorted(folder.glob("metadata_*.json"))
    return read_json(root, files[0]) if files else {}


def _success(tables: Hdf5Tables, metadata: dict[str, Any], folder: Path) -> bool | None:
    """By the metadata, the log, or the folder that recordings were sorted into."""
    for value in (metadata.get("success"), tables.attribute("success")):
        if isinstance(value, (bool, np.bool_)):
            return bool(value)
    outcomes = {part == "success" for part in folder.parts if part in ("success", "failure")}
    return outcomes.pop() if len(outcomes) == 1 else None


def _instruction(root: Path, folder: Path, metadata: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The first annotated instruction, else the kind of task that the operator chose, with a note that says so."""
    uuid = str(metadata.get("uuid", ""))
    for place in (folder, *folder.parents):
        path = place / ANNOTATIONS
        if place.is_relative_to(root) and path.exists():
            told = _annotations(root, path, path.stat().st_mtime_ns).get(uuid)
            texts = [str(told.get(name, "")) for name in _TEXTS] if isinstance(told, dict) else []
            if any(texts):
                return next(text for text in texts if text), ()
    task = metadata.get("current_task")
    if not isinstance(task, str) or not task:
        return "", ()
    return task, ("the instruction is the kind of task that the operator chose from a list",)
