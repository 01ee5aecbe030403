"""What is believed of a static camera before its pictures are looked at, and cameras as plain vectors of numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.robots.camera import Camera

Array = NDArray[np.float64]
NAMES = ("x", "y", "z", "yaw", "pitch", "roll", "focal", "aspect")
"""Members of a camera vector: place [m], directions [rad], log of focal length over width, log of fy over fx."""
SIZE = len(NAMES)


@dataclass(frozen=True)
class CameraPrior:
    """Ranges in which a camera is looked for; an answer at an edge of one is refused.

    reach (lowest, highest) distance [m] from the middle of the robot's moving parts; height (lowest, highest) [m] over
    the robot's base; pitch and roll: ranges [rad]; focal: range of fx over the picture's width, which is a horizontal
    field of view of 37 to 110 degrees; aspect: range of fy over fx, since many recordings were resized unevenly. The
    picture's middle is where the camera looks.
    """

    reach: tuple[float, float] = (0.3, 2.2)
    height: tuple[float, float] = (-0.3, 2.0)
    pitch: tuple[float, float] = (-1.45, 0.6)
    roll: tuple[float, float] = (-0.45, 0.45)
    focal: tuple[float, float] = (0.35, 1.5)
    aspect: tuple[float, float] = (0.85, 1.18)

    def __post_init__(self) -> None:
        for name in ("reach", "height", "pitch", "roll", "focal", "aspect"):
            positive = name in ("reach", "focal", "aspect")
            low, high = getattr(self, name)
            if not (np.isfinite([low, high]).all() and low < high and (low > 0 or not positive)):
                expected = "two finite numbers, the smaller first" + (", both positive" if positive else "")
                raise InvalidInput(f"{name} of a camera prior", (low, high), expected)

    @staticmethod
    def with_focal(focal_px: float, width: int) -> CameraPrior:
        """The broad prior with fx known to 10 % for pictures `width` pixels wide. Raises InvalidInput."""
        if not 0 < focal_px < np.inf:
            raise InvalidInput("focal length [px]", focal_px, "a positive number")
        return CameraPrior(focal=(focal_px / width / 1.1, focal_px / width * 1.1))

    def bounds(self, middle: Array) -> tuple[Array, Array]:
        """Lowest and highest camera vectors (8,) around a point (3,) [m]."""
        far = self.reach[1]
        low = [middle[0] - far, middle[1] - far, self.height[0], -np.inf, self.pitch[0], self.roll[0]]
        high = [middle[0] + far, middle[1] + far, self.height[1], np.inf, self.pitch[1], self.roll[1]]
        logs = np.log([self.focal, self.aspect])
        return np.array([*low, *logs[:, 0]]), np.array([*high, *logs[:, 1]])

    def cost(self, vectors: Array, middle: Array) -> Array:
        """How far camera vectors (n, 8) lie outside the prior, (n,) in hundredths of its ranges; 0 inside."""
        low, high = self.bounds(middle)
        width = np.where(np.isfinite(high - low), high - low, 1.0)
        outside = np.maximum(low - vectors, 0) + np.maximum(vectors - high, 0)
        near = np.maximum(self.reach[0] - np.linalg.norm(vectors[:, :3] - middle, axis=1), 0)
        return np.asarray(100 * ((np.where(np.isfinite(outside), outside, 0) / width).sum(1) + near))

    def edge(self, vector: Array, middle: Array, margin: float = 0.02) -> str | None:
        """The name of the member within `margin` of the width of its range from the range's edge, or None."""
        low, high = self.bounds(middle)
        room = margin * (high - low)
        for index, name in enumerate(NAMES):
            if np.isfinite(room[index]) and not low[index] + room[index] < vector[index] < high[index] - room[index]:
                return name
        return "reach" if np.linalg.norm(vector[:3] - middle) < self.reach[0] * (1 + margin) else None


def rotations(vectors: Array) -> Array:
    """Camera vectors (n, 8) -> turns (n, 3, 3) whose columns are right, down and forward in the base frame."""
    yaw, pitch, roll = vectors[:, 3], vectors[:, 4], vectors[:, 5]
    forward = np.stack([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)], axis=-1)
    level = np.stack([np.sin(yaw), -np.cos(yaw), np.zeros_like(yaw)], axis=-1)
    down = np.cross(forward, level)
    cos, sin = np.cos(roll)[:, None], np.sin(roll)[:, None]
    return np.stack([cos * level + sin * down, cos * down - sin * level, forward], axis=-1)


def angles(turn: Array) -> tuple[float, float, float]:
    """Yaw, pitch and roll [rad] of a turn (3, 3): the inverse of `rotations`, unless it looks straight up or down."""
    right, _, forward = turn.T
    yaw, pitch = np.arctan2(forward[1], forward[0]), np.arcsin(np.clip(forward[2], -1, 1))
    level = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    roll = np.arctan2(right @ np.cross(forward, level), right @ level)
    return float(yaw), float(pitch), float(roll)


def projections(vectors: Array, size: tuple[int, int], drawn: tuple[int, int] | None = None) -> Array:
    """Camera vectors (n, 8) -> matrices (n, 3, 4) from the base frame [m] to pixels of a picture (width, height).

    `drawn`: the size to which the picture of `size` was resized before it is looked at.
    """
    width, height = size
    turn = rotations(vectors).swapaxes(-1, -2)
    pose = np.concatenate([turn, -(turn @ vectors[:, :3, None])], axis=-1)
    pose[:, 0] *= (width * np.exp(vectors[:, 6]))[:, None]
    pose[:, 1] *= (width * np.exp(vectors[:, 6] + vectors[:, 7]))[:, None]
    pose[:, :2] += np.array([(width - 1) / 2, (height - 1) / 2])[:, None] * pose[:, 2:]
    if drawn is not None and drawn != size:
        scale = np.array([drawn[0] / width, drawn[1] / height])[:, None]
        pose[:, :2] = scale * pose[:, :2] + (scale - 1) / 2 * pose[:, 2:]
    return np.asarray(pose)


def to_camera(vector: Array, name: str, size: tuple[int, int]) -> Camera:
    """The camera of one vector (8,), fixed in the base frame, for pictures of `size` (width, height)."""
    width, height = size
    focal = width * np.exp(vector[6])
    intrinsics = [[focal, 0, (width - 1) / 2], [0, focal * np.exp(vector[7]), (height - 1) / 2], [0, 0, 1]]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotations(vector[None])[0], vector[:3]
    return Camera(name, torch.tensor(intrinsics).float(), torch.from_numpy(pose).float(), None, size)


def from_camera(camera: Camera) -> Array:
    """The vector (8,) of a camera that is fixed in the base frame; its principal point is taken to be the middle."""
    if camera.parent_link is not None or camera.intrinsics.ndim != 2:
        given = f"one on {camera.parent_link!r} with intrinsics {tuple(camera.intrinsics.shape)}"
        raise InvalidInput(f"camera {camera.name!r}", given, "one camera that is fixed in the base frame")
    pose, intrinsics = camera.T_parent_camera.double().numpy(), camera.intrinsics.double().numpy()
    focal = np.log([intrinsics[0, 0] / camera.size[0], intrinsics[1, 1] / intrinsics[0, 0]])
    return np.array([*pose[:3, 3], *angles(pose[:3, :3]), *focal])
