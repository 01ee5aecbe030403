"""Frames made one after the other on cached keys equal all of them recomputed under a causal mask."""

from __future__ import annotations

import pytest
import torch

from tests.models.cogvideox.conftest import FRAMES, PATCHES, ROWS, SIZE, WORDS, draw, noisy, words
from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.cache import KeyValueCache, Past, causal_mask
from vap_sim.models.cogvideox.injection import Injection

CLEAN = torch.zeros(ROWS, dtype=torch.int64)


@pytest.mark.parametrize("kind", ["2b", "5b", "5b-i2v"])
@pytest.mark.parametrize("chunks", [(1, 1, 1, 1), (1, 2, 1), (2, 2)], ids=str)
def test_cached_equals_uncached(backbones: dict[str, Backbone], kind: str, chunks: tuple[int, ...]) -> None:
    """Also with a noisy last chunk, an injection, and a text level of its own."""
    backbone, latents = backbones[kind], noisy(kind)
    last = FRAMES - chunks[-1]
    levels = torch.zeros(ROWS, FRAMES, dtype=torch.int64)
    levels[:, last:] = 600
    residual, extra = draw(ROWS, FRAMES * PATCHES, 32, seed=5), {2: draw(1, 3, 32, seed=6)}
    with torch.no_grad():
        whole = backbone(
            latents, levels, words(), Injection(residuals={1: residual}, tokens=extra),
            text_timestep=CLEAN, mask=causal_mask(chunks, PATCHES, WORDS),
        )  # fmt: skip
        cache, start = None, 0
        for count in chunks:
            frames = range(start, start + count)
            own = Injection(residuals={1: residual[:, start * PATCHES : (start + count) * PATCHES]}, tokens=extra)
            part, new = backbone(
                latents[:, start : start + count],
                levels[:, start : start + count],
                words() if cache is None else None,
                own,
                text_timestep=CLEAN,
                positions=frames,
                mask=causal_mask([count], PATCHES, WORDS) if cache is None else None,
                past=None if cache is None else backbone.past(cache, range(start), SIZE),
                collect=True,
            )
            assert torch.allclose(part, whole[:, start : start + count], atol=1e-4)
            cache = new if cache is None else cache.append(new)
            start += count
    assert cache.frames == FRAMES


def _cache(frames: int = 3, rows: int = ROWS) -> KeyValueCache:
    shape = (rows, 3, 2, WORDS + frames * PATCHES, 16)
    return KeyValueCache(draw(*shape, seed=7), draw(*shape, seed=8), WORDS, PATCHES)


def test_rotary_time_is_relative(backbones: dict[str, Backbone]) -> None:
    """A window numbered anew, or from a negative time, attends as it did: only distances count, and they do count."""
    backbone, cache = backbones["5b"], _cache()
    new = noisy("5b", 1)

    def step(history: list[int], now: int) -> torch.Tensor:
        past = backbone.past(cache, history, SIZE)
        with torch.no_grad():
            return backbone(new, CLEAN, None, past=past, positions=[now])

    # Text keys are not rotated, but neither do their logits depend on a query's time where keys carry no time.
    textless = KeyValueCache(cache.keys[:, :, :, WORDS:], cache.values[:, :, :, WORDS:], 0, PATCHES)
    first, moved = (backbone.past(textless, numbers, SIZE) for numbers in ([0, 1, 2], [-7, -6, -5]))
    query = draw(ROWS, 3, 2, PATCHES, 16, seed=9)
    tables = [backbone.rotary(SIZE, 1, [number]) for number in (3, -4)]
    from vap_sim.models.cogvideox.positions import rotate

    logits = [rotate(query, table) @ past.keys.mT for table, past in zip(tables, (first, moved), strict=True)]
    assert torch.allclose(*logits, atol=1e-4)
    assert not torch.allclose(step([0, 1, 2], 3), step([0, 1, 2], 9), atol=1e-3)


def test_an_invisible_frame_is_as_if_it_were_not_there(backbone: Backbone) -> None:
    cache = _cache()
    visible = torch.tensor([[True, False, True], [True, True, True]])
    with torch.no_grad():
        padded = backbone(
            noisy(frames=1), CLEAN, None, past=backbone.past(cache, [0, 1, 2], SIZE, visible), positions=[3]
        )
        everything = backbone(noisy(frames=1), CLEAN, None, past=backbone.past(cache, [0, 1, 2], SIZE), positions=[3])
        cut = cache.recent(1, first=1)
        without = backbone(noisy(frames=1), CLEAN, None, past=backbone.past(cut, [0, 2], SIZE), positions=[3])
    assert torch.allclose(padded[0], without[0], atol=1e-5)
    assert torch.allclose(padded[1], everything[1], atol=1e-5)
    assert not torch.allclose(without, everything, atol=1e-4)


def test_recent_keeps_text_sink_and_newest() -> None:
    cache = _cache(5)
    kept = cache.recent(2, first=1)
    assert kept.frames == 3
    frames = [0, 3, 4]
    rows = [*range(WORDS), *(WORDS + frame * PATCHES + one for frame in frames for one in range(PATCHES))]
    assert torch.equal(kept.keys, cache.keys[:, :, :, rows])
    assert torch.equal(kept.values, cache.values[:, :, :, rows])
    assert cache.recent(5) is cache
    assert cache.recent(0).frames == 0
    back = KeyValueCache.of(cache.tensors(), text=WORDS, patches=PATCHES)
    assert torch.equal(back.keys, cache.keys)
    assert back.nbytes == 2 * 4 * cache.keys.numel()
    assert torch.equal(cache.index(torch.tensor([1, 1])).keys[0], cache.keys[1])


def test_causal_mask_by_hand() -> None:
    expected = torch.tensor(
        [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    ).bool()  # one word, a chunk of one frame, a chunk of two, one token a frame
    assert torch.equal(causal_mask([1, 2], 1, 1), expected)


def test_bad_caches_are_named(backbone: Backbone) -> None:
    cache = _cache()
    with pytest.raises(InvalidInput, match="keys and values of a cache"):
        KeyValueCache(cache.keys, cache.values[:1], WORDS, PATCHES)
    with pytest.raises(InvalidInput, match="tokens of a cache: given 77, expected 4 of text and a multiple of 24"):
        KeyValueCache(cache.keys, cache.values, 4, PATCHES)
    with pytest.raises(InvalidInput, match=r"cache to append: .* with 5 text tokens"):
        cache.append(cache)
    with pytest.raises(InvalidInput, match="frames of a cache to keep"):
        cache.recent(-1)
    with pytest.raises(InvalidInput, match="expected 3 integers"):
        backbone.past(cache, [0, 1], SIZE)
    with pytest.raises(InvalidInput, match="one of 24 tokens, as in the cache"):
        backbone.past(cache, [0, 1, 2], (8, 8))
    with pytest.raises(InvalidInput, match="visible: "):
        backbone.past(cache, [0, 1, 2], SIZE, torch.ones(ROWS, 2, dtype=torch.bool))
    past = backbone.past(cache, [0, 1, 2], SIZE)
    with pytest.raises(InvalidInput, match="in `text` and in `past`"):
        backbone(noisy(), CLEAN, words(), past=past)
    with pytest.raises(InvalidInput, match="rows and blocks of the past"):
        backbone(noisy(), CLEAN, None, past=Past(past.keys[:, :2], past.values[:, :2], None, WORDS))
    with pytest.raises(InvalidInput, match="chunks, patches, text"):
        causal_mask([1, 0], 1, 1)
