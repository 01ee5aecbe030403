"""Recordings of the twin as episodes, as if they had come from a robot: pictures, joints, cameras that are known.

The twin records one action less than frames. The last frame's action is the one that holds the pose, which its
commanded joints state anyway.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vap_sim.data.episode import Array, Episode, Footage
from vap_sim.data.folders import enclosed, folders, relative_name
from vap_sim.data.footage import ArrayFootage
from vap_sim.data.listed import ListedDataset
from vap_sim.data.logged import Log
from vap_sim.data.twin import SUFFIX, TwinEpisode, load_episode
from vap_sim.errors import BadFile, UnknownName, VAPSimError
from vap_sim.robots.actions import action_spec
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

_DEPTH = 3
_BENT = 2.0  # the twin's fingers are bent open beyond their range where they are pressed onto something
_READ = ("frames", "joints", "measured", "actions")


def recognises(path: Path) -> bool:
    """Whether there are recordings of the twin in `path` or below it."""
    return path.is_dir() and any(name.endswith(SUFFIX) for _, inside in folders(path, _DEPTH) for name in inside)


def open_dataset(path: Path) -> ListedDataset[Path]:
    """The recordings in `path` and below it. Raises BadFile where there is none."""
    found = folders(path, _DEPTH)
    files = [folder / name for folder, inside in found for name in sorted(inside) if name.endswith(SUFFIX)]
    if not files:
        raise BadFile(path, f"holds no recordings of the twin (*{SUFFIX})")
    places = {relative_name(path, file).removesuffix(SUFFIX): file for file in files}
    return ListedDataset("twin", path, places, _episode)


def _episode(root: Path, path: Path, name: str) -> Episode:
    log = Log(enclosed(root, path), name)
    episode = load_episode(path, only=_READ)
    model = _model(log, episode)
    joints, nominal = _joints(log, model, episode, "measured"), _joints(log, model, episode, "joints")
    finger = None if model.gripper is None else model.gripper.joint
    arm = [k for k, joint in enumerate(model.robot.joint_names) if joint != finger]
    gripper, notes = _gripper(log, model, joints)
    cameras = _cameras(log, episode)
    if len(episode.frames) not in (0, len(cameras)):
        log.refuse("cameras", f"names {len(cameras)} cameras for {len(episode.frames)} views")
    seen = zip(cameras, episode.frames, strict=False)  # none where only the motion was recorded
    views: dict[str, Footage] = {view: ArrayFootage(pictures) for view, pictures in seen}
    actions, names = _actions(log, model, episode)
    return Episode(
        name=name, source=path, views=views, length=episode.length, frame_rate=1 / _step(log, episode),
        robot=model.name, joints=joints[:, arm], gripper=gripper, joint_targets=_held(nominal)[:, arm],
        actions=actions, action_names=names, cameras=cameras, notes=notes,
    )  # fmt: skip


def _model(log: Log, episode: TwinEpisode) -> RobotModel:
    try:
        return load_robot(str(episode.meta["robot"]))
    except UnknownName as error:
        log.refuse("robot", str(error))


def _joints(log: Log, model: RobotModel, episode: TwinEpisode, field: str) -> Array:
    return log.table(getattr(episode, field), field, model.robot.num_joints, episode.length)


def _held(values: Array) -> Array:
    """Row t of what comes after frame t: the next row, and for the last frame its own."""
    return np.concatenate([values[1:], values[-1:]])


def _gripper(log: Log, model: RobotModel, joints: Array) -> tuple[Array | None, tuple[str, ...]]:
    if model.gripper is None:
        return None, ()
    column = torch.from_numpy(joints[:, model.robot.joint_index(model.gripper.joint)])
    return log.gripper(model.gripper.to_position(column).numpy(), "measured", _BENT)


def _cameras(log: Log, episode: TwinEpisode) -> dict[str, Camera]:
    cameras = {}
    if not isinstance(episode.meta["cameras"], list):
        log.refuse("cameras", "is no list")
    for values in episode.meta["cameras"]:
        try:
            camera = Camera.from_dict(values)
        except (VAPSimError, AttributeError) as error:
            log.refuse("cameras", str(error))
        if camera.name in cameras or not camera.name:
            log.refuse("cameras", f"the name {camera.name!r} is empty or stands in it twice")
        cameras[camera.name] = camera
    return cameras


def _actions(log: Log, model: RobotModel, episode: TwinEpisode) -> tuple[Array, tuple[str, ...]]:
    """Actions with a row for the last frame that leaves the robot where it is."""
    try:
        spec = action_spec(model, str(episode.meta["control_mode"]))
    except UnknownName as error:
        log.refuse("control_mode", str(error))
    given = log.table(episode.actions, "actions", spec.size, episode.length - 1)
    still = np.zeros((1, spec.size))
    kept = [k for k, unit in enumerate(spec.units) if unit != "normalised speed"]
    if len(given):
        still[0, kept] = given[-1, kept]
    return np.concatenate([given, still]), spec.names


def _step(log: Log, episode: TwinEpisode) -> float:
    value: Any = episode.meta["control_dt"]
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0.001 <= value <= 100:
        log.refuse("control_dt", f"is {value!r}, expected 0.001 to 100 seconds")
    return float(value)
