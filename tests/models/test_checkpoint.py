"""Weights on disk: whole or not at all, and every damage named by file and field."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from vap_sim.errors import BadFile
from vap_sim.models import checkpoint
from vap_sim.models.checkpoint import fill, load_split, load_tensors, read_description, save_split, save_tensors


def tensors(seed: int = 0, count: int = 5) -> dict[str, Tensor]:
    source = torch.Generator().manual_seed(seed)
    return {f"layer.{index}/weight": torch.rand(10, 10, generator=source) for index in range(count)}


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(a[name].dtype == b[name].dtype and torch.equal(a[name], b[name]) for name in a)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(name="small_files")
def _small_files(monkeypatch: pytest.MonkeyPatch) -> int:
    """Two of the test's tensors fill a file."""
    monkeypatch.setattr(checkpoint, "LARGEST_FILE", 900)
    return 900


# One file --------------------------------------------------------------------------------------------------------


def test_tensors_and_description_come_back(tmp_path: Path) -> None:
    mixed = {"half": torch.rand(3).to(torch.bfloat16), "count": torch.tensor(3), "none": torch.zeros(0, 2)}
    description = {"step": 3, "text": "\u00fc", "nested": {"list": [1, 2.5, None]}}
    save_tensors(tmp_path / "new" / "w.safetensors", {**tensors(), **mixed}, description)
    loaded, described = load_tensors(tmp_path / "new" / "w.safetensors")
    assert equal(loaded, {**tensors(), **mixed}) and described == description
    assert read_description(tmp_path / "new" / "w.safetensors") == description
    assert names(tmp_path / "new") == ["w.safetensors"]


def test_views_and_tensors_that_share_memory_are_stored_each(tmp_path: Path) -> None:
    base = torch.rand(4, 6, requires_grad=True)
    awkward = {"all": base, "same": base, "turned": base.T, "row": base[1], "spread": base[:1].expand(9, 6)}
    save_tensors(tmp_path / "w", awkward, {})
    assert equal(load_tensors(tmp_path / "w")[0], {name: value.detach() for name, value in awkward.items()})


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_tensors(tmp_path / "w", tensors(1), {"old": True})

    def disk_is_full(values: object, path: Path, metadata: object) -> None:
        path.write_bytes(b"half of it")
        raise SafetensorError("No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", disk_is_full)
    with pytest.raises(OSError, match=r"w: cannot be written \(No space left on device\)"):
        save_tensors(tmp_path / "w", tensors(2), {})
    assert equal(load_tensors(tmp_path / "w")[0], tensors(1)) and names(tmp_path) == ["w"]


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path: Path) -> None:
    save_tensors(tmp_path / "w", tensors(1), {})
    os.link(tmp_path / "w", tmp_path / "open")
    save_tensors(tmp_path / "w", tensors(2), {})
    assert equal(load_tensors(tmp_path / "open")[0], tensors(1)) and equal(load_tensors(tmp_path / "w")[0], tensors(2))


def foreign(path: Path, header: dict[str, str] | None) -> None:
    save_file({"a": torch.zeros(1)}, path, metadata=header)


def replaced_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: list[tuple[Callable[[Path], object], str]] = [
    (lambda p: p.unlink(), "no such weights file"),
    (replaced_by_folder, "no such weights file"),
    (lambda p: p.write_bytes(b""), "not a whole safetensors file"),
    (lambda p: p.write_bytes(b"PK\x03\x04" + bytes(200)), "not a whole safetensors file"),
    (lambda p: p.write_bytes(b"\xff" * 7 + b"\x7f" + bytes(200)), "not a whole safetensors file"),
    (lambda p: p.write_bytes(p.read_bytes()[:-1]), "not a whole safetensors file"),
    (lambda p: p.write_bytes(p.read_bytes()[:30]), "not a whole safetensors file"),
    (lambda p: p.write_bytes(p.read_bytes() + b"more"), "not a whole safetensors file"),
    (lambda p: foreign(p, None), "another program .*no field 'description'"),
    (lambda p: foreign(p, {"format": "pt"}), "another program .*no field 'description'"),
    (lambda p: foreign(p, {"description": "{"}), "field 'description' of its header is not JSON"),
    (lambda p: foreign(p, {"description": "9" * 5000}), "field 'description' of its header is not JSON"),
    (lambda p: foreign(p, {"description": "[" * 100_000}), "field 'description' of its header is not JSON"),
    (lambda p: foreign(p, {"description": "[1]"}), "field 'description' of its header is a list, expected an object"),
]


