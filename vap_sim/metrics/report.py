"""Figures that cannot be told without what they rest on: clips, size, frames, networks by hash, seeds and interval.

The same name means different numbers in different papers: another frame size, clip length, network or number of clips
moves a score by more than most methods do. A `Figure` therefore carries all of it, into its text and its JSON alike.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.metrics.masks import Scores
from vap_sim.metrics.measures import MEASURES, Measure

RESAMPLES = 2000
HORIZONS = (1.0, 2.0, 5.0, 10.0)
"""Seconds after the given frames at which a score of single frames is told, as far as the clips reach."""


@dataclass(frozen=True, kw_only=True)
class Clips:
    """What was judged.

    source: data set and split; camera: its name, or how cameras were chosen; number: clips; frames: in each clip, of
    which the first `given` were given to the model and are not judged; width, height [px]; frame_rate [1 / s];
    preprocessing: what was done to the frames before (crop, resize mode, video compression), "none" if nothing; seeds:
    of the generated clips, one each, one for all, or none where nothing is drawn at random.
    """

    source: str
    camera: str
    number: int
    frames: int
    given: int
    width: int
    height: int
    frame_rate: float
    preprocessing: str
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for name in ("source", "camera", "preprocessing"):
            if not getattr(self, name).strip():
                raise InvalidInput(f"{name} of clips", "nothing", "words; 'none' where there is none")
        for name, least in (("number", 1), ("given", 0), ("frames", self.given + 1), ("width", 1), ("height", 1)):
            if getattr(self, name) < least:
                raise InvalidInput(f"{name} of clips", getattr(self, name), f"at least {least}")
        if not 0 < self.frame_rate < float("inf"):
            raise InvalidInput("frame_rate of clips", self.frame_rate, "frames per second, above 0")
        if len(self.seeds) not in (0, 1, self.number):
            raise InvalidInput("seeds of clips", f"{len(self.seeds)}", f"none, one for all, or {self.number}")

    @classmethod
    def of(
        cls,
        frames: Tensor,
        *,
        source: str,
        camera: str,
        frame_rate: float,
        preprocessing: str,
        seeds: Sequence[int],
        given: int = 1,
    ) -> Clips:
        """The record of clips (n, T, H, W, 3) uint8. Raises InvalidInput for other shapes and for empty words."""
        if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[-1] != 3:
            raise InvalidInput("frames", f"{frames.dtype} {tuple(frames.shape)}", "torch.uint8 (n, T, H, W, 3)")
        number, length, height, width = (int(size) for size in frames.shape[:4])
        return cls(
            source=source, camera=camera, number=number, frames=length, given=given, width=width, height=height,
            frame_rate=float(frame_rate), preprocessing=preprocessing, seeds=tuple(int(seed) for seed in seeds),
        )  # fmt: skip

    @property
    def judged(self) -> int:
        """Frames of a clip that count."""
        return self.frames - self.given

    def __str__(self) -> str:
        size = f"{self.judged} of {self.frames} frames at {self.width} x {self.height}, {self.frame_rate:g} / s"
        return f"{self.number} clips of {self.source} ({self.camera}), {size}, preprocessing: {self.preprocessing}"


@dataclass(frozen=True)
class NetworkCard:
    """Which network a figure rests on: its name, the SHA-256 of its weights, and what it does to frames first."""

    name: str
    sha256: str
    preprocessing: str

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise InvalidInput(f"sha256 of network {self.name!r}", repr(self.sha256), "64 hexadecimal digits")
        if not self.name.strip() or not self.preprocessing.strip():
            raise InvalidInput("network", f"{self.name!r}, {self.preprocessing!r}", "a name and words on preprocessing")

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.sha256[:12]})"


@dataclass(frozen=True)
class Interval:
    """Where the figure would lie for other clips of the same kind: bounds, level (0 to 1) and how it was found."""

    low: float
    high: float
    level: float
    method: str


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One number and its record.

    values, undefined: how many scores it is the mean of, and how many more did not exist; networks: all it rests on;
    reference: the true clips, where they are a set of their own; horizon: (seconds, mean score then); beside: the same
    measure of baselines, by name; no_interval: why there is none; notes: what a reader must know to compare.
    """

    measure: Measure
    value: float
    interval: Interval | None
    clips: Clips
    values: int
    undefined: int = 0
    networks: tuple[NetworkCard, ...] = ()
    reference: Clips | None = None
    horizon: tuple[tuple[float, float], ...] = ()
    beside: Mapping[str, float] = field(default_factory=dict)
    no_interval: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not np.isfinite(self.value):
            raise InvalidInput(f"value of {self.measure.name}", self.value, "a finite number")
        if self.interval is None and not self.no_interval:
            raise InvalidInput(f"interval of {self.measure.name}", "none", "an interval, or no_interval saying why not")
        if self.measure.network and not self.networks:
            raise InvalidInput(f"networks of {self.measure.name}", "none", "the cards of the networks it rests on")

    def with_note(self, note: str) -> Figure:
        """The same figure with one more note."""
        return replace(self, notes=(*self.notes, note))

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        content = asdict(replace(self, beside=dict(self.beside)))
        return dict(_plain(content))

    def __str__(self) -> str:
        unit = f" {self.measure.unit}" if self.measure.unit else ""
        if self.interval is None:
            interval = f"no interval: {self.no_interval}"
        else:
            interval = f"{100 * self.interval.level:g} % interval {self.interval.low:.4g} .. {self.interval.high:.4g}"
        parts = [f"{self.measure.name} {self.value:.4g}{unit} ({self.measure.better} is better; {interval})"]
        parts.append(f"{self.values} values, {self.undefined} undefined; {self.clips}")
        parts += [f"against {self.reference}"] if self.reference is not None else []
        parts += [", ".join(str(card) for card in self.networks)] if self.networks else []
        parts += [f"{name}: {value:.4g}{unit}" for name, value in self.beside.items()]
        return "; ".join([*parts, *self.notes])


