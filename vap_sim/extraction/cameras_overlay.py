"""Pictures to judge a calibration by: the skeleton and the silhouette's outline on the real frames."""

from __future__ import annotations

import math
from collections.abc import Iterator

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.extraction.cameras_prior import projections
from vap_sim.extraction.motion_masks import Clip
from vap_sim.extraction.silhouettes import Z_NEAR, draw_masks, pose_body
from vap_sim.robots.library import RobotModel

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]
_SCALE = 2
_OUTLINE, _BAR = (255, 0, 255), 22


def overlay_frames(clip: Clip, model: RobotModel, vector: Array, caption: str) -> Iterator[Pixels]:
    """Every frame of a clip at twice its size, (2H + 22, 2W, 3), with what a camera vector (8,) draws on it.

    caption: a line below the picture; what is longer than the picture is cut off.
    """
    height, width = clip.frames.shape[1:3]
    size = width * _SCALE, height * _SCALE
    matrix = projections(vector[None], (width, height), size)[0]
    for picture, joints in zip(clip.frames, clip.joints, strict=True):
        shown = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
        _draw(shown, model, joints, matrix)
        bar = np.zeros((_BAR, size[0], 3), np.uint8)
        cv2.putText(bar, caption, (4, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.4, (230, 230, 230), 1, cv2.LINE_AA)
        yield np.concatenate([shown, bar])


def overlay_sheet(
    clip: Clip, model: RobotModel, vector: Array, caption: str, columns: int = 3, rows: int = 2
) -> Pixels:
    """Frames of a clip, equally far apart, as one picture of `columns` by `rows`; fewer rows for a shorter clip."""
    count = min(columns * rows, len(clip.frames))
    chosen = np.linspace(0, len(clip.frames) - 1, count).astype(np.intp)
    few = Clip(clip.name, clip.frames[chosen], clip.joints[chosen])
    pictures = list(overlay_frames(few, model, vector, caption))
    pictures += [np.zeros_like(pictures[0])] * (columns * math.ceil(count / columns) - count)
    lines = [np.concatenate(pictures[k : k + columns], axis=1) for k in range(0, len(pictures), columns)]
    return np.concatenate(lines)


def _draw(shown: Pixels, model: RobotModel, joints: Array, matrix: Array) -> None:
    size = shown.shape[1], shown.shape[0]
    mask = draw_masks(pose_body(model, joints[None]), matrix, size)[0]
    outlines, _ = cv2.findContours(mask, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(shown, outlines, -1, _OUTLINE, 1)
    with torch.no_grad():
        poses = model.robot.forward(torch.as_tensor(joints[None], dtype=torch.float64))
        points = model.skeleton.positions(model.robot, poses)[0].numpy()
    rays = points @ matrix[:, :3].T + matrix[:, 3]
    for bone in model.skeleton.bones:
        ends = rays[[model.skeleton.point_index(bone.start), model.skeleton.point_index(bone.end)]]
        if bone.group != "plumb" and ends[:, 2].min() > Z_NEAR:
            start, end = np.rint(np.clip(ends[:, :2] / ends[:, 2:], -9000, 9000)).astype(int).tolist()
            cv2.line(shown, start, end, bone.color, 2, cv2.LINE_AA)
