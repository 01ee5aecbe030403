"""Does something move at the right place and time? Overlap of motion masks as the Physics-IQ benchmark defines them.

A motion mask needs no detector: the grey, blurred frame against a running mean of the clip so far. The definition has
fixed sizes in pixels and a fixed weight a frame, so scores at another frame size or rate are not comparable.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.masks import Scores, check_pair, scores

WEIGHT = 0.3
"""Share of the newest frame in the running mean."""
THRESHOLD = 10
"""Grey levels of 255 that a pixel must differ by, more than this, to count as moving."""
SIDE = 5
"""Side [px] of the Gaussian blur and of the square of the opening and closing."""


def motion_masks(frames: Tensor) -> Tensor:
    """Where something moves: uint8 RGB (*b, T + 1, H, W, 3) -> bool (*b, T + 1, H, W); the first mask is empty.

    Raises InvalidInput for another type or shape.
    """
    if frames.dtype != torch.uint8 or frames.ndim < 4 or frames.shape[-1] != 3:
        raise InvalidInput("frames", f"{frames.dtype} {tuple(frames.shape)}", "torch.uint8 (*b, T + 1, H, W, 3)")
    clips = frames.reshape(-1, *frames.shape[-4:]).cpu().numpy()
    masks = np.stack([_clip_masks(clip) for clip in clips]) if len(clips) else np.zeros(clips.shape[:-1], np.bool_)
    return torch.from_numpy(masks).reshape(frames.shape[:-1])


def motion_st_iou(*, generated: Tensor, truth: Tensor) -> Scores:
    """Mean over all T + 1 frames of the overlap of both clips' motion masks, 1 where both are empty -> scores (*b).

    generated, truth: uint8 RGB (*b, T + 1, H, W, 3). The first frame, whose masks are empty, counts with its 1, as in
    the original. Always defined. Raises InvalidInput for other types, shapes, or less than two frames.
    """
    check_pair(generated, truth, torch.uint8, "(*b, T + 1, H, W, 3)", 4)
    here, there = motion_masks(generated), motion_masks(truth)
    shared, united = (here & there).sum((-2, -1)).double(), (here | there).sum((-2, -1)).double()
    each = torch.where(united > 0, shared / united.clamp_min(1), 1.0)
    overlap = each.mean(-1)
    return scores("motion_st_iou", overlap, torch.ones_like(overlap, dtype=torch.bool))


def _clip_masks(clip: NDArray[np.uint8]) -> NDArray[np.bool_]:
    square = np.ones((SIDE, SIDE), np.uint8)
    grey = [cv2.GaussianBlur(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), (SIDE, SIDE), 0) for frame in clip]
    mean = grey[0].astype(np.float64)
    masks = np.zeros(clip.shape[:-1], np.bool_)
    for index, now in enumerate(grey[1:], start=1):
        cv2.accumulateWeighted(now, mean, WEIGHT)  # before it is compared, so a sudden change shows with weight 0.7
        apart = cv2.absdiff(now, cv2.convertScaleAbs(mean))
        moving = (apart > THRESHOLD).astype(np.uint8)
        moving = cv2.morphologyEx(moving, cv2.MORPH_OPEN, square)
        masks[index] = cv2.morphologyEx(moving, cv2.MORPH_CLOSE, square) > 0
    return masks
