"""What benchmarks of all bodies share: twin episodes of a station's cameras, and a world that dreams what they see."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from harness import HELD_OUT, recorded_files

from vap_sim.commands.teleop_worlds import default_world
from vap_sim.envs.stations import Station, get_station
from vap_sim.envs.view_choice import rides
from vap_sim.envs.worlds import open_world
from vap_sim.metrics.detector import BODIES, Detector
from vap_sim.models.protocol import WorldModel
from vap_sim.models.registry import world_settings
from vap_sim.robots.library import load_robot


@dataclass(frozen=True)
class Stand:
    """A station as some of its cameras see it."""

    station: Station
    views: tuple[str, ...]

    @classmethod
    def of(cls, options: argparse.Namespace) -> Stand:
        """What the options of `add_station_options` name. Raises UnknownName."""
        station = get_station(options.station)
        return cls(station, tuple(options.views or station.views[:1]))

    @property
    def usual(self) -> bool:
        """Whether this is what the shipped single-camera world and detector were first made for."""
        return self.station.name == "DROID" and self.views == self.station.views[:1]

    @property
    def folder(self) -> Path:
        """Where its episodes are recorded to if no folder is named."""
        if self.usual:
            return Path("out") / "episodes"
        others = () if self.views == self.station.views[:1] else self.views
        return Path("out") / "_".join(("episodes", self.station.name, *others))

    def files(self, folder: Path | None, first: int, limit: int | None, workers: int = 2) -> list[Path]:
        """Files of consecutive seeds from `first`, as many as are held out or `limit`; those that are not yet there are
        recorded, if no folder is given. Raises as `recorded_files`."""
        seeds = range(first, first + (len(HELD_OUT) if limit is None else limit))
        return recorded_files(seeds, folder, self.folder, partial(_record, self.station.name, self.views), workers)

    def world(self, world: str | None = None) -> WorldModel:
        """The world of that name or file, or the one that the station's environment dreams with, that dreams these
        views, at the rate of the station's pictures. Raises as `open_world`."""
        world = default_world(f"VAPWorld-{self.station.name}-v0") if world is None else world
        options = {"frame_rate": self.station.video_hz} if "frame_rate" in world_settings(world) else {}
        moving = rides(load_robot(self.station.robot), self.views)
        return open_world(world, options=options, views=len(self.views), moving=moving)

    def detector(self, path: Path | str | None) -> Detector:
        """The detector of a file, by default the one that knows these pictures."""
        return Detector.load(path if path is not None or self.usual else BODIES)


def add_station_options(parser: argparse.ArgumentParser) -> None:
    """Which station, which of its cameras and which episodes. What `--world` the parser has is None unless given."""
    parser.set_defaults(world=None)
    parser.add_argument("--station", default="DROID", help="whose robot, scenes, cameras and, without --world, world")
    parser.add_argument("--views", nargs="+", help="cameras to dream, by default the station's first")
    parser.add_argument("--seed", type=int, default=HELD_OUT[0], help="the first episode's seed; 900000: development")


def _record(station: str, views: tuple[str, ...], seed: int, folder: Path) -> None:
    from vap_sim.envs.twin_recorder import HELD_OUT_SEEDS, RecorderSettings, record_file

    torch.set_num_threads(1)
    record_file(seed, folder, RecorderSettings(station=station, views=views), held_out=seed in HELD_OUT_SEEDS)
