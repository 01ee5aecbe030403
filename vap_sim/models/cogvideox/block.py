"""The walk through the transformer's blocks, and what one block can do beyond diffusers' own.

A block stays the object that diffusers made. Only its `forward` is exchanged, so whatever hangs on the block's call
(offload hooks, sharding, compilation, checkpointing) and on its layers (LoRA, quantisation) keeps working.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from vap_sim.models.cogvideox.attention import Asked, Columns, Keys, Rotary, answer, ask, give_back, token_columns
from vap_sim.models.cogvideox.cache import Past

Checkpoint = Callable[..., Any]
Cross = Callable[[Tensor], Tensor]
"""Shown video tokens (b, T P, D), gives what is added to them, of the same shape: a pure function."""


@dataclass(frozen=True, eq=False)
class Tokens:
    """What travels through the blocks. video: (b, T P, D), frame by frame, rows first; text: (b, L, D), or None where
    the text is in the cache."""

    video: Tensor
    text: Tensor | None


@dataclass(frozen=True, eq=False)
class Levels:
    """Embedded noise levels. frames: (b, E), or (b, T, E) where latent frames differ; text: (b, E) of the text tokens,
    or None if it is that of `frames` (b, E)."""

    frames: Tensor
    text: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Shared:
    """What all blocks of a pass share.

    rotary: table of the video tokens or None; mask: (L + T P, L + T P) bool, True where a token may look, or None;
    past: what is attended to beside the pass's own tokens, block by block; collect: whether to hand out keys.
    """

    levels: Levels
    rotary: Rotary | None = None
    mask: Tensor | None = None
    past: Past | None = None
    collect: bool = False


@dataclass(frozen=True, eq=False)
class TokenStream:
    """A second stream of tokens that goes through expert blocks beside the video's, each looking at the other.

    tokens: video (b, n, D) and text (b, m, D) of the stream, embedded, or no text; levels: their noise levels (b, E),
    embedded by the expert; rotary: table of its video tokens, or None; blocks: opened blocks of the expert, by number
    of the backbone's block that each goes beside, with heads as many and as wide. At other blocks the stream rests and
    is not seen; beside the last one its tokens are looked at, but go no further. bias: (1 or b, 1), added to the logits
    where the backbone's tokens look at the stream's; visible: (b,) bool, False for rows whose tokens shall not look
    there at all. Both are None for nothing special.
    """

    tokens: Tokens
    levels: Levels
    rotary: Rotary | None
    blocks: Mapping[int, nn.Module]
    bias: Tensor | None = None
    visible: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "blocks", MappingProxyType(dict(self.blocks)))


@dataclass(frozen=True, eq=False)
class KeyStream:
    """A second stream that looks at nothing but itself, so that its keys are known before the pass.

    keys: by number of a block, keys (b, heads, n, head width), rotated, and values, which that block's text and video
    look at beside their own; bias, visible: as of a `TokenStream`.
    """

    keys: Mapping[int, Keys]
    bias: Tensor | None = None
    visible: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "keys", MappingProxyType(dict(self.keys)))


@dataclass(frozen=True, eq=False)
class Additions:
    """What a walk adds, by number of a block; the fields are those of `Injection`."""

    residuals: Mapping[int, Tensor] = field(default_factory=dict)
    tokens: Mapping[int, Tensor] = field(default_factory=dict)
    bias: Mapping[int, Tensor] = field(default_factory=dict)
    visible: Mapping[int, Tensor] = field(default_factory=dict)
    cross: Mapping[int, Cross] = field(default_factory=dict)
    stream: TokenStream | KeyStream | None = None


@dataclass(frozen=True, eq=False)
class Beside:
    """What one block sees of a second stream: the expert `block` and its tokens, or `keys` that are there already.
    last: whether no later block sees the stream."""

    stream: TokenStream | KeyStream
    tokens: Tokens | None = None
    block: Any = None
    keys: Keys | None = None
    last: bool = False


@dataclass(frozen=True, eq=False)
class BlockExtras:
    """What one block is given beyond diffusers' arguments. past: its keys (b, heads, n, head width), rotated, and
    values; visible: (b, n) bool or None; tokens, bias, shown, cross: of an injection, for this block, what it calls
    visible being `shown`; beside: of a second stream."""

    text_level: Tensor | None = None
    mask: Tensor | None = None
    past: Keys | None = None
    visible: Tensor | None = None
    tokens: Tensor | None = None
    bias: Tensor | None = None
    shown: Tensor | None = None
    cross: Cross | None = None
    beside: Beside | None = None
    collect: bool = False


@dataclass(frozen=True, eq=False)
class Walked:
    """Where the walk stands: tokens after block `index` and its residual; keys: of that block if they were wanted."""

    index: int
    tokens: Tokens
    keys: Keys | None


@dataclass(frozen=True, eq=False)
class _Modulation:
    """Scale, shift and gate of video and text, each to be broadcast over tokens."""

    video: tuple[Tensor, Tensor, Tensor]
    text: tuple[Tensor, Tensor, Tensor]
    frames: int | None = field(default=None)


def open_blocks(blocks: Iterable[nn.Module]) -> None:
    """Let diffusers' `CogVideoXBlock`s take `BlockExtras`, in place; called as before they do what they did before.

    Names, classes, parameters and state dict stay. A deep copy of an opened block is opened. Do it before hooks of
    accelerate are added.
    """
    for block in blocks:
        if getattr(block.forward, "__func__", None) is not _forward:
            block.forward = MethodType(_forward, block)


def walk(
    blocks: Sequence[nn.Module],
    tokens: Tokens,
    shared: Shared,
    additions: Additions | None = None,
    *,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Walked]:
    """Run opened blocks one after the other and stop after each, so that a caller may look, or end the walk early.

    additions: by number of the block in `blocks`; checkpoint: calls a block so that its inner values are computed again
    when gradients are.
    """
    given = additions or Additions()
    aside = given.stream.tokens if isinstance(given.stream, TokenStream) else None
    for index, block in enumerate(blocks):
        extras = _extras(index, tokens, shared, given, aside)
        arguments: tuple[Any, ...] = (tokens.video, tokens.text, shared.levels.frames, shared.rotary, None)
        if extras is not None:
            arguments = (*arguments, extras)
        video, text, *more = block(*arguments) if checkpoint is None else checkpoint(block, *arguments)
        keys, aside = (more[0], more[1] or aside) if more else (None, aside)
        if index in given.residuals:
            video = video + given.residuals[index]
        tokens = Tokens(video, text)
        yield Walked(index, tokens, keys)


def _extras(index: int, tokens: Tokens, shared: Shared, given: Additions, aside: Tokens | None) -> BlockExtras | None:
    levels, past = shared.levels, shared.past
    beside = _beside(index, given.stream, aside)
    plain = levels.frames.ndim == 2 and levels.text is None and shared.mask is None and past is None
    plain = plain and index not in given.tokens and index not in given.cross and beside is None
    if plain and not shared.collect and tokens.text is not None:
        return None
    return BlockExtras(
        text_level=levels.text,
        mask=shared.mask,
        past=None if past is None else (past.keys[:, index], past.values[:, index]),
        visible=None if past is None else past.visible,
        tokens=given.tokens.get(index),
        bias=given.bias.get(index),
        shown=given.visible.get(index),
        cross=given.cross.get(index),
        beside=beside,
        collect=shared.collect,
    )


def _beside(index: int, stream: TokenStream | KeyStream | None, aside: Tokens | None) -> Beside | None:
    if isinstance(stream, KeyStream):
        return Beside(stream, keys=stream.keys[index]) if index in stream.keys else None
    if stream is None or index not in stream.blocks:
        return None
    return Beside(stream, aside, stream.blocks[index], last=index == max(stream.blocks))


def _forward(
    block: Any,
    hidden_states: Tensor,
    encoder_hidden_states: Tensor | None,
    temb: Tensor,
    image_rotary_emb: Rotary | None = None,
    attention_kwargs: dict[str, Any] | None = None,
    extras: BlockExtras | None = None,
) -> Any:
    """What an opened block does when it is called; the names are diffusers', which calls by them."""
    if extras is None:
        return type(block).forward(
            block, hidden_states, encoder_hidden_states, temb, image_rotary_emb, attention_kwargs
        )
    tokens, levels = Tokens(hidden_states, encoder_hidden_states), Levels(temb, extras.text_level)
    asked, first = _asked(block, tokens, levels, image_rotary_emb)
    columns = [Columns(asked.key, asked.value, extras.mask)]
    if extras.past is not None:
        seen = None if extras.visible is None else extras.visible[:, None, None, :]
        columns.insert(0, Columns(*extras.past, seen))
    if extras.tokens is not None:
        columns.append(token_columns(block.attn1, extras.tokens, tokens.video, extras.bias, extras.shown))
    aside = None
    if extras.beside is not None:
        beside = extras.beside
        if beside.tokens is None:
            assert beside.keys is not None, "a stream has tokens or keys"
            columns.append(_seen_beside(beside.stream, beside.keys))
        else:
            stream = beside.stream
            assert isinstance(stream, TokenStream)
            theirs, second = _asked(beside.block, beside.tokens, stream.levels, stream.rotary)
            if not beside.last:
                both = [*columns, Columns(theirs.key, theirs.value)]
                aside = _left(beside.block, beside.tokens, stream.levels, second, theirs, answer(theirs, both))
            columns.append(_seen_beside(stream, (theirs.key, theirs.value)))
    out = _left(block, tokens, levels, first, asked, answer(asked, columns), extras.cross)
    return out.video, out.text, (asked.plain, asked.value) if extras.collect else None, aside


