"""What an episode holds beyond LeRobot's layout, in files of this project beside it: name, cameras, success, notes.

`meta/vap_sim_episodes/chunk-000/file-000.jsonl` has one object a line with `episode_index`; LeRobot passes it over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from vap_sim.data.inside import inside
from vap_sim.data.lerobot_info import read_json_lines
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.robots.camera import Camera

EXTRAS = "meta/vap_sim_episodes"


@dataclass(frozen=True)
class EpisodeExtras:
    """name: "" for none; cameras: as JSON, by view; success: None where not known."""

    name: str = ""
    success: bool | None = None
    notes: tuple[str, ...] = ()
    stations: str = "{}"

    @property
    def cameras(self) -> Mapping[str, Camera]:
        """Cameras by view. Raises InvalidInput naming the camera."""
        return _cameras(self.stations)

    def line(self, number: int) -> str:
        """The line of the file for episode `number`."""
        values = {"episode_index": number, "name": self.name, "success": self.success, "notes": list(self.notes)}
        return json.dumps({**values, "cameras": json.loads(self.stations)}, ensure_ascii=False, allow_nan=False) + "\n"


def extras_of(name: str, success: bool | None, notes: tuple[str, ...], cameras: Mapping[str, Camera]) -> EpisodeExtras:
    """What is kept of an episode."""
    stations = json.dumps({view: camera.to_dict() for view, camera in cameras.items()}, allow_nan=False)
    return EpisodeExtras(name, success, notes, stations)


def read_extras(root: Path) -> dict[int, EpisodeExtras]:
    """By the number of the episode; empty where the dataset has none. Raises BadFile naming the field."""
    found: dict[int, EpisodeExtras] = {}
    shared: dict[str, str] = {}  # a station's cameras are the same in most of its episodes
    for path in sorted(inside(root, EXTRAS, "what episodes hold").glob("*/*.jsonl")):
        inside(root, str(path.relative_to(root)), "what episodes hold")
        for values in read_json_lines(path):
            number = values.get("episode_index")
            if type(number) is not int or number in found:
                raise BadFile(path, f"field 'episode_index': {number!r}, expected a whole number, each once")
            found[number] = _extras(path, number, values, shared)
    return found


def _extras(path: Path, number: int, values: Mapping[str, Any], shared: dict[str, str]) -> EpisodeExtras:
    name, success, notes = values.get("name", ""), values.get("success"), values.get("notes", [])
    cameras = values.get("cameras", {})
    if not isinstance(name, str) or not (success is None or isinstance(success, bool)):
        raise BadFile(path, f"episode {number}: name {name!r}, success {success!r}, expected a text and a truth value")
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise BadFile(path, f"episode {number}, field 'notes': expected a list of texts")
    if not isinstance(cameras, dict) or not all(isinstance(camera, dict) for camera in cameras.values()):
        raise BadFile(path, f"episode {number}, field 'cameras': expected an object of objects")
    text = json.dumps(cameras)
    text = shared.setdefault(text, text)
    try:
        _cameras(text)
    except InvalidInput as error:
        raise BadFile(path, f"episode {number}, field 'cameras': {error}") from error
    return EpisodeExtras(name, success, tuple(notes), text)


@lru_cache(maxsize=16)
def _cameras(text: str) -> Mapping[str, Camera]:
    return {view: Camera.from_dict(values) for view, values in json.loads(text).items()}
