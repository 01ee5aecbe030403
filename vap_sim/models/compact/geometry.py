"""Points in space and their pixels in several cameras, by projection matrices alone: no camera, no robot.

A projection P (3, 4) takes a point of the base frame [m] to pixels times depth. All of it is double precision, one row
at a time, so that what a row says does not depend on the batch it is in.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

NEAREST = 0.02
"""[m] before a camera; what is nearer, or behind it, has no pixel."""


def see(projections: Floats, points: Floats) -> tuple[Floats, Floats]:
    """Pixels (..., 2) and depth (...) [m] of points (..., 3) under projections (..., 3, 4).

    Points behind the camera keep their depth; their pixels are finite and mean nothing."""
    rays = np.einsum("...ij,...j->...i", projections[..., :3], points) + projections[..., 3]
    depth = rays[..., 2]
    return rays[..., :2] / np.maximum(depth, NEAREST)[..., None], depth


def responses(projections: Floats, points: Floats) -> Floats:
    """How a view answers to a small displacement of points (..., 3) under projections (..., 3, 4): matrices (..., 3, 3)
    from metres in the base frame to shift x, y [px] and log of growth."""
    xy, depth = see(projections, points)
    depth = np.maximum(depth, NEAREST)[..., None, None]
    linear = projections[..., :3]
    moved = (linear[..., :2, :] - xy[..., None] * linear[..., 2:, :]) / depth
    return np.concatenate([moved, -linear[..., 2:, :] / depth], axis=-2)


def facing(projections: Floats, points: Floats) -> Floats:
    """Displacements (..., 3, 2) [m] across the view that move points (..., 3) by one pixel to the right and down."""
    return np.asarray(np.linalg.inv(responses(projections, points))[..., :2], np.float64)


def eyes_of(projections: Floats) -> Floats:
    """Where cameras of projections (..., 3, 4) are, (..., 3) [m]."""
    return np.asarray(-np.linalg.solve(projections[..., :3], projections[..., 3:])[..., 0], np.float64)


def rays_of(projections: Floats, xy: Floats) -> tuple[Floats, Floats]:
    """Where the rays through pixels (..., 2) begin (..., 3) [m], and their directions (..., 3), of length one."""
    inverse = np.linalg.inv(projections[..., :3])
    eye = -np.einsum("...ij,...j->...i", inverse, projections[..., 3])
    ends = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1)
    along = np.einsum("...ij,...j->...i", inverse, ends)
    return np.broadcast_to(eye, along.shape), along / np.linalg.norm(along, axis=-1, keepdims=True)


def meet(eyes: Floats, along: Floats) -> tuple[Floats, float]:
    """The point (3,) nearest to n rays, eyes and directions (n, 3), and the root of its mean squared distance to them
    [m]. Rays that are parallel meet where they begin, as far as they can."""
    across = np.eye(3) - along[:, :, None] * along[:, None, :]
    # A hundred-millionth of identity: parallel rays have an answer too, and no others are moved by a micrometre.
    left = across.sum(0) + 1e-8 * np.eye(3)
    right = np.einsum("nij,nj->i", across, eyes) + 1e-8 * eyes.mean(0)
    point = np.linalg.solve(left, right)
    off = np.einsum("nij,nj->ni", across, point - eyes)
    return point, float(np.sqrt(np.square(off).sum(1).mean()))


def on_level(projection: Floats, xy: Floats, height: float) -> Floats | None:
    """The point (3,) at this height [m] that a pixel (2,) shows; None where its ray does not come down to it."""
    eye, along = rays_of(projection, xy)
    if abs(along[2]) < 1e-6 or (height - eye[2]) / along[2] <= NEAREST:
        return None
    return np.asarray(eye + along * (height - eye[2]) / along[2])


def likeness(turns: Floats) -> Floats:
    """The turn and size (..., 2), as `Slots.turn`, that is nearest to linear maps of the picture (..., 2, 2)."""
    real = (turns[..., 0, 0] + turns[..., 1, 1]) / 2
    imaginary = (turns[..., 1, 0] - turns[..., 0, 1]) / 2
    return np.stack([real, imaginary], axis=-1)
