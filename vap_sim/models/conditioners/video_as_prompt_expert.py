"""The expert of Video-As-Prompt: copies of chosen blocks and of what leads to them, and where its frames stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.config import ModelConfig, build_transformer
from vap_sim.models.cogvideox.skeleton_control import copied_branch

CHOICES: Mapping[str, Callable[[int], Sequence[int]]] = MappingProxyType(
    {
        "released": lambda count: range(max(1, count - 1)),
        "first_and_last": lambda count: sorted({0, max(0, count - 2)}),
        "every_second": lambda count: range(min(1, count - 1), count, 2),
        "first_half": lambda count: range(-(-count // 2)),
        "all": range,
    }
)
"""Which blocks have an expert, by name. "released": all but the last, 0 .. 40 of 42, as in the released configuration;
"first_and_last": of those, the cheap one, 0 and 40, which lost less than half a point of alignment in the paper's
ablation; "every_second" and "first_half": further ones of that table."""


def expert_blocks(chosen: str | Sequence[int], count: int) -> tuple[int, ...]:
    """Numbers of the blocks, of `count`, that have an expert. chosen: a name of `CHOICES`, or the numbers.

    Raises UnknownName, InvalidInput.
    """
    if isinstance(chosen, str):
        if chosen not in CHOICES:
            raise UnknownName("choice of expert blocks", chosen, CHOICES)
        return tuple(CHOICES[chosen](count))
    blocks = tuple(chosen)
    whole = all(isinstance(block, int) and not isinstance(block, bool) for block in blocks)
    if not whole or not blocks or sorted(set(blocks)) != list(blocks) or not 0 <= blocks[0] <= blocks[-1] < count:
        raise InvalidInput("expert blocks", list(chosen), f"rising numbers of 0 .. {count - 1}, at least one")
    return blocks


def reference_positions(count: int, frames: int) -> tuple[int, ...]:
    """Time indices of `count` demonstrations of so many latent frames: -count frames .. -1, right before the video."""
    return tuple(range(-count * frames, 0))


def build_expert(backbone: Backbone, blocks: Sequence[int], *, device: str | None = None) -> Backbone:
    """A `Backbone` without a head, of copies of these blocks and of what leads to the first.

    Every weight equals the backbone's; its learned table, if it has one, is shared with it. device: "meta" copies
    nothing and makes only the shapes. Raises InvalidInput if LoRA or offload hooks are on the backbone, and Unsupported
    for one without rotary positions.
    """
    if not backbone.config.rotary:
        raise Unsupported("an expert for a CogVideoX without rotary positions, by which the streams are told apart")
    if device is None:
        return copied_branch(backbone, blocks)
    if device != "meta":
        raise InvalidInput("device of an expert", device, "None, for the backbone's, or 'meta'")
    sizes = {**backbone.config.transformer, "num_layers": len(blocks)}
    shapes = build_transformer(ModelConfig(sizes), device="meta")
    shapes.norm_final = shapes.norm_out = shapes.proj_out = None
    expert = Backbone(shapes)
    put_table(expert, table_of(expert), backbone)
    return expert


def unheard(expert: Backbone) -> tuple[nn.Module, ...]:
    """Layers of the last block that only its own output needs, which no block after it looks at."""
    block: Any = expert.blocks[-1]
    queries = (block.attn1.to_q, block.attn1.norm_q, block.attn1.to_out)
    return tuple(part for part in (*queries, block.norm2, block.ff) if part is not None)


def table_of(branch: Backbone) -> Tensor | None:
    """The learned table of a backbone or an expert, or None."""
    table: Tensor | None = getattr(branch.transformer.patch_embed, "pos_embedding", None)
    return table


def put_table(expert: Backbone, table: Tensor | None, backbone: Backbone) -> None:
    """Give an expert its learned table, which is the backbone's own where it has the same numbers."""
    if table is None:
        return
    own = table_of(backbone)
    shared = own is not None and own.shape == table.shape and (table.is_meta or torch.equal(own.to(table), table))
    expert.transformer.patch_embed.register_buffer("pos_embedding", own if shared else table, persistent=False)
