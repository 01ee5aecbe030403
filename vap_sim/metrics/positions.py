"""Where objects are in space, read off pictures of several cameras: do views agree, and with the truth?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.metrics.objects import LEAST_PIXELS
from vap_sim.models.compact.geometry import meet, rays_of
from vap_sim.robots.camera import Camera

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


def projection_of(camera: Camera) -> Floats:
    """What takes points of the base frame [m] to a still camera's pixels times depth, (3, 4). Raises InvalidInput for
    one that rides on a link, or for several in one."""
    if camera.parent_link is not None or camera.intrinsics.ndim != 2:
        given = f"one on link {camera.parent_link!r}" if camera.parent_link else "a batch of cameras"
        raise InvalidInput(f"camera {camera.name!r}", given, "a single camera that stands still")
    inverse = np.linalg.inv(camera.T_parent_camera.double().numpy())
    return np.asarray(camera.intrinsics.double().numpy() @ inverse[:3])


def triangulate(masks: Bools, projections: Floats) -> Floats:
    """Where an object is by its pixels in V pictures, (3,) [m]: the point nearest to the lines of sight through their
    centres; not a number where fewer than two pictures show LEAST_PIXELS of it.

    masks: (V, H, W); projections: (V, 3, 4). Raises InvalidInput for shapes that disagree.
    """
    if masks.ndim != 3 or projections.shape != (len(masks), 3, 4):
        given = f"masks {masks.shape} and projections {projections.shape}"
        raise InvalidInput("masks and projections", given, "(V, H, W) and (V, 3, 4)")
    shown = np.flatnonzero(masks.sum((1, 2)) >= LEAST_PIXELS)
    if len(shown) < 2:
        return np.full(3, np.nan)
    centres = np.stack([np.argwhere(masks[view]).mean(0)[::-1] for view in shown])
    return meet(*rays_of(projections[shown], centres))[0]


def position_errors(*, masks: Bools, positions: Floats, judged: Bools, cameras: Sequence[Camera]) -> Floats:
    """By how much objects read off generated pictures miss the truth [m], one number for every judged one (n,).

    masks: (V, K, T, H, W), objects in the generated pictures; positions: (T, K, 3) [m], true ones; judged: (K, T),
    which of them the truth shows in two views or more. One that generated pictures do not show in two is infinitely far
    off. Raises InvalidInput for shapes that disagree.
    """
    count, length = judged.shape
    if masks.shape[:3] != (len(cameras), count, length) or positions.shape != (length, count, 3):
        given = f"masks {masks.shape}, positions {positions.shape}, judged {judged.shape}, {len(cameras)} cameras"
        raise InvalidInput("objects in several views", given, "(V, K, T, H, W), (T, K, 3), (K, T), V cameras")
    seen = np.stack([projection_of(camera) for camera in cameras])
    errors = []
    for index, frame in np.argwhere(judged):
        found = triangulate(masks[:, index, frame], seen)
        miss = float(np.linalg.norm(found - positions[frame, index]))
        errors.append(np.inf if np.isnan(miss) else miss)
    return np.asarray(errors, np.float64)
