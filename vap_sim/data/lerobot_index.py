"""Where each episode of a LeRobot dataset lies: which rows of which table, which part of which video."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vap_sim.data.inside import inside
from vap_sim.data.lerobot_info import LeRobotInfo, read_json_lines
from vap_sim.data.parquet_file import ParquetRows
from vap_sim.errors import BadFile

_EPISODES = "meta/episodes"


@dataclass(frozen=True)
class VideoPart:
    """A video file and the seconds of it that show an episode; None for all of it."""

    path: Path
    seconds: tuple[float, float] | None


@dataclass(frozen=True)
class Place:
    """Rows `first` to before `first` + `length` of the table `data`, and the videos by feature."""

    data: Path
    first: int
    length: int
    videos: Mapping[str, VideoPart]


@dataclass(frozen=True, eq=False)
class EpisodeIndex:
    """What the dataset lists of its episodes, by number. damage: parts of the list that could not be read."""

    info: LeRobotInfo
    source: Path
    listed: Mapping[int, Mapping[str, Any]]
    starts: Mapping[tuple[int, int], int]
    damage: tuple[BadFile, ...] = ()

    @property
    def count(self) -> int:
        """Number of episodes that the dataset says it has."""
        return max(self.info.episodes, max(self.listed, default=-1) + 1)

    def place(self, number: int) -> Place:
        """Where an episode lies. Raises BadFile where the list does not say, or leads out of the dataset."""
        if number not in self.listed:
            why = f" ({self.damage[0]})" if self.damage else ""
            raise BadFile(self.source, f"episode {number} is not listed{why}")
        entry = self.listed[number]
        length = self._whole(number, entry, "length")
        if length < 1:
            raise BadFile(self.source, f"episode {number} has no frames")
        return self._alone(number, length) if self.info.version == 2 else self._shared(number, entry, length)

    def _alone(self, number: int, length: int) -> Place:
        """Version 2: a file an episode."""
        slots = {"episode_chunk": number // self.info.chunk, "episode_index": number}
        videos = {f.key: VideoPart(self.info.video_file(f.key, **slots), None) for f in self._filmed()}
        return Place(self.info.data_file(**slots), 0, length, videos)

    def _shared(self, number: int, entry: Mapping[str, Any], length: int) -> Place:
        """Version 3: many episodes a file."""
        chunk, file = self._slots(number, entry, "data")
        first = self._whole(number, entry, "dataset_from_index") - self.starts[chunk, file]
        videos = {}
        for feature in self._filmed():
            at = f"videos/{feature.key}"
            slots = self._slots(number, entry, at)
            start, end = (self._time(number, entry, f"{at}/{name}_timestamp") for name in ("from", "to"))
            frames = (end - start) * self.info.frame_rate
            if abs(frames - length) > 0.5:
                told = f"{frames:.1f} frames of video for {length} rows of the log"
                raise BadFile(self.source, f"episode {number}, field '{at}/to_timestamp': {told}")
            path = self.info.video_file(feature.key, chunk_index=slots[0], file_index=slots[1])
            videos[feature.key] = VideoPart(path, (start, start + length / self.info.frame_rate))
        return Place(self.info.data_file(chunk_index=chunk, file_index=file), first, length, videos)

    def _filmed(self) -> list[Any]:
        return [feature for feature in self.info.cameras if feature.dtype == "video"]

    def _slots(self, number: int, entry: Mapping[str, Any], at: str) -> tuple[int, int]:
        return self._whole(number, entry, f"{at}/chunk_index"), self._whole(number, entry, f"{at}/file_index")

    def _whole(self, number: int, entry: Mapping[str, Any], name: str) -> int:
        value = entry.get(name)
        if type(value) is not int or value < 0:
            raise BadFile(self.source, f"episode {number}, field {name!r}: {value!r}, expected a whole number from 0")
        return value

    def _time(self, number: int, entry: Mapping[str, Any], name: str) -> float:
        value = entry.get(name)
        if not isinstance(value, int | float) or not 0 <= value < 1e9:
            raise BadFile(self.source, f"episode {number}, field {name!r}: {value!r}, expected seconds from 0")
        return float(value)


def read_index(info: LeRobotInfo) -> EpisodeIndex:
    """The list of episodes. Raises BadFile where none of it can be read."""
    if info.version == 2:
        path = inside(info.root, "meta/episodes.jsonl", "the list of episodes")
        return EpisodeIndex(info, path, _by_number(path, read_json_lines(path)), {})
    folder = inside(info.root, _EPISODES, "the list of episodes")
    listed: dict[int, Mapping[str, Any]] = {}
    damage: list[BadFile] = []
    for path in sorted(folder.glob("*/*.parquet")):
        try:
            inside(info.root, str(path.relative_to(info.root)), "the list of episodes")
            listed.update(_by_number(path, _entries(path)))
        except BadFile as error:
            damage.append(error)
    if not listed and damage:
        raise damage[0]
    if not listed and info.episodes:
        raise BadFile(folder, f"lists none of {info.episodes} episodes")
    starts: dict[tuple[int, int], int] = {}
    for entry in listed.values():
        file, start = (entry.get("data/chunk_index"), entry.get("data/file_index")), entry.get("dataset_from_index")
        if all(type(value) is int for value in (*file, start)):
            starts[file] = min(starts.get(file, start), start)  # type: ignore[index,type-var,arg-type,assignment]
    return EpisodeIndex(info, folder, listed, starts, tuple(damage))


def _entries(path: Path) -> list[dict[str, Any]]:
    with ParquetRows(path) as rows:
        # Statistics are most of such a table, and none of where things lie.
        columns = [name for name in rows.columns if not name.startswith("stats/")]
        entries: list[dict[str, Any]] = rows.read(columns).to_pylist()
        return entries


def _by_number(path: Path, entries: list[dict[str, Any]]) -> dict[int, Mapping[str, Any]]:
    found: dict[int, Mapping[str, Any]] = {}
    for entry in entries:
        number = entry.get("episode_index")
        if type(number) is not int or not 0 <= number < 2**31:
            raise BadFile(path, f"field 'episode_index': {number!r}, expected a whole number from 0")
        if number in found:
            raise BadFile(path, f"episode {number} is listed twice")
        found[number] = entry
    return found
