"""Real recordings as the layers of a dream: what lies behind the robot, and how much of each pixel is the robot.

A recording of a real station has no layers, but a camera that stands still and a robot whose place is known. What is
behind the robot at one moment is what the camera saw there when the robot was elsewhere, at the nearest such time: so
an object that was moved belongs to what lies behind from then on. Where the robot's outline is, its geometry says to a
few pixels; within that margin the picture decides, by how far it differs from what lies behind.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.data.fitted_view import FittedView, fit_view, standing_views
from vap_sim.data.prepared import PreparedClip
from vap_sim.errors import InvalidInput

Pixels = NDArray[np.uint8]
_SAME, _OTHER = 12.0, 40.0
"""Grey levels up to which two looks at one pixel are the same, and from which they are surely not."""
_HINT = 0.25
"""Trust in what the picture says within the margin, where a shadow looks as different as a robot."""


@dataclass(frozen=True, eq=False)
class StationFilm:
    """A view of a clip, its T kept frames alone, channels last.

    frames and skeletons (T, H, W, 3) uint8; robot (T, H, W) uint8: share of a pixel that shows the robot; sure
    (T, H, W) uint8: how much that share can be trusted; behind (T, H, W) int16: the frame in which to look for what
    lies behind the robot, its own number where the robot is elsewhere, -1 where it is so in no frame."""

    name: str
    frames: Pixels
    skeletons: Pixels
    robot: Pixels
    sure: Pixels
    behind: NDArray[np.int16]

    @property
    def length(self) -> int:
        """The number of frames T."""
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures [px]."""
        return self.frames.shape[2], self.frames.shape[1]

    def plates(self, picks: Sequence[int]) -> tuple[Pixels, NDArray[np.bool_]]:
        """What lies behind the robot in some frames (n, H, W, 3), and where that is known (n, H, W); else black."""
        return _looked_behind(self.frames, self.behind[list(picks)])


def station_film(view: FittedView, margin: float) -> StationFilm:
    """The film of a view. margin: how far the robot may be from its silhouette, as a share of the picture's height.

    Raises InvalidInput where less than two frames were kept.
    """
    if view.kept.sum() < 2:
        given = f"{int(view.kept.sum())} kept frames of view {view.view!r}"
        raise InvalidInput(f"clip {view.clip!r}", given, "at least two")
    frames, inside = view.frames[view.kept], view.robot[view.kept] >= 128
    reach = max(1, round(margin * frames.shape[1]))
    near, core = _grown(inside, reach), ~_grown(~inside, max(1, reach // 2))
    # Beside a part of the robot that hardly moves no frame is a margin away; there its outline must do.
    far = _nearest_away(near)
    behind = np.where(far >= 0, far, _nearest_away(_grown(inside, 1)))
    plates, known = _looked_behind(frames, behind)
    apart = np.abs(frames.astype(np.int16) - plates).max(-1)
    differs = ((apart - _SAME) / (_OTHER - _SAME)).clip(0, 1)
    share = np.where(core, 1.0, np.where(known, differs, inside))
    # Inside the outline a picture that looks as if nothing were there says either: robot and wall are of one colour.
    trusted = np.where(core, np.where(known, differs, 1.0), np.where(far >= 0, _HINT, 0.0))
    robot, sure = np.where(near, share, 0.0), np.where(near, trusted, 1.0)
    name = f"{view.clip} {view.view}"
    return StationFilm(name, frames, view.skeletons[view.kept], _levels(robot), _levels(sure), behind)


def station_films(
    clips: Iterable[PreparedClip], size: int, profile_name: str, *, margin: float, alignment: str = "each"
) -> tuple[StationFilm, ...]:
    """One film for each view of each clip whose camera stands still and that has two kept frames or more.

    Cameras that ride on the robot see nothing stand still, and give none. Raises InvalidInput for a margin that is no
    share of a picture.
    """
    if not 0 < margin < 0.5:
        raise InvalidInput("margin around the robot", margin, "a share of the picture's height, more than 0, below 0.5")
    films = []
    for clip in clips:
        for number in standing_views(clip):
            if clip.kept[number].sum() >= 2:
                view = fit_view(clip, number, (size, size), profile_name, alignment=alignment)
                films.append(station_film(view, margin))
    return tuple(films)


def _looked_behind(frames: Pixels, when: NDArray[np.int16]) -> tuple[Pixels, NDArray[np.bool_]]:
    """Of pictures (T, H, W, 3), each pixel when `when` (n, H, W) says; black and unknown where it is -1."""
    rows, columns = np.indices(when.shape[1:])
    known = when >= 0
    return frames[when.clip(min=0), rows, columns] * known[..., None], known


def _nearest_away(near: NDArray[np.bool_]) -> NDArray[np.int16]:
    """For masks (T, H, W): the number of the frame nearest in time in which a pixel is not covered, or -1."""
    length = len(near)
    before, after = np.full(near.shape, -1, np.int32), np.full(near.shape, -1, np.int32)
    for frame in range(length):
        before[frame] = np.where(near[frame], before[frame - 1] if frame else -1, frame)
    for frame in reversed(range(length)):
        after[frame] = np.where(near[frame], after[frame + 1] if frame + 1 < length else -1, frame)
    now = np.arange(length)[:, None, None]
    since = np.where(before < 0, length + 1, now - before)
    until = np.where(after < 0, length + 1, after - now)
    return np.where(since <= until, before, after).astype(np.int16)


def _grown(masks: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.stack([cv2.dilate(mask.astype(np.uint8), disk) for mask in masks]) > 0


def _levels(share: NDArray[np.floating]) -> Pixels:
    return np.asarray((255 * share).round(), np.uint8)
