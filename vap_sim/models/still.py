"""The still world: the first picture for ever, whatever it is told. What a dream that knows nothing scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vap_sim.models.picture_world import PictureWorld


@dataclass(frozen=True, eq=False)
class StillWorld(PictureWorld):
    """Shows the first picture in every frame; neither the arm nor anything else ever moves.

    It is the floor of every figure: static scenes make copies of the first frame look good, and a dream must beat them.
    Prompts are checked and then disregarded.
    """

    name: ClassVar[str] = "still"

    def begun(self, frames: Tensor, skeleton: Tensor) -> dict[str, Tensor]:
        """The pictures."""
        return {"frame": frames}

    def shown(self, context: Mapping[str, Tensor], skeleton: Tensor) -> Tensor:
        """The first picture, in memory of its own."""
        return torch.repeat_interleave(context["frame"][:, :, None], skeleton.shape[2], dim=2)
