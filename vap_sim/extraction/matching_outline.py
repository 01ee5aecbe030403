"""The drawn robot's outline against the edges of pictures, for cameras that move and for a first search.

Rendered robots have next to no texture, so that corner features find little on them; their outline is where a picture
must have an edge. Along each normal of the outline the strongest edge of that direction is looked for. Before a camera
that stands still, an edge that is also there while the robot is elsewhere belongs to the background and is discounted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.extraction.matching import Array, Matches, Outline, move_points

FAR = 12.0
"""A pixel this far from an outline that is nearly right shows the background [px]."""
_BINS = 4  # directions of an edge, 45 degrees apart
_HALF_STRENGTH = 14.0  # an edge of this slope [grey levels a pixel] counts half
_SURE = 5.0  # frames that must have shown a pixel without the robot before its edges count as background
_ON_EDGE = 0.25  # strength of an edge that bears a point of the outline out
_ASIDE, _ASIDE_TURNS = (
    (6.0, 9.0, 12.0),
    8,
)  # how far [px], and to how many sides, outlines are moved to see what chance is
_LEAST_ROOM = 0.4  # where chance alone bears out more than the rest, nothing can stand out
_BACKGROUND = 1.3  # how much of its lasting strength an edge of the background loses


@dataclass(frozen=True, eq=False)
class Edges:
    """Strength (T, 4, H, W) float32 in [0, 1) of edges by the direction of their normal: 0, 45, 90, 135 degrees."""

    strength: NDArray[np.float32]

    def along(self, frame: int, points: Array, normals: Array, reach: int) -> NDArray[np.float32]:
        """Strength (N, 2 reach + 1) at pixels from -reach to reach along the normals of points (N, 2)."""
        steps = np.arange(-reach, reach + 1)
        places = (points[:, None] + steps[:, None] * normals[:, None]).astype(np.float32)
        turn = directions(normals)
        found = np.zeros(places.shape[:2], np.float32)
        for direction in range(_BINS):
            chosen = turn == direction
            if chosen.any():
                x, y = places[chosen, :, 0], places[chosen, :, 1]
                field = self.strength[frame, direction]
                found[chosen] = cv2.remap(field, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return found

    def at(self, frame: int, points: Array, normals: Array) -> NDArray[np.float32]:
        """The greatest strength (N,) within a pixel of points (N, 2) along their normals."""
        return np.asarray(self.along(frame, points, normals, 1).max(axis=1, initial=0.0))

    def nearest(self, frame: int, points: Array, normals: Array, reach: int) -> tuple[Array, NDArray[np.bool_]]:
        """How far [px] an edge lies from points (N, 2) along their normals, and whether there is one, (N,)."""
        strength = self.along(frame, points, normals, reach + 1)
        steps = np.arange(-reach - 1, reach + 2)
        # Of two edges that are equally strong the nearer one is meant; one that only begins at the end is none.
        wish = (strength * np.exp(-0.5 * (steps / (0.6 * reach + 0.5)) ** 2))[:, 1:-1]
        best = wish.argmax(axis=1) + 1
        row = np.arange(len(best))
        middle = strength[row, best]
        peak = (middle >= strength[row, best - 1]) & (middle >= strength[row, best + 1]) & (middle >= _ON_EDGE)
        return steps[best] + _peak(strength, best), peak


@dataclass(frozen=True, eq=False)
class OutlineInClip:
    """The outlines of one robot and the edges of its pictures."""

    outlines: Sequence[Outline]
    edges: Edges
    reach: int

    def match(self, frame: int, homography: Array, reach: int | None = None) -> Matches:
        """See `ClipMatcher`; `reach` [px] in place of the matcher's own."""
        outline, reach = self.outlines[frame], self.reach if reach is None else reach
        if not len(outline.points):
            return Matches(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2)))
        points = move_points(outline.points, homography)
        normals = moved_normals(outline, points, homography)
        offset, found = self.edges.nearest(frame, points, normals, reach)
        seen = points + offset[:, None] * normals
        weight = np.where(found, self.edges.at(frame, seen, normals), 0).astype(np.float64)
        return Matches(outline.points, seen, weight, normals)

    def agreement(self, frame: int, homography: Array) -> float:
        """By how much the share of points on an edge exceeds what outlines moved aside have, as a share of what is left
        above that; 0 by chance, 1 at best."""
        outline = self.outlines[frame]
        points = move_points(outline.points, homography)
        normals = moved_normals(outline, points, homography)
        turns = np.arange(_ASIDE_TURNS) * (2 * np.pi / _ASIDE_TURNS)
        asides = [far * np.array([np.cos(turn), np.sin(turn)]) for far in _ASIDE for turn in turns]
        there = (self.edges.at(frame, points, normals) > _ON_EDGE).mean()
        chance = np.mean([(self.edges.at(frame, points + aside, normals) > _ON_EDGE).mean() for aside in asides])
        return float((there - chance) / max(1 - chance, _LEAST_ROOM))


