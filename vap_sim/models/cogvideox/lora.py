"""LoRA on the frozen backbone, through peft: put on, taken off, merged, and its tensors by name."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import Carry, Codec
from vap_sim.models.cogvideox.injection import Injection, Noised, Prepared, Uninstall
from vap_sim.models.cogvideox.stock import stock
from vap_sim.models.cogvideox.text import TextEncoder
from vap_sim.prompts.visual_prompt import VisualPrompt

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")
"""The layers of every block's attention."""
_MOST = 4096


@dataclass(frozen=True)
class Lora:
    """Low-rank updates of the backbone's layers, which at first change nothing. A conditioner that only installs.

    rank: of each update; alpha: updates are multiplied with alpha / rank; targets: ends of the names of the layers that
    get one; name: of the adapter, for several at once; seed: of the first weights. Raises InvalidInput.
    """

    rank: int = 64
    alpha: float = 64.0
    targets: tuple[str, ...] = TARGETS
    name: str = "control"
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.rank, bool) or not isinstance(self.rank, int) or not 1 <= self.rank <= _MOST:
            raise InvalidInput("rank of LoRA", self.rank, f"a whole number from 1 to {_MOST}")
        if not 0 < self.alpha < math.inf:
            raise InvalidInput("alpha of LoRA", self.alpha, "a positive number")
        if isinstance(self.targets, str) or not self.targets:
            raise InvalidInput("targets of LoRA", repr(self.targets), f"some ends of layers' names, such as {TARGETS}")
        object.__setattr__(self, "targets", tuple(self.targets))
        if not str(self.name).isidentifier():
            raise InvalidInput("name of LoRA", self.name, "letters, digits and underscores: it is part of names")

    @property
    def settings(self) -> dict[str, Any]:
        """Its fields as plain data: `Lora(**settings)` equals it."""
        return {**asdict(self), "targets": list(self.targets)}

    def install(self, backbone: Backbone) -> Uninstall:
        """Put the updates on the backbone, and freeze all the rest of it; the result takes them off again.

        Taken off, names, outputs and what was trainable are as before. Raises InvalidInput if an adapter of this name
        is on it already or a target is the name of no layer, and MissingDependency without peft.
        """
        transformer, peft = backbone.transformer, stock("peft")
        if self.name in _adapters(transformer):
            raise InvalidInput("name of LoRA", self.name, "one that is not on the backbone yet")
        layers = [name for name, layer in transformer.named_modules() if isinstance(layer, nn.Linear)]
        # Layers that another adapter wraps are found below the name of the wrapped one.
        layers = [name.removesuffix(".base_layer") for name in layers]
        for target in self.targets:
            if not any(name == target or name.endswith("." + target) for name in layers):
                known = sorted({name.split(".", 2)[-1] for name in layers if name.startswith("transformer_blocks.0.")})
                raise InvalidInput("target of LoRA", target, f"the end of a layer's name, for example {known}")
        trainable = {name: value.requires_grad for name, value in transformer.named_parameters()}
        others = _active(transformer)
        settings = peft.LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=list(self.targets))
        place = next(transformer.parameters()).device
        with torch.random.fork_rng(devices=[]), torch.device(place if place.type == "meta" else "cpu"):
            torch.default_generator.manual_seed(self.seed)
            transformer.add_adapter(settings, adapter_name=self.name)
        transformer.set_adapter([*others, self.name])
        freeze_backbone(backbone)
        for value in lora_parameters(backbone, self.name).values():
            value.requires_grad_(True)

        def uninstall() -> None:
            if self.name not in _adapters(transformer):
                return
            left = [name for name in _active(transformer) if name != self.name]
            merged = any(layer.merged_adapters for layer in _tuned(transformer))
            unmerge_lora(backbone)
            transformer.delete_adapters(self.name)
            if left:
                transformer.set_adapter(left)
                if merged:
                    merge_lora(backbone)
            else:
                transformer.unload_lora()
            for name, value in transformer.named_parameters():
                plain = name.replace(".base_layer.", ".")
                value.requires_grad_(trainable.get(name, trainable.get(plain, value.requires_grad)))

        return uninstall

    def prepare(
        self, prompt: VisualPrompt, codec: Codec, carry: Carry | None = None, *, text: TextEncoder | None = None
    ) -> Prepared:
        """Nothing: LoRA is the same for every prompt."""
        return {}

    def inject(self, prepared: Prepared, noised: Noised) -> Injection:
        """Nothing: LoRA works inside the backbone's layers."""
        return Injection()


def freeze_backbone(backbone: Backbone) -> None:
    """No gradient for any weight of the backbone, LoRA included."""
    backbone.requires_grad_(False)


def lora_parameters(backbone: Backbone, name: str = "control") -> dict[str, nn.Parameter]:
    """The weights of one adapter, named as peft's files name them: "transformer_blocks.0.attn1.to_q.lora_A.weight"."""
    mark = f".{name}.weight"
    return {
        key.removesuffix(mark) + ".weight": value
        for key, value in backbone.transformer.named_parameters()
        if key.endswith((f".lora_A{mark}", f".lora_B{mark}"))
    }


def trainable_parameters(backbone: Backbone, *modules: nn.Module) -> dict[str, nn.Parameter]:
    """What a training run changes: weights of the modules, then of the backbone, as far as they take gradients.

    Those of the first module are named "control.", the backbone's (LoRA's) "backbone.".
    """
    found: dict[str, nn.Parameter] = {}
    for index, module in enumerate(modules):
        prefix = "control." if not index else f"control{index}."
        found |= {prefix + name: value for name, value in module.named_parameters() if value.requires_grad}
    found |= {"backbone." + name: value for name, value in backbone.named_parameters() if value.requires_grad}
    return found


def merge_lora(backbone: Backbone) -> None:
    """Add all active updates into the layers' own weights, so that a pass costs what a bare one does."""
    with torch.no_grad():
        for layer in _tuned(backbone.transformer):
            if not layer.merged_adapters:
                layer.merge()


def unmerge_lora(backbone: Backbone) -> None:
    """Take merged updates out of the weights again, which are then as before up to rounding."""
    with torch.no_grad():
        for layer in _tuned(backbone.transformer):
            if layer.merged_adapters:
                layer.unmerge()


def _adapters(transformer: Any) -> list[str]:
    return list(getattr(transformer, "peft_config", {}))


def _active(transformer: Any) -> list[str]:
    layer = next(_tuned(transformer), None)
    return [] if layer is None else list(layer.active_adapters)


def _tuned(transformer: Any) -> Iterator[Any]:
    kind = stock("peft.tuners.tuners_utils").BaseTunerLayer
    return (layer for layer in transformer.modules() if isinstance(layer, kind))
