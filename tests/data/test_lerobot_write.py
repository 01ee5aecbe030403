"""Writing LeRobot: the layout is the published one, field by field; nothing is half written; what broke off goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="LeRobot's tables are Parquet")

from tests.data.episodes import assert_equal, episode
from vap_sim.data.dataset import Refused, open_dataset, read_all
from vap_sim.data.episode import Episode
from vap_sim.data.film import FilmSettings
from vap_sim.data.footage import ArrayFootage, VideoFootage
from vap_sim.data.lerobot_stats import PictureStats, number_stats, sampled, union
from vap_sim.data.lerobot_write import LeRobotSettings, write_lerobot
from vap_sim.data.video_index import video_index
from vap_sim.errors import BadFile, InvalidInput

SETTINGS = LeRobotSettings(FilmSettings(lossless=True, key_every=30), episodes_a_file=2)
EXACT = LeRobotSettings(FilmSettings(lossless=True), precision="float64")
LENGTHS = (4, 3, 5)
VIEWS = ("observation.images.exterior_1", "observation.images.wrist")

INFO_FIELDS = {
    "codebase_version": str,
    "fps": int,
    "features": dict,
    "total_episodes": int,
    "total_frames": int,
    "total_tasks": int,
    "chunks_size": int,
    "data_files_size_in_mb": int,
    "video_files_size_in_mb": int,
    "data_path": str,
    "video_path": str,
    "robot_type": str,
    "splits": dict,
}
"""Of `meta/info.json` in version 3.0, as LeRobot 0.4 to 0.6 write and read it (`DatasetInfo`)."""
TABLE = {
    "observation.state": "fixed_size_list<element: float>[8]",
    "action": "fixed_size_list<element: float>[4]",
    "joint_targets": "fixed_size_list<element: float>[7]",
    "tool_pose": "fixed_size_list<element: float>[16]",
    "next.success": "bool",
    "timestamp": "float",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
"""Columns of a table of frames: films have none, and a feature of one column holds numbers, not lists."""
LISTED = {
    "episode_index": "int64",
    "tasks": "list<element: string>",
    "length": "int64",
    "data/chunk_index": "int64",
    "data/file_index": "int64",
    "dataset_from_index": "int64",
    "dataset_to_index": "int64",
    "meta/episodes/chunk_index": "int64",
    "meta/episodes/file_index": "int64",
}
OF_A_FILM = {"chunk_index": "int64", "file_index": "int64", "from_timestamp": "double", "to_timestamp": "double"}
STATISTICS = ("min", "max", "mean", "std", "count", "q01", "q10", "q50", "q90", "q99")


def takes() -> list[Episode]:
    return [episode(k, length=LENGTHS[k]) for k in range(3)]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_lerobot(tmp_path_factory.mktemp("set") / "ours", takes(), SETTINGS)


def read(path: Path) -> Any:
    import pyarrow.parquet

    return pyarrow.parquet.read_table(path)


def kinds(table: Any) -> dict[str, str]:
    names = {"item": "element"}  # what the one thing in a list is called is up to the library
    found = {field.name: str(field.type) for field in table.schema}
    for old, new in names.items():
        found = {name: kind.replace(f"<{old}:", f"<{new}:") for name, kind in found.items()}
    return found


def test_files_lie_where_the_format_says(written: Path) -> None:
    found = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    parts = [f"chunk-000/file-{part:03d}" for part in range(2)]
    expected = {"meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/vap_sim.json"}
    expected |= {f"data/{part}.parquet" for part in parts} | {f"meta/episodes/{part}.parquet" for part in parts}
    expected |= {f"videos/{view}/{part}.mp4" for part in parts for view in VIEWS}
    expected |= {f"meta/vap_sim_episodes/{part}.jsonl" for part in parts}
    assert found == expected


def test_info_has_the_published_fields(written: Path) -> None:
    info = json.loads((written / "meta" / "info.json").read_text())
    assert {name: type(value) for name, value in info.items()} == INFO_FIELDS
    assert info["codebase_version"] == "v3.0" and info["fps"] == 5 and info["robot_type"] == "panda_robotiq"
    assert (info["total_episodes"], info["total_frames"], info["total_tasks"]) == (3, 12, 2)
    assert (info["chunks_size"], info["data_files_size_in_mb"], info["video_files_size_in_mb"]) == (1000, 100, 200)
    assert info["data_path"] == "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
    assert info["video_path"] == "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    assert info["splits"] == {"train": "0:3"}
    features = info["features"]
    assert list(features) == [*list(TABLE)[:5], *VIEWS, *list(TABLE)[5:]]
    for name, feature in features.items():
        assert set(feature) == {"dtype", "shape", "names"} | ({"info"} if name in VIEWS else set())
    wrist = features["observation.images.wrist"]
    assert wrist["shape"] == [40, 32, 3] and wrist["names"] == ["height", "width", "channels"]
    assert wrist["info"] == {
        "video.height": 40,
        "video.width": 32,
        "video.codec": "h264",
        "video.pix_fmt": "gbrp",
        "video.fps": 5,
        "video.channels": 3,
        "has_audio": False,
        "is_depth_map": False,
    }
    assert features["observation.state"]["names"][-2:] == ["panda_joint7.pos", "gripper.pos"]
    assert features["timestamp"] == {"dtype": "float32", "shape": [1], "names": None}


def test_tables_of_frames(written: Path) -> None:
    tables = [read(path) for path in sorted((written / "data").rglob("*.parquet"))]
    assert all(kinds(table) == TABLE for table in tables)
    joined = {name: [row for table in tables for row in table.column(name).to_pylist()] for name in TABLE}
    assert joined["index"] == list(range(12)) and joined["frame_index"] == [k for n in LENGTHS for k in range(n)]
    assert joined["episode_index"] == [k for k, n in enumerate(LENGTHS) for _ in range(n)]
    assert joined["task_index"] == [k % 2 for k, n in enumerate(LENGTHS) for _ in range(n)]
    assert np.array_equal(joined["timestamp"], np.float32(np.array(joined["frame_index"]) / 5))
    assert joined["next.success"] == [False] * 6 + [True] + [False] * 4 + [True]


def test_the_list_of_episodes(written: Path) -> None:
    tables = [read(path) for path in sorted((written / "meta" / "episodes").rglob("*.parquet"))]
    numbers = dict.fromkeys(STATISTICS, "list<element: double>") | {"count": "list<element: int64>"}
    channels = dict.fromkeys(STATISTICS, "list<element: list<element: list<element: double>>>")
    channels |= {"count": "list<element: int64>"}
    expected = LISTED | {f"videos/{view}/{name}": kind for view in VIEWS for name, kind in OF_A_FILM.items()}
    expected |= {f"stats/{key}/{name}": kind for key in TABLE for name, kind in numbers.items()}
    expected |= {f"stats/{key}/{name}": kind for key in VIEWS for name, kind in channels.items()}
    assert all(kinds(table) == expected for table in tables)
    rows = [row for table in tables for row in table.to_pylist()]
    assert [row["dataset_from_index"] for row in rows] == [0, 4, 7]
    assert [row["dataset_to_index"] for row in rows] == [4, 7, 12]
    assert [(row["data/file_index"], row[f"videos/{VIEWS[0]}/file_index"]) for row in rows] == [(0, 0), (0, 0), (1, 1)]
    times = [(row[f"videos/{VIEWS[1]}/from_timestamp"], row[f"videos/{VIEWS[1]}/to_timestamp"]) for row in rows]
    assert np.allclose(times, [(0, 0.8), (0.8, 1.4), (0, 1.0)])
    assert np.array(rows[0][f"stats/{VIEWS[0]}/mean"]).shape == (3, 1, 1)
    assert [row["tasks"] for row in rows] == [[take.instruction] for take in takes()]


def test_tasks_are_what_pandas_indexes(written: Path) -> None:
    table = read(written / "meta" / "tasks.parquet")
    assert table.column_names == ["task_index", "task"] and table.column("task_index").to_pylist() == [0, 1]
    assert table.column("task").to_pylist() == [take.instruction for take in takes()[:2]]
    assert json.loads(table.schema.metadata[b"pandas"])["index_columns"] == ["task"]


def test_statistics_are_those_of_everything_written(written: Path) -> None:
    stats = json.loads((written / "meta" / "stats.json").read_text())
    assert set(stats) == {*TABLE, *VIEWS} and all(tuple(kept) == STATISTICS for kept in stats.values())
    actions = np.concatenate([take.actions for take in takes()])
    for name, expected in (("min", actions.min(0)), ("max", actions.max(0)), ("mean", actions.mean(0))):
        assert np.allclose(stats["action"][name], expected, rtol=1e-6)
    assert np.allclose(stats["action"]["std"], actions.std(0)) and stats["action"]["count"] == [12]
    shown = np.concatenate([np.stack(list(take.views["wrist"].frames())) for take in takes()]) / 255
    kept = stats["observation.images.wrist"]
    assert np.allclose(np.ravel(kept["mean"]), shown.mean((0, 1, 2))) and kept["count"] == [12]


def test_every_frame_is_at_its_time(written: Path) -> None:
    """The time that a reader asks for, the start of the episode and that of the frame, is that of one frame. Each
    episode begins where decoding can."""
    for path in written.rglob("*.mp4"):
        index = video_index(path)
        assert np.allclose(index.times * index.tick, np.arange(index.length) / 5, atol=1e-4)
        starts = {0, 4} if path.stem == "file-000" else {0}
        assert starts <= set(index.keys.tolist())


def test_statistics_of_numbers_and_pictures() -> None:
    values = np.random.default_rng(0).normal(size=(50, 3))
    stats = number_stats(values)
    assert tuple(sorted(stats)) == tuple(sorted(STATISTICS))
    assert np.allclose(stats["q90"], np.quantile(values, 0.9, axis=0))
    joined = union([number_stats(values[:7]), number_stats(values[7:20]), number_stats(values[20:])])
    for name in ("min", "max", "mean", "std", "count"):
        assert np.allclose(joined[name], stats[name]), name
    assert (joined["q01"] <= stats["q50"]).all() and (joined["q99"] >= stats["q50"]).all()
    shown = np.random.default_rng(1).integers(3, 240, (6, 20, 30, 3)).astype(np.uint8)
    counted = PictureStats()
    for picture in shown:
        counted.add(picture)
    found, pixels = counted.result(), shown.reshape(-1, 3) / 255
    for name, expected in (
        ("min", pixels.min(0)),
        ("max", pixels.max(0)),
        ("mean", pixels.mean(0)),
        ("std", pixels.std(0)),
    ):
        assert found[name].shape == (3, 1, 1) and np.allclose(found[name].ravel(), expected), name
    assert np.allclose(found["q10"].ravel(), np.quantile(pixels, 0.1, axis=0, method="inverted_cdf"))
    assert len(sampled(60)) == 60 and len(sampled(400)) == 100 and len(sampled(5000)) == int(5000**0.75)


@pytest.mark.parametrize("length", [1, 2])
def test_the_shortest_episodes(tmp_path: Path, length: int) -> None:
    path = write_lerobot(tmp_path / "set", [episode(1, length)], SETTINGS)
    given = open_dataset(path).read("take 1")
    assert given.length == length and given.success and given.views["wrist"].length == length


def test_odd_sizes_are_kept(tmp_path: Path) -> None:
    shown = np.random.default_rng(0).integers(60, 120, (3, 33, 47, 3)).astype(np.uint8)
    for number, settings in enumerate((SETTINGS, LeRobotSettings())):
        path = write_lerobot(
            tmp_path / str(number), [episode(0, 3, views={"top": ArrayFootage(shown)}, cameras={})], settings
        )
        given = np.stack(list(open_dataset(path).read("take 0").views["top"].frames()))
        assert given.shape == shown.shape and np.abs(given.astype(int) - shown).max() <= (0 if number == 0 else 60)


def test_the_twin_is_exported(tmp_path: Path) -> None:
    """Recordings of the twin, read as episodes, are LeRobot's after, cameras and all."""
    from tests.data.reader_samples import twin

    twin(tmp_path / "twin")
    source = open_dataset(tmp_path / "twin")
    path = write_lerobot(tmp_path / "set", (source.read(name) for name in source.names), EXACT)
    for name, given in zip(source.names, read_all(open_dataset(path)), strict=True):
        assert isinstance(given, Episode)
        assert_equal(given, source.read(name), but=("frame_rate",))
        assert given.frame_rate == pytest.approx(source.read(name).frame_rate)