def gather_edges(pictures: NDArray[np.uint8]) -> Edges:
    """All edges of pictures (T, H, W, 3)."""
    return Edges(np.stack([_strength(picture) for picture in pictures]))


def discount_background(edges: Edges, outlines: Sequence[Outline], far: float = FAR) -> Edges:
    """The edges less those that last while the robot is elsewhere, for a camera that stands still.

    A pixel further than `far` [px] from an outline shows the background in that frame: the outlines must be right to
    within this.
    """
    strength = edges.strength
    total, seen = np.zeros(strength.shape[1:], np.float32), np.zeros(strength.shape[2:], np.float32)
    for outline, field in zip(outlines, strength, strict=True):
        elsewhere = _far_from(outline.points, far, strength.shape[2:])
        total += field * elsewhere
        seen += elsewhere
    lasting = total / np.maximum(seen, 1) * np.minimum(seen / _SURE, 1)
    # An edge of the background wavers by a pixel with noise and compression.
    wide = np.stack([cv2.dilate(field, np.ones((3, 3), np.uint8)) for field in lasting])
    return Edges(np.maximum(strength - np.float32(_BACKGROUND) * wide, 0))


def directions(normals: Array) -> NDArray[np.intp]:
    """Which of the four directions of `Edges` normals (N, 2) are nearest to."""
    return np.rint(np.arctan2(normals[:, 1], normals[:, 0]) / (np.pi / _BINS)).astype(np.intp) % _BINS


def moved_normals(outline: Outline, points: Array, homography: Array) -> Array:
    """Normals (N, 2) of an outline whose points a homography has moved to `points` (N, 2)."""
    along = np.stack([-outline.normals[:, 1], outline.normals[:, 0]], axis=1)
    moved = move_points(outline.points + 0.5 * along, homography) - points
    normals = np.stack([moved[:, 1], -moved[:, 0]], axis=1)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9))


def _strength(picture: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Strength (4, H, W) of a picture's edges by direction, of the colour that changes most."""
    smooth = cv2.GaussianBlur(picture, (0, 0), 0.8).astype(np.float32)
    slopes = [[cv2.Scharr(one, cv2.CV_32F, *axis) / 32 for axis in ((1, 0), (0, 1))] for one in cv2.split(smooth)]
    fields = []
    for turn in np.arange(_BINS) * (np.pi / _BINS):
        along = np.float32(np.cos(turn)), np.float32(np.sin(turn))
        slope = reduce(np.maximum, [np.abs(along[0] * across + along[1] * down) for across, down in slopes])
        fields.append(slope / (slope + np.float32(_HALF_STRENGTH)))
    return np.stack(fields).astype(np.float32)


def _far_from(points: Array, far: float, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """1 where a pixel (H, W) is further than `far` [px] from every point (N, 2), else 0."""
    if not len(points):
        return np.ones(shape, np.float32)
    field = np.ones(shape, np.uint8)
    column, row = np.rint(points).astype(np.intp).T
    field[np.clip(row, 0, shape[0] - 1), np.clip(column, 0, shape[1] - 1)] = 0
    return (cv2.distanceTransform(field, cv2.DIST_L2, 3) > far).astype(np.float32)


def _peak(strength: NDArray[np.float32], best: NDArray[np.intp]) -> Array:
    """Where between pixels the strength (N, K) peaks around its column `best` (N,), from -0.5 to 0.5."""
    row = np.arange(len(best))
    middle = np.clip(best, 1, strength.shape[1] - 2)
    before, here, after = (strength[row, middle + step].astype(np.float64) for step in (-1, 0, 1))
    bend = before - 2 * here + after
    shift = 0.5 * (before - after) / np.where(bend < -1e-6, bend, -1e9)
    return np.where(middle == best, np.clip(shift, -0.5, 0.5), 0.0)
