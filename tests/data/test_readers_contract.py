"""What every reader owes: each format's sample is its own alone, and one bad episode is named and keeps no other back.

A new format adds a row to CASES in reader_cases.py.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from tests.data import reader_samples as samples
from tests.data.reader_cases import CASES
from vap_sim.data.dataset import FORMATS, Dataset, Refused, open_dataset, read_all
from vap_sim.data.episode import Episode
from vap_sim.errors import BadFile, UnknownName

PARTS = [(name, part) for name, case in CASES.items() for part in ("log", "video") if part == "log" or case.video]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The sample of a format, written once, to a path with spaces."""
    written: dict[str, Path] = {}

    def original(name: str) -> Path:
        if CASES[name].needs:
            pytest.importorskip(CASES[name].needs, reason=f"{name} is read by {CASES[name].needs}")
        if name not in written:
            written[name] = tmp_path_factory.mktemp("read only") / f"some {name} data"
            CASES[name].build(written[name])
        return written[name]

    return original


@pytest.fixture
def copy(originals: Callable[[str], Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(originals(name), tmp_path / "a copy" / name))


def outcome(root: Path, name: str) -> dict[str, Episode | BadFile]:
    """Every episode, or its error; all have that of the dataset where it cannot be opened at all."""
    try:
        dataset = open_dataset(root, name)
        results = list(read_all(dataset))
    except BadFile as error:
        return {CASES[name].victim: error}
    found: dict[str, Episode | BadFile] = {}
    for result in results:
        found[result.name] = result.error if isinstance(result, Refused) else result
        if isinstance(result, Episode):
            try:
                decode(result)
            except BadFile as error:
                found[result.name] = error
    return found


def decode(episode: Episode) -> None:
    for footage in episode.views.values():
        assert sum(1 for _ in footage.frames()) == footage.length == episode.length


def refused(root: Path, name: str) -> BadFile:
    """The victim's error; every other episode must be whole."""
    found = outcome(root, name)
    case = CASES[name]
    error = found.pop(case.victim)
    assert isinstance(error, BadFile), f"{case.victim} was read"
    if not case.shared:
        assert len(found) >= 2
        assert all(isinstance(other, Episode) for other in found.values())
    return error


@pytest.mark.parametrize("name", CASES)
def test_a_whole_sample_is_read(originals: Callable[[str], Path], name: str) -> None:
    dataset = open_dataset(originals(name))
    assert dataset.format == name and dataset.path == originals(name) and CASES[name].victim in dataset.names
    assert len(dataset.names) == len(set(dataset.names)) >= 3
    for result in read_all(dataset):
        assert isinstance(result, Episode), result.error
        assert result.name in dataset.names and result.source.exists()
        decode(result)
        for footage in result.views.values():
            first = np.stack(list(footage.frames(1, 3)))
            assert first.shape[1:] == (*footage.size[::-1], 3)
            assert np.array_equal(first, np.stack(list(footage.frames()))[1:3])
    with pytest.raises(UnknownName, match="Known"):
        dataset.read("no such episode")


@pytest.mark.parametrize("name", CASES)
def test_a_sample_is_recognised_by_its_own_reader_alone(originals: Callable[[str], Path], name: str) -> None:
    names = {other for other, module in FORMATS.items() if import_module(module).recognises(originals(name))}
    assert names == {name}


@pytest.mark.parametrize("name", CASES)
def test_what_is_no_dataset_is_not_recognised(tmp_path: Path, name: str) -> None:
    module = import_module(FORMATS[name])
    (tmp_path / "notes.txt").write_text("nothing")
    assert not module.recognises(tmp_path) and not module.recognises(tmp_path / "notes.txt")
    assert not module.recognises(tmp_path / "missing")
    with pytest.raises(BadFile):
        module.open_dataset(tmp_path)


@pytest.mark.parametrize("name", CASES)
def test_an_episode_goes_to_another_process(originals: Callable[[str], Path], name: str) -> None:
    dataset: Dataset = pickle.loads(pickle.dumps(open_dataset(originals(name))))
    decode(pickle.loads(pickle.dumps(dataset.read(CASES[name].victim))))


@pytest.mark.parametrize("damage", ["truncated", "empty", "linked out", "a folder"])
@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_damaged_file_is_named(copy: Callable[[str], Path], name: str, part: str, damage: str) -> None:
    case, root = CASES[name], copy(name)
    path = root / (case.log if part == "log" else case.video)
    content = path.read_bytes()
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    if damage == "linked out":
        outside = root.parent.parent / "outside"
        outside.write_bytes(content)
        path.symlink_to(outside)
    elif damage == "a folder":
        path.mkdir()
    error = refused(root, name)
    assert path.name in str(error)
    if damage == "linked out":
        assert "leads out of the dataset" in str(error)
    if not case.shared or part == "video":
        assert case.victim in str(error)


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_a_missing_file_keeps_nothing_else_back(copy: Callable[[str], Path], name: str, part: str) -> None:
    """An episode whose files are gone is refused, or is no episode any more; a view of several may be left out."""
    root, case = copy(name), CASES[name]
    whole = open_dataset(root, name).read(case.victim)
    (root / (case.log if part == "log" else case.video)).unlink()
    found = outcome(root, name)
    victim = found.pop(case.victim, None)
    if isinstance(victim, Episode):
        assert len(victim.views) < len(whole.views) and any("no video" in note for note in victim.notes)
    assert case.shared or (len(found) >= 2 and all(isinstance(other, Episode) for other in found.values()))


@pytest.mark.parametrize("name", ["droid_sample", "droid_raw"])
def test_a_folder_that_is_a_link_out_is_listed_and_refused(copy: Callable[[str], Path], name: str) -> None:
    root, case = copy(name), CASES[name]
    folder = root / case.victim
    outside = Path(shutil.move(folder, root.parent / "outside"))
    folder.symlink_to(outside)
    assert "leads out of the dataset" in str(refused(root, name))
    # A link to another place within the dataset is as good as a copy.
    folder.unlink()
    shutil.move(outside, root / "elsewhere")
    folder.symlink_to(root / "elsewhere")
    assert isinstance(outcome(root, name)[case.victim], Episode)


@pytest.mark.parametrize("name", CASES)
def test_a_flipped_byte_is_noticed(copy: Callable[[str], Path], name: str) -> None:
    root, case = copy(name), CASES[name]
    content = bytearray((root / case.log).read_bytes())
    content[case.flip(bytes(content))] ^= 0x41
    (root / case.log).write_bytes(content)
    error = refused(root, name)
    assert Path(case.log).name in str(error)
    assert case.shared or case.victim in str(error)


@pytest.mark.parametrize(("name", "damage"), [(name, damage) for name, case in CASES.items() for damage in case.wrong])
def test_wrong_numbers_are_named(copy: Callable[[str], Path], name: str, damage: str) -> None:
    case, root = CASES[name], copy(name)
    change, words = case.wrong[damage]
    change(root / case.log)
    error = refused(root, name)
    with pytest.raises(BadFile, match=words):
        raise error
    assert Path(case.log).name in str(error) and (case.shared or case.victim in str(error))


@pytest.mark.parametrize("frames", [1, 3, 9])
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.video])
def test_a_video_of_another_length_is_refused(copy: Callable[[str], Path], name: str, frames: int) -> None:
    root, case = copy(name), CASES[name]
    samples.write_film(root / case.video, samples.pictures(1, frames))
    error = refused(root, name)
    assert f"{frames} frames" in str(error) and case.victim in str(error)
