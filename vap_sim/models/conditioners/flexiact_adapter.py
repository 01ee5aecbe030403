"""FlexiAct's RefAdapter: LoRA by which CogVideoX continues from a picture that is not the clip's own first frame."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import Carry, Codec
from vap_sim.models.cogvideox.injection import Injection, Noised, Prepared, Uninstall
from vap_sim.models.cogvideox.lora import TARGETS, Lora, lora_parameters, merge_lora, unmerge_lora
from vap_sim.models.cogvideox.text import TextEncoder
from vap_sim.prompts.visual_prompt import VisualPrompt

RANK, ALPHA = 64, 32.0
WEIGHT = 0.7
"""How strong the published adapter is used; it was trained at 1."""
NAME = "flexiact"
"""Of the adapter on the backbone, beside others."""


@dataclass(frozen=True, eq=False)
class RefAdapter:
    """Low-rank updates of query, key, value and output of every block's attention, for all tokens, learned ones too.

    A conditioner that only installs, alone or as part of a `FlexiAct`. weights: by the names of `lora_parameters`, down
    (rank, D) as "...lora_A.weight" and up (D, rank) as "...lora_B.weight"; without any it is untrained: down normal
    with spread 1 / rank, up zero, float32. weight: updates are multiplied with weight * alpha / rank; 0 installs
    nothing; fused: add them, and all other updates on the backbone, into its own weights, where they cost nothing;
    seed: of the first weights. Raises InvalidInput.
    """

    weights: Mapping[str, Tensor] | None = field(default=None, repr=False)
    rank: int = RANK
    alpha: float = ALPHA
    weight: float = WEIGHT
    fused: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        _ = self.lora
        _check_weight(self.weight)
        if self.weights is not None:
            object.__setattr__(self, "weights", MappingProxyType(dict(self.weights)))

    @property
    def lora(self) -> Lora:
        """The LoRA that it is on a backbone."""
        return Lora(rank=self.rank, alpha=self.alpha, targets=TARGETS, name=NAME, seed=self.seed)

    def install(self, backbone: Backbone) -> Uninstall:
        """Put it on, and freeze the rest of the backbone; the result takes it off again, see `Lora.install`.

        Taken off, outputs are as before to the bit, or up to rounding of the weights if it was fused. Install it before
        what else is trained, which it freezes too. Raises InvalidInput, with the backbone as it was, for weights of
        other names or shapes than the backbone's, Unsupported for a backbone whose layers wait elsewhere.
        """
        if self.weight == 0:
            return lambda: None
        if any(hasattr(layer, "_hf_hook") for layer in backbone.transformer.modules()):
            raise Unsupported(
                "a RefAdapter on layers that are brought to the device one by one: there is nothing yet to put it on; "
                "install it, fused, before `sequential_offload`, or let the backbone move as a whole ('model')"
            )
        if self.weights is not None:
            check_weights(self.weights, backbone, self.rank)
        # Beside updates that are in the weights already, one that is not would be left out by peft.
        merged = any(getattr(layer, "merged_adapters", ()) for layer in backbone.transformer.modules())
        unmerge_lora(backbone)
        try:
            undo = self.lora.install(backbone)
        except InvalidInput:
            if merged:
                merge_lora(backbone)
            raise
        own = lora_parameters(backbone, NAME)
        with torch.no_grad():
            if self.weights is None:
                self._begin(own)
            for name, value in (self.weights or {}).items():
                own[name].copy_(value)
        weigh_adapter(backbone, self.weight)
        if self.fused or merged:
            merge_lora(backbone)
        return undo

    def prepare(
        self, prompt: VisualPrompt, codec: Codec, carry: Carry | None = None, *, text: TextEncoder | None = None
    ) -> Prepared:
        """Nothing: it is the same for every prompt."""
        return {}

    def inject(self, prepared: Prepared, noised: Noised) -> Injection:
        """Nothing: it works inside the backbone's layers."""
        return Injection()

    def _begin(self, own: Mapping[str, nn.Parameter]) -> None:
        """Put untrained values into the weights, in float32: small steps need all its digits."""
        source = torch.Generator().manual_seed(self.seed)
        for name, value in own.items():
            value.data = value.data.float()
            if value.is_meta:
                continue
            first = torch.randn(value.shape, generator=source) / self.rank if ".lora_A." in name else torch.zeros(())
            value.copy_(first.expand(value.shape))


def adapter_shapes(blocks: int, width: int, rank: int = RANK) -> dict[str, tuple[int, int]]:
    """Names and shapes of all weights of an adapter for a backbone of so many blocks, D channels a token."""
    shapes = {}
    for block in range(blocks):
        for target in TARGETS:
            layer = f"transformer_blocks.{block}.attn1.{target}"
            shapes[f"{layer}.lora_A.weight"] = (rank, width)
            shapes[f"{layer}.lora_B.weight"] = (width, rank)
    return shapes


def check_weights(weights: Mapping[str, Tensor], backbone: Backbone, rank: int) -> None:
    """Raise InvalidInput unless an adapter's weights are those of this backbone, by name and shape."""
    expected = adapter_shapes(backbone.config.blocks, backbone.config.width, rank)
    for name in sorted(expected.keys() | weights.keys()):
        if name not in weights or name not in expected:
            given = "missing" if name not in weights else "one that this backbone has no place for"
            raise InvalidInput(f"weight {name!r} of an adapter", given, f"the {len(expected)} of the backbone's layers")
        if tuple(weights[name].shape) != expected[name]:
            wanted = f"{expected[name]}, as the backbone's width and the rank say"
            raise InvalidInput(f"weight {name!r} of an adapter", tuple(weights[name].shape), wanted)


def weigh_adapter(backbone: Backbone, weight: float) -> None:
    """Give an adapter that is on the backbone another weight, between passes; one that is fused stays so.

    Raises InvalidInput, and UnknownName if none is on it.
    """
    _check_weight(weight)
    with torch.no_grad():
        for layer in _layers(backbone):
            merged = list(layer.merged_adapters)
            if merged:
                layer.unmerge()
            layer.set_scale(NAME, weight)
            if merged:
                layer.merge(adapter_names=merged)


def adapter_weights(backbone: Backbone) -> dict[str, Tensor]:
    """The weights of the adapter that is on the backbone, as `RefAdapter` takes them, float32 on the CPU."""
    return {
        name: value.detach().to("cpu", torch.float32, copy=True)
        for name, value in lora_parameters(backbone, NAME).items()
    }


def _layers(backbone: Backbone) -> list[Any]:
    found = [layer for layer in backbone.transformer.modules() if NAME in getattr(layer, "lora_A", ())]
    if not found:
        known = list(getattr(backbone.transformer, "peft_config", {}))
        raise UnknownName("adapter on the backbone", NAME, known)
    return found


def _check_weight(weight: float) -> None:
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not math.isfinite(weight):
        raise InvalidInput("weight of an adapter", weight, f"a finite number; {WEIGHT} as published, 0 for none")
