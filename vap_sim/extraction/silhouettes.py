"""A robot's outline as a camera would see it, fast enough to try thousands of cameras: masks and contour points."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.robots.library import RobotModel

Array = NDArray[np.float64]
Z_NEAR = 0.03
"""Nearer parts of the robot [m] are cut off."""
_FINE_BITS = 4  # outlines are drawn on a grid of 1/16 px
_FARTHEST = 8000.0  # [px]; corners further out are moved there, so that the grid's integers hold them


@dataclass(frozen=True, eq=False)
class Body:
    """A robot at F poses as convex parts: points (F, N, 3) [m, base frame], of which part i is
    points[:, bounds[i] : bounds[i + 1]]."""

    points: Array
    bounds: tuple[int, ...]

    def at(self, poses: NDArray[np.intp]) -> Body:
        """The body at some of its poses."""
        return Body(self.points[poses], self.bounds)


@dataclass(frozen=True, eq=False)
class Cloud:
    """A robot at F poses as N points in its volume: points (F, N, 3) float32 [m, base frame]; shown (F, N) bool: which
    of them are drawn."""

    points: NDArray[np.float32]
    shown: NDArray[np.bool_]

    def pairs(self, pairs: NDArray[np.intp], least: float) -> Cloud:
        """The cloud at both poses of pairs (P, 2), one after the other: 2P poses, and of each pair only the points that
        move by at least `least` [m] between its poses, since the rest of the robot is a part of the scene."""
        both = self.points[pairs]
        moves = np.linalg.norm(both[:, 0] - both[:, 1], axis=-1) >= least
        ever = moves.any(0)
        points = both[:, :, ever].reshape(2 * len(pairs), -1, 3)
        return Cloud(points, np.repeat(moves[:, ever], 2, axis=0))


@dataclass(frozen=True, eq=False)
class Contour:
    """Points on the outline of a robot in F pictures: frame (M,) the picture of each, points (M, 3) [m, base frame],
    pixels (M, 2) and outward normals (M, 2) of unit length."""

    frame: NDArray[np.intp]
    points: Array
    pixels: Array
    normals: Array


def pose_body(model: RobotModel, q: Array) -> Body:
    """The visual parts of a robot at poses q (F, J) [rad or m]."""
    poses = _link_poses(model, q)
    parts = [(visual.link, np.asarray(visual.vertices, np.float64)) for visual in model.robot.visuals]
    bounds = np.cumsum([0, *(len(vertices) for _, vertices in parts)])
    return Body(np.concatenate([_placed(poses[:, k], v) for k, v in parts], axis=1), tuple(bounds.tolist()))


def pose_cloud(model: RobotModel, q: Array, spacing: float) -> Cloud:
    """Points in the volume of a robot at poses q (F, J) [rad or m], about `spacing` [m] from each other."""
    poses, inner = _link_poses(model, q), _inner_points(model, spacing)
    points = np.concatenate([_placed(poses[:, link], part) for link, part in inner], axis=1)
    return Cloud(points.astype(np.float32), np.ones(points.shape[:2], bool))


def _link_poses(model: RobotModel, q: Array) -> Array:
    with torch.no_grad():
        return np.asarray(model.robot.forward(torch.as_tensor(q, dtype=torch.float64)).numpy())


def _placed(poses: Array, points: Array) -> Array:
    return np.asarray(points @ poses[:, :3, :3].swapaxes(-1, -2) + poses[:, None, :3, 3])


@lru_cache(maxsize=8)
def _inner_points(model: RobotModel, spacing: float) -> tuple[tuple[int, Array], ...]:
    parts = ((visual.link, np.asarray(visual.vertices, np.float64)) for visual in model.robot.visuals)
    return tuple((link, _fill_part(vertices, spacing)) for link, vertices in parts)


def _fill_part(vertices: Array, spacing: float) -> Array:
    """The corners of a convex part and points between them, thinned to one a cell of a grid."""
    mixed = np.random.default_rng(0).dirichlet(np.full(len(vertices), 0.15), 1500) @ vertices
    points = np.concatenate([vertices, mixed])
    _, first = np.unique(np.floor(points / spacing).astype(np.intp), axis=0, return_index=True)
    return np.asarray(points[np.sort(first)])


def splat_masks(cloud: Cloud, matrices: Array, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Masks (n, F, H, W) of zeros and ones of a cloud for n projections (n, 3, 4) to a picture (width, height).

    A pixel is covered where a point of the cloud falls on it, and where both its neighbours in a row or column are:
    good for small pictures, whose pixels are no finer than the cloud.
    """
    width, height = size
    count, frames, each = len(matrices), *cloud.points.shape[:2]
    homogeneous = np.concatenate([cloud.points.reshape(-1, 3).T, np.ones((1, frames * each), np.float32)])
    rays = (matrices.astype(np.float32).reshape(-1, 4) @ homogeneous).reshape(count, 3, frames, each)
    hidden = (rays[:, 2] < Z_NEAR) | ~cloud.shown
    near = np.reciprocal(np.maximum(rays[:, 2], np.float32(Z_NEAR)))
    # Half a pixel is added before rounding down, and one for a border that takes what lies outside.
    cells = []
    for axis, most in ((0, width + 1), (1, height + 1)):
        cell = np.multiply(rays[:, axis], near, out=rays[:, axis])
        cell += np.float32(1.5)
        cells.append(np.clip(cell, 0, most, out=cell).astype(np.int32))
    place = np.multiply(cells[1], width + 2, out=cells[1])
    place += cells[0]
    place[hidden] = 0
    place += (np.arange(count * frames, dtype=np.int32) * ((width + 2) * (height + 2))).reshape(count, frames, 1)
    masks = np.zeros((count, frames, height + 2, width + 2), np.uint8)
    masks.reshape(-1)[place.reshape(-1)] = 1
    inner = masks[..., 1:-1, 1:-1]
    inner[..., 1:-1] |= inner[..., :-2] & inner[..., 2:]
    inner[..., 1:-1, :] |= inner[..., :-2, :] & inner[..., 2:, :]
    return inner


