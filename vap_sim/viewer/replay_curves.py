"""Curves of a replay: which figures are told under the pictures, and their drawing, over which a playhead moves.

Two plots, three with altered actions: error against the recording, trust that needs no recording, and how far altered
actions led. What is undefined at a step leaves a gap.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Color = tuple[int, int, int]
COLORS: tuple[Color, ...] = (
    (90, 169, 255), (255, 176, 77), (111, 220, 140), (217, 140, 255),
    (255, 123, 123), (200, 210, 74), (98, 213, 216), (201, 165, 138),
)  # fmt: skip
"""Of lanes, in their order; readable on dark grey."""
INK, DIM, PAPER = (235, 235, 235), (150, 160, 175), (24, 24, 24)
_GRID = (52, 52, 56)
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 12, 24, 18
_DASH = 5  # [px]


@dataclass(frozen=True, eq=False)
class Curve:
    """Values (n,) at times (n,) [s], NaN where undefined; dashed: what it is measured by, or a second figure."""

    label: str
    color: Color
    times: NDArray[np.float64]
    values: NDArray[np.float64]
    dashed: bool = False

    def at(self, time: float) -> float:
        """The value of the last step not after `time`; NaN before the first."""
        place = int(np.searchsorted(self.times, time + 1e-6, side="right")) - 1
        return float(self.values[place]) if place >= 0 else math.nan


@dataclass(frozen=True, eq=False)
class Plot:
    """Curves over time. low, high: the range of values that is drawn; digits: of a value in text; remark: why it is
    empty, where it is."""

    title: str
    low: float
    high: float
    digits: int
    curves: tuple[Curve, ...]
    remark: str = ""


@dataclass(frozen=True)
class Track:
    """The figures of one dream, of steps 1 to T, None where undefined. nominal: whether it dreams what was done; rate:
    steps a second."""

    name: str
    nominal: bool
    rate: float
    steps: Sequence[Mapping[str, float | None]]

    def has(self, figure: str) -> bool:
        """Whether the figure was asked for."""
        return any(figure in step for step in self.steps)


def lane_colors(count: int) -> tuple[Color, ...]:
    """One a dream, in order."""
    return tuple(COLORS[number % len(COLORS)] for number in range(count))


def plots_of(tracks: Sequence[Track]) -> tuple[Plot, ...]:
    """The plots of a replay's dreams."""
    colored = list(zip(tracks, lane_colors(len(tracks)), strict=True))
    nominal = [(track, color) for track, color in colored if track.nominal]
    error = [_curve(track, "moving", track.name, color) for track, color in nominal]
    error += [_curve(track, "copy", "first picture", DIM, dashed=True) for track, _ in nominal[:1]]
    trust = [_curve(track, "agreement", track.name, color) for track, color in colored if track.has("agreement")]
    recorded = [track for track in tracks if track.has("agreement_recorded")]
    trust += [_curve(track, "agreement_recorded", "recording", DIM, dashed=True) for track in recorded[:1]]
    trust += [
        _curve(track, "risk", f"risk {track.name}", color, dashed=True) for track, color in colored if track.has("risk")
    ]
    remark = "" if trust else "no detector is known for these pictures"
    plots = [
        _ranged("PSNR on moving pixels [dB]", error, 1, "nothing moved"),
        Plot("agreement; dashed: recording, risk", 0.0, 1.0, 2, tuple(trust), remark),
    ]
    if len(nominal) < len(colored):
        apart = [_curve(track, "apart", track.name, color) for track, color in colored if not track.nominal]
        plots.append(_ranged("apart from the dream of what was done [grey levels]", apart, 1, "", zero=True))
    return tuple(plots)


def _curve(track: Track, figure: str, label: str, color: Color, dashed: bool = False) -> Curve:
    told = [step.get(figure) for step in track.steps]
    values = np.array([math.nan if value is None else value for value in told], np.float64)
    return Curve(label, color, np.arange(1, len(values) + 1) / track.rate, values, dashed)


def _ranged(title: str, curves: Sequence[Curve], digits: int, remark: str, zero: bool = False) -> Plot:
    """A plot whose range holds all values."""
    every = [values[np.isfinite(values)] for values in (curve.values for curve in curves)]
    values = np.concatenate([*every, np.zeros(1 if zero else 0)])
    if not len(values):
        return Plot(title, 0.0, 1.0, digits, tuple(curves), remark)
    low, high = math.floor(float(values.min())), math.ceil(float(values.max()))
    return Plot(title, float(low), float(max(high, low + 1)), digits, tuple(curves))


@dataclass(frozen=True, eq=False)
class DrawnPlot:
    """A plot drawn once at a size, over which `mark` lays the playhead. duration [s]: of the whole film."""

    plot: Plot
    picture: Picture
    duration: float

    def x(self, time: float) -> int:
        """The column of a moment."""
        wide = int(self.picture.shape[1]) - _LEFT - _RIGHT
        return _LEFT + round(wide * min(max(time / self.duration, 0.0), 1.0))

    def mark(self, target: Picture, time: float) -> None:
        """Copy the plot into a picture of its size, with the playhead and the values there."""
        target[:] = self.picture
        height, x = self.picture.shape[0], self.x(time)
        cv2.line(target, (x, _TOP), (x, height - _BOTTOM), INK, 1)
        for curve in self.plot.curves:
            value = curve.at(time)
            if math.isfinite(value):
                cv2.circle(target, (x, _y(self.plot, height, value)), 3, curve.color, -1, cv2.LINE_AA)
        _legend(target, self.plot, time)


