"""One part of a LeRobot dataset that is being written: a table, a film a camera, and the list of their episodes.

The list is written last and under its final name at once: where it is, the part is whole.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from vap_sim.data.episode import Episode
from vap_sim.data.film import Film, FilmSettings
from vap_sim.data.lerobot_extras import EXTRAS, extras_of
from vap_sim.data.lerobot_features import CAMERA, Features, numbers_of, own_columns, table_of
from vap_sim.data.lerobot_stats import STATISTICS, PictureStats, Stats, number_stats, sampled
from vap_sim.data.parquet_file import parquet
from vap_sim.errors import BadFile

FILES_A_CHUNK = 1000
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_EXTRAS_PATH = EXTRAS + "/chunk-{chunk_index:03d}/file-{file_index:03d}.jsonl"


def part_file(root: Path, template: str, part: int, **slots: str) -> Path:
    """A file of one part, its folder made."""
    path = root / template.format(chunk_index=part // FILES_A_CHUNK, file_index=part % FILES_A_CHUNK, **slots)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def part_files(root: Path, part: int, views: Mapping[str, Any]) -> list[Path]:
    """Every file that a part may have left, whole or not."""
    films = [part_file(root, VIDEO_PATH, part, video_key=CAMERA + view) for view in views]
    lists = [part_file(root, template, part) for template in (DATA_PATH, _EXTRAS_PATH, EPISODES_PATH)]
    return [*films, *lists, *(path.with_name(path.name + ".partial") for path in lists)]


@dataclass
class PartWriter:
    """Writes part number `part` of the dataset at `root`; a `with` block that ends well makes it whole."""

    root: Path
    part: int
    features: Features
    settings: FilmSettings
    _entries: list[dict[str, Any]] = field(default_factory=list)
    _extras: list[str] = field(default_factory=list)
    _films: dict[str, Film] = field(default_factory=dict)
    _table: Any = None
    _file: Any = None
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def episodes(self) -> int:
        """Number of episodes so far."""
        return len(self._entries)

    @property
    def bytes(self) -> tuple[int, int]:
        """Size of the table and of the largest film so far."""
        return self._file.tell() if self._file else 0, max((film.bytes for film in self._films.values()), default=0)

    def add(self, episode: Episode, number: int, index: int, task: int) -> None:
        """One episode. number: in the dataset; index: of its first row there; task: number of its instruction.

        Raises BadFile where its pictures cannot be read or are fewer or more than its rows.
        """
        table = table_of(episode, self.features, number, index, task)
        stats = {key: number_stats(values) for key, values in numbers_of(episode).items()}
        own = own_columns(episode, self.features, number, index, task)
        entry: dict[str, Any] = {"episode_index": number, "tasks": [episode.instruction], "length": episode.length}
        place = {"chunk_index": self.part // FILES_A_CHUNK, "file_index": self.part % FILES_A_CHUNK}
        entry |= {f"data/{name}": value for name, value in place.items()}
        entry |= {"dataset_from_index": index, "dataset_to_index": index + episode.length}
        for view in self.features.views:
            film = self._film(view)
            start = film.frames
            stats[CAMERA + view] = _filmed(episode, view, film)
            times = {"from_timestamp": start, "to_timestamp": film.frames}
            entry |= {f"videos/{CAMERA}{view}/{name}": value for name, value in place.items()}
            entry |= {f"videos/{CAMERA}{view}/{n}": frame / self.features.frame_rate for n, frame in times.items()}
        stats |= {key: number_stats(values[:, None]) for key, values in own.items()}
        self._rows(table)
        entry |= {f"stats/{key}/{name}": stats[key][name].tolist() for key in stats for name in STATISTICS}
        self._entries.append(entry | {f"meta/episodes/{name}": value for name, value in place.items()})
        extras = extras_of(episode.name, episode.success, episode.notes, episode.cameras)
        self._extras.append(extras.line(number))

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._stack.__exit__(kind, value, at)
        if kind is None and self._entries:
            self._finish()

    def _finish(self) -> None:
        import pyarrow

        extras = part_file(self.root, _EXTRAS_PATH, self.part)
        partial = extras.with_name(extras.name + ".partial")
        partial.write_text("".join(self._extras), encoding="utf-8")
        os.replace(partial, extras)
        schema = pyarrow.schema([(name, _kind(name)) for name in self._entries[0]])
        path = part_file(self.root, EPISODES_PATH, self.part)
        partial = path.with_name(path.name + ".partial")
        table = pyarrow.Table.from_pylist(self._entries, schema)
        parquet().write_table(table, partial, compression="snappy", write_page_checksum=True)
        os.replace(partial, path)

    def _film(self, view: str) -> Film:
        if view not in self._films:
            path = part_file(self.root, VIDEO_PATH, self.part, video_key=CAMERA + view)
            film = Film(path, self.features.views[view], self.features.frame_rate, self.settings)
            self._films[view] = self._stack.enter_context(film)
        return self._films[view]

    def _rows(self, table: Any) -> None:
        """A group of rows an episode, so that one can be read without the others."""
        if self._table is None:
            self._file = self._stack.enter_context(part_file(self.root, DATA_PATH, self.part).open("wb"))
            options = {"compression": "snappy", "use_dictionary": True, "write_page_checksum": True}
            self._table = self._stack.enter_context(parquet().ParquetWriter(self._file, table.schema, **options))
        self._table.write_table(table)


def _filmed(episode: Episode, view: str, film: Film) -> Stats:
    """Encode what one camera saw, and return its statistics."""
    stats, counted, frame = PictureStats(), sampled(episode.length), 0
    for picture in episode.views[view].frames():
        if frame == episode.length:
            raise BadFile(episode.source, f"episode {episode.name!r}, view {view!r}: more than {frame} frames")
        film.add(picture, key=frame == 0)
        if frame in counted:
            stats.add(picture)
        frame += 1
    if frame < episode.length:
        told = f"{frame} frames for {episode.length} rows of the log"
        raise BadFile(episode.source, f"episode {episode.name!r}, view {view!r}: {told}")
    return stats.result()


def _kind(column: str) -> Any:
    """The type of a column of the list of episodes."""
    import pyarrow

    name = column.rpartition("/")[2]
    if column == "tasks":
        return pyarrow.list_(pyarrow.string())
    if column.startswith("stats/"):
        kind = pyarrow.list_(pyarrow.int64() if name == "count" else pyarrow.float64())
        by_channel = column.startswith(f"stats/{CAMERA}") and name != "count"
        return pyarrow.list_(pyarrow.list_(kind)) if by_channel else kind
    return pyarrow.float64() if name.endswith("_timestamp") else pyarrow.int64()
