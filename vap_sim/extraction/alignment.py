"""Drawn robots brought onto real ones: a homography a frame from matches on the robot, smoothed, and what bears it out.

The camera of a recording is known nearly, the log lags the video, and a URDF is not the robot to the millimetre.
Visual Action Prompts (arXiv 2508.13104) corrects this in the picture: render the robot from the log, match the
rendering with the frame, fit a homography, warp the skeleton, and leave out what the picture does not bear out. The
paper names these stages and no threshold; those here were measured (benchmarks/alignment.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.extraction.alignment_evidence import Bounds, Evidence, Sight, judge_frames, weigh_frames
from vap_sim.extraction.alignment_fit import Fit, Freedom, fit, ransac, smooth, to_homography
from vap_sim.extraction.alignment_pictures import between_sizes, whole
from vap_sim.extraction.matching import Array, ClipMatcher, DrawnRobot, Matcher, Matches, Outline, draw_robot, on_robot
from vap_sim.extraction.matching_outline import (
    Edges,
    OutlineInClip,
    directions,
    discount_background,
    gather_edges,
)
from vap_sim.extraction.matching_region import see_regions
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel

WORK = 320
"""Pictures are aligned with this many pixels along their longer side: every figure in pixels here is one of those."""
_SEARCH, _STEP = 28, 2  # the first search for a shift [px]
_LIKELY = 20.0  # one standard deviation of that shift [px]
_FAR = _SEARCH + 6.0  # what is this far from an outline before the search is background [px]
_SEARCHED = 24  # about so many frames are looked at in the first search


@dataclass(frozen=True)
class Round:
    """One pass of matching and fitting [px]: how far from the robot the scene is learned, how far along the outline's
    normals is searched, and the tolerance of the fit."""

    margin: int
    reach: int
    tolerance: float


_ROUNDS = (Round(10, 8, 5.0), Round(7, 6, 3.0), Round(4, 5, 2.0))


@dataclass(frozen=True)
class AlignSettings:
    """clip: how far one homography for a whole clip may lie from the identity; frame: how far a frame's may lie from
    the clip's; pace: how far from that of the frame before. bounds: what a frame must show to be kept."""

    clip: Freedom = Freedom(shift=0.08, linear=0.08, perspective=0.03)
    frame: Freedom = Freedom(shift=0.015, linear=0.025, perspective=0.01)
    pace: Freedom = Freedom(shift=0.006, linear=0.01, perspective=0.004)
    bounds: Bounds = field(default_factory=Bounds)


@dataclass(frozen=True, eq=False)
class Alignment:
    """homographies (T, 3, 3) from drawn pixels to pixels of the pictures; kept (T,) bool; reasons: one a frame, ""
    where it is kept; evidence: what they were judged by."""

    homographies: Array
    kept: NDArray[np.bool_]
    reasons: tuple[str, ...]
    evidence: Evidence


def align(
    pictures: NDArray[np.uint8],
    model: RobotModel,
    joints: Array,
    camera: Camera,
    *,
    matcher: Matcher | None = None,
    settings: AlignSettings | None = None,
) -> Alignment:
    """Where the pictures of one camera show the robot that is drawn at their joints.

    pictures: (T, H, W, 3) uint8 RGB; joints: (T, J) [rad or m] in the robot's order; camera: of the pictures' size,
    standing or on a link. Frames whose alignment the picture does not bear out take their homography from their
    neighbours and are not kept; where none is kept, nothing is moved. Raises InvalidInput for shapes that do not fit.
    """
    settings = settings or AlignSettings()
    size = pictures.shape[2], pictures.shape[1]
    if pictures.ndim != 4 or pictures.dtype != np.uint8 or not len(pictures) or tuple(camera.size) != size:
        given = f"{pictures.dtype} {pictures.shape} for a camera of {camera.size}"
        raise InvalidInput("pictures to align", given, "uint8 (T, H, W, 3) of the camera's size")
    if len(joints) != len(pictures):
        raise InvalidInput("joints to align", f"{len(joints)} rows", f"{len(pictures)}, one a picture")
    work = working_size(size)
    to_work = whole(size, work)
    seen = np.stack([to_work.picture(picture) for picture in pictures])
    robot = draw_robot(model, np.asarray(joints, np.float64), camera.resized(work))
    standing = camera.parent_link is None
    sight, common = _look(seen, robot, standing, settings, work)
    in_clip: ClipMatcher = sight if matcher is None else matcher.begin(seen, robot)
    fits = [_fit_frame(in_clip, robot, frame, common, settings, work) for frame in range(len(seen))]
    moves = _homographies(smooth(fits, common, settings.frame, settings.pace), work)
    evidence = weigh_frames(robot, sight, moves)
    reasons = judge_frames(evidence, settings.bounds)
    kept = np.array([reason == "" for reason in reasons])
    if not kept.any():
        return Alignment(np.tile(np.eye(3), (len(seen), 1, 1)), kept, reasons, evidence)
    trusted = [one if good else Fit(one.parameters, 0 * one.information) for one, good in zip(fits, kept, strict=True)]
    moves = _homographies(smooth(trusted, common, settings.frame, settings.pace), work)
    return Alignment(between_sizes(moves, whole(work, size).matrix), kept, reasons, evidence)


