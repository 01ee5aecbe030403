"""Key points of hands that something else found, read from a file: any estimator can be used without its code.

An `.npz` archive (no pickle) or a JSON object with the fields

| field | shape | meaning |
| --- | --- | --- |
| points | (T, 2, 21, 2) [px] | the left and the right hand of T frames; not a number (null) where there is none |
| metres | (T, 2, 21, 3) [m] | in place of `points`, or beside it: in the camera's axes |
| intrinsics | (3, 3) [px] | with `metres` alone: the camera that they are placed in front of |
| score | (T, 2) | confidence, 0 to 1; 1 where the field is missing |

in the order of hand_detection.py. With `metres` alone the points are their projection, and hands are placed in space;
beside `points`, metres tell the shape alone.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vap_sim.errors import BadFile, VAPSimError
from vap_sim.extraction.hand_detection import Box, Floats, HandDetection, Picture
from vap_sim.extraction.hand_wire import POINTS, SIDES

LARGEST = 2**28
"""Bytes of a key point file."""
_FIELDS = {
    "points": ("T", 2, POINTS, 2), "metres": ("T", 2, POINTS, 3), "intrinsics": (3, 3), "score": ("T", 2),
}  # fmt: skip
_DAMAGE = (
    ValueError, EOFError, KeyError, AttributeError, TypeError, SyntaxError, MemoryError, OverflowError, RecursionError,
    RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class FileDetector:
    """A `HandDetector` whose finds stand in a file, T frames of them; pictures are not looked at."""

    path: Path
    found: tuple[tuple[HandDetection, ...], ...]

    @property
    def name(self) -> str:
        """The file and its size, which tell it from another one of that name."""
        return f"key points of {self.path.name}, {len(self.found)} frames, {self.path.stat().st_size} bytes"

    def detect(self, frame: int, picture: Picture, near: Box | None = None) -> tuple[HandDetection, ...]:
        """What the file says of a frame; nothing more is found on a second look. Raises BadFile beyond its end."""
        if not 0 <= frame < len(self.found):
            raise BadFile(self.path, f"holds {len(self.found)} frames; the video has a frame {frame}")
        return () if near is not None else self.found[frame]


def read_hand_file(path: Path | str) -> FileDetector:
    """A key point file. Raises BadFile naming the field, and the frame and side of a hand that cannot be."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST:
            raise BadFile(path, f"is larger than {LARGEST} bytes")
        values = _of_json(path) if path.suffix == ".json" else _of_npz(path)
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    arrays = _checked(path, values)
    metres, points = arrays.get("metres"), arrays.get("points")
    placed = points is None
    if points is None:
        if metres is None:
            raise BadFile(path, "has neither 'points' nor 'metres'")
        points = _projected(path, metres, arrays.get("intrinsics"))
    score = arrays.get("score")
    frames = tuple(
        tuple(
            hand
            for number in range(2)
            if (hand := _hand(path, frame, number, points, metres, score, placed)) is not None
        )
        for frame in range(len(points))
    )
    return FileDetector(path, frames)


def _of_json(path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(path, f"is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise BadFile(path, f"holds a {type(values).__name__}, expected an object")
    return values


def _of_npz(path: Path) -> Mapping[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            sizes = {item.filename: item.file_size for item in archive.zip.infolist()}
            for name, size in sizes.items():
                if size > LARGEST:
                    raise BadFile(path, f"{name}: larger than {LARGEST} bytes")
            return {name: archive[name] for name in archive.files if name in _FIELDS}
    except BadFile:
        raise
    except _DAMAGE as error:
        raise BadFile(path, f"is no whole .npz archive ({error})") from error


def _checked(path: Path, values: Mapping[str, Any]) -> dict[str, Floats]:
    """The known fields as arrays of their shapes. Raises BadFile."""
    arrays: dict[str, Floats] = {}
    length: int | None = None
    for name, axes in _FIELDS.items():
        if name not in values:
            continue
        try:
            # JSON's null stands for what is not there.
            array = np.asarray(values[name], dtype=object if path.suffix == ".json" else None).astype(np.float64)
        except (TypeError, ValueError, OverflowError) as error:
            raise BadFile(path, f"field {name!r} is no table of numbers ({error})") from error
        shape = array.shape
        length = shape[0] if axes[0] == "T" and length is None and shape else length
        expected = tuple(length if axis == "T" else axis for axis in axes)
        if shape != expected or 0 in shape:
            raise BadFile(path, f"field {name!r} has shape {shape}, expected {expected if length else axes}")
        arrays[name] = array
    return arrays


def _projected(path: Path, metres: Floats, intrinsics: Floats | None) -> Floats:
    """Pixels (T, 2, 21, 2) of points in space. Raises BadFile for one behind the camera, or without a camera."""
    if intrinsics is None:
        raise BadFile(path, "has 'metres' without 'points', and no 'intrinsics' to project them with")
    if not np.isfinite(intrinsics).all() or not (intrinsics[2] == (0, 0, 1)).all() or (np.diag(intrinsics) <= 0).any():
        raise BadFile(path, f"field 'intrinsics' is {intrinsics.tolist()}, expected focal lengths and a centre [px]")
    behind = np.argwhere(metres[..., 2] <= 0)
    if len(behind):
        frame, side, point = behind[0]
        at = f"frame {frame}, {SIDES[side]}, point {point}"
        raise BadFile(path, f"field 'metres': {at} is not in front of the camera")
    seen = metres @ intrinsics.T
    return np.asarray(seen[..., :2] / seen[..., 2:])


def _hand(
    path: Path,
    frame: int,
    number: int,
    points: Floats,
    metres: Floats | None,
    score: Floats | None,
    placed: bool,
) -> HandDetection | None:
    """A hand of one frame and side, None where all its numbers are missing. Raises BadFile."""
    at = f"frame {frame}, {SIDES[number]}"
    pixels, sure = points[frame, number], 1.0 if score is None else float(score[frame, number])
    space = None if metres is None else metres[frame, number]
    if np.isnan(pixels).all() and (space is None or np.isnan(space).all()):
        return None
    if space is not None and np.isnan(space).all():
        space = None
    try:
        return HandDetection(SIDES[number], sure, pixels, space, placed=placed)
    except VAPSimError as error:
        raise BadFile(path, f"{at}: {error}") from error
