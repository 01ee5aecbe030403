"""Settings of the comparison of demonstrations: what all runs share, and what single systems have for themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from reference_video_systems import BASE

from vap_sim.models.cogvideox.codec import SIDE
from vap_sim.models.cogvideox.config import ModelConfig, tiny_config
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.training.diffusion import DiffusionTraining
from vap_sim.training.loop import LoopSettings

_STEPS: Mapping[str, str] = MappingProxyType(
    {"action_prism": "prism_steps", "video_as_prompt": "expert_steps", "flexiact": "token_steps"}
)
_OTHERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {"action_prism": ("prism_pretraining",), "flexiact": ("token_rate",)}
)
_OF_SYSTEMS = {"references", "guidance"}
"""What matters to one system, and what to all but the model without demonstrations; the rest is for every run."""


@dataclass(frozen=True)
class RunSettings:
    """What all runs of a comparison share.

    frames, side: of clips [px]; steps: of training without demonstrations, and on it of what listens to an action
    prism, which begins from nothing, of an expert, which begins as a copy, and of the tokens of one action;
    prism_pretraining: steps before, in which a prism's encoder learns from pairs alone which films show the same;
    batch, learning_rate, warmup, average, region: of the training (the learning rate falls over its second half);
    token_rate: the learning rate of tokens, which begin at zero and have far to go; references: demonstrations of a
    film to learn from; channels: of a latent frame; heads, head_width, blocks, patch, words: of the network; denoising:
    steps of a dream; guidance: over the demonstration, 1 for none.
    """

    frames: int = 17
    side: int = 64
    steps: int = 10_000
    prism_pretraining: int = 1200
    prism_steps: int = 1200
    expert_steps: int = 6000
    token_steps: int = 400
    batch: int = 8
    learning_rate: float = 2e-3
    token_rate: float = 2e-2
    warmup: int = 50
    average: float = 0.995
    region: float = 3.0
    references: int = 8
    channels: int = 24
    heads: int = 4
    head_width: int = 32
    blocks: int = 4
    patch: int = 2
    words: int = 12
    denoising: int = 10
    guidance: float = 3.0

    def of(self, system: str) -> dict[str, Any]:
        """Those that a run of this system depends on, as plain values."""
        others = {name for one in _STEPS for name in (_STEPS[one], *_OTHERS.get(one, ())) if one != system}
        shared = _OF_SYSTEMS if system == BASE else set()
        return {name: value for name, value in asdict(self).items() if name not in others | shared}

    def steps_of(self, system: str) -> int:
        """Of its training."""
        return self.steps if system == BASE else int(getattr(self, _STEPS[system]))

    @property
    def config(self) -> ModelConfig:
        """Of the network."""
        side = self.side // SIDE
        tiny = tiny_config(
            latent_channels=self.channels, blocks=self.blocks, heads=self.heads, head_width=self.head_width,
            size=(side, side), frames=1 + self.frames // 4, text_length=self.words,
        )  # fmt: skip
        return ModelConfig({**tiny.transformer, "patch_size": self.patch}, vae=tiny.vae)

    @property
    def text(self) -> HashedWords:
        """What reads captions."""
        return HashedWords(self.words, self.config.text_width)

    def training(self, seed: int) -> DiffusionTraining:
        """Of every recipe. Nothing is left out of a row: dreams are not guided by text, and half the captions of the
        model without demonstrations do not name the action anyway."""
        return DiffusionTraining(
            seed=seed, batch=self.batch, region=self.region, caption=0, control=0, image=0, noisy_image=False
        )  # fmt: skip

    def loop(self, folder: Path, steps: int, minutes: float | None, rate: float | None = None) -> LoopSettings:
        """For `train`; no previews. rate: another learning rate."""
        return LoopSettings(
            folder, steps, minutes, self.learning_rate if rate is None else rate, min(self.warmup, steps), steps // 2,
            average=self.average, checkpoint_every=200, log_every=min(20, steps), preview_every=steps + 1,
        )  # fmt: skip
