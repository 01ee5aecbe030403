"""Points of the scene that a moving camera sees twice: matches between frames of one clip."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.extraction.motion_masks import Clip

Array = NDArray[np.float64]
_FEATURES = 500
_RATIO = 0.75  # a match must be so much nearer than the next (Lowe 2004)
_STUCK = 1.5  # [px] what moves less while the camera moves is a part of the robot
_BASELINE = (0.015, 0.30)  # [m] of the flange between the frames of a pair


@dataclass(frozen=True, eq=False)
class Matches:
    """M matched points: frames (M, 2) of the clip, pixels (M, 2, 2) of each in both."""

    frames: NDArray[np.intp]
    pixels: Array

    def at(self, rows: NDArray[np.intp]) -> Matches:
        """Some of the matches."""
        return Matches(self.frames[rows], self.pixels[rows])


def match_frames(clip: Clip, flange: Array, most_pairs: int = 90) -> Matches:
    """SIFT matches between frames of a clip (T, H, W, 3) whose flange poses (T, 4, 4) lie 1.5 to 30 cm apart.

    Points that stay where they are in the picture are left out: fingers are seen by a camera beside them.
    """
    pairs = _pairs(flange, most_pairs)
    detector = cv2.SIFT_create(nfeatures=_FEATURES, contrastThreshold=0.02)  # type: ignore[attr-defined]
    seen = {}
    for frame in np.unique(pairs):
        points, descriptors = detector.detectAndCompute(cv2.cvtColor(clip.frames[frame], cv2.COLOR_RGB2GRAY), None)
        seen[int(frame)] = np.array([point.pt for point in points]).reshape(-1, 2), descriptors
    frames, pixels = [], []
    for a, b in pairs.tolist():
        (at_a, words_a), (at_b, words_b) = seen[a], seen[b]
        if min(len(at_a), len(at_b)) < 2:
            continue
        rows = _mutual(words_a, words_b)
        both = np.stack([at_a[rows[:, 0]], at_b[rows[:, 1]]], axis=1)
        both = both[np.linalg.norm(both[:, 0] - both[:, 1], axis=-1) > _STUCK]
        pixels.append(both)
        frames.append(np.tile([a, b], (len(both), 1)))
    if not pixels:
        return Matches(np.zeros((0, 2), np.intp), np.zeros((0, 2, 2)))
    return Matches(np.concatenate(frames), np.concatenate(pixels).astype(np.float64))


def _pairs(flange: Array, most: int) -> NDArray[np.intp]:
    """Pairs of frames not far from each other in time whose flanges are apart, those that turn most first."""
    found = []
    for gap in (1, 2, 3, 5, 8, 12):
        first = np.arange(len(flange) - gap)
        moved = np.linalg.inv(flange[first]) @ flange[first + gap]
        away = np.linalg.norm(moved[:, :3, 3], axis=-1)
        cosine = np.clip((np.trace(moved[:, :3, :3], axis1=1, axis2=2) - 1) / 2, -1, 1)
        turn = np.arccos(cosine)
        fit = (away > _BASELINE[0]) & (away < _BASELINE[1]) & (turn < 0.8)
        found += [(float(turn[k]), int(first[k]), int(first[k] + gap)) for k in np.flatnonzero(fit)]
    # Half of them turn most, since only turns tell where the camera sits on the flange; half are taken evenly.
    found.sort(reverse=True)
    half = most // 2
    rest = found[half:]
    chosen = found[:half] + rest[:: max(1, -(-len(rest) // max(half, 1)))]
    return np.array([pair[1:] for pair in chosen], dtype=np.intp).reshape(-1, 2)


def _mutual(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.intp]:
    """Rows (M, 2) of descriptors that are each other's nearest, and clearly so."""
    # Descriptors are of one length, so the largest product is the smallest distance.
    a, b = (words / np.maximum(np.linalg.norm(words, axis=1, keepdims=True), 1e-9) for words in (a, b))
    likeness = a @ b.T
    best, back = likeness.argmax(1), likeness.argmax(0)
    rows = np.arange(len(a))
    two = np.sort(np.partition(likeness, -2, axis=1)[:, -2:], axis=1) if likeness.shape[1] > 1 else None
    clear = np.ones(len(a), bool)
    if two is not None:
        near, following = (np.sqrt(np.maximum(2 - 2 * two[:, k], 0)) for k in (1, 0))
        clear = near < _RATIO * following
    keep = (back[best] == rows) & clear
    return np.stack([rows[keep], best[keep]], axis=1).astype(np.intp)
