"""What a LeRobot dataset says of itself: `meta/info.json`, with every field checked, and the tasks.

The layout is that of LeRobot's published datasets of versions 2.0, 2.1 and 3.0 (github.com/huggingface/lerobot,
`docs/source/lerobot-dataset-v3.mdx` and `src/lerobot/datasets`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vap_sim.data.inside import inside
from vap_sim.data.parquet_file import ParquetRows
from vap_sim.errors import BadFile

INFO = "meta/info.json"
KNOWN_VERSIONS = ("v2.0", "v2.1", "v3.0")
PICTURES = ("video", "image")
OWN_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
"""Columns that every dataset has beside its features."""
_LARGEST_JSON = 2**26
_SLOT = re.compile(r"\{(\w+)(?::0(\d)d)?\}")
_MOST_EPISODES = 2**31


@dataclass(frozen=True)
class Feature:
    """One thing that is recorded a frame. dtype: numpy's name of the type of numbers, "video", "image", "string" or
    another that is not read here; names: of its columns, () where the dataset names none; depth: pictures of distances.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    names: tuple[str, ...]
    depth: bool


@dataclass(frozen=True)
class LeRobotInfo:
    """The dataset at `root`: version 2 (an episode a file) or 3 (many), rate [Hz], counts, features by key, paths."""

    root: Path
    version: int
    frame_rate: float
    episodes: int
    frames: int
    robot_type: str | None
    features: Mapping[str, Feature]
    chunk: int
    data_path: str
    video_path: str | None

    @property
    def cameras(self) -> tuple[Feature, ...]:
        """The features that are pictures of colours."""
        return tuple(f for f in self.features.values() if f.dtype in PICTURES and not f.depth)

    def data_file(self, **slots: int) -> Path:
        """The table that holds an episode. Raises BadFile for a path that leaves the dataset."""
        return _file(self.root, "data_path", self.data_path, slots)

    def video_file(self, key: str, **slots: int) -> Path:
        """The video of one camera that holds an episode. Raises BadFile for a path that leaves the dataset."""
        if self.video_path is None:
            raise BadFile(self.root / INFO, f"field 'video_path' is missing, though {key!r} is a video")
        return _file(self.root, "video_path", self.video_path, {"video_key": key, **slots})


def read_info(root: Path) -> LeRobotInfo:
    """Read `meta/info.json`. Raises BadFile naming the field."""
    path = inside(root, INFO, "the dataset's description")
    values = read_json(path)
    version = values.get("codebase_version")
    if version not in KNOWN_VERSIONS:
        known = ", ".join(KNOWN_VERSIONS)
        raise BadFile(path, f"field 'codebase_version': {version!r}, expected one of {known}")
    features = _member(path, values, "features", dict)
    rate = _member(path, values, "fps", (int, float))
    if not 0.01 <= rate <= 1000:
        raise BadFile(path, f"field 'fps': {rate}, expected 0.01 to 1000")
    chunk = values.get("chunks_size", 1000)
    if not isinstance(chunk, int) or chunk < 1:
        raise BadFile(path, f"field 'chunks_size': {chunk!r}, expected a whole number of 1 or more")
    counts = {name: _member(path, values, name, int) for name in ("total_episodes", "total_frames")}
    for name, count in counts.items():
        if not 0 <= count < _MOST_EPISODES:
            raise BadFile(path, f"field {name!r}: {count}")
    if values.get("video_path") is not None:
        _member(path, values, "video_path", str)
    robot = values.get("robot_type")
    return LeRobotInfo(
        root,
        int(version[1]),
        float(rate),
        counts["total_episodes"],
        counts["total_frames"],
        robot if isinstance(robot, str) else None,
        {str(key): _feature(path, str(key), value) for key, value in features.items()},
        chunk,
        _member(path, values, "data_path", str),
        values.get("video_path"),
    )


