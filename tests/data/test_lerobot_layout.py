"""The layout of LeRobot datasets written here is the published one, file by file, field by field, type by type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="LeRobot's tables are Parquet")

from tests.data.episodes import episode
from vap_sim.data.episode import Episode
from vap_sim.data.film import FilmSettings
from vap_sim.data.lerobot_stats import PictureStats, number_stats, sampled, union
from vap_sim.data.lerobot_write import LeRobotSettings, write_lerobot
from vap_sim.data.video_index import video_index

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
