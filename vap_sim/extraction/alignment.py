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
from vap_sim.extraction.alignment_evidence import Bounds, Evidence, judge_frames, weigh_frames
from vap_sim.extraction.alignment_fit import Fit, Freedom, fit, ransac, smooth, to_homography
from vap_sim.extraction.alignment_pictures import between_sizes, whole
from vap_sim.extraction.matching import Array, ClipMatcher, DrawnRobot, Matcher, Matches, Outline, draw_robot, on_robot
from vap_sim.extraction.matching_outline import (
    Edges,
    OutlineInClip,
    OutlineMatcher,
    directions,
    discount_background,
    gather_edges,
)
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel

WORK = 320
"""Pictures are aligned with this many pixels along their longer side: every figure in pixels here is one of those."""
_SEARCH, _STEP = 28, 2  # the first search for a shift [px]
_FAR = _SEARCH + 6.0  # what is this far from an outline before the search is background [px]
_SEARCHED = 24  # about so many frames are looked at in the first search
_ROUNDS = ((8, 5.0), (5, 3.0), (4, 2.0))  # reach of the outline matcher and tolerance of a fit [px]


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
    matcher, settings = matcher or OutlineMatcher(), settings or AlignSettings()
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
    every, standing = gather_edges(seen), camera.parent_link is None
    shift = find_shift(robot.outlines, discount_background(every, robot.outlines, _FAR) if standing else every)
    moved = [Outline(outline.points + shift, outline.normals) for outline in robot.outlines]
    edges = discount_background(every, moved) if standing else every
    outlines = OutlineInClip(robot.outlines, edges, reach=_ROUNDS[0][0])
    common = _fit_clip(outlines, len(seen), shift, settings, work)
    in_clip = outlines if isinstance(matcher, OutlineMatcher) else matcher.begin(seen, robot)
    fits = [_fit_frame(in_clip, robot, frame, common, settings, work) for frame in range(len(seen))]
    parameters = smooth(fits, common, settings.frame, settings.pace)
    moves = np.stack([to_homography(row, work) for row in parameters])
    evidence = weigh_frames(robot, edges, moves)
    reasons = judge_frames(evidence, settings.bounds)
    kept = np.array([reason == "" for reason in reasons])
    if not kept.any():
        return Alignment(np.tile(np.eye(3), (len(seen), 1, 1)), kept, reasons, evidence)
    trusted = [one if good else Fit(one.parameters, 0 * one.information) for one, good in zip(fits, kept, strict=True)]
    parameters = smooth(trusted, common, settings.frame, settings.pace)
    moves = np.stack([to_homography(row, work) for row in parameters])
    return Alignment(between_sizes(moves, whole(work, size).matrix), kept, reasons, evidence)


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
    score = (np.maximum(score, 0) + 1e-6) * np.exp(-0.5 * (down**2 + across**2) / (2 * _SEARCH) ** 2)
    best = int(score.argmax())
    return np.array([across[best], down[best]], np.float64)


def _fit_clip(
    outlines: OutlineInClip, frames: int, shift: Array, settings: AlignSettings, size: tuple[int, int]
) -> Array:
    """Parameters (8,) of the one homography that fits all frames best."""
    parameters = np.zeros(8)
    parameters[[2, 5]] = shift * 2 / max(size)
    for reach, tolerance in _ROUNDS:
        move = to_homography(parameters, size)
        matches = [outlines.match(frame, move, reach) for frame in range(frames)]
        parameters = fit(_joined(matches), parameters, np.zeros(8), settings.clip, size, tolerance=tolerance).parameters
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
    for _, tolerance in _ROUNDS[1:]:
        matches = matcher.match(frame, to_homography(parameters, size))
        matches = ransac(on_robot(matches, robot.masks[frame]), tolerance=tolerance)
        found = fit(matches, parameters, common, settings.frame, size, tolerance=tolerance)
        parameters = found.parameters
    return found