@pytest.mark.parametrize(("damage", "words"), DAMAGE)
@pytest.mark.parametrize("read", [load_tensors, read_description])
def test_bad_files_are_named(
    tmp_path: Path, damage: Callable[[Path], object], words: str, read: Callable[[Path], object]
) -> None:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, tensors(), {"step": 1})
    damage(path)
    with pytest.raises(BadFile, match=rf"weights\.safetensors: .*{words}"):
        read(path)


def test_a_file_that_shrinks_between_header_and_tensors_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tensors(tmp_path / "w", tensors(), {})

    def shrunken(path: Path) -> None:
        raise SafetensorError("file shrank")

    monkeypatch.setattr(checkpoint, "load_file", shrunken)
    with pytest.raises(BadFile, match=r"not a whole safetensors file \(file shrank\)"):
        load_tensors(tmp_path / "w")


# A set of files --------------------------------------------------------------------------------------------------


def test_split_sets_come_back(tmp_path: Path, small_files: int) -> None:
    save_split(tmp_path / "new", "run", tensors(), {"step": 7})
    found = load_split(tmp_path / "new", "run")
    assert found is not None
    assert equal(found[0], tensors())
    files = [f"run-0-{index:03d}.safetensors" for index in range(3)]
    assert found[1] == {"step": 7, "files": files}
    assert names(tmp_path / "new") == [*files, "run.json"]


def test_no_file_holds_more_than_it_may(tmp_path: Path, small_files: int) -> None:
    many = {**tensors(count=9), "large": torch.zeros(500), "last": torch.zeros(2)}
    save_split(tmp_path, "run", many, {})
    sizes = []
    for path in sorted(tmp_path.glob("*.safetensors")):
        part = load_tensors(path)[0]
        sizes.append(sum(value.nbytes for value in part.values()))
        assert sizes[-1] <= small_files or list(part) == ["large"]
    assert sizes == [800, 800, 800, 800, 400, 2000, 8]


def test_an_empty_set_is_a_set(tmp_path: Path) -> None:
    assert load_split(tmp_path, "run") is None
    save_split(tmp_path, "run", {}, {"step": 0})
    found = load_split(tmp_path, "run")
    assert found is not None and found[0] == {} and found[1]["step"] == 0


