"""The wrapped transformer against diffusers' own, and what a noise level a frame, rows and switches must not change."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.models.cogvideox.conftest import (
    FRAMES,
    PATCHES,
    ROWS,
    SIZE,
    WORDS,
    draw,
    noisy,
    small_backbone,
    stock_call,
    words,
)  # fmt: skip
from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.block import Levels, Shared, walk
from vap_sim.models.cogvideox.memory import checkpoint_blocks, compile_blocks, model_offload, sequential_offload

LEVELS = torch.tensor([17, 803])
KINDS = ("2b", "5b", "5b-i2v")


@pytest.mark.parametrize("kind", KINDS)
def test_bare_backbone_has_the_bits_of_diffusers(backbones: dict[str, Backbone], kind: str) -> None:
    backbone, latents = backbones[kind], noisy(kind)
    with torch.no_grad():
        expected = stock_call(backbone, latents, LEVELS, words())
        assert torch.equal(backbone(latents, LEVELS, words()), expected)
        equal_levels = LEVELS[:, None].expand(ROWS, FRAMES)
        assert torch.equal(backbone(latents, equal_levels, words()), expected)
        assert torch.equal(backbone(latents, LEVELS, words(), collect=True)[0], expected), "the opened way"
        assert torch.allclose(backbone(latents, LEVELS, words(), text_timestep=LEVELS), expected, atol=1e-5)
    assert expected.std() > 0.1


@pytest.mark.parametrize("kind", ["2b", "5b"])
def test_another_size_and_length_have_the_bits_of_diffusers(backbones: dict[str, Backbone], kind: str) -> None:
    for size, frames in (((4, 12), 6), ((12, 8), 2)):
        latents = noisy(kind, frames, size=size)
        with torch.no_grad():
            expected = stock_call(backbones[kind], latents, LEVELS, words())
            assert torch.equal(backbones[kind](latents, LEVELS, words()), expected)


def test_bf16_has_the_bits_of_diffusers() -> None:
    backbone = small_backbone().to(torch.bfloat16)
    latents, text = noisy().bfloat16(), words().bfloat16()
    with torch.no_grad():
        expected = stock_call(backbone, latents, LEVELS, text)
        assert expected.dtype == torch.bfloat16
        assert torch.equal(backbone(latents, LEVELS, text), expected)
        mixed = backbone(latents, torch.tensor([[0, 5, 9, 9], [1, 2, 3, 4]]), text)
    assert mixed.dtype == torch.bfloat16


def test_the_transformer_itself_still_computes_what_it_did(backbone: Backbone) -> None:
    rotary = backbone.rotary(SIZE, FRAMES)
    with torch.no_grad():
        own = backbone.transformer(noisy(), words(), LEVELS, image_rotary_emb=rotary).sample
        assert torch.equal(own, stock_call(backbone, noisy(), LEVELS, words()))
    assert Backbone(backbone.transformer).blocks is backbone.blocks, "wrapping twice"


def test_each_frame_gets_the_modulation_of_its_own_level(backbone: Backbone) -> None:
    """Against the stock norms, called frame by frame, inside a block and at the output."""
    levels = torch.tensor([[0, 100, 500, 999], [3, 3, 3, 700]])
    got = backbone.levels(levels, torch.float32)
    alone = [backbone.levels(levels[:, frame], torch.float32).frames for frame in range(FRAMES)]
    assert torch.allclose(got.frames, torch.stack(alone, dim=1), atol=1e-5)
    assert torch.allclose(got.text, backbone.levels(levels.amax(dim=1), torch.float32).frames, atol=1e-5)

    video, size = draw(ROWS, FRAMES * PATCHES, 32, seed=3), SIZE
    with torch.no_grad():
        whole = backbone.head(video, got, size)
        parts = [
            backbone.head(piece, Levels(level), size)
            for piece, level in zip(video.split(PATCHES, dim=1), alone, strict=True)
        ]
    assert torch.allclose(whole, torch.cat(parts, dim=1), atol=1e-5)


def test_a_block_with_levels_a_frame_is_stock_layers_frame_by_frame(backbone: Backbone) -> None:
    levels = backbone.levels(torch.tensor([[0, 100, 500, 999], [3, 3, 3, 700]]), torch.float32)
    tokens, rotary = backbone.embed(noisy(), words()), backbone.rotary(SIZE, FRAMES)
    block = backbone.blocks[0]
    with torch.no_grad():
        (walked,) = walk([block], tokens, Shared(levels, rotary))

        def normal(norm, video, text):
            by_level = [
                norm(piece, text, levels.frames[:, frame]) for frame, piece in enumerate(video.split(PATCHES, dim=1))
            ]
            said = norm(video[:, :1], text, levels.text)
            gates = torch.cat([one[2].expand(-1, PATCHES, -1) for one in by_level], dim=1)
            return torch.cat([one[0] for one in by_level], dim=1), said[1], gates, said[3]

        video, text, gate, text_gate = normal(block.norm1, tokens.video, tokens.text)
        heard, read = block.attn1(hidden_states=video, encoder_hidden_states=text, image_rotary_emb=rotary)
        video, text = tokens.video + gate * heard, tokens.text + text_gate * read
        inner, inner_text, gate, text_gate = normal(block.norm2, video, text)
        mixed = block.ff(torch.cat([inner_text, inner], dim=1))
        video, text = video + gate * mixed[:, WORDS:], text + text_gate * mixed[:, :WORDS]
    assert torch.allclose(walked.tokens.video, video, atol=1e-5)
    assert torch.allclose(walked.tokens.text, text, atol=1e-5)


def test_levels_of_one_frame_reach_others_only_by_attention(backbone: Backbone) -> None:
    """A row's output changes with a level, another row's does not; a row alone equals the row in a batch."""
    levels = torch.tensor([[0, 100, 500, 999], [3, 3, 3, 700]])
    other = torch.tensor([[0, 100, 500, 1], [3, 3, 3, 700]])
    with torch.no_grad():
        first, second = backbone(noisy(), levels, words()), backbone(noisy(), other, words())
        alone = backbone(noisy()[:1], levels[:1], words()[:1])
    assert not torch.allclose(first[0], second[0], atol=1e-3)
    assert torch.allclose(first[1], second[1], atol=1e-5)
    assert torch.allclose(alone[0], first[0], atol=1e-5)


def test_fewer_frames_take_the_front_of_the_learned_table(backbone: Backbone) -> None:
    """Where diffusers would silently take sines."""
    with torch.no_grad():
        tokens = backbone.embed(noisy(frames=2), words())
        whole = backbone.embed(torch.cat([noisy(frames=2), noisy(frames=2)], dim=1), words())
        assert torch.allclose(tokens.video, whole.video[:, : 2 * PATCHES], atol=1e-6)
        at_the_end = backbone.embed(noisy(frames=2), words(), [2, 3])
        assert torch.allclose(at_the_end.video, whole.video[:, 2 * PATCHES :], atol=1e-6)
        assert not torch.allclose(stock_call(backbone, noisy(frames=2), LEVELS, words()),
                                  backbone(noisy(frames=2), LEVELS, words()), atol=1e-2)  # fmt: skip


@pytest.mark.parametrize("levels", [LEVELS, torch.tensor([[0, 100, 500, 999], [3, 3, 3, 700]])], ids=["row", "frame"])
def test_checkpointing_gives_the_same_gradients(levels: torch.Tensor) -> None:
    gradients = []
    for on in (False, True):
        backbone = small_backbone()
        checkpoint_blocks(backbone, on)
        backbone(noisy(), levels, words()).square().mean().backward()
        gradients.append([value.grad for value in backbone.parameters()])
        checkpoint_blocks(backbone, False)
        assert backbone.checkpoint is None
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))
    assert all(value.abs().max() > 0 for value in gradients[0])


def test_lora_by_peft_reaches_both_ways_through_a_block() -> None:
    peft = pytest.importorskip("peft")
    backbone = small_backbone()
    with torch.no_grad():
        bare = backbone(noisy(), LEVELS, words())
    backbone.transformer.requires_grad_(False)
    backbone.transformer.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    lora = {name: value for name, value in backbone.named_parameters() if "lora" in name}
    assert len(lora) == 3 * 4 * 2
    assert torch.equal(backbone(noisy(), LEVELS, words()).detach(), bare), "zero-initialised"
    with torch.no_grad():
        for value in lora.values():
            value.add_(0.1)
        plain, opened = backbone(noisy(), LEVELS, words()), backbone(noisy(), LEVELS, words(), collect=True)[0]
    assert torch.equal(plain, opened)
    assert not torch.allclose(plain, bare, atol=1e-3)
    backbone(noisy(), torch.tensor([[0, 1, 2, 3]] * ROWS), words()).sum().backward()
    assert all(value.grad is not None for value in lora.values())


def test_offload_gives_the_same_bits() -> None:
    hooks = pytest.importorskip("accelerate.hooks")
    backbone = small_backbone()
    mixed = torch.tensor([[0, 100, 500, 999], [3, 3, 3, 700]])
    with torch.no_grad():
        expected = [backbone(noisy(), levels, words()) for levels in (LEVELS, mixed)]
        (hook,) = model_offload([backbone], "cpu")
        assert torch.equal(backbone(noisy(), LEVELS, words()), expected[0])
        hook.remove()
        sequential_offload(backbone, "cpu")
        assert next(backbone.parameters()).is_meta
        for levels, one in zip((LEVELS, mixed), expected, strict=True):
            assert torch.allclose(backbone(noisy(), levels, words()), one, atol=1e-6)
    hooks.remove_hook_from_submodules(backbone)
    with pytest.raises(InvalidInput, match="at least one"):
        model_offload([], "cpu")


@pytest.mark.slow
def test_compiled_blocks_give_the_same() -> None:
    backbone = small_backbone()
    mixed = torch.tensor([[0, 100, 500, 999], [3, 3, 3, 700]])
    with torch.no_grad():
        expected = [backbone(noisy(), levels, words()) for levels in (LEVELS, mixed)]
        compile_blocks(backbone, backend="eager")
        for levels, one in zip((LEVELS, mixed), expected, strict=True):
            assert torch.allclose(backbone(noisy(), levels, words()), one, atol=1e-5)


def test_a_copied_slice_of_blocks_walks_as_the_backbone_does(backbone: Backbone) -> None:
    copied = copy.deepcopy(list(backbone.blocks)[:2])
    shared = Shared(backbone.levels(LEVELS, torch.float32), backbone.rotary(SIZE, FRAMES), collect=True)
    with torch.no_grad():
        tokens = backbone.embed(noisy(), words())
        mine, theirs = (list(walk(blocks, tokens, shared)) for blocks in (copied, list(backbone.blocks)[:2]))
        copied[0].ff.net[0].proj.weight.zero_()
        changed = next(walk(copied, tokens, shared))
    assert [one.index for one in mine] == [0, 1]
    assert torch.equal(mine[1].tokens.video, theirs[1].tokens.video)
    assert not torch.equal(changed.tokens.video, theirs[0].tokens.video), "the copy runs on its own weights"
    cache = backbone.cache_of([one.keys for one in mine], WORDS, SIZE)
    assert cache.keys.shape == (ROWS, 2, 2, WORDS + FRAMES * PATCHES, 16)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"latents": draw(2, 4, 8, 8)}, "latents: given"),
        ({"latents": noisy()[:, :, :5]}, "channels of the latents: given 5, expected 8: 4 noisy, 4 of a condition"),
        ({"latents": noisy()[..., :11]}, "latent size .* multiples of the patch size 2"),
        ({"timestep": torch.zeros(3)}, r"timestep: given \(3,\), expected \(2,\) or \(2, 4\)"),
        ({"text": draw(2, 5, 9)}, r"text: given \(2, 5, 9\), expected \(2, tokens, 8\)"),
        ({"text": None}, "neither in `text` nor in `past`"),
        ({"positions": [0, 1, 2]}, "positions: given .* expected 4 integers"),
        ({"positions": torch.zeros(4)}, "positions: given .* expected 4 integers"),
        ({"positions": [0, 1, 2, 4]}, "time index 4, expected 0 to 3"),
        ({"text": draw(2, 6, 8)}, "text tokens: given 6, expected at most 5"),
    ],
)
def test_bad_input_is_named(backbone: Backbone, change: dict[str, object], message: str) -> None:
    arguments = {"latents": noisy(), "timestep": LEVELS, "text": words(), **change}
    with pytest.raises(InvalidInput, match=message):
        backbone(**arguments)
