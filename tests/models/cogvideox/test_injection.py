"""What an injection adds, and that an injection of nothing adds nothing."""

from __future__ import annotations

import pytest
import torch

from tests.models.cogvideox.conftest import FRAMES, PATCHES, ROWS, SIZE, draw, noisy, words
from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.block import Tokens
from vap_sim.models.cogvideox.cache import KeyValueCache
from vap_sim.models.cogvideox.injection import Injection, combine, first_frame_channels

LEVELS = torch.tensor([17, 803])
SHAPE = (ROWS, FRAMES * PATCHES, 32)


def _run(backbone: Backbone, injection: Injection | None = None, latents: torch.Tensor | None = None) -> torch.Tensor:
    with torch.no_grad():
        return backbone(noisy() if latents is None else latents, LEVELS, words(), injection)


def test_zeros_and_empty_fields_are_no_injection(backbone: Backbone) -> None:
    zeros = torch.zeros(SHAPE)
    bare = _run(backbone)
    assert torch.equal(_run(backbone, Injection()), bare)
    assert torch.equal(_run(backbone, Injection(input_add=zeros, residuals={0: zeros, 2: zeros})), bare)


def test_channels_are_the_last_input_channels(backbone: Backbone) -> None:
    latents = noisy()
    split = _run(backbone, Injection(channels=latents[:, :, 4:]), latents[:, :, :4])
    assert torch.equal(split, _run(backbone))


def test_an_addition_to_the_input_is_made_after_the_patch_embedding(backbone: Backbone) -> None:
    """As much as the input's own tokens differ, added to the others, makes the one the other."""
    other = noisy() + draw(*noisy().shape, seed=4)
    with torch.no_grad():
        difference = backbone.embed(other, words()).video - backbone.embed(noisy(), words()).video
    assert torch.allclose(_run(backbone, Injection(input_add=difference)), _run(backbone, latents=other), atol=1e-4)


def test_a_residual_of_the_last_block_goes_straight_to_the_head(backbone: Backbone) -> None:
    """There the video tokens are the block's plus the residual, exactly; earlier ones change what later blocks see."""
    residual = draw(*SHAPE, seed=4)
    with torch.no_grad():
        levels = backbone.levels(LEVELS, torch.float32)
        from vap_sim.models.cogvideox.block import Shared, walk

        shared = Shared(levels, backbone.rotary(SIZE, FRAMES))
        *_, last = walk(backbone.blocks, backbone.embed(noisy(), words()), shared)
        expected = backbone.head(last.tokens.video + residual, levels, SIZE)
        *_, halfway = walk(list(backbone.blocks)[:2], backbone.embed(noisy(), words()), shared)
        moved = Tokens(halfway.tokens.video + residual, halfway.tokens.text)
        *_, later = walk(list(backbone.blocks)[2:], moved, shared)
        expected_middle = backbone.head(later.tokens.video, levels, SIZE)
    assert torch.equal(_run(backbone, Injection(residuals={2: residual})), expected)
    assert torch.equal(_run(backbone, Injection(residuals={1: residual})), expected_middle)
    assert not torch.allclose(expected, expected_middle, atol=1e-3)


def test_tokens_are_seen_by_their_block_and_dropped(backbone: Backbone) -> None:
    """Zeros are seen too, since keys and values have biases; copies of one token weigh as much as they are many."""
    bare = _run(backbone)
    seen = _run(backbone, Injection(tokens={1: draw(1, 3, 32, seed=4)}))
    assert seen.shape == bare.shape
    assert not torch.allclose(seen, bare, atol=1e-4)
    assert not torch.equal(_run(backbone, Injection(tokens={1: torch.zeros(1, 3, 32)})), bare)
    shuffled = draw(1, 3, 32, seed=4)[:, [2, 0, 1]]
    assert torch.allclose(_run(backbone, Injection(tokens={1: shuffled})), seen, atol=1e-5), "they have no place"


def test_rows_do_not_leak(backbone: Backbone) -> None:
    residual, tokens = torch.zeros(SHAPE), torch.zeros(ROWS, 3, 32)
    calm = _run(backbone, Injection(residuals={0: residual}, tokens={1: tokens}))
    residual, tokens = residual.clone(), tokens.clone()
    residual[1], tokens[1] = 1, 1
    loud = _run(backbone, Injection(residuals={0: residual}, tokens={1: tokens}))
    assert torch.equal(calm[0], loud[0])
    assert not torch.allclose(calm[1], loud[1], atol=1e-3)


def test_combine_adds_and_joins(backbone: Backbone) -> None:
    one = Injection(
        channels=draw(2, 4, 1, 8, 12),
        input_add=draw(*SHAPE),
        residuals={0: draw(*SHAPE)},
        tokens={1: draw(1, 2, 32)},
    )
    two = Injection(
        channels=draw(2, 4, 3, 8, 12, seed=1),
        input_add=draw(*SHAPE, seed=1),
        residuals={0: draw(*SHAPE, seed=1), 2: draw(*SHAPE)},
        tokens={1: draw(2, 1, 32), 0: draw(1, 1, 32)},
    )
    both = combine([one, Injection(), two])
    assert both.channels.shape == (2, 4, 4, 8, 12)
    assert torch.equal(both.input_add, one.input_add + two.input_add)
    assert torch.equal(both.residuals[0], one.residuals[0] + two.residuals[0])
    assert torch.equal(both.residuals[2], two.residuals[2])
    assert both.tokens[1].shape == (2, 3, 32)
    assert torch.equal(both.tokens[0], two.tokens[0])
    assert combine([]).input_add is None
    cache = KeyValueCache(draw(1, 1, 1, 2, 4), draw(1, 1, 1, 2, 4), 0, 1)
    assert combine([one, Injection(cache=cache)]).cache is cache
    with pytest.raises(InvalidInput, match="2 with a cache"):
        combine([Injection(cache=cache), Injection(cache=cache)])


def test_first_frame_channels_are_the_image_then_zeros() -> None:
    image = draw(2, 1, 4, 8, 12)
    channels = first_frame_channels(image, 3)
    assert torch.equal(channels[:, :1], image)
    assert channels.shape == (2, 3, 4, 8, 12)
    assert not channels[:, 1:].any()
    with pytest.raises(InvalidInput, match="latents of the first frame"):
        first_frame_channels(image[:, 0], 3)


@pytest.mark.parametrize(
    ("injection", "message"),
    [
        (Injection(channels=draw(2, 3, 4, 8, 12)), r"channels of the injection: .* expected \(2, 4, channels, 8, 12\)"),
        (Injection(input_add=draw(2, 5, 32)), r"input_add of an injection: given \(2, 5, 32\), expected \(2, 96, 32\)"),
        (Injection(residuals={1: draw(1, 96, 32)}), r"residuals\[1\] of an injection"),
        (Injection(residuals={3: draw(*SHAPE)}), r"block of an injection's residuals: given 3, expected 0 .. 2"),
        (Injection(tokens={-1: draw(1, 1, 32)}), "block of an injection's tokens: given -1"),
        (Injection(tokens={1: draw(3, 1, 32)}), r"tokens\[1\] of an injection: .* expected \(1 or 2, m, 32\)"),
    ],
)
def test_bad_injections_are_named(backbone: Backbone, injection: Injection, message: str) -> None:
    latents = noisy()[:, :, :4] if injection.channels is not None else noisy()
    with pytest.raises(InvalidInput, match=message):
        _run(backbone, injection, latents)
