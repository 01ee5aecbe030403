"""FlexiAct: one action, learned offline from one clip, as tokens that every block's attention sees beside the video."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import Carry, Codec
from vap_sim.models.cogvideox.config import ModelConfig
from vap_sim.models.cogvideox.injection import Injection, Noised, Prepared, Uninstall
from vap_sim.models.cogvideox.prepared import KEEP, lasting_of, with_carry
from vap_sim.models.cogvideox.skeleton_control import check_backbone, checked_scale
from vap_sim.models.cogvideox.text import TextEncoder
from vap_sim.models.conditioners.flexiact_adapter import RefAdapter
from vap_sim.models.conditioners.flexiact_bias import NoiseBias
from vap_sim.prompts.visual_prompt import VisualPrompt

TOKENS = 226
"""Learned tokens of a motion in each block, as published: as many as a caption has."""
MOTION = "motion"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_MOST = 65536


class FlexiAct(nn.Module):
    """The conditioner of learned motions, which a prompt names (FlexiAct, arXiv 2505.03730, SIGGRAPH 2025).

    A motion is `m` tokens for each block, zero before training, that the block's attention sees among its normalised
    tokens and then forgets. Zeros are not silence: their keys and values are the layers' biases, which take a small
    share of everybody's attention. Video tokens are drawn to them by a bias that depends on their frame's noise level,
    so clean frames that a stream looks back at are not drawn. Tokens of several motions
    stand side by side. A `RefAdapter` may be part of it: LoRA by which the backbone takes any picture of the actor for
    the first frame.

    backbone: gives the sizes, and is not kept; motions: names of those that can be told, with the number of tokens of
    each, or alone for `TOKENS`; scale: multiplies the tokens, so that from 1 to 0 they go from what was learned to what
    they were before, and exactly 0 adds nothing at all, nor the adapter; alpha, high, low: of the `NoiseBias`; adapter:
    installed with it. Raises InvalidInput.

    A prompt's names hold for all its rows and last until a later prompt of the dream names others; rows of dreams that
    were told differently may share a state.
    """

    def __init__(
        self,
        backbone: Backbone,
        motions: Sequence[str] | Mapping[str, int] = (),
        *,
        scale: float = 1.0,
        alpha: float = 1.0,
        high: float = 800,
        low: float = 700,
        adapter: RefAdapter | None = None,
    ) -> None:
        super().__init__()
        if isinstance(motions, str):
            raise InvalidInput("motions of FlexiAct", repr(motions), f"a sequence of names, such as ({motions!r},)")
        counts = dict(motions) if isinstance(motions, Mapping) else dict.fromkeys(motions, TOKENS)
        if len(counts) < len(motions):
            raise InvalidInput("motions of FlexiAct", tuple(motions), "names that differ")
        self.config: ModelConfig = backbone.config
        self.scale, self.bias = checked_scale(scale), NoiseBias(alpha, high, low)
        self.adapter = adapter
        place = backbone.transformer.patch_embed.proj.weight.device
        self.tokens = LearnedTokens(counts, self.config.blocks, self.config.width, place)

    @property
    def motions(self) -> tuple[str, ...]:
        """The names that can be told."""
        return tuple(self.tokens.counts)

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made with, as plain data: `FlexiAct(backbone, **settings)` has the same tensors' shapes; the
        adapter is apart."""
        told = {"alpha": self.bias.alpha, "high": self.bias.high, "low": self.bias.low}
        return {"motions": dict(self.tokens.counts), "scale": self.scale, **told}

    @property
    def fingerprint(self) -> str:
        """What decides its doing beside the tokens."""
        return f"{self.settings} {self.adapter}"

    def install(self, backbone: Backbone) -> Uninstall:
        """Put the adapter on the backbone, if there is one; see `RefAdapter.install`. Raises InvalidInput."""
        check_backbone(self.config, backbone)
        if self.adapter is None or self.scale == 0:
            return lambda: None
        return self.adapter.install(backbone)

    def prepare(
        self, prompt: VisualPrompt, codec: Codec, carry: Carry | None = None, *, text: TextEncoder | None = None
    ) -> Prepared:
        """Which motions each row is told, which lasts; see `Conditioner.prepare`. Nothing of the prompt else is looked
        at. Raises InvalidInput for a dream that was never told one, UnknownName for one that was not learned."""
        if isinstance(prompt.motion, str) or len(set(prompt.motion)) < len(prompt.motion):
            raise InvalidInput("VisualPrompt.motion", repr(prompt.motion), "a tuple of names that differ")
        for name in prompt.motion:
            if name not in self.motions:
                raise UnknownName("learned motion", name, self.motions)
        if prompt.motion or not self.motions:
            told = torch.tensor([name in prompt.motion for name in self.motions], dtype=torch.bool)
            told = told.to(prompt.skeleton.device).expand(len(prompt), -1).contiguous()
        elif carry is None or MOTION not in carry:
            raise InvalidInput("VisualPrompt.motion", prompt.motion, f"names of learned motions, of {self.motions}")
        else:
            told = carry[MOTION]
        return with_carry({}, {}, {MOTION: told})

    def inject(self, prepared: Prepared, noised: Noised) -> Injection:
        """The tokens of all motions that are told, and their bias where the noise level has one.

        Raises InvalidInput for a prompt of other rows than the latents, or of another conditioner.
        """
        if self.scale == 0 or not self.motions:
            return Injection()
        told = self._told(prepared, len(noised.latents))
        chosen = [name for name, some in zip(self.motions, told.any(dim=0).tolist(), strict=True) if some]
        if not chosen:
            return Injection()
        blocks = self.tokens(chosen).to(noised.latents) * self.scale
        counts = torch.tensor([count if name in chosen else 0 for name, count in self.tokens.counts.items()])
        visible = told.repeat_interleave(counts.to(told.device), dim=1)
        numbers = range(self.config.blocks)
        bias = self._bias(noised)
        return Injection(
            tokens={block: blocks[block][None] for block in numbers},
            bias={} if bias is None else dict.fromkeys(numbers, bias.expand(*bias.shape[:-1], blocks.shape[1])),
            visible={} if bool(visible.all()) else dict.fromkeys(numbers, visible),
        )

    def _told(self, prepared: Prepared, rows: int) -> Tensor:
        """(b, motions) bool: which tokens a row sees."""
        told = lasting_of(prepared).get(MOTION)
        if told is None or told.shape[1] != len(self.motions):
            given = sorted(prepared) if told is None else f"one of {told.shape[1]} motions"
            raise InvalidInput("prepared of FlexiAct", given, f"one of {len(self.motions)}, from its own `prepare`")
        if len(told) != rows:
            raise InvalidInput("rows of the prompt", len(told), f"{rows}, as of the noisy latents")
        kept = prepared.get(KEEP)
        return told if kept is None else told & kept[:, None].to(told.device)

    def _bias(self, noised: Noised) -> Tensor | None:
        """(1 or b, 1), (1 or b, T, 1) where frames have levels of their own, or None at levels without one."""
        values = self.bias.at(noised.timestep)[..., None].to(noised.latents.dtype)
        if values.is_meta:
            return values
        if values.ndim == 3 and bool((values == values[:, :1]).all()):
            values = values[:, 0]
        values = values[:1] if bool((values == values[:1]).all()) else values
        return values if bool(values.any()) else None


