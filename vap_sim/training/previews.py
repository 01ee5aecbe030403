"""Films for the log of a diffusion training: what was recorded, what was told, and what the model makes of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.codec import FRAMES
from vap_sim.models.cogvideox.sampler import Schedule, denoise, noised, original
from vap_sim.models.cogvideox.text import TextEncoder
from vap_sim.noise import standard_normals
from vap_sim.training.clips import Clip

if TYPE_CHECKING:
    from vap_sim.models.cogvideox.codec import Codec
    from vap_sim.training.diffusion import Denoiser

_GUESS, _DREAM = 1, 2
"""Streams of noise, apart from that of training."""


@dataclass(frozen=True, eq=False)
class Previews:
    """Makes films of clips that are not trained on. All goes through the denoiser's own call, as in training, so films
    can be made where its weights are split over processes too, if every process makes them.

    stream: whether frames come one after the other, as in a stream, or a whole clip at once; steps: of denoising a
    dream; precision: what makes the context a pass runs in; seed: of the noise. Raises InvalidInput.
    """

    denoiser: Denoiser
    codec: Codec
    text: TextEncoder
    schedule: Schedule
    precision: Callable[[], AbstractContextManager[Any]]
    device: torch.device
    stream: bool
    steps: int
    seed: int

    def __post_init__(self) -> None:
        if isinstance(self.steps, bool) or not 1 <= self.steps <= self.schedule.length:
            raise InvalidInput("denoising steps of previews", self.steps, f"1 .. {self.schedule.length}")

    def guess(self, clip: Clip, number: int) -> Tensor:
        """Truth, prompt and what the half-noised clip is taken for, in one pass: (F, 3, H, 3 W) uint8."""
        clean = clip.latents[None].to(self.device)
        learned = torch.arange(clean.shape[1], device=self.device)[None] >= int(self.stream)
        levels = torch.where(learned, self.schedule.length // 2, 0)
        alpha = self.schedule.alpha(levels)
        alpha = torch.where(learned, alpha, torch.ones_like(alpha))
        noisy = noised(clean, self._normals(number, clean.shape[1], clean, _GUESS), alpha)
        prediction = self._pass(clip, noisy, levels)
        return _beside(self._shown(clean), clip.prompt.skeleton[0, 0], self._shown(original(prediction, noisy, alpha)))

    def dream(self, clip: Clip, number: int) -> Tensor:
        """Dream, truth and prompt side by side: (F, 3, H, 3 W) uint8.

        The dream begins with the clip's first frame where the model is told it or streams, else with noise alone, and
        is denoised without guidance. The truth is what the codec keeps of the recording.
        """
        clean = clip.latents[None].to(self.device)
        dreamt = self._streamed(clip, clean, number) if self.stream else self._at_once(clip, clean, number)
        return _beside(self._shown(dreamt), self._shown(clean), clip.prompt.skeleton[0, 0])

    def _at_once(self, clip: Clip, clean: Tensor, number: int) -> Tensor:
        def predict(latents: Tensor, timestep: int) -> Tensor:
            return self._pass(clip, latents, torch.full(latents.shape[:2], timestep, device=self.device))

        return denoise(self._normals(number, clean.shape[1], clean), predict, self.schedule, self.steps)

    def _streamed(self, clip: Clip, clean: Tensor, number: int) -> Tensor:
        dreamt = clean[:, :1]
        noise = self._normals(number, clean.shape[1], clean)
        for frame in range(1, clean.shape[1]):

            def predict(latents: Tensor, timestep: int, known: Tensor = dreamt) -> Tensor:
                levels = torch.zeros(1, known.shape[1] + 1, dtype=torch.int64, device=self.device)
                levels[:, -1] = timestep
                return self._pass(clip, torch.cat([known, latents], dim=1), levels)[:, -1:]

            new = denoise(noise[:, frame : frame + 1], predict, self.schedule, self.steps)
            dreamt = torch.cat([dreamt, new], dim=1)
        return dreamt

    def _pass(self, clip: Clip, latents: Tensor, levels: Tensor) -> Tensor:
        """The predicted velocity of the clip's first latent frames (1, T, C, h, w), at levels (1, T)."""
        with self.precision():
            prediction: Tensor = self.denoiser(
                latents,
                levels,
                self.text.encode([clip.caption]).to(self.device),
                clip.images[:1][None].to(self.device) if self.denoiser.backbone.config.condition_channels else None,
                clip.prompt.between(0, 1 + FRAMES * (latents.shape[1] - 1)).to(self.device),
                torch.zeros(1, dtype=torch.bool, device=self.device),
                self.stream,
            )
        return prediction

    def _normals(self, number: int, frames: int, like: Tensor, stream: int = _DREAM) -> Tensor:
        shape = (frames, *like.shape[2:])
        noise = standard_normals(torch.tensor([self.seed]), torch.tensor([number]), shape, stream=stream)
        return noise.to(self.device)

    def _shown(self, latents: Tensor) -> Tensor:
        return self.codec.decode(latents)[0].cpu()


def _beside(*films: Tensor) -> Tensor:
    """Films (F, H, W, 3) side by side as one (F, 3, H, sum of W)."""
    return torch.cat(films, dim=2).permute(0, 3, 1, 2)
