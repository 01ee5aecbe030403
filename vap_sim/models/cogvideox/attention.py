"""Joint attention of one block: whose queries look at which keys, and the numbers added where one group looks at one.

Nothing here makes a matrix of all queries by all keys for a clip whose frames have one noise level: a bias is a row of
numbers, one a key, which text, video and a second stream's tokens see or do not see, so queries are asked group by
group where they differ. Frames with levels of their own, as of a stream, have a mask of that size anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vap_sim.models.cogvideox.positions import rotate

Rotary = tuple[Tensor, Tensor]
Keys = tuple[Tensor, Tensor]
"""Keys, not rotated, and values of one block, each (b, heads, L + T P, head width): what `KeyValueCache` stores."""


@dataclass(frozen=True, eq=False)
class Asked:
    """What one stream's tokens ask and answer: query, key, value, each (b, heads, text then video, head width), query
    and key rotated; plain: the keys before that; text: how many tokens are text."""

    query: Tensor
    key: Tensor
    value: Tensor
    plain: Tensor
    text: int


@dataclass(frozen=True, eq=False)
class Columns:
    """Keys and values that a block's text and video look at.

    mask: True where it may be looked at, (queries, keys) or (b, 1, 1, keys) bool, or None for all; video_bias: (1 or b,
    keys) or (1 or b, video queries, keys) added to the logits of video queries alone; bias: (1 or b, keys) added for
    text queries too.
    """

    key: Tensor
    value: Tensor
    mask: Tensor | None = None
    video_bias: Tensor | None = None
    bias: Tensor | None = None


def ask(attention: Any, video: Tensor, text: Tensor | None, rotary: Rotary | None) -> Asked:
    """Queries, keys and values of normalised tokens, by a diffusers attention layer; text tokens are not rotated."""
    length = 0 if text is None else text.shape[1]
    joint = video if text is None else torch.cat([text, video], dim=1)
    query = _normal(attention.norm_q, _heads(attention, attention.to_q(joint)))
    key = _normal(attention.norm_k, _heads(attention, attention.to_k(joint)))
    value = _heads(attention, attention.to_v(joint))
    plain = key
    if rotary is not None:
        query = torch.cat([query[:, :, :length], rotate(query[:, :, length:], rotary)], dim=2)
        key = torch.cat([key[:, :, :length], rotate(key[:, :, length:], rotary)], dim=2)
    return Asked(query, key, value, plain, length)


def token_columns(
    attention: Any, tokens: Tensor, video: Tensor, bias: Tensor | None = None, visible: Tensor | None = None
) -> Columns:
    """Tokens (1 or b, m, D) of an injection as keys, not rotated, of a block with video tokens (b, T P, D).

    bias: (1 or b, m) for the video's queries, or (1 or b, T, m); visible: (1 or b, m) bool, False where no query of the
    row may look.
    """
    rows, queries = video.shape[:2]
    if bias is not None and bias.ndim == 3:
        bias = bias.repeat_interleave(queries // bias.shape[1], dim=1)
    added = tokens.expand(rows, -1, -1)
    key = _normal(attention.norm_k, _heads(attention, attention.to_k(added)))
    mask = None if visible is None else visible[:, None, None, :]
    return Columns(key, _heads(attention, attention.to_v(added)), mask, video_bias=bias)


def answer(asked: Asked, columns: Sequence[Columns]) -> Tensor:
    """What text and video take from the columns, heads joined: (b, text then video, D)."""
    if all(one.video_bias is None for one in columns):
        return _look(asked.query, columns, slice(None), video=False)
    text, video = slice(None, asked.text), slice(asked.text, None)
    parts = [_look(asked.query[:, :, video], columns, video, video=True)]
    if asked.text:
        parts.insert(0, _look(asked.query[:, :, text], columns, text, video=False))
    return torch.cat(parts, dim=1)


def give_back(attention: Any, mixed: Tensor, text: int) -> tuple[Tensor, Tensor]:
    """The layer's output for video and for text, of what `answer` took."""
    mixed = attention.to_out[1](attention.to_out[0](mixed))
    return mixed[:, text:], mixed[:, :text]


def _look(query: Tensor, columns: Sequence[Columns], asking: slice, *, video: bool) -> Tensor:
    """Attention of some queries, those that `asking` picks of all, to the columns."""
    mixed = F.scaled_dot_product_attention(
        query,
        torch.cat([one.key.to(query.dtype) for one in columns], dim=2),
        torch.cat([one.value.to(query.dtype) for one in columns], dim=2),
        attn_mask=_weights(query, columns, asking, video=video),
    )
    return mixed.transpose(1, 2).flatten(2)


def _weights(query: Tensor, columns: Sequence[Columns], asking: slice, *, video: bool) -> Tensor | None:
    """Masks and biases of the columns side by side; None where everything may be looked at alike."""
    rows, news = query.shape[0], query.shape[2]
    visible = _visible(columns, rows, news, asking)
    biases = [_sum(one.bias, one.video_bias if video else None) for one in columns]
    if all(bias is None for bias in biases):
        return visible
    whole = max(1 if bias is None else len(bias) for bias in biases)
    asked = max(1 if bias is None or bias.ndim == 2 else bias.shape[1] for bias in biases)
    parts = [
        (query.new_zeros(1, 1, one.key.shape[2]) if bias is None else _by_query(bias).to(query)).expand(
            whole, asked, -1
        )
        for one, bias in zip(columns, biases, strict=True)
    ]
    added = torch.cat(parts, dim=2)[:, None]
    return added if visible is None else torch.where(visible, added, -torch.inf)


def _visible(columns: Sequence[Columns], rows: int, news: int, asking: slice) -> Tensor | None:
    """(b or 1, 1, queries or 1, all keys) bool; None where everything may be looked at."""
    masks = [one.mask for one in columns]
    if all(mask is None for mask in masks):
        return None
    rows = rows if any(mask is not None and mask.ndim == 4 for mask in masks) else 1
    news = news if any(mask is not None and mask.ndim == 2 for mask in masks) else 1
    parts = []
    for one in columns:
        whole = one.key.new_ones((), dtype=torch.bool) if one.mask is None else one.mask
        parts.append((whole[asking] if whole.ndim == 2 else whole).expand(rows, 1, news, one.key.shape[2]))
    return torch.cat(parts, dim=3)


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second if first.ndim == second.ndim else _by_query(first) + _by_query(second)


def _by_query(bias: Tensor) -> Tensor:
    """(n, 1 or queries, keys)."""
    return bias if bias.ndim == 3 else bias[:, None]


def _heads(attention: Any, tokens: Tensor) -> Tensor:
    return tokens.reshape(*tokens.shape[:2], attention.heads, -1).transpose(1, 2)


def _normal(norm: Any, values: Tensor) -> Tensor:
    return values if norm is None else norm(values)
