"""Prepared clips: real video at a world's size and rate, with what it takes to draw its prompts in any profile.

A folder holds one checked archive a clip (`NAME.clip.npz`, see archive.py) and the index `prepared.json`, which lists
the clips and what was left out and why. Prompts are not stored: joints, cameras and homographies say where they go.

| member | shape | type | meaning |
| --- | --- | --- | --- |
| frames | (V, T, H, W, 3) | uint8 | what the cameras saw, RGB |
| robot | (V, T, H, W) | uint8 | how far the robot's silhouette, moved by the homography, covers a pixel, 0..255 |
| joints | (T, J) | float32 | all joints in the robot's own order [rad or m], from the clip's state source |
| homographies | (V, T, 3, 3) | float32 | pixels as the camera draws them to pixels of the picture |
| kept | (V, T) | uint8 | 1 where the picture bears the drawing out, else 0 |
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.data.archive import ArchiveLayout, read_archive, write_archive
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.prompts import DrawProfile, Prompter, VisualPrompt
from vap_sim.prompts.warping import sane_homographies
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

SUFFIX = ".clip.npz"
INDEX = "prepared.json"
STATE_SOURCES = ("logged", "target", "nominal")
_FORMAT = 1
_LAYOUT = ArchiveLayout(
    what="clip",
    format=_FORMAT,
    members={
        "frames": ("u1", "VTHW3"),
        "robot": ("u1", "VTHW"),
        "joints": ("f4", "TJ"),
        "homographies": ("f4", "VT33"),
        "kept": ("u1", "VT"),
    },
    delta=("frames", "robot"),
    fields=("name", "cameras", "frame_rate", "robot_name", "state_source", "instruction", "source", "notes"),
    compression=zipfile.ZIP_DEFLATED,  # video noise does not repay a slower one
)


@dataclass(frozen=True, eq=False)
class PreparedClip:
    """T frames of V views and what draws their prompts; see the module's table for shapes, types and units.

    cameras: one a view, of the picture's size, without batch axes; frame_rate [Hz]; state_source: where the joints come
    from, one of STATE_SOURCES; instruction: "" for none; source: the recording; notes: what was decided on the way.
    Raises InvalidInput naming the field that does not fit.
    """

    name: str
    frames: NDArray[np.uint8]
    joints: NDArray[np.float32]
    cameras: tuple[Camera, ...]
    homographies: NDArray[np.float32]
    robot: NDArray[np.uint8]
    kept: NDArray[np.bool_]
    frame_rate: float
    robot_name: str
    state_source: str
    instruction: str = ""
    source: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (
            self.frames.dtype != np.uint8
            or self.frames.ndim != 5
            or 0 in self.frames.shape
            or self.frames.shape[4] != 3
        ):
            self._refuse("frames", f"{self.frames.dtype} {self.frames.shape}", "uint8 (V, T, H, W, 3), none of them 0")
        views, length, height, width = self.frames.shape[:4]
        wanted = (
            ("joints", np.float32, (length, *self.joints.shape[1:2])), ("kept", np.bool_, (views, length)),
            ("homographies", np.float32, (views, length, 3, 3)), ("robot", np.uint8, (views, length, height, width)),
        )  # fmt: skip
        for name, kind, shape in wanted:
            values = getattr(self, name)
            if values.dtype != kind or values.shape != shape or values.ndim < 2:
                self._refuse(name, f"{values.dtype} {values.shape}", f"{np.dtype(kind)} {shape}")
        if not np.isfinite(self.joints).all():
            self._refuse("joints", "numbers that are not finite", "finite numbers")
        torn = np.argwhere(~sane_homographies(self.homographies, (width, height)))
        if len(torn):
            self._refuse(
                "homographies", f"a torn or mirrored one at view {torn[0][0]}, frame {torn[0][1]}", "sane ones"
            )
        if len(self.cameras) != views:
            self._refuse("cameras", f"{len(self.cameras)} cameras", f"{views}, one a view")
        for camera in self.cameras:
            if tuple(camera.size) != (width, height) or camera.intrinsics.ndim != 2:
                given = f"{camera.name!r} of {camera.size} with axes {tuple(camera.intrinsics.shape[:-2])}"
                self._refuse("cameras", given, f"one of {(width, height)} without axes")
        if not 0.01 <= self.frame_rate <= 1000:
            self._refuse("frame_rate", self.frame_rate, "0.01 to 1000 Hz")
        if self.state_source not in STATE_SOURCES:
            raise UnknownName("state source", self.state_source, STATE_SOURCES)

    def _refuse(self, name: str, given: object, expected: object) -> None:
        raise InvalidInput(f"{name} of clip {self.name!r}", given, expected)

    @property
    def length(self) -> int:
        """Number of frames."""
        return int(self.frames.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) [px]."""
        return int(self.frames.shape[3]), int(self.frames.shape[2])