def draw_masks(body: Body, matrix: Array, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Masks (F, H, W) of zeros and ones for a projection (3, 4) to a picture of `size` (width, height).

    Pixels that an outline crosses count as covered, which makes the robot larger by up to half a pixel.
    """
    return _filled(_outlines(body, matrix), len(body.points), size)


def trace_contour(body: Body, matrix: Array, size: tuple[int, int], *, spacing: float = 3.0) -> Contour:
    """Points every `spacing` pixels along the outline of the union of all parts, inside the picture."""
    lines = _outlines(body, matrix)
    masks = _filled(lines, len(body.points), size)
    width, height = size
    ends = np.cumsum(lines.counts)
    following = np.arange(1, len(lines.pixels) + 1)
    following[ends - 1] = ends - lines.counts
    edge = lines.pixels[following] - lines.pixels
    length = np.hypot(edge[:, 0], edge[:, 1])
    count = np.minimum(np.rint(length / spacing + 0.3), 400).astype(np.intp)
    owner = np.repeat(np.arange(len(edge)), count)
    step = (np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count) + 0.5) / count[owner]
    pixels = lines.pixels[owner] + step[:, None] * edge[owner]
    # cv2's hulls run clockwise on the screen, where y points down.
    normals = np.stack([edge[:, 1], -edge[:, 0]], axis=-1)[owner] / length[owner, None]
    out = np.rint(pixels + 1.6 * normals)
    inside = (pixels >= 1).all(1) & (pixels <= (width - 2, height - 2)).all(1)
    column, row = np.clip(out, 0, (width - 1, height - 1)).astype(np.intp).T
    frame = np.repeat(lines.frames, lines.counts)[owner]
    free = inside & (masks[frame, row, column] == 0)
    owner, step = owner[free], step[free]
    # What lies half-way in the picture is nearer to the end that is nearer to the camera.
    near, far = lines.depth[owner], lines.depth[following[owner]]
    share = step * near / (step * near + (1 - step) * far)
    points = lines.points[owner] + share[:, None] * (lines.points[following[owner]] - lines.points[owner])
    return Contour(frame[free], points, pixels[free], normals[free])


class _Outlines(NamedTuple):
    """Outlines of parts one after the other: frames (K,) and counts (K,) of corners of each; of all corners, in order
    around their part, points (M, 3) [m], depth (M,) [m] and pixels (M, 2)."""

    frames: NDArray[np.intp]
    counts: NDArray[np.intp]
    points: Array
    depth: Array
    pixels: Array


def _filled(lines: _Outlines, count: int, size: tuple[int, int]) -> NDArray[np.uint8]:
    masks = np.zeros((count, size[1], size[0]), np.uint8)
    grid = np.rint(np.clip(lines.pixels, -_FARTHEST, _FARTHEST) * (1 << _FINE_BITS)).astype(np.int32)
    last = np.cumsum(lines.counts)
    for frame, a, b in zip(lines.frames.tolist(), (last - lines.counts).tolist(), last.tolist(), strict=True):
        cv2.fillConvexPoly(masks[frame], grid[a:b], 1, shift=_FINE_BITS)
    return masks


def _outlines(body: Body, matrix: Array) -> _Outlines:
    """The outlines of all parts that are before the near plane, at every pose."""
    rays = body.points @ matrix[:, :3].T + matrix[:, 3]
    front = rays[..., 2] >= Z_NEAR
    pixels = rays[..., :2] / np.where(front, rays[..., 2], 1)[..., None]
    single = pixels.astype(np.float32)
    starts = body.bounds[:-1]
    whole = np.logical_and.reduceat(front, starts, axis=1)
    some = np.logical_or.reduceat(front, starts, axis=1)
    size, flat_points, flat_rays = body.points.shape[1], body.points.reshape(-1, 3), rays.reshape(-1, 3)
    owner: list[int] = []
    chosen: list[NDArray[np.intp]] = []
    cut: list[tuple[Array, Array]] = []
    cut_first = len(flat_points)
    for frame in range(len(rays)):
        for part, (first, last) in enumerate(zip(starts, body.bounds[1:], strict=True)):
            if whole[frame, part]:
                order = cv2.convexHull(single[frame, first:last], returnPoints=False)[:, 0] + (frame * size + first)
            elif some[frame, part]:
                points, ray = _cut(body.points[frame, first:last], rays[frame, first:last])
                order = (
                    cv2.convexHull((ray[:, :2] / ray[:, 2:]).astype(np.float32), returnPoints=False)[:, 0] + cut_first
                )
                cut.append((points, ray))
                cut_first += len(points)
            else:
                continue
            if len(order) > 2:
                owner.append(frame)
                chosen.append(order)
    row = np.concatenate(chosen) if chosen else np.zeros(0, np.intp)
    points = np.concatenate([flat_points, *(p for p, _ in cut)])[row]
    ray = np.concatenate([flat_rays, *(r for _, r in cut)])[row]
    counts = np.array([len(order) for order in chosen], dtype=np.intp)
    return _Outlines(np.array(owner, dtype=np.intp), counts, points, ray[:, 2], ray[:, :2] / ray[:, 2:])


def _cut(points: Array, rays: Array) -> tuple[Array, Array]:
    """The corners before the near plane and the places where lines from them to those behind cross it."""
    front = rays[:, 2] >= Z_NEAR
    a, b = rays[~front][:, None], rays[front][None]
    share = (Z_NEAR - a[..., 2:]) / (b[..., 2:] - a[..., 2:])
    crossed_rays = (a + share * (b - a)).reshape(-1, 3)
    crossed = (points[~front][:, None] + share * (points[front][None] - points[~front][:, None])).reshape(-1, 3)
    return np.concatenate([points[front], crossed]), np.concatenate([rays[front], crossed_rays])
