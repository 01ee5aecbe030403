"""Biased tokens and cross-attention of an injection, against a block by hand, in one pass and beside a cache."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.models.cogvideox.conftest import FRAMES, PATCHES, ROWS, SIZE, WORDS, draw, noisy, words
from tests.models.cogvideox.naive_block import naive
from tests.models.cogvideox.test_stream import both_ways
from tests.models.cogvideox.worlds import Pooled, tiny_world
from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.block import Additions, KeyStream, Shared, walk
from vap_sim.models.cogvideox.cache import causal_mask
from vap_sim.models.cogvideox.injection import Injection, Noised, Prepared, combine
from vap_sim.models.cogvideox.memory import checkpoint_blocks

LEVELS = {
    "row": torch.tensor([17, 803]),
    "frame": torch.tensor([[0, 100, 500, 999], [3, 3, 3, 700]]),
}
MANY = 3


def turn(seed: int) -> Callable[[Tensor], Tensor]:
    """A cross-attention to three keys, each token for itself."""
    keys, values = draw(MANY, 32, seed=seed), draw(MANY, 32, seed=seed + 1)
    return lambda video: (video @ keys.to(video).T / 8).softmax(dim=2) @ values.to(video)


def whole(seed: int = 0, rows: int = ROWS) -> Injection:
    """Biased tokens in two blocks, silent and loud ones, and a cross-attention in another two."""
    bias = {0: draw(1, MANY, seed=seed + 2) * 3, 1: draw(rows, MANY, seed=seed + 3) * 3}
    tokens = {0: draw(1, MANY, 32, seed=seed), 1: draw(rows, MANY, 32, seed=seed + 1), 2: draw(1, 1, 32, seed=seed)}
    return Injection(tokens=tokens, bias=bias, cross={0: turn(seed + 5), 2: turn(seed + 7)})


@pytest.mark.parametrize("kind", LEVELS)
@pytest.mark.parametrize("rows", [1, ROWS])
def test_a_biased_block_is_one_with_a_dense_matrix_of_numbers(backbone: Backbone, kind: str, rows: int) -> None:
    tokens, rotary = backbone.embed(noisy(), words()), backbone.rotary(SIZE, FRAMES)
    levels = backbone.levels(LEVELS[kind], torch.float32)
    extra, bias = draw(rows, MANY, 32, seed=4), draw(rows, MANY, seed=5) * 3
    with torch.no_grad():
        (got,) = walk(
            [backbone.blocks[0]], tokens, Shared(levels, rotary), Additions(tokens={0: extra}, bias={0: bias})
        )
        own = naive(backbone.blocks[0], tokens, levels, rotary, extra=extra, bias=bias)
        unbiased = naive(backbone.blocks[0], tokens, levels, rotary, extra=extra)
    assert got.tokens.text is not None and own.text is not None
    torch.testing.assert_close(got.tokens.video, own.video, rtol=0, atol=1e-5)
    torch.testing.assert_close(got.tokens.text, own.text, rtol=0, atol=1e-5)
    assert not torch.allclose(own.video, unbiased.video, atol=1e-3)
    assert float((own.text - unbiased.text).abs().max()) < 1e-5, "text does not see the bias"


@pytest.mark.parametrize("kind", LEVELS)
def test_cross_is_added_after_attention_and_before_the_feed_forward(backbone: Backbone, kind: str) -> None:
    tokens, rotary = backbone.embed(noisy(), words()), backbone.rotary(SIZE, FRAMES)
    levels = backbone.levels(LEVELS[kind], torch.float32)
    with torch.no_grad():
        (got,) = walk([backbone.blocks[0]], tokens, Shared(levels, rotary), Additions(cross={0: turn(1)}))
        own = naive(backbone.blocks[0], tokens, levels, rotary, cross=turn(1))
        without = naive(backbone.blocks[0], tokens, levels, rotary)
    torch.testing.assert_close(got.tokens.video, own.video, rtol=0, atol=1e-5)
    torch.testing.assert_close(got.tokens.text, own.text, rtol=0, atol=1e-5)
    assert not torch.allclose(own.video, without.video, atol=1e-2)


def test_nothing_added_has_the_bits_of_the_bare_backbone(backbone: Backbone) -> None:
    zero = Injection(cross={1: torch.zeros_like})
    with torch.no_grad():
        for levels in LEVELS.values():
            bare = backbone(noisy(), levels, words())
            assert torch.equal(backbone(noisy(), levels, words(), Injection(bias={}, cross={}, stream=None)), bare)
            assert torch.equal(backbone(noisy(), levels, words(), combine([Injection(), Injection()])), bare)
            assert torch.equal(backbone(noisy(), levels, words(), zero), bare)
        tokens = {1: draw(1, MANY, 32)}
        plain = backbone(noisy(), LEVELS["row"], words(), Injection(tokens=tokens))
        silent = backbone(noisy(), LEVELS["row"], words(), Injection(tokens=tokens, bias={1: torch.zeros(1, MANY)}))
        deaf = backbone(
            noisy(), LEVELS["row"], words(), Injection(tokens=tokens, bias={1: torch.full((1, MANY), -1e4)})
        )
    assert torch.allclose(plain, silent, atol=1e-5)
    assert not torch.allclose(plain, deaf, atol=1e-3)


def test_rows_do_not_leak(backbone: Backbone) -> None:
    calm, given = whole(), whole()
    loud = {block: value.clone().expand(ROWS, -1).contiguous() for block, value in given.bias.items()}
    for value in loud.values():
        value[1] += 5
    with torch.no_grad():
        first = backbone(noisy(), LEVELS["row"], words(), calm)
        changed = Injection(tokens=given.tokens, bias=loud, cross=given.cross)
        second = backbone(noisy(), LEVELS["row"], words(), changed)
        alone = backbone(noisy()[:1], LEVELS["row"][:1], words()[:1], _of_row(calm, 0))
    assert torch.equal(first[0], second[0])
    assert not torch.allclose(first[1], second[1], atol=1e-3)
    assert torch.allclose(first[:1], alone, atol=1e-5)


def _of_row(one: Injection, row: int) -> Injection:
    def cut(values: Any) -> dict[int, Tensor]:
        return {block: value[row : row + 1] if len(value) > 1 else value for block, value in values.items()}

    return Injection(tokens=cut(one.tokens), bias=cut(one.bias), cross=one.cross)


def test_frame_by_frame_beside_a_cache_equals_one_pass(backbone: Backbone) -> None:
    clean, given = torch.zeros(ROWS, dtype=torch.int64), whole()
    mask = causal_mask([1] * FRAMES, PATCHES, WORDS)
    latents = noisy()
    with torch.no_grad():
        expected = backbone(latents, clean, words(), given, mask=mask, text_timestep=clean)
        first = {"mask": causal_mask([1], PATCHES, WORDS), "text_timestep": clean, "collect": True}
        out, cache = backbone(latents[:, :1], clean, words(), given, **first)
        parts = [out]
        for frame in range(1, FRAMES):
            past = backbone.past(cache, range(frame), SIZE)
            arguments = {"past": past, "positions": [frame], "text_timestep": clean, "collect": True}
            out, new = backbone(latents[:, frame : frame + 1], clean, None, given, **arguments)
            cache, parts = cache.append(new), [*parts, out]
    torch.testing.assert_close(torch.cat(parts, dim=1), expected, rtol=0, atol=1e-4)


class Whole:
    """A conditioner of biased tokens and cross-attention, the same at every noise level."""

    def install(self, backbone: Backbone) -> Callable[[], None]:
        return lambda: None

    def prepare(self, *_: Any, **__: Any) -> Prepared:
        return {}

    def inject(self, prepared: Prepared, noised: Noised) -> Injection:
        given = whole(rows=1)
        blocks = {name: {0: getattr(given, name)[0], 1: getattr(given, name)[1]} for name in ("tokens", "bias")}
        return Injection(**blocks, cross={0: turn(5), 1: turn(7)})


@pytest.mark.parametrize("kind", ["i2v", "t2v"])
def test_a_stream_of_frames_is_as_uncached(kind: str) -> None:
    bare = both_ways(tiny_world(kind, conditioners=(Pooled(32),), rows_at_once=2), 2)
    told = both_ways(tiny_world(kind, conditioners=(Whole(), Pooled(32)), rows_at_once=2), 2)
    for (mine, other), (without, _) in zip(told, bare, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-4)
        assert float((mine - without).abs().max()) > 1e-2


@pytest.mark.parametrize("levels", LEVELS.values(), ids=list(LEVELS))
def test_gradients_reach_all_that_is_added_and_checkpointing_keeps_them(backbone: Backbone, levels: Tensor) -> None:
    found = []
    for on in (False, True):
        weight, tokens, bias = (draw(*shape).requires_grad_() for shape in ((32, 32), (1, MANY, 32), (1, MANY)))
        given = Injection(tokens={1: tokens}, bias={1: bias}, cross={1: lambda video, own=weight: video @ own})
        checkpoint_blocks(backbone, on)
        backbone(noisy(), levels, words(), given).square().mean().backward()
        checkpoint_blocks(backbone, False)
        found.append([weight.grad, tokens.grad, bias.grad])
    for first, second in zip(*found, strict=True):
        assert float(first.abs().max()) > 1e-6 and torch.allclose(first, second, atol=1e-6)
    backbone.zero_grad(set_to_none=True)


def same(backbone: Backbone, one: Injection, other: Injection) -> None:
    with torch.no_grad():
        mine, theirs = (backbone(noisy(), LEVELS["row"], words(), given) for given in (one, other))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-5)


def test_combine_is_associative_and_does_not_care_for_the_order(backbone: Backbone) -> None:
    bare = Injection(tokens={0: draw(ROWS, 2, 32, seed=21), 2: draw(1, 1, 32, seed=22)}, cross={2: turn(23)})
    one, two, three = whole(), bare, whole(40)
    ways = [
        combine([one, two, three]),
        combine([combine([one, two]), three]),
        combine([one, combine([two, three])]),
        reduce(lambda first, second: combine([first, second]), [one, two, three], Injection()),
    ]
    for other in ways[1:]:
        assert other.tokens.keys() == ways[0].tokens.keys() and other.bias.keys() == ways[0].bias.keys()
        assert all(torch.equal(ways[0].tokens[block], other.tokens[block]) for block in other.tokens)
        assert all(torch.equal(ways[0].bias[block], other.bias[block]) for block in other.bias)
        same(backbone, ways[0], other)
    same(backbone, ways[0], combine([three, one, two]))


def test_combine_keeps_each_bias_with_its_tokens() -> None:
    first = Injection(tokens={1: draw(1, 2, 32), 2: draw(1, 1, 32)}, bias={1: torch.tensor([[3.0, 4.0]])})
    second = Injection(tokens={1: draw(ROWS, 1, 32)})
    third = Injection(tokens={1: draw(1, 1, 32)}, bias={1: torch.tensor([[5.0], [6.0]])})
    both = combine([second, first, third])
    assert torch.equal(both.bias[1], torch.tensor([[0.0, 3, 4, 5], [0, 3, 4, 6]]))
    assert both.tokens[1].shape == (ROWS, 4, 32)
    assert both.bias.keys() == {1} and both.tokens.keys() == {1, 2}
    seen = torch.ones(1, 4, 32)
    sums = combine([Injection(cross={0: lambda v: v}), Injection(cross={0: lambda v: 2 * v, 1: lambda v: v})]).cross
    assert torch.equal(sums[0](seen), 3 * seen) and torch.equal(sums[1](seen), seen)
    stream = Injection(stream=KeyStream({}))
    assert combine([first, stream]).stream is stream.stream
    with pytest.raises(InvalidInput, match="injections to combine: given 2 with a stream, expected at most one"):
        combine([stream, first, stream])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Injection(bias={1: draw(1, 2)}), r"bias\[1\] of an injection: given \(1, 2\), expected none"),
        (lambda: Injection(tokens={1: draw(1, 3, 32)}, bias={1: draw(1, 2)}), r"expected \(1 or b, m\) of its m tok"),
        (lambda: Injection(tokens={1: draw(1, 3, 32)}, bias={1: draw(3)}), r"bias\[1\] of an injection: given \(3,\)"),
        (
            lambda: Injection(tokens={1: draw(1, 3, 32)}, bias={1: draw(5, 3)}),
            r"\(5, 3\), expected .*\(1 or 2, 3\)",
        ),
        (lambda: Injection(cross={3: torch.zeros_like}), "block of an injection's cross: given 3, expected 0 .. 2"),
        (lambda: Injection(cross={1: lambda video: video[:, 1:]}), r"cross\[1\] of an injection: .* \(2, 96, 32\)"),
        (lambda: Injection(cross={1: lambda video: video[:1]}), r"cross\[1\] of an injection: given \(1, 96, 32\)"),
    ],
)
def test_bad_additions_are_named(backbone: Backbone, make: Callable[[], Injection], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        backbone(noisy(), LEVELS["row"], words(), make())
