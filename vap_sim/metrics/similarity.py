"""Structural similarity (SSIM) as Wang et al. defined it in 2004, of each color channel by itself."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.masks import Scores, check_pair, scores

WINDOW, SIGMA = 11, 1.5
"""Side and standard deviation [px] of the Gaussian window."""
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
_FRAMES_AT_ONCE = 2


def ssim(*, generated: Tensor, truth: Tensor) -> Scores:
    """Mean structural similarity of frames 1 to T over color channels, each frame by itself -> scores (*b, T).

    generated, truth: uint8 (*b, T + 1, H, W, 3), sides of at least WINDOW. From -1 to 1, which equal frames have;
    always defined. Only windows that lie wholly in the picture count; covariances are those of the population. Raises
    InvalidInput for other types, shapes, smaller pictures, or less than two frames.
    """
    channels = ssim_channels(generated=generated, truth=truth)
    return scores("ssim", channels.values.mean(-1), channels.defined.all(-1))


def ssim_channels(*, generated: Tensor, truth: Tensor) -> Scores:
    """Structural similarity of red, green and blue -> scores (*b, T, 3). Arguments and errors as in `ssim`."""
    check_pair(generated, truth, torch.uint8, "(*b, T + 1, H, W, 3)", 4)
    *batch, length, height, width, colors = truth.shape
    if min(height, width) < WINDOW:
        raise InvalidInput("pictures", f"{width} x {height} px", f"sides of at least {WINDOW} px")
    ours, theirs = (clip[..., 1:, :, :, :].movedim(-1, -3).reshape(-1, height, width) for clip in (generated, truth))
    step = _FRAMES_AT_ONCE * colors
    found = [_similarity(ours[i : i + step], theirs[i : i + step]) for i in range(0, len(ours), step)]
    values = torch.cat(found) if found else ours.new_zeros(0, dtype=torch.float64)
    values = values.reshape(*batch, length - 1, colors)
    return scores("ssim of channels", values, torch.ones_like(values, dtype=torch.bool))


def _similarity(x: Tensor, y: Tensor) -> Tensor:
    """Of n pairs of one-channel pictures (n, H, W) -> (n)."""
    x, y = x.double(), y.double()
    mean_x, mean_y, xx, yy, xy = _blur(torch.cat([x, y, x * x, y * y, x * y])).chunk(5)
    product, squares = mean_x * mean_y, mean_x.square() + mean_y.square()
    likeness = (2 * product + _C1) * (2 * (xy - product) + _C2)
    similarity: Tensor = likeness / ((squares + _C1) * (xx + yy - squares + _C2))
    return similarity.mean((-2, -1))


def _blur(pictures: Tensor) -> Tensor:
    """(n, H, W) -> (n, H - WINDOW + 1, W - WINDOW + 1)."""
    bells = [math.exp(-((offset - WINDOW // 2) ** 2) / (2 * SIGMA**2)) for offset in range(WINDOW)]
    for axis in (-2, -1):
        size = pictures.shape[axis] - WINDOW + 1
        wide, pictures = pictures, torch.zeros_like(pictures.narrow(axis, 0, size))
        for offset, bell in enumerate(bells):  # many times faster than a convolution in float64
            pictures.add_(wide.narrow(axis, offset, size), alpha=bell / sum(bells))
    return pictures