@dataclass(frozen=True)
class Report:
    """Figures of one evaluation; `about` says what made them (world, weights, command, versions)."""

    name: str
    figures: tuple[Figure, ...]
    about: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """All figures with their records as JSON values. Raises InvalidInput where `about` holds something else."""
        return {
            "name": self.name,
            "about": _plain(dict(self.about)),
            "figures": [figure.to_json() for figure in self.figures],
        }

    def __str__(self) -> str:
        return "\n".join([self.name, *(str(figure) for figure in self.figures)])


def figure(
    found: Scores | Sequence[Scores],
    *,
    clips: Clips,
    networks: Sequence[NetworkCard] = (),
    beside: Mapping[str, Scores] | None = None,
    notes: Sequence[str] = (),
) -> Figure:
    """The mean of all scores that exist, with a 95 % bootstrap interval over clips.

    found: scores with a leading axis of clips, or one `Scores` a clip (of as many objects as it has); the last axis of
    measures of single frames is time. beside: the same measure of baselines. Raises UnknownName for scores of no known
    measure, InvalidInput where there is no score, where shapes and `clips` disagree, and where networks are missing.
    """
    rows = [_row(found, index) for index in range(len(found.values))] if isinstance(found, Scores) else list(found)
    names = {row.what for row in rows}
    if len(rows) != clips.number or len(names) != 1:
        raise InvalidInput("scores", f"{len(rows)} clips of {sorted(names)}", f"one measure of {clips.number} clips")
    measure = known_measure(rows[0].what)
    if measure.per_frame and any(row.values.ndim < 1 or row.values.shape[-1] != clips.judged for row in rows):
        raise InvalidInput(f"scores of {measure.name}", tuple(rows[0].values.shape), f"(..., {clips.judged}) a clip")
    totals = np.array([float(row.values[row.defined].sum()) for row in rows])
    counts = np.array([int(row.defined.sum()) for row in rows])
    if not counts.sum():
        raise InvalidInput(measure.name, f"{sum(row.undefined for row in rows)} scores, none defined", "at least one")
    for name, scores in (beside or {}).items():
        if scores.what != measure.name:
            raise InvalidInput(f"baseline {name!r}", scores.what, f"scores of {measure.name}")
    interval = _bootstrap(totals, counts) if len(rows) > 1 else None
    return Figure(
        measure=measure,
        value=float(totals.sum() / counts.sum()),
        interval=interval,
        clips=clips,
        values=int(counts.sum()),
        undefined=sum(row.undefined for row in rows),
        networks=tuple(networks),
        horizon=_horizon(rows, clips) if measure.per_frame else (),
        beside={name: scores.mean() for name, scores in (beside or {}).items()},
        no_interval="" if interval else "one clip",
        notes=tuple(notes),
    )


def known_measure(name: str) -> Measure:
    """The measure of a name. Raises UnknownName."""
    if name not in MEASURES:
        raise UnknownName("measure", name, MEASURES)
    return MEASURES[name]


def _row(found: Scores, index: int) -> Scores:
    return Scores(found.what, found.values[index], found.defined[index])


def _bootstrap(totals: np.ndarray[Any, Any], counts: np.ndarray[Any, Any]) -> Interval:
    rows = np.random.default_rng(0).integers(len(totals), size=(RESAMPLES, len(totals)))
    below = counts[rows].sum(1)
    means = totals[rows].sum(1)[below > 0] / below[below > 0]
    low, high = (float(value) for value in np.percentile(means, [2.5, 97.5]))
    return Interval(low, high, 0.95, f"percentile bootstrap over clips, {RESAMPLES} resamples, seed 0")


def _horizon(rows: Sequence[Scores], clips: Clips) -> tuple[tuple[float, float], ...]:
    """The mean score of the frame that shows each time of HORIZONS."""
    told: list[tuple[float, float]] = []
    for seconds in HORIZONS:
        index = round(seconds * clips.frame_rate) - 1
        if 0 <= index < clips.judged:
            there = torch.cat([row.values[..., index][row.defined[..., index]].reshape(-1) for row in rows])
            told += [(seconds, float(there.mean()))] if len(there) else []
    return tuple(told)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise InvalidInput("record", f"{type(value).__name__} {value!r}", "what JSON can hold")
