"""Captions to embeddings: hashed words, and a T5 of two layers from a folder with its cache."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.models.cogvideox.conftest import small_backbone
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.cogvideox.folder import open_folder
from vap_sim.models.cogvideox.text import UNCONDITIONAL, HashedWords, T5Text
from vap_sim.models.cogvideox.text_cache import CachedText
from vap_sim.models.tensor_cache import TensorCache


def test_hashed_words_are_fixed_vectors_by_place() -> None:
    text = HashedWords(4, 6)
    both = text.encode(["Put the cup", "the CUP, put down there"])
    assert both.shape == (2, 4, 6)
    assert torch.equal(both[0, :3], both[1, [2, 0, 1]]), "case and punctuation do not count"
    assert not both[0, 3].any()
    assert torch.equal(text.encode(["put the cup"])[0], both[0]), "no memory, no neighbours"
    assert not text.encode([UNCONDITIONAL]).any()
    assert text.encode([]).shape == (0, 4, 6)
    vectors = HashedWords(200, 64).encode([" ".join(str(n) for n in range(200))])[0]
    assert abs(vectors.mean()) < 0.05
    assert abs(vectors.std() - 1) < 0.05


def test_bad_text_is_named() -> None:
    with pytest.raises(InvalidInput, match="captions: given just one, expected a sequence of texts"):
        HashedWords().encode("just one")
    with pytest.raises(InvalidInput, match="captions"):
        HashedWords().encode([1])
    with pytest.raises(InvalidInput, match="length and width of HashedWords"):
        HashedWords(0, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    path = tmp_path_factory.mktemp("with_text")
    small_backbone().transformer.save_pretrained(path / "transformer")
    model = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "put": 3, "cup": 4}, unk_token="<unk>")
    )
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    fast.save_pretrained(path / "tokenizer")
    config = transformers.T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=16, num_layers=1, num_heads=2)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        transformers.T5EncoderModel(config).save_pretrained(path / "text_encoder")
    return path


def test_t5_says_the_same_from_the_cache(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = T5Text(open_folder(folder))
    text = CachedText(own, TensorCache(tmp_path))
    assert (text.length, text.width) == (5, 8)
    first = text.encode(["put cup", UNCONDITIONAL])
    assert first.shape == (2, 5, 8)
    assert not torch.allclose(first[0], first[1], atol=1e-3)
    assert len(list(tmp_path.glob("*.safetensors"))) == 2
    assert torch.equal(own.encode([UNCONDITIONAL]), first[1:]), "without a cache"
    assert own.encode([]).shape == (0, 5, 8)
    own.unload()
    monkeypatch.setattr(T5Text, "_network", lambda _: pytest.fail("the encoder was loaded"))
    again = CachedText(T5Text(open_folder(folder)), TensorCache(tmp_path))
    assert torch.equal(again.encode([UNCONDITIONAL, "put cup"]), first[[1, 0]])


def test_encoders_that_say_different_things_have_different_fingerprints(folder: Path, tmp_path: Path) -> None:
    """Loaded or not, an encoder is the same; another type, or other files, are another."""
    text = T5Text(open_folder(folder))
    before = text.fingerprint
    text.encode(["cup"])
    assert text.fingerprint == before == CachedText(text, TensorCache(tmp_path)).fingerprint
    assert T5Text(open_folder(folder), dtype=torch.bfloat16).fingerprint != before
    other = shutil.copytree(folder, tmp_path / "other")
    assert T5Text(open_folder(other)).fingerprint == before
    config = other / "tokenizer" / "tokenizer_config.json"
    config.write_text(config.read_text() + " ")
    assert T5Text(open_folder(other)).fingerprint != before


def test_bad_text_encoders_are_named(folder: Path) -> None:
    (folder / "text_encoder" / "config.json").rename(folder / "text_encoder" / "config.away")
    with pytest.raises(BadFile, match="the text encoder cannot be loaded"):
        T5Text(open_folder(folder)).encode(["cup"])
    (folder / "text_encoder").rename(folder / "no_text_encoder")
    with pytest.raises(BadFile, match="has no folder 'text_encoder'"):
        T5Text(open_folder(folder)).encode(["cup"])
