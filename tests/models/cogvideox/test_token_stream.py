"""A second stream of tokens beside the backbone's: joint attention against a block by hand, and who may not join."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tests.models.cogvideox.conftest import FRAMES, PATCHES, ROWS, SIZE, WORDS, draw, noisy, small_backbone, words
from tests.models.cogvideox.naive_block import asked, finish, naive, normal, soft
from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.block import Additions, KeyStream, Levels, Shared, Tokens, TokenStream, walk
from vap_sim.models.cogvideox.cache import causal_mask
from vap_sim.models.cogvideox.injection import Injection
from vap_sim.models.cogvideox.memory import checkpoint_blocks

LEVELS = torch.tensor([17, 803])
MIXED = torch.tensor([[0, 100, 500, 999], [3, 3, 3, 700]])


@pytest.fixture(scope="module")
def expert() -> Backbone:
    return small_backbone(seed=7).requires_grad_(False)


def stream_of(expert: Backbone, blocks: tuple[int, ...] = (0, 2), rows: int = ROWS) -> TokenStream:
    """A clip of two frames and its words, which stand right before the video."""
    with torch.no_grad():
        tokens = expert.embed(noisy(frames=2, rows=rows), draw(rows, WORDS, 8, seed=6))
        levels = expert.levels(LEVELS[:rows], torch.float32)
    return TokenStream(tokens, levels, expert.rotary(SIZE, 2, [-2, -1]), {one: expert.blocks[one] for one in blocks})


def by_hand(block: object, beside: object, tokens: Tokens, levels: Levels, rotary: object, stream: TokenStream,
            aside: Tokens, bias: Tensor | None = None) -> tuple[Tokens, Tokens]:  # fmt: skip
    """Both streams after one block, each asking over [text, video, reference text, reference video].

    bias: (b, 1), of the video's and the text's logits where they look at the reference.
    """
    sides = []
    for one, own, level, table in ((block, tokens, levels, rotary), (beside, aside, stream.levels, stream.rotary)):
        inner, gates = normal(one.norm1, own, level)
        sides.append((one, own, level, gates, asked(one.attn1, inner, table)))
    keys, values = (torch.cat([side[4][which] for side in sides], 2) for which in (1, 2))
    count, out = sides[0][4][1].shape[2], []
    for number, (one, own, level, gates, (query, _, _)) in enumerate(sides):
        added = torch.zeros(len(query), 1, query.shape[2], keys.shape[2])
        if bias is not None and number == 0:
            added[:, :, :, count:] = bias[:, :, None, None]
        out.append(finish(one, own, level, gates, soft(query, keys, values, added)))
    return out[0], out[1]


def close(one: Tokens, other: Tokens, atol: float = 2e-5) -> None:
    torch.testing.assert_close(one.video, other.video, rtol=0, atol=atol)
    torch.testing.assert_close(one.text, other.text, rtol=0, atol=atol)


@pytest.mark.parametrize("timestep", [LEVELS, MIXED], ids=["row", "frame"])
def test_two_streams_join_as_by_hand(backbone: Backbone, expert: Backbone, timestep: Tensor) -> None:
    """At block 0 both ways, at block 1 the reference rests unseen, at block 2 it is seen as block 0 left it."""
    stream = stream_of(expert)
    tokens, rotary = backbone.embed(noisy(), words()), backbone.rotary(SIZE, FRAMES)
    levels = backbone.levels(timestep, torch.float32)
    with torch.no_grad():
        walked = list(walk(backbone.blocks, tokens, Shared(levels, rotary), Additions(stream=stream)))
        first, aside = by_hand(backbone.blocks[0], expert.blocks[0], tokens, levels, rotary, stream, stream.tokens)
        second = naive(backbone.blocks[1], first, levels, rotary)
        third, _ = by_hand(backbone.blocks[2], expert.blocks[2], second, levels, rotary, stream, aside)
        bare = list(walk(backbone.blocks, tokens, Shared(levels, rotary)))
    for step, own in zip(walked, (first, second, third), strict=True):
        close(step.tokens, own)
    assert not torch.allclose(walked[2].tokens.video, bare[2].tokens.video, atol=1e-2)


def test_a_bias_weighs_the_reference_and_rows_may_go_without(backbone: Backbone, expert: Backbone) -> None:
    plain = stream_of(expert, (1,))
    tokens, shared = backbone.embed(noisy(), words()), Shared(backbone.levels(LEVELS, torch.float32))
    bias = torch.tensor([[math.log(3.0)], [-1.0]])
    with torch.no_grad():
        (weighed,) = walk([backbone.blocks[1]], tokens, shared, Additions(stream=_first(plain, bias=bias)))
        own, _ = by_hand(backbone.blocks[1], expert.blocks[1], tokens, shared.levels, None, plain, plain.tokens, bias)
        some = backbone(noisy(), LEVELS, words(), Injection(stream=replace(plain, visible=torch.tensor([True, False]))))
        every, bare = backbone(noisy(), LEVELS, words(), Injection(stream=plain)), backbone(noisy(), LEVELS, words())
    close(weighed.tokens, own)
    assert torch.allclose(some[0], every[0], atol=1e-5) and torch.allclose(some[1], bare[1], atol=1e-5)
    assert not torch.allclose(every[1], bare[1], atol=1e-3)


def _first(stream: TokenStream, **changes: Tensor) -> TokenStream:
    """The same for a walk that begins at its only block."""
    (block,) = stream.blocks.values()
    return replace(stream, blocks={0: block}, **changes)


def test_keys_of_a_stream_are_columns_of_every_query(backbone: Backbone) -> None:
    """As tokens that make these keys, text looks at them too, and a cache stays exact beside them."""
    keys, values = draw(ROWS, 2, 6, 16, seed=3), draw(ROWS, 2, 6, 16, seed=4)
    tokens, shared = backbone.embed(noisy(), words()), Shared(backbone.levels(MIXED, torch.float32))
    block = backbone.blocks[0]
    with torch.no_grad():
        (got,) = walk([block], tokens, shared, Additions(stream=KeyStream({0: (keys, values)})))
        inner, gates = normal(block.norm1, tokens, shared.levels)
        query, key, value = asked(block.attn1, inner)
        key, value = torch.cat([key, keys], 2), torch.cat([value, values], 2)
        own = finish(block, tokens, shared.levels, gates, soft(query, key, value, torch.zeros(())))
    close(got.tokens, own)
    given = Injection(stream=KeyStream({0: (keys, values), 2: (values, keys)}, bias=torch.full((1, 1), 0.5)))
    clean = torch.zeros(ROWS, dtype=torch.int64)
    mask = causal_mask([1] * 2, PATCHES, WORDS)
    latents = noisy(frames=2)
    with torch.no_grad():
        whole = backbone(latents, clean, words(), given, mask=mask, text_timestep=clean)
        _, cache = backbone(latents[:, :1], clean, words(), given, mask=mask[:-PATCHES, :-PATCHES],
                            text_timestep=clean, collect=True)  # fmt: skip
        past = backbone.past(cache, [0], SIZE)
        second = backbone(latents[:, 1:], clean, None, given, past=past, positions=[1], text_timestep=clean)
    torch.testing.assert_close(second, whole[:, 1:], rtol=0, atol=1e-4)


def test_gradients_reach_the_expert_with_and_without_checkpointing(backbone: Backbone) -> None:
    found = []
    for on in (False, True):
        expert = small_backbone(seed=7)
        tokens = expert.embed(noisy(frames=2), words())
        blocks = {0: expert.blocks[0], 1: expert.blocks[1]}
        stream = TokenStream(tokens, expert.levels(LEVELS, torch.float32), None, blocks)
        checkpoint_blocks(backbone, on)
        backbone(noisy(), LEVELS, words(), Injection(stream=stream)).square().mean().backward()
        checkpoint_blocks(backbone, False)
        named = dict(expert.named_parameters())
        parts = ("patch_embed", "time_embedding", "blocks.0.")
        seen = [name for name in named if any(part in name for part in parts)]
        found.append([named[name].grad for name in seen])
        assert all(grad is not None and float(grad.abs().max()) > 0 for grad in found[-1]), "all of block 0 is used"
    assert all(torch.allclose(first, second, atol=1e-6) for first, second in zip(*found, strict=True))
    backbone.zero_grad(set_to_none=True)


def _in_a_mask(backbone: Backbone, stream: TokenStream) -> None:
    backbone(noisy(), LEVELS, words(), Injection(stream=stream), mask=causal_mask([1] * FRAMES, PATCHES, WORDS))


Case = Callable[[Backbone, TokenStream], object]


@pytest.mark.parametrize(
    ("case", "error", "message"),
    [
        (_in_a_mask, Unsupported, "a stream of tokens that look at the video's, in a pass with cached or masked"),
        (
            lambda b, s: b(noisy(), LEVELS, words(), Injection(stream=s), collect=True),
            Unsupported,
            "give keys of a stream that looks at itself alone",
        ),
        (
            lambda b, s: b(noisy(), LEVELS, words(), Injection(stream=replace(s, blocks={3: b.blocks[0]}))),
            InvalidInput,
            "block of an injection's stream: given 3, expected 0 .. 2",
        ),
        (
            lambda b, s: b(noisy(rows=1), LEVELS[:1], words(1), Injection(stream=s)),
            InvalidInput,
            "rows of a stream: given 2, expected 1",
        ),
        (
            lambda b, s: b(noisy(), LEVELS, words(), Injection(stream=replace(s, bias=torch.zeros(3)))),
            InvalidInput,
            r"bias of a stream: given \(3,\), expected \(1 or 2, 1\)",
        ),
        (
            lambda b, s: b(noisy(), LEVELS, words(), Injection(stream=replace(s, visible=torch.ones(2)))),
            InvalidInput,
            r"visible of a stream: given torch.float32 \(2,\), expected torch.bool \(2,\)",
        ),
        (
            lambda b, s: b(noisy(), LEVELS, words(), Injection(stream=KeyStream({0: (draw(2, 2, 5, 8),) * 2}))),
            InvalidInput,
            r"keys and values\[0\] of a stream: given .*, expected two of \(2, 2, 'n', 16\)",
        ),
    ],
)
def test_streams_that_do_not_fit_are_named(
    backbone: Backbone, expert: Backbone, case: Case, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        case(backbone, stream_of(expert))
