"""Where a recorded twin's objects are in the picture: exact image motion from their poses, as slots move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.data.twin import TwinEpisode
from vap_sim.models.compact.slots import SLOTS
from vap_sim.robots.camera import Camera

_SHIFT = 4  # bits of sub-pixel precision that OpenCV fills polygons with


@dataclass(frozen=True, eq=False)
class Track:
    """Objects of one view over T frames, object k in slot k, unused slots zero.

    numbers (T, H, W) uint8: 0 nothing, k + 1 object k, as far as the object layer shows it; centres (T, S, 2) [px] of
    the projected bounding box; steps (T, S, 4) float32 from the frame before: x, y [px], turn [rad], log of growth.
    """

    numbers: NDArray[np.uint8]
    centres: NDArray[np.float32]
    steps: NDArray[np.float32]


def follow(episode: TwinEpisode, view: int) -> Track:
    """The track of one view: bounding boxes at the recorded poses, projected, and what best carries each on."""
    camera = Camera.from_dict(episode.meta["cameras"][view])
    boxes, depth = _boxes(episode, camera)
    length, count = boxes.shape[:2]
    centres = np.zeros((length, SLOTS, 2), np.float32)
    steps = np.zeros((length, SLOTS, 4), np.float32)
    kept = min(count, SLOTS)
    centres[:, :kept] = boxes[:, :kept].mean(2)
    steps[1:, :kept] = _similarity(boxes[:-1, :kept], boxes[1:, :kept])
    covered = episode.objects[view, ..., 3] > 0
    return Track(_number(boxes[:, :kept], depth[:, :kept], covered), centres, steps)


def _boxes(episode: TwinEpisode, camera: Camera) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Projected corners (T, K, 8, 2) [px] and mean depth (T, K) [m] of the objects' bounding boxes."""
    poses = episode.object_poses.astype(np.float64)
    length, count = poses.shape[:2]
    scene: dict[str, Any] = episode.meta["scene"]
    signs = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3), axis=-1).reshape(8, 3)
    corners = signs * np.asarray([item["size"] for item in scene["objects"]])[:, None]
    turns = Rotation.from_quat(poses[..., 3:].reshape(-1, 4)).as_matrix().reshape(length, count, 3, 3)
    points = np.einsum("tkij,kpj->tkpi", turns, corners) + poses[:, :, None, :3]
    xy, depth = camera.project(torch.as_tensor(points, dtype=torch.float32))
    return xy.double().numpy(), depth.double().numpy().mean(-1)


def _similarity(before: NDArray[np.float64], after: NDArray[np.float64]) -> NDArray[np.float64]:
    """Least-squares similarity between point sets (..., P, 2), by complex numbers: (..., 4) as in `Track.steps`."""
    old, new = before[..., 0] + 1j * before[..., 1], after[..., 0] + 1j * after[..., 1]
    old_mean, new_mean = old.mean(-1, keepdims=True), new.mean(-1, keepdims=True)
    spread = (np.abs(old - old_mean) ** 2).sum(-1)
    factor = ((old - old_mean).conj() * (new - new_mean)).sum(-1) / spread
    shift = (new_mean - old_mean)[..., 0]
    return np.stack([shift.real, shift.imag, np.angle(factor), np.log(np.abs(factor))], axis=-1)


def _number(boxes: NDArray[np.float64], depth: NDArray[np.float64], covered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    numbers = np.zeros(covered.shape, np.uint8)
    for frame in range(len(boxes)):
        for index in np.argsort(-depth[frame]):
            hull = cv2.convexHull(boxes[frame, index].astype(np.float32))
            fixed = np.round(hull * 2**_SHIFT).astype(np.int32)
            cv2.fillConvexPoly(numbers[frame], fixed, int(index) + 1, cv2.LINE_8, _SHIFT)
    return np.where(covered, numbers, 0).astype(np.uint8)
