"""What may enter a denoising pass, and who says so: a conditioner returns an injection, the backbone applies it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.block import Cross, KeyStream, TokenStream
from vap_sim.models.cogvideox.cache import KeyValueCache, Past
from vap_sim.prompts.visual_prompt import VisualPrompt

if TYPE_CHECKING:
    from vap_sim.models.cogvideox.backbone import Backbone
    from vap_sim.models.cogvideox.codec import Carry, Codec
    from vap_sim.models.cogvideox.text import TextEncoder

Uninstall = Callable[[], None]
"""Undoes an `install`: every name and every output is as it was."""
Prepared = Mapping[str, Tensor]
"""What a conditioner made of a prompt. Every tensor leads with the row axis b; then comes that of the prompt's latent
frames, except in what `prepared` marks: rows to drop, what is carried on, and what lasts a dream."""


@dataclass(frozen=True, eq=False)
class Injection:
    """What is added to one pass through the backbone. With every field empty the pass is diffusers' own.

    channels: (b, T, C', h, w), joined after the channels of the noisy latents; input_add: (b, T P, D), added to the
    video tokens after the patch embedding; residuals: by block number, (b, T P, D), added to the video tokens after
    that block; tokens: by block number, (1 or b, m, D), seen by that block's attention beside the normalised tokens,
    not rotated, then dropped; bias: by number of a block that has tokens, (1 or b, m), added to the logits where video
    queries look at them, or (1 or b, T, m), those of each frame their own, 0 where nothing is given; visible: the same,
    (1 or b, m) bool, False where neither text nor video of a row looks at a token, True where nothing is given; cross:
    by block number, a pure function that is shown the video tokens (b, T P, D) once that block's attention is added,
    and gives what is added to them, of the same shape; stream: a second stream of tokens, or its keys, that some
    blocks' attention joins; cache: keys and values that a conditioner's own blocks collected in this pass, for its next
    call; the backbone does not look at it.

    Raises InvalidInput for a bias that is not as long as its tokens, or what is visible of them.
    """

    channels: Tensor | None = None
    input_add: Tensor | None = None
    residuals: Mapping[int, Tensor] = field(default_factory=dict)
    tokens: Mapping[int, Tensor] = field(default_factory=dict)
    bias: Mapping[int, Tensor] = field(default_factory=dict)
    visible: Mapping[int, Tensor] = field(default_factory=dict)
    cross: Mapping[int, Cross] = field(default_factory=dict)
    stream: TokenStream | KeyStream | None = None
    cache: KeyValueCache | None = None

    def __post_init__(self) -> None:
        for name in ("residuals", "tokens", "bias", "visible", "cross"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        for name, values, axes in (("bias", self.bias, (2, 3)), ("visible", self.visible, (2,))):
            for block, value in values.items():
                tokens = self.tokens.get(block)
                if tokens is None or value.ndim not in axes or value.shape[-1] != tokens.shape[1]:
                    expected = "(1 or b, m) of its m tokens" if tokens is not None else "none: the block has no tokens"
                    raise InvalidInput(f"{name}[{block}] of an injection", tuple(value.shape), expected)


@dataclass(frozen=True, eq=False)
class Noised:
    """The input of one pass, as a conditioner sees it before the backbone does.

    latents: (b, T, C, h, w) noisy, without condition channels; the other fields are the arguments of
    `Backbone.forward`. past, collect: of the conditioner's own cache, if it keeps one, not of the backbone's.
    captioned: False in the pass of guidance whose text is the empty caption.
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
    captioned: bool = True


@dataclass(frozen=True)
class Traits:
    """What a world must know of a conditioner before the first pass. One that has no attribute `traits` has these.

    demonstrated: a demonstration tells it, so that guidance of the reference is about it, if there is any; stream:
    it brings a second stream, of which a backbone joins one at most; whole_clips: why it cannot be told in stream mode,
    or None.
    """

    demonstrated: bool = False
    stream: bool = False
    whole_clips: str | None = None


def traits_of(conditioner: object) -> Traits:
    """The traits of a conditioner."""
    own = getattr(conditioner, "traits", None)
    return own if isinstance(own, Traits) else Traits()


class Conditioner(Protocol):
    """A way to tell the backbone what to do. It returns what to add; it changes nothing while a clip is denoised.

    It has no memory of its own. What later prompts of a dream need, it hands out with what it prepares and is given
    back: features just before the next frame, which a stream keeps, and what lasts, such as a demonstration's features
    or the number of a learned motion, which every mode keeps. See `prepared.with_carry`.
    """

    def install(self, backbone: Backbone) -> Uninstall:
        """Add the parts that live inside the backbone, LoRA for example; the result undoes it."""
        ...

    def prepare(
        self, prompt: VisualPrompt, codec: Codec, carry: Carry | None = None, *, text: TextEncoder | None = None
    ) -> Prepared:
        """What depends on the prompt alone, for every pass of its latent frames: once a step.

        carry: None at a dream's start, where the prompt has 1 + 4 k pixel frames and all that lasts. Later it is what
        was handed out for the prompt before, maybe empty: 4 k pixel frames then go on where those ended; 1 + 4 k begin
        a clip of their own in the same dream, of which only what lasts still holds. text: embeds the captions of a
        demonstration; those of the prompt itself are told by the backbone's own text.

        Raises InvalidInput that names a missing field of the prompt.
        """
        ...

    def inject(self, prepared: Prepared, noised: Noised) -> Injection:
        """What to add in this pass; once a denoising pass, a pure function. Scale 0 gives an empty injection."""
        ...


def combine(injections: Sequence[Injection]) -> Injection:
    """Several injections as one: what is added sums up, channels and tokens are joined in the order given.

    Tokens keep the bias they came with, and who may look at them. Raises InvalidInput if more than one carries a cache,
    since each belongs to its own conditioner, or more than one a stream, since blocks join one at most.
    """
    caches = [one.cache for one in injections if one.cache is not None]
    if len(caches) > 1:
        raise InvalidInput("injections to combine", f"{len(caches)} with a cache", "at most one; keep the others aside")
    streams = [one.stream for one in injections if one.stream is not None]
    if len(streams) > 1:
        raise InvalidInput("injections to combine", f"{len(streams)} with a stream", "at most one")
    channels = [one.channels for one in injections if one.channels is not None]
    added = [one.input_add for one in injections if one.input_add is not None]
    residuals: dict[int, Tensor] = {}
    cross: dict[int, Cross] = {}
    for one in injections:
        for block, value in one.residuals.items():
            residuals[block] = residuals[block] + value if block in residuals else value
        for block, function in one.cross.items():
            cross[block] = _both(cross[block], function) if block in cross else function
    blocks = dict.fromkeys(block for one in injections for block in one.tokens)
    biased = dict.fromkeys(block for one in injections for block in one.bias)
    hidden = dict.fromkeys(block for one in injections for block in one.visible)
    return Injection(
        channels=torch.cat(channels, dim=2) if channels else None,
        input_add=sum(added[1:], start=added[0]) if added else None,
        residuals=residuals,
        tokens={block: _joined([one.tokens[block] for one in injections if block in one.tokens]) for block in blocks},
        bias={block: _biases([_bias_of(one, block) for one in injections if block in one.tokens]) for block in biased},
        visible={
            block: _joined([_seen_of(one, block) for one in injections if block in one.tokens]) for block in hidden
        },
        cross=cross,
        stream=streams[0] if streams else None,
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


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Tensors (1 or b, m, ...) one after the other along m."""
    rows = max(len(part) for part in parts)
    return torch.cat([part.expand(rows, *part.shape[1:]) for part in parts], dim=1)


def _biases(parts: Sequence[Tensor]) -> Tensor:
    """Biases (1 or b, m) or (1 or b, T, m) one after the other along m, all by frame where one is."""
    frames = max((part.shape[1] for part in parts if part.ndim == 3), default=0)
    if not frames:
        return _joined(parts)
    rows = max(len(part) for part in parts)
    by_frame = [part if part.ndim == 3 else part[:, None] for part in parts]
    return torch.cat([part.expand(rows, frames, -1) for part in by_frame], dim=2)


def _bias_of(one: Injection, block: int) -> Tensor:
    tokens = one.tokens[block]
    return one.bias.get(block, tokens.new_zeros(1, tokens.shape[1]))


def _seen_of(one: Injection, block: int) -> Tensor:
    tokens = one.tokens[block]
    return one.visible.get(block, tokens.new_ones(1, tokens.shape[1], dtype=torch.bool))


def _both(first: Cross, second: Cross) -> Cross:
    return lambda video: first(video) + second(video)
