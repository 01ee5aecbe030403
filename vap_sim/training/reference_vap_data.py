"""Pairs from VAP-Data, the data set of Video-As-Prompt, and from any table in its layout.

The data set is BianYx/VAP-Data on the hub (arXiv 2510.20888). Its table `vap_data.csv` has a row for each video:

| column | meaning |
| --- | --- |
| video_paths | the video, relative to the data set's folder |
| kind | the semantic condition that it shows; videos of one kind demonstrate each other |
| split | `train` and others |
| tar_video_caption | its caption |
| ref_video_paths | a JSON list of videos that may demonstrate it |
| reference_alignment_score | 0 to 100: how well the video shows its kind |
| _valid | optional; rows in which it says false or 0 are left out |

Following the paper's training, rows whose score is not above 10 are left out, as targets and as references; a target
all of whose references fell away is given another video of its kind. Rows are read one by one, videos not at all.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.training.reference_pairs import Film, Pair

COLUMNS = (
    "video_paths", "kind", "split", "tar_video_caption", "ref_video_paths", "reference_alignment_score",
)  # fmt: skip
BENCHMARK_COLUMNS = ("video_paths", "ref_video_path", "tar_video_caption", "ref_video_caption")
LEAST_SCORE = 10.0
MOST_REFERENCES = 10
_NO = ("", "0", "false", "no")


@dataclass(frozen=True)
class _Row:
    """A row that counts. references: as listed, whether they count or not."""

    film: Film
    references: tuple[str, ...]


def vap_data_pairs(
    table: Path,
    folder: Path | None = None,
    *,
    split: str = "train",
    least_score: float = LEAST_SCORE,
    references: int = MOST_REFERENCES,
    seed: int = 0,
) -> tuple[Pair, ...]:
    """The pairs of a table: every target with up to so many of its references, one pair each.

    folder: of the videos, the table's own if not given; least_score: rows must be above it; seed: decides which video
    of the kind takes the place of references that all fell away. A target that is the only one of its kind is left out.

    Raises BadFile that names the table's line for a missing column or a field that cannot be used, and the first video
    that is not there; UnknownName for a split without rows; InvalidInput where no pair is left.
    """
    place = Path(table).parent if folder is None else Path(folder)
    rows, splits = _rows(Path(table), place, split, least_score)
    if split not in splits:
        raise UnknownName(f"split of {table}", split, splits)
    by_kind: dict[str, list[str]] = {}
    for name, row in rows.items():
        by_kind.setdefault(row.film.label, []).append(name)
    pairs: list[Pair] = []
    for number, (name, row) in enumerate(rows.items()):
        listed = [one for one in dict.fromkeys(row.references) if one in rows and one != name]
        if not listed:
            others = [one for one in by_kind[row.film.label] if one != name]
            listed = [others[int(np.random.default_rng([seed, 9, number]).integers(len(others)))]] if others else []
        pairs += [Pair(row.film, rows[one].film) for one in listed[:references]]
    if not pairs:
        raise InvalidInput(f"{table}, split {split!r}", f"{len(rows)} rows without a pair", "two or more of one kind")
    _check_there(pairs)
    return tuple(pairs)


def vap_benchmark_pairs(table: Path, folder: Path | None = None) -> tuple[Pair, ...]:
    """The pairs of the data set's `benchmark.csv`, in its order: a target and its one reference a row. Raises BadFile.

    Neither has a kind there, so every pair is given one of its own, its line.
    """
    place = Path(table).parent if folder is None else Path(folder)
    pairs = []
    for line, row in _read(Path(table), BENCHMARK_COLUMNS):
        names = (row["video_paths"], row["ref_video_path"])
        if not all(names):
            raise BadFile(table, f"line {line}: 'video_paths' or 'ref_video_path' is empty")
        captions = (row["tar_video_caption"], row["ref_video_caption"])
        target, reference = (
            Film(place / name, f"line {line}", name, caption) for name, caption in zip(names, captions, strict=True)
        )
        pairs.append(Pair(target, reference))
    if not pairs:
        raise BadFile(table, "has no row below its header")
    _check_there(pairs)
    return tuple(pairs)


def _rows(table: Path, folder: Path, split: str, least: float) -> tuple[dict[str, _Row], list[str]]:
    """The rows of a split that count, by their videos, and the names of all splits."""
    rows: dict[str, _Row] = {}
    splits: dict[str, None] = {}
    for line, row in _read(table, COLUMNS):
        splits[row["split"]] = None
        if row["split"] != split or row.get("_valid", "true").strip().lower() in _NO:
            continue
        name = row["video_paths"]
        if not name or not row["kind"]:
            raise BadFile(table, f"line {line}: 'video_paths' or 'kind' is empty")
        if _score(table, line, row["reference_alignment_score"]) > least:
            film = Film(folder / name, row["kind"], name, row["tar_video_caption"])
            rows[name] = _Row(film, _list(table, line, row["ref_video_paths"]))
    return rows, list(splits)


def _read(table: Path, columns: Sequence[str]) -> Iterator[tuple[int, Mapping[str, str]]]:
    """Line number and fields of each row below the header."""
    try:
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            found = reader.fieldnames or ()
            missing = [name for name in columns if name not in found]
            if missing:
                raise BadFile(
                    table, f"has no column {', '.join(map(repr, missing))}; found: {', '.join(found) or 'none'}"
                )
            for row in reader:
                if any(row[name] is None for name in columns):
                    raise BadFile(table, f"line {reader.line_num}: has fewer fields than the header")
                yield reader.line_num, row
    except FileNotFoundError as error:
        raise BadFile(table, "no such file") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadFile(table, f"is not a table in UTF-8 ({error})") from error


def _score(table: Path, line: int, text: str) -> float:
    try:
        score = float(text)
    except ValueError:
        score = math.nan
    if not 0 <= score <= 100:
        raise BadFile(table, f"line {line}: 'reference_alignment_score' is {text!r}, expected a number from 0 to 100")
    return score


def _list(table: Path, line: int, text: str) -> tuple[str, ...]:
    try:
        listed = json.loads(text or "[]")
    except ValueError:
        listed = None
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise BadFile(table, f"line {line}: 'ref_video_paths' is {text[:60]!r}, expected a JSON list of file names")
    return tuple(listed)


def _check_there(pairs: Sequence[Pair]) -> None:
    for path in dict.fromkeys(film.path for pair in pairs for film in (pair.target, pair.reference)):
        if not path.is_file():
            raise BadFile(path, "no such video, though the table lists it")
