"""Sizes of the published models, counted without memory, and values that make no model."""

from __future__ import annotations

import copy
import pickle
import sys

import pytest
import torch

from vap_sim.errors import InvalidInput, MissingDependency, UnknownName, Unsupported
from vap_sim.models.cogvideox.config import (
    ModelConfig,
    build_transformer,
    full_config,
    full_config_names,
    parameter_count,
    tiny_config,
)  # fmt: skip
from vap_sim.models.cogvideox.stock import stock


def test_full_sizes_have_the_published_counts() -> None:
    """42 blocks of 132.2 M: attention 37.7, two modulations of 9.5, feed-forward 75.5."""
    transformer = build_transformer(full_config("5b-i2v"), device="meta")
    assert all(value.is_meta for value in transformer.state_dict().values())
    block = transformer.transformer_blocks[0]
    millions = [parameter_count(part) / 1e6 for part in (block, block.attn1, block.norm1, block.norm2, block.ff)]
    assert [round(one, 1) for one in millions] == [132.2, 37.8, 9.5, 9.5, 75.5]
    assert len(transformer.transformer_blocks) == 42
    assert 5.56e9 < parameter_count(transformer) < 5.58e9
    assert transformer.patch_embed.pos_embedding.shape == (1, 226 + 13 * 1350, 3072)
    assert transformer.patch_embed.proj.weight.shape == (3072, 32, 2, 2)


def test_the_other_published_models() -> None:
    assert full_config_names() == ("2b", "5b", "5b-i2v")
    two = full_config("2b")
    assert (two.width, two.blocks, two.rotary, two.learned, two.condition_channels) == (1920, 30, False, False, 0)
    five = full_config("5b")
    assert (five.width, five.blocks, five.rotary, five.learned, five.in_channels) == (3072, 42, True, False, 16)
    assert (five.frames, five.grid, five.text_length, five.text_width, five.time_width) == (
        13,
        (30, 45),
        226,
        4096,
        512,
    )
    assert two.vae["scaling_factor"] != five.vae["scaling_factor"] == 0.7
    assert 1.6e9 < parameter_count(build_transformer(two, device="meta")) < 1.8e9


def test_tiny_config_is_small_and_like_image_to_video() -> None:
    config = tiny_config()
    assert 2e5 < parameter_count(build_transformer(config, device="meta")) < 1e6
    assert config.learned
    assert config.condition_channels == config.latent_channels == 16
    assert config.blocks % 3 == 0
    assert not tiny_config(image=False).learned


def test_weights_come_from_the_seed_alone() -> None:
    config = tiny_config(blocks=1, heads=1)
    before = torch.get_rng_state()
    first, second, third = (build_transformer(config, seed=seed).proj_out.weight for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, third)
    assert build_transformer(config, dtype=torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_layers": 0}, InvalidInput, "num_layers of a CogVideoX transformer: given 0, expected a whole number"),
        ({"num_layers": 10**9}, InvalidInput, "num_layers .* from 1 to 512"),
        ({"patch_size": "2"}, InvalidInput, "patch_size of a CogVideoX transformer: given '2'"),
        ({"use_rotary_positional_embeddings": False}, InvalidInput, "learned without rotary"),
        ({"in_channels": 8}, InvalidInput, "in_channels: given 8, expected at least out_channels, 16"),
        ({"sample_width": 9}, InvalidInput, "native latent size"),
        ({"attention_head_dim": 24}, InvalidInput, "attention_head_dim: given 24, expected a multiple of 16"),
        ({"patch_size_t": 2}, Unsupported, "CogVideoX 1.5"),
        ({"num_layer": 2}, UnknownName, "Did you mean 'num_layers'"),
    ],
)
def test_values_that_make_no_model(change: dict[str, object], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        ModelConfig({**tiny_config().transformer, **change})


def test_unknown_names_and_a_foreign_codec() -> None:
    with pytest.raises(UnknownName, match="Did you mean '5b-i2v'"):
        full_config("5b-i2")
    with pytest.raises(Unsupported, match=r"version 1.5"):
        full_config("1.5-5b")
    with pytest.raises(InvalidInput, match="latent_channels of the codec: given 4"):
        ModelConfig(tiny_config().transformer, vae={"latent_channels": 4})


def test_without_a_library_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("diffusers", "accelerate"):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(MissingDependency, match=rf"{name} is not installed; .* 'vap-sim\[diffusion\]'"):
            stock(name)
    with pytest.raises(MissingDependency, match="diffusers"):
        tiny_config()
    with pytest.raises(ModuleNotFoundError, match=r"json.absent"):
        stock("json.absent")


def test_a_config_survives_copies_and_pickles() -> None:
    config = tiny_config()
    for again in (copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert again == config and again is not config
