"""Tiny CogVideoX networks of each published kind, and what diffusers itself makes of the same tensors."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.config import ModelConfig, build_transformer, tiny_config

# diffusers is optional: without it this folder has nothing to test.
collect_ignore_glob = [] if find_spec("diffusers") else ["test_*.py"]

ROWS, FRAMES, SIZE, WORDS = 2, 4, (8, 12), 5
PATCHES = 24


def small_config(kind: str = "5b-i2v") -> ModelConfig:
    """Two heads, three blocks, clips of four latent frames of 8 by 12; kind as the published models are named."""
    config = tiny_config(
        latent_channels=4, blocks=3, heads=2, size=SIZE, frames=FRAMES, text_length=WORDS, text_width=8,
        image=kind == "5b-i2v",
    )  # fmt: skip
    rotary = kind != "2b"
    return ModelConfig({**config.transformer, "use_rotary_positional_embeddings": rotary})


def small_backbone(kind: str = "5b-i2v", seed: int = 0) -> Backbone:
    """With every weight random, biases and norms too, so that nothing is silent; its learned table too."""
    transformer = build_transformer(small_config(kind), seed=seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in transformer.parameters():
            value.add_(torch.randn(value.shape, generator=generator) * 0.05)
        if kind == "5b-i2v":
            table = transformer.patch_embed.pos_embedding
            table.add_(torch.randn(table.shape, generator=generator).to(table.dtype))
    return Backbone(transformer)


@pytest.fixture(scope="session")
def backbones() -> dict[str, Backbone]:
    """Do not change these."""
    return {kind: small_backbone(kind) for kind in ("2b", "5b", "5b-i2v")}


@pytest.fixture(scope="session")
def backbone(backbones: dict[str, Backbone]) -> Backbone:
    return backbones["5b-i2v"]


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def noisy(kind: str = "5b-i2v", frames: int = FRAMES, rows: int = ROWS, size: tuple[int, int] = SIZE) -> Tensor:
    return draw(rows, frames, 8 if kind == "5b-i2v" else 4, *size, seed=1)


def words(rows: int = ROWS) -> Tensor:
    return draw(rows, WORDS, 8, seed=2)


def stock_rotary(config: ModelConfig, size: tuple[int, int], frames: int) -> Any:
    """The table that diffusers' pipeline would make."""
    from diffusers.models.embeddings import get_3d_rotary_pos_embed
    from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

    if not config.rotary:
        return None
    grid = (size[0] // config.patch, size[1] // config.patch)
    crop = get_resize_crop_region_for_grid(grid, config.grid[1], config.grid[0])
    return get_3d_rotary_pos_embed(config.head_width, crop, grid, frames)


def stock_call(backbone: Backbone, latents: Tensor, timestep: Tensor, text: Tensor) -> Tensor:
    """diffusers' own forward, on a transformer whose blocks were never opened."""
    import copy

    transformer = copy.deepcopy(backbone.transformer)
    for block in transformer.transformer_blocks:
        del block.forward
    rotary = stock_rotary(backbone.config, (latents.shape[3], latents.shape[4]), latents.shape[1])
    return transformer(latents, text, timestep, image_rotary_emb=rotary, return_dict=False)[0]


LATENT_CODEC = {
    "block_out_channels": (4, 4, 4, 4), "layers_per_block": 1, "norm_num_groups": 2, "latent_channels": 4,
    "sample_height": 64, "sample_width": 96, "scaling_factor": 0.7,
}  # fmt: skip
