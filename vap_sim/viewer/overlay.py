"""Pictures to judge prepared clips by: the skeleton over each frame, what is not kept framed in red."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.data.prepared import PreparedClip
from vap_sim.prompts import Prompter, profile
from vap_sim.robots.library import RobotModel, load_robot

_SIDE = 384  # views are shown at least this high [px]
_SHOWN = 0.75  # how much of the drawn skeleton covers the picture
_RED = (230, 40, 40)
_EDGE = 4
Pixels = NDArray[np.uint8]


def overlay_frames(clip: PreparedClip, model: RobotModel | None = None) -> Iterator[Pixels]:
    """Every frame of a clip (H, V * W, 3), views side by side and enlarged, with the skeleton drawn on it.

    model: the clip's robot, for one that is not on the shelf. Raises UnknownName.
    """
    robot = load_robot(clip.robot_name) if model is None else model
    for frame in range(clip.length):
        yield np.concatenate([_overlaid(clip, robot, view, frame) for view in range(len(clip.cameras))], axis=1)


def contact_sheet(clip: PreparedClip, model: RobotModel | None = None, columns: int = 4, rows: int = 2) -> Pixels:
    """Frames of a clip, equally far apart, one view below another, as one picture of `columns` columns a view.

    Each view takes `rows` rows, fewer where the clip has fewer frames.
    """
    robot = load_robot(clip.robot_name) if model is None else model
    count = min(columns * rows, clip.length)
    columns = min(columns, count)
    chosen = np.linspace(0, clip.length - 1, count).round().astype(int).tolist()
    blocks = []
    for view in range(len(clip.cameras)):
        shown = [_overlaid(clip, robot, view, frame) for frame in chosen]
        shown += [np.zeros_like(shown[0])] * (-len(shown) % columns)
        blocks += [np.concatenate(shown[at : at + columns], axis=1) for at in range(0, len(shown), columns)]
    return np.concatenate(blocks)


def _overlaid(clip: PreparedClip, model: RobotModel, view: int, frame: int) -> Pixels:
    width, height = clip.size
    times = max(1, math.ceil(_SIDE / height))
    size = (2 * math.ceil(width * times / 2), 2 * math.ceil(height * times / 2))
    sx, sy = size[0] / width, size[1] / height
    grow = np.array([[sx, 0, (sx - 1) / 2], [0, sy, (sy - 1) / 2], [0, 0, 1]])
    move = grow @ clip.homographies[view, frame].astype(np.float64) @ np.linalg.inv(grow)
    joints, moves = torch.from_numpy(clip.joints[None, frame : frame + 1]), torch.from_numpy(move).float()
    camera = clip.cameras[view].resized(size)
    drawn = _prompter(model, size).draw(joints, [camera], moves[None, None, None]).skeleton[0, 0, 0].numpy()
    shown = cv2.resize(clip.frames[view, frame], size, interpolation=cv2.INTER_CUBIC)
    cover = _SHOWN * (drawn.max(axis=-1, keepdims=True) > 0)
    mixed = np.rint((1 - cover) * shown + cover * drawn).astype(np.uint8)
    if not clip.kept[view, frame]:
        cv2.rectangle(mixed, (0, 0), (size[0] - 1, size[1] - 1), _RED, _EDGE)
    return np.asarray(mixed)


@lru_cache(maxsize=4)
def _prompter(model: RobotModel, size: tuple[int, int]) -> Prompter:
    thin = profile("vap")
    return Prompter(model, replace(thin, name="overlay", joint_tint=0.6), size)
