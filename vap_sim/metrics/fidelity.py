"""How near generated frames are to the truth, pixel by pixel, and how much of that is only standing still."""

from __future__ import annotations

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.masks import Scores, check_pair, scores

MOVED = 10
"""A pixel has moved where a channel differs from the clip's first frame by more than this many of 255 levels."""


def psnr(*, generated: Tensor, truth: Tensor, where: Tensor | None = None) -> Scores:
    """Peak signal-to-noise ratio [dB] of frames 1 to T, each by itself: 10 log10(255^2 / mean squared error over RGB).

    generated, truth: uint8 (*b, T + 1, H, W, 3); where: bool (*b, T + 1, H, W), the pixels that count, by default all
    -> scores (*b, T). Undefined where no pixel counts and where the frames are equal (an infinite ratio). Raises
    InvalidInput for other types, shapes, or less than two frames.
    """
    check_pair(generated, truth, torch.uint8, "(*b, T + 1, H, W, 3)", 4)
    apart = (generated[..., 1:, :, :, :].double() - truth[..., 1:, :, :, :].double()).square().mean(-1)
    if where is None:
        error, some = apart.mean((-2, -1)), torch.ones(apart.shape[:-2], dtype=torch.bool, device=apart.device)
    else:
        if where.dtype != torch.bool or where.shape != truth.shape[:-1]:
            expected = f"torch.bool {tuple(truth.shape[:-1])}"
            raise InvalidInput("where", f"{where.dtype} {tuple(where.shape)}", expected)
        counts = where[..., 1:, :, :]
        number = counts.sum((-2, -1))
        error, some = (apart * counts).sum((-2, -1)) / number.clamp_min(1), number > 0
    exists = some & (error > 0)
    return scores("psnr", 10 * torch.log10(255.0**2 / torch.where(exists, error, 1.0)), exists)


def moving_pixels(truth: Tensor) -> Tensor:
    """Where the truth has changed since its first frame: uint8 (*b, T + 1, H, W, 3) -> bool (*b, T + 1, H, W).

    The region is a matter of the truth alone, so that no generated frame can make its own test easier.
    """
    if truth.dtype != torch.uint8 or truth.ndim < 4 or truth.shape[-1] != 3:
        raise InvalidInput("truth", f"{truth.dtype} {tuple(truth.shape)}", "torch.uint8 (*b, T + 1, H, W, 3)")
    apart = (truth.short() - truth[..., :1, :, :, :].short()).abs()
    return (apart > MOVED).any(-1)


def copy_first_frame(truth: Tensor) -> Tensor:
    """The prediction that nothing ever moves: the first of (*b, T + 1, H, W, 3), repeated. The baseline to beat."""
    if truth.ndim < 4:
        raise InvalidInput("truth", f"{truth.dtype} {tuple(truth.shape)}", "(*b, T + 1, H, W, 3)")
    return truth[..., :1, :, :, :].expand(truth.shape)


def moving_gain(*, generated: Tensor, truth: Tensor) -> Scores:
    """PSNR on moving pixels minus that of copying the first frame [dB], of frames 1 to T -> scores (*b, T).

    Undefined where nothing has moved yet and where the frames are equal there. Arguments and errors as in `psnr`.
    """
    check_pair(generated, truth, torch.uint8, "(*b, T + 1, H, W, 3)", 4)
    where = moving_pixels(truth)
    ours = psnr(generated=generated, truth=truth, where=where)
    still = psnr(generated=copy_first_frame(truth), truth=truth, where=where)
    return scores("moving_gain", ours.values - still.values, ours.defined & still.defined)
