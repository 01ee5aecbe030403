"""Dreams of one recording, side by side: of several worlds, of what was done and of what might have been done.

A lane is one of them. All lanes of a replay begin with the same picture; lanes of altered motions have no recording to
be compared with and stand beside the dream of what was done in the same world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.data.fitted_view import FittedView, fit_view
from vap_sim.data.prepared import PreparedClip
from vap_sim.metrics.counterfactual import Alteration, alter, judge_altered
from vap_sim.metrics.detector import Detector
from vap_sim.metrics.masks import Scores
from vap_sim.metrics.replay import Meter, Replay, found_robot, judge, replay
from vap_sim.models.protocol import WorldModel
from vap_sim.robots.library import RobotModel
from vap_sim.viewer.replay_curves import Track
from vap_sim.viewer.replay_recorded import Recorded

RECORDED = "recorded"
"""What a lane's actions are called that are those of the recording."""


@dataclass(frozen=True, eq=False)
class Stage:
    """A world that dreams. name: short, unlike those of the other worlds; given: as the user named it; learned: names
    of the clips that its weights were adapted to; detector: finds the robot in pictures of the station, and where it
    was found; meter: makes what watches dreams of a robot in this world."""

    name: str
    given: str
    world: WorldModel
    learned: tuple[str, ...] = ()
    detector: tuple[Path | str, Detector] | None = None
    meter: Callable[[RobotModel, WorldModel], Meter] | None = None


@dataclass(frozen=True, eq=False)
class Lane:
    """One dream. actions: RECORDED or the alteration's name; figures: Scores (T) of steps 1 to T by name; joints
    (T + 1, J) [rad or m]: what it was told."""

    name: str
    stage: Stage
    actions: str
    replayed: Replay
    figures: Mapping[str, Scores]

    @property
    def nominal(self) -> bool:
        """Whether it dreams what was done."""
        return self.actions == RECORDED

    @property
    def rate(self) -> float:
        """Frames a second."""
        return self.replayed.view.frame_rate

    @property
    def joints(self) -> NDArray[np.float32]:
        """(T + 1, J) [rad or m]: what it was told."""
        first = self.replayed.first
        return self.replayed.view.joints[first : first + len(self.replayed.dreamt)]

    def means(self) -> dict[str, float | None]:
        """The mean of each figure over the steps that have it; None where none has."""
        return {
            name: float(found.values[found.defined].mean()) if bool(found.defined.any()) else None
            for name, found in self.figures.items()
        }

    def steps(self) -> list[dict[str, float | None]]:
        """Each step's figures, None where undefined."""
        count = len(self.replayed.dreamt) - 1
        return [
            {name: float(f.values[step]) if bool(f.defined[step]) else None for name, f in self.figures.items()}
            for step in range(count)
        ]

    def track(self) -> Track:
        """Its figures as curves are drawn from."""
        return Track(self.name, self.nominal, self.rate, self.steps())


@dataclass(frozen=True, eq=False)
class Scene:
    """All dreams of one camera of one recording. clip: the recording as it is shown, at the fastest world's rate."""

    recorded: Recorded
    view: str
    clip: PreparedClip
    lanes: tuple[Lane, ...]

    @property
    def name(self) -> str:
        """Recording and camera."""
        return f"{self.recorded.name}.{self.view}"


@dataclass(frozen=True)
class DreamSettings:
    """alterations: of the actions, beside what was recorded; alignment: of a prepared clip's prompts; seconds: at most
    so much is dreamt; seed: of the dreams and of what is drawn by lot; high: pictures are read at most so high [px]."""

    alterations: tuple[Alteration, ...] = ()
    alignment: str = "first"
    seconds: float | None = None
    seed: int = 0
    high: int = 288


def dream_scene(
    recorded: Recorded,
    view: str,
    stages: Sequence[Stage],
    settings: DreamSettings,
    others: Mapping[str, Recorded],
    tick: Callable[[str], None] = lambda _: None,
) -> Scene:
    """Dream one camera's part of a recording in every world, as it was and altered.

    others: the recordings whose motions alterations take, by name; tick: is called with each lane's name when it is
    done. Raises BadFile, InvalidInput, Unsupported for what cannot be dreamt.
    """
    clips: dict[float, PreparedClip] = {}
    lanes: list[Lane] = []
    for stage in stages:
        spec = stage.world.spec
        if spec.frame_rate not in clips:
            high = max(settings.high, *(one.world.spec.size[1] for one in stages))
            clips[spec.frame_rate] = recorded.clip(view, spec.frame_rate, high, settings.seconds)
        for lane in _of_world(recorded, clips[spec.frame_rate], stage, settings, others, len(stages) > 1):
            lanes.append(lane)
            tick(lane.name)
    return Scene(recorded, view, max(clips.values(), key=lambda clip: clip.frame_rate), tuple(lanes))


def _of_world(
    recorded: Recorded,
    clip: PreparedClip,
    stage: Stage,
    settings: DreamSettings,
    others: Mapping[str, Recorded],
    several: bool,
) -> Iterator[Lane]:
    """The nominal lane of a world, then those of altered motions."""
    world, model = stage.world, recorded.model
    detector = None if stage.detector is None else stage.detector[1]

    def dreamt(part: PreparedClip, alignment: str) -> Replay:
        fitted: FittedView = fit_view(part, 0, world.spec.size, world.spec.profile, alignment=alignment, model=model)
        meter = None if stage.meter is None else stage.meter(model, world)
        return replay(world, fitted, seed=settings.seed, meter=meter)

    nominal = dreamt(clip, settings.alignment)
    seen: Tensor | None = None if detector is None else found_robot(detector, nominal.recorded)
    judged = judge(nominal, detector, seen)
    figures = {name: found for name, found in vars(judged).items() if found is not None}
    yield Lane(stage.name, stage, RECORDED, nominal, figures)
    for alteration in settings.alterations:
        other: Any = None
        if alteration.episode:
            other = others[alteration.episode].path(world.spec.frame_rate)
        joints = alter(alteration, clip.joints, model, clip.frame_rate, seed=settings.seed, other=other)
        # How the robot would have stood in each picture is not known, so that only the first one's alignment holds.
        found = dreamt(replace(clip, joints=joints), "none" if settings.alignment == "none" else "first")
        name = f"{stage.name}, {alteration.name}" if several else alteration.name
        yield Lane(name, stage, alteration.name, found, judge_altered(found, nominal, detector))
