"""The recipe of FlexiAct: tokens of one action from one clip, or the RefAdapter from many, and the paper's settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.cogvideox.sampler import noised, original, velocity
from vap_sim.models.tensor_cache import key_of
from vap_sim.training.diffusion import Batch, DiffusionRecipe, DiffusionTraining
from vap_sim.training.flexiact_clips import CROPS
from vap_sim.training.loop import LoopSettings
from vap_sim.training.noising import velocity_loss
from vap_sim.training.reference_recipe import reference_preset


class FlexiActRecipe(DiffusionRecipe):
    """`DiffusionRecipe` as FlexiAct (arXiv 2505.03730) trains: what takes gradients in backbone and conditioner.

    The loss is the squared error of the clean latents that the prediction means, times 1 / (1 - alpha), which is that
    of the velocity, plus `temporal` times that of sqrt(2) x[k+1] - x[k] for one pair of neighbouring latent frames a
    row, not weighted by the level. any_frame: the picture that a model is told is any frame of the film
    (`Clip.images` after the first), and it takes the place of the first latent frame, in what is shown and in what is
    to be predicted; a row whose picture is left out keeps its own.
    """

    def __init__(self, *parts: Any, temporal: float = 0.0, any_frame: bool = False, **options: Any) -> None:
        """parts, options: as of `DiffusionRecipe`. Raises InvalidInput."""
        super().__init__(*parts, **options)
        self.temporal, self.any_frame = temporal, any_frame
        if not 0 <= temporal < float("inf"):
            raise InvalidInput("weight of the temporal term", temporal, "a number of at least 0, 1 as published")
        if any_frame and not self.config.condition_channels:
            raise InvalidInput(
                "backbone", "one that is told no picture", "an image-to-video model, whose picture varies"
            )
        if any_frame != self.training.noisy_image:
            expected = f"{any_frame}: with any_frame the pictures after the first are other frames, not noisy ones"
            raise InvalidInput("noisy_image of the training", self.training.noisy_image, expected)

    def describe(self) -> Mapping[str, Any]:
        """See the protocol."""
        seen = key_of(clips=[str(getattr(clip, "key", clip)) for one in self.data for clip in one.clips])
        own = {"temporal": self.temporal, "any_frame": self.any_frame, "clips": seen}
        return {**super().describe(), "part": "flexiact", **own}

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See the protocol. Raises BadFile where a cached clip is gone."""
        first = (step * self.team.size + self.team.rank) * self.training.batch
        rows = range(first, first + self.training.batch)
        batch = self.batch(rows)
        alpha = self._alpha(batch.levels, batch.learned)
        shown = noised(batch.clean, batch.noise, alpha)
        with self._precision():
            prediction = self._run(
                shown,
                batch.levels,
                batch.text,
                batch.images,
                batch.prompt,
                batch.uncontrolled,
                self.training.mode != "chunk",
            )
        error = velocity_loss(prediction, velocity(batch.clean, batch.noise, alpha), batch.learned).mean()
        if not self.temporal:
            return error, {"velocity": error.detach()}
        pairs = torch.tensor([self._pair(row, batch.clean.shape[1]) for row in rows])
        change = temporal_error(original(prediction, shown, alpha), batch.clean, pairs.to(shown.device)).mean()
        return error + self.temporal * change, {"velocity": error.detach(), "temporal": change.detach()}

    def batch(self, rows: Sequence[int]) -> Batch:
        """What the rows of these numbers show, on the team's device."""
        batch = super().batch(rows)
        if not self.any_frame or batch.images is None:
            return batch
        told = batch.images.flatten(1).any(dim=1)[:, None, None, None, None]
        begin = torch.where(told, batch.images, batch.clean[:, :1])
        return replace(batch, clean=torch.cat([begin, batch.clean[:, 1:]], dim=1))

    def preview(self, _step: int) -> Mapping[str, Tensor]:
        """A film of each shown clip: a dream from its first picture, and the truth beside it."""
        films = {}
        for number, clip in enumerate(self.shown):
            film = self.previews.dream(clip, number)
            films[f"dreams/{number}"] = film[..., : film.shape[3] * 2 // 3]  # the last third is the prompt, black
        return films

    def _pair(self, row: int, frames: int) -> int:
        return int(np.random.default_rng([self.training.seed, 5, row]).integers(frames - 1))


def temporal_error(expected: Tensor, clean: Tensor, pairs: Tensor) -> Tensor:
    """How wrongly latent frames (b, T, C, h, w) change: (b,), the mean squared error of sqrt(2) x[k+1] - x[k].

    pairs: (b,) int64, the k of each row.
    """
    difference = expected.float() - clean.float()
    rows = torch.arange(len(difference), device=difference.device)
    change = 2**0.5 * difference[rows, pairs + 1] - difference[rows, pairs]
    return change.square().flatten(1).mean(dim=1)


@dataclass(frozen=True)
class FlexiActPreset:
    """How the authors trained a part.

    training, temporal, any_frame: of the recipe; crops, pictures: of a film, see `CropSettings`; weight: of the adapter
    meanwhile; rows: of a step, over all processes; steps: of training; loop: values of `LoopSettings`; otherwise: what
    is done in another way here.
    """

    training: DiffusionTraining
    temporal: float
    any_frame: bool
    crops: int
    pictures: int
    weight: float
    rows: int
    steps: int
    loop: Mapping[str, Any] = field(default_factory=dict)
    otherwise: tuple[str, ...] = ()

    def loop_settings(self, folder: Path, steps: int | None = None, **changes: Any) -> LoopSettings:
        """For the loop. steps: to train for another time, over which the learning rate then falls."""
        count = self.steps if steps is None else steps
        return LoopSettings(folder, count, **{**self.loop, "cooldown": count, **changes})


def _loop(name: str) -> dict[str, Any]:
    """Published values, with the fall of the learning rate as there, and its last weights, which are not averaged."""
    return {**reference_preset(name).loop, "cosine": True, "average": 0.0}


_TOKENS, _ADAPTER = reference_preset("flexiact_tokens"), reference_preset("flexiact_adapter")
PRESETS: Mapping[str, FlexiActPreset] = MappingProxyType(
    {
        "tokens": FlexiActPreset(
            training=_TOKENS.training,
            temporal=1.0,
            any_frame=False,
            crops=CROPS,
            pictures=0,
            weight=0.0,
            rows=_TOKENS.rows,
            steps=3000,
            loop=_loop("flexiact_tokens"),
            otherwise=("1500 to 3000 steps there, by action", "how large the windows are there is not known"),
        ),
        "adapter": FlexiActPreset(
            training=replace(_ADAPTER.training, noisy_image=True),
            temporal=0.0,
            any_frame=True,
            crops=1,
            pictures=16,
            weight=1.0,
            rows=_ADAPTER.rows,
            steps=40_000,
            loop=_loop("flexiact_adapter"),
            otherwise=("the picture is one of 16 frames of a film, drawn once; there it is any of all its frames",),
        ),
    }
)
"""The published settings of both parts: the tokens of an action, and the RefAdapter."""


def flexiact_preset(name: str) -> FlexiActPreset:
    """The published settings of a part: a name of `PRESETS`. Raises UnknownName."""
    if name not in PRESETS:
        raise UnknownName("preset of FlexiAct's training", name, PRESETS)
    return PRESETS[name]
