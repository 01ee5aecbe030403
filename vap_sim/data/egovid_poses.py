"""How the head's camera moved in a clip of EgoVid: `poses/NAME/fused_pose.npy`, `intri.npy` and `cost.txt`.

Poses were recovered from every fifth of a clip's first 120 frames, interpolated, and brought to metres and smoothed by
the accelerations that the camera measured. Each is the camera's in the frame of the clip's first picture. Intrinsics
are those of a picture of 540 rows. Source: the README and `kalman_imu_colmap.py` of the EgoVid repository.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vap_sim.data.folders import enclosed
from vap_sim.data.logged import Log
from vap_sim.data.npy import read_numbers
from vap_sim.errors import BadFile
from vap_sim.robots.camera import Camera

POSES = "poses"
ROWS = 540
"""Rows of pixels of the picture that the intrinsics are for."""
_LARGEST = 2**22
_CROOKED = 0.01


@dataclass(frozen=True, eq=False)
class HeadPath:
    """camera: one row a frame, (N, 3, 3) and (N, 4, 4), in the frame of the clip's first picture; cost: of the fit."""

    camera: Camera
    cost: float | None

    @property
    def length(self) -> int:
        """Number of frames N, the clip's first ones."""
        return len(self.camera.T_parent_camera)


def head_path(root: Path, name: str, size: tuple[int, int]) -> HeadPath:
    """The camera's path in clip `name` of the dataset `root`, for pictures of `size` (width, height).

    Raises BadFile for poses that are missing, damaged or no poses.
    """
    folder = root / POSES / name
    log = Log(folder, name)
    poses = read_numbers(root, folder / "fused_pose.npy", log, _LARGEST)
    matrix = read_numbers(root, folder / "intri.npy", log, _LARGEST)
    if poses.ndim != 3 or poses.shape[1:] != (4, 4) or not len(poses) or not np.isfinite(poses).all():
        log.refuse("fused_pose.npy", f"has shape {poses.shape}, expected finite numbers (N, 4, 4)")
    turns = poses[:, :3, :3]
    crooked = np.abs(turns @ turns.transpose(0, 2, 1) - np.eye(3)).max(axis=(1, 2))
    if crooked.max() > _CROOKED or not np.allclose(poses[:, 3], (0, 0, 0, 1)):
        log.refuse("fused_pose.npy", f"frame {int(crooked.argmax())} is no pose")
    if matrix.shape != (3, 3) or not (matrix[2] == (0, 0, 1)).all() or min(matrix[0, 0], matrix[1, 1]) <= 0:
        log.refuse("intri.npy", f"{matrix.tolist()} is no camera's matrix")
    small = (round(size[0] * ROWS / size[1]), ROWS)
    k = torch.from_numpy(matrix).float().expand(len(poses), 3, 3)
    camera = Camera("head", k, torch.from_numpy(poses).float(), None, small).resized(size)
    return HeadPath(camera, _cost(root, folder / "cost.txt"))


def _cost(root: Path, path: Path) -> float | None:
    if not path.exists():
        return None
    try:
        with enclosed(root, path).open("rb") as file:
            return float(file.read(64))
    except (OSError, ValueError) as error:
        if isinstance(error, BadFile):
            raise
        raise BadFile(path, f"is no number ({error})") from error