def test_a_new_set_replaces_the_old_and_nothing_else(tmp_path: Path, small_files: int) -> None:
    for name in ("run", "run-2", "run-x", "runs"):
        save_split(tmp_path, name, tensors(3), {})
    for other in ("run-0-notes.safetensors", "run-best.safetensors", "my-run-0-000.safetensors"):
        (tmp_path / other).write_text("mine")
    before = names(tmp_path)
    save_split(tmp_path, "run", tensors(4, count=2), {})
    left = [name for name in before if name not in [f"run-0-{i:03d}.safetensors" for i in range(3)]]
    assert names(tmp_path) == sorted([*left, "run-1-000.safetensors"])
    for name, seed, count in (("run", 4, 2), ("run-2", 3, 5), ("run-x", 3, 5), ("runs", 3, 5)):
        found = load_split(tmp_path, name)
        assert found is not None and equal(found[0], tensors(seed, count))


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("last", range(8))
def test_a_kill_at_any_moment_leaves_a_whole_set(
    tmp_path: Path, small_files: int, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    """Same step in both descriptions: what tells the sets apart must not depend on what the caller says."""
    save_split(tmp_path, "run", tensors(1), {"step": 5, "set": 1})
    operations = []

    def mortal(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            operations.append(real)
            if len(operations) > last:
                if real is save_file:
                    args[1].write_bytes(b"half of it")
                raise Killed
            return real(*args, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", mortal(save_file))
        patch.setattr(os, "replace", mortal(os.replace))
        # A dead process tidies nothing up; nor does one that ends while it deletes the old set.
        patch.setattr(Path, "unlink", lambda *_, **__: None)
        with suppress(Killed):
            save_split(tmp_path, "run", tensors(2), {"step": 5, "set": 2})
    finished = last == 7  # three files and the index, each written and renamed but the index, which is text
    assert len(operations) == min(7, last + 1)
    found = load_split(tmp_path, "run")
    assert found is not None
    assert found[1]["set"] == (2 if finished else 1) and equal(found[0], tensors(found[1]["set"]))
    save_split(tmp_path, "run", tensors(3), {"step": 6})
    found = load_split(tmp_path, "run")
    assert found is not None and equal(found[0], tensors(3))
    assert len(names(tmp_path)) == 4, "files of the killed save are still there"


def test_a_failed_set_leaves_no_index_behind(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_split(tmp_path, "run", tensors(), {"path": tmp_path})
    assert not (tmp_path / "run.json").exists() and not (tmp_path / "run.json.partial").exists()


def reindexed(folder: Path, **changes: object) -> None:
    index = folder / "run.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), **changes}))


FIRST = "run-0-000.safetensors"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "run.json").write_text("{"), r"run\.json: the index is not JSON"),
        (lambda f: (f / "run.json").write_bytes(b"\xff\xfe"), r"run\.json: cannot be read as text"),
        (lambda f: (f / "run.json").write_text("[]"), r"run\.json: the index is a list, expected an object"),
        (lambda f: (f / "run.json").write_text("{}"), r"run\.json: field 'files' is None"),
        (lambda f: reindexed(f, files="abc"), r"run\.json: field 'files' is 'abc', expected a list of file names"),
        (lambda f: reindexed(f, files=[1]), r"run\.json: field 'files' is \[1\]"),
        (lambda f: reindexed(f, files=["../w.safetensors"]), r"run\.json: field 'files': '../w.* leaves the folder"),
        (lambda f: reindexed(f, files=["/etc/passwd"]), "leaves the folder"),
        (lambda f: reindexed(f, files=[".."]), "no such weights file"),
        (lambda f: reindexed(f, files=[FIRST, FIRST]), rf"{FIRST}: tensor 'layer.0/weight' is in an earlier file"),
        (lambda f: (f / "run-0-001.safetensors").unlink(), r"run-0-001\.safetensors: no such weights file"),
        (lambda f: os.truncate(f / "run-0-002.safetensors", 300), r"run-0-002\.safetensors: not a whole"),
        (lambda f: save_tensors(f / FIRST, {}, {"part_of": "other"}), rf"{FIRST}: field 'part_of' is 'other'"),
        (lambda f: save_tensors(f / FIRST, {}, {}), rf"{FIRST}: field 'part_of' is None, expected 'run'"),
    ],
)
def test_bad_sets_are_named(tmp_path: Path, small_files: int, damage: Callable[[Path], object], words: str) -> None:
    save_split(tmp_path, "run", tensors(), {})
    damage(tmp_path)
    with pytest.raises(BadFile, match=words):
        load_split(tmp_path, "run")


def test_an_index_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_split(tmp_path, "run", {}, {})

    def refuse(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_text", refuse)
    with pytest.raises(BadFile, match=r"run\.json: cannot be read as text .*Permission denied"):
        load_split(tmp_path, "run")


# Into a network --------------------------------------------------------------------------------------------------


def test_a_network_takes_its_weights_in_its_own_type() -> None:
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    fill(other, {name: value.to(torch.bfloat16) for name, value in one.state_dict().items()}, "w")
    assert other.weight.dtype == torch.float32
    assert torch.equal(other.weight, one.weight.to(torch.bfloat16).float())
    assert not torch.equal(other.weight, one.weight)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("bias"), "tensor 'bias' is missing"),
        (lambda t: t.update(extra=torch.zeros(1)), "tensor 'extra' is unknown to this model"),
        (lambda t: t.update(weight=torch.zeros(3, 2)), r"tensor 'weight' is \(3, 2\), expected \(2, 3\)"),
        (lambda t: t.update(bias=torch.zeros(2).long()), "tensor 'bias' is torch.int64, expected torch.float32"),
    ],
)
def test_a_network_refuses_other_weights_and_stays_as_it_was(
    change: Callable[[dict[str, Tensor]], object], words: str
) -> None:
    network = nn.Linear(3, 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    given = {name: value + 1 for name, value in network.state_dict().items()}
    change(given)
    with pytest.raises(BadFile, match=f"w.safetensors: {words}"):
        fill(network, given, "w.safetensors")
    assert equal(dict(network.state_dict()), before)
