"""`vap-sim calibrate`: camera poses and focal lengths from the video and the joint log of recordings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm
from tyro.conf import Positional

from vap_sim.commands.outcome import Outcome
from vap_sim.errors import BadFile, InvalidInput, UnknownName

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vap_sim.data.dataset import Dataset
    from vap_sim.data.episode import Episode
    from vap_sim.extraction.cameras import Array, Calibration, CalibrationSettings
    from vap_sim.extraction.motion_masks import Clip
    from vap_sim.robots.library import RobotModel

MOST_CLIPS = 6
"""Episodes of one camera from which its place is found; more of them tell little more."""
SEARCHED = ("unexplained", "edge of prior", "ambiguous", "uncertain")
"""Refusals after which a camera is looked for again, beginning at those of the same view that were found."""
_LISTED = 40


@dataclass(frozen=True)
class Calibrate:
    """Find where static cameras stand. Example: vap-sim calibrate data/kitchen --robot panda_robotiq --out cameras

    Episodes that show one scene from one place are joined; a camera that was moved between two of them counts as two.
    For a camera that moves with the flange its mount is found. Writes OUT/cameras.json, and for every camera a video
    and a sheet in OUT/overlays: look at them. The same command goes on where it was interrupted.

    Attributes:
        path: Recordings of any known format.
        out: Folder for cameras and overlays.
        robot: Name or folder of the robot, where the recordings do not say.
        format: Format of the recordings, where it is not to be guessed.
        views: Only these cameras, by name.
        episodes: Only these recordings, by name.
        focal: fx [px] of the recordings' pictures where it is known, to 10 %; it makes the answer surer.
        together: Join episodes that show one scene from one place.
        seed: Of the search.
    """

    path: Positional[Path]
    out: Path
    robot: str | None = None
    format: str | None = None
    views: tuple[str, ...] = ()
    episodes: tuple[str, ...] = ()
    focal: float | None = None
    together: bool = True
    seed: int = 0


@dataclass(frozen=True)
class _Station:
    """Episodes that one unmoved camera saw, and the number of their frames."""

    view: str
    episodes: tuple[str, ...]
    frames: int


def run(command: Calibrate) -> Outcome:
    """Find the cameras; returns a table of those found and those refused.

    Raises BadFile where nothing can be read, InvalidInput, UnknownName. What concerns one episode goes into the table.
    """
    import torch

    from vap_sim.data.dataset import open_dataset
    from vap_sim.extraction.cameras_file import FILE, read_found, write_cameras

    torch.set_num_threads(1)  # poses are few, and threads that wait for each other take the time
    dataset = open_dataset(command.path, command.format)
    for name in command.episodes:
        if name not in dataset.names:
            raise UnknownName("episode", name, dataset.names)
    stations, model, left_out = _stations(command, dataset)
    if not stations or model is None:
        raise BadFile(command.path, "; ".join(left_out[:3]) or "has no pictures")
    asked = _asked(command)
    earlier = read_found(command.out, asked)
    found: list[tuple[str, Calibration]] = []
    for station in tqdm(stations, desc="calibrating", unit="camera", dynamic_ncols=True):
        known = earlier.get((station.view, station.episodes))
        found.append((station.view, known or _calibrated(command, dataset, station, model, found)))
        if known is None:
            write_cameras(command.out, model.name, found, asked)
    again = [row for row, (view, seen) in enumerate(found) if _again(seen) and _starts(view, found)]
    for row in tqdm(again, desc="looking again", unit="camera", dynamic_ncols=True, disable=not again):
        others = [entry for number, entry in enumerate(found) if number != row]
        seen = _calibrated(command, dataset, stations[row], model, others)
        found[row] = (found[row][0], replace(seen, looked=2))
        write_cameras(command.out, model.name, found, asked)
    record = json.loads((command.out / FILE).read_text(encoding="utf-8"))
    told = {"left_out": left_out, "written": [command.out / FILE]}
    return Outcome(summary(command.out, found, left_out), {**record, **told})


def _asked(command: Calibrate) -> dict[str, Any]:
    """What decides the answers, as JSON says it."""
    names = ("robot", "format", "focal", "together", "seed")
    asked = {name: getattr(command, name) for name in names}
    return {"path": command.path.name, "views": list(command.views), "episodes": list(command.episodes), **asked}


def _again(seen: Calibration) -> bool:
    return seen.looked == 1 and seen.reason in SEARCHED


def _stations(command: Calibrate, dataset: Dataset) -> tuple[list[_Station], RobotModel | None, list[str]]:
    """Which camera saw which episodes; the robot; and what cannot be used, in words."""
    from vap_sim.data.dataset import Refused, read_all
    from vap_sim.extraction.cameras_clips import read_clip
    from vap_sim.extraction.cameras_stations import empty_scene, group_scenes

    scenes: dict[str, dict[str, NDArray[np.uint8]]] = {}
    lengths: dict[str, int] = {}
    left_out: list[str] = []
    model: RobotModel | None = None
    for episode in tqdm(read_all(dataset), desc="looking", unit="episode", total=len(dataset.names)):
        if command.episodes and episode.name not in command.episodes:
            continue
        if isinstance(episode, Refused):
            left_out.append(str(episode.error))
            continue
        model = _model(command, episode, model)
        lengths[episode.name] = episode.length
        for view in command.views or tuple(episode.views):
            try:
                scenes.setdefault(view, {})[episode.name] = empty_scene(read_clip(episode, view, model).frames)
            except (BadFile, UnknownName) as error:
                left_out.append(str(error))
    stations: list[_Station] = []
    for view, seen in scenes.items():
        names = tuple(seen)
        groups = group_scenes(list(seen.values())) if command.together else tuple((k,) for k in range(len(names)))
        joined = [tuple(names[row] for row in group) for group in groups]
        stations += [_Station(view, group, sum(lengths[name] for name in group)) for group in joined]
    # Where most is seen of the robot a camera is found soonest, and the others of its view begin there.
    stations.sort(key=lambda station: (station.view, -station.frames))
    return stations, model, left_out


def _model(command: Calibrate, episode: Episode, before: RobotModel | None) -> RobotModel:
    """The robot of an episode, which must be that of those before it."""
    from vap_sim.robots.library import load_robot

    given = command.robot or episode.robot
    if given is None:
        raise BadFile(episode.source, f"episode {episode.name!r} does not say which robot it shows: give --robot")
    model = load_robot(Path(given) if Path(given).is_dir() else given)
    if before is not None and model.name != before.name:
        given = f"{model.name!r} in episode {episode.name!r}, {before.name!r} before it"
        raise InvalidInput("robots of the recordings", given, "one robot; give --episodes for those of each")
    return model


def _calibrated(
    command: Calibrate,
    dataset: Dataset,
    station: _Station,
    model: RobotModel,
    before: Sequence[tuple[str, Calibration]],
) -> Calibration:
    from vap_sim.extraction.cameras import calibrate
    from vap_sim.extraction.cameras_clips import read_clip

    episodes = [dataset.read(name) for name in station.episodes]
    clips = [read_clip(episode, station.view, model) for episode in episodes[:MOST_CLIPS]]
    name = station.view if len(station.episodes) == 1 else f"{station.view} of {len(station.episodes)} episodes"
    size = episodes[0].view(station.view).size
    found = calibrate(clips, model, name, _settings(command, size[0]), starts=_starts(station.view, before))
    if found.reason in ("moving camera", *SEARCHED):
        found = _mounted(found, clips[0], model, name)
    _show(command.out, station, found, clips[0], model, episodes[0].frame_rate)
    camera = None if found.camera is None else found.camera.resized(size)
    return replace(found, clips=station.episodes, camera=camera)


def _mounted(found: Calibration, clip: Clip, model: RobotModel, name: str) -> Calibration:
    """A camera that moves may sit on the flange: where, or why neither a place nor a mount is found."""
    from vap_sim.extraction.wrist import find_mount

    mounted = find_mount(clip, model, name)
    if mounted.reason is None:
        return mounted
    told = f"{found.detail}; as on a wrist: {mounted.detail}" if found.reason == "moving camera" else found.detail
    return replace(found, detail=told)


def _starts(view: str, found: Sequence[tuple[str, Calibration]]) -> list[Array]:
    """Where cameras of the same view were found: one that was pushed a little stands near to where it stood."""
    return [seen.vector for name, seen in found if name == view and seen.camera and seen.vector is not None][-3:]


def _settings(command: Calibrate, width: int) -> CalibrationSettings:
    from vap_sim.extraction.cameras import CalibrationSettings
    from vap_sim.extraction.cameras_prior import CameraPrior

    prior = CameraPrior() if command.focal is None else CameraPrior.with_focal(command.focal, width)
    return CalibrationSettings(prior=prior, seed=command.seed)


def _show(
    folder: Path, station: _Station, found: Calibration, clip: Clip, model: RobotModel, frame_rate: float
) -> None:
    """The overlay video and sheet of a camera's first clip, also of an answer that was refused."""
    import cv2

    from vap_sim.extraction.cameras_overlay import overlay_frames, overlay_sheet
    from vap_sim.viewer.video import write_mp4

    if found.vector is None:
        return
    caption = f"{clip.name} {station.view}: " + (f"refused, {found.detail}" if found.reason else _words(found))
    file = folder / "overlays" / f"{clip.name.replace('/', '_')}_{station.view}"
    write_mp4(file.with_name(f"{file.name}.mp4"), overlay_frames(clip, model, found.vector, caption), frame_rate)
    cv2.imwrite(str(file.with_name(f"{file.name}.png")), overlay_sheet(clip, model, found.vector, caption)[..., ::-1])


def _words(found: Calibration) -> str:
    std, figures = found.std, found.figures
    sure = f"place to {100 * std['place']:.1f} cm, turn to {std['turn']:.3f} rad, focal to {100 * std['focal']:.1f} %"
    if "overlap" in figures:
        return f"{sure}; overlap {figures['overlap']:.2f}, outline at {figures['residual']:.2f} px"
    return f"{sure}; on the flange, {100 * figures['explained']:.0f} % of {figures['matches']:.0f} matched points fit"


def summary(folder: Path, found: Sequence[tuple[str, Calibration]], left_out: Sequence[str]) -> str:
    """A table for people: what is known of every camera, and what was left out."""
    from vap_sim.extraction.cameras_file import FILE

    known = sum(calibration.camera is not None for _, calibration in found)
    lines = [f"{known} of {len(found)} cameras in {folder / FILE}"]
    for view, calibration in found:
        episodes = ", ".join(calibration.clips[:3]) + (" ..." if len(calibration.clips) > 3 else "")
        told = _words(calibration) if calibration.reason is None else f"refused: {calibration.detail}"
        lines.append(f"{view} ({episodes}): {told}")
    lines += [f"left out: {problem}" for problem in left_out[:_LISTED]]
    return "\n".join(lines)
