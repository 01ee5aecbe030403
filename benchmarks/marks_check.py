"""Points marked by hand in real recordings, and how far predicted points lie from them.

    python benchmarks/marks_check.py --pictures out/marks

checks every file in `marks`, tells how many points it marks and how well they repeat, and draws them on the recordings
where these lie at hand. `marks/droid_joints.json` marks points of a robot's skeleton, `marks/hand_keypoints.json` the
joints of hands. Benchmarks read the files with `read_marks` and compare with `distances`. A point was looked at twice;
its place is the mean of both looks, `apart` their distance, `spread` the marker's own estimate of the uncertainty.
Pixels are (x, y), with the centre of the top-left pixel at (0, 0), in the picture's own size.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from vap_sim.data.joint_log import real_data_folder
from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported
from vap_sim.viewer.replay import write_picture

Points = Mapping[str, tuple[float, float]]
FOLDER = Path(__file__).parent / "marks"
ROUNDING = 0.02  # [px] figures in a file have two decimals


class Key(NamedTuple):
    """One marked body in one picture: `view` is a file in the recording's folder, or None where it is itself a file."""

    recording: str
    view: str | None
    frame: int
    subject: str


@dataclass(frozen=True)
class Mark:
    """One marked point [px]; `box` (left, top, right, bottom) holds the whole body where it was marked."""

    key: Key
    point: str
    x: float
    y: float
    spread: float
    apart: float
    box: tuple[float, float, float, float] | None


@dataclass(frozen=True)
class MarkSet:
    """A file of marks: `about` it, sizes (W, H) of the pictures by recording, who was seen by (recording, frame)."""

    about: Mapping[str, Any]
    sizes: Mapping[str, tuple[int, int]]
    marks: tuple[Mark, ...]
    visible: Mapping[tuple[str, int], Mapping[str, bool | None]]

    @property
    def bodies(self) -> tuple[Key, ...]:
        """Every marked body once, in the order of the file."""
        return tuple(dict.fromkeys(mark.key for mark in self.marks))


@dataclass(frozen=True, eq=False)
class Distances:
    """How far predictions lie from marks: `pixels` (N,) for the marks in `compared`; `missing` had no prediction."""

    compared: tuple[Mark, ...]
    missing: tuple[Mark, ...]
    pixels: NDArray[np.float64]

    def quantile(self, share: float) -> float:
        """The distance [px] that this share of the compared points keeps to. Raises InvalidInput where none is."""
        return _quantile(self.pixels, share)

    def relative(self) -> NDArray[np.float64]:
        """Distances over the longer side of the marked body's box (N,). Raises InvalidInput where a box is missing."""
        boxes = [mark.box for mark in self.compared if mark.box is not None]
        if len(boxes) < len(self.compared):
            raise InvalidInput("marks", "bodies without a box", "a box around every marked body")
        return self.pixels / np.array([max(box[2] - box[0], box[3] - box[1]) for box in boxes], dtype=np.float64)


def read_marks(path: Path, points: Collection[str] | None = None) -> MarkSet:
    """Read and check a file of marks; `points` are the names that may occur, or None for any.

    Raises BadFile with file and field where something is missing, doubled, not finite or outside its picture, where
    the repeatability that the file states is not that of its points, and UnknownName for a point not in `points`.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise BadFile(path, f"cannot be read as JSON: {problem}") from problem
    try:
        sizes = {name: (int(width), int(height)) for name, (width, height) in content["sizes"].items()}
        marks = tuple(mark for entry in content["subjects"] for mark in _marks_of(entry))
        visible = {
            (str(entry["recording"]), int(entry["frame"])): {side: entry[side] for side in ("left", "right")}
            for entry in content.get("visible", ())
        }
        about = dict(content["about"])
        stated = {share: float(about["repeatability"][name]) for share, name in ((0.5, "median"), (0.9, "p90"))}
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise BadFile(path, f"not a file of marks: {type(problem).__name__}: {problem}") from problem
    for mark in marks:
        _check(path, mark, sizes)
        if points is not None and mark.point not in points:
            raise UnknownName("marked point", mark.point, points)
    if len({(mark.key, mark.point) for mark in marks}) < len(marks) or not marks:
        raise BadFile(path, "subjects: a point is marked twice in one picture, or none is marked at all")
    for share, figure in stated.items():
        measured = _quantile(np.array([mark.apart for mark in marks]), share)
        if not abs(measured - figure) <= ROUNDING:
            raise BadFile(path, f"about.repeatability: {figure} px stated, but its points give {measured:.2f} px")
    return MarkSet(about, sizes, marks, visible)


def distances(marks: Sequence[Mark], predicted: Mapping[Key, Points]) -> Distances:
    """Distances [px] of `predicted` points to `marks`. A body or point that is not predicted counts as missing.

    Raises InvalidInput where a predicted point is not finite: a failure must be left out, never hidden in a number.
    """
    found = [mark for mark in marks if mark.point in predicted.get(mark.key, {})]
    there = np.array([predicted[mark.key][mark.point] for mark in found], dtype=np.float64).reshape(-1, 2)
    if not np.isfinite(there).all():
        worst = found[int(np.flatnonzero(~np.isfinite(there).all(1))[0])]
        raise InvalidInput("predicted", f"not finite for {worst.point} of {worst.key}", "finite pixels, or no entry")
    here = np.array([(mark.x, mark.y) for mark in found], dtype=np.float64).reshape(-1, 2)
    return Distances(tuple(found), tuple(mark for mark in marks if mark not in found), np.hypot(*(there - here).T))


def draw_marks(
    picture: NDArray[np.uint8], marks: Sequence[Mark], predicted: Points | None = None, *, enlarge: int = 4
) -> NDArray[np.uint8]:
    """The picture (H, W, 3) `enlarge` times as large, a red cross on every mark, a yellow line to its prediction."""
    drawn = picture.repeat(enlarge, 0).repeat(enlarge, 1)
    for mark in marks:
        if predicted is not None and mark.point in predicted:
            steps = np.linspace((mark.x, mark.y), predicted[mark.point], 4 * max(drawn.shape[:2]))
            _paint(drawn, steps, enlarge, (255, 220, 0))
        reach = np.linspace(-3, 3, 16 * enlarge)
        across = np.concatenate([np.stack([reach, 0 * reach], 1), np.stack([0 * reach, reach], 1)])
        _paint(drawn, across + np.array((mark.x, mark.y)), enlarge, (255, 0, 0))
    return drawn


def _paint(drawn: NDArray[np.uint8], points: NDArray[np.float64], enlarge: int, colour: tuple[int, int, int]) -> None:
    """Colour the pixels of an enlarged picture under points (N, 2) given in the small one's pixels."""
    x, y = np.floor((points + 0.5) * enlarge).astype(int).T
    inside = (x >= 0) & (x < drawn.shape[1]) & (y >= 0) & (y < drawn.shape[0])
    drawn[y[inside], x[inside]] = colour


