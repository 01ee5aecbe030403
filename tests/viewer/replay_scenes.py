"""Scenes of a made-up station for tests of replays: a robot that swings, dreamt by worlds that need no weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch

from tests.station_clips import make_clip, write_set
from vap_sim.data.prepared import PreparedSet
from vap_sim.metrics.counterfactual import parse_alteration
from vap_sim.models.picture_world import PictureWorld
from vap_sim.models.still import StillWorld
from vap_sim.viewer.replay_lanes import DreamSettings, Scene, Stage, dream_scene
from vap_sim.viewer.replay_source import PreparedSource

SIZE = (64, 64)


class Echo(PictureWorld):
    """Shows the prompts that it is told."""

    name: ClassVar[str] = "echo"

    def begun(self, frames: torch.Tensor, skeleton: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"frame": frames}

    def shown(self, context: Mapping[str, torch.Tensor], skeleton: torch.Tensor) -> torch.Tensor:
        return skeleton.clone()


def stage(name: str = "echo", **changes: Any) -> Stage:
    """A world of the tests under a name."""
    world = StillWorld(SIZE, **changes) if name == "still" else Echo(SIZE, **changes)
    return Stage(name, name, world)


def source(folder: Path, *names: str, length: int = 7) -> PreparedSource:
    """Prepared clips."""
    made: PreparedSet = write_set(folder, [make_clip(name, length, size=(96, 64)) for name in names])
    return PreparedSource(made)


def scene(folder: Path, *altered: str, stages: tuple[Stage, ...] = (), length: int = 7) -> Scene:
    """One clip with its dreams; `altered` as a user gives them, of clips `a` and `b`."""
    clips = source(folder, "a", "b", length=length)
    settings = DreamSettings(tuple(parse_alteration(text) for text in altered))
    others = {name: clips.read(name) for name in clips.names}
    return dream_scene(others["a"], "side", stages or (stage(),), settings, others)
