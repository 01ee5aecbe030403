"""From joint angles to visual prompts: forward kinematics, projection and drawing in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.prompts.profiles import DrawProfile
from vap_sim.prompts.projection import Floats, as_floats, fixed_matrix, projection_matrix, to_rays
from vap_sim.prompts.skeleton import DrawPlan, draw_rays, plan_drawing
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel
from vap_sim.robots.points import PointPlan, plan_points

_FEW = 80  # poses up to which numpy is faster than torch


@dataclass(frozen=True, eq=False)
class Prompter:
    """Draws what cameras would see of a robot's skeleton. Holds only what it was given and the plan made of it.

    size: (width, height) of the pictures; the cameras passed to `draw` must have the same.
    """

    model: RobotModel
    profile: DrawProfile
    size: tuple[int, int]
    plan: DrawPlan = field(init=False, repr=False)
    points: PointPlan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", plan_drawing(self.model.skeleton, self.profile, self.size))
        object.__setattr__(self, "points", plan_points(self.model.robot, self.model.skeleton))

    def draw(self, q: Tensor, cameras: Sequence[Camera]) -> VisualPrompt:
        """The prompt for poses q (b, F, J), floats in radians or metres, seen by V cameras of size `size`.

        Each camera has no leading axis or one of length b. The prompt's skeleton is (b, V, F, H, W, 3) uint8 on the
        CPU; its joints are q itself. Raises InvalidInput for wrong shapes, for values that are not finite, and for
        cameras of another size.
        """
        check_poses(q, self.model)
        check_cameras(cameras, self.size)
        b, pixel_frames = q.shape[:2]
        views = len(cameras)
        # In double precision, how kinematics group their sums for a batch cannot reach the drawn pixels.
        exact = q.detach().cpu().numpy().astype(np.float64)
        if b * pixel_frames <= _FEW and all(camera.parent_link is None for camera in cameras):
            points = self.points.positions(exact.reshape(-1, exact.shape[-1])).astype(np.float32)
            points = points.reshape(b, pixel_frames, -1, 3)
            seen = [_standing(camera, b) for camera in cameras]
        else:
            points, seen = self._of_many(torch.from_numpy(exact), cameras)
        rays = np.empty((b, views, pixel_frames, points.shape[-2], 3), dtype=np.float32)
        focal = np.empty((b, views, pixel_frames), dtype=np.float32)
        for view, (matrix, length) in enumerate(seen):
            rays[:, view] = to_rays(matrix, points)
            focal[:, view] = length
        pictures = draw_rays(self.plan, rays.reshape(-1, *rays.shape[3:]), focal.reshape(-1))
        width, height = self.size
        return VisualPrompt(torch.from_numpy(pictures).view(b, views, pixel_frames, height, width, 3), joints=q)

    @torch.no_grad()
    def _of_many(self, q: Tensor, cameras: Sequence[Camera]) -> tuple[Floats, list[tuple[Floats, Floats]]]:
        """Points (b, F, P, 3) and views of many poses, or of cameras that ride on links."""
        robot = self.model.robot
        T_base_link = robot.forward(q)
        points = as_floats(self.model.skeleton.positions(robot, T_base_link))
        return points, [(projection_matrix(camera, T_base_link, robot), _focal(camera)) for camera in cameras]


@lru_cache(maxsize=64)
def _standing(camera: Camera, rows: int) -> tuple[Floats, Floats]:
    """The matrices (b, 1, 3, 4) and focal lengths (b or none, 1) [px] of a camera that stands still."""
    return fixed_matrix(camera, rows), _focal(camera)


def _focal(camera: Camera) -> Floats:
    focal: Floats = as_floats(camera.intrinsics)[..., 1, 1, None]
    return focal


def check_poses(q: Tensor, model: RobotModel) -> None:
    """Raises InvalidInput unless q is finite floats (b, F, J) for the model's J joints."""
    joints = len(model.robot.joint_names)
    if q.ndim != 3 or q.shape[-1] != joints or not q.is_floating_point():
        raise InvalidInput("q", f"{q.dtype} {tuple(q.shape)}", f"floats of shape (b, F, {joints})")
    if not np.isfinite(q.detach().cpu().numpy()).all():
        raise InvalidInput("q", "values that are not finite", "finite joint angles")


def check_cameras(cameras: Sequence[Camera], size: tuple[int, int]) -> None:
    """Raises InvalidInput unless there is a camera and all have the given (width, height)."""
    if not cameras:
        raise InvalidInput("cameras", "none", "at least one")
    for camera in cameras:
        if tuple(camera.size) != tuple(size):
            raise InvalidInput(f"size of camera {camera.name!r}", camera.size, f"{size}, as camera.resized({size}) has")
