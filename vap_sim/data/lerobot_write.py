"""Writing LeRobot datasets of version 3.0: many episodes a table and a film, in memory one frame at a time.

The dataset appears whole or not at all: until the end it lies in a folder `NAME.partial` beside its final place, in
parts. A writing that was broken off continues after the last whole part.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vap_sim.data.episode import Episode
from vap_sim.data.film import FilmSettings
from vap_sim.data.lerobot_extras import read_extras
from vap_sim.data.lerobot_features import Features, check_alike, features_of
from vap_sim.data.lerobot_fields import MAPPING
from vap_sim.data.lerobot_info import INFO, read_json
from vap_sim.data.lerobot_part import (
    DATA_PATH,
    EPISODES_PATH,
    FILES_A_CHUNK,
    VIDEO_PATH,
    PartWriter,
    part_file,
    part_files,
)
from vap_sim.data.lerobot_stats import STATISTICS, Stats, union
from vap_sim.data.parquet_file import ParquetRows, parquet
from vap_sim.errors import InvalidInput

VERSION = "v3.0"
_UNDER_WAY = "vap_sim_writing.json"
_MEGABYTE = 2**20


@dataclass(frozen=True)
class LeRobotSettings:
    """How a dataset is written. film: how pictures are encoded; precision: type of numbers, "float32" (what LeRobot's
    policies take) or "float64" (every bit is kept); then sizes at which the next file begins, and episodes a file."""

    film: FilmSettings = FilmSettings()
    precision: str = "float32"
    data_megabytes: int = 100
    video_megabytes: int = 200
    episodes_a_file: int = 1000

    def __post_init__(self) -> None:
        if self.precision not in ("float32", "float64"):
            raise InvalidInput("precision of a LeRobot dataset", self.precision, "float32 or float64")
        if min(self.data_megabytes, self.video_megabytes, self.episodes_a_file) < 1:
            given = f"{self.data_megabytes} MB, {self.video_megabytes} MB, {self.episodes_a_file} episodes"
            raise InvalidInput("sizes of files", given, "at least 1 of each")


def write_lerobot(path: Path | str, episodes: Iterable[Episode], settings: LeRobotSettings | None = None) -> Path:
    """Write episodes as a LeRobot dataset of version 3.0 at `path`, and return it.

    All must have the same views, sizes, rate and fields. Joints and gripper become `observation.state`, actions
    `action`, success `next.success`; commanded joints and tool poses keep their own names, which LeRobot's policies
    pass over. `open_lerobot` gives the episodes back: numbers to `settings.precision`, pictures as films keep them.
    Where an earlier call was broken off, the same episodes continue it.

    Raises InvalidInput for a place that is taken, no episodes, one unlike the first or a name given twice, BadFile for
    pictures that cannot be read, MissingDependency.
    """
    path, settings = Path(path), settings or LeRobotSettings()
    if path.exists():
        raise InvalidInput("place for a LeRobot dataset", path, "a path where nothing is")
    parquet()
    partial = path.with_name(path.name + ".partial")
    job = _Job(partial, settings)
    (partial / "meta").mkdir(parents=True, exist_ok=True)
    job.write(iter(episodes))
    (partial / "meta" / _UNDER_WAY).unlink()
    os.replace(partial, path)
    return path


class _Job:
    """A dataset that is being written at `root`."""

    def __init__(self, root: Path, settings: LeRobotSettings) -> None:
        self._root, self._settings = root, settings
        self._tasks: dict[str, int] = {}
        self._names: set[str] = set()
        self._rows = 0
        self._features: Features | None = None

    def write(self, episodes: Iterator[Episode]) -> None:
        part = self._continue(episodes)
        following = next(episodes, None)
        if following is None and not self._names:
            raise InvalidInput("LeRobot dataset", "no episodes", "at least one")
        while following is not None:
            features = self._checked(following)
            with PartWriter(self._root, part, features, self._settings.film) as writer:
                while following is not None:
                    self._checked(following)
                    task = self._tasks.setdefault(following.instruction, len(self._tasks))
                    writer.add(following, len(self._names), self._rows, task)
                    self._count(following)
                    following = None if self._full(writer) else next(episodes, None)
            # Asked for when the part is whole, so that a failure there does not take the part with it.
            following = next(episodes, None)
            part += 1
        self._describe()

    def _count(self, episode: Episode) -> None:
        self._names.add(episode.name)
        self._rows += episode.length

    def _full(self, writer: PartWriter) -> bool:
        data, video = (size / _MEGABYTE for size in writer.bytes)
        limits = self._settings
        large = data >= limits.data_megabytes or video >= limits.video_megabytes
        return large or writer.episodes >= limits.episodes_a_file

    def _checked(self, episode: Episode) -> Features:
        """The features of the dataset, which the episode must have. Raises InvalidInput."""
        if episode.name in self._names:
            raise InvalidInput("episode", f"{episode.name!r} again", "a name of its own")
        found = features_of(episode, self._settings.precision)
        if self._features is None:
            self._begin(found)
            self._features = found
        check_alike(episode, found, self._features)
        return self._features

    def _begin(self, features: Features) -> None:
        """Note what is being written, or make sure that it is the same as before."""
        path = self._root / "meta" / _UNDER_WAY
        # As it is read back: tuples become lists.
        job = json.loads(json.dumps({"settings": asdict(self._settings), "features": asdict(features)}))
        if path.exists() and read_json(path) != job:
            raise InvalidInput(f"unfinished dataset {self._root}", "other episodes or settings", "those it began with")
        _write_json(path, job)

    def _continue(self, episodes: Iterator[Episode]) -> int:
        """Pass over the episodes that are written; the number of the part to write next."""
        part = 0
        extras = read_extras(self._root) if (self._root / "meta" / _UNDER_WAY).exists() else {}
        while (path := part_file(self._root, EPISODES_PATH, part)).exists():
            with ParquetRows(path) as rows:
                entries = rows.read(("episode_index", "length", "tasks")).to_pylist()
            for entry in entries:
                episode = next(episodes, None)
                name = extras[entry["episode_index"]].name
                if episode is None or (episode.name, episode.length) != (name, entry["length"]):
                    given = "the end" if episode is None else f"{episode.name!r} of {episode.length} frames"
                    expected = f"{name!r} of {entry['length']} frames, as it began"
                    raise InvalidInput(f"next episode of the unfinished dataset {self._root}", given, expected)
                self._checked(episode)
                self._tasks.setdefault(entry["tasks"][0], len(self._tasks))
                self._count(episode)
            part += 1
        if self._features is not None:
            for leftover in part_files(self._root, part, self._features.views):
                leftover.unlink(missing_ok=True)
        return part

    def _describe(self) -> None:
        """Everything under `meta` that is of the dataset as a whole."""
        import pyarrow

        assert self._features is not None
        features, film = self._features, self._settings.film
        codec = {"video.codec": "h264", "video.fps": features.frame_rate, "video.channels": 3, "has_audio": False}
        described = features.described({**codec, "is_depth_map": False})
        for view, size in features.views.items():
            described[f"observation.images.{view}"]["info"]["video.pix_fmt"] = film.pixels(size)
        info = {
            "codebase_version": VERSION,
            "fps": features.frame_rate,
            "features": described,
            "total_episodes": len(self._names),
            "total_frames": self._rows,
            "total_tasks": len(self._tasks),
            "chunks_size": FILES_A_CHUNK,
            "data_files_size_in_mb": self._settings.data_megabytes,
            "video_files_size_in_mb": self._settings.video_megabytes,
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if features.views else None,
            "robot_type": features.robot,
            "splits": {"train": f"0:{len(self._names)}"},
        }
        _write_json(self._root / MAPPING, features.mapping())
        _write_json(self._root / "meta" / "stats.json", self._stats(list(described)))
        tasks = pyarrow.table({"task_index": list(self._tasks.values()), "task": list(self._tasks)})
        tasks = tasks.replace_schema_metadata({"pandas": json.dumps(_INDEXED)})
        parquet().write_table(tasks, self._root / "meta" / "tasks.parquet", write_page_checksum=True)
        _write_json(self._root / INFO, info)

    def _stats(self, keys: list[str]) -> dict[str, Any]:
        """Statistics of the whole, from those of its episodes in the lists that are written."""
        totals: dict[str, Stats] = {}
        columns = [f"stats/{key}/{name}" for key in keys for name in STATISTICS]
        for path in sorted(self._root.glob("meta/episodes/*/*.parquet")):
            with ParquetRows(path) as rows:
                for number in range(rows.rows):
                    row = rows.read(columns, number, number + 1).to_pylist()[0]
                    for key in keys:
                        stats = {name: np.array(row[f"stats/{key}/{name}"]) for name in STATISTICS}
                        totals[key] = union([totals[key], stats]) if key in totals else stats
        return {key: {name: totals[key][name].tolist() for name in STATISTICS} for key in keys}


_INDEXED = {
    "index_columns": ["task"],
    "column_indexes": [
        {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    ],
    "columns": [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": stored, "metadata": None}
        for name, kind, stored in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
    ],
    "creator": {"library": "pyarrow", "version": "18.0.0"},
    "pandas_version": "2.2.0",
}
"""What tells pandas, which LeRobot reads the tasks with, that the instruction is the table's index."""


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=4, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
