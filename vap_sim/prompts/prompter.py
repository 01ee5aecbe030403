"""From joint angles to visual prompts of any form: forward kinematics, projection and drawing in one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.prompts.checks import check_cameras, check_poses
from vap_sim.prompts.forms import draw_form
from vap_sim.prompts.profiles import DrawProfile
from vap_sim.prompts.projection import Floats, as_floats, fixed_matrix, product, projection_matrix, to_rays
from vap_sim.prompts.skeleton import DrawPlan, draw_rays, plan_drawing
from vap_sim.prompts.surface import Surface, gather_surface
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.prompts.warping import check_homographies
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel
from vap_sim.robots.points import PointPlan, plan_points

_FEW = 80  # poses up to which numpy is faster than torch


@dataclass(frozen=True, eq=False)
class Prompter:
    """Draws what cameras would see of a robot, in the form its profile names: a skeleton, a mesh, depth, or nothing.

    Holds only what it was given and the plans made of it.

    size: (width, height) of the pictures; the cameras passed to `draw` must have the same.
    """

    model: RobotModel
    profile: DrawProfile
    size: tuple[int, int]
    plan: DrawPlan = field(init=False, repr=False)
    points: PointPlan = field(init=False, repr=False)
    surface: Surface | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", plan_drawing(self.model.skeleton, self.profile, self.size))
        object.__setattr__(self, "points", plan_points(self.model.robot, self.model.skeleton, self.model.tool_link))
        shown = self.profile.form in ("mesh", "depth")
        object.__setattr__(self, "surface", gather_surface(self.model) if shown else None)

    def draw(self, q: Tensor, cameras: Sequence[Camera], homographies: Tensor | None = None) -> VisualPrompt:
        """The prompt for poses q (b, F, J), floats in radians or metres, seen by V cameras of size `size`.

        homographies: (b, V, F, 3, 3) from pixels as the cameras draw them to pixels of the pictures that the prompt is
        for, where the two are known to differ; lines keep the widths that the cameras give them.

        Each camera has no leading axis or one of length b. The prompt's skeleton is (b, V, F, H, W, 3) uint8 on the
        CPU; its joints are q itself, its projections those of the cameras, taken through the homographies, its tool the
        pose of the robot's tool link, its bones those that are not drawn to the ground. Raises InvalidInput for wrong
        shapes, for values that are not finite, for cameras of another size, and for homographies that mirror or tear
        the picture.

        The field `skeleton` holds the picture of whatever form the profile has. The form "text" keeps the joints to
        itself; only skeletons come with projections, tool and bones, because a camera that rides on a link tells of the
        action, and the others more so.
        """
        exact = check_poses(q, self.model)
        check_cameras(cameras, self.size)
        warps = None
        if homographies is not None:
            warps = check_homographies(homographies, len(q), len(cameras), q.shape[1], self.size)
        if self.profile.form != "skeleton":
            return draw_form(self.profile, self.surface, self.model, q, cameras, warps)
        return self._drawn(exact, q, cameras, warps)

    def draw_checked(self, poses: NDArray[np.float32], cameras: Sequence[Camera]) -> VisualPrompt:
        """What `draw` makes, for poses (b, F, J) and cameras that are known to be good, as a controller's are."""
        q = torch.from_numpy(poses)
        if self.profile.form != "skeleton":
            return draw_form(self.profile, self.surface, self.model, q, cameras)
        return self._drawn(poses.astype(np.float64), q, cameras)

    def _drawn(
        self, exact: NDArray[np.float64], q: Tensor, cameras: Sequence[Camera], warps: Floats | None = None
    ) -> VisualPrompt:
        """Skeletons of poses q, given as numbers too: in double precision, how kinematics group their sums for a batch
        cannot reach the drawn pixels."""
        b, pixel_frames = exact.shape[:2]
        views, (width, height) = len(cameras), self.size
        if b * pixel_frames <= _FEW and all(camera.parent_link is None for camera in cameras):
            at, tool = self.points.positions_and_tool(exact.reshape(-1, exact.shape[-1]))
            points = at.astype(np.float32).reshape(b, pixel_frames, -1, 3)
            seen = [_standing(camera, b) for camera in cameras]
        else:
            points, tool, seen = self._of_many(torch.from_numpy(exact), cameras)
        if b == pixel_frames == views == 1:
            ((matrix, focal),) = seen
            rays, focals = to_rays(matrix, points)[0], focal.reshape(1)
            projections = torch.from_numpy(matrix).view(1, 1, 1, 3, 4)
        else:
            rays = np.stack([to_rays(matrix, points) for matrix, _ in seen], axis=1)
            each = [np.broadcast_to(matrix, (b, pixel_frames, 3, 4)) for matrix, _ in seen]
            projections = torch.from_numpy(np.stack(each, axis=1))
            rays = rays.reshape(-1, *rays.shape[3:])
            focals = np.empty((b, views, pixel_frames), dtype=np.float32)
            for view, (_, focal) in enumerate(seen):
                focals[:, view] = focal
            focals = focals.reshape(-1)
        pictures = draw_rays(self.plan, rays, focals, None if warps is None else warps.reshape(-1, 3, 3))
        if warps is not None:
            projections = torch.from_numpy(product(warps, projections.numpy()))
        drawn = torch.from_numpy(pictures).view(b, views, pixel_frames, height, width, 3)
        poses = torch.from_numpy(tool.astype(np.float32)).view(b, pixel_frames, 4, 4)
        bones = torch.from_numpy(self.points.bones(points))
        return VisualPrompt(drawn, joints=q, projections=projections, tool=poses, bones=bones)

    @torch.no_grad()
    def _of_many(
        self, q: Tensor, cameras: Sequence[Camera]
    ) -> tuple[Floats, NDArray[np.float64], list[tuple[Floats, Floats]]]:
        """Points (b, F, P, 3), the tool (b, F, 4, 4) and views of many poses, or of cameras that ride on links."""
        robot = self.model.robot
        T_base_link = robot.forward(q)
        points = as_floats(self.model.skeleton.positions(robot, T_base_link))
        tool = T_base_link[:, :, robot.link_index(self.model.tool_link)].contiguous().numpy()
        return points, tool, [(projection_matrix(camera, T_base_link, robot), _focal(camera)) for camera in cameras]


@lru_cache(maxsize=64)
def _standing(camera: Camera, rows: int) -> tuple[Floats, Floats]:
    """The matrices (b, 1, 3, 4) and focal lengths (b or none, 1) [px] of a camera that stands still."""
    return fixed_matrix(camera, rows), _focal(camera)


def _focal(camera: Camera) -> Floats:
    focal: Floats = as_floats(camera.intrinsics)[..., 1, 1, None]
    return focal