def draw_plot(plot: Plot, size: tuple[int, int], duration: float) -> DrawnPlot:
    """A plot of (width, height) pixels for a film of `duration` seconds."""
    width, height = size
    picture = np.full((height, width, 3), PAPER[0], np.uint8)
    drawn = DrawnPlot(plot, picture, max(duration, 1e-6))
    for share in (0.0, 0.5, 1.0):
        value = plot.low + share * (plot.high - plot.low)
        y = _y(plot, height, value)
        cv2.line(picture, (_LEFT, y), (width - _RIGHT, y), _GRID, 1)
        words = f"{value:.{1 if plot.high - plot.low < 4 else 0}f}"
        write(picture, 6, y + 4, words, DIM, 0.36)
    for second in ticks(duration):
        x = drawn.x(second)
        cv2.line(picture, (x, height - _BOTTOM), (x, height - _BOTTOM + 3), DIM, 1)
        write(picture, x - 4, height - 4, f"{second:g}", DIM, 0.34)
    for curve in plot.curves:
        _draw_curve(picture, drawn, curve)
    if plot.remark:
        write(picture, _LEFT + 10, height // 2 + 4, plot.remark, DIM, 0.42)
    return drawn


def ticks(duration: float, most: int = 10) -> list[float]:
    """Round moments [s] of a film, at most about `most`."""
    every = next((step for step in (0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600) if duration / step <= most), 1800)
    return [every * k for k in range(int(duration / every + 1e-9) + 1)]


def write(picture: Picture, x: int, y: int, text: str, color: Color = INK, size: float = 0.42) -> None:
    """Text with its foot at (x, y), in letters that the font knows."""
    shown = text.encode("ascii", "replace").decode()
    cv2.putText(picture, shown, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, color, 1, cv2.LINE_AA)


def text_width(text: str, size: float = 0.42) -> int:
    """How many pixels `write` takes."""
    shown = text.encode("ascii", "replace").decode()
    return int(cv2.getTextSize(shown, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0])


def fitted_text(text: str, width: int, size: float = 0.42) -> str:
    """As much of a text as fits, with dots where it does not."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(f"{text}...", size) > width:
        text = text[:-1]
    return f"{text}..." if text else ""


def _y(plot: Plot, height: int, value: float) -> int:
    share = (value - plot.low) / (plot.high - plot.low)
    return round(height - _BOTTOM - (height - _BOTTOM - _TOP) * min(max(share, 0.0), 1.0))


def _draw_curve(picture: Picture, drawn: DrawnPlot, curve: Curve) -> None:
    height = picture.shape[0]
    points = [
        (drawn.x(time), _y(drawn.plot, height, value)) if math.isfinite(value) else None
        for time, value in zip(curve.times, curve.values, strict=True)
    ]
    gone = 0.0
    for one, other in zip(points[:-1], points[1:], strict=True):
        if one is None or other is None:
            continue
        if curve.dashed:
            gone = _dashed(picture, one, other, curve.color, gone)
        else:
            cv2.line(picture, one, other, curve.color, 2, cv2.LINE_AA)
    for number, point in enumerate(points):  # a step between two that are undefined
        around = (points[number - 1] if number else None, points[number + 1] if number + 1 < len(points) else None)
        if point is not None and around == (None, None):
            cv2.circle(picture, point, 1, curve.color, -1)


def _dashed(picture: Picture, one: tuple[int, int], other: tuple[int, int], color: Color, gone: float) -> float:
    """A line in dashes, which go on from the lines before, `gone` pixels long; returns how long they are now."""
    length = math.dist(one, other)
    pieces = max(1, math.ceil(length / 2))
    for piece in range(pieces):
        if (gone + length * piece / pieces) % (2 * _DASH) < _DASH:
            ends = [
                tuple(round(a + (b - a) * share / pieces) for a, b in zip(one, other, strict=True))
                for share in (piece, piece + 1)
            ]
            cv2.line(picture, ends[0], ends[1], color, 1, cv2.LINE_AA)
    return gone + length


def _legend(target: Picture, plot: Plot, time: float) -> None:
    """The title, then every curve's name and value now, as many as fit."""
    x, width = 6, target.shape[1]
    write(target, x, 15, plot.title, DIM, 0.4)
    x += text_width(plot.title, 0.4) + 12
    for curve in plot.curves:
        value = curve.at(time)
        words = f"{curve.label} {value:.{plot.digits}f}" if math.isfinite(value) else f"{curve.label} -"
        if x + text_width(words, 0.4) > width - 4:
            return
        write(target, x, 15, words, curve.color, 0.4)
        x += text_width(words, 0.4) + 12
