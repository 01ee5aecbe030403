"""Floors and ceilings to tell a figure beside: a dream that stands still, and the best that a codec can show.

The floor is `copy_first_frame`; static scenes make it strong. The ceiling is the truth after a model's own codec: no
model that draws through the codec comes nearer to the truth than that.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput


class Codec(Protocol):
    """Anything that packs frames and unpacks them again."""

    def encode(self, frames: Tensor, /) -> Any:
        """Frames -> latents of any kind."""

    def decode(self, latents: Any, /) -> Tensor:
        """Latents -> frames."""


def codec_round_trip(codec: Codec, frames: Tensor) -> Tensor:
    """The truth as the codec shows it: uint8 (*b, T + 1, H, W, 3) -> the same, every frame packed and unpacked.

    Frames go in as they are, in one call and without gradients. Raises InvalidInput for other frames, and where the
    codec gives back another type or shape: a clip whose length it rounds up cannot be compared frame by frame.
    """
    if frames.dtype != torch.uint8 or frames.ndim < 4 or frames.shape[-1] != 3:
        raise InvalidInput("frames", f"{frames.dtype} {tuple(frames.shape)}", "torch.uint8 (*b, T + 1, H, W, 3)")
    with torch.no_grad():
        shown = codec.decode(codec.encode(frames))
    if shown.dtype != torch.uint8 or shown.shape != frames.shape:
        raise InvalidInput(
            "frames from the codec", f"{shown.dtype} {tuple(shown.shape)}", f"torch.uint8 {tuple(frames.shape)}"
        )
    return shown
