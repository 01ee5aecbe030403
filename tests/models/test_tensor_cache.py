"""Tensors on disk: made once, never half, keyed by all that decides them."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vap_sim.errors import BadFile
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.models.tensor_cache import TensorCache, fingerprint, hash_file, key_of


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_what_was_put_comes_back_and_only_whole_files_have_its_name(tmp_path: Path) -> None:
    cache, values = TensorCache(tmp_path), {"a": torch.arange(4.0), "b": torch.zeros(2, 3, dtype=torch.uint8)}
    key = key_of(a=1)
    assert not cache.has(key)
    cache.put(key, values)
    assert cache.has(key) and _same(cache.get(key), values) and len(list(tmp_path.iterdir())) == 1
    whole = cache.path(key).read_bytes()
    for length in (0, 7, 60, len(whole) - 1):
        cache.path(key).write_bytes(whole[:length])
        assert not cache.has(key)
        with pytest.raises(BadFile, match="not a whole safetensors file"):
            cache.get(key)
    assert _same(cache.made(key, lambda: values), values) and cache.has(key)


def test_a_file_under_the_name_of_another_is_not_taken(tmp_path: Path) -> None:
    cache = TensorCache(tmp_path)
    cache.put("one", {"a": torch.zeros(1)})
    cache.path("one").rename(cache.path("two"))
    assert not cache.has("two")
    with pytest.raises(BadFile, match="holds 'one', which its name does not say"):
        cache.get("two")


def test_a_kill_while_writing_leaves_nothing_under_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vap_sim.models import checkpoint

    def killed(tensors: object, path: Path, metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        TensorCache(tmp_path).put("one", {"a": torch.zeros(1)})
    assert not TensorCache(tmp_path).has("one") and list(tmp_path.iterdir()) == []


def _write_often(folder: Path, value: float) -> None:
    for _ in range(20):
        TensorCache(folder).put("shared", {"a": torch.full((50000,), value)})


def test_processes_that_write_the_same_key_do_not_spoil_it(tmp_path: Path) -> None:
    fork = multiprocessing.get_context("fork")
    others = [fork.Process(target=_write_often, args=(tmp_path, value)) for value in (1.0, 2.0)]
    for other in others:
        other.start()
    cache, seen = TensorCache(tmp_path), 0
    while any(other.is_alive() for other in others):
        if cache.path("shared").is_file():
            values = cache.get("shared")["a"]
            assert (values == values[0]).all()
            seen += 1
    for other in others:
        other.join()
        assert other.exitcode == 0
    assert seen and [path.name for path in tmp_path.iterdir()] == ["shared.safetensors"]


def test_keys_and_fingerprints_tell_apart_what_decides(tmp_path: Path) -> None:
    assert key_of(a=1, b="x") == key_of(b="x", a=1) != key_of(a=2, b="x")
    assert fingerprint(TinyCodec(4)) == fingerprint(TinyCodec(4)) != fingerprint(TinyCodec(5))
    assert fingerprint(HashedWords(6, 8)) != fingerprint(HashedWords(7, 8))

    class Learned:
        def __init__(self, value: float) -> None:
            self.network = torch.nn.Linear(2, 1).to(torch.bfloat16)
            torch.nn.init.constant_(self.network.weight, value)
            torch.nn.init.zeros_(self.network.bias)

    assert fingerprint(Learned(1.0)) == fingerprint(Learned(1.0)) != fingerprint(Learned(2.0))


def test_a_hash_is_of_the_bytes_and_a_missing_file_is_named(tmp_path: Path) -> None:
    one, same, other = (tmp_path / name for name in ("one", "same", "other"))
    for path, last in ((one, b"a"), (same, b"a"), (other, b"b")):
        path.write_bytes(b"x" * 2**20 + last)
    assert hash_file(one) == hash_file(same) != hash_file(other)
    with pytest.raises(BadFile, match="none: cannot be read"):
        hash_file(tmp_path / "none")
