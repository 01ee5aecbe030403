"""The default matcher for cameras that stand still: the outline lies where pixels turn from robot to the scene behind.

A rendered robot has next to no texture and a real one has cables, stripes and shadows, so that neither corners nor the
strongest edges find it. What a standing camera does show is the scene without the robot, as it is while the arm is
elsewhere; every pixel then says by its colour how much rather it shows the robot (`learn_odds`). Points of the outline
are moved along their normals to where these words change sides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.extraction.cameras_refine import find_edges
from vap_sim.extraction.matching import Array, Matches, Outline, move_mask, move_points
from vap_sim.extraction.matching_outline import Edges, moved_normals
from vap_sim.extraction.motion_masks_scene import RobotOdds, learn_odds
from vap_sim.extraction.silhouettes import Contour

_BAND = 5  # pixels to both sides of an outline that are asked whether they lie inside
_SNAP = 2  # an edge this near to where pixels change sides is taken for it [px]
_VAGUE = 0.5  # what a point without such an edge still counts
_STILL, _STILL_REACH = 0.3, 4  # what edges of parts that never move count, and how far they are looked for [px]
_FEWEST = 20  # pixels a side that must be able to answer


@dataclass(frozen=True, eq=False)
class RegionInClip:
    """The outlines (one a frame) and masks (T, H, W) bool of one drawn robot, what each pixel says of it, and edges."""

    outlines: Sequence[Outline]
    masks: NDArray[np.bool_]
    odds: RobotOdds
    edges: Edges
    reach: int

    def match(self, frame: int, homography: Array, reach: int | None = None) -> Matches:
        """See `ClipMatcher`; `reach` [px] in place of the matcher's own."""
        outline = self.outlines[frame]
        if not len(outline.points):
            return Matches(np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0), np.zeros((0, 2)))
        points = move_points(outline.points, homography)
        normals = moved_normals(outline, points, homography)
        contour = Contour(np.full(len(points), frame), np.zeros((len(points), 3)), points, normals)
        offset, trust = find_edges(self.odds, contour, self.reach if reach is None else reach)
        # What pixels say is good to a pixel or two; an edge of the picture within that is where they change sides.
        snap, sharp = self.edges.nearest(frame, points + offset[:, None] * normals, normals, _SNAP)
        offset, trust = np.where(sharp, offset + snap, offset), np.where(sharp, trust, _VAGUE * trust)
        # Beside parts that never move no pixel knows the scene behind; there the edge alone must do.
        column, row = np.rint(points).astype(np.intp).T
        height, width = self.masks.shape[1:]
        known = self.odds.known[frame, np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
        still, there = self.edges.nearest(frame, points, normals, _STILL_REACH)
        offset, trust = np.where(known, offset, still), np.where(known, trust, _STILL * there)
        return Matches(outline.points, points + offset[:, None] * normals, trust, normals)

    def agreement(self, frame: int, homography: Array) -> float:
        """How well pixels just inside and outside the moved outline say so, 0 by chance and 1 at best; not a number
        where too few of them can tell."""
        mask = move_mask(self.masks[frame], homography, (self.masks.shape[2], self.masks.shape[1])) > 127
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * _BAND + 1, 2 * _BAND + 1))
        plain = mask.astype(np.uint8)
        inner, outer = mask & (cv2.erode(plain, kernel) == 0), ~mask & (cv2.dilate(plain, kernel) > 0)
        known, odds = self.odds.known[frame], self.odds.odds[frame]
        inner, outer = inner & known, outer & known
        if min(int(inner.sum()), int(outer.sum())) < _FEWEST:
            return float("nan")
        return float((odds[inner] > 0).mean() + (odds[outer] < 0).mean() - 1)


def see_regions(
    pictures: NDArray[np.uint8],
    outlines: Sequence[Outline],
    masks: NDArray[np.bool_],
    homographies: Array,
    edges: Edges,
    *,
    margin: int,
    reach: int,
) -> RegionInClip:
    """What pictures (T, H, W, 3) of a standing camera say, learned from masks (T, H, W) moved by homographies (T, 3, 3)
    that are right to within `margin` pixels; edges: of the pictures."""
    size = masks.shape[2], masks.shape[1]
    moved = [move_mask(mask, move, size) > 127 for mask, move in zip(masks, homographies, strict=True)]
    clip = np.zeros(len(pictures), np.intp)
    odds = learn_odds(pictures, clip, np.stack(moved).astype(np.uint8), margin)
    return RegionInClip(outlines, masks, odds, edges, reach)
