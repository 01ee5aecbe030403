"""The recipe of CogVideoX: which clips, noise levels and omissions a step sees, and its loss; alone or in a team."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.cogvideox.cache import causal_mask
from vap_sim.models.cogvideox.injection import Conditioner, Injection, Noised, combine, first_frame_channels
from vap_sim.models.cogvideox.prepared import drop_rows
from vap_sim.models.cogvideox.sampler import Schedule, noised, velocity
from vap_sim.models.cogvideox.text import UNCONDITIONAL, TextEncoder
from vap_sim.noise import standard_normals
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.training.clips import Clip, DataSet
from vap_sim.training.loop import plain
from vap_sim.training.mixing import TEMPER, Mixture
from vap_sim.training.noising import MODES, draw_levels, velocity_loss
from vap_sim.training.parallel import ALONE, Team, Trainable
from vap_sim.training.previews import Previews

if TYPE_CHECKING:
    from vap_sim.models.cogvideox.backbone import Backbone
    from vap_sim.models.cogvideox.codec import Codec

PRECISIONS = ("fp32", "bf16")
PREVIEW_STEPS = 10


@dataclass(frozen=True)
class DiffusionTraining:
    """Settings of the recipe. Raises InvalidInput, UnknownName.

    seed: of everything random; batch: rows of a process; mode, shift: which frames are noisy, and how much
    (`noising.draw_levels`); power: tempers sizes of data sets (`mixing.shares`); region: the error near the robot
    counts so many times; caption, control, image: shares of rows without that; noisy_image: the first frame comes with
    noise, where a model is told it; precision: "bf16" computes so, weights that are trained stay in their own type.
    """

    seed: int = 0
    batch: int = 1
    mode: str = "chunk"
    shift: float = 1.0
    power: float = TEMPER
    region: float = 3.0
    caption: float = 0.1
    control: float = 0.1
    image: float = 0.05
    noisy_image: bool = True
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UnknownName("mode of training", self.mode, MODES)
        if self.precision not in PRECISIONS:
            raise UnknownName("precision of training", self.precision, PRECISIONS)
        if self.batch < 1 or not self.region >= 1:
            given = (self.batch, self.region)
            raise InvalidInput("batch and weight of the region", given, "1 row or more, 1 or more (2 to 5 is usual)")
        if not 0.05 <= self.shift <= 20:
            raise InvalidInput("shift of noise levels", self.shift, "0.05 to 20; 1 draws all levels alike")
        omitted = (self.caption, self.control, self.image)
        if not all(0 <= share <= 1 for share in omitted):
            raise InvalidInput("shares of rows without caption, control, image", omitted, "numbers from 0 to 1")


@dataclass(frozen=True, eq=False)
class Batch:
    """b rows at one step: clean latents and noise (b, T, C, h, w), levels (b, T) int64, learned (b, T) bool, images
    (b, 1, C, h, w) or None, weight (b, T, h, w), text (b, L, width), the prompt, and uncontrolled (b,) bool."""

    clean: Tensor
    noise: Tensor
    levels: Tensor
    learned: Tensor
    images: Tensor | None
    weight: Tensor
    text: Tensor
    prompt: VisualPrompt
    uncontrolled: Tensor


class Denoiser(nn.Module):
    """The backbone and its control in one call, for DDP and FSDP, which see to a module when it is called."""

    def __init__(
        self, backbone: Backbone, control: Conditioner | None, codec: Codec, text: TextEncoder | None = None
    ) -> None:
        """control: a module too, if it is to be trained; text: what conditioners embed captions with."""
        super().__init__()
        self.backbone, self.control = backbone, control
        self._frozen = codec, text  # in a tuple: their weights are no part of what is trained

    @property
    def units(self) -> Sequence[nn.Module]:
        """Parts to gather one at a time where weights are split: all blocks."""
        branch = getattr(self.control, "branch", None)
        return [*self.backbone.blocks, *(branch.blocks if branch is not None else ())]

    def forward(
        self,
        latents: Tensor,
        levels: Tensor,
        text: Tensor,
        images: Tensor | None,
        prompt: VisualPrompt,
        uncontrolled: Tensor,
        stream: bool,
    ) -> Tensor:
        """The predicted velocity (b, T, C, h, w) float32; arguments as in `Batch`.

        stream: as in a stream, frames look at earlier ones alone, and text has level 0.
        """
        frames = latents.shape[1]
        channels = None if images is None else first_frame_channels(images, frames)
        mask, told_at = None, None
        if stream:
            patches = latents.shape[3] * latents.shape[4] // self.backbone.config.patch**2
            mask = causal_mask([1] * frames, patches, text.shape[1], latents.device)
            told_at = torch.zeros_like(levels[:, 0])
        noisy = Noised(latents, levels if stream else levels[:, 0], text, channels, told_at, mask=mask)
        added = [Injection(channels=channels)]
        if self.control is not None:
            codec, words = self._frozen
            prepared = drop_rows(self.control.prepare(prompt, codec, text=words), uncontrolled)
            added.append(self.control.inject(prepared, noisy))
        prediction: Tensor = self.backbone(
            latents, noisy.timestep, text, combine(added), text_timestep=told_at, mask=mask
        )
        return prediction.float()


class DiffusionRecipe:
    """Feeds `loop.train` with clips; see `loop.Recipe`. What takes gradients in backbone and control is trained.

    data: sets to mix; shown: clips for the preview, not trained on; schedule: of the backbone; text: best a
    `latents.CachedText`; preview_steps: of denoising in the previews' dreams; team: of processes.

    Row n of the run shows clip `Mixture.pick(n)`, and its levels, noise and omissions follow from (seed, n), so neither
    a kill nor the number of processes changes what is learned. LoRA must be on the backbone already, without dropout,
    which would break that. Raises InvalidInput for clips that do not fit the model.
    """

    def __init__(
        self,
        backbone: Backbone,
        control: Conditioner | None,
        codec: Codec,
        text: TextEncoder,
        schedule: Schedule,
        data: Sequence[DataSet],
        training: DiffusionTraining,
        *,
        shown: Sequence[Clip] = (),
        preview_steps: int = PREVIEW_STEPS,
        team: Team = ALONE,
    ) -> None:
        self.mixture = Mixture(tuple(len(one.clips) for one in data), training.power, training.seed)
        self.data, self.training, self.schedule, self.team = tuple(data), training, schedule, team
        self.text, self.shown = text, tuple(shown)
        self.config = backbone.config
        _check(data[0].clips[0].load(), self.config.latent_channels)
        self.denoiser = Denoiser(backbone, control, codec, text).to(team.device)
        self._run = team.wrap(self.denoiser, self.denoiser.units)
        self.network = Trainable(self.denoiser)
        self.previews = Previews(
            self.denoiser,
            codec,
            text,
            schedule,
            self._precision,
            team.device,
            stream=training.mode != "chunk",
            steps=preview_steps,
            seed=training.seed,
        )

    def describe(self) -> Mapping[str, Any]:
        settings = {name: value for name, value in asdict(self.training).items() if name != "batch"}
        return dict(
            plain(
                {
                    "part": "diffusion",
                    **settings,
                    "rows": self.training.batch * self.team.size,
                    "data": {one.name: len(one.clips) for one in self.data},
                    "trained": sum(value.numel() for value in self.network.parameters()),
                }
            )
        )

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See the protocol. Raises BadFile where a cached clip is gone."""
        first = (step * self.team.size + self.team.rank) * self.training.batch
        batch = self.batch(range(first, first + self.training.batch))
        alpha = self._alpha(batch.levels, batch.learned)
        with self._precision():
            prediction = self._run(
                noised(batch.clean, batch.noise, alpha),
                batch.levels,
                batch.text,
                batch.images,
                batch.prompt,
                batch.uncontrolled,
                self.training.mode != "chunk",
            )
        target = velocity(batch.clean, batch.noise, alpha)
        rows = velocity_loss(prediction, target, batch.learned, batch.weight)
        bare = velocity_loss(prediction.detach(), target, batch.learned)
        return rows.mean(), {"unweighted": bare.mean()}

    def batch(self, rows: Sequence[int]) -> Batch:
        """What the rows of these numbers show, on the team's device."""
        clips, levels, learned, images, captions, alone = [], [], [], [], [], []
        for row in rows:
            which, index = self.mixture.pick(row)
            clip = self.data[which].clips[index].load()
            rng = np.random.default_rng([self.training.seed, 3, row])
            level, noisy = draw_levels(
                rng, self.training.mode, len(clip.latents), self.schedule.length, self.training.shift
            )
            chosen = int(rng.integers(1, len(clip.images))) if self.training.noisy_image else 0
            without = rng.uniform(size=3) < (self.training.caption, self.training.control, self.training.image)
            clips.append(clip)
            levels.append(level)
            learned.append(noisy)
            captions.append(UNCONDITIONAL if without[0] else clip.caption)
            alone.append(bool(without[1]))
            images.append(clip.images[chosen : chosen + 1] * float(not without[2]))
        clean = torch.stack([clip.latents for clip in clips])
        keys = torch.full((len(rows),), self.training.seed)
        noise = standard_normals(keys, torch.tensor(list(rows)), tuple(clean.shape[1:]))
        region = torch.stack([clip.region for clip in clips])
        device = self.team.device
        return Batch(
            clean=clean.to(device),
            noise=noise.to(device),
            levels=torch.stack(levels).to(device),
            learned=torch.stack(learned).to(device),
            images=torch.stack(images).to(device) if self.config.condition_channels else None,
            weight=(1 + (self.training.region - 1) * region).to(device),
            text=self.text.encode(captions).to(device),
            prompt=VisualPrompt.cat([clip.prompt for clip in clips]).to(device),
            uncontrolled=torch.tensor(alone, device=device),
        )

    def preview(self, _step: int) -> Mapping[str, Tensor]:
        """Two films of each shown clip, a guess (`clips`) and a dream (`dreams`): see `Previews`."""
        films = {}
        for number, clip in enumerate(self.shown):
            films[f"clips/{number}"] = self.previews.guess(clip, number)
            films[f"dreams/{number}"] = self.previews.dream(clip, number)
        return films

    def _alpha(self, levels: Tensor, learned: Tensor) -> Tensor:
        """Share of the signal (b, T): all of it in frames that are given."""
        alpha = self.schedule.alpha(levels)
        return torch.where(learned, alpha, torch.ones_like(alpha))

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.team.device.type, torch.bfloat16, enabled=self.training.precision == "bf16")


def _check(clip: Clip, channels: int) -> None:
    if clip.latents.shape[1] != channels:
        raise InvalidInput("latent channels of the clips", clip.latents.shape[1], f"{channels}, as the model has")
