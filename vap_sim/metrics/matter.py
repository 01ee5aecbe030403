"""Drift of a dreamt picture, told without any truth: do its objects keep their size, or does matter come and go?

A picture is read by the detector, and what the robot hides is remembered as it was last seen. However objects are
moved, each color then fills about as many pixels as at the start. Where one fades, smears, doubles or melts into
another, it does not: the world has left what it was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.detector import BODY_CLASSES, CLASSES, FIRST_OBJECT, ROBOT

LEAST_PIXELS = 12
"""Fewer pixels of a color are no object."""


@dataclass(frozen=True, eq=False)
class Matter:
    """n pictures as they are remembered. seen: (n, H, W) uint8, what each pixel showed when no robot hid it; begun:
    (n, C) int64, pixels of each object color in the first picture."""

    seen: Tensor
    begun: Tensor

    @classmethod
    def begin(cls, labels: Tensor) -> Matter:
        """From the first pictures, read: labels (n, H, W) uint8 that number CLASSES or BODY_CLASSES. Drawers are no
        matter: now more of them is seen, now less."""
        _check(labels)
        return cls(labels, _pixels(labels))

    def after(self, labels: Tensor) -> Matter:
        """Remembered after the next pictures, read (n, H, W). Raises InvalidInput for another number or size."""
        if labels.shape != self.seen.shape:
            raise InvalidInput("labels", tuple(labels.shape), tuple(self.seen.shape))
        _check(labels)
        return Matter(torch.where(labels == ROBOT, self.seen, labels), self.begun)

    def drift(self) -> Tensor:
        """How far matter has come or gone (n,) float64: of the color that changed most, how often its area was doubled
        or halved since the first picture. Colors that did not fill LEAST_PIXELS there do not count."""
        ratio = (_pixels(self.seen).double().clamp_min(1) / self.begun.clamp_min(1)).log2().abs()
        return torch.where(self.begun >= LEAST_PIXELS, ratio, 0.0).amax(dim=1)


def _pixels(labels: Tensor) -> Tensor:
    """(n, C) pixels of each object color."""
    return torch.stack([(labels == color).sum((1, 2)) for color in range(FIRST_OBJECT, len(CLASSES))], dim=1)


def _check(labels: Tensor) -> None:
    if labels.ndim != 3 or labels.dtype != torch.uint8 or (labels.numel() and int(labels.max()) >= len(BODY_CLASSES)):
        given = f"{labels.dtype} {tuple(labels.shape)}"
        raise InvalidInput("labels", given, f"torch.uint8 (n, H, W), numbers below {len(BODY_CLASSES)}")
