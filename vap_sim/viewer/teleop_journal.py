"""What is driven, on disk as soon as it exists: a killed server or a full memory loses no episode.

A journal is a folder: `journal.jsonl` has a line a moment, `pictures.bin` the pictures (PNG) that the lines point into.
A line is written after its pictures, so whatever the last whole line tells of is there. From it an episode is saved as
a LeRobot dataset, at once or after a crash.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np

from vap_sim.data.episode import Episode
from vap_sim.data.lerobot_write import LeRobotSettings, write_lerobot
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.robots.actions import action_spec
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel
from vap_sim.viewer.teleop_history import Moment
from vap_sim.viewer.teleop_session import World

LINES, PICTURES, SAVED = "journal.jsonl", "pictures.bin", "saved.json"


class EpisodeJournal:
    """Writes one folder an episode below `folder`; `path` is that of the present one. Raises OSError."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path: Path | None = None
        self._lines: BinaryIO | None = None
        self._pictures: BinaryIO | None = None

    def begin(self, world: World, seed: int, options: Mapping[str, Any], moment: Moment) -> None:
        """A folder for a new episode in a world, with its first moment."""
        self.close()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = _free(self.folder)
        self._lines, self._pictures = (open(self.path / name, "ab") for name in (LINES, PICTURES))  # noqa: SIM115
        options = {name: getattr(value, "name", value) for name, value in options.items()}
        self._write(
            {
                "robot": world.model.name,
                "dt": world.dt,
                "actions": list(action_spec(world.model, "joint_position").names),
                "instruction": world.instruction(),
                "cameras": {name: camera.to_dict() for name, camera in world.cameras().items()},
                "seed": seed,
                "options": {name: str(value) for name, value in options.items()},
            }
        )
        self.add(moment)

    def add(self, moment: Moment) -> None:
        """One more moment: its pictures, then its line."""
        assert self._pictures is not None, "begin comes first"
        places = {}
        for name, picture in moment.seen.pictures.items():
            _, png = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
            places[name] = [self._pictures.tell(), len(png)]
            self._pictures.write(png.tobytes())
        self._pictures.flush()
        signals = dict(moment.seen.signals)
        self._write(
            {
                "number": moment.number,
                "parent": moment.parent,
                "step": moment.step,
                "world": moment.world,
                "action": None if moment.action is None else [float(value) for value in moment.action],
                "joints": [float(value) for value in moment.seen.joints],
                "asked": [float(value) for value in moment.asked],
                "pictures": places,
                "signals": signals,
            }
        )

    def saved(self, number: int, dataset: Path) -> None:
        """Note that the way to a moment was saved as a dataset."""
        assert self.path is not None
        partial = self.path / (SAVED + ".partial")
        partial.write_text(json.dumps({"number": number, "dataset": str(dataset)}), encoding="utf-8")
        os.replace(partial, self.path / SAVED)

    def close(self) -> None:
        """Close the files; harmless when called twice."""
        for file in (self._lines, self._pictures):
            if file is not None:
                file.close()
        self._lines = self._pictures = None

    def _write(self, values: dict[str, Any]) -> None:
        assert self._lines is not None
        self._lines.write(json.dumps(values, allow_nan=False).encode() + b"\n")
        self._lines.flush()


@dataclass(frozen=True, eq=False)
class Logged:
    """A journal that was read: its header, its moments by number as plain data, and where its pictures are."""

    path: Path
    header: Mapping[str, Any]
    moments: Mapping[int, Mapping[str, Any]]

    @property
    def last(self) -> int:
        """The moment that was written last."""
        return max(self.moments)

    @property
    def unsaved(self) -> bool:
        """Whether somebody drove here and the last moment was not saved."""
        if len(self.moments) < 2:
            return False
        record = self.path / SAVED
        return not record.exists() or int(json.loads(record.read_text("utf-8"))["number"]) != self.last

    def way_to(self, number: int) -> tuple[Mapping[str, Any], ...]:
        """The moments from the start to one. Raises BadFile where one is missing."""
        way: list[Mapping[str, Any]] = []
        following: int | None = number
        while following is not None:
            if following not in self.moments or len(way) > len(self.moments):
                raise BadFile(self.path / LINES, f"moment {following} is missing")
            way.append(self.moments[following])
            following = way[-1]["parent"]
        return tuple(reversed(way))