def _seen_beside(stream: TokenStream | KeyStream, keys: Keys) -> Columns:
    """A second stream's keys as the backbone's text and video see them."""
    rows, count = keys[0].shape[0], keys[0].shape[2]
    mask = None if stream.visible is None else stream.visible[:, None, None, None].expand(rows, 1, 1, count)
    return Columns(*keys, mask, bias=None if stream.bias is None else stream.bias.expand(-1, count))


def _asked(block: Any, tokens: Tokens, levels: Levels, rotary: Rotary | None) -> tuple[Asked, _Modulation]:
    """The first norm and what attention is asked by it."""
    first = _modulation(block.norm1, levels.frames, levels.text)
    video = _modulate(block.norm1.norm, tokens.video, first.video, first.frames)
    text = None if tokens.text is None else _modulate(block.norm1.norm, tokens.text, first.text)
    return ask(block.attn1, video, text, rotary), first


def _left(
    block: Any,
    tokens: Tokens,
    levels: Levels,
    first: _Modulation,
    asked: Asked,
    mixed: Tensor,
    cross: Cross | None = None,
) -> Tokens:
    """The tokens a block leaves behind, from what attention took."""
    attended, heard = give_back(block.attn1, mixed, asked.text)
    video = _gated(tokens.video, first.video[2], attended, first.frames)
    text = None if tokens.text is None else _gated(tokens.text, first.text[2], heard)
    if cross is not None:
        video = video + cross(video)
    second = _modulation(block.norm2, levels.frames, levels.text)
    seen = _modulate(block.norm2.norm, video, second.video, second.frames)
    if text is None:
        return Tokens(_gated(video, second.video[2], block.ff(seen), second.frames), None)
    joint = block.ff(torch.cat([_modulate(block.norm2.norm, text, second.text), seen], dim=1))
    video = _gated(video, second.video[2], joint[:, asked.text :], second.frames)
    return Tokens(video, _gated(text, second.text[2], joint[:, : asked.text]))


