"""Joint logs of real episodes: folders with `annotation.json`, one joint pose a video frame, as DROID samples have."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vap_sim.errors import BadFile

REAL_DATA_VARIABLE = "VAP_SIM_REAL_DATA"
_RAW_PER_FRAME = 3  # the raw log runs at 15 Hz, the video at 5 Hz
_FRAME_RATE = 5.0


@dataclass(frozen=True, eq=False)
class JointLog:
    """What a robot did: joints (T, 8) float32, seven arm angles [rad] and the gripper in [0, 1]; frame_rate [Hz]."""

    name: str
    joints: np.ndarray
    frame_rate: float
    instruction: str


def read_joint_log(folder: Path) -> JointLog:
    """Read `annotation.json` of a folder: `joints` per frame where present, else every third row of the 15 Hz log.

    Raises BadFile naming the field that is missing, of the wrong length or not finite.
    """
    path = Path(folder) / "annotation.json"
    try:
        record = json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        raise BadFile(path, f"not a readable JSON file ({error})") from error
    if not isinstance(record, dict):
        raise BadFile(path, "expected a JSON object")
    if "joints" in record:
        joints = _rows(path, record, "joints", 8)
    else:
        arm = _rows(path, record, "observation.state.joint_position", 7)[::_RAW_PER_FRAME]
        gripper = _rows(path, record, "observation.state.gripper_position", 1)[::_RAW_PER_FRAME]
        if len(arm) != len(gripper):
            raise BadFile(path, f"gripper_position has {len(gripper)} frames, joint_position {len(arm)}")
        joints = np.concatenate([arm, gripper], axis=1)
    joints[:, 7] = np.clip(joints[:, 7], 0.0, 1.0)
    texts = record.get("texts") or [""]
    return JointLog(Path(folder).name, joints, _FRAME_RATE, str(texts[0]))


def _rows(path: Path, record: dict[str, object], field: str, width: int) -> np.ndarray:
    if field not in record:
        raise BadFile(path, f"field {field!r} is missing")
    try:
        values = np.asarray(record[field], dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise BadFile(path, f"field {field!r} is not a table of numbers ({error})") from error
    if values.ndim == 1 and width == 1:
        values = values[:, None]
    if values.ndim != 2 or values.shape[1] != width or not len(values):
        raise BadFile(path, f"field {field!r} has shape {values.shape}, expected (T, {width})")
    if not np.isfinite(values).all():
        raise BadFile(path, f"field {field!r} holds numbers that are not finite")
    return values.copy()


def real_data_folder() -> Path | None:
    """Where real recordings lie: the folder VAP_SIM_REAL_DATA names, `../shared/data` beside a checkout, or None."""
    named = os.environ.get(REAL_DATA_VARIABLE)
    if named is not None:
        if not Path(named).is_dir():
            raise BadFile(named, f"the folder that {REAL_DATA_VARIABLE} names does not exist")
        return Path(named)
    beside = Path(__file__).resolve().parents[2].parent / "shared" / "data"
    return beside if beside.is_dir() else None


def real_joint_logs() -> list[Path]:
    """Folders of the DROID samples among the real recordings, in name order; empty where there are none."""
    root = real_data_folder()
    return [] if root is None else sorted(path.parent for path in (root / "droid").glob("*/annotation.json"))
