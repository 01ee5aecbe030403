"""Scores that may be undefined, and overlap of masks in space and time.

Everywhere in this package a clip begins with the frame it was started from: T + 1 frames, of which frame 0 is given and
frames 1 to T are judged.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class Scores:
    """Values (*b) float64 beside bools (*b) that say which of them exist; those that do not are NaN.

    A score that cannot be computed (an overlap of nothing with nothing) is neither perfect nor bad: it is left out of
    means and counted in `undefined`.
    """

    what: str
    values: Tensor
    defined: Tensor

    @property
    def undefined(self) -> int:
        """How many scores do not exist."""
        return int((~self.defined).sum())

    def mean(self) -> float:
        """The mean of the scores that exist. Raises InvalidInput where none does."""
        if not bool(self.defined.any()):
            raise InvalidInput(self.what, f"{self.defined.numel()} scores, none defined", "at least one defined")
        return float(self.values[self.defined].mean())

    def existing(self) -> list[float]:
        """The scores that exist, in order."""
        return [float(value) for value in self.values[self.defined]]


def scores(what: str, values: Tensor, defined: Tensor) -> Scores:
    """Scores whose undefined entries are overwritten with NaN."""
    return Scores(what, torch.where(defined, values.double(), torch.nan), defined)


def st_iou(*, generated: Tensor, truth: Tensor) -> Scores:
    """Overlap in space and time: pixels in both masks over pixels in either, summed over frames 1 to T.

    generated, truth: bool (*b, T + 1, H, W) -> scores (*b). A mask that is lost is empty and counts as such. Undefined
    where both masks are empty in all frames. Raises InvalidInput for other types, shapes, or less than two frames.
    """
    shared, united = _areas(generated, truth)
    return scores("st_iou", shared.sum(-1) / united.sum(-1), united.sum(-1) > 0)


def mean_frame_iou(*, generated: Tensor, truth: Tensor) -> Scores:
    """The mean over frames 1 to T of each frame's own overlap, over the frames in which either mask has a pixel.

    Arguments and errors as in `st_iou`.
    """
    shared, united = _areas(generated, truth)
    judged = united > 0
    total = torch.where(judged, shared / united.clamp_min(1), 0.0).sum(-1)
    return scores("mean_frame_iou", total / judged.sum(-1), judged.any(-1))


def _areas(generated: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """Pixels in both and in either (*b, T), float64."""
    check_pair(generated, truth, torch.bool, "(*b, T + 1, H, W)", 3)
    here, there = generated[..., 1:, :, :], truth[..., 1:, :, :]
    return (here & there).sum((-2, -1)).double(), (here | there).sum((-2, -1)).double()


def check_pair(generated: Tensor, truth: Tensor, dtype: torch.dtype, shape: str, axes: int) -> None:
    """Raises InvalidInput unless both have one shape of at least `axes` axes, the given type, and two frames."""
    for name, clip in (("generated", generated), ("truth", truth)):
        if clip.dtype != dtype or clip.ndim < axes:
            raise InvalidInput(name, f"{clip.dtype} {tuple(clip.shape)}", f"{dtype} {shape}")
    if generated.shape != truth.shape:
        raise InvalidInput("generated", tuple(generated.shape), f"{tuple(truth.shape)}, the shape of truth")
    if truth.shape[-axes] < 2:
        raise InvalidInput("clip", f"{truth.shape[-axes]} frames", "at least two: frame 0 is given, not judged")
