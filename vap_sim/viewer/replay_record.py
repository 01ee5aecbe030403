"""The figures of replays as files: a JSON record of a folder, which a later call goes on from, and the same as CSV."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from vap_sim.viewer.replay_curves import Track
from vap_sim.viewer.replay_lanes import RECORDED, Lane, Scene

RECORD, TABLE = "replay.json", "replay.csv"
FIGURES: Mapping[str, str] = {
    "psnr": "of the whole picture against the recording [dB]",
    "moving": "PSNR on the pixels that have changed since the first picture [dB]",
    "copy": "the same of the first picture repeated [dB]",
    "gain": "the one less the other [dB]",
    "agreement": "overlap of the robot in the dream with its prompt, 0 to 1",
    "agreement_recorded": "the same of the recording",
    "agreement_copy": "the same of the first picture repeated",
    "doubt": "how far an object may lie from where it is shown, in its own widths",
    "drift": "how often the area of an object was doubled or halved since the start",
    "risk": "probability that an object lies more than its width from the truth",
    "apart": "mean difference to the dream of what was done [grey levels]",
}
"""What is told of steps, and what it means."""
Row = dict[str, Any]


@dataclass(frozen=True)
class ReplayRecord:
    """What was replayed. settings: what the call was told, plain values; rows: one a dream; finished: the recordings
    that were dealt with, each with the state of its file; refused: why others could not be; left_out: cameras."""

    settings: Mapping[str, Any]
    rows: tuple[Row, ...] = ()
    finished: Mapping[str, Any] = field(default_factory=dict)
    refused: tuple[Row, ...] = ()
    left_out: tuple[Row, ...] = ()

    def with_episode(self, name: str, stamp: Any, rows: Sequence[Row], left_out: Mapping[str, str]) -> ReplayRecord:
        """With a recording more, which replaces what was known of it."""
        old = self.without(name)
        views = tuple({"episode": name, "view": view, "reason": reason} for view, reason in left_out.items())
        return replace(
            old,
            rows=(*old.rows, *rows),
            finished={**old.finished, name: stamp},
            left_out=(*old.left_out, *views),
        )

    def with_refusal(self, name: str, reason: str) -> ReplayRecord:
        """With a recording that cannot be replayed."""
        old = self.without(name)
        return replace(old, refused=(*old.refused, {"episode": name, "reason": reason}))

    def without(self, name: str) -> ReplayRecord:
        """Without what is known of one recording."""

        def others(rows: Sequence[Row]) -> tuple[Row, ...]:
            return tuple(row for row in rows if row["episode"] != name)

        finished = {known: stamp for known, stamp in self.finished.items() if known != name}
        return replace(
            self,
            rows=others(self.rows),
            finished=finished,
            refused=others(self.refused),
            left_out=others(self.left_out),
        )

    def only(self, names: Sequence[str]) -> ReplayRecord:
        """With no other recordings than these."""
        kept = self
        for name in [*self.finished, *(row["episode"] for row in self.refused)]:
            kept = kept if name in names else kept.without(name)
        return kept

    def has(self, name: str, stamp: Any, folder: Path) -> bool:
        """Whether a recording, as its file is now, is done and all that was written of it is still there."""
        files = [file for row in self.rows if row["episode"] == name for file in row["files"].values()]
        return name in self.finished and self.finished[name] == stamp and all((folder / f).is_file() for f in files)

    def means(self) -> dict[str, dict[str, float | None]]:
        """By dream: the mean over replays of each replay's mean over its steps; None where no replay has one."""
        out: dict[str, dict[str, float | None]] = {}
        for lane in dict.fromkeys(row["dream"] for row in self.rows):
            rows = [row["mean"] for row in self.rows if row["dream"] == lane]
            names = dict.fromkeys(name for row in rows for name in row)
            found = {name: [row[name] for row in rows if row.get(name) is not None] for name in names}
            out[lane] = {name: float(np.mean(values)) if values else None for name, values in found.items()}
        return out

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return {
            **self.settings,
            "figures": dict(FIGURES),
            "mean": self.means(),
            "replays": list(self.rows),
            "refused": list(self.refused),
            "left_out": list(self.left_out),
            "finished": dict(self.finished),
        }

    def save(self, folder: Path) -> None:
        """Write JSON and CSV, each whole or not at all. Raises OSError."""
        write_text(folder / RECORD, json.dumps(self.plain(), indent=1, allow_nan=False) + "\n")
        write_text(folder / TABLE, self.table())

    def table(self) -> str:
        """One line a step as CSV; a figure that is undefined or was not asked for is empty."""
        file = io.StringIO()
        heads = ["episode", "view", "dream", "world", "actions", "step", "seconds", *FIGURES]
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(heads)
        for row in self.rows:
            known = [row[head] for head in heads[:5]]
            for number, step in enumerate(row["steps"], start=1):
                values = ["" if step.get(name) is None else f"{step[name]:.6g}" for name in FIGURES]
                writer.writerow([*known, number, f"{number / row['frame_rate']:.6g}", *values])
        return file.getvalue()


