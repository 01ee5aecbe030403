"""LeRobot: what was written is read, whatever version wrote it; what is damaged or hostile is named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="LeRobot's tables are Parquet")

from tests.data.episodes import SIZES, assert_equal, episode, pictures
from tests.data.lerobot_folders import state, write_lines, write_v21
from vap_sim.data.dataset import Refused, open_dataset, read_all
from vap_sim.data.film import FilmSettings
from vap_sim.data.lerobot import open_lerobot
from vap_sim.data.lerobot_fields import FieldMap, FieldSource
from vap_sim.data.lerobot_write import LeRobotSettings, write_lerobot
from vap_sim.errors import BadFile, InvalidInput, UnknownName

EXACT = LeRobotSettings(FilmSettings(lossless=True), precision="float64", episodes_a_file=3)
LENGTHS = (5, 3, 6, 4)


def takes() -> list[Any]:
    return [episode(k, length=LENGTHS[k]) for k in range(4)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lerobot(tmp_path_factory.mktemp("set") / "a dataset", takes(), EXACT)


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_v21(tmp_path_factory.mktemp("older") / "v21", LENGTHS)


@pytest.fixture
def copied(written: Path, tmp_path: Path) -> Path:
    return shutil.copytree(written, tmp_path / "a copy")


@pytest.fixture
def older_copied(older: Path, tmp_path: Path) -> Path:
    return shutil.copytree(older, tmp_path / "an old copy")


def test_a_round_trip_is_exact(written: Path) -> None:
    dataset = open_dataset(written)
    assert dataset.format == "lerobot" and dataset.path == written
    assert dataset.names == tuple(f"take {k}" for k in range(4))
    for given, expected in zip(read_all(dataset), takes(), strict=True):
        assert not isinstance(given, Refused)
        assert_equal(given, expected)
        assert given.notes == expected.notes and given.source.is_file()


def test_float32_and_films_that_lose_little(tmp_path: Path) -> None:
    path = write_lerobot(tmp_path / "set", takes()[:2], LeRobotSettings(FilmSettings(quality=5)))
    for given, expected in zip(read_all(open_dataset(path)), takes(), strict=False):
        assert not isinstance(given, Refused)
        for member in ("joints", "gripper", "tool", "joint_targets", "actions"):
            assert np.array_equal(getattr(given, member), getattr(expected, member).astype(np.float32)), member
        for view in SIZES:
            close = zip(given.views[view].frames(), expected.views[view].frames(), strict=True)
            assert max(np.abs(a.astype(int) - b).mean() for a, b in close) < 6


def test_what_an_episode_lacks_stays_out(tmp_path: Path) -> None:
    bare = dict.fromkeys(("robot", "joints", "gripper", "tool", "tool_link", "joint_targets", "actions"))
    expected = [episode(k, 3, action_names=(), cameras={}, success=None, notes=(), **bare) for k in range(2)]
    path = write_lerobot(tmp_path / "set", expected, EXACT)
    for given, wanted in zip(read_all(open_dataset(path)), expected, strict=True):
        assert not isinstance(given, Refused)
        assert_equal(given, wanted)


def test_version_2_is_read(older: Path) -> None:
    """One file an episode, in chunks of two; degrees because the names say so, and no gripper because they do not."""
    dataset = open_dataset(older)
    assert dataset.names == tuple(f"episode_{k:06d}" for k in range(4))
    for number, given in enumerate(read_all(dataset)):
        assert not isinstance(given, Refused) and given.length == LENGTHS[number]
        assert np.allclose(given.joints, np.radians(state(given.length, number)[:, :2])) and given.gripper is None
        assert np.array_equal(given.actions, np.arange(given.length)[:, None]) and given.action_names == ("turn",)
        assert given.instruction == f"job {number % 2}" and given.frame_rate == 10.0 and given.success is None
        assert list(given.views) == ["top"]
        shown = pictures(given.length, SIZES["exterior_1"], number)
        assert np.abs(np.stack(list(given.views["top"].frames())).astype(int) - shown).mean() < 8
        assert any("far is a picture of distances" in note for note in given.notes)


def test_stills_in_a_table_are_read(tmp_path: Path) -> None:
    for number, given in enumerate(read_all(open_dataset(write_v21(tmp_path / "v21", LENGTHS, stills=True)))):
        assert not isinstance(given, Refused)
        shown = pictures(given.length, SIZES["exterior_1"], number)
        assert np.array_equal(np.stack(list(given.views["top"].frames())), shown)
        assert np.array_equal(next(given.views["top"].frames(2)), shown[2])


def test_a_unit_is_never_guessed(tmp_path: Path) -> None:
    """Joints of columns without a unit stay out, with a note that says where to state it; a map states it."""
    root = write_v21(tmp_path / "v21", (3,), names=("shoulder.pos", "elbow.pos", "gripper.pos"))
    plain = open_dataset(root).read("episode_000000")
    assert plain.joints is None and plain.gripper is None
    assert any("shoulder.pos, elbow.pos" in note and "meta/vap_sim.json" in note for note in plain.notes)
    arm = FieldSource("observation.state", (0, 1), unit="deg")
    hand = FieldSource("observation.state", (2,), open=0.5, closed=0.0)
    told = open_lerobot(root, FieldMap({"joints": arm, "gripper": hand}, robot="mine")).read("episode_000000")
    assert np.allclose(told.joints, np.radians(state(3, 0)[:, :2])) and told.robot == "mine"
    assert np.allclose(told.gripper, 0.5)
    fields = {
        "joints": {"feature": "observation.state", "columns": [0, 1], "unit": "deg"},
        "gripper": {"feature": "observation.state", "columns": [2], "open": 0.5, "closed": 0},
    }
    (root / "meta" / "vap_sim.json").write_text(json.dumps({"robot": "mine", "fields": fields}))
    assert_equal(open_dataset(root).read("episode_000000"), told)


@pytest.mark.parametrize("form", ["xyz rpy", "xyz xyzw", "xyz wxyz"])
def test_poses_in_any_form(tmp_path: Path, form: str) -> None:
    from scipy.spatial.transform import Rotation

    from vap_sim.data.lerobot_fields import as_member

    turns = Rotation.random(6, random_state=1)
    angles = {
        "xyz rpy": turns.as_euler("xyz"),
        "xyz xyzw": 2 * turns.as_quat(),
        "xyz wxyz": turns.as_quat()[:, [3, 0, 1, 2]],
    }
    values = np.concatenate([np.arange(18.0).reshape(6, 3), angles[form]], axis=1)
    poses = as_member(tmp_path, "tool", FieldSource("pose", form=form), values)
    assert np.allclose(poses[:, :3, :3], turns.as_matrix()) and np.allclose(poses[:, :3, 3], values[:, :3])
    assert np.array_equal(poses[:, 3], np.tile([0, 0, 0, 1], (6, 1)))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"joints": {"feature": "observation.stat", "unit": "rad"}}, "Did you mean 'observation.state'"),
        ({"joints": {"feature": "observation.state"}}, "no unit, expected one of rad"),
        ({"joints": {"feature": "observation.state", "unit": "grad"}}, "unknown unit of joints 'grad'"),
        ({"joint": {"feature": "observation.state", "unit": "rad"}}, "Did you mean 'joints'"),
        ({"tool": {"feature": "observation.state", "form": "xyz"}}, "unknown form of a pose"),
        ({"gripper": {"feature": "observation.state", "open": 1, "closed": 1}}, "two different numbers"),
        ({"gripper": {"feature": "observation.state", "scale": 1}}, "unknown entry of a field 'scale'"),
        ({"joints": {"feature": "observation.state", "columns": [0, -1], "unit": "rad"}}, "numbers of columns"),
        ({"joints": ["observation.state"]}, "an object of objects"),
    ],
)
def test_a_map_that_is_wrong_names_its_field(older_copied: Path, fields: object, words: str) -> None:
    (older_copied / "meta" / "vap_sim.json").write_text(json.dumps({"fields": fields}))
    with pytest.raises(BadFile, match=words):
        open_dataset(older_copied)


def test_a_map_that_asks_too_much_refuses_the_episode(older_copied: Path) -> None:
    fields = {"joints": {"feature": "observation.state", "columns": [0, 7], "unit": "rad"}}
    (older_copied / "meta" / "vap_sim.json").write_text(json.dumps({"fields": fields}))
    with pytest.raises(BadFile, match=r"episode 'episode_000000'.*has 3 columns"):
        open_dataset(older_copied).read("episode_000000")
    with pytest.raises(UnknownName, match="no_such"):
        open_lerobot(older_copied, FieldMap({"joints": FieldSource("no_such", unit="rad")}))


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
        (cut, "is no video that can be read"),
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


def test_episodes_of_one_table_are_read_apart(written: Path, tmp_path: Path) -> None:
    """Also where another writer put them into one group of rows."""
    import pyarrow.parquet

    root = shutil.copytree(written, tmp_path / "grouped")
    path = root / "data" / "chunk-000" / "file-000.parquet"
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 3
    pyarrow.parquet.write_table(pyarrow.parquet.read_table(path), path)
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 1
    for given, expected in zip(read_all(open_dataset(root)), takes(), strict=True):
        assert not isinstance(given, Refused)
        assert_equal(given, expected, films=False)


def test_without_pyarrow_the_extra_is_named(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from vap_sim.errors import MissingDependency

    for name in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependency, match=r"vap-sim\[data\]"):
        open_dataset(written)


def test_a_name_that_is_not_there(written: Path) -> None:
    with pytest.raises(UnknownName, match="Did you mean 'take 1'"):
        open_dataset(written).read("takes 1")


def test_settings_that_make_no_sense() -> None:
    for wrong in ({"precision": "float16"}, {"data_megabytes": 0}, {"episodes_a_file": 0}):
        with pytest.raises(InvalidInput):
            LeRobotSettings(**wrong)  # type: ignore[arg-type]
