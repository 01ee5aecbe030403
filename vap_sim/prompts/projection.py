"""From points in the base frame to clipped picture segments, with arithmetic that does not depend on the batch.

A point seen by a camera is kept as a ray (u*z, v*z, z): pixel coordinates times depth. Rays stay linear in space also
behind the camera, so a bone can be cut at the near plane before anything is divided by depth. Sums are written out term
by term, because library matrix products may round differently for different batch sizes.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.robots.camera import Camera
from vap_sim.robots.kinematics import Robot

Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]
Number = TypeVar("Number", np.float32, np.float64)


def projection_matrix(camera: Camera, T_base_link: Tensor, robot: Robot) -> Floats:
    """The (b, F or 1, 3, 4) matrices that take base-frame points to rays.

    T_base_link: (b, F, L, 4, 4) metres. The camera has no leading axis or one of length b; one that rides on a link
    gets a matrix for every frame, one that stands still a single matrix a row.
    """
    rows = T_base_link.shape[0]
    if camera.parent_link is None:
        return fixed_matrix(camera, rows)
    intrinsics, pose = _parameters(camera, rows)
    parent = as_floats(T_base_link[:, :, robot.link_index(camera.parent_link)])
    return _seen_from(intrinsics, product(parent, pose))


def fixed_matrix(camera: Camera, rows: int) -> Floats:
    """The (b, 1, 3, 4) matrices of a camera that stands still; see `projection_matrix`."""
    return _seen_from(*_parameters(camera, rows))


def _parameters(camera: Camera, rows: int) -> tuple[Floats, Floats]:
    """Intrinsics (b, 1, 3, 3) and pose in the parent (b, 1, 4, 4)."""
    lead = tuple(camera.intrinsics.shape[:-2])
    if lead not in ((), (rows,)):
        raise InvalidInput(f"leading axis of camera {camera.name!r}", lead, f"none or ({rows},)")
    intrinsics = np.broadcast_to(as_floats(camera.intrinsics), (rows, 3, 3))[:, None]
    return intrinsics, np.broadcast_to(as_floats(camera.T_parent_camera), (rows, 4, 4))[:, None]


def _seen_from(intrinsics: Floats, pose: Floats) -> Floats:
    turn = pose[..., :3, :3].swapaxes(-1, -2)
    inverse = np.concatenate([turn, -product(turn, pose[..., :3, 3:])], axis=-1)
    return product(intrinsics, inverse)


def product(a: NDArray[Number], b: NDArray[Number]) -> NDArray[Number]:
    """Matrix product (..., i, k) x (..., k, j) summed in a fixed order."""
    total: NDArray[Number] = a[..., :, :1] * b[..., :1, :]
    for k in range(1, a.shape[-1]):
        total = total + a[..., :, k : k + 1] * b[..., k : k + 1, :]
    return total


def to_rays(matrix: Floats, points: Floats) -> Floats:
    """Rays (..., P, 3) of points (..., P, 3) in metres under matrices (..., 3, 4)."""
    m = matrix[..., None, :, :]
    x, y, z = points[..., :1], points[..., 1:2], points[..., 2:]
    rays: Floats = m[..., 0] * x + m[..., 1] * y + m[..., 2] * z + m[..., 3]
    return rays


def clip_near(start: Floats, end: Floats, z_near: float) -> tuple[Floats, Floats, Bools]:
    """Segments of rays (..., S, 3) cut where depth is less than z_near metres; which ones are left (..., S).

    Segments wholly in front come back bit for bit; those wholly behind come back as something harmless and are marked
    False.
    """
    z0, z1 = start[..., 2:], end[..., 2:]
    behind0, behind1 = z0 < z_near, z1 < z_near
    crossing = behind0 != behind1
    share = (z_near - z0) / np.where(crossing, z1 - z0, np.float32(1))
    cut = start + share * (end - start)
    cut[..., 2] = z_near
    harmless = np.array([0, 0, 1], dtype=np.float32)
    left = ~(behind0 & behind1)
    first = np.where(left, np.where(crossing & behind0, cut, start), harmless)
    second = np.where(left, np.where(crossing & behind1, cut, end), harmless)
    return first, second, left[..., 0]


def clip_frame(start: Floats, end: Floats, reach: np.float32) -> tuple[Floats, Floats, Bools]:
    """The shares (..., S, 1) at which segments (..., S, 2) enter and leave |x|, |y| <= reach; which touch it (..., S).

    Segments that lie inside get exactly 0 and 1.
    """
    inside = ((np.abs(start) <= reach) & (np.abs(end) <= reach)).all(axis=-1)
    step = end - start
    flat = step == 0
    safe = np.where(flat, np.float32(1), step)
    at_low, at_high = (-reach - start) / safe, (reach - start) / safe
    enter = np.where(flat, np.float32(0), np.minimum(at_low, at_high)).max(axis=-1)
    leave = np.where(flat, np.float32(1), np.maximum(at_low, at_high)).min(axis=-1)
    outside = (flat & (np.abs(start) > reach)).any(axis=-1)
    enter, leave = np.maximum(enter, np.float32(0)), np.minimum(leave, np.float32(1))
    touches = inside | (~outside & (enter < leave))
    enter = np.where(inside | ~touches, np.float32(0), enter)
    leave = np.where(inside | ~touches, np.float32(1), leave)
    return enter[..., None], leave[..., None], touches


def as_floats(values: Tensor) -> Floats:
    """The values as a float32 array on the CPU."""
    array: Floats = values.detach().cpu().numpy().astype(np.float32, copy=False)
    return array
