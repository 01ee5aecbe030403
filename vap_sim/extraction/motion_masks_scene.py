"""Which pixels show the robot: told by every clip's empty scene, learned where the robot is not, and by colours."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_BINS = 8  # of each colour channel
_SURE = 3.0  # one pixel's largest word for or against the robot [nats]
_FEWEST = 3  # frames without the robot from which a pixel's empty colour is taken
_NOISE = 5.0  # grey levels by which a still pixel of a compressed video differs at least


@dataclass(frozen=True, eq=False)
class RobotOdds:
    """Log odds (F, h, w) float32 [nats] that a pixel shows the robot, and known (F, h, w) bool: whether its clip shows
    what is behind the robot there, so that the odds are more than a guess by colour. frames (F, h, w, 3) uint8 are what
    was looked at, and empty (C, h, w, 3) int16 the scene behind, of which frame f has number scene[f]."""

    odds: NDArray[np.float32]
    known: NDArray[np.bool_]
    frames: NDArray[np.uint8]
    empty: NDArray[np.int16]
    scene: NDArray[np.intp]


def learn_odds(frames: NDArray[np.uint8], clip: NDArray[np.intp], masks: NDArray[np.uint8], margin: int) -> RobotOdds:
    """The odds of robot in frames (F, h, w, 3) from a guess where it is, masks (F, h, w) of zeros and ones.

    clip (F,): the clip of each frame. Scenes are learned at more than `margin` pixels from the guess, so that an error
    of that size does not make the robot a part of the scene. A pixel that the robot never leaves is judged by colour
    alone, from how often each colour lies inside and outside the guess.
    """
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * margin + 1, 2 * margin + 1))
    wide = np.stack([cv2.dilate(mask, kernel) for mask in masks]) > 0
    distance = np.full(masks.shape, np.inf, np.float32)
    known = np.zeros(masks.shape, bool)
    names, scene = np.unique(clip, return_inverse=True)
    empty = np.zeros((len(names), *frames.shape[1:]), np.int16)
    for number in range(len(names)):
        rows = np.flatnonzero(scene == number)
        empty[number], seen = _empty_scene(frames[rows], ~wide[rows])
        difference = frames[rows].astype(np.int16) - empty[number]
        distance[rows] = np.sqrt((difference.astype(np.float32) ** 2).sum(-1))
        known[rows] = seen
    inside, outside = _color_shares(frames, masks)
    # Robot: its own colours. Scene: the empty colour, with noise and the odd change.
    density_robot = inside
    gauss = np.exp(-0.5 * (distance / (2 * _NOISE)) ** 2) / (2 * _NOISE) ** 3 / 15.75
    density_scene = np.where(known, 0.97 * gauss + 0.03 * outside, outside)
    odds = np.log((density_robot + 1e-9) / (density_scene + 1e-9))
    limit = np.where(known, _SURE, 0.25 * _SURE)
    return RobotOdds(np.clip(odds, -limit, limit).astype(np.float32), known, frames, empty, scene)


def _empty_scene(frames: NDArray[np.uint8], free: NDArray[np.bool_]) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """The median (h, w, 3) over the frames in which a pixel is free, and where there were enough of them."""
    count = free.sum(0)
    values = np.where(free[..., None], frames.astype(np.int16), np.int16(300))
    values.sort(axis=0)
    middle = np.maximum((count - 1) // 2, 0)
    empty = np.take_along_axis(values, middle[None, ..., None], axis=0)[0]
    return empty, count >= min(_FEWEST, len(frames))


def _color_shares(
    frames: NDArray[np.uint8], masks: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Density of every pixel's colour [1 / grey level^3] among the pixels inside and outside the masks, (F, h, w)."""
    width = 256 // _BINS
    cells = (frames // width).astype(np.int32)
    index = (cells[..., 0] * _BINS + cells[..., 1]) * _BINS + cells[..., 2]
    shares = []
    for chosen in (masks > 0, masks == 0):
        counts = np.bincount(index[chosen], minlength=_BINS**3).reshape((_BINS,) * 3).astype(np.float32)
        # Colours next to each other lend each other half.
        for axis in range(3):
            padded = np.pad(counts, [(1, 1) if k == axis else (0, 0) for k in range(3)], mode="edge")
            counts = 0.5 * counts + 0.25 * (
                np.take(padded, np.arange(_BINS), axis) + np.take(padded, np.arange(2, _BINS + 2), axis)
            )
        share = 0.9 * counts / max(float(counts.sum()), 1.0) + 0.1 / _BINS**3
        shares.append((share / width**3).ravel()[index])
    return shares[0], shares[1]