def prompt_of(
    clip: PreparedClip, profile: DrawProfile, first: int = 0, last: int | None = None, model: RobotModel | None = None
) -> VisualPrompt:
    """The prompt of frames `first` to before `last` of a clip, as one row of V views, drawn from its joints.

    model: the clip's robot, for one that is not on the shelf; by default loaded by the clip's `robot_name`. Raises
    InvalidInput for frames outside the clip and for a model with other joints, UnknownName for a robot.
    """
    last = clip.length if last is None else last
    if not 0 <= first < last <= clip.length:
        raise InvalidInput("frames of a clip", f"{first}..{last}", f"0 <= first < last <= {clip.length}")
    prompter = _prompter(load_robot(clip.robot_name) if model is None else model, profile, clip.size)
    joints, moves = (torch.from_numpy(v[None]) for v in (clip.joints[first:last], clip.homographies[:, first:last]))
    return prompter.draw(joints, clip.cameras, moves)


@lru_cache(maxsize=8)
def _prompter(model: RobotModel, profile: DrawProfile, size: tuple[int, int]) -> Prompter:
    return Prompter(model, profile, size)


def save_clip(path: Path, clip: PreparedClip) -> None:
    """Write `path` whole or not at all; equal clips make equal files, to the byte. Raises OSError."""
    values = {name: getattr(clip, name) for name in _LAYOUT.members}
    meta = {name: getattr(clip, name) for name in _LAYOUT.fields}
    meta["cameras"] = [camera.to_dict() for camera in clip.cameras]
    write_archive(path, _LAYOUT, {**values, "kept": clip.kept.astype(np.uint8)}, meta)


def clip_file(name: str) -> str:
    """The file of a clip of that name: whatever a file cannot be called is written in percent."""
    plain = quote(name, safe="").replace("~", "%7E")
    return ("%2E" + plain[1:] if plain.startswith(".") else plain) + SUFFIX


def load_clip(path: Path) -> PreparedClip:
    """Read a file of `save_clip`. Raises BadFile naming the member that is missing, damaged or does not fit."""
    meta, values = read_archive(path, _LAYOUT)
    kept = values.pop("kept")
    if kept.max(initial=0) > 1:
        raise BadFile(path, f"kept: value {kept.max()}, expected 0 or 1")
    members: dict[str, Any] = {name: _text(path, meta[name], name) for name in _LAYOUT.fields[3:7]}
    members.update(values)
    rate, notes, cameras = meta["frame_rate"], meta["notes"], meta["cameras"]
    if isinstance(rate, bool) or not isinstance(rate, int | float):
        raise BadFile(path, f"meta.json: field 'frame_rate' is {rate!r}, expected a number")
    for name, listed in (("notes", notes), ("cameras", cameras)):
        kind = str if name == "notes" else dict
        if not isinstance(listed, list) or not all(isinstance(item, kind) for item in listed):
            raise BadFile(path, f"meta.json: field {name!r} is not a list of {kind.__name__}")
    try:
        return PreparedClip(
            name=_text(path, meta["name"], "name"),
            kept=kept.astype(np.bool_),
            cameras=tuple(Camera.from_dict(camera) for camera in cameras),
            frame_rate=float(rate),
            notes=tuple(notes),
            **members,
        )
    except (InvalidInput, UnknownName) as error:
        raise BadFile(path, str(error)) from error


def _text(path: Path, value: object, name: str) -> str:
    if not isinstance(value, str):
        raise BadFile(path, f"field {name!r} is {type(value).__name__}, expected text")
    return value


@dataclass(frozen=True)
class ClipEntry:
    """A clip in the index. file: its name in the folder; frames: T; views: names of its cameras, in order."""

    name: str
    file: str
    frames: int
    views: tuple[str, ...]