class LearnedTokens(nn.Module):
    """Tokens by name. It is called for them, so that what moves a module's weights when it is called moves these.

    counts: tokens of each motion in a block. Raises InvalidInput.
    """

    def __init__(self, counts: Mapping[str, int], blocks: int, width: int, device: torch.device | str = "cpu") -> None:
        super().__init__()
        self.counts = dict(counts)
        for name, count in self.counts.items():
            check_name(name)
            if isinstance(count, bool) or not isinstance(count, int) or not 1 <= count <= _MOST:
                raise InvalidInput(f"tokens of the motion {name!r}", count, f"a whole number from 1 to {_MOST}")
            zeros = torch.zeros(blocks, count, width, device=device)
            self.register_parameter(_key(name), nn.Parameter(zeros))

    def forward(self, names: Sequence[str]) -> Tensor:
        """The tokens of these motions side by side, (blocks, m, D)."""
        found: list[Tensor] = [self.of(name) for name in names]
        return found[0] if len(found) == 1 else torch.cat(found, dim=1)

    def of(self, name: str) -> nn.Parameter:
        """The tokens (blocks, m, D) of one motion."""
        value: nn.Parameter = getattr(self, _key(name))
        return value


def check_name(name: str) -> None:
    """Raise InvalidInput unless a motion may have this name: files and tensors are called by it."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidInput("name of a motion", repr(name), "1 to 64 letters, digits, '_' and '-', not a sign first")


def _key(name: str) -> str:
    return f"motion_{name}"
