"""A FlexiAct whose tokens say something, and the dense attention of the paper that it must equal."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.cogvideox.conftest import FRAMES, SIZE
from tests.models.cogvideox.control_tools import prompt as drawn
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.injection import Noised
from vap_sim.models.cogvideox.positions import rotate
from vap_sim.models.conditioners.flexiact import FlexiAct
from vap_sim.prompts.visual_prompt import VisualPrompt

COUNTS = {"wave": 5, "lift": 3, "turn": 4}


def small_flexiact(backbone: Backbone, **settings: Any) -> FlexiAct:
    """Three motions with random tokens."""
    return fill(FlexiAct(backbone, **{"motions": COUNTS, **settings}))


def fill(conditioner: FlexiAct, seed: int = 7) -> FlexiAct:
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in conditioner.parameters():
            value.copy_(torch.randn(value.shape, generator=source))
    return conditioner.requires_grad_(False)


def told(*motion: str, rows: int = 2, frames: int = 1 + 4 * (FRAMES - 1)) -> VisualPrompt:
    return VisualPrompt(drawn(frames, rows).skeleton, motion=motion)


def dense(backbone: Backbone, given: Noised, tokens: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    """diffusers' forward with all queries and keys in one matrix: text, learned tokens (blocks, m, D), video.

    As published: the learned tokens ask too, and what they are answered is thrown away. bias: (b,) or () added where
    video looks at learned tokens.
    """
    assert given.channels is not None and given.text is not None
    latents = torch.cat([given.latents, given.channels], dim=2)
    rows, length = len(latents), given.text.shape[1]
    own = backbone.transformer
    levels = backbone.levels(given.timestep, latents.dtype)
    state = backbone.embed(latents, given.text)
    video, text = state.video, state.text
    rotary = backbone.rotary(SIZE, latents.shape[1])
    added = torch.zeros(()) if bias is None else bias
    for number, block in enumerate(own.transformer_blocks):
        seen, heard, gate, text_gate = block.norm1(video, text, levels.frames)
        learned = seen[:, :0] if tokens is None else tokens[number].expand(rows, -1, -1)
        count = learned.shape[1]
        joint = torch.cat([heard, learned, seen], dim=1)
        attention = block.attn1
        query, key, value = (
            layer(joint).unflatten(2, (attention.heads, -1)).transpose(1, 2)
            for layer in (attention.to_q, attention.to_k, attention.to_v)
        )
        query, key = attention.norm_q(query), attention.norm_k(key)
        at = length + count
        if rotary is not None:
            query, key = (torch.cat([x[:, :, :at], rotate(x[:, :, at:], rotary)], dim=2) for x in (query, key))
        logits = query @ key.transpose(2, 3) / key.shape[3] ** 0.5
        matrix = torch.zeros(rows, 1, joint.shape[1], joint.shape[1])
        matrix[:, :, at:, length:at] = added.reshape(-1, 1, 1, 1)
        mixed = F.softmax(logits + matrix, dim=3) @ value
        mixed = attention.to_out[0](mixed.transpose(1, 2).flatten(2))
        video = video + gate * mixed[:, at:]
        text = text + text_gate * mixed[:, :length]
        seen, heard, gate, text_gate = block.norm2(video, text, levels.frames)
        out = block.ff(torch.cat([heard, seen], dim=1))
        video, text = video + gate * out[:, length:], text + text_gate * out[:, :length]
    return backbone.head(video, levels, SIZE)
