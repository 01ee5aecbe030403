"""Whether pictures bear out where a robot was drawn: figures a frame, and the bounds that decide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vap_sim.extraction.matching import Array, DrawnRobot, Outline, move_points
from vap_sim.extraction.matching_outline import OutlineInClip
from vap_sim.extraction.matching_region import RegionInClip

Sight = OutlineInClip | RegionInClip
"""What bears a drawing out: edges, or before a camera that stands still, what pixels say of robot and scene."""
_NEAR = 3.0  # a point of the outline is found where its edge is no further away [px]
_REACH = 4  # how far it is looked for


@dataclass(frozen=True)
class Bounds:
    """What a frame must show.

    points: on the outline, inside the picture; found: share of them beside an edge; agreement: how much rather pixels
    inside the outline say robot than those outside it, or an edge lies on it than beside it, 0 by chance and 1 at best;
    residual [px]: median distance to the edge where one is found; shift: farthest that a point of the outline is moved,
    as a share of the picture's longer side; stretch: greatest change of a length, as the logarithm of its ratio.
    """

    points: int = 25
    found: float = 0.2
    agreement: float = 0.28
    residual: float = 1.6
    shift: float = 0.1
    stretch: float = 0.25


@dataclass(frozen=True, eq=False)
class Evidence:
    """Figures (T,) of the same names as in `Bounds`; not a number where a frame shows nothing to tell them by."""

    points: Array
    found: Array
    agreement: Array
    residual: Array
    shift: Array
    stretch: Array


def weigh_frames(robot: DrawnRobot, sight: Sight, homographies: Array) -> Evidence:
    """The evidence for outlines moved by homographies (T, 3, 3)."""
    longer = max(robot.camera.size)
    rows = [_weigh(outline, sight, frame, homographies[frame], longer) for frame, outline in enumerate(robot.outlines)]
    return Evidence(*(np.array(column, np.float64) for column in zip(*rows, strict=True)))


def judge_frames(evidence: Evidence, bounds: Bounds) -> tuple[str, ...]:
    """Why each frame is not borne out; "" where it is. What cannot be told is not borne out."""
    reasons = []
    for points, found, agreement, residual, shift, stretch in zip(*vars(evidence).values(), strict=True):
        if points < bounds.points:
            reasons.append("too little of the robot is in the picture")
        elif shift > bounds.shift or stretch > bounds.stretch:
            reasons.append("the homography is implausible")
        elif not (found >= bounds.found and agreement >= bounds.agreement):
            reasons.append("the picture does not show a robot where its outline is drawn")
        elif not residual <= bounds.residual:
            reasons.append("the robot's edges lie beside its drawn outline")
        else:
            reasons.append("")
    return tuple(reasons)


def _weigh(outline: Outline, sight: Sight, frame: int, move: Array, longer: int) -> tuple[float, ...]:
    nothing = float("nan")
    if not len(outline.points):
        return 0.0, nothing, nothing, nothing, nothing, nothing
    points = move_points(outline.points, move)
    matches = sight.match(frame, move, _REACH)
    distance = np.linalg.norm(matches.seen - points, axis=1)
    near = (matches.weight > 0) & (distance <= _NEAR)
    residual = float(np.median(distance[near])) if near.any() else nothing
    far = float(np.linalg.norm(points - outline.points, axis=1).max()) / longer
    agreement = sight.agreement(frame, move)
    return len(points), float(near.mean()), agreement, residual, far, _stretch(outline.points, move)


def _stretch(points: Array, move: Array) -> float:
    """The greatest change of a length by a homography around the middle of points (N, 2), as a share."""
    middle = points.mean(axis=0)
    corners = middle + np.array([[0, 0], [1, 0], [0, 1]])
    origin, right, below = move_points(corners, move)
    sizes = np.linalg.svd(np.stack([right - origin, below - origin], axis=1), compute_uv=False)
    return float(np.abs(np.log(np.maximum(sizes, 1e-9))).max())
