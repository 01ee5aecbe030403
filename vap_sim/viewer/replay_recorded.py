"""What a replay asks of recordings, whatever they are: which cameras they have, and the pictures and joints of one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vap_sim.data.prepared import PreparedClip
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel

NO_CAMERA = "no camera is known for it; `vap-sim calibrate` finds cameras"
ON_LINK = "its camera rides on the robot; name it to replay it"


class Recorded(Protocol):
    """One recording: which of its cameras can be replayed, and their pictures when they are asked for."""

    @property
    def name(self) -> str:
        """Of the recording in its dataset."""
        ...

    @property
    def source(self) -> Path:
        """The file or folder that it lies in."""
        ...

    @property
    def instruction(self) -> str:
        """What the robot was told to do, "" for nothing."""
        ...

    @property
    def model(self) -> RobotModel:
        """The robot."""
        ...

    @property
    def known(self) -> tuple[str, ...]:
        """All its cameras."""
        ...

    @property
    def views(self) -> tuple[str, ...]:
        """The cameras that are replayed."""
        ...

    @property
    def left_out(self) -> Mapping[str, str]:
        """The other cameras, and why."""
        ...

    @property
    def from_twin(self) -> bool:
        """Whether the pictures are the twin's, which the shipped detector can read."""
        ...

    def clip(self, view: str, rate: float, high: int, seconds: float | None = None) -> PreparedClip:
        """One camera's pictures about `rate` times a second, at most `high` pixels high, of the first `seconds`.

        Raises BadFile where pictures are damaged or fewer than the log says, InvalidInput for a recording that is too
        slow for the rate.
        """
        ...

    def path(self, rate: float) -> NDArray[np.float32]:
        """All joints (T, J) [rad or m] about `rate` times a second. Raises InvalidInput."""
        ...


class ReplaySource(Protocol):
    """A folder of recordings."""

    @property
    def format(self) -> str:
        """Name of the format."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Of the recordings, in order."""
        ...

    def read(self, name: str, views: tuple[str, ...] = ()) -> Recorded:
        """One recording with the views that are named, or all that stand still. Raises BadFile, UnknownName."""
        ...


def chosen_views(
    cameras: Mapping[str, Camera | None], views: tuple[str, ...]
) -> tuple[tuple[str, ...], dict[str, str]]:
    """The views to replay, and why the others are not."""
    left_out = {view: NO_CAMERA for view, camera in cameras.items() if camera is None}
    if not views:
        left_out |= {view: ON_LINK for view, one in cameras.items() if one is not None and one.parent_link is not None}
    wanted = [view for view in cameras if not views or view in views]
    return tuple(view for view in wanted if view not in left_out), left_out


def frames_in(seconds: float, rate: float) -> int:
    """A start and so many steps."""
    return 1 + max(1, round(seconds * rate))
