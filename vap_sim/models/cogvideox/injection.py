"""What may enter a denoising pass, and who says so: a conditioner returns an injection, the backbone applies it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.cache import KeyValueCache, Past
from vap_sim.prompts.visual_prompt import VisualPrompt

if TYPE_CHECKING:
    from vap_sim.models.cogvideox.backbone import Backbone
    from vap_sim.models.cogvideox.codec import Codec

Uninstall = Callable[[], None]
"""Undoes an `install`: every name and every output is as it was."""
Prepared = Mapping[str, Tensor]
"""What a conditioner made of a prompt; every tensor leads with the row axis b."""


@dataclass(frozen=True, eq=False)
class Injection:
    """What is added to one pass through the backbone. With every field empty the pass is diffusers' own.

    channels: (b, T, C', h, w), joined after the channels of the noisy latents; input_add: (b, T P, D), added to the
    video tokens after the patch embedding; residuals: by block number, (b, T P, D), added to the video tokens after
    that block; tokens: by block number, (1 or b, m, D), seen by that block's attention beside the normalised tokens,
    not rotated, then dropped; cache: keys and values that a conditioner's own blocks collected in this pass, for its
    next call; the backbone does not look at it.
    """

    channels: Tensor | None = None
    input_add: Tensor | None = None
    residuals: Mapping[int, Tensor] = field(default_factory=dict)
    tokens: Mapping[int, Tensor] = field(default_factory=dict)
    cache: KeyValueCache | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "residuals", MappingProxyType(dict(self.residuals)))
        object.__setattr__(self, "tokens", MappingProxyType(dict(self.tokens)))


@dataclass(frozen=True, eq=False)
class Noised:
    """The input of one pass, as a conditioner sees it before the backbone does.

    latents: (b, T, C, h, w) noisy, without condition channels; the other fields are the arguments of
    `Backbone.forward`. past, collect: of the conditioner's own cache, if it keeps one, not of the backbone's.
    """

    latents: Tensor
    timestep: Tensor
    text: Tensor | None
    channels: Tensor | None = None
    text_timestep: Tensor | None = None
    positions: Sequence[int] | Tensor | None = None
    mask: Tensor | None = None
    past: Past | None = None
    collect: bool = False


class Conditioner(Protocol):
    """A way to tell the backbone what to do. It returns what to add; it changes nothing while a clip is denoised."""

    def install(self, backbone: Backbone) -> Uninstall:
        """Add the parts that live inside the backbone, LoRA for example; the result undoes it."""
        ...

    def prepare(self, prompt: VisualPrompt, codec: Codec) -> Prepared:
        """What depends on the prompt alone: once a step or once an episode. Names a missing field of the prompt."""
        ...

    def inject(self, prepared: Prepared, noised: Noised) -> Injection:
        """What to add in this pass; once a denoising pass, a pure function. Scale 0 gives an empty injection."""
        ...


def combine(injections: Sequence[Injection]) -> Injection:
    """Several injections as one: what is added sums up, channels and tokens are joined in the order given.

    Raises InvalidInput if more than one carries a cache, since each belongs to its own conditioner.
    """
    caches = [one.cache for one in injections if one.cache is not None]
    if len(caches) > 1:
        raise InvalidInput("injections to combine", f"{len(caches)} with a cache", "at most one; keep the others aside")
    channels = [one.channels for one in injections if one.channels is not None]
    added = [one.input_add for one in injections if one.input_add is not None]
    residuals: dict[int, Tensor] = {}
    tokens: dict[int, Tensor] = {}
    for one in injections:
        for block, value in one.residuals.items():
            residuals[block] = residuals[block] + value if block in residuals else value
        for block, value in one.tokens.items():
            tokens[block] = _join(tokens[block], value) if block in tokens else value
    return Injection(
        channels=torch.cat(channels, dim=2) if channels else None,
        input_add=sum(added[1:], start=added[0]) if added else None,
        residuals=residuals,
        tokens=tokens,
        cache=caches[0] if caches else None,
    )


def first_frame_channels(latents: Tensor, frames: int) -> Tensor:
    """The condition channels (b, T, C, h, w) of image-to-video: the first frame's latents (b, 1, C, h, w), then zeros.

    frames: T. Raises InvalidInput.
    """
    if latents.ndim != 5 or latents.shape[1] != 1 or frames < 1:
        raise InvalidInput("latents of the first frame", tuple(latents.shape), "(b, 1, C, h, w), for 1 frame or more")
    rest = latents.new_zeros(latents.shape[0], frames - 1, *latents.shape[2:])
    return torch.cat([latents, rest], dim=1)


def _join(first: Tensor, second: Tensor) -> Tensor:
    rows = max(len(first), len(second))
    return torch.cat([first.expand(rows, -1, -1), second.expand(rows, -1, -1)], dim=1)
