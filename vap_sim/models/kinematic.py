"""The kinematic world: no network, the drawn arm over the first frame. Perfect obedience looks like this."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from vap_sim.models.picture_world import PictureWorld

# Brightest channel from which a drawn pixel hides what is behind it; profiles draw whole pixels brighter than this, so
# that only their soft edges let the picture through.
_OPAQUE = 128


@dataclass(frozen=True, eq=False)
class KinematicWorld(PictureWorld):
    """Pastes every prompt over the first frame. The arm in that frame stays where it was; nothing else ever moves.

    It proves environments, planners and scores without a network, and is the oracle for "does it follow the arm". A
    state holds the first picture and its skeleton, which tells where the pictured arm, that never moves, stands.
    """

    name: ClassVar[str] = "kinematic"

    def begun(self, frames: Tensor, skeleton: Tensor) -> dict[str, Tensor]:
        """The pictures and their skeletons."""
        return {"frame": frames, "skeleton": skeleton}

    def shown(self, context: Mapping[str, Tensor], skeleton: Tensor) -> Tensor:
        """The drawings over the first picture."""
        return paste(skeleton, context["frame"][:, :, None])


def paste(skeleton: Tensor, picture: Tensor) -> Tensor:
    """A drawing on black over a picture, both uint8 (..., H, W, 3) or broadcastable: black shows the picture.

    Drawn colours are already weighted by how much of a pixel the drawing covers: they are added to what shines through.
    """
    brightest = torch.maximum(torch.maximum(skeleton[..., 0], skeleton[..., 1]), skeleton[..., 2])
    # Whole numbers, which round alike in every batch; 255 * _OPAQUE is the largest that 16 bits can hold.
    through = (_OPAQUE - brightest.clamp_max(_OPAQUE)).to(torch.int16)[..., None]
    seen = (picture * through).add_(_OPAQUE // 2).bitwise_right_shift_(_OPAQUE.bit_length() - 1)
    return seen.to(torch.uint8).add_(skeleton)