def _modulation(norm: Any, frames: Tensor, text: Tensor | None) -> _Modulation:
    """frames: (b, E) or (b, T, E); text: (b, E) or None. One call of the layer, whose weights may have to travel."""
    if frames.ndim == 2 and text is None:
        parts = norm.linear(norm.silu(frames)).chunk(6, dim=1)
        video, words = ([part[:, None] for part in half] for half in (parts[:3], parts[3:]))
        return _Modulation(_three(video), _three(words))
    per_frame = frames if frames.ndim == 3 else frames[:, None]
    words_level = frames if text is None else text
    both = norm.linear(norm.silu(torch.cat([per_frame, words_level[:, None]], dim=1)))
    video = both[:, :-1].chunk(6, dim=2)[:3]
    words = both[:, -1:].chunk(6, dim=2)[3:]
    return _Modulation(_three(video), _three(words), frames.shape[1] if frames.ndim == 3 else None)


def _three(parts: Sequence[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    shift, scale, gate = parts
    return scale, shift, gate


def by_frame(tokens: Tensor, frames: int) -> Tensor:
    """Tokens (b, T P, D) seen as (b, T, P, D)."""
    return tokens.reshape(len(tokens), frames, tokens.shape[1] // frames, tokens.shape[2])


def _modulate(
    norm: nn.Module, tokens: Tensor, parts: tuple[Tensor, Tensor, Tensor], frames: int | None = None
) -> Tensor:
    scale, shift, _ = parts
    normal: Tensor = norm(tokens)
    if frames is None:
        return normal * (1 + scale) + shift
    return (by_frame(normal, frames) * (1 + scale[:, :, None]) + shift[:, :, None]).flatten(1, 2)


def _gated(tokens: Tensor, gate: Tensor, update: Tensor, frames: int | None = None) -> Tensor:
    if frames is None:
        return tokens + gate * update
    return tokens + (gate[:, :, None] * by_frame(update, frames)).flatten(1, 2)
