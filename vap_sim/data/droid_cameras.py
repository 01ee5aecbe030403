"""The cameras that a raw DROID episode logs: poses in the arm's base, the hand's camera on the flange, focal lengths.

Extrinsics are x y z [m] and roll pitch yaw [rad] of the left eye. They were measured by hand-eye calibration when a
station was set up, and are wrong in many episodes, which nothing here can tell and every such episode notes. Intrinsics
are those of the picture at 1280 x 720, and are missing from most of the published files.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from vap_sim.data import droid_log
from vap_sim.data.episode import Array, Footage
from vap_sim.data.hdf5_file import Hdf5Tables
from vap_sim.data.logged import poses_from_euler
from vap_sim.robots.camera import Camera

SIZE = (1280, 720)
"""Pixels of the picture that intrinsics are for: the platform records in this mode alone."""
DOUBT = "logged camera poses of DROID are wrong in many episodes: check them against the pictures"
_STILL = 1e-4
"""Metres, and radians, by which a camera that stands still may seem to move."""


def logged_cameras(
    tables: Hdf5Tables, serials: Mapping[str, str], views: Mapping[str, Footage], rows: int
) -> tuple[dict[str, Camera], tuple[str, ...]]:
    """The cameras of the views whose pose and focal length are both in the log, and notes on the others.

    Raises BadFile for numbers that make no camera.
    """
    cameras: dict[str, Camera] = {}
    notes: list[str] = []
    for view, serial in serials.items():
        eye = f"{serial}_left"
        mounted = view == droid_log.VIEWS[2]
        field = f"observation/camera_extrinsics/{eye}" + ("_gripper_offset" if mounted else "")
        if view not in views or not tables.has(field):
            continue
        pose = _one_pose(tables, field, rows)
        if pose is None:
            notes.append(f"view {view}: its logged pose changes, so that it is left out")
            continue
        matrix = f"observation/camera_intrinsics/{eye}"
        if not tables.has(matrix):
            notes.append(f"view {view}: its pose is logged, but no focal length, so that it is left out")
            continue
        intrinsics = _intrinsics(tables, matrix)
        parent = droid_log.TOOL_LINK if mounted else None
        camera = Camera(view, torch.from_numpy(intrinsics).float(), torch.from_numpy(pose).float(), parent, SIZE)
        cameras[view] = camera.resized(views[view].size)
    return cameras, (*notes, *((DOUBT,) if cameras else ()))


def _one_pose(tables: Hdf5Tables, field: str, rows: int) -> Array | None:
    """The pose (4, 4) of a camera that has the same in every row, else None."""
    poses = tables.table(field, 6, rows)
    return None if np.ptp(poses, axis=0).max() > _STILL else np.asarray(poses_from_euler(poses[:1])[0])


def _intrinsics(tables: Hdf5Tables, field: str) -> Array:
    matrix: Array = tables.matrices(field, (3, 3))[0]
    good = (matrix[2] == (0, 0, 1)).all() and matrix[0, 0] > 0 and matrix[1, 1] > 0
    if not good:
        tables.log.refuse(field, f"{matrix.tolist()} is no camera's matrix")
    return matrix
