"""LeRobot datasets, versions 2.0, 2.1 and 3.0, as episodes. What their columns mean: `lerobot_fields`.

Numbers of one episode are read when it is asked for; pictures stay in their videos, of which several episodes share one
in version 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.data.episode import Episode, Footage
from vap_sim.data.footage import ImageFootage, VideoFootage
from vap_sim.data.inside import inside
from vap_sim.data.lerobot_extras import EpisodeExtras, read_extras
from vap_sim.data.lerobot_fields import FieldMap, as_member, field_map
from vap_sim.data.lerobot_index import EpisodeIndex, Place, read_index
from vap_sim.data.lerobot_info import INFO, LeRobotInfo, read_info, read_tasks
from vap_sim.data.parquet_file import ParquetRows, column_part
from vap_sim.errors import BadFile, UnknownName

Array = NDArray[np.float64]
_CAMERA_PREFIXES = ("observation.images.", "observation.")
_NONE = EpisodeExtras()


@dataclass(frozen=True, eq=False)
class LeRobotDataset:
    """A folder in LeRobot's layout; `open_lerobot` makes one."""

    info: LeRobotInfo
    fields: FieldMap
    index: EpisodeIndex
    tasks: Mapping[int, str]
    extras: Mapping[int, EpisodeExtras]
    names: tuple[str, ...]

    @property
    def format(self) -> str:
        """Name of the format."""
        return "lerobot"

    @property
    def path(self) -> Path:
        """The folder."""
        return self.info.root

    def read(self, name: str) -> Episode:
        """One episode; its pictures stay on the disk. Raises BadFile with file, episode and field, UnknownName."""
        if name not in self.names:
            raise UnknownName("episode", name, self.names)
        number = self.names.index(name)
        place = self.index.place(number)
        try:
            return self._read(name, number, place)
        except BadFile as error:
            raise BadFile(error.path, f"episode {name!r}: {error.problem}") from error

    def _read(self, name: str, number: int, place: Place) -> Episode:
        last = place.first + place.length
        extras = self.extras.get(number, _NONE)
        with ParquetRows(place.data) as rows:

            def column(key: str) -> Array:
                return rows.numbers(key, place.first, last)

            self._check_rows(number, place, column("episode_index")[:, 0], column("frame_index")[:, 0])
            drift = self._check_times(place, column("timestamp")[:, 0])
            members = {
                member: as_member(place.data, member, source, column(source.feature))
                for member, source in self.fields.sources.items()
            }
            actions = column("action") if "action" in self.info.features else None
            tasks = column("task_index")[:, 0]
            success = extras.success
            if success is None and "next.success" in self.info.features:
                success = bool(column("next.success").any())
        notes = [*extras.notes, *self.fields.notes, *drift]
        if len(np.unique(tasks)) > 1:
            notes.append(f"has {len(np.unique(tasks))} instructions, of which the first is taken")
        return Episode(
            name=name,
            source=place.data,
            views=self._views(number, place),
            length=place.length,
            frame_rate=self.info.frame_rate,
            instruction=self._task(place, tasks[0]),
            robot=self.fields.robot,
            tool_link=self.fields.tool_link if "tool" in members else None,
            actions=actions,
            action_names=self.info.features["action"].names if actions is not None else (),
            cameras=extras.cameras,
            success=success,
            notes=tuple(notes),
            **members,
        )

    def _check_rows(self, number: int, place: Place, episodes: Array, frames: Array) -> None:
        """Whether the rows are those of the episode, in order."""
        others = np.flatnonzero(episodes != number)
        if len(others):
            row = place.first + others[0]
            raise BadFile(place.data, f"field 'episode_index': row {row} is of episode {episodes[others[0]]:.0f}")
        wrong = np.flatnonzero(frames != np.arange(place.length))
        if len(wrong):
            given = f"frame {wrong[0]} has the number {frames[wrong[0]]:.0f}"
            raise BadFile(place.data, f"field 'frame_index': {given}, expected 0 to {place.length - 1} in order")
        if self.info.version == 2:
            with ParquetRows(place.data) as rows:
                if rows.rows != place.length:
                    raise BadFile(place.data, f"has {rows.rows} rows, the list of episodes says {place.length}")

    def _check_times(self, place: Place, times: Array) -> tuple[str, ...]:
        """Frames must be one period apart; a note where they are so only nearly."""
        drift = np.abs(times - times[0] - np.arange(place.length) / self.info.frame_rate)
        worst = float(drift.max())
        if not worst <= 0.5 / self.info.frame_rate:
            frame = int(np.flatnonzero(~(drift <= 0.5 / self.info.frame_rate))[0])
            told = f"frame {frame} is at {times[frame]:.3f} s, at {self.info.frame_rate:g} Hz from {times[0]:.3f} s"
            raise BadFile(place.data, f"field 'timestamp': {told}")
        return (f"timestamps are up to {worst:.3f} s off their rate",) if worst > 1e-3 else ()

    def _task(self, place: Place, number: float) -> str:
        if number not in self.tasks:
            raise BadFile(place.data, f"field 'task_index': there is no task {number:.0f}")
        return self.tasks[int(number)]

    def _views(self, number: int, place: Place) -> dict[str, Footage]:
        """Pictures by the name of the view, each with as many as the log has rows."""
        views: dict[str, Footage] = {}
        for feature in self.info.cameras:
            name = _view_name(feature.key)
            name = feature.key if name in views else name
            if feature.dtype == "video":
                part = place.videos[feature.key]
                views[name] = VideoFootage(part.path, seconds=part.seconds)
            else:
                stills = _Stills(self.info.root, place.data, feature.key, place.first, place.length)
                views[name] = ImageFootage(stills, place.data, feature.key)
            if views[name].length != place.length:
                told = f"{views[name].length} frames for {place.length} rows of the log"
                raise BadFile(place.videos[feature.key].path, f"field {feature.key!r}: {told}")
        return views