@dataclass(frozen=True)
class LeftOut:
    """Frames `first` to before `last` of an episode, at the clips' rate, that no clip has, and why; 0 to 0 where the
    episode could not be read. view: where only one view is at fault and the others stay."""

    name: str
    first: int
    last: int
    reason: str
    view: str = ""


@dataclass(frozen=True)
class PreparedSet:
    """The index of a folder of clips. settings: plain values that made it; finished: episodes already dealt with."""

    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    finished: tuple[str, ...] = ()
    clips: tuple[ClipEntry, ...] = ()
    left_out: tuple[LeftOut, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the clips, in order."""
        return tuple(entry.name for entry in self.clips)

    def read(self, name: str) -> PreparedClip:
        """One clip. Raises UnknownName, BadFile."""
        entry = next((entry for entry in self.clips if entry.name == name), None)
        if entry is None:
            raise UnknownName(f"clip of {self.folder}", name, self.names)
        return load_clip(self.folder / entry.file)

    def __iter__(self) -> Iterator[PreparedClip]:
        """The clips one by one."""
        return (load_clip(self.folder / entry.file) for entry in self.clips)

    def save(self) -> None:
        """Write the index whole or not at all. Raises OSError."""
        plain = {name: [asdict(item) for item in getattr(self, name)] for name in ("clips", "left_out")}
        record = {"format": _FORMAT, "settings": dict(self.settings), "finished": list(self.finished), **plain}
        partial = self.folder / f"{INDEX}.partial"
        try:
            partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            os.replace(partial, self.folder / INDEX)
        finally:
            partial.unlink(missing_ok=True)


def open_prepared(folder: Path | str) -> PreparedSet:
    """The index of a folder that `vap-sim prepare` wrote; clips are read when asked for.

    Raises BadFile where the folder or its index is missing or damaged, naming the entry and the field.
    """
    folder = Path(folder)
    path = folder / INDEX
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror}); a folder of prepared clips has one") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(path, f"is not JSON ({error})") from error
    if not isinstance(record, dict) or record.get("format") != _FORMAT:
        raise BadFile(path, f"is no index of prepared clips of format {_FORMAT}")
    settings, finished = record.get("settings"), record.get("finished")
    if not isinstance(settings, dict):
        raise BadFile(path, "field 'settings' is not an object")
    if not isinstance(finished, list) or not all(isinstance(name, str) for name in finished):
        raise BadFile(path, "field 'finished' is not a list of names")
    clips: tuple[ClipEntry, ...] = tuple(_rows(path, record, "clips", ClipEntry))
    for entry in clips:
        if not re.fullmatch(r"[\w%+=@-][\w%+=@.-]*", entry.file) or not entry.file.endswith(SUFFIX):
            raise BadFile(path, f"clip {entry.name!r}: file {entry.file!r}, expected a name that ends in {SUFFIX}")
    names = [entry.name for entry in clips]
    if len(set(names)) != len(names):
        raise BadFile(path, f"clip {max(names, key=names.count)!r} stands in it more than once")
    left_out = tuple(_rows(path, record, "left_out", LeftOut))
    return PreparedSet(folder, settings, tuple(finished), clips, left_out)


def _rows(path: Path, record: Mapping[str, Any], where: str, kind: type[ClipEntry] | type[LeftOut]) -> list[Any]:
    """The entries of a list in the index, each with exactly the fields of its record and of their types."""
    rows = record.get(where)
    if not isinstance(rows, list):
        raise BadFile(path, f"field {where!r} is not a list")
    known = {item.name: str(item.type) for item in fields(kind)}
    made: list[Any] = []
    for number, row in enumerate(rows):
        if not isinstance(row, dict) or set(row) != set(known):
            given = sorted(row) if isinstance(row, dict) else type(row).__name__
            raise BadFile(path, f"{where}[{number}] has {given}, expected the fields {sorted(known)}")
        for name, value in row.items():
            listed = isinstance(value, list) and all(isinstance(item, str) for item in value)
            fits = {"str": isinstance(value, str), "int": type(value) is int}
            if not fits.get(known[name], listed):
                raise BadFile(path, f"{where}[{number}], field {name!r}: {value!r}, expected {known[name]}")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in row.items()}
        made.append(kind(**values))
    return made
