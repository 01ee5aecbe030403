"""The prism by itself: its size, what it looks at, and how frames listen to what it says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.conditioners.action_prism_encoder import (
    PRESETS,
    PrismEncoder,
    PrismLayer,
    PrismSizes,
    moments,
    place_table,
)
from vap_sim.models.conditioners.action_prism_layers import Attention, FrameListener, RelativeTime

SIZES = PrismSizes.preset("tiny", channels=4, frames=3, text=8)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def count(module: nn.Module) -> int:
    return sum(value.numel() for value in module.parameters())


@pytest.fixture(scope="module")
def encoder() -> PrismEncoder:
    """Do not change it."""
    return PrismEncoder(SIZES).requires_grad_(False)


LATENTS, WORDS = draw(2, 3, 4, 4, 6), draw(2, 5, 8, seed=1)


def test_parameters_at_full_size() -> None:
    counts = {}
    for name in PRESETS:
        with torch.device("meta"):
            whole = PrismEncoder(PrismSizes.preset(name, channels=16, frames=13, text=4096))
        counts[name] = count(whole)
    assert counts == {"paper": 484_728_480, "standard": 322_297_152, "tiny": 204_932}
    with torch.device("meta"):
        layer = PrismLayer(PrismSizes.preset("paper", channels=16, frames=13, text=4096))
    # The released code's 18 layers have 475.6 million.
    assert 18 * count(layer) == pytest.approx(475.6e6, rel=1e-3)


def test_each_frame_becomes_tokens_of_spread_one(encoder: PrismEncoder) -> None:
    motion = encoder(LATENTS, WORDS)
    assert motion.shape == (2, 3 * SIZES.tokens, SIZES.motion)
    assert float(motion.std()) == pytest.approx(1, abs=0.05)
    assert encoder(draw(1, 3, 4, 8, 2), WORDS[:1]).shape == motion[:1].shape, "any picture size"


def test_a_row_alone_equals_the_row_in_a_batch(encoder: PrismEncoder) -> None:
    both = encoder(LATENTS, WORDS)
    for row in range(2):
        assert torch.allclose(encoder(LATENTS[row : row + 1], WORDS[row : row + 1])[0], both[row], atol=1e-5)


def test_it_sees_time_places_words_and_every_frame(encoder: PrismEncoder) -> None:
    motion = encoder(LATENTS, WORDS)

    def differs(latents: Tensor, words: Tensor = WORDS) -> float:
        return float((encoder(latents, words) - motion).abs().amax())

    assert differs(LATENTS) == 0
    assert differs(LATENTS, WORDS.flip(0)) > 1e-3
    elsewhere = LATENTS.reshape(2, 3, 4, 4, 3, 2).flip(4).reshape(LATENTS.shape)
    assert differs(elsewhere) > 1e-2, "the same patches at other places: a push to the left is no push to the right"
    backwards = encoder(LATENTS.flip(1), WORDS).reshape(2, 3, SIZES.tokens, -1).flip(1).flatten(1, 2)
    assert float((backwards - motion).abs().amax()) > 1e-2, "opening is not closing"
    for frame in range(3):
        changed = LATENTS.clone()
        changed[:, frame] += 1
        first = (encoder(changed, WORDS) - motion).abs()[:, : SIZES.tokens]
        assert float(first.amax()) > 1e-4, "the first frame's tokens hear of every other"


def test_without_text_the_words_are_missing() -> None:
    mute = PrismEncoder(replace(SIZES, text=0))
    assert mute(LATENTS).shape == (2, 6, 32)
    assert not [name for name, _ in mute.named_parameters() if "words" in name]


def test_first_weights_follow_from_the_seed_and_leave_the_global_generator() -> None:
    before = torch.get_rng_state()
    one, two, three = PrismEncoder(SIZES), PrismEncoder(SIZES), PrismEncoder(SIZES, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(one.queries, two.queries) and not torch.equal(one.queries, three.queries)


def test_places_are_told_from_edge_to_edge_at_any_size() -> None:
    small, large = place_table(2, 3, 16), place_table(6, 9, 16)
    assert torch.allclose(large[1::3, 1::3], small, atol=1e-5), "the same places in the picture"
    assert len(torch.unique(large.flatten(0, 1), dim=0)) == 54


def test_moments_begin_anew_with_every_demonstration() -> None:
    assert moments(SIZES, 12).tolist() == [0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 2, 2]


def test_relative_time_is_looked_up_by_distance_and_clamped() -> None:
    four = RelativeTime(4, 2).table
    assert torch.equal(four[:, 0], torch.tensor([-4.0, -2, 0, -1, -2])), "looks back rather than ahead"
    assert torch.equal(four[:, 1], four[:, 0].flip(0)) and torch.equal(four[:, 2:], four[:, :2] / 2)
    time = RelativeTime(2, 2)
    with torch.no_grad():
        time.table.copy_(torch.arange(10.0).reshape(5, 2))
    looked = time(torch.tensor([[[-9, -2, 0, 1, 7]]]))
    assert looked.shape == (1, 2, 1, 5)
    assert looked[0, :, 0].tolist() == [[0, 0, 4, 6, 8], [1, 1, 5, 7, 9]]


def woken(reach: int = 2) -> FrameListener:
    listener = FrameListener(8, 6, heads=2, reach=reach).requires_grad_(False)
    for number, value in enumerate(listener.parameters()):
        value.add_(draw(*value.shape, seed=number) * 0.3)
    return listener


def test_a_fresh_listener_adds_nothing() -> None:
    listener = FrameListener(8, 6, heads=2, reach=2)
    assert not listener(draw(2, 6, 8), draw(2, 4, 6), torch.zeros(2, 3, 4, dtype=torch.int64)).any()


def test_a_listener_equals_attention_place_by_place() -> None:
    """Written out as the paper says it: the tokens of one place over time, beside them the moments of their own row."""
    rows, frames, places, heads, listener = 2, 3, 4, 2, woken()
    tokens, motion = draw(rows, frames * places, 8), draw(rows, 5, 6, seed=1)
    distance = torch.randint(-3, 4, (rows, frames, 5), generator=torch.Generator().manual_seed(2))
    added = listener(tokens, motion, distance).reshape(rows, frames, places, 8)
    parts: Attention = listener.attention
    for row in range(rows):
        for place in range(places):
            series = listener.norm(tokens[row].reshape(frames, places, 8)[:, place])
            query, key, value = parts.to_q(series), parts.to_k(motion[row]), parts.to_v(motion[row])
            mixed = []
            for head in range(heads):
                own = slice(4 * head, 4 * head + 4)
                bias = listener.time.table[distance[row].clamp(-2, 2) + 2, head]
                weights = (query[:, own] @ key[:, own].T / 2 + bias).softmax(dim=1)
                mixed.append(weights @ value[:, own])
            expected = parts.to_out(torch.cat(mixed, dim=1))
            assert torch.allclose(added[row, :, place], expected, atol=1e-5)


BAD: list[tuple[Callable[[], object], str]] = [
    (lambda: PrismSizes(channels=0, frames=3, text=8), "channels of a prism: given 0, expected a whole number from 1"),
    (lambda: PrismSizes(channels=4, frames=1, text=8), "frames of a prism: given 1, expected a whole number from 2"),
    (lambda: replace(SIZES, layers=10**6), "layers of a prism: given 1000000"),
    (lambda: replace(SIZES, heads=True), "heads of a prism: given True"),
    (
        lambda: replace(SIZES, heads=3),
        "width of a prism: given 32 for 3 heads, expected a multiple of the heads and of 4",
    ),
    (lambda: PrismSizes.preset("papr", channels=4, frames=3, text=8), "preset of a prism 'papr'. Did you mean 'paper'"),
    (lambda: PrismSizes.preset("tiny", channels=4, frames=3, text=8, head=2), "size of a prism 'head'.*'heads'"),
    (lambda: PrismEncoder(SIZES)(LATENTS[:, :2], WORDS), r"latents .* \(2, 2, 4, 4, 6\), expected \(b, 3, 4, h, w\)"),
    (lambda: PrismEncoder(SIZES)(LATENTS[..., :5], WORDS), "multiples of 2"),
    (lambda: PrismEncoder(SIZES)(LATENTS), r"words of a demonstration: given None, expected \(2, L, 8\)"),
    (lambda: PrismEncoder(SIZES)(LATENTS, WORDS[:1]), r"words .* \(1, 5, 8\), expected \(2, L, 8\)"),
]


@pytest.mark.parametrize(("call", "words"), BAD)
def test_bad_input_is_named(call: Callable[[], object], words: str) -> None:
    with pytest.raises((InvalidInput, UnknownName), match=words):
        call()
