"""DROID samples: a folder an episode, `annotation.json` beside `0.mp4`, `1.mp4` (exterior) and `2.mp4` (wrist).

The layout is that of the recordings in the Ctrl-World repository, at 4 or 5 Hz. `states` (T, 7) has x y z [m] and roll
pitch yaw [rad] of the flange and the gripper's position, one row a video frame. The joints come in one of two forms:
`joints` (T, 8), one row a frame, or the platform's own log at 15 Hz in `observation.state.*` and `action.*`, of which
video frame k is row 3k.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vap_sim.data import droid_log
from vap_sim.data.episode import Array, Episode
from vap_sim.data.folders import enclosed, folders, read_json, relative_name
from vap_sim.data.footage import VideoFootage
from vap_sim.data.listed import ListedDataset
from vap_sim.data.logged import Log
from vap_sim.data.video_file import video_frame_rate
from vap_sim.errors import BadFile

ANNOTATION = "annotation.json"
ROWS_A_FRAME = 3
"""Rows of the 15 Hz log to one frame of the video."""
_DEPTH = 2
_VIDEOS = {"0.mp4": "exterior_1", "1.mp4": "exterior_2", "2.mp4": "wrist"}
_RAW = "observation.state."


def recognises(path: Path) -> bool:
    """Whether `path` is a sample or a folder of samples."""
    return path.is_dir() and next(_found(path), None) is not None


def open_dataset(path: Path) -> ListedDataset[Path]:
    """The samples at `path`, itself one or a folder of them. Raises BadFile where there is none."""
    places = {relative_name(path, folder): folder for folder in _found(path)}
    if not places:
        raise BadFile(path, f"holds no folder with {ANNOTATION} beside {', '.join(_VIDEOS)}")
    return ListedDataset("droid_sample", path, places, _episode)


def joint_rows(record: dict[str, Any], log: Log) -> Array:
    """Arm angles [rad] and gripper position, (T, 8), one row a video frame, in either form. Raises BadFile."""
    if "joints" in record:
        return log.table(record["joints"], "joints", droid_log.ARM_JOINTS + 1)
    arm = _raw(record, log, _RAW + "joint_position", droid_log.ARM_JOINTS)
    gripper = _raw(record, log, _RAW + "gripper_position", 1, len(arm))
    return np.concatenate([arm, gripper], axis=1)[::ROWS_A_FRAME]


def instruction_of(record: dict[str, Any], log: Log) -> str:
    """The first of `texts`; "" where there is none. Raises BadFile."""
    texts = record.get("texts") or [""]
    if not isinstance(texts, list) or not isinstance(texts[0], str):
        log.refuse("texts", f"is {type(texts).__name__}, expected a list of texts")
    return texts[0]


def _found(path: Path) -> Iterator[Path]:
    for folder, inside in folders(path, _DEPTH):
        # A sample's own folder is one too when a video is missing: that is for `read` to say.
        if ANNOTATION in inside and not inside.isdisjoint(_VIDEOS):
            yield folder
            if folder == path:
                return


def _episode(root: Path, folder: Path, name: str) -> Episode:
    log = Log(folder / ANNOTATION, name)
    record = read_json(root, log.path)
    rows = joint_rows(record, log)
    length = len(rows)
    for field in ("video_length", "state_length"):
        if record.get(field, length) != length:
            log.refuse(field, f"is {record[field]}, the joints have {length} rows")
    states = log.table(_needed(record, log, "states"), "states", 7, length)
    names = ("joints", "joints") if "joints" in record else (_RAW + "joint_position", _RAW + "gripper_position")
    members = droid_log.measured(log, rows[:, :7], rows[:, 7], states[:, :6], (*names, "states"))
    views = {view: VideoFootage(enclosed(root, folder / file)) for file, view in _VIDEOS.items()}
    log.same_length(views, length)
    rate = video_frame_rate(views["exterior_1"].path)
    targets, notes = _targets(record, log, length)
    return Episode(
        name=name, source=folder, views=views, length=length, frame_rate=rate, instruction=instruction_of(record, log),
        joint_targets=targets, success=_success(record, log), **(members | {"notes": (*members["notes"], *notes)}),
    )  # fmt: skip


def _targets(record: dict[str, Any], log: Log, length: int) -> tuple[Array | None, tuple[str, ...]]:
    """Joint targets (T, 7) [rad] where the 15 Hz log is there: the last command before the next frame."""
    field = "action.joint_position"
    if field not in record:
        return None, ()
    rows = _raw(record, log, field, droid_log.ARM_JOINTS)
    if -(-len(rows) // ROWS_A_FRAME) != length:
        log.refuse(field, f"has {len(rows)} rows, expected one in {ROWS_A_FRAME} for each of {length} frames")
    last = np.minimum(ROWS_A_FRAME * np.arange(length) + ROWS_A_FRAME - 1, len(rows) - 1)
    return rows[last], (
        f"joint targets are the last of the {ROWS_A_FRAME} commands between two frames; velocity commands are left out",
    )


def _success(record: dict[str, Any], log: Log) -> bool | None:
    value = record.get("success")
    if value not in (None, 0, 1):
        log.refuse("success", f"is {value!r}, expected 0 or 1")
    return None if value is None else bool(value)


def _needed(record: dict[str, Any], log: Log, field: str) -> Any:
    if field not in record:
        log.refuse(field, "is missing")
    return record[field]


def _raw(record: dict[str, Any], log: Log, field: str, width: int, rows: int | None = None) -> Array:
    return log.table(_needed(record, log, field), field, width, rows)
