"""Whether pictures bear out where a robot was drawn: figures a frame, and the bounds that decide."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vap_sim.extraction.matching import Array, DrawnRobot, Outline, move_points
from vap_sim.extraction.matching_outline import Edges, moved_normals

_ON_EDGE = 0.25  # strength of an edge that bears a point of the outline out
_ASIDE = (6.0, 9.0, 12.0)  # how far [px] outlines are moved aside to see what chance gives
_DIRECTIONS = 8
_LEAST_ROOM = 0.4  # where more than the rest is borne out by chance, nothing can stand out
_LOOKED = 4  # how far along the normal residuals are measured [px]


@dataclass(frozen=True)
class Bounds:
    """What a frame must show.

    points: on the outline, inside the picture; borne: share of them on an edge; above_chance: by how much that exceeds
    the share of outlines moved aside, as a share of what is left above chance; residual [px]: median distance to the
    edge; shift: farthest that a point of the outline is moved, as a share of the picture's longer side; stretch:
    greatest change of a length, as the logarithm of its ratio.
    """

    points: int = 25
    borne: float = 0.35
    above_chance: float = 0.25
    residual: float = 1.5
    shift: float = 0.1
    stretch: float = 0.25


@dataclass(frozen=True, eq=False)
class Evidence:
    """Figures (T,) of the same names as in `Bounds`; not a number where a frame shows no outline."""

    points: Array
    borne: Array
    above_chance: Array
    residual: Array
    shift: Array
    stretch: Array


def weigh_frames(robot: DrawnRobot, edges: Edges, homographies: Array) -> Evidence:
    """The evidence for outlines moved by homographies (T, 3, 3)."""
    longer = max(robot.camera.size)
    rows = [_weigh(outline, edges, frame, homographies[frame], longer) for frame, outline in enumerate(robot.outlines)]
    return Evidence(*(np.array(column, np.float64) for column in zip(*rows, strict=True)))


def judge_frames(evidence: Evidence, bounds: Bounds) -> tuple[str, ...]:
    """Why each frame is not borne out; "" where it is."""
    reasons = []
    for points, borne, above, residual, shift, stretch in zip(*vars(evidence).values(), strict=True):
        if points < bounds.points:
            reasons.append("too little of the robot is in the picture")
        elif shift > bounds.shift or stretch > bounds.stretch:
            reasons.append("the homography is implausible")
        elif borne < bounds.borne or above < bounds.above_chance:
            reasons.append("the picture has no edges where the robot's outline is drawn")
        elif not residual <= bounds.residual:
            reasons.append("the picture's edges lie beside the robot's outline")
        else:
            reasons.append("")
    return tuple(reasons)


def _weigh(outline: Outline, edges: Edges, frame: int, move: Array, longer: int) -> tuple[float, ...]:
    nothing = float("nan")
    if not len(outline.points):
        return 0.0, nothing, nothing, nothing, nothing, nothing
    points = move_points(outline.points, move)
    normals = moved_normals(outline, points, move)
    borne = float((edges.at(frame, points, normals) > _ON_EDGE).mean())
    turns = np.arange(_DIRECTIONS) * (2 * np.pi / _DIRECTIONS)
    asides = [far * np.array([np.cos(turn), np.sin(turn)]) for far in _ASIDE for turn in turns]
    chance = float(np.mean([(edges.at(frame, points + aside, normals) > _ON_EDGE).mean() for aside in asides]))
    profile = edges.along(frame, points, normals, _LOOKED)
    seen = profile.max(axis=1) > _ON_EDGE
    distance = np.abs(profile.argmax(axis=1) - _LOOKED)[seen]
    residual = float(np.median(distance)) if len(distance) else nothing
    far = float(np.linalg.norm(points - outline.points, axis=1).max()) / longer
    return (
        len(points),
        borne,
        (borne - chance) / max(1 - chance, _LEAST_ROOM),
        residual,
        far,
        _stretch(outline.points, move),
    )


def _stretch(points: Array, move: Array) -> float:
    """The greatest change of a length by a homography around the middle of points (N, 2), as a share."""
    middle = points.mean(axis=0)
    corners = middle + np.array([[0, 0], [1, 0], [0, 1]])
    origin, right, below = move_points(corners, move)
    sizes = np.linalg.svd(np.stack([right - origin, below - origin], axis=1), compute_uv=False)
    return float(np.abs(np.log(np.maximum(sizes, 1e-9))).max())
