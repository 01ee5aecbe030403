"""Robot silhouettes: which pixels' centres the robot covers, from the convex parts of its links."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.prompts.checks import check_cameras, check_poses
from vap_sim.prompts.projection import Floats, as_floats, product, projection_matrix, to_rays
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel

_PICTURES_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class _Parts:
    """All convex parts of a robot in one list of vertices; part i is vertices[bounds[i]:bounds[i + 1]], of links[i]."""

    links: NDArray[np.intp]
    vertices: Floats
    owner: NDArray[np.intp]  # the part of each vertex
    bounds: tuple[int, ...]


def silhouettes(model: RobotModel, q: Tensor, cameras: Sequence[Camera], *, z_near: float = 0.02) -> Tensor:
    """Bool (b, V, F, H, W): True where a pixel's centre lies inside the projection of any visual part of the robot.

    q: (b, F, J) floats, radians or metres; cameras: V of equal size, each without a leading axis or with one of length
    b. Parts are cut at `z_near` metres in front of the camera. Raises InvalidInput for wrong shapes and for cameras of
    different sizes.
    """
    check_poses(q, model)
    check_cameras(cameras, cameras[0].size if cameras else (0, 0))
    robot, parts = model.robot, _gather_parts(model)
    with torch.no_grad():
        T_base_link = robot.forward(q.to("cpu", torch.float64))
    T_base_part = as_floats(T_base_link)[:, :, parts.links]
    b, pixel_frames = q.shape[:2]
    width, height = cameras[0].size
    masks = np.zeros((b, len(cameras), pixel_frames, height, width), dtype=bool)
    for view, camera in enumerate(cameras):
        matrices = projection_matrix(camera, T_base_link, robot)
        matrices = np.broadcast_to(matrices, (b, pixel_frames, 3, 4))[:, :, None]
        linear = product(matrices[..., :3], T_base_part[..., :3, :])
        linear[..., 3] += matrices[..., 3]
        flat = linear.reshape(b * pixel_frames, -1, 3, 4)
        covered = [
            _cover(parts, flat[i : i + _PICTURES_AT_ONCE], (width, height), z_near)
            for i in range(0, len(flat), _PICTURES_AT_ONCE)
        ]
        masks[:, view] = np.concatenate(covered).reshape(b, pixel_frames, height, width)
    return torch.from_numpy(masks)


def _gather_parts(model: RobotModel) -> _Parts:
    visuals = model.robot.visuals
    counts = [len(visual.vertices) for visual in visuals]
    return _Parts(
        links=np.array([visual.link for visual in visuals], dtype=np.intp),
        vertices=np.concatenate([np.asarray(visual.vertices, dtype=np.float32) for visual in visuals]),
        owner=np.repeat(np.arange(len(counts)), counts),
        bounds=tuple(np.cumsum([0, *counts]).tolist()),
    )


def _cover(parts: _Parts, matrices: Floats, size: tuple[int, int], z_near: float) -> NDArray[np.bool_]:
    """Masks (n, H, W) for matrices (n, parts, 3, 4) that take each part's vertices to rays."""
    rays = to_rays(matrices[:, parts.owner], parts.vertices[:, None, :])[:, :, 0]
    front = rays[..., 2] >= z_near
    depth: Floats = np.where(front, rays[..., 2], np.float32(1))[..., None]
    xy = rays[..., :2] / depth
    outlines: list[Floats] = []
    pictures: list[int] = []
    spans = list(zip(parts.bounds[:-1], parts.bounds[1:], strict=True))
    all_front = np.logical_and.reduceat(front, parts.bounds[:-1], axis=1)
    for picture in range(len(rays)):
        for part, (first, last) in enumerate(spans):
            corners = xy[picture, first:last]
            if not all_front[picture, part]:
                corners = _cut_part(rays[picture, first:last], z_near)
                if len(corners) < 3:
                    continue
            outlines.append(np.asarray(cv2.convexHull(np.ascontiguousarray(corners))[:, 0], dtype=np.float32))
            pictures.append(picture)
    return _fill(outlines, pictures, len(rays), size)


def _cut_part(rays: Floats, z_near: float) -> Floats:
    """Pixels (n, 2) whose convex hull is the part in front of the near plane: front corners and where it is crossed.

    Only the corners of a part are known, not its edges. Joining every front corner with every rear one crosses the
    plane in points of the cut that include all its corners, so the hull is the same.
    """
    front = rays[:, 2] >= z_near
    near, far = rays[~front], rays[front]
    if len(far) == 0:
        return np.zeros((0, 2), dtype=np.float32)
    a, b = near[:, None], far[None, :]
    share = (z_near - a[..., 2:]) / (b[..., 2:] - a[..., 2:])
    cut = (a + share * (b - a)).reshape(-1, 3)
    xy: Floats = np.concatenate([far[:, :2] / far[:, 2:], cut[:, :2] / np.float32(z_near)])
    return xy


def _fill(outlines: list[Floats], pictures: list[int], count: int, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Union (count, H, W) of convex outlines, each in its picture, by the pixel-centre rule.

    Every edge adds +1 or -1 from the first pixel at its right, in every row whose centre it crosses; running sums along
    the rows are the number of outlines around a pixel.
    """
    width, height = size
    if not outlines:
        return np.zeros((count, height, width), dtype=bool)
    lengths = np.array([len(outline) for outline in outlines])
    start = np.concatenate(outlines).astype(np.float64)
    following = np.arange(1, len(start) + 1)
    ends = np.cumsum(lengths)
    following[ends - 1] = ends - lengths
    end, owner = start[following], np.repeat(np.array(pictures), lengths)
    sign = np.where(end[:, 1] > start[:, 1], 1, -1)
    upper = np.where((sign > 0)[:, None], start, end)
    lower = np.where((sign > 0)[:, None], end, start)
    first = np.clip(np.ceil(upper[:, 1]), 0, height).astype(np.intp)
    last = np.clip(np.ceil(lower[:, 1]), 0, height).astype(np.intp)
    rows = last - first
    edge = np.repeat(np.arange(len(start)), rows)
    row = first[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(rows) - rows, rows)
    slope = (lower[:, 0] - upper[:, 0]) / np.where(rows > 0, lower[:, 1] - upper[:, 1], 1.0)
    column = np.ceil(upper[edge, 0] + (row - upper[edge, 1]) * slope[edge])
    column = np.clip(column, 0, width).astype(np.intp)
    place = (owner[edge] * height + row) * (width + 1) + column
    steps = np.bincount(place, weights=sign[edge], minlength=count * height * (width + 1))
    around = np.cumsum(steps.reshape(count, height, width + 1)[..., :width], axis=-1)
    filled: NDArray[np.bool_] = np.abs(around) > 0.5
    return filled
