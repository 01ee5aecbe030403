"""A demonstration as the prism reads it: as many frames, of the size, as it was trained with, and the captions."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.text import UNCONDITIONAL, TextEncoder
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt


class Resampled(UserWarning):
    """A demonstration had another length or size than the model reads, and was brought to it."""


def resampled(frames: Tensor, pixel_frames: int, size: tuple[int, int]) -> Tensor:
    """A demonstration (b, T, H, W, 3) uint8 as (b, pixel_frames, h, w, 3) uint8, size = (w, h).

    In time the nearest of evenly spaced frames are taken, first and last included; in space it is bilinear, averaging
    where it shrinks. Warns `Resampled`, saying from what to what. Raises InvalidInput for fewer than two frames.
    """
    rows, count, height, width, _ = frames.shape
    if not rows or count < 2 or not height or not width:
        raise InvalidInput(
            "ReferenceClip.frames", tuple(frames.shape), "(b, T, H, W, 3), T at least 2: motion is shown"
        )
    changes = []
    if count != pixel_frames:
        changes.append(f"from {count} to {pixel_frames} frames")
        chosen = torch.linspace(0, count - 1, pixel_frames, dtype=torch.float64).round().long()
        frames = frames[:, chosen.to(frames.device)]
    if (width, height) != size:
        changes.append(f"from {width} x {height} to {size[0]} x {size[1]} pixels")
        planes = frames.flatten(0, 1).permute(0, 3, 1, 2).float()
        planes = F.interpolate(planes, (size[1], size[0]), mode="bilinear", antialias=True)
        frames = planes.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
        frames = frames.reshape(rows, pixel_frames, size[1], size[0], 3)
    if changes:
        warnings.warn(f"demonstration resampled {' and '.join(changes)}", Resampled, stacklevel=3)
    return frames


def told_words(prompt: VisualPrompt, clip: ReferenceClip, text: TextEncoder | None) -> Tensor:
    """The captions of what is to be made and of what is shown, joined: (b, 2 L, width). Without a caption of its own
    the prompt's is the empty one. Raises InvalidInput for a clip without captions."""
    if clip.text is None:
        raise InvalidInput("ReferenceClip.text", None, "a caption a row: the prism reads what the demonstration shows")
    if text is None:
        raise InvalidInput("text encoder of an action prism", None, "one, for the captions of the demonstration")
    wanted: Sequence[str] = (UNCONDITIONAL,) * len(prompt) if prompt.text is None else prompt.text
    return torch.cat([text.encode(wanted), text.encode(clip.text)], dim=1)