class Stopped(Exception):
    pass


def stopping(after: int) -> Iterator[Episode]:
    yield from takes()[:after]
    raise Stopped


@pytest.mark.parametrize("after", [0, 1, 2])
def test_what_broke_off_is_not_there_and_goes_on(tmp_path: Path, written: Path, after: int) -> None:
    """Parts that are whole are kept, and the end is the same as in one go."""
    path = tmp_path / "set"
    with pytest.raises(Stopped):
        write_lerobot(path, stopping(after), SETTINGS)
    assert not path.exists()
    with pytest.raises(Stopped):
        write_lerobot(path, stopping(after), SETTINGS)
    kept = {p: p.stat().st_mtime_ns for p in (tmp_path / "set.partial").rglob("*.mp4")} if after == 2 else {}
    write_lerobot(path, iter(takes()), SETTINGS)
    assert not (tmp_path / "set.partial").exists()
    for old, changed in kept.items():
        new = path / old.relative_to(tmp_path / "set.partial")
        assert "file-001" in new.name or new.stat().st_mtime_ns == changed
    for expected, given in zip(read_all(open_dataset(written)), read_all(open_dataset(path)), strict=True):
        assert isinstance(expected, Episode) and isinstance(given, Episode)
        assert_equal(given, expected)
    for name in ("info.json", "stats.json", "vap_sim.json"):
        assert (path / "meta" / name).read_text() == (written / "meta" / name).read_text()
    assert {p.relative_to(path) for p in path.rglob("*")} == {p.relative_to(written) for p in written.rglob("*")}


