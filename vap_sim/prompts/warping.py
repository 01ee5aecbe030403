"""Homographies between what a camera model draws and what a real picture shows, applied before anything is drawn.

A homography keeps lines straight, so that moving the ends of bones and the corners of triangles is exact, and no drawn
picture is resampled. It takes pixels of the drawing to pixels of the picture.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.prompts.projection import Bools, Floats, as_floats, product

_HORIZON = np.float32(0.05)
"""Points whose homogeneous weight is less, the middle of the picture having about 1, lie beyond what can be drawn."""


def check_homographies(homographies: Tensor, rows: int, views: int, pixel_frames: int, size: tuple[int, int]) -> Floats:
    """The homographies as an array (b, V, F, 3, 3), scaled so that the middle of the picture has weight 1.

    Raises InvalidInput unless they are finite floats of that shape under which the picture of (width, height) keeps its
    sense of rotation and stays on one side of the horizon.
    """
    expected = (rows, views, pixel_frames, 3, 3)
    if tuple(homographies.shape) != expected or not homographies.is_floating_point():
        given = f"{homographies.dtype} {tuple(homographies.shape)}"
        raise InvalidInput("homographies", given, f"floats of shape {expected}: rows, views, frames, 3, 3")
    values = as_floats(homographies)
    bad = np.argwhere(~sane_homographies(values, size))
    if len(bad):
        _, view, frame = bad[0]
        expected_words = "one that is finite, mirrors nothing and keeps the picture before its horizon"
        raise InvalidInput(f"homography of view {view}, frame {frame}", values[tuple(bad[0])].tolist(), expected_words)
    width, height = size
    middle = values[..., 2:, :] @ np.array([[(width - 1) / 2], [(height - 1) / 2], [1]], np.float32)
    scaled: Floats = values / middle
    return scaled


def sane_homographies(homographies: NDArray[np.floating], size: tuple[int, int]) -> Bools:
    """Which of (..., 3, 3) are finite, keep the sense of rotation and leave the whole picture before the horizon."""
    width, height = size
    corners = np.array([[0, 0, 1], [width - 1, 0, 1], [0, height - 1, 1], [width - 1, height - 1, 1]], np.float64)
    values = np.nan_to_num(homographies.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    weights = values[..., 2, :] @ corners.T
    weights = weights * np.sign(weights[..., :1])
    straight = np.linalg.det(values) * np.sign(values[..., 2, :] @ corners[0]) > 1e-9
    kept: Bools = np.isfinite(homographies).all((-1, -2)) & straight
    kept &= weights.min(-1) > float(_HORIZON) * np.maximum(weights.max(-1), 1e-12)
    return kept


def warp_pixels(xy: Floats, homographies: Floats) -> tuple[Floats, Bools]:
    """Pixels (N, M, 2) moved by homographies (N, 3, 3), and which lie before the horizon (N, M); the rest are zero."""
    x, y = xy[..., 0], xy[..., 1]
    h = homographies[:, :, :, None]
    across, down, weight = (h[:, row, 0] * x + h[:, row, 1] * y + h[:, row, 2] for row in range(3))
    ahead = weight > _HORIZON
    safe = np.where(ahead, weight, np.float32(1))
    moved = np.stack([across / safe, down / safe], axis=-1)
    return np.where(ahead[..., None], moved, np.float32(0)), ahead


def warp_rays(rays: Floats, homographies: Floats) -> Floats:
    """Rays (N, P, 3) moved by homographies (N, 3, 3). Their depth becomes depth times weight; see `ray_weights`."""
    return product(homographies[:, None], rays[..., None])[..., 0]


def ray_weights(homographies: Floats, size: tuple[int, int]) -> Floats:
    """The weights (N, H, W) that `warp_rays` has multiplied the depths with, by pixel of the warped picture."""
    width, height = size
    inverse = np.linalg.inv(homographies.astype(np.float64))
    x, y = np.arange(width)[None, None, :], np.arange(height)[None, :, None]
    row = inverse[:, 2, :, None, None]
    # A warped pixel p with H u = w p has H^-1 p = u / w, whose last entry is 1 / w.
    return (1 / (row[:, 0] * x + row[:, 1] * y + row[:, 2])).astype(np.float32)
