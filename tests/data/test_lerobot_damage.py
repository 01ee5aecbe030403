"""LeRobot datasets that are damaged or hostile: the episode is named, with file and field, and the others are read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="LeRobot's tables are Parquet")

from tests.data.episodes import assert_equal
from tests.data.lerobot_folders import write_lines
from tests.data.lerobot_sets import takes
from vap_sim.data.dataset import Refused, open_dataset, read_all
from vap_sim.errors import BadFile


def refused(root: Path) -> dict[str, str]:
    """What of a dataset cannot be read, and why; everything else is read to its last picture."""
    found = {}
    for given in read_all(open_dataset(root)):
        if isinstance(given, Refused):
            found[given.name] = str(given.error)
        else:
            assert all(len(list(footage.frames())) == given.length for footage in given.views.values())
    return found


def edit(path: Path, change: Callable[[Any], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def table(path: Path, change: Callable[[dict[str, list[Any]]], object]) -> None:
    import pyarrow.parquet

    columns = pyarrow.parquet.read_table(path).to_pydict()
    change(columns)
    pyarrow.parquet.write_table(pyarrow.table(columns), path)


OLD_TABLE = "data/chunk-000/episode_000001.parquet"
OLD_FILM = "videos/chunk-000/observation.images.top/episode_000001.mp4"


def in_table(change: Callable[[dict[str, list[Any]]], object]) -> Callable[[Path], object]:
    return lambda root: table(root / OLD_TABLE, change)


def put(column: str, row: int, value: object) -> Callable[[Path], object]:
    return in_table(lambda columns: columns[column].__setitem__(row, value))


def cut(root: Path) -> None:
    (root / OLD_FILM).write_bytes((root / OLD_FILM).read_bytes()[:900])


def exchange(root: Path) -> None:
    shutil.copy(root / OLD_FILM.replace("001.mp4", "000.mp4"), root / OLD_FILM)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda root: (root / OLD_TABLE).unlink(), "no such file"),
        (lambda root: (root / OLD_TABLE).write_bytes(b"PAR1"), "is damaged or of another kind"),
        (in_table(lambda columns: columns.pop("action")), "column 'action' is missing"),
        (in_table(lambda columns: columns.update(action=["a", "b", "c"])), "expected numbers"),
        (in_table(lambda columns: [rows.append(rows[-1]) for rows in columns.values()]), "has 4 rows, the list of"),
        (in_table(lambda columns: [rows.pop() for rows in columns.values()]), "has 2 rows, expected rows 0 to 3"),
        (put("observation.state", 1, [1.0]), "different lengths"),
        (put("action", 1, float("nan")), "field 'actions': frame 1"),
        (put("action", 1, None), "lacks 1 of its values"),
        (put("episode_index", 2, 9), "row 2 is of episode 9"),
        (put("frame_index", 2, 1), "frame 2 has the number 1"),
        (put("timestamp", 2, 9.0), "field 'timestamp': frame 2 is at"),
        (put("task_index", 0, 5), "there is no task 5"),
        (lambda root: (root / OLD_FILM).unlink(), "no such video file"),
        (cut, "is cut short"),
        (exchange, "5 frames for 3 rows"),
    ],
)
def test_an_episode_that_is_damaged_is_named_and_the_rest_is_read(
    older_copied: Path, damage: Callable[[Path], object], words: str
) -> None:
    damage(older_copied)
    found = refused(older_copied)
    assert list(found) == ["episode_000001"] and words in found["episode_000001"]
    assert "episode 'episode_000001'" in found["episode_000001"] and str(older_copied) in found["episode_000001"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda info: info.update(codebase_version="v1.6"), "'v1.6', expected one of v2.0, v2.1, v3.0"),
        (lambda info: info.pop("fps"), "field 'fps' is missing"),
        (lambda info: info.update(fps="10"), "field 'fps': '10' is a str"),
        (lambda info: info.update(fps=0), "field 'fps': 0"),
        (lambda info: info.update(total_episodes=10**12), "field 'total_episodes'"),
        (lambda info: info.update(chunks_size=0), "field 'chunks_size'"),
        (lambda info: info.update(features=[]), "field 'features'"),
        (lambda info: info["features"].update(action={"shape": [1]}), "feature 'action': field 'dtype'"),
        (lambda info: info["features"]["action"].update(shape=[-1]), "feature 'action': field 'shape'"),
        (lambda info: info.update(data_path=7), "field 'data_path'"),
    ],
)
def test_a_description_that_is_wrong_names_its_field(
    older_copied: Path, change: Callable[[Any], object], words: str
) -> None:
    edit(older_copied / "meta" / "info.json", change)
    with pytest.raises(BadFile, match=r"info\.json: ") as error:
        open_dataset(older_copied)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("../../secret/episode_{episode_index:06d}.parquet", "leads out of the dataset"),
        ("/etc/passwd", "is no path within the dataset"),
        ("data/{episode_index.__class__}.parquet", "has a slot of another kind"),
        ("data/{chunk_index:03d}/x.parquet", "unknown slot '{chunk_index:03d}'"),
        ("data/{episode_index:9999999999d}.parquet", "has a slot of another kind"),
    ],
)
def test_a_template_that_leaves_the_dataset_is_refused(older_copied: Path, template: str, words: str) -> None:
    edit(older_copied / "meta" / "info.json", lambda info: info.update(data_path=template))
    found = refused(older_copied)
    assert len(found) == 4 and all(words in why for why in found.values())


def test_links_out_of_the_dataset_are_refused(older_copied: Path, tmp_path: Path) -> None:
    """A film, a folder of tables and the name of a camera; links that stay inside are followed."""
    aside = shutil.move(older_copied / OLD_FILM, tmp_path / "film.mp4")
    (older_copied / OLD_FILM).symlink_to(aside)
    assert list(refused(older_copied)) == ["episode_000001"]
    (older_copied / OLD_FILM).unlink()
    shutil.move(aside, older_copied / "kept.mp4")
    (older_copied / OLD_FILM).symlink_to("../../../kept.mp4")
    assert not refused(older_copied)
    shutil.move(older_copied / "data" / "chunk-001", tmp_path / "tables")
    (older_copied / "data" / "chunk-001").symlink_to(tmp_path / "tables")
    assert all("leads out of the dataset" in why for why in refused(older_copied).values())
    assert list(refused(older_copied)) == ["episode_000002", "episode_000003"]
    (older_copied / "meta" / "info.json").rename(tmp_path / "info.json")
    (older_copied / "meta" / "info.json").symlink_to(tmp_path / "info.json")
    with pytest.raises(BadFile, match="leads out of the dataset"):
        open_dataset(older_copied)


def test_a_cache_of_downloads_may_link_to_its_contents(older: Path, tmp_path: Path) -> None:
    """Snapshots there are links into a folder beside them."""
    root, blobs = tmp_path / "hub" / "snapshots" / "abc", tmp_path / "hub" / "blobs"
    shutil.copytree(older, root)
    blobs.mkdir()
    for number, path in enumerate(sorted(path for path in root.rglob("*") if path.is_file())):
        path.rename(blobs / str(number))
        path.symlink_to(blobs / str(number))
    assert not refused(root)


def test_an_index_that_lists_nonsense(older_copied: Path) -> None:
    path = older_copied / "meta" / "episodes.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    write_lines(path, [lines[0], {**lines[1], "length": 0}, {**lines[2], "length": "6"}])
    found = refused(older_copied)
    assert "episode 1 has no frames" in found["episode_000001"]
    assert "field 'length': '6'" in found["episode_000002"]
    assert "episode 3 is not listed" in found["episode_000003"]
    for line, words in (({"length": 3}, "episode_index"), ([1], "expected an object"), (lines[0], "listed twice")):
        write_lines(path, [lines[0], line])
        with pytest.raises(BadFile, match=words):
            open_dataset(older_copied)
    path.write_text('{"episode_index": 0\n')
    with pytest.raises(BadFile, match="line 1: is not JSON"):
        open_dataset(older_copied)


def test_a_film_shorter_than_its_log_in_version_3(copied: Path) -> None:
    """Episodes 0 to 2 share a film, episode 3 has the next: what a film lacks, only its episodes lose."""
    film = copied / "videos" / "observation.images.wrist" / "chunk-000"
    shutil.copy(film / "file-001.mp4", film / "file-000.mp4")
    assert all("frames for" in why or "has 4 frames" in why for why in refused(copied).values())
    assert list(refused(copied)) == ["take 1", "take 2"] or list(refused(copied)) == ["take 0", "take 1", "take 2"]
    path = copied / "meta" / "episodes" / "chunk-000" / "file-000.parquet"
    key = "videos/observation.images.wrist/to_timestamp"
    table(path, lambda t: t[key].__setitem__(0, 99.0))
    assert "frames of video for 5 rows of the log" in refused(copied)["take 0"]


def test_a_flipped_byte_is_noticed(copied: Path) -> None:
    """Anywhere in a table: its pages have checksums. Numbers are those that were written, or there are none."""
    path = copied / "data" / "chunk-000" / "file-001.parquet"
    content = path.read_bytes()
    dataset, expected, named = open_dataset(copied), takes()[3], 0
    for at in np.random.default_rng(0).integers(0, len(content), 40).tolist():
        path.write_bytes(content[:at] + bytes([content[at] ^ 0xFF]) + content[at + 1 :])
        try:
            given = dataset.read("take 3")
        except BadFile as error:
            named += 1
            assert "file-001.parquet" in str(error) and "take 3" in str(error)
        else:
            assert_equal(given, expected, films=False)
    assert named > 25


def test_a_flipped_byte_in_the_list_of_episodes(copied: Path) -> None:
    """The other list of episodes is read; those of the damaged one are missing by number."""
    path = copied / "meta" / "episodes" / "chunk-000" / "file-001.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-20])
    found = refused(copied)
    assert list(found) == ["take 3"] and "is not listed" in found["take 3"] and "file-001.parquet" in found["take 3"]
