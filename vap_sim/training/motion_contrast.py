"""Before a prism is listened to: films of one action are to become like motion tokens, films of others unlike ones.

A prism begins from nothing, and in a denoiser's error, which is all that AICL's training tells it, looks weigh far more
than which action it is. Pairs say more: a film and its demonstration show the same action, in other scenes and by other
cameras. Their tokens are brought together and those of the other films of a batch kept apart (InfoNCE, van den Oord et
al., arXiv 1807.03748; both ways, as in CLIP, Radford et al., arXiv 2103.00020). No denoiser takes part, and where one
trains the listeners afterwards the encoder is best left as it is: its gradient undoes in a few thousand steps what was
learned (docs/experiments.md). This stage is ours, not AICL's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vap_sim.errors import InvalidInput
from vap_sim.training.loop import LoopSettings, plain, train
from vap_sim.training.parallel import ALONE, Team

if TYPE_CHECKING:
    from vap_sim.models.cogvideox.codec import Codec
    from vap_sim.models.cogvideox.text import TextEncoder
    from vap_sim.models.conditioners.action_prism import ActionPrism
    from vap_sim.training.clips import Clip, DataSet


RATE = 2e-3
"""Learning rate of `pretrain`."""


@dataclass(frozen=True)
class ContrastTraining:
    """Settings. pairs: in a batch, each against all others; temperature: the smaller, the more the nearest others
    count; seed: of the batches. Raises InvalidInput."""

    pairs: int = 32
    temperature: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pairs < 2 or not 0.001 <= self.temperature <= 10:
            given = f"{self.pairs} pairs, temperature {self.temperature}"
            raise InvalidInput("contrast of motions", given, "at least 2 pairs and a temperature of 0.001 to 10")


class MotionContrast:
    """Feeds `loop.train` with pairs for a prism's encoder; see `loop.Recipe`.

    data: of `PairedClip`s, or clips with a demonstration otherwise; the target's latents stand for it as they are, so
    it must have as many latent frames as the prism reads. Every film is read with its own caption for both that the
    prism is told: with the target's for both, the captions alone would tell which belong together. Raises InvalidInput
    for clips without demonstration or of other lengths.
    """

    def __init__(
        self, prism: ActionPrism, codec: Codec, text: TextEncoder, data: DataSet, training: ContrastTraining
    ) -> None:
        self.prism, self.codec, self.text, self.data, self.training = prism, codec, text, data, training
        self.network: nn.Module = prism.encoder
        first = data.clips[0].load()
        if first.prompt.reference is None:
            raise InvalidInput(f"clips of {data.name!r}", "no demonstration in their prompts", "pairs")
        if len(first.latents) != prism.sizes.frames:
            expected = f"{prism.sizes.frames}, as the prism reads"
            raise InvalidInput(f"latent frames of clips of {data.name!r}", len(first.latents), expected)

    def describe(self) -> Mapping[str, Any]:
        """See the protocol."""
        sizes = asdict(self.prism.sizes)
        return dict(plain({"part": "contrast", **asdict(self.training), "prism": sizes, "data": len(self.data.clips)}))

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of a batch of pairs, and the share of films that are most like their own demonstration."""
        rng = np.random.default_rng([self.training.seed, 41, step])
        clips = [self.data.clips[int(k)].load() for k in rng.integers(len(self.data.clips), size=self.training.pairs)]
        likeness = self.of_targets(clips) @ self.of_demonstrations(clips).T / self.training.temperature
        own = torch.arange(len(clips), device=likeness.device)
        loss = (F.cross_entropy(likeness, own) + F.cross_entropy(likeness.T, own)) / 2
        return loss, {"right": (likeness.detach().argmax(1) == own).float().mean()}

    def of_targets(self, clips: Sequence[Clip]) -> Tensor:
        """What the prism makes of the films (n, tokens x width) themselves, of length 1."""
        return self._seen(torch.stack([clip.latents for clip in clips]), [clip.caption for clip in clips])

    def of_demonstrations(self, clips: Sequence[Clip]) -> Tensor:
        """The same of the first demonstration of each."""
        shown = [clip.prompt.reference for clip in clips]
        films = torch.cat([one.frames for one in shown if one is not None])
        latents = self.codec.encode(films.to(self.prism.encoder.enter.weight.device))
        return self._seen(latents, [text for one in shown if one is not None for text in one.text or ("",)])

    def preview(self, _step: int) -> Mapping[str, Tensor]:
        """Nothing to look at."""
        return {}

    def _seen(self, latents: Tensor, captions: Sequence[str]) -> Tensor:
        weight = self.prism.encoder.enter.weight
        words = self.text.encode(list(captions)).to(weight)
        tokens = self.prism.motion(latents.to(weight), torch.cat([words, words], dim=1))
        return F.normalize(tokens.flatten(1), dim=1)


def pretrain(
    contrast: MotionContrast,
    folder: Path,
    steps: int,
    *,
    checkpoint_every: int = 250,
    log_every: int = 10,
    team: Team = ALONE,
) -> None:
    """Train a prism's encoder, and leave it as it is for what follows: the denoiser's error would undo what it learned.

    folder: of checkpoints, from which a killed run goes on. Every process of a team learns the same from the same
    batches. Raises what `train` does.
    """
    settings = LoopSettings(
        folder,
        steps,
        learning_rate=RATE,
        warmup=min(50, steps),
        cooldown=steps // 2,
        checkpoint_every=checkpoint_every,
        preview_every=steps + 1,
        log_every=log_every,
    )
    contrast.network.load_state_dict(train(contrast, settings, team).weights)
    contrast.network.requires_grad_(False)
