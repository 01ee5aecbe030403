"""Replays as rerun recordings (`.rrd`): pictures, prompts, curves and the robot in space, on one timeline.

rerun-sdk comes with the extra `rerun` and is imported when a recording is written. Opened in rerun's viewer, a
recording brings its own arrangement of views.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.data.prepared import prompt_of
from vap_sim.errors import MissingDependency
from vap_sim.prompts.profiles import profile
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel
from vap_sim.viewer.replay import overlay
from vap_sim.viewer.replay_curves import lane_colors
from vap_sim.viewer.replay_lanes import Lane, Scene

APPLICATION = "vap_sim_replay"
STEP, TIME = "step", "time"
"""Names of the timelines: the step of the film, and its seconds."""
_JPEG = 90
_DIM = (150, 160, 175)


def write_rrd(path: Path, scene: Scene) -> None:
    """Write a scene as a rerun recording, whole or not at all.

    Entities: `recorded`, `prompt` and `dream/<lane>` are pictures; `figures/<figure>/<lane>` are curves; `space` holds
    the robot of every lane as key points and bones, and the camera, in the base frame [m]. Raises MissingDependency
    without rerun-sdk, OSError.
    """
    rr = need_rerun()
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.stem + ".partial" + path.suffix)
    try:
        recording = rr.RecordingStream(APPLICATION, recording_id=scene.name)
        recording.save(str(partial), default_blueprint=_arrangement(scene))
        _log_pictures(recording, rr, scene)
        for lane, color in zip(scene.lanes, lane_colors(len(scene.lanes)), strict=True):
            _log_figures(recording, rr, lane, color)
            _log_robot(recording, rr, scene.recorded.model, lane, color)
        _log_camera(recording, rr, scene)
        recording.flush()
        recording.disconnect()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def need_rerun() -> Any:
    """The package rerun. Raises MissingDependency."""
    try:
        import rerun
    except ImportError as error:
        raise MissingDependency("rerun-sdk", "rerun", "It writes and shows .rrd recordings.") from error
    return rerun


def entity(name: str) -> str:
    """A lane's name as a part of an entity's path."""
    return "".join(letter if letter.isalnum() or letter in "._-" else "_" for letter in name)


def _columns(rr: Any, count: int, rate: float, first: int = 0) -> list[Any]:
    """The timelines of frames `first` to before `first + count`."""
    steps = np.arange(first, first + count)
    return [rr.TimeColumn(STEP, sequence=steps), rr.TimeColumn(TIME, duration=steps / rate)]


def _log_pictures(recording: Any, rr: Any, scene: Scene) -> None:
    clip, lanes = scene.clip, scene.lanes
    drawn = prompt_of(
        clip, profile(lanes[0].stage.world.spec.profile), model=scene.recorded.model
    ).skeleton[0, 0].numpy()  # fmt: skip
    film = clip.frames[0]
    _send(recording, rr, "recorded", film, clip.frame_rate)
    under = np.stack([overlay(one, other) for one, other in zip(film, drawn, strict=True)])
    _send(recording, rr, "prompt", under, clip.frame_rate)
    for lane in lanes:
        _send(recording, rr, f"dream/{entity(lane.name)}", lane.replayed.dreamt.numpy(), lane.rate)


def _send(recording: Any, rr: Any, path: str, frames: NDArray[np.uint8], rate: float) -> None:
    """Pictures (T, H, W, 3), encoded as JPEG."""
    import cv2

    quality = [int(cv2.IMWRITE_JPEG_QUALITY), _JPEG]
    encoded = [cv2.imencode(".jpg", frame[..., ::-1], quality)[1].tobytes() for frame in frames]
    columns = rr.EncodedImage.columns(blob=encoded, media_type=["image/jpeg"] * len(encoded))
    recording.send_columns(path, indexes=_columns(rr, len(frames), rate), columns=columns)


def _log_figures(recording: Any, rr: Any, lane: Lane, color: tuple[int, int, int]) -> None:
    """Every figure at the steps that have it."""
    for name, found in lane.figures.items():
        defined = np.flatnonzero(found.defined.numpy())
        if not len(defined):
            continue
        path = f"figures/{name}/{entity(lane.name)}"
        recording.log(path, rr.SeriesLines(colors=[color], names=[f"{name}, {lane.name}"]), static=True)
        steps = defined + 1
        indexes = [rr.TimeColumn(STEP, sequence=steps), rr.TimeColumn(TIME, duration=steps / lane.rate)]
        values = found.values.numpy()[defined]
        recording.send_columns(path, indexes=indexes, columns=rr.Scalars.columns(scalars=values))


def _log_robot(recording: Any, rr: Any, model: RobotModel, lane: Lane, color: tuple[int, int, int]) -> None:
    """Key points and bones at every pose."""
    joints = torch.from_numpy(np.ascontiguousarray(lane.joints))
    points = model.skeleton.positions(model.robot, model.robot.forward(joints)).numpy()
    index = {point.name: number for number, point in enumerate(model.skeleton.points)}
    ends = np.array([[index[bone.start], index[bone.end]] for bone in model.skeleton.bones])
    for frame, places in enumerate(points):
        recording.set_time(STEP, sequence=frame)
        recording.set_time(TIME, duration=frame / lane.rate)
        here = f"space/{entity(lane.name)}"
        recording.log(f"{here}/bones", rr.LineStrips3D(places[ends], colors=[color], radii=[0.006]))
        recording.log(f"{here}/points", rr.Points3D(places, colors=[color], radii=[0.012]))
    recording.reset_time()


def _log_camera(recording: Any, rr: Any, scene: Scene) -> None:
    """Where the camera is, and what it saw."""
    camera: Camera = scene.clip.cameras[0]
    if camera.parent_link is not None:  # it moves with the robot: its picture stands beside the space, not in it
        return
    pose = camera.T_parent_camera.double().numpy()
    recording.log("space/camera", rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]), static=True)
    width, height = camera.size
    intrinsics = camera.intrinsics.double().numpy()
    lens = rr.Pinhole(image_from_camera=intrinsics, resolution=[width, height], image_plane_distance=0.25)
    recording.log("space/camera", lens, static=True)
    recording.log("space", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)


def _arrangement(scene: Scene) -> Any:
    """Pictures above, the robot in space and the curves below."""
    import rerun.blueprint as rrb

    dreams = [rrb.Spatial2DView(origin=f"dream/{entity(lane.name)}", name=lane.name) for lane in scene.lanes]
    pictures = [rrb.Spatial2DView(origin="recorded"), rrb.Spatial2DView(origin="prompt"), *dreams]
    known = {name for lane in scene.lanes for name in lane.figures}
    groups = {"error": ("moving", "copy"), "trust": ("agreement", "agreement_recorded", "risk"), "apart": ("apart",)}
    curves = [
        rrb.TimeSeriesView(name=title, contents=[f"/figures/{name}/**" for name in names if name in known])
        for title, names in groups.items()
        if known.intersection(names)
    ]
    below = rrb.Horizontal(rrb.Spatial3DView(origin="space"), *curves)
    return rrb.Blueprint(rrb.Vertical(rrb.Grid(*pictures), below, row_shares=[3, 2]), collapse_panels=True)