@dataclass(frozen=True, eq=False)
class _Stills(Sequence[bytes]):
    """Encoded pictures in a column of a table, or in files that it names; read when they are asked for."""

    root: Path
    table: Path
    column: str
    first: int
    rows: int

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, number: Any) -> Any:
        cell = column_part(self.table, self.column, self.first, self.first + self.rows)[number].as_py()
        content = cell.get("bytes") if isinstance(cell, dict) else cell
        if isinstance(content, bytes):
            return content
        named = cell.get("path") if isinstance(cell, dict) else None
        if not isinstance(named, str):
            raise BadFile(self.table, f"field {self.column!r}: frame {number} is no picture")
        path = inside(self.root, named, f"field {self.column!r}")
        try:
            return path.read_bytes()
        except OSError as error:
            raise BadFile(path, f"frame {number} cannot be read ({error.strerror})") from error


def recognises(path: Path) -> bool:
    """Whether a folder looks like LeRobot's."""
    return (path / INFO).is_file()


def open_dataset(path: Path) -> LeRobotDataset:
    """The dataset in a folder. Raises BadFile where what describes it is damaged, MissingDependency."""
    return open_lerobot(path)


def open_lerobot(path: Path | str, fields: FieldMap | None = None) -> LeRobotDataset:
    """The dataset in a folder, its columns understood as `fields` say, or as it says itself (see `field_map`).

    Raises BadFile where what describes the dataset is damaged, UnknownName for a feature that it has not,
    MissingDependency.
    """
    info = read_info(Path(path))
    for source in (fields.sources if fields is not None else {}).values():
        if source.feature not in info.features:
            raise UnknownName("feature", source.feature, info.features)
    index = read_index(info)
    extras = read_extras(info.root)
    names = [extras.get(number, _NONE).name or f"episode_{number:06d}" for number in range(index.count)]
    if len(set(names)) < len(names):
        raise BadFile(info.root, f"two of its episodes have the name {max(names, key=names.count)!r}")
    found = field_map(info) if fields is None else fields
    unread = [f.key for f in info.features.values() if f.depth]
    notes = (*found.notes, *(f"{key} is a picture of distances and is not read" for key in unread))
    found = FieldMap(found.sources, found.robot, found.tool_link, notes)
    return LeRobotDataset(info, found, index, read_tasks(info), extras, tuple(names))


def _view_name(key: str) -> str:
    for prefix in _CAMERA_PREFIXES:
        if key.startswith(prefix) and len(key) > len(prefix):
            return key.removeprefix(prefix)
    return key
