"""Chunk mode: a whole clip a step, begun with the last frames of the clip before it."""

from __future__ import annotations

import torch
from torch import Tensor

from vap_sim.models.cogvideox.codec import FRAMES
from vap_sim.models.cogvideox.guidance import Branch
from vap_sim.models.cogvideox.injection import Noised, Prepared, first_frame_channels
from vap_sim.models.cogvideox.parts import (
    CAPTION,
    Context,
    Parts,
    begin_telling,
    caption_keys,
    captions_of,
    handed_out,
    remembered,
    told_so_far,
)
from vap_sim.models.cogvideox.prepared import lasting_of
from vap_sim.models.cogvideox.sampler import denoise
from vap_sim.prompts.visual_prompt import VisualPrompt

_FRAMES, _WORDS = "frames", "words"


class Chunk:
    """Pure functions on the context of a state.

    An image-to-video model that carries one frame over is run as diffusers runs it: the frame's latents enter by the
    condition channels, and all latent frames are denoised. Without condition channels, or with more frames carried
    over, those latent frames are held clean, each at noise level 0 while the rest is noisy.
    In a state: the last pixel frames, the embedded caption, and if there are conditioners the latest prompts and what
    lasts. Each clip is told as one of its own, as the clips of training were: a conditioner's features of the clip
    before do not reach into it, only what lasts does.
    """

    def __init__(self, parts: Parts) -> None:
        self.parts = parts
        settings = parts.settings
        carried = 1 + settings.overlap // FRAMES
        self._held = 0 if parts.image_to_video and carried == 1 else carried
        self._frames = 1 + settings.chunk // FRAMES

    def begin(self, frames: Tensor, prompt: VisualPrompt) -> dict[str, Tensor]:
        """The context after pictures (b, V, H, W, 3) uint8, whose prompt has F = 1; a clip before it stood still."""
        parts, captions, overlap = self.parts, captions_of(prompt), self.parts.settings.overlap
        context = {
            _FRAMES: frames.to(parts.device).repeat(1, overlap, 1, 1, 1),
            CAPTION: caption_keys(captions, parts.device),
            _WORDS: parts.words(captions).contiguous(),
        }
        if not parts.conditioners:
            return context
        lasting = handed_out(parts.prepare(prompt), lasting_of)
        return context | begin_telling(prompt, overlap) | lasting

    def check(self, context: Context, prompt: VisualPrompt) -> None:
        """Every chunk may have a caption of its own."""

    def fullness(self, _step: int) -> int:
        """Rows always share a pass."""
        return 0

    def advance(
        self, context: Context, step: Tensor, key: Tensor, prompt: VisualPrompt, *, decode: bool = True
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """The context one clip later, and its new frames (b, 1, F, H, W, 3) uint8.

        step, key: (b,) int64; prompt: F = frames per step. Frames are decoded in any case: the next clip begins there.
        """
        parts, settings = self.parts, self.parts.settings
        rows, after = len(step), dict(context)
        if prompt.text is not None:
            after |= {CAPTION: caption_keys(prompt.text, parts.device), _WORDS: parts.words(prompt.text)}
        prepared: tuple[Prepared, ...] = ()
        if parts.conditioners:
            whole = told_so_far(context, prompt, settings.overlap)
            prepared = parts.prepare(whole, context)
            after |= remembered(whole, settings.overlap) | handed_out(prepared, lasting_of)
        start = parts.codec.encode(context[_FRAMES]).to(parts.device, torch.float32)
        channels = first_frame_channels(start[:, :1], self._frames) if parts.image_to_video else None

        def predict(latents: Tensor, timestep: int) -> Tensor:
            levels = torch.full((rows, self._frames), timestep, dtype=torch.int64, device=parts.device)
            levels[:, : self._held] = 0

            def one(branch: Branch) -> Tensor:
                words = after[_WORDS] if branch.text else parts.plain_words(rows)
                return parts.predict(Noised(latents, levels, words, channels), branch, prepared, {})[0]

            return parts.guided(one, timestep)

        latents = denoise(
            parts.normals(key, step, self._frames),
            predict,
            parts.schedule,
            settings.steps,
            solver=settings.solver,
            held=start[:, : self._held] if self._held else None,
            fresh=lambda index: parts.normals(key, step, self._frames, stream=1 + index),
        )
        parts.let_go()
        frames = parts.codec.decode(latents)
        after[_FRAMES] = frames[:, -settings.overlap :].clone()
        return after, frames[:, None, settings.overlap :]