def read_journal(path: Path) -> Logged:
    """A journal as far as it is whole. Raises BadFile for one without a header, a moment, or that is damaged inside."""
    file = path / LINES
    try:
        lines = file.read_bytes().split(b"\n")
        size = (path / PICTURES).stat().st_size
    except OSError as error:
        raise BadFile(file, f"cannot be read ({error.strerror})") from error
    records: list[Any] = []
    for number, line in enumerate(lines[:-1]):  # what follows the last line break was cut short
        try:
            records.append(json.loads(line))
        except ValueError as error:
            raise BadFile(file, f"line {number + 1} is not JSON ({error})") from error
    if len(records) < 2 or not isinstance(records[0], dict) or "robot" not in records[0]:
        raise BadFile(file, "holds no episode")
    moments = {}
    for number, record in enumerate(records[1:]):
        try:
            ends = [int(at) + int(length) for at, length in record["pictures"].values()]
            moments[int(record["number"])] = record
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise BadFile(file, f"line {number + 2} tells of no moment ({error!r})") from error
        if max(ends, default=0) > size:
            raise BadFile(path / PICTURES, f"ends before the pictures of line {number + 2}")
    return Logged(path, records[0], moments)


def unsaved_journals(folder: Path) -> tuple[Logged, ...]:
    """Journals below a folder whose last moment was not saved, oldest first; damaged ones are passed over."""
    found = []
    for path in sorted(folder.glob(f"*/{LINES}")):
        try:
            logged = read_journal(path.parent)
        except BadFile:
            continue
        if logged.unsaved:
            found.append(logged)
    return tuple(found)


def save_episode(logged: Logged, number: int, model: RobotModel, out: Path) -> Path:
    """Write the way to a moment as a LeRobot dataset of version 3.0 with one episode, and return its path `out`.

    Row t holds what was seen at t and the action that followed; the last action repeats, as nothing followed it.
    Raises InvalidInput for a way without a step, or a path that is taken; BadFile for damaged pictures.
    """
    way = logged.way_to(number)
    if len(way) < 2:
        raise InvalidInput("episode to save", "a start and no step", "at least one step")
    header = logged.header
    rate = 1 / float(header["dt"])
    joints = np.array([moment["joints"] for moment in way], np.float64)
    gripper, arm = None, joints
    if model.gripper is not None:
        place = model.robot.joint_index(model.gripper.joint)
        share = (joints[:, place] - model.gripper.open_value) / (model.gripper.closed_value - model.gripper.open_value)
        gripper, arm = np.clip(share, 0, 1), np.delete(joints, place, axis=1)
    actions = np.array([moment["action"] for moment in way[1:]], np.float64)
    told = [moment["signals"].get("success") for moment in way]
    words = f"driven by hand in world {way[-1]['world']!r}, seed {header['seed']}"
    episode = Episode(
        name=f"{logged.path.name}_{number:05d}",
        source=logged.path,
        views={name: _Pictures(logged.path, [one["pictures"][name] for one in way]) for name in way[0]["pictures"]},
        length=len(way),
        frame_rate=round(rate) if abs(rate - round(rate)) < 1e-6 else rate,
        instruction=str(header["instruction"]),
        robot=str(header["robot"]),
        joints=arm,
        gripper=gripper,
        actions=np.concatenate([actions, actions[-1:]]),
        action_names=tuple(header["actions"]),
        cameras={name: Camera.from_dict(camera, name=name) for name, camera in header["cameras"].items()},
        success=None if told[-1] is None else bool(any(told)),
        notes=(words, "actions are joint targets [rad or m], then the gripper (0 open, 1 closed)"),
    )
    return write_lerobot(out, [episode], LeRobotSettings())


@dataclass(frozen=True, eq=False)
class _Pictures:
    """Footage whose pictures lie in a journal; `places` are (offset, length) a frame."""

    path: Path
    places: Sequence[Sequence[int]]

    @property
    def size(self) -> tuple[int, int]:
        height, width = next(self.frames(0, 1)).shape[:2]
        return width, height

    @property
    def length(self) -> int:
        return len(self.places)

    def frames(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        file = self.path / PICTURES
        with open(file, "rb") as pictures:
            for frame, (at, length) in enumerate(self.places[first:last], start=first):
                pictures.seek(at)
                picture = cv2.imdecode(np.frombuffer(pictures.read(length), np.uint8), cv2.IMREAD_COLOR)
                if picture is None:
                    raise BadFile(file, f"frame {frame} is no picture")
                yield np.ascontiguousarray(picture[..., ::-1])


def _free(folder: Path) -> Path:
    """A new folder with the next number below `folder`."""
    taken = [int(path.name.rpartition("_")[2]) for path in folder.glob("episode_*") if path.name[8:].isdigit()]
    number = max(taken, default=0)
    while True:
        number += 1
        path = folder / f"episode_{number:04d}"
        try:
            path.mkdir()
            return path
        except FileExistsError:
            continue
