"""The walk through the transformer's blocks, and what one block can do beyond diffusers' own.

A block stays the object that diffusers made. Only its `forward` is exchanged, so whatever hangs on the block's call
(offload hooks, sharding, compilation, checkpointing) and on its layers (LoRA, quantisation) keeps working.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vap_sim.models.cogvideox.cache import Past
from vap_sim.models.cogvideox.positions import rotate

Rotary = tuple[Tensor, Tensor]
Keys = tuple[Tensor, Tensor]
"""Keys, not rotated, and values of one block, each (b, heads, L + T P, head width): what `KeyValueCache` stores."""
Checkpoint = Callable[..., Any]


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
class BlockExtras:
    """What one block is given beyond diffusers' arguments. past: its keys (b, heads, n, head width), rotated, and
    values; visible: (b, n) bool or None; tokens: (1 or b, m, D) of an injection."""

    text_level: Tensor | None = None
    mask: Tensor | None = None
    past: Keys | None = None
    visible: Tensor | None = None
    tokens: Tensor | None = None
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
    *,
    residuals: Mapping[int, Tensor] | None = None,
    extra: Mapping[int, Tensor] | None = None,
    checkpoint: Checkpoint | None = None,
) -> Iterator[Walked]:
    """Run opened blocks one after the other and stop after each, so that a caller may look, or end the walk early.

    residuals: by number of the block in `blocks`, (b, T P, D), added after it; extra: the same, tokens for its
    attention; checkpoint: calls a block so that its inner values are computed again when gradients are.
    """
    for index, block in enumerate(blocks):
        extras = _extras(index, tokens, shared, (extra or {}).get(index))
        arguments: tuple[Any, ...] = (tokens.video, tokens.text, shared.levels.frames, shared.rotary, None)
        if extras is not None:
            arguments = (*arguments, extras)
        result = block(*arguments) if checkpoint is None else checkpoint(block, *arguments)
        video, text = result[0], result[1]
        if residuals is not None and index in residuals:
            video = video + residuals[index]
        tokens = Tokens(video, text)
        yield Walked(index, tokens, result[2] if len(result) > 2 else None)


def _extras(index: int, tokens: Tokens, shared: Shared, extra: Tensor | None) -> BlockExtras | None:
    levels, past = shared.levels, shared.past
    plain = levels.frames.ndim == 2 and levels.text is None and shared.mask is None and past is None
    if plain and extra is None and not shared.collect and tokens.text is not None:
        return None
    return BlockExtras(
        text_level=levels.text,
        mask=shared.mask,
        past=None if past is None else (past.keys[:, index], past.values[:, index]),
        visible=None if past is None else past.visible,
        tokens=extra,
        collect=shared.collect,
    )


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
    video, text = hidden_states, encoder_hidden_states
    first = _modulation(block.norm1, temb, extras.text_level)
    attended, heard, keys = _attend(
        block.attn1,
        _modulate(block.norm1.norm, video, first.video, first.frames),
        None if text is None else _modulate(block.norm1.norm, text, first.text),
        image_rotary_emb,
        extras,
    )
    video = _gated(video, first.video[2], attended, first.frames)
    text = None if text is None else _gated(text, first.text[2], heard)

    second = _modulation(block.norm2, temb, extras.text_level)
    seen = _modulate(block.norm2.norm, video, second.video, second.frames)
    if text is None:
        return _gated(video, second.video[2], block.ff(seen), second.frames), None, keys
    joint = block.ff(torch.cat([_modulate(block.norm2.norm, text, second.text), seen], dim=1))
    length = text.shape[1]
    video = _gated(video, second.video[2], joint[:, length:], second.frames)
    return video, _gated(text, second.text[2], joint[:, :length]), keys


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


def _attend(
    attention: Any, video: Tensor, text: Tensor | None, rotary: Rotary | None, extras: BlockExtras
) -> tuple[Tensor, Tensor, Keys | None]:
    """Joint attention of text and video, over the past and the extra tokens too. Returns video, text, keys."""
    length = 0 if text is None else text.shape[1]
    joint = video if text is None else torch.cat([text, video], dim=1)
    query = _normal(attention.norm_q, _heads(attention, attention.to_q(joint)))
    key = _normal(attention.norm_k, _heads(attention, attention.to_k(joint)))
    value = _heads(attention, attention.to_v(joint))
    own = (key, value) if extras.collect else None
    if rotary is not None:
        query = torch.cat([query[:, :, :length], rotate(query[:, :, length:], rotary)], dim=2)
        key = torch.cat([key[:, :, :length], rotate(key[:, :, length:], rotary)], dim=2)

    keys, values, masks = [key], [value], [extras.mask]
    rows, news = query.shape[0], query.shape[2]
    if extras.past is not None:
        keys.insert(0, extras.past[0])
        values.insert(0, extras.past[1])
        masks.insert(0, None if extras.visible is None else extras.visible[:, None, None, :])
    if extras.tokens is not None:
        added = extras.tokens.expand(rows, -1, -1)
        keys.append(_normal(attention.norm_k, _heads(attention, attention.to_k(added))))
        values.append(_heads(attention, attention.to_v(added)))
        masks.append(None)
    mixed = F.scaled_dot_product_attention(
        query, torch.cat(keys, dim=2), torch.cat(values, dim=2), attn_mask=_mask(keys, masks, rows, news)
    )
    mixed = mixed.transpose(1, 2).reshape(rows, news, -1)
    mixed = attention.to_out[1](attention.to_out[0](mixed))
    return mixed[:, length:], mixed[:, :length], own


def _mask(keys: Sequence[Tensor], masks: Sequence[Tensor | None], rows: int, news: int) -> Tensor | None:
    """The parts' masks side by side, (b or 1, 1, queries, all keys) bool; None where everything may be looked at."""
    if all(mask is None for mask in masks):
        return None
    rows = rows if any(mask is not None and mask.ndim == 4 for mask in masks) else 1
    parts = []
    for key, mask in zip(keys, masks, strict=True):
        whole = key.new_ones((), dtype=torch.bool) if mask is None else mask
        parts.append(whole.expand(rows, 1, news, key.shape[2]))
    return torch.cat(parts, dim=3)


def _heads(attention: Any, tokens: Tensor) -> Tensor:
    return tokens.reshape(*tokens.shape[:2], attention.heads, -1).transpose(1, 2)


def _normal(norm: Any, values: Tensor) -> Tensor:
    return values if norm is None else norm(values)
