"""What a detector found, written down look by look, so that hours of looking survive being interrupted.

A log is a file of JSON lines, the first of which says of which video and detector it is. Lines are only ever added; one
that was torn by an interruption is dropped when the log is opened again.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vap_sim.errors import BadFile, VAPSimError
from vap_sim.extraction.hand_detection import Box, HandDetection, HandDetector, Picture

_FORMAT = 1
_Key = tuple[int, tuple[float, ...] | None]


@dataclass(frozen=True, eq=False)
class LoggedDetector:
    """A `HandDetector` that answers from its log what it has been asked before, and asks `detector` for the rest."""

    detector: HandDetector
    path: Path
    known: dict[_Key, tuple[HandDetection, ...]] = field(repr=False)

    @property
    def name(self) -> str:
        """The detector's own."""
        return self.detector.name

    def detect(self, frame: int, picture: Picture, near: Box | None = None) -> tuple[HandDetection, ...]:
        """The hands in a picture; see `HandDetector`. Raises OSError where the log cannot be written."""
        key = frame, None if near is None else (near.left, near.top, near.right, near.bottom)
        if key not in self.known:
            found = self.detector.detect(frame, picture, near)
            line = {"frame": frame, "near": key[1], "hands": [_plain(hand) for hand in found]}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
            self.known[key] = found
        return self.known[key]


def open_log(path: Path, detector: HandDetector, video: str) -> LoggedDetector:
    """A detector with the log at `path`, which goes on where it is of this video and detector and begins anew
    otherwise.

    video: what tells the video from others. Raises BadFile for a log with a damaged line before its last, OSError.
    """
    head = {"format": _FORMAT, "video": video, "detector": detector.name}
    whole, known = _read(path, head) if path.is_file() else ("", {})
    if not whole:
        whole = json.dumps(head) + "\n"
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(whole, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return LoggedDetector(detector, path, known)


def _read(path: Path, head: dict[str, Any]) -> tuple[str, dict[_Key, tuple[HandDetection, ...]]]:
    """The log's whole lines and what they say; nothing where it is of something else."""
    text = path.read_text(encoding="utf-8", errors="replace")
    lines = text.splitlines(keepends=True)
    if lines and not lines[-1].endswith("\n"):
        del lines[-1]
    known: dict[_Key, tuple[HandDetection, ...]] = {}
    for number, line in enumerate(lines):
        try:
            values = json.loads(line)
            if number == 0:
                if values != head:
                    return "", {}
                continue
            near = None if values["near"] is None else tuple(float(edge) for edge in values["near"])
            known[int(values["frame"]), near] = tuple(_hand(plain) for plain in values["hands"])
        except (KeyError, TypeError, ValueError, RecursionError, VAPSimError) as error:
            raise BadFile(path, f"line {number + 1} is damaged ({error}); delete the file to look again") from error
    return "".join(lines), known


def _plain(hand: HandDetection) -> dict[str, Any]:
    metres = None if hand.metres is None else hand.metres.tolist()
    values = {"points": hand.points.tolist(), "metres": metres, "placed": hand.placed, "agreed": list(hand.agreed)}
    return {"side": hand.side, "score": hand.score, **values}


def _hand(plain: dict[str, Any]) -> HandDetection:
    metres = None if plain["metres"] is None else np.asarray(plain["metres"], np.float64)
    found, views = (int(count) for count in plain["agreed"])
    points = np.asarray(plain["points"], np.float64)
    return HandDetection(plain["side"], float(plain["score"]), points, metres, bool(plain["placed"]), (found, views))