def _look(
    seen: NDArray[np.uint8], robot: DrawnRobot, standing: bool, settings: AlignSettings, size: tuple[int, int]
) -> tuple[Sight, Array]:
    """What the pictures show of the robot, and the parameters (8,) of the one homography that fits all frames best."""
    every = gather_edges(seen)
    shift = find_shift(robot.outlines, discount_background(every, robot.outlines, _FAR) if standing else every)
    parameters = np.zeros(8)
    parameters[[2, 5]] = shift * 2 / max(size)
    moved = [Outline(outline.points + shift, outline.normals) for outline in robot.outlines]
    edges = discount_background(every, moved) if standing else every
    sight: Sight = OutlineInClip(robot.outlines, edges, reach=_ROUNDS[0].reach)
    parameters = _fit_clip(sight, parameters, settings, size, _ROUNDS if not standing else _ROUNDS[:1])
    if not standing:
        return OutlineInClip(robot.outlines, edges, _ROUNDS[-1].reach), parameters
    for one in _ROUNDS:
        moves = np.tile(to_homography(parameters, size), (len(seen), 1, 1))
        sight = see_regions(seen, robot.outlines, robot.masks, moves, edges, margin=one.margin, reach=one.reach)
        parameters = _fit_clip(sight, parameters, settings, size, (one,))
    return sight, parameters


def working_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) with WORK pixels along the longer side."""
    scale = WORK / max(size)
    return max(2, round(size[0] * scale)), max(2, round(size[1] * scale))


def find_shift(drawn: Sequence[Outline], edges: Edges) -> Array:
    """The shift (2,) [px] of all outlines together at which they lie on edges stronger than those around."""
    steps = np.arange(-_SEARCH, _SEARCH + 1, _STEP)
    down, across = (grid.reshape(-1) for grid in np.meshgrid(steps, steps, indexing="ij"))
    score = np.zeros(len(down))
    every = max(1, len(drawn) // _SEARCHED)
    for outline, strength in zip(drawn[::every], edges.strength[::every], strict=True):
        wide = np.pad(strength, ((0, 0), (_SEARCH, _SEARCH), (_SEARCH, _SEARCH)))
        soft = np.stack([cv2.GaussianBlur(field, (0, 0), 1.5) - cv2.GaussianBlur(field, (0, 0), 6) for field in wide])
        column, row = np.rint(outline.points).astype(np.intp).T + _SEARCH
        turn = directions(outline.normals)
        score += soft[turn[:, None], row[:, None] + down, column[:, None] + across].sum(axis=0)
    # Where several places are equally good, the camera is right.
    score = (np.maximum(score, 0) + 1e-6) * np.exp(-0.5 * (down**2 + across**2) / _LIKELY**2)
    best = int(score.argmax())
    return np.array([across[best], down[best]], np.float64)


def _homographies(parameters: Array, size: tuple[int, int]) -> Array:
    return np.stack([to_homography(row, size) for row in parameters])


def _fit_clip(
    sight: Sight, start: Array, settings: AlignSettings, size: tuple[int, int], rounds: Sequence[Round]
) -> Array:
    parameters = start
    for one in rounds:
        move = to_homography(parameters, size)
        matches = _joined([sight.match(frame, move, one.reach) for frame in range(len(sight.outlines))])
        parameters = fit(matches, parameters, np.zeros(8), settings.clip, size, tolerance=one.tolerance).parameters
    return parameters


def _joined(matches: list[Matches]) -> Matches:
    """Matches of outlines in one."""
    drawn, seen, weight = (np.concatenate([getattr(m, name) for m in matches]) for name in ("drawn", "seen", "weight"))
    return Matches(drawn, seen, weight, np.concatenate([m.normals for m in matches if m.normals is not None]))


def _fit_frame(
    matcher: ClipMatcher, robot: DrawnRobot, frame: int, common: Array, settings: AlignSettings, size: tuple[int, int]
) -> Fit:
    parameters = common
    found = Fit(common, np.zeros((8, 8)))
    for one in _ROUNDS[1:]:
        matches = matcher.match(frame, to_homography(parameters, size))
        matches = ransac(on_robot(matches, robot.masks[frame]), tolerance=one.tolerance)
        found = fit(matches, parameters, common, settings.frame, size, tolerance=one.tolerance)
        parameters = found.parameters
    return found
