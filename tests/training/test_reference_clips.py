"""Pairs as clips: encoded once, read back exactly, each with its own demonstration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.tiny_diffusion import CHANNELS, record
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.tensor_cache import TensorCache
from vap_sim.training.clips import DataSet
from vap_sim.training.reference_clips import CachedCodec, PairSettings, moving_region, open_pairs
from vap_sim.training.reference_pairs import Pair, films_in, pairs_of

pytest.importorskip("diffusers")
from vap_sim.models.cogvideox.codec import TinyCodec

SETTINGS = PairSettings(frames=9, size=(32, 32), images=2, dilate=2)


class Counting(TinyCodec):
    """Counts what it encodes."""

    def __init__(self) -> None:
        super().__init__(CHANNELS)
        self.rows: list[int] = []

    def encode(self, frames: Tensor) -> Tensor:
        self.rows.append(frames.shape[1])
        return super().encode(frames)


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Pair, ...]:
    record(tmp_path / "films" / "push", [1, 2, 3])
    return pairs_of(films_in(tmp_path / "films"), references=2)


def opened(pairs: Any, folder: Path, codec: Any = None, settings: PairSettings = SETTINGS) -> DataSet:
    return open_pairs(pairs, settings, codec or TinyCodec(CHANNELS), TensorCache(folder), progress=False)


def test_a_pair_becomes_the_targets_latents_and_a_demonstration(pairs: tuple[Pair, ...], tmp_path: Path) -> None:
    data, codec = opened(pairs, tmp_path / "cache"), TinyCodec(CHANNELS)
    assert len(data.clips) == len(pairs) == 6
    for pair, source in zip(pairs, data.clips, strict=True):
        clip = source.load()
        shown = pair.target.read().shown(9, (32, 32))
        assert torch.equal(clip.latents, codec.encode(shown[None])[0])
        assert torch.equal(clip.images[0], codec.encode(shown[None, :1])[0, 0]) and len(clip.images) == 3
        assert clip.caption == pair.target.caption and clip.prompt.text == (clip.caption,)
        assert clip.prompt.skeleton.shape == (1, 1, 9, 32, 32, 3) and not clip.prompt.skeleton.any()
        reference = clip.prompt.reference
        assert reference is not None and reference.text == (pair.reference.caption,)
        assert torch.equal(reference.frames[0], pair.reference.read().shown(9, (32, 32)))
        assert not torch.equal(reference.frames[0], shown)


def test_every_film_is_encoded_once_and_kept(pairs: tuple[Pair, ...], tmp_path: Path) -> None:
    codec = Counting()
    opened(pairs, tmp_path / "cache", codec)
    assert codec.rows.count(9) == 3  # three films, each a target; demonstrations are kept as pictures
    count = len(codec.rows)
    opened(pairs, tmp_path / "cache", codec)
    assert len(codec.rows) == count
    path = pairs[0].target.path
    os.utime(path, ns=(1, 1))  # another file by its time
    opened(pairs, tmp_path / "cache", codec)
    assert codec.rows[count:].count(9) == 1


def test_other_settings_are_other_clips(pairs: tuple[Pair, ...], tmp_path: Path) -> None:
    codec = Counting()
    opened(pairs, tmp_path / "cache", codec)
    opened(pairs, tmp_path / "cache", codec, PairSettings(frames=5, size=(32, 32), images=2))
    assert codec.rows.count(5) == 3
    with pytest.raises(InvalidInput, match="pairs to train on"):
        opened((), tmp_path / "cache")
    for wrong in ({"frames": 8}, {"size": (30, 32)}, {"images": 0}, {"dilate": -1}):
        with pytest.raises(InvalidInput, match="of a pair"):
            PairSettings(**wrong)  # type: ignore[arg-type]


def test_damaged_cache_files_are_named(pairs: tuple[Pair, ...], tmp_path: Path) -> None:
    data = opened(pairs, tmp_path / "cache")
    clip: Any = data.clips[0]
    cache = TensorCache(tmp_path / "cache")
    cache.put(clip.reference.key, {"film": torch.zeros(9, dtype=torch.uint8)})
    with pytest.raises(BadFile, match="is not a demonstration"):
        clip.load()
    cache.put(clip.target.key, {})
    with pytest.raises(BadFile, match="is not a target"):
        clip.load()
    cache.path(clip.target.key).unlink()
    with pytest.raises(BadFile):
        clip.load()


def test_what_moves_is_the_region() -> None:
    frames = torch.zeros(9, 32, 32, 3, dtype=torch.uint8)
    frames[6, 20, 4, 1] = 200  # in the second latent frame after the first, row 2, column 0
    region = moving_region(frames, 0)
    expected = torch.zeros(3, 4, 4)
    expected[2, 2, 0] = 1
    assert torch.equal(region, expected)
    assert moving_region(frames, 4)[2].sum() == 4  # below and to the right, others are within 4 pixels
    frames[:] = frames[6]
    assert not moving_region(frames, 5).any()


def test_a_cached_codec_answers_as_the_codec_and_asks_it_once(tmp_path: Path) -> None:
    frames = torch.randint(0, 256, (3, 9, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    codec = Counting()
    cached = CachedCodec(codec, TensorCache(tmp_path))
    plain = TinyCodec(CHANNELS)
    assert torch.equal(cached.encode(frames), plain.encode(frames))
    assert torch.equal(cached.encode(frames[[2, 0]]), plain.encode(frames[[2, 0]]))
    assert len(codec.rows) == 3
    latents = plain.encode(frames)
    assert torch.equal(cached.decode(latents), plain.decode(latents)) and cached.latent_channels == CHANNELS
    assert torch.equal(cached.decode_next(latents)[0], plain.decode_next(latents)[0])
    other = CachedCodec(TinyCodec(CHANNELS + 1), TensorCache(tmp_path))
    assert other.encode(frames[:1]).shape[2] == CHANNELS + 1
