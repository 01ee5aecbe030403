"""One block of the transformer by hand: dense matrices, softmax written out, every frame modulated on its own."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from tests.models.cogvideox.conftest import PATCHES, WORDS
from vap_sim.models.cogvideox.block import Levels, Tokens
from vap_sim.models.cogvideox.positions import rotate


def split(attention: Any, tokens: Tensor) -> Tensor:
    return tokens.unflatten(2, (attention.heads, -1)).transpose(1, 2)


def asked(attention: Any, tokens: Tensor, rotary: Any = None, text: int = WORDS) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key, value of normalised tokens, text first; the video's turned to their places."""
    query, key = attention.norm_q(split(attention, attention.to_q(tokens))), split(attention, attention.to_k(tokens))
    key, value = attention.norm_k(key), split(attention, attention.to_v(tokens))
    if rotary is not None:
        query, key = (torch.cat([one[:, :, :text], rotate(one[:, :, text:], rotary)], 2) for one in (query, key))
    return query, key, value


def soft(query: Tensor, key: Tensor, value: Tensor, added: Tensor) -> Tensor:
    """Attention (b, n, D) with a dense matrix of numbers (.., queries, keys) added to the logits."""
    logits = query @ key.mT / math.sqrt(query.shape[-1]) + added
    return (logits.softmax(dim=-1) @ value).transpose(1, 2).flatten(2)


def normal(norm: Any, tokens: Tokens, levels: Levels) -> tuple[Tensor, Tensor]:
    """Modulated tokens, text first, and their gates, by the stock norm called once a frame."""
    frames, said = levels.frames, levels.frames if levels.text is None else levels.text
    pieces = tokens.video.split(PATCHES, dim=1)
    of_frame = [frames[:, number] if frames.ndim == 3 else frames for number in range(len(pieces))]
    assert tokens.text is not None
    by_frame = [norm(piece, tokens.text, level) for piece, level in zip(pieces, of_frame, strict=True)]
    heard = norm(pieces[0], tokens.text, said)
    gates = [one[2].expand(-1, PATCHES, -1) for one in by_frame]
    text_gate = heard[3].expand(-1, tokens.text.shape[1], -1)
    return torch.cat([heard[1], *(one[0] for one in by_frame)], 1), torch.cat([text_gate, *gates], 1)


def finish(block: Any, tokens: Tokens, levels: Levels, gates: Tensor, mixed: Tensor, cross: Any = None) -> Tokens:
    """What the block leaves, from what its attention took (b, text then video, D)."""
    assert tokens.text is not None
    joint = torch.cat([tokens.text, tokens.video], 1) + gates * block.attn1.to_out[0](mixed)
    text, video = joint[:, : tokens.text.shape[1]], joint[:, tokens.text.shape[1] :]
    if cross is not None:
        video = video + cross(video)
    inner, gates = normal(block.norm2, Tokens(video, text), levels)
    joint = torch.cat([text, video], 1) + gates * block.ff(inner)
    return Tokens(joint[:, text.shape[1] :], joint[:, : text.shape[1]])


def naive(
    block: Any,
    tokens: Tokens,
    levels: Levels,
    rotary: Any,
    *,
    extra: Tensor | None = None,
    bias: Tensor | None = None,
    cross: Any = None,
) -> Tokens:
    """The block with `extra` tokens (b, m, D) as keys, and a bias (b, m) for the video's queries."""
    inner, gates = normal(block.norm1, tokens, levels)
    query, key, value = asked(block.attn1, inner, rotary)
    added = torch.zeros(len(query), 1, query.shape[2], key.shape[2])
    if extra is not None:
        _, more, worth = asked(block.attn1, extra.expand(len(query), -1, -1))
        key, value = torch.cat([key, more], 2), torch.cat([value, worth], 2)
        columns = torch.zeros(len(query), 1, query.shape[2], extra.shape[1])
        if bias is not None:
            columns[:, :, WORDS:] = bias[:, None, None]
        added = torch.cat([added, columns], 3)
    return finish(block, tokens, levels, gates, soft(query, key, value, added), cross)
