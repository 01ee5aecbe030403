"""Where a recorded twin's objects are in the picture of a camera, which need not have been there: from their poses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.data.twin import TwinEpisode
from vap_sim.models.compact.slots import SLOTS
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel

_FINE = 4  # samples a pixel, each way
_BITS = 4  # of sub-pixel precision that OpenCV fills polygons with


@dataclass(frozen=True, eq=False)
class Bodies:
    """K convex objects over T frames, in the base frame [m]: boxes (T, K, 8, 3), the corners of their bounding boxes,
    and outlines, one (T, n, 3) an object, the corners of their hulls."""

    boxes: NDArray[np.float32]
    outlines: tuple[NDArray[np.float32], ...]

    @classmethod
    def of(cls, episode: TwinEpisode) -> Bodies:
        """The bodies of a recording. Raises KeyError or ValueError for one whose scene or outlines do not fit."""
        poses = episode.object_poses.astype(np.float64)
        length, count = poses.shape[:2]
        meta: dict[str, Any] = episode.meta
        turns = Rotation.from_quat(poses[..., 3:].reshape(-1, 4)).as_matrix().reshape(length, count, 3, 3)
        signs = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3), axis=-1).reshape(8, 3)
        hulls = [np.asarray(outline, np.float64).reshape(-1, 3) for outline in meta["outlines"]]
        sizes = [np.asarray(item["size"]) for item in meta["scene"]["objects"]]
        drawn = len(sizes) + len(meta["scene"].get("cabinets", ()))
        if not len(hulls) == drawn == count:
            raise ValueError(f"{len(hulls)} outlines and {count} poses of {drawn} objects and drawers")
        # Objects are centred on their boxes; drawers, which follow them, are as large as their outlines say.
        drawers = [np.ptp(hull, axis=0) * signs + (hull.max(0) + hull.min(0)) / 2 for hull in hulls[len(sizes) :]]
        corners = np.stack([*(signs * size for size in sizes), *drawers]).reshape(-1, 8, 3)
        boxes = np.einsum("tkij,kpj->tkpi", turns, corners) + poses[:, :, None, :3]
        outlines = tuple(
            (np.einsum("tij,pj->tpi", turns[:, k], hull) + poses[:, k, None, :3]).astype(np.float32)
            for k, hull in zip(range(count), hulls, strict=True)
        )
        return cls(boxes.astype(np.float32), outlines)


@dataclass(frozen=True, eq=False)
class Track:
    """Objects of one view over T frames, object k in slot k, unused slots zero.

    centres (T, S, 2) [px] of the projected bounding box; steps (T, S, 4) float32 from the frame before, as the camera
    of the frame itself would have seen both: x, y [px], turn [rad], log of growth; carried (T, S, 4) float32, the same
    of what the camera's own motion did before, zero for one that stands still.
    """

    centres: NDArray[np.float32]
    steps: NDArray[np.float32]
    carried: NDArray[np.float32]


def ridden(camera: Camera, model: RobotModel, joints: NDArray[np.float32]) -> Camera:
    """A camera on a link as one of every frame of joints (T, J), its axes leading; one that stands still as it is."""
    if camera.parent_link is None:
        return camera
    with torch.no_grad():
        pose = camera.T_base_camera(model.robot.forward(torch.from_numpy(joints).double()), model.robot).float()
    intrinsics = camera.intrinsics.expand(len(joints), 3, 3)
    return replace(camera, intrinsics=intrinsics, T_parent_camera=pose, parent_link=None)


def of_frames(camera: Camera, frames: NDArray[np.intp] | slice) -> Camera:
    """The cameras of some frames, of what `ridden` gives."""
    if camera.intrinsics.ndim == 2:
        return camera
    return replace(camera, intrinsics=camera.intrinsics[frames], T_parent_camera=camera.T_parent_camera[frames])


def follow(bodies: Bodies, camera: Camera) -> Track:
    """The track of one view: bounding boxes projected, and what best carries each from frame to frame. camera: one, or
    one a frame."""
    boxes, _ = _project(bodies.boxes, camera)
    length, count = boxes.shape[:2]
    centres = np.zeros((length, SLOTS, 2), np.float32)
    steps, carried = (np.zeros((length, SLOTS, 4), np.float32) for _ in range(2))
    kept = min(count, SLOTS)
    centres[:, :kept] = boxes[:, :kept].mean(2)
    before = boxes[:-1]
    if camera.intrinsics.ndim > 2:
        before, _ = _project(bodies.boxes[:-1], of_frames(camera, slice(1, None)))
        carried[1:, :kept] = _similarity(boxes[:-1, :kept], before[:, :kept])
    steps[1:, :kept] = _similarity(before[:, :kept], boxes[1:, :kept])
    return Track(centres, steps, carried)


def see(
    bodies: Bodies, camera: Camera, frames: NDArray[np.intp], *, later: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The objects in n frames: numbers (n, H, W) uint8, 0 nothing, k + 1 object k; alpha (n, H, W) uint8, the share of
    a pixel that objects cover. Nearer objects hide farther ones; a pixel belongs to the nearest that has half of it.

    camera: one, or one a frame; later: by how many frames it is ahead of the objects, at most to its last."""
    width, height = camera.size
    moved = camera.intrinsics.ndim > 2
    camera = of_frames(camera, np.minimum(frames + later, len(camera.intrinsics) - 1)) if moved else camera
    outlines = [_project(outline[frames], camera) for outline in bodies.outlines[:SLOTS]]
    numbers, alpha = (np.zeros((len(frames), height, width), np.uint8) for _ in range(2))
    for frame in range(len(frames)):
        for index in sorted(range(len(outlines)), key=lambda k: -float(outlines[k][1][frame].mean())):
            found = _share(outlines[index][0][frame].astype(np.float32), (width, height))
            if found is not None:
                part, share = found
                below, number = alpha[frame][part], numbers[frame][part]
                number[(share >= 128) | ((number == 0) & (share > 0))] = index + 1
                below += ((255 - below.astype(np.uint16)) * share // 255).astype(np.uint8)
    return numbers, alpha


def _share(points: NDArray[np.float32], size: tuple[int, int]) -> tuple[tuple[slice, slice], NDArray[np.uint8]] | None:
    """What share of each pixel, 0 to 255, the hull of points (n, 2) [px] covers, in the part of the picture where it
    lies; None outside of it."""
    low, high = np.floor(points.min(0)).astype(int) - 1, np.ceil(points.max(0)).astype(int) + 2
    low, high = np.maximum(low, 0), np.minimum(high, size)
    if (low >= high).any():
        return None
    fine = np.zeros((high - low)[::-1] * _FINE, np.uint8)
    # A pixel's fine samples lie evenly around its middle.
    hull = (cv2.convexHull(points)[:, 0] - low) * _FINE + (_FINE - 1) / 2
    # OpenCV fills whatever the edge touches, too: half a sample too much on every side.
    reach, middle = 0.5 * np.ptp(hull, axis=0), 0.5 * (hull.min(0) + hull.max(0))
    hull = middle + (hull - middle) * np.maximum(reach - 0.5, 0) / np.maximum(reach, 1e-3)
    cv2.fillConvexPoly(fine, np.round(hull * 2**_BITS).astype(np.int32), 255, cv2.LINE_8, _BITS)
    share = cv2.resize(fine, (int(high[0] - low[0]), int(high[1] - low[1])), interpolation=cv2.INTER_AREA)
    return (slice(low[1], high[1]), slice(low[0], high[0])), share.astype(np.uint8, copy=False)


def _project(points: NDArray[np.float32], camera: Camera) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Points (..., 3) [m] in the picture (..., 2) [px], and their depth (...) [m]."""
    xy, depth = camera.project(torch.from_numpy(np.ascontiguousarray(points)))
    return xy.double().numpy(), depth.double().numpy()


def _similarity(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares similarity between point sets (..., P, 2), by complex numbers: (..., 4) as in `Track.steps`."""
    old, new = before[..., 0] + 1j * before[..., 1], after[..., 0] + 1j * after[..., 1]
    old_mean, new_mean = old.mean(-1, keepdims=True), new.mean(-1, keepdims=True)
    spread = (np.abs(old - old_mean) ** 2).sum(-1)
    factor = ((old - old_mean).conj() * (new - new_mean)).sum(-1) / spread
    shift = (new_mean - old_mean)[..., 0]
    return np.stack([shift.real, shift.imag, np.angle(factor), np.log(np.abs(factor))], axis=-1)