def test_what_broke_off_goes_on_with_the_same_only(tmp_path: Path) -> None:
    def broken(first: Episode) -> Iterator[Episode]:
        yield from (first, *takes()[1:])
        raise Stopped

    with pytest.raises(Stopped):
        write_lerobot(tmp_path / "set", broken(takes()[0]), SETTINGS)
    with pytest.raises(InvalidInput, match="other episodes or settings"):
        write_lerobot(tmp_path / "set", takes(), LeRobotSettings(SETTINGS.film, episodes_a_file=1))
    with pytest.raises(InvalidInput, match="'other' of 4 frames, expected 'take 0' of 4 frames"):
        write_lerobot(tmp_path / "set", [episode(0, 4, "other")], SETTINGS)
    with pytest.raises(InvalidInput, match="given the end, expected 'take 1'"):
        write_lerobot(tmp_path / "set", takes()[:1], SETTINGS)


@pytest.mark.parametrize(
    ("second", "words"),
    [
        ({"frame_rate": 10.0}, "frame rate of episode 'take 1': given 10, expected 5"),
        ({"joints": None}, "columns of episode 'take 1'"),
        ({"success": None}, "columns of episode 'take 1'"),
        ({"robot": None}, "robot of episode 'take 1'"),
        ({"views": {"wrist": ArrayFootage(np.zeros((3, 8, 8, 3), np.uint8))}}, "views of episode 'take 1'"),
        ({"name": "take 0"}, "'take 0' again"),
        ({"frame_rate": 7.5}, "7.5 frames a second, expected a whole number"),
        ({"action_names": ("x",)}, "1 names of actions"),
        ({"views": {"../up": ArrayFootage(np.zeros((3, 8, 8, 3), np.uint8))}}, "view '../up'"),
    ],
)
def test_episodes_must_be_alike(tmp_path: Path, second: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        write_lerobot(tmp_path / "set", [takes()[0], episode(1, 3, **second)], SETTINGS)
    assert not (tmp_path / "set").exists()


def test_pictures_that_do_not_fit_their_log(tmp_path: Path) -> None:
    for count, words in ((4, "more than 3 frames"), (2, "2 frames for 3 rows")):
        wrong = episode(0, 3, views={"top": ArrayFootage(np.zeros((count, 8, 8, 3), np.uint8))}, cameras={})
        with pytest.raises(BadFile, match=f"'take 0', view 'top': {words}"):
            write_lerobot(tmp_path / f"set {count}", [wrong], SETTINGS)
    missing = episode(0, 3, views={"top": VideoFootage(tmp_path / "none.mp4")}, cameras={})
    with pytest.raises(BadFile, match=r"none\.mp4"):
        write_lerobot(tmp_path / "other", [missing], SETTINGS)


def test_a_place_that_is_taken_and_nothing_to_write(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="a path where nothing is"):
        write_lerobot(tmp_path, takes(), SETTINGS)
    with pytest.raises(InvalidInput, match="no episodes"):
        write_lerobot(tmp_path / "set", [], SETTINGS)
    assert not (tmp_path / "set").exists()


def test_memory_is_that_of_one_episode(tmp_path: Path) -> None:
    """Episodes are taken one by one, and none is kept when the next is asked for."""
    import gc
    import weakref

    alive: list[weakref.ref[Episode]] = []
    most = 0

    def many() -> Iterator[Episode]:
        nonlocal most
        for number in range(6):
            made = episode(number, 2, name=f"take {number}")
            alive.append(weakref.ref(made))
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))
            yield made
            del made

    path = write_lerobot(tmp_path / "set", many(), SETTINGS)
    assert most <= 2 and not any(isinstance(given, Refused) for given in read_all(open_dataset(path)))
