"""Pictures of a robot's surface as cameras see it: shaded colour, depth and mask, by one of two renderers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.prompts.checks import check_cameras, check_poses
from vap_sim.prompts.profiles import RENDERERS
from vap_sim.prompts.projection import Floats
from vap_sim.prompts.raster import rasterize
from vap_sim.prompts.surface import Surface, gather_surface, poses_seen, see_surface
from vap_sim.prompts.warping import ray_weights, warp_rays
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel

SAMPLES = 3
_PICTURES_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class RobotPictures:
    """A robot alone before black, b rows, V views, F pixel frames.

    rgb: (b, V, F, H, W, 3) uint8, edges anti-aliased; depth: (b, V, F, H, W) float32, metres along the optical axis at
    the pixel's centre, infinite beside the robot, never averaged; mask: (b, V, F, H, W) bool, the pixel's centre shows
    the robot.
    """

    rgb: Tensor
    depth: Tensor
    mask: Tensor


def render_robot(
    model: RobotModel,
    q: Tensor,
    cameras: Sequence[Camera],
    *,
    backend: str = "software",
    samples: int = SAMPLES,
    z_near: float = 0.02,
) -> RobotPictures:
    """Pictures of the robot at poses q (b, F, J), floats in radians or metres, seen by V cameras of equal size.

    Triangles are lit evenly, by a light that moves with the camera, in the colours of the URDF's materials. Each camera
    has no leading axis or one of length b. backend: "software" needs nothing but numpy; "gl" draws with pyrender and
    differs in the rounding of edges. samples: odd, colours are averaged over samples x samples a pixel; but for
    rounding, depth and mask do not depend on it. Surfaces nearer than `z_near` metres are cut off.

    Raises InvalidInput for wrong shapes and cameras of different sizes, UnknownName for a backend, MissingDependency
    where "gl" is not installed.
    """
    check_poses(q, model)
    check_cameras(cameras, cameras[0].size if cameras else (0, 0))
    return render_surface(gather_surface(model), model, q, cameras, backend, samples, z_near)


def render_surface(
    surface: Surface,
    model: RobotModel,
    q: Tensor,
    cameras: Sequence[Camera],
    backend: str = "software",
    samples: int = SAMPLES,
    z_near: float = 0.02,
    warps: Floats | None = None,
) -> RobotPictures:
    """`render_robot` for a surface gathered before, with poses and cameras already checked.

    warps: checked homographies (b, V, F, 3, 3) that move the pictures; the depth stays the camera's.
    """
    if backend not in RENDERERS:
        raise UnknownName("renderer", backend, RENDERERS)
    if isinstance(samples, bool) or not isinstance(samples, int) or samples < 1 or samples % 2 == 0:
        raise InvalidInput("samples", samples, "an odd number of at least 1")
    if not 0 < z_near < np.inf:
        raise InvalidInput("z_near", z_near, "a positive number of metres")
    draw = rasterize
    if backend == "gl":
        from vap_sim.prompts.gl import draw_with_gl  # an optional package stands behind it

        draw = draw_with_gl
    with torch.no_grad():
        T_base_link = model.robot.forward(q.detach().to("cpu", torch.float64))
    b, pixel_frames = q.shape[:2]
    width, height = cameras[0].size
    rgb = np.empty((b, len(cameras), pixel_frames, height, width, 3), dtype=np.uint8)
    depth = np.empty(rgb.shape[:-1], dtype=np.float32)
    for view, camera in enumerate(cameras):
        poses, intrinsics = poses_seen(surface, model, T_base_link, camera)
        drawn = []
        for first in range(0, len(poses), _PICTURES_AT_ONCE):
            rows = slice(first, first + _PICTURES_AT_ONCE)
            seen = see_surface(surface, poses[rows], intrinsics[rows])
            moves = None if warps is None else warps[:, view].reshape(-1, 3, 3)[rows]
            if moves is not None:
                seen = replace(seen, rays=warp_rays(seen.rays, moves))
            colors, distances = draw(surface, seen, (width, height), samples, z_near)
            if moves is not None:
                distances = distances / ray_weights(moves, (width, height))
            drawn.append((colors, distances))
        colors, distances = (np.concatenate(parts) for parts in zip(*drawn, strict=True))
        rgb[:, view] = colors.reshape(b, pixel_frames, height, width, 3)
        depth[:, view] = distances.reshape(b, pixel_frames, height, width)
    return RobotPictures(torch.from_numpy(rgb), torch.from_numpy(depth), torch.from_numpy(np.isfinite(depth)))
