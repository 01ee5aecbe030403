"""Homographies near the identity: their eight parameters, robust fits to matches, and smoothing over time.

A homography is M^-1 (1 + D) M, where M takes pixels to coordinates that run over -1..1 along the picture's longer side,
and D (3, 3) holds the eight parameters, its last entry zero: a shift, a linear part and two of perspective. A robot
covers a part of the picture, which leaves some of them undetermined, so that every fit is one around a prior: how far a
camera that is nearly right can move the picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from vap_sim.extraction.matching import Array, Matches, move_points

PARAMETERS = 8
_INDEPENDENT = 0.15  # neighbouring points of an outline err together: what each of them is worth
_STEPS = 3


@dataclass(frozen=True)
class Freedom:
    """One standard deviation of a homography's parameters: shift, linear part and perspective, where 1 is half of the
    picture's longer side, or a doubling over it."""

    shift: float
    linear: float
    perspective: float

    @property
    def precision(self) -> Array:
        """One over the variances, (8, 8)."""
        deviations = [self.linear, self.linear, self.shift] * 2 + [self.perspective] * 2
        return np.diag(1 / np.square(np.array(deviations)))


@dataclass(frozen=True, eq=False)
class Fit:
    """Parameters (8,) of a homography and how well they are known: information (8, 8) of the matches alone."""

    parameters: Array
    information: Array


def frame_of(size: tuple[int, int]) -> Array:
    """The matrix M (3, 3) for pictures of (width, height)."""
    width, height = size
    scale = 2 / max(width, height)
    return np.array([[scale, 0, -scale * (width - 1) / 2], [0, scale, -scale * (height - 1) / 2], [0, 0, 1.0]])


def to_homography(parameters: Array, size: tuple[int, int]) -> Array:
    """The homography (3, 3) in pixels of parameters (8,)."""
    frame = frame_of(size)
    inner = np.eye(3) + np.append(parameters, 0.0).reshape(3, 3)
    return np.asarray(np.linalg.inv(frame) @ inner @ frame)


def to_parameters(homography: Array, size: tuple[int, int]) -> Array:
    """The parameters (8,) of a homography (3, 3) in pixels."""
    frame = frame_of(size)
    inner = frame @ homography @ np.linalg.inv(frame)
    return np.asarray((inner / inner[2, 2] - np.eye(3)).reshape(-1)[:PARAMETERS])


def fit(
    matches: Matches, start: Array, prior: Array, freedom: Freedom, size: tuple[int, int], *, tolerance: float
) -> Fit:
    """The homography that brings `drawn` of the matches to `seen`, around parameters `prior` (8,), from `start` (8,).

    Few false matches among many true ones do not count: residuals beyond about twice `tolerance` [px] lose all weight
    (Tukey's biweight).
    """
    parameters = start.copy()
    information = np.zeros((PARAMETERS, PARAMETERS))
    for _ in range(_STEPS):
        if not len(matches):
            break
        residual, slope = _residuals(matches, parameters, size)
        cut = 2.5 * tolerance
        robust = np.square(np.maximum(1 - np.square(residual / cut), 0))
        weight = np.repeat(matches.weight, len(residual) // len(matches)) * robust * _INDEPENDENT / tolerance**2
        information = slope.T @ (weight[:, None] * slope)
        pull = slope.T @ (weight * residual) + freedom.precision @ (prior - parameters)
        parameters = parameters + np.linalg.solve(information + freedom.precision, pull)
    return Fit(parameters, information)


def ransac(matches: Matches, *, tolerance: float, fewest: int = 8) -> Matches:
    """The matches that one homography explains to `tolerance` [px], found by MAGSAC; none where there are too few.

    Matches of which only a component is known pass as they are: a homography through their ends would be none.
    """
    if matches.normals is not None:
        return matches
    kept = np.zeros(len(matches), bool)
    if len(matches) >= fewest:
        cv2.setRNGSeed(0)
        found: tuple[Any, Any] = cv2.findHomography(
            matches.drawn, matches.seen, cv2.USAC_MAGSAC, tolerance, maxIters=2000, confidence=0.999
        )
        if found[0] is not None and int(found[1].sum()) >= fewest:
            kept = found[1][:, 0] > 0
    return Matches(matches.drawn[kept], matches.seen[kept], matches.weight[kept])


def _residuals(matches: Matches, parameters: Array, size: tuple[int, int]) -> tuple[Array, Array]:
    """What is left to explain (R,) [px], and its slope (R, 8) by the parameters; R is M, or 2 M without normals."""
    frame = frame_of(size)
    back = np.asarray(np.linalg.inv(frame), np.float64)
    x, y = move_points(matches.drawn, frame).T
    inner = np.eye(3) + np.append(parameters, 0.0).reshape(3, 3)
    rays = np.stack([x, y, np.ones_like(x)], axis=1)
    moved = rays @ inner.T
    weight, scale = moved[:, 2:], frame[0, 0]
    place: Array = moved[:, :2] / weight
    zero = np.zeros_like(rays)
    across = np.concatenate([rays, zero, -place[:, :1] * rays[:, :2]], axis=1) / weight
    down = np.concatenate([zero, rays, -place[:, 1:] * rays[:, :2]], axis=1) / weight
    gap = matches.seen - move_points(place, back)
    slopes = np.stack([across, down], axis=1) / scale
    if matches.normals is None:
        return gap.reshape(-1), slopes.reshape(-1, PARAMETERS)
    return (gap * matches.normals).sum(1), (slopes * matches.normals[..., None]).sum(1)


def smooth(fits: list[Fit], around: Array, freedom: Freedom, pace: Freedom) -> Array:
    """The most likely parameters (T, 8), given what each frame says and that they change slowly.

    Each frame's lie within `freedom` of parameters `around` (8,), and within `pace` of those of the frame before.
    Frames without information take theirs from their neighbours. Solved exactly, as a block tridiagonal system.
    """
    walk, rest = pace.precision, freedom.precision
    count = len(fits)
    diagonal = np.stack([one.information + rest for one in fits])
    right = np.stack([one.information @ (one.parameters - around) for one in fits])
    diagonal[1:] += walk
    diagonal[:-1] += walk
    for frame in range(1, count):
        share = walk @ np.linalg.inv(diagonal[frame - 1])
        diagonal[frame] -= share @ walk
        right[frame] += share @ right[frame - 1]
    result = np.empty((count, PARAMETERS))
    result[-1] = np.linalg.solve(diagonal[-1], right[-1])
    for frame in range(count - 2, -1, -1):
        result[frame] = np.linalg.solve(diagonal[frame], right[frame] + walk @ result[frame + 1])
    return result + around
