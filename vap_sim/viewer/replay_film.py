"""A replay as one film: pictures side by side or under their prompts, curves below, a playhead and a timeline.

The film is at most 1920 x 1080 pixels, so that it plays everywhere; many dreams stand in two rows, and smaller.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.data.prepared import PreparedClip, prompt_of
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.prompts.profiles import profile
from vap_sim.viewer.replay import overlay
from vap_sim.viewer.replay_curves import (
    DIM,
    INK,
    PAPER,
    Color,
    DrawnPlot,
    draw_plot,
    fitted_text,
    lane_colors,
    plots_of,
    ticks,
    write,
)
from vap_sim.viewer.replay_lanes import Lane, Scene

Picture = NDArray[np.uint8]
LAYOUTS = ("side-by-side", "overlay")
"""side-by-side: the recording, the recording under its prompt, every dream. overlay: the recording and every dream,
each under the prompt that belongs to it."""
WIDEST, HIGHEST = 1920, 1080
_HEIGHTS = (288, 240, 208, 176, 144, 112, 96)  # of a panel [px]
_HEAD, _TITLE, _PLOT, _TIMELINE = 26, 22, 150, 26
_NARROWEST, _GAP = 560, 3
_UNKEPT = (200, 60, 60)


@dataclass(frozen=True)
class Layout:
    """panel: (width, height) [px] of each picture; columns and rows of panels."""

    panel: tuple[int, int]
    columns: int
    rows: int

    @property
    def width(self) -> int:
        """Of the film [px], even."""
        return max(self.columns * self.panel[0], _NARROWEST)

    @property
    def height(self) -> int:
        """Of the film [px], even."""
        return _HEAD + self.rows * (_TITLE + self.panel[1]) + _PLOT + _TIMELINE


def lay_out(count: int, size: tuple[int, int]) -> Layout:
    """Where `count` pictures of the shape (width, height) go: as large as they can be, in as few rows.

    Raises InvalidInput for more than fit.
    """
    for high in _HEIGHTS:
        wide = max(2, 2 * round(size[0] * high / size[1] / 2))
        columns = min(count, WIDEST // wide)
        if columns < 1:
            continue
        rows = math.ceil(count / columns)
        found = Layout((wide, high), math.ceil(count / rows), rows)
        if found.height <= HIGHEST and (rows <= 2 or high == _HEIGHTS[-1]):
            return found
    raise InvalidInput("pictures of one film", count, f"fewer: no more fit {WIDEST} x {HIGHEST} pixels")


@dataclass(frozen=True, eq=False)
class _Panel:
    """A title, its color, and the picture of each frame of the film at the panel's size."""

    title: str
    color: Color
    picture: Callable[[int], Picture]


