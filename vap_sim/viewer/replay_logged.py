"""Recordings as they were made, of any known format, as a replay asks for them.

Pictures keep the recording's shape and are made no larger than they are shown or dreamt. Frames are those nearest to
the ticks of the world's clock, for log and video alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.data.dataset import Dataset
from vap_sim.data.episode import Episode
from vap_sim.data.joints_from_tool import with_joints
from vap_sim.data.prepared import PreparedClip
from vap_sim.data.twin import SUFFIX
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.extraction.alignment_pictures import clock_ticks
from vap_sim.extraction.alignment_states import robot_joints
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import DROID_TAU
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.viewer.replay_recorded import Recorded, chosen_views, frames_in

_SLOWEST = 0.75  # of a world's rate, that a recording must have


@dataclass(frozen=True)
class LogSettings:
    """How logs of unprepared recordings are read. cameras: by (episode, view), before those the recording states;
    robot: a name or a folder, where the recording does not say or another is meant; state_source and lag [s]: as in
    `robot_joints`, a lag of None being 0 for the twin and DROID's for others."""

    cameras: Mapping[tuple[str, str], Camera]
    robot: str | None = None
    state_source: str = "logged"
    lag: float | None = None


@dataclass(frozen=True, eq=False)
class LoggedSource:
    """Recordings as they were made."""

    dataset: Dataset
    settings: LogSettings

    @property
    def format(self) -> str:
        """Name of the format."""
        return self.dataset.format

    @property
    def names(self) -> tuple[str, ...]:
        """Of the episodes, in order."""
        return self.dataset.names

    def read(self, name: str, views: tuple[str, ...] = ()) -> Recorded:
        """One episode with its log, whose pictures stay where they are. Raises BadFile, UnknownName."""
        episode = self.dataset.read(name)
        if not episode.views:
            raise BadFile(episode.source, f"episode {name!r} has no pictures: a replay needs video beside the log")
        model = _model(self.settings.robot, episode)
        lag = (0.0 if self.format == "twin" else DROID_TAU) if self.settings.lag is None else self.settings.lag
        joints, notes = robot_joints(with_joints(episode, model), model, self.settings.state_source, lag=lag)
        cameras = {view: self.settings.cameras.get((name, view)) or episode.cameras.get(view) for view in episode.views}
        chosen, left_out = chosen_views(cameras, views)
        return LoggedRecording(
            episode, model, joints.astype(np.float32), cameras, chosen, left_out, self.settings.state_source, notes
        )


@dataclass(frozen=True, eq=False)
class LoggedRecording:
    """An episode of a dataset with all joints of its robot (T, J); see `Recorded`."""

    episode: Episode
    model: RobotModel
    joints: NDArray[np.float32]
    cameras: Mapping[str, Camera | None]
    views: tuple[str, ...]
    left_out: Mapping[str, str]
    state_source: str
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Of the episode."""
        return self.episode.name

    @property
    def source(self) -> Path:
        """The file or folder that it lies in."""
        return self.episode.source

    @property
    def instruction(self) -> str:
        """What the robot was told to do."""
        return self.episode.instruction

    @property
    def known(self) -> tuple[str, ...]:
        """All its cameras."""
        return tuple(self.cameras)

    @property
    def from_twin(self) -> bool:
        """Whether the episode is a recording of the twin."""
        return self.episode.source.name.endswith(SUFFIX)

    def clip(self, view: str, rate: float, high: int, seconds: float | None = None) -> PreparedClip:
        """See `Recorded`."""
        episode, camera = self.episode, self.cameras[view]
        assert camera is not None
        numbers, rate = self._ticks(rate)
        numbers = numbers if seconds is None else numbers[: frames_in(seconds, rate)]
        recorded = episode.view(view).size
        if abs(camera.size[0] * recorded[1] - camera.size[1] * recorded[0]) > 0.02 * camera.size[0] * recorded[1]:
            given = f"a camera of {camera.size} for pictures of {recorded}"
            raise BadFile(episode.source, f"episode {self.name!r}, view {view!r}: {given}, expected one shape")
        size = recorded if recorded[1] <= high else (max(1, round(recorded[0] * high / recorded[1])), high)
        frames = self._pictures(view, numbers, size)[None]
        length = len(numbers)
        return PreparedClip(
            name=self.name,
            frames=frames,
            joints=np.ascontiguousarray(self.joints[numbers]),
            cameras=(replace(camera.resized(size), name=view),),
            homographies=np.tile(np.eye(3, dtype=np.float32), (1, length, 1, 1)),
            robot=np.zeros((1, length, size[1], size[0]), np.uint8),  # nobody asks a replay for it
            kept=np.ones((1, length), np.bool_),
            frame_rate=rate,
            robot_name=self.model.name,
            state_source=self.state_source,
            instruction=self.instruction,
            source=episode.source.name,
            notes=(*episode.notes, *self.notes),
        )

    def path(self, rate: float) -> NDArray[np.float32]:
        """See `Recorded`."""
        return np.ascontiguousarray(self.joints[self._ticks(rate)[0]])

    def _ticks(self, rate: float) -> tuple[NDArray[np.intp], float]:
        """The frames nearest to the ticks of a clock, and its rate [Hz]: the recording's, where that is a bit less."""
        recorded = self.episode.frame_rate
        if recorded < _SLOWEST * rate:
            expected = f"at least about the world's {rate:g} Hz"
            raise InvalidInput(f"frame rate of episode {self.name!r}", f"{recorded:g} Hz", expected)
        return clock_ticks(self.episode.length, recorded, rate)

    def _pictures(self, view: str, numbers: NDArray[np.intp], size: tuple[int, int]) -> NDArray[np.uint8]:
        """The pictures of some frames (n, H, W, 3) at another size, each decoded once."""
        out = np.empty((len(numbers), size[1], size[0], 3), np.uint8)
        place = {int(number): k for k, number in enumerate(numbers)}
        found = 0
        for number, picture in enumerate(self.episode.view(view).frames(0, int(numbers[-1]) + 1)):
            if number in place:
                shown = (
                    picture if picture.shape[1::-1] == size else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
                )
                out[place[number]] = shown
                found += 1
        if found != len(numbers):
            problem = f"episode {self.name!r}, view {view!r}: ends before frame {numbers[-1]}, which the log has"
            raise BadFile(self.episode.source, problem)
        return out


def _model(given: str | None, episode: Episode) -> RobotModel:
    """The robot of an episode. Raises BadFile where the episode names none, or none that is known."""
    name = given or episode.robot
    if name is None:
        raise BadFile(episode.source, f"episode {episode.name!r} does not say which robot it shows: give --robot")
    try:
        return load_robot(Path(name) if Path(name).is_dir() else name)
    except UnknownName as error:
        raise BadFile(episode.source, f"episode {episode.name!r}: {error}") from error
