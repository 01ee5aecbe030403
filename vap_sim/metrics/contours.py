"""J and F of the DAVIS benchmark: how well regions overlap and how near their contours lie, both times 100.

The benchmark gives the first frame and judges the others; so does this file (the benchmark's own tool also leaves out
the last frame). A frame in which neither mask has a pixel scores 100, as there: `empty_frames` counts them.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.masks import Scores, check_pair, scores

TOLERANCE = 0.008
"""Share of the picture's diagonal, rounded up to whole pixels, that contours may lie apart."""


def j_and_f(*, generated: Tensor, truth: Tensor) -> Scores:
    """The mean of J and F of frames 1 to T, from 0 to 100 -> scores (*b, T).

    generated, truth: bool (*b, T + 1, H, W), masks of one object each. Always defined. Raises InvalidInput for other
    types, shapes, or less than two frames.
    """
    region = region_similarity(generated=generated, truth=truth)
    contour = contour_accuracy(generated=generated, truth=truth)
    return scores("j_and_f", (region.values + contour.values) / 2, region.defined)


def region_similarity(*, generated: Tensor, truth: Tensor) -> Scores:
    """J: pixels in both masks over pixels in either, times 100, of frames 1 to T. Arguments and errors as `j_and_f`."""
    here, there = _judged(generated, truth)
    shared, united = (here & there).sum((-2, -1)).double(), (here | there).sum((-2, -1)).double()
    values = torch.where(united > 0, 100 * shared / united.clamp_min(1), 100.0)
    return scores("region_similarity", values, torch.ones_like(values, dtype=torch.bool))


def contour_accuracy(*, generated: Tensor, truth: Tensor, tolerance: float = TOLERANCE) -> Scores:
    """F: harmonic mean of the shares of each contour that lie near the other, times 100, of frames 1 to T.

    tolerance: share of the diagonal, above 0. The edge of the picture is no contour. A contour against none scores 0.
    Arguments and errors else as `j_and_f`.
    """
    here, there = _judged(generated, truth)
    if not 0 < tolerance < 1:
        raise InvalidInput("tolerance", tolerance, "a share of the diagonal between 0 and 1")
    near = _disk(math.ceil(tolerance * math.hypot(*truth.shape[-2:])))
    pairs = zip(here.flatten(0, -3).cpu().numpy(), there.flatten(0, -3).cpu().numpy(), strict=True)
    values = torch.tensor([100 * _f_measure(a, b, near) for a, b in pairs], dtype=torch.float64)
    values = values.reshape(here.shape[:-2]).to(truth.device)
    return scores("contour_accuracy", values, torch.ones_like(values, dtype=torch.bool))


def empty_frames(*, generated: Tensor, truth: Tensor) -> int:
    """Judged frames that score 100 because neither mask has a pixel. Arguments and errors as `j_and_f`."""
    here, there = _judged(generated, truth)
    return int((~(here | there).any(-1).any(-1)).sum())


def contour(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels (H, W) that differ from the next one to the right, below, or both; beyond the edge nothing changes."""
    wide = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return np.asarray((mask ^ wide[:-1, 1:]) | (mask ^ wide[1:, :-1]) | (mask ^ wide[1:, 1:]))


def _judged(generated: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    check_pair(generated, truth, torch.bool, "(*b, T + 1, H, W)", 3)
    return generated[..., 1:, :, :], truth[..., 1:, :, :]


def _f_measure(a: NDArray[np.bool_], b: NDArray[np.bool_], near: NDArray[np.uint8]) -> float:
    here, there = contour(a), contour(b)
    if not here.any() or not there.any():
        return float(here.any() == there.any())
    precision = float((here & _grown(there, near)).sum() / here.sum())
    recall = float((there & _grown(here, near)).sum() / there.sum())
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _grown(mask: NDArray[np.bool_], by: NDArray[np.uint8]) -> NDArray[Any]:
    return cv2.dilate(mask.astype(np.uint8), by) > 0


def _disk(radius: int) -> NDArray[np.uint8]:
    y, x = np.ogrid[-radius : radius + 1, -radius : radius + 1]
    return np.asarray(x * x + y * y <= radius * radius).astype(np.uint8)
