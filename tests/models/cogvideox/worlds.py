"""Tiny CogVideoX worlds with random weights, and a conditioner that adds a projected prompt."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import FRAMES, Carry, Codec, TinyCodec
from vap_sim.models.cogvideox.config import ModelConfig, build_transformer, tiny_config
from vap_sim.models.cogvideox.injection import Injection, Noised, Prepared, Uninstall
from vap_sim.models.cogvideox.parts import Parts
from vap_sim.models.cogvideox.prepared import goes_on, lasting_of, with_carry
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
from vap_sim.models.cogvideox.settings import Settings
from vap_sim.models.cogvideox.text import HashedWords, TextEncoder
from vap_sim.models.cogvideox.world import CogVideoXWorld
from vap_sim.prompts.visual_prompt import VisualPrompt

CELL = 16


class Pooled(nn.Module):
    """The mean colour of each patch, mixed with that of the latent frame before, projected and added to the input."""

    def __init__(self, width: int, seed: int = 3) -> None:
        super().__init__()
        source = torch.Generator().manual_seed(seed)
        self.weight = nn.Parameter(torch.randn(3, width, generator=source), requires_grad=False)
        self.installed = 0

    def install(self, backbone: Backbone) -> Uninstall:
        self.installed += 1

        def undo() -> None:
            self.installed -= 1

        return undo

    def prepare(
        self, prompt: VisualPrompt, codec: Codec, carry: Carry | None = None, *, text: TextEncoder | None = None
    ) -> Prepared:
        carry = carry if goes_on(prompt, carry) else None
        drawn = prompt.skeleton[:, 0].float() / 255
        rows, frames, height, width, _ = drawn.shape
        cells = drawn.reshape(rows, frames, height // CELL, CELL, width // CELL, CELL, 3).mean(dim=(3, 5)).flatten(2, 3)
        parts = [] if carry is not None else [cells[:, :1]]
        rest = cells[:, len(parts) :]
        parts.append(rest.reshape(rows, -1, FRAMES, *rest.shape[2:]).mean(dim=2))
        own = torch.cat(parts, dim=1)
        first = own[:, :1] if carry is None else carry["cells"]
        before = torch.cat([first, own[:, :-1]], dim=1)
        return with_carry({"cells": own + 0.5 * before}, {"cells": own[:, -1:].clone()})

    def inject(self, prepared: Prepared, noised: Noised) -> Injection:
        assert prepared["cells"].shape[:2] == noised.latents.shape[:2]
        return Injection(input_add=(prepared["cells"] @ self.weight).flatten(1, 2).to(noised.latents.dtype))


class Demonstrated:
    """Told by a demonstration alone: its mean colour and the words of its caption last the dream."""

    def __init__(self, width: int, seed: int = 6) -> None:
        source = torch.Generator().manual_seed(seed)
        self.weight = torch.randn(3 + 8, width, generator=source)

    def install(self, backbone: Backbone) -> Uninstall:
        return lambda: None

    def prepare(
        self, prompt: VisualPrompt, codec: Codec, carry: Carry | None = None, *, text: TextEncoder | None = None
    ) -> Prepared:
        if prompt.reference is None:
            if carry is None:
                raise InvalidInput("VisualPrompt.reference", None, "a demonstration")
            return with_carry({}, {}, {"seen": carry["seen"]})
        assert text is not None and prompt.reference.text is not None
        colour = prompt.reference.frames.float().mean(dim=(1, 2, 3)) / 255
        return with_carry({}, {}, {"seen": torch.cat([colour, text.encode(prompt.reference.text).mean(dim=1)], dim=1)})

    def inject(self, prepared: Prepared, noised: Noised) -> Injection:
        _, frames, _, height, width = noised.latents.shape
        added = (lasting_of(prepared)["seen"] @ self.weight)[:, None].expand(-1, frames * height * width // 4, -1)
        return Injection(input_add=added.to(noised.latents.dtype))


class CarryingCodec(TinyCodec):
    """A codec whose frames lean on the one before, as those of a learned causal codec do."""

    def decode_next(self, latents: Tensor, carry: Carry | None = None) -> tuple[Tensor, Carry]:
        before = latents[:, :1] * 0 if carry is None else carry["deep/before"]
        blend = latents.clone()
        start = 1 if carry is None else 0
        blend[:, start : start + 1] += 0.5 * before
        return super().decode_next(blend, carry)[0], {"deep/before": latents[:, -1:].clone()}


def tiny_backbone(kind: str = "i2v", *, frames: int = 5, blocks: int = 2, seed: int = 0) -> Backbone:
    """Every weight random. kind: "i2v" with learned positions and condition channels, "t2v" with rotary ones alone,
    "sines" with those alone."""
    config = tiny_config(latent_channels=8, blocks=blocks, heads=2, size=(4, 6), frames=frames, text_length=4,
                         text_width=8, image=kind == "i2v")  # fmt: skip
    if kind == "sines":
        config = ModelConfig({**config.transformer, "use_rotary_positional_embeddings": False})
    transformer = build_transformer(config, seed=seed)
    source = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in transformer.parameters():
            value.add_(torch.randn(value.shape, generator=source) * 0.05)
    return Backbone(transformer).requires_grad_(False)


def tiny_parts(kind: str = "i2v", *, told: bool = True, backbone: Backbone | None = None, **changes: Any) -> Parts:
    """Parts of a world of 48 by 32 pixels. changes: fields of `Parts` (conditioners, codec, ...) and of `Settings`."""
    backbone = tiny_backbone(kind) if backbone is None else backbone
    config = backbone.config
    fields = {name: changes.pop(name) for name in list(changes) if name not in Settings.names()}
    whole: dict[str, Any] = {
        "backbone": backbone,
        "codec": TinyCodec(config.latent_channels),
        "text": HashedWords(config.text_length, config.text_width),
        "schedule": Schedule.of(PUBLISHED),
        "size": (48, 32),
        "conditioners": (Pooled(config.width),) if told else (),
        "settings": Settings(**{"steps": 2, "history": 3, "chunk": 9, **changes}),
    }
    return Parts(**{**whole, **fields})


def tiny_world(kind: str = "i2v", **changes: Any) -> CogVideoXWorld:
    return CogVideoXWorld(tiny_parts(kind, **changes))