@dataclass(frozen=True, eq=False)
class Film:
    """The film of a scene. title: stands at its top."""

    scene: Scene
    layout: str = LAYOUTS[0]
    title: str = ""

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise UnknownName("layout of a replay", self.layout, LAYOUTS)

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.scene.clip.frame_rate

    @cached_property
    def length(self) -> int:
        """Frames: as many as the longest dream takes."""
        longest = max((len(lane.replayed.dreamt) - 1) / lane.rate for lane in self.scene.lanes)
        return min(self.scene.clip.length, 1 + round(longest * self.rate))

    @cached_property
    def plan(self) -> Layout:
        """Where its pictures go. Raises InvalidInput for more than fit."""
        before = 2 if self.layout == LAYOUTS[0] else 1
        return lay_out(before + len(self.scene.lanes), self.scene.clip.size)

    def pictures(self) -> Iterator[Picture]:
        """All frames in order (H, W, 3) uint8 RGB, H and W even."""
        plan, background, plots = self.plan, self._background, self._plots
        top = _HEAD + plan.rows * (_TITLE + plan.panel[1])
        wide = [drawn.picture.shape[1] for drawn in plots]
        for frame in range(self.length):
            picture = background.copy()
            for number, panel in enumerate(self._panels):
                x, y = self._place(number)
                picture[y : y + plan.panel[1], x : x + plan.panel[0]] = panel.picture(frame)
                picture[y : y + plan.panel[1], x : x + _GAP] = PAPER
            for number, drawn in enumerate(plots):
                left = sum(wide[:number])
                drawn.mark(picture[top : top + _PLOT, left : left + wide[number]], frame / self.rate)
            self._draw_timeline(picture[top + _PLOT :], frame)
            yield picture

    @cached_property
    def _plots(self) -> tuple[DrawnPlot, ...]:
        """The curves, drawn at their sizes."""
        plots = plots_of([lane.track() for lane in self.scene.lanes])
        edges = np.linspace(0, self.plan.width, len(plots) + 1).astype(int).tolist()
        duration = (self.length - 1) / self.rate
        return tuple(
            draw_plot(plot, (right - left, _PLOT), duration)
            for plot, left, right in zip(plots, edges[:-1], edges[1:], strict=True)
        )

    @cached_property
    def _panels(self) -> tuple[_Panel, ...]:
        shown = panel_clip(self.scene.clip, self.plan.panel)
        lanes = self.scene.lanes
        drawing = profile(lanes[0].stage.world.spec.profile)
        drawn = prompt_of(shown, drawing, 0, self.length, self.scene.recorded.model).skeleton[0, 0].numpy()
        recorded = shown.frames[0]
        under = _Panel("recorded, with its prompt", DIM, lambda frame: overlay(recorded[frame], drawn[frame]))
        colored = zip(lanes, lane_colors(len(lanes)), strict=True)
        if self.layout == LAYOUTS[0]:
            dreams = [_Panel(_lane_title(lane), color, self._dream(lane)) for lane, color in colored]
            return (_Panel("recorded", DIM, lambda frame: recorded[frame]), under, *dreams)
        return (under, *(_Panel(_lane_title(lane), color, self._dream_under(lane)) for lane, color in colored))

    def _moment(self, lane: Lane, frame: int) -> int:
        """The frame that a lane shows while the film shows `frame`: its last one not later."""
        return min(math.floor(frame / self.rate * lane.rate + 1e-6), len(lane.replayed.dreamt) - 1)

    def _dream(self, lane: Lane) -> Callable[[int], Picture]:
        frames, size = lane.replayed.dreamt.numpy(), self.plan.panel
        return lambda frame: _resized(frames[self._moment(lane, frame)], size)

    def _dream_under(self, lane: Lane) -> Callable[[int], Picture]:
        """The dream under the prompts that it was told."""
        frames, drawn, size = lane.replayed.dreamt.numpy(), lane.replayed.skeletons.numpy(), self.plan.panel

        def picture(frame: int) -> Picture:
            moment = self._moment(lane, frame)
            return overlay(_resized(frames[moment], size), _resized(drawn[moment], size))

        return picture

    def _place(self, number: int) -> tuple[int, int]:
        """The corner (x, y) of a panel."""
        plan = self.plan
        row, column = divmod(number, plan.columns)
        left = (plan.width - plan.columns * plan.panel[0]) // 2
        return left + column * plan.panel[0], _HEAD + row * (_TITLE + plan.panel[1]) + _TITLE

    @cached_property
    def _background(self) -> Picture:
        """What is the same in every frame."""
        plan = self.plan
        picture = np.full((plan.height, plan.width, 3), PAPER[0], np.uint8)
        write(picture, 8, 18, fitted_text(self.title, plan.width - 16, 0.46), INK, 0.46)
        for number, panel in enumerate(self._panels):
            x, y = self._place(number)
            write(picture, x + 6, y - 7, fitted_text(panel.title, plan.panel[0] - 10), panel.color)
        return picture

    def _draw_timeline(self, target: Picture, frame: int) -> None:
        """The bar, its seconds, what is not judged, and where the playhead is."""
        width, last = target.shape[1], max(self.length - 1, 1)
        words = f"step {frame} of {self.length - 1}   {frame / self.rate:.1f} s"
        left, right = 8, width - 190
        cv2.rectangle(target, (left, 9), (right, 15), (58, 58, 62), -1)
        for number in np.flatnonzero(~self.scene.clip.kept[0, : self.length]):
            x = left + round((right - left) * number / last)
            cv2.line(target, (x, 9), (x, 15), _UNKEPT, 2)
        x = left + round((right - left) * frame / last)
        cv2.rectangle(target, (left, 11), (x, 13), INK, -1)
        for second in ticks(last / self.rate):
            tick = left + round((right - left) * second * self.rate / last)
            cv2.line(target, (tick, 17), (tick, 20), DIM, 1)
        cv2.circle(target, (x, 12), 5, INK, -1, cv2.LINE_AA)
        write(target, right + 14, 17, words if frame else "step 0: given", INK)


def _lane_title(lane: Lane) -> str:
    return lane.name if lane.nominal else f"{lane.name} (not what was done)"


def _resized(picture: Picture, size: tuple[int, int]) -> Picture:
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def panel_clip(clip: PreparedClip, size: tuple[int, int]) -> PreparedClip:
    """A clip of one view at the size (width, height) at which it is shown; its silhouettes are left out."""
    if tuple(clip.size) == tuple(size):
        return clip
    sx, sy = size[0] / clip.size[0], size[1] / clip.size[1]
    scale = np.array([[sx, 0.0, (sx - 1) / 2], [0.0, sy, (sy - 1) / 2], [0.0, 0.0, 1.0]])
    moved = scale @ clip.homographies.astype(np.float64) @ np.linalg.inv(scale)
    how = cv2.INTER_AREA if sx <= 1 and sy <= 1 else cv2.INTER_CUBIC
    return replace(
        clip,
        frames=np.stack([cv2.resize(frame, size, interpolation=how) for frame in clip.frames[0]])[None],
        cameras=(clip.cameras[0].resized(size),),
        homographies=moved.astype(np.float32),
        robot=np.zeros((1, clip.length, size[1], size[0]), np.uint8),
    )
