"""What everything that draws a robot asks of the poses and cameras it is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel


def check_poses(q: Tensor, model: RobotModel) -> NDArray[np.float64]:
    """The poses as an array. Raises InvalidInput unless q is finite floats (b, F, J) for the model's J joints."""
    joints = len(model.robot.joint_names)
    if q.ndim != 3 or q.shape[-1] != joints or not q.is_floating_point():
        raise InvalidInput("q", f"{q.dtype} {tuple(q.shape)}", f"floats of shape (b, F, {joints})")
    values: NDArray[np.float64] = q.detach().cpu().numpy().astype(np.float64)
    if not np.isfinite(values).all():
        raise InvalidInput("q", "values that are not finite", "finite joint angles")
    return values


def check_cameras(cameras: Sequence[Camera], size: tuple[int, int]) -> None:
    """Raises InvalidInput unless there is a camera and all have the given (width, height)."""
    if not cameras:
        raise InvalidInput("cameras", "none", "at least one")
    for camera in cameras:
        if tuple(camera.size) != tuple(size):
            raise InvalidInput(f"size of camera {camera.name!r}", camera.size, f"{size}, as camera.resized({size}) has")