def read_tasks(info: LeRobotInfo) -> dict[int, str]:
    """Instructions by number. Raises BadFile."""
    if info.version == 2:
        path = inside(info.root, "meta/tasks.jsonl", "tasks")
        pairs = [(line.get("task_index"), line.get("task")) for line in read_json_lines(path)]
    else:
        path = inside(info.root, "meta/tasks.parquet", "tasks")
        with ParquetRows(path) as rows:
            # Tables that pandas wrote without a name for their index call it so.
            text = "task" if "task" in rows.columns else "__index_level_0__"
            table = rows.read(("task_index", text))
            pairs = list(zip(table.column("task_index").to_pylist(), table.column(text).to_pylist(), strict=True))
    tasks: dict[int, str] = {}
    for number, task in pairs:
        if not isinstance(number, int) or not isinstance(task, str):
            raise BadFile(path, f"task {task!r} has the number {number!r}, expected a text and a whole number")
        tasks[number] = task
    return tasks


def read_json(path: Path) -> dict[str, Any]:
    """An object in a file. Raises BadFile."""
    values = _parsed(path, _text(path), "")
    if not isinstance(values, dict):
        raise BadFile(path, f"holds a {type(values).__name__}, expected an object")
    return values


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """One object a line. Raises BadFile naming the line."""
    lines = [
        _parsed(path, line, f"line {number}: ")
        for number, line in enumerate(_text(path).split("\n"), 1)
        if line.strip()
    ]
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict):
            raise BadFile(path, f"entry {number} is a {type(line).__name__}, expected an object")
    return lines


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > _LARGEST_JSON:
            raise BadFile(path, f"is larger than {_LARGEST_JSON} bytes")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise BadFile(path, f"is no text ({error})") from error


def _parsed(path: Path, text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadFile(path, f"{where}is not JSON ({error})") from error


def _member(path: Path, values: Mapping[str, Any], name: str, kind: type | tuple[type, ...]) -> Any:
    if name not in values:
        raise BadFile(path, f"field {name!r} is missing")
    if not isinstance(values[name], kind) or isinstance(values[name], bool):
        raise BadFile(path, f"field {name!r}: {str(values[name])[:60]!r} is a {type(values[name]).__name__}")
    return values[name]


def _feature(path: Path, key: str, value: Any) -> Feature:
    if not isinstance(value, dict) or not isinstance(value.get("dtype"), str):
        raise BadFile(path, f"feature {key!r}: field 'dtype' is missing or no text")
    shape = value.get("shape", [])
    if not isinstance(shape, list | tuple) or not all(isinstance(n, int) and 0 <= n < 2**31 for n in shape):
        raise BadFile(path, f"feature {key!r}: field 'shape' is {shape!r}, expected a list of sizes")
    names = value.get("names")
    if isinstance(names, dict):  # {"motors": [...]}
        names = next((member for member in names.values() if isinstance(member, list)), list(names))
    described = [value.get("info"), value.get("video_info")]
    marks = [d.get(mark) for d in described if isinstance(d, dict) for mark in ("is_depth_map", "video.is_depth_map")]
    listed = tuple(map(str, names)) if isinstance(names, list) else ()
    return Feature(key, value["dtype"], tuple(shape), listed, any(mark is True for mark in marks))


def _file(root: Path, field: str, template: str, slots: Mapping[str, int | str]) -> Path:
    """The path that a template gives. Only plain slots are filled: a template is text of unknown origin."""

    def fill(slot: re.Match[str]) -> str:
        if slot[1] not in slots:
            raise BadFile(root / INFO, f"field {field!r}: unknown slot {slot[0]!r}; known: {', '.join(slots)}")
        return str(slots[slot[1]]).zfill(int(slot[2] or 0))

    relative = _SLOT.sub(fill, template)
    if "{" in relative or "}" in relative:
        raise BadFile(root / INFO, f"field {field!r}: {template!r} has a slot of another kind than {{name:03d}}")
    return inside(root, relative, f"field {field!r} of {INFO}")
