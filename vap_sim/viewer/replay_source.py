"""Where a replay's recordings come from: clips that were prepared, or a dataset of any known format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vap_sim.data.dataset import open_dataset
from vap_sim.data.prepared import INDEX, PreparedClip, PreparedSet, open_prepared
from vap_sim.data.twin import SUFFIX
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.metrics.replay import stride_of
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.viewer.replay_logged import LoggedSource, LogSettings
from vap_sim.viewer.replay_recorded import Recorded, ReplaySource, chosen_views, frames_in


def open_source(path: Path, format: str | None, settings: LogSettings) -> ReplaySource:
    """The recordings at `path`: prepared clips where an index of them lies there, else of a known format.

    Raises BadFile where nothing is there or no format fits, UnknownName.
    """
    if format is None and (path / INDEX).is_file():
        return PreparedSource(open_prepared(path))
    return LoggedSource(open_dataset(path, format), settings)


@dataclass(frozen=True, eq=False)
class PreparedSource:
    """Clips of `vap-sim prepare`, which bring cameras, joints and alignment."""

    prepared: PreparedSet
    format: str = "prepared clips"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the clips, in order."""
        return self.prepared.names

    def read(self, name: str, views: tuple[str, ...] = ()) -> Recorded:
        """One clip. Raises BadFile, UnknownName."""
        clip = self.prepared.read(name)
        path = self.prepared.folder / next(entry.file for entry in self.prepared.clips if entry.name == name)
        try:
            model = load_robot(clip.robot_name)
        except UnknownName as error:
            raise BadFile(path, str(error)) from error
        cameras = {camera.name: camera for camera in clip.cameras}
        chosen, left_out = chosen_views(cameras, views)
        for view in chosen:
            if not clip.kept[list(cameras).index(view)].any():
                left_out[view] = "none of its frames was kept"
        return PreparedRecording(clip, path, model, tuple(v for v in chosen if v not in left_out), left_out)


@dataclass(frozen=True, eq=False)
class PreparedRecording:
    """A prepared clip; see `Recorded`."""

    whole: PreparedClip
    source: Path
    model: RobotModel
    views: tuple[str, ...]
    left_out: Mapping[str, str]

    @property
    def name(self) -> str:
        """Of the clip."""
        return self.whole.name

    @property
    def instruction(self) -> str:
        """What the robot was told to do."""
        return self.whole.instruction

    @property
    def known(self) -> tuple[str, ...]:
        """All its cameras."""
        return tuple(camera.name for camera in self.whole.cameras)

    @property
    def from_twin(self) -> bool:
        """Whether the clip was cut from a recording of the twin."""
        return self.whole.source.endswith(SUFFIX)

    def clip(self, view: str, rate: float, high: int, seconds: float | None = None) -> PreparedClip:
        """See `Recorded`; `high` is not asked for, clips are small."""
        number = self.known.index(view)
        stride = stride_of(self.whole.frame_rate, rate)
        first = int(self.whole.kept[number].argmax())  # the dream begins where a frame can be trusted
        last = None if seconds is None else first + frames_in(seconds, self.whole.frame_rate)
        part = slice(first, last, stride)
        return replace(
            self.whole,
            frames=np.ascontiguousarray(self.whole.frames[number : number + 1, part]),
            robot=np.ascontiguousarray(self.whole.robot[number : number + 1, part]),
            homographies=np.ascontiguousarray(self.whole.homographies[number : number + 1, part]),
            kept=np.ascontiguousarray(self.whole.kept[number : number + 1, part]),
            joints=np.ascontiguousarray(self.whole.joints[part]),
            cameras=(self.whole.cameras[number],),
            frame_rate=self.whole.frame_rate / stride,
        )

    def path(self, rate: float) -> NDArray[np.float32]:
        """See `Recorded`."""
        return np.ascontiguousarray(self.whole.joints[:: stride_of(self.whole.frame_rate, rate)])


def check_names(source: ReplaySource, path: Path, names: tuple[str, ...]) -> tuple[str, ...]:
    """The recordings to replay, all of them where none is named. Raises UnknownName, InvalidInput where there is
    none."""
    for name in names:
        if name not in source.names:
            raise UnknownName(f"episode of {path}", name, source.names)
    if not source.names:
        raise InvalidInput(f"episodes of {path}", "none", "at least one")
    return names or source.names