def open_record(folder: Path, settings: Mapping[str, Any]) -> ReplayRecord:
    """What was replayed into a folder with these settings; nothing where it was with others, or is not to be read."""
    fresh = ReplayRecord(settings)
    try:
        known = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return fresh
    plain = json.loads(json.dumps(dict(settings)))
    if not isinstance(known, dict) or any(known.get(name) != value for name, value in plain.items()):
        return fresh
    try:
        rows = tuple(row for row in known["replays"] if row["files"] is not None and row["steps"] is not None)
        return ReplayRecord(settings, rows, known["finished"], (), tuple(known["left_out"]))
    except (KeyError, TypeError):
        return fresh


def row_of(scene: Scene, lane: Lane, files: Mapping[str, str]) -> Row:
    """A dream's row. files: what was written of its scene, by format, relative to the record's folder."""
    return {
        "episode": scene.recorded.name,
        "view": scene.view,
        "dream": lane.name,
        "world": lane.stage.name,
        "actions": lane.actions,
        "trained_on": scene.recorded.name in lane.stage.learned,
        "instruction": scene.recorded.instruction,
        "detector": None if lane.stage.detector is None else str(lane.stage.detector[0]),
        "frame_rate": lane.rate,
        "files": dict(files),
        "mean": lane.means(),
        "steps": lane.steps(),
    }


def track_of(row: Row) -> Track:
    """The curves' figures of a row."""
    return Track(row["dream"], row["actions"] == RECORDED, row["frame_rate"], row["steps"])


def stamp_of(path: Path) -> list[int] | None:
    """By which a file is known to be the same still: its size and when it was written; nothing of a folder."""
    if not path.is_file():
        return None
    told = path.stat()
    return [told.st_size, told.st_mtime_ns]


def file_stem(scene: Scene) -> str:
    """What a scene's files are called, however its recording is: what no file can be called is written in percent."""
    plain = quote(scene.name, safe="").replace("~", "%7E")
    return "%2E" + plain[1:] if plain.startswith(".") else plain


def write_text(path: Path, text: str) -> None:
    """Whole or not at all. Raises OSError."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def lines_of(record: ReplayRecord) -> Iterator[str]:
    """A line a dream, then the means, then what was left out."""
    several = len(record.means()) > 1
    for row in record.rows:
        yield _line(f"{row['episode']} {row['view']}" + (f" {row['dream']}" if several else ""), row["mean"])
    for name, mean in record.means().items():
        yield _line(f"mean {name}" if several else "mean", mean)
    for left in record.left_out:
        yield f"{left['episode']} {left['view']}: left out, {left['reason']}"


def _line(name: str, told: Mapping[str, float | None]) -> str:
    if "apart" in told:
        figures = [f"apart {_text(told['apart'])} grey levels"]
    else:
        figures = [f"moving {_text(told['moving'])} dB", f"copy {_text(told['copy'])} dB"]
        figures += [f"gain {_text(told['gain'])} dB", f"whole {_text(told['psnr'])} dB"]
    if told.get("agreement") is not None:
        most = [f"{words} {_text(told[key])}" for words, key in _MOST.items() if told.get(key) is not None]
        figures.append(f"agreement {_text(told['agreement'])}" + (f" ({', '.join(most)})" if most else ""))
    if told.get("risk") is not None:
        figures.append(f"risk {_text(told['risk'])}")
    return f"{name}: " + ", ".join(figures)


_MOST = {"recording": "agreement_recorded", "copy": "agreement_copy"}


def _text(value: float | None) -> str:
    return "undefined" if value is None or not np.isfinite(value) else f"{value:.2f}"
