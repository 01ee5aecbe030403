"""Joint logs of real episodes: folders with `annotation.json`, one joint pose a video frame, as DROID samples have."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vap_sim.data.droid_sample import ANNOTATION, instruction_of, joint_rows
from vap_sim.data.folders import read_json
from vap_sim.data.logged import Log
from vap_sim.errors import BadFile

REAL_DATA_VARIABLE = "VAP_SIM_REAL_DATA"
_FRAME_RATE = 5.0


@dataclass(frozen=True, eq=False)
class JointLog:
    """What a robot did: joints (T, 8) float32, seven arm angles [rad] and the gripper in [0, 1]; frame_rate [Hz]."""

    name: str
    joints: np.ndarray
    frame_rate: float
    instruction: str


def read_joint_log(folder: Path) -> JointLog:
    """Read `annotation.json` of a folder, whose videos need not be there: the joints of a DROID sample.

    Raises BadFile naming the field that is missing, of the wrong length or not finite.
    """
    folder = Path(folder)
    log = Log(folder / ANNOTATION, folder.name)
    record = read_json(folder, log.path)
    joints = joint_rows(record, log).astype(np.float32)
    if not len(joints):
        log.refuse("joints", "has no rows")
    joints[:, 7] = np.clip(joints[:, 7], 0.0, 1.0)
    return JointLog(folder.name, joints, _FRAME_RATE, instruction_of(record, log))


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
