"""Embeddings on disk: a caption is embedded once, by any number of processes."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.cogvideox.text import HashedWords, check_captions
from vap_sim.models.cogvideox.text_cache import CachedText
from vap_sim.models.tensor_cache import TensorCache


def test_a_caption_is_embedded_once_and_the_same_from_disk(tmp_path: Path) -> None:
    class Once(HashedWords):
        asked: list[str]

        def encode(self, captions: object) -> Tensor:
            self.asked.extend(captions)  # type: ignore[arg-type]
            return super().encode(captions)  # type: ignore[arg-type]

    words = Once(6, 8)
    words.asked = []
    cached = CachedText(words, TensorCache(tmp_path), "words")
    captions = ["push the cube", "", "push the cube"]
    expected = HashedWords(6, 8).encode(captions)
    assert torch.equal(cached.encode(captions), expected) and torch.equal(cached.encode(captions), expected)
    assert words.asked == ["push the cube", ""] and (cached.length, cached.width) == (6, 8)
    again = CachedText(words, TensorCache(tmp_path), "words")
    assert torch.equal(again.encode(captions), expected) and len(words.asked) == 2
    assert cached.encode([]).shape == (0, 6, 8)
    CachedText(words, TensorCache(tmp_path), "others").encode([""])
    assert len(words.asked) == 3


class Wide(HashedWords):
    """Embeddings large enough that writing one takes a while."""

    def __init__(self) -> None:
        super().__init__(64, 512)

    def encode(self, captions: Sequence[str]) -> Tensor:
        check_captions(captions)
        return torch.stack([torch.full((64, 512), float(len(caption))) for caption in captions])


def _tell_at_once(folder: Path, meeting: Barrier, lengths: Sequence[int]) -> None:
    for length in lengths:
        cached = CachedText(Wide(), TensorCache(folder))
        meeting.wait(60)
        assert bool((cached.encode(["x" * length]) == length).all())


def test_processes_that_embed_the_same_captions_at_once_agree(tmp_path: Path) -> None:
    fork, lengths = multiprocessing.get_context("fork"), range(1, 25)
    meeting = fork.Barrier(2)
    others = [fork.Process(target=_tell_at_once, args=(tmp_path, meeting, lengths)) for _ in range(2)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    assert [other.exitcode for other in others] == [0, 0]
    assert len(list(tmp_path.iterdir())) == len(lengths), "a file for each caption, nothing else"
    with pytest.raises(InvalidInput, match="captions: given just one"):
        CachedText(Wide(), TensorCache(tmp_path)).encode("just one")


def test_an_embedding_of_another_shape_is_named(tmp_path: Path) -> None:
    cached = CachedText(HashedWords(6, 8), TensorCache(tmp_path), "words")
    cached.encode(["x"])
    path = next(tmp_path.iterdir())
    key = path.stem
    save_file({"text": torch.zeros(5, 8)}, path, metadata={"description": json.dumps({"key": key})})
    with pytest.raises(BadFile, match=r"tensor 'text' is \(5, 8\), expected \(6, 8\)"):
        CachedText(HashedWords(6, 8), TensorCache(tmp_path), "words").encode(["x"])
