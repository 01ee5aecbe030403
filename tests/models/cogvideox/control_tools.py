"""A small backbone with its words and noise, a prompt for it, and controls whose zero layers have been woken."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tests.models.cogvideox.conftest import FRAMES, ROWS, SIZE, draw, words
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.injection import Injection, Noised
from vap_sim.models.cogvideox.skeleton_control import SkeletonControl
from vap_sim.prompts.visual_prompt import VisualPrompt

CODEC = TinyCodec(4)
LEVELS = torch.tensor([17, 803])
JOINTS = 7
SMALL: dict[str, Any] = {"channels": 3, "width": 8}


def prompt(frames: int = 1 + 4 * (FRAMES - 1), rows: int = ROWS, seed: int = 3) -> VisualPrompt:
    generator = torch.Generator().manual_seed(seed)
    size = (8 * SIZE[0], 8 * SIZE[1])
    picture = torch.randint(0, 256, (rows, 1, frames, *size, 3), dtype=torch.uint8, generator=generator)
    return VisualPrompt(picture, joints=draw(rows, frames, JOINTS, seed=seed))


def noised(**changes: Any) -> Noised:
    """The whole clip at one level a row, the first image's channels beside it."""
    latents = draw(ROWS, FRAMES, 8, *SIZE, seed=1)
    values = {"latents": latents[:, :, :4], "channels": latents[:, :, 4:], "timestep": LEVELS, "text": words()}
    return Noised(**{**values, **changes})


def run(backbone: Backbone, injection: Injection | None = None, given: Noised | None = None) -> Tensor:
    given = given or noised()
    whole = torch.cat([given.latents, given.channels], dim=2)
    return backbone(whole, given.timestep, given.text, injection)


def wake(module: Any, seed: int = 5) -> Any:
    """Every weight moved, so that nothing of it is zero and nothing silent."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in module.parameters():
            value.add_(torch.randn(value.shape, generator=generator) * 0.05)
    return module


def small_control(backbone: Backbone, **settings: Any) -> SkeletonControl:
    """Two of its three blocks copied, awake, not to be trained."""
    return wake(SkeletonControl(backbone, **{"blocks": 2, **SMALL, **settings})).requires_grad_(False)


def twin(control: SkeletonControl, backbone: Backbone, **changes: Any) -> SkeletonControl:
    """Another with the same weights, made with some settings changed."""
    other = SkeletonControl(backbone, **{**control.settings, **changes}).requires_grad_(False)
    other.load_state_dict(control.state_dict())
    return other
