"""Where hands seen in a picture are in space, so that they can be drawn like any robot.

A picture tells directions, not distances. Points keep their pixels exactly; their distance comes from the detector
where it knows the camera, else from a hand's size: the scale [px / m] at which its shape in metres lies over its
pixels, or, where only pixels are known, at which its palm is as long as an adult's. With a focal length the scale is a
distance.
"""

from __future__ import annotations

import numpy as np
import torch

from vap_sim.errors import InvalidInput
from vap_sim.extraction.hand_cleaning import HandSeries
from vap_sim.extraction.hand_detection import Floats
from vap_sim.extraction.hand_smoothing import OneEuro
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

ROBOT = "human_hands"
PALM = 0.09
"""Metres from the wrist to the knuckles of an adult's four fingers, roughly."""
WIDE = 60.0
"""Degrees: the horizontal field of view of a camera of which nothing is known."""
_KNUCKLES = (5, 9, 13, 17)
_NEAREST = 0.05  # metres: nothing of a hand is drawn nearer to the camera
_FARTHEST = 8.0
_BEHIND = -1.0


def assumed_focal(width: int) -> float:
    """The focal length [px] of a camera with the assumed field of view."""
    return float(width / 2 / np.tan(np.radians(WIDE) / 2))


def hand_camera(size: tuple[int, int], focal: float) -> Camera:
    """A camera in the origin that looks along z, its centre in the middle of its picture (width, height)."""
    if not 0 < focal < 1e6:
        raise InvalidInput("focal length", focal, "a positive number of pixels")
    width, height = size
    intrinsics = torch.tensor([[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]])
    return Camera("video", intrinsics, torch.eye(4), None, (int(width), int(height)))


def scales(points: Floats, metres: Floats) -> Floats:
    """Pixels a metre (T,) at which hands lie in the picture, of points (T, 21, 2) [px] and metres (T, 21, 3).

    By least squares where metres are known, else by the palm, which is at least as long as it looks. Frames without
    points give a number that is not one.
    """
    flat = metres[..., :2] - metres[..., :2].mean(1, keepdims=True)
    seen = points - points.mean(1, keepdims=True)
    length = (flat * flat).sum((1, 2))
    fitted = (flat * seen).sum((1, 2)) / np.where(length > 0, length, np.nan)
    palms = np.linalg.norm(points[:, _KNUCKLES] - points[:, :1], axis=-1).max(1) / PALM
    return np.asarray(np.where(fitted > 0, fitted, palms))


def in_space(series: HandSeries, camera: Camera, rate: float, smoothing: OneEuro) -> Floats:
    """Points (T, 21, 3) [m] in the camera's axes, smoothed within each piece; behind the camera where there is no hand.

    camera: of the size that the points' pixels are of; rate [Hz]. Where the detector placed a hand in space throughout
    a piece, its points are smoothed there; elsewhere pixels and scale are, and the distance follows from them."""
    out = np.full((*series.points.shape[:2], 3), 0.0)
    out[..., 2] = _BEHIND
    for first, last in series.pieces:
        part = slice(first, last)
        points, metres = series.points[part], series.metres[part]
        if series.placed[part].all():
            out[part] = smoothing.smooth_both_ways(metres, rate)
            continue
        scale = scales(points, metres)
        unit = np.median(scale) * PALM  # speeds in palms a second, so that settings fit hands of any size
        points = smoothing.smooth_both_ways(points / unit, rate) * unit
        scale = np.exp(OneEuro(rest=0.5, beta=0.0).smooth_both_ways(np.log(scale), rate))
        out[part] = _placed(points, metres, scale, camera)
    return out


def _placed(points: Floats, metres: Floats, scale: Floats, camera: Camera) -> Floats:
    """Points (T, 21, 3) [m] that the camera sees at (T, 21, 2) [px], at the distance that a scale (T,) [px / m]
    tells."""
    k = camera.intrinsics.double().numpy()
    depth = np.zeros(points.shape[:2])
    known = np.isfinite(metres).all((1, 2))
    depth[known] = metres[known][..., 2] - metres[known][..., 2].mean(1, keepdims=True)
    depth = np.clip(depth + (k[0, 0] / scale)[:, None], _NEAREST, _FARTHEST)
    x = (points[..., 0] - k[0, 2]) / k[0, 0] * depth
    y = (points[..., 1] - k[1, 2]) / k[1, 1] * depth
    return np.stack([x, y, depth], axis=-1)


def hand_joints(left: Floats, right: Floats) -> np.ndarray:
    """Joint values (T, 126) float32 of the machine of points `human_hands`, of two hands (T, 21, 3) [m]; see its
    README.

    Values beyond its sliders' ends are moved to them.
    """
    robot = load_robot(ROBOT).robot
    q = torch.from_numpy(np.stack([left, right], axis=1).reshape(len(left), -1)).float()
    return np.asarray(robot.clamp(q).numpy())