def _marks_of(entry: Mapping[str, Any]) -> list[Mark]:
    view = entry["view"]
    key = Key(str(entry["recording"]), None if view is None else str(view), int(entry["frame"]), str(entry["subject"]))
    box = None
    if "box" in entry:
        left, top, right, bottom = (float(value) for value in entry["box"])
        box = (left, top, right, bottom)
    marks = []
    for name, values in entry["points"].items():
        x, y, spread, apart = (float(value) for value in values)
        marks.append(Mark(key, name, x, y, spread, apart, box))
    return marks


def _check(path: Path, mark: Mark, sizes: Mapping[str, tuple[int, int]]) -> None:
    where = f"subjects: {mark.point} of {mark.key.subject} in {mark.key.recording}, frame {mark.key.frame}"
    if mark.key.recording not in sizes:
        raise BadFile(path, f"{where}: sizes has no such recording")
    width, height = sizes[mark.key.recording]
    if not (-0.5 <= mark.x <= width - 0.5 and -0.5 <= mark.y <= height - 0.5):
        raise BadFile(path, f"{where}: ({mark.x}, {mark.y}) lies outside {width} x {height} pixels")
    if mark.key.frame < 0 or not (0 < mark.spread < np.inf and 0 <= mark.apart < np.inf):
        raise BadFile(path, f"{where}: frame, spread or apart is negative, zero or not finite")
    if mark.box is not None:
        left, top, right, bottom = mark.box
        if not (0 <= left <= mark.x <= right < width and 0 <= top <= mark.y <= bottom < height and left < right):
            raise BadFile(path, f"{where}: the box {mark.box} does not hold it or leaves the picture")


def _quantile(values: NDArray[np.float64], share: float) -> float:
    if not values.size:
        raise InvalidInput("points", "none with a distance", "at least one")
    return float(np.quantile(values, share))


def read_picture(folder: Path, key: Key) -> NDArray[np.uint8]:
    """The marked picture (H, W, 3) among the real recordings. Raises BadFile where it or its frame is missing."""
    path = folder / ("hands" if key.view is None else "droid") / key.recording / (key.view or "")
    try:
        with av.open(str(path)) as file:
            for number, frame in enumerate(file.decode(video=0)):
                if number == key.frame:
                    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
    except (OSError, av.error.FFmpegError) as problem:
        raise BadFile(path, f"cannot be decoded: {problem}") from problem
    raise BadFile(path, f"has no frame {key.frame}")


def main() -> None:
    options = argparse.ArgumentParser(description="Check the files of marks, and draw them.")
    options.add_argument("files", nargs="*", type=Path, help="files of marks instead of those in benchmarks/marks")
    options.add_argument("--pictures", type=Path, help="folder for one picture a marked body")
    chosen = options.parse_args()
    for file in chosen.files or sorted(FOLDER.glob("*.json")):
        marked = read_marks(file)
        repeat = marked.about["repeatability"]
        print(
            f"{file.name}: {len(marked.marks)} points on {len(marked.bodies)} bodies in {len(marked.sizes)} recordings"
        )
        print(f"  two looks lie {repeat['median']} px apart in the median, {repeat['p90']} px at the 90th percentile")
        if chosen.pictures is not None:
            _draw_all(marked, chosen.pictures)


def _draw_all(marked: MarkSet, target: Path) -> None:
    folder = real_data_folder()
    if folder is None:
        raise Unsupported("the marked recordings are not on this machine; see VAP_SIM_REAL_DATA")
    target.mkdir(parents=True, exist_ok=True)
    for key in marked.bodies:
        own = [mark for mark in marked.marks if mark.key == key]
        enlarge = 4 if marked.sizes[key.recording][0] <= 640 else 1
        parts = (Path(key.recording).stem, Path(key.view or "").stem, str(key.frame), key.subject)
        name = "_".join(part.replace(" ", "_") for part in parts if part)
        write_picture(target / f"{name}.png", draw_marks(read_picture(folder, key), own, enlarge=enlarge))


if __name__ == "__main__":
    main()
