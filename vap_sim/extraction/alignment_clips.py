"""Episodes of any format to prepared clips: resampled, fitted, aligned, and cut where pictures bear the drawing out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.data.episode import Episode
from vap_sim.data.prepared import LeftOut, PreparedClip
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.extraction.alignment import Alignment, AlignSettings, align, working_size
from vap_sim.extraction.alignment_pictures import PictureFit, between_sizes, clock_ticks, fit_pictures, whole
from vap_sim.extraction.alignment_states import robot_joints
from vap_sim.extraction.matching import Array, Matcher, draw_robot, move_mask, projections
from vap_sim.extraction.silhouettes import draw_masks, pose_body
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import DROID_TAU
from vap_sim.robots.library import RobotModel

_FINER = 2  # silhouettes are drawn so many times finer than their pixels


@dataclass(frozen=True)
class PrepareSettings:
    """size [px] of the square pictures; rate [Hz]; fit: "crop" or "stretch"; state_source and lag [s] as in
    `robot_joints`; align: whether homographies are looked for; shortest, longest: frames of a clip; gap: so many frames
    in a row may fail within a clip; share: of its frames that a view must keep, or it is left out."""

    size: int = 128
    rate: float = 5.0
    fit: str = "crop"
    state_source: str = "logged"
    lag: float = DROID_TAU
    align: bool = True
    shortest: int = 12
    longest: int = 120
    gap: int = 3
    share: float = 0.5
    alignment: AlignSettings = field(default_factory=AlignSettings)

    def __post_init__(self) -> None:
        if not 16 <= self.size <= 2048 or self.size % 2:
            raise InvalidInput("size of prepared pictures", self.size, "an even number of 16 to 2048 pixels")
        if not 2 <= self.shortest <= self.longest or self.gap < 0:
            given = f"shortest {self.shortest}, longest {self.longest}, gap {self.gap}"
            raise InvalidInput("length of prepared clips", given, "2 <= shortest <= longest and a gap of 0 or more")


@dataclass(frozen=True, eq=False)
class _View:
    """One camera of a piece of an episode, T frames, as they go into clips."""

    name: str
    camera: Camera
    frames: NDArray[np.uint8]
    homographies: Array
    robot: NDArray[np.uint8]
    kept: NDArray[np.bool_]
    reasons: tuple[str, ...]
    notes: tuple[str, ...]


def prepare_episode(
    episode: Episode,
    model: RobotModel,
    cameras: Mapping[str, Camera],
    settings: PrepareSettings,
    matcher: Matcher | None = None,
) -> Iterator[PreparedClip | LeftOut]:
    """The clips of an episode, and every part of it that no clip has, in order; a piece of it in memory at a time.

    cameras: by view, of the recording's shape; only these views are read. Frames of what is left out count at the
    clips' rate. Raises BadFile, naming the episode, where log or video are damaged or state too little.
    """
    joints, decided = robot_joints(episode, model, settings.state_source, lag=settings.lag)
    numbers, rate = clock_ticks(episode.length, episode.frame_rate, settings.rate)
    if rate < settings.rate * 0.999:
        decided = (*decided, f"recorded at {rate:g} Hz, slower than the {settings.rate:g} Hz asked for")
    fits = {view: _fit_of(episode, model, joints[numbers], view, camera, settings) for view, camera in cameras.items()}
    pieces = max(1, -(-len(numbers) // settings.longest))
    bounds = np.linspace(0, len(numbers), pieces + 1).astype(int).tolist()
    for first, last in zip(bounds[:-1], bounds[1:], strict=True):
        chosen = numbers[first:last]
        seen = [
            _view_of(episode, model, joints[chosen], chosen, view, cameras[view], fits[view], settings, matcher)
            for view in cameras
        ]
        good = [view for view in seen if view.kept.mean() >= settings.share]
        for view in seen:
            if view not in good:
                yield LeftOut(episode.name, first, last, _commonest(view.reasons), view.name)
        if good:
            yield from _cut(episode, model, good, joints[chosen], first, rate, decided, settings)


def _fit_of(
    episode: Episode, model: RobotModel, joints: Array, view: str, camera: Camera, settings: PrepareSettings
) -> PictureFit:
    """The window of a view: what is cropped is what shows least of the robot."""
    size = episode.view(view).size
    if abs(camera.size[0] * size[1] - camera.size[1] * size[0]) > 0.02 * camera.size[0] * size[1]:
        given = f"a camera of {camera.size} for pictures of {size}"
        raise BadFile(episode.source, f"episode {episode.name!r}, view {view!r}: {given}, expected one shape")
    every = max(1, len(joints) // 20)
    drawn = draw_robot(model, joints[::every], camera.resized(size))
    return fit_pictures(size, settings.size, settings.fit, [outline.points for outline in drawn.outlines])


def _view_of(
    episode: Episode,
    model: RobotModel,
    joints: Array,
    numbers: NDArray[np.intp],
    view: str,
    camera: Camera,
    fit: PictureFit,
    settings: PrepareSettings,
    matcher: Matcher | None,
) -> _View:
    work = working_size(fit.source)
    to_work = whole(fit.source, work)
    frames, small = [], []
    for picture in _chosen_frames(episode, view, numbers):
        frames.append(fit.picture(picture))
        if settings.align:
            small.append(to_work.picture(picture))
    still = np.tile(np.eye(3), (len(numbers), 1, 1))
    kept, reasons = np.ones(len(numbers), bool), ("",) * len(numbers)
    notes: tuple[str, ...] = (f"{view}: {fit.words}",)
    found: Alignment | None = None
    if settings.align:
        found = align(
            np.stack(small), model, joints, camera.resized(work), matcher=matcher, settings=settings.alignment
        )
        still = between_sizes(found.homographies, fit.matrix @ whole(work, fit.source).matrix)
        kept, reasons = found.kept, found.reasons
        name = "outline" if matcher is None else matcher.name
        notes = (*notes, f"{view}: aligned by {name}, {_summary(found)}")
    shown = fit.camera(camera.resized(fit.source))
    return _View(view, shown, np.stack(frames), still, _silhouettes(model, joints, shown, still), kept, reasons, notes)


def _summary(found: Alignment) -> str:
    evidence, kept = found.evidence, found.kept
    if not kept.any():
        return f"0 of {len(kept)} frames kept"
    moved, share = (float(np.median(values[kept])) for values in (evidence.shift, evidence.found))
    words = f"moved by {100 * moved:.1f} % of the picture, {share:.0%} of the outline found"
    return f"{int(kept.sum())} of {len(kept)} frames kept, {words}"


def _chosen_frames(episode: Episode, view: str, numbers: NDArray[np.intp]) -> Iterator[NDArray[np.uint8]]:
    """The pictures of some frames, in order, decoded once."""
    first, last, wanted = int(numbers[0]), int(numbers[-1]) + 1, set(numbers.tolist())
    found = 0
    for number, picture in enumerate(episode.view(view).frames(first, last), start=first):
        if number in wanted:
            found += 1
            yield picture
    if found != len(numbers):
        problem = f"episode {episode.name!r}, view {view!r}: ends before frame {last}, which the log has"
        raise BadFile(episode.source, problem)


def _cut(
    episode: Episode,
    model: RobotModel,
    views: list[_View],
    joints: Array,
    offset: int,
    rate: float,
    decided: tuple[str, ...],
    settings: PrepareSettings,
) -> Iterator[PreparedClip | LeftOut]:
    """Clips of the stretches in which all views are kept, but for short gaps, and the stretches between them."""
    usable = np.logical_and.reduce([view.kept for view in views])
    for covered, group in groupby(range(len(usable)), key=bridged(usable, settings.gap, settings.shortest).__getitem__):
        frames = list(group)
        first, last = frames[0], frames[-1] + 1
        if not covered:
            reasons = [next((r for r in (v.reasons[t] for v in views) if r), "") for t in frames]
            short = f"fewer than {settings.shortest} good frames in a row"
            yield LeftOut(episode.name, offset + first, offset + last, _commonest(reasons) or short)
            continue
        part = slice(first, last)
        yield PreparedClip(
            name=f"{episode.name}_{offset + first:05d}",
            frames=np.stack([view.frames[part] for view in views]),
            joints=joints[part].astype(np.float32),
            cameras=tuple(view.camera for view in views),
            homographies=np.stack([view.homographies[part] for view in views]).astype(np.float32),
            robot=np.stack([view.robot[part] for view in views]),
            kept=np.stack([view.kept[part] for view in views]),
            frame_rate=rate,
            robot_name=model.name,
            state_source=settings.state_source,
            instruction=episode.instruction,
            source=episode.source.name,
            notes=(*episode.notes, *decided, *(note for view in views for note in view.notes)),
        )


def bridged(usable: NDArray[np.bool_], gap: int, shortest: int) -> NDArray[np.bool_]:
    """Which of (T,) frames belong to a clip: runs of usable ones joined over at most `gap` others, of length `shortest`
    or more."""
    result = usable.copy()
    places = np.flatnonzero(usable)
    for before, after in zip(places[:-1], places[1:], strict=True):
        if after - before <= gap + 1:
            result[before:after] = True
    for good, group in groupby(range(len(result)), key=result.copy().__getitem__):
        frames = list(group)
        if good and len(frames) < shortest:
            result[frames] = False
    return result


def _commonest(reasons: tuple[str, ...] | list[str]) -> str:
    said = [reason for reason in reasons if reason]
    return max(dict.fromkeys(said), key=said.count, default="")


def _silhouettes(model: RobotModel, joints: Array, camera: Camera, homographies: Array) -> NDArray[np.uint8]:
    """How far the moved silhouette covers each pixel of the camera's pictures, (T, H, W)."""
    width, height = camera.size
    fine = (width * _FINER, height * _FINER)
    body, matrices = pose_body(model, joints), projections(model, joints, camera.resized(fine))
    masks = [draw_masks(body.at(np.array([frame])), m, fine)[0] > 0 for frame, m in enumerate(matrices)]
    moves = between_sizes(homographies, whole(camera.size, fine).matrix)
    covered = [move_mask(mask, move, fine) for mask, move in zip(masks, moves, strict=True)]
    return np.stack([np.asarray(cv2.resize(c, (width, height), interpolation=cv2.INTER_AREA)) for c in covered])
