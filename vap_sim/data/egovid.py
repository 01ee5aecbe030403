"""EgoVid-5M: clips of egocentric video that tables name, cut out or still in the Ego4D videos that they come from.

A folder holds `egovid-*.csv` and, anywhere below it, videos: `ID_START_END.mp4` for a clip, or `ID.mp4` for the video
that frames START to before END of are the clip. Where a clip has poses of the head's camera, in `poses/ID_START_END`,
`egovid_poses.head_path` reads them. There is no robot: joints and actions stay None. Source: Wang et al., "EgoVid-5M"
(arXiv 2411.08380), and the README of its repository.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vap_sim.data.egovid_poses import POSES, head_path
from vap_sim.data.episode import Episode
from vap_sim.data.folders import enclosed, folders
from vap_sim.data.footage import VideoFootage
from vap_sim.data.listed import ListedDataset
from vap_sim.data.logged import Log
from vap_sim.data.video_file import video_frame_rate
from vap_sim.errors import BadFile

_TABLE = re.compile(r"egovid-\w+\.csv")
_CLIP = re.compile(r"(?P<video>.+)_(?P<start>\d{1,9})_(?P<end>\d{1,9})")
_DEPTH = 4
_LARGEST_ROW = 2**22
"""Bytes of one row; those with measurements of motion have some ten thousand."""
_SMALL = "540ss"
"""In the name of the folder of Ego4D's videos at 540 rows of pixels, which are taken before larger ones."""


@dataclass(frozen=True)
class Clip:
    """Where a clip is: its table, the byte there at which its row begins, and its video or the one it is a part of."""

    table: Path
    row: int
    video: Path


def recognises(path: Path) -> bool:
    """Whether the tables of EgoVid lie in `path`."""
    return path.is_dir() and any(_TABLE.fullmatch(file.name) for file in path.glob("egovid-*.csv"))


def open_dataset(path: Path) -> ListedDataset[Clip]:
    """The clips of the tables in `path` whose videos are there. Raises BadFile where a table cannot be read."""
    tables = sorted(file for file in path.glob("egovid-*.csv") if _TABLE.fullmatch(file.name))
    if not tables:
        raise BadFile(path, "holds no egovid-*.csv")
    videos = _videos(path)
    places: dict[str, Clip] = {}
    absent = 0
    for table in tables:
        for row, values in _rows(enclosed(path, table)):
            name = _name(values)
            found = _CLIP.fullmatch(name)
            video = videos.get(name) or (videos.get(found["video"]) if found else None)
            absent += video is None
            if video is not None:
                places.setdefault(name, Clip(table, row, video))
    notes = (f"{absent} clips of the tables have no video here",) if absent else ()
    return ListedDataset("egovid", path, places, _episode, notes)


def _episode(root: Path, clip: Clip, name: str) -> Episode:
    log = Log(clip.table, name)
    values = _row(clip, log)
    footage, notes = _footage(enclosed(root, clip.video), name, values, log)
    rate = _number(values, "fps", log)
    if rate is None:
        rate = video_frame_rate(clip.video)
    if (root / POSES / name).is_dir():
        path = head_path(root, name, footage.size)
        told = f"poses of the head's camera are known for the first {path.length} frames"
        notes = (*notes, told + ("" if path.cost is None else f"; the cost of their fit is {path.cost:.3g}"))
    return Episode(
        name=name, source=clip.table, views={"head": footage}, length=footage.length, frame_rate=rate,
        instruction=values.get("name", "").strip(), notes=notes,
    )  # fmt: skip


def _footage(video: Path, name: str, values: Mapping[str, str], log: Log) -> tuple[VideoFootage, tuple[str, ...]]:
    """The clip's frames, of its own video or of the longer one. Raises BadFile where the counts do not fit."""
    found, stated = _CLIP.fullmatch(name), _number(values, "frame_num", log)
    if found is None:
        log.refuse("video_id", f"{name!r} does not end in _START_END")
    start, end = int(found["start"]), int(found["end"])
    # Whether END itself belongs to the clip is for the stated number to say.
    spans = {end - start, end - start + 1}
    if stated is not None and (stated != int(stated) or not 0 < stated <= end - start + 1):
        log.refuse("frame_num", f"is {stated:g}, expected at most {end - start + 1} for frames {start} to {end}")
    if video.stem == name:
        footage = VideoFootage(video)
        if footage.length not in spans | {stated}:
            log.refuse("frame_num", f"{video.name} has {footage.length} frames, expected {stated or end - start:g}")
        return footage, ()
    last = end + 1 if stated == end - start + 1 else end
    footage = VideoFootage(video, start, last)
    if VideoFootage(video).length < last or last <= start:
        log.refuse("video_id", f"{video.name} has {VideoFootage(video).length} frames, expected {start} to {last}")
    return footage, (f"frames {start} to {last - 1} of {video.name}",)


def _videos(path: Path) -> dict[str, Path]:
    """Videos by their names without `.mp4`; small ones before large ones of the same name."""
    found: dict[str, Path] = {}
    for folder, inside in folders(path, _DEPTH):
        for name in sorted(inside):
            stem = name.removesuffix(".mp4")
            if stem != name and (stem not in found or _SMALL in folder.name):
                found[stem] = folder / name
    return found


def _row(clip: Clip, log: Log) -> dict[str, str]:
    row = next((values for begin, values in _rows(clip.table, clip.row) if begin == clip.row), None)
    if row is None or _name(row) != log.episode:
        log.refuse("video_id", "its row is not where it was: the table has changed")
    return row


def _rows(table: Path, start: int | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """The byte at which each row begins, and its values by column; from the row that begins at byte `start` on.

    Raises BadFile for a table without the column `video_id`, and for a row that is no text, too long or too short.
    """
    try:
        with table.open("rb") as file:
            head = _columns(table, _record(table, file, 0) or b"", 0)
            if "video_id" not in head:
                raise BadFile(table, f"column 'video_id' is missing; columns: {', '.join(head)[:200]}")
            place = file.tell() if start is None else start
            file.seek(place)
            while record := _record(table, file, place):
                values = _columns(table, record, place)
                if values and len(values) != len(head):
                    raise BadFile(table, f"the row at byte {place} has {len(values)} columns, expected {len(head)}")
                if values:
                    yield place, dict(zip(head, values, strict=True))
                place += len(record)
    except OSError as error:
        raise BadFile(table, f"cannot be read ({error.strerror})") from error


def _record(table: Path, file: io.BufferedReader, place: int) -> bytes | None:
    """The bytes of one row, whose quoted texts may run over several lines; None at the end."""
    record = b""
    while True:
        line = file.readline(_LARGEST_ROW)
        record += line
        if not line and not record:
            return None
        if len(record) >= _LARGEST_ROW or (not line and record.count(b'"') % 2):
            raise BadFile(table, f"the row at byte {place} does not end: a quoted text in it is not closed")
        if record.count(b'"') % 2 == 0:
            return record


def _columns(table: Path, record: bytes, place: int) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(record.decode(), newline="")), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadFile(table, f"the row at byte {place} cannot be read ({error})") from error


def _name(values: Mapping[str, str]) -> str:
    return values["video_id"].strip().removesuffix(".mp4")


def _number(values: Mapping[str, str], column: str, log: Log) -> float | None:
    """A number of the row; None where the column is not there or empty. Raises BadFile."""
    text = values.get(column, "").strip()
    try:
        return float(text) if text else None
    except ValueError:
        log.refuse(column, f"is {text!r}, expected a number")
