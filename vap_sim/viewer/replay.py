"""Pictures of a replay: the recording, the recording under the drawn skeleton, and the dream, with each step's figures.

Panels have the shape of the recording, whatever shape the world dreams in.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.metrics.replay import Replay, ReplayFigures

Picture = NDArray[np.uint8]
PANELS = ("recorded", "skeleton", "dream")
_HIGH = 288
"""Pixels that a panel is high."""
_HEAD, _FOOT = 26, 26
_INK, _DIM, _PAPER = (235, 235, 235), (150, 190, 255), 24


def replay_pictures(
    replayed: Replay, figures: ReplayFigures, size: tuple[int, int], title: str = ""
) -> Iterator[Picture]:
    """One picture (H, W, 3) uint8 a frame, H and W even; size: (width, height) of the recording's own pictures."""
    high = _HIGH
    wide = max(2, 2 * round(size[0] * high / size[1] / 2))
    steps: list[Mapping[str, float | None]] = [{}, *figures.steps()]
    for number, step in enumerate(steps):
        shown = replayed.recorded[number].numpy(), replayed.skeletons[number].numpy(), replayed.dreamt[number].numpy()
        panels = (shown[0], overlay(shown[0], shown[1]), shown[2])
        row = np.hstack([cv2.resize(panel, (wide, high), interpolation=cv2.INTER_CUBIC) for panel in panels])
        head, foot = (np.full((lines, row.shape[1], 3), _PAPER, np.uint8) for lines in (_HEAD, _FOOT))
        for column, name in enumerate(PANELS):
            _write(head, 8 + column * wide, f"{name}  {title}" if not column else name, _DIM)
        _write(foot, 8, _told(number, step, bool(replayed.kept[number])), _INK)
        yield np.vstack([head, row, foot])


def replay_sheet(replayed: Replay, size: tuple[int, int], steps: tuple[int, ...]) -> Picture:
    """The panels of some steps, one step a column and one panel a row: (3 H, n W, 3) uint8. Steps beyond the end are
    left out."""
    wide = max(2, round(size[0] * _HIGH / size[1]))
    columns = []
    for step in (step for step in steps if step < len(replayed.recorded)):
        frame, drawn, dreamt = (
            values[step].numpy() for values in (replayed.recorded, replayed.skeletons, replayed.dreamt)
        )
        panels = (frame, overlay(frame, drawn), dreamt)
        columns.append(np.vstack([cv2.resize(panel, (wide, _HIGH), interpolation=cv2.INTER_CUBIC) for panel in panels]))
    return np.hstack(columns)


def overlay(frame: Picture, drawn: Picture) -> Picture:
    """A drawn prompt over a dimmed picture, both (H, W, 3) uint8."""
    strength = drawn.max(-1, keepdims=True) / 255.0
    mixed = frame * (1 - strength) * 0.75 + drawn
    return np.asarray(mixed.round().clip(0, 255), np.uint8)


def _told(number: int, step: Mapping[str, float | None], kept: bool) -> str:
    """One line on a step."""
    if number == 0:
        return "step 0: given"
    if not kept:
        return f"step {number}: not judged, its alignment was rejected"
    words = [f"step {number}", f"PSNR {_number(step['psnr'], ' dB')}"]
    words.append(f"moving {_number(step['moving'], ' dB')} (copy {_number(step['copy'], ' dB')})")
    if "agreement" in step:
        words.append(f"agreement {_number(step['agreement'], '', 2)}")
        words.append(f"(recording {_number(step['agreement_recorded'], '', 2)})")
    return "   ".join(words)


def _number(value: float | None, unit: str, digits: int = 1) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}{unit}"


def _write(strip: Picture, x: int, text: str, color: tuple[int, int, int]) -> None:
    cv2.putText(strip, text, (x, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, color, 1, cv2.LINE_AA)


def write_picture(path: Path, picture: Picture) -> None:
    """Write a picture (H, W, 3) uint8 as PNG, whole or not at all. Raises OSError."""
    written, content = cv2.imencode(".png", picture[..., ::-1])
    if not written:
        raise OSError(f"{path}: cannot be written as PNG")
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(content.tobytes())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
