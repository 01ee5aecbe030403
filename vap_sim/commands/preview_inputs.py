"""What `vap-sim preview` is told, read and checked: a robot, a photo, a camera, joint values."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import BadFile, InvalidInput, UnknownName, VAPSimError

if TYPE_CHECKING:
    from vap_sim.robots.camera import Camera
    from vap_sim.robots.library import RobotModel

_LARGEST_SIDE = 4096
_SKEW = 0.01
"""How far a camera's axes may be from right angles and unit length."""


def find_robot(robot: str) -> RobotModel:
    """The shipped robot of that name, or the one in that folder. Raises UnknownName, BadFile, Unsupported."""
    from vap_sim.robots.library import load_robot, robot_names

    if robot in robot_names():
        return load_robot(robot)
    if not Path(robot).is_dir():
        raise UnknownName("robot or folder", robot, robot_names())
    return load_robot(Path(robot))


def read_photo(path: Path) -> NDArray[np.uint8]:
    """A picture file as (H, W, 3) uint8 RGB. Raises BadFile."""
    import cv2

    if not path.is_file():
        raise BadFile(path, "no such picture")
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise BadFile(path, "is no picture that can be read")
    if max(pixels.shape[:2]) > _LARGEST_SIDE:
        given = f"{pixels.shape[1]} x {pixels.shape[0]} pixels"
        raise BadFile(path, f"has {given}, expected at most {_LARGEST_SIDE} a side")
    return np.ascontiguousarray(pixels[..., ::-1], dtype=np.uint8)


def find_camera(model: RobotModel, camera: str | None, view: str | None) -> Camera:
    """The camera that is meant: one of the robot's, or one of a file's. Raises BadFile, InvalidInput, UnknownName."""
    if camera is not None and (Path(camera).suffix == ".json" or Path(camera).is_file()):
        found = read_cameras(Path(camera))
        source, wish, option = f"in {camera}", view, "--view"
    else:
        if view is not None:
            raise InvalidInput("--view", view, "none but with a file of cameras in --camera")
        found = dict(model.cameras)
        source, wish, option = f"of {model.name}", camera, "--camera"
    if wish is None and len(found) != 1:
        given = ", ".join(found) or "none"
        raise InvalidInput(
            f"cameras {source}", given, f"one, or a name in {option}" if found else "a JSON file in --camera"
        )
    if wish is not None and wish not in found:
        raise UnknownName(f"camera {source}", wish, found)
    chosen = found[wish] if wish is not None else next(iter(found.values()))
    if chosen.intrinsics.ndim != 2:
        raise InvalidInput(f"camera {chosen.name!r}", "a batch of cameras", "a single camera")
    if chosen.parent_link is not None:
        model.robot.link_index(chosen.parent_link)
    return chosen


def read_cameras(path: Path) -> dict[str, Camera]:
    """The cameras of a JSON file by name: one camera, a list of them, an object of them by name, or a file whose field
    "cameras" is one of the latter, as in robot.json, start.json and what `vap-sim calibrate` writes, without those it
    refused. Raises BadFile with the camera at fault."""
    from vap_sim.robots.camera import Camera

    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadFile(path, f"is not JSON ({error})") from error
    if isinstance(values, dict) and "cameras" in values:
        values = values["cameras"]
    if isinstance(values, dict):
        values = [values] if "size" in values else [{"name": n, **v} for n, v in values.items() if isinstance(v, dict)]
    if not isinstance(values, list) or not values or not all(isinstance(v, dict) for v in values):
        raise BadFile(path, "holds no cameras, expected one, a list of them, or an object of them by name")
    found = [entry for entry in map(_calibrated, values) if entry is not None]
    if not found:
        raise BadFile(path, "holds only cameras that calibration refused")
    try:
        cameras = [_upright(Camera.from_dict(v, name=str(v.get("name") or path.stem))) for v in found]
    except VAPSimError as error:
        raise BadFile(path, str(error)) from error
    names = [camera.name for camera in cameras]
    if len(set(names)) != len(names):
        raise BadFile(path, f"holds two cameras of the same name, among {', '.join(names)}")
    return dict(zip(names, cameras, strict=True))


def _calibrated(values: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The camera of an entry that calibration wrote, None where it gave none; anything else is left as it is."""
    if "camera" not in values:
        return values
    camera = values["camera"]
    return {**camera, "name": values.get("name")} if isinstance(camera, dict) else None


def _upright(camera: Camera) -> Camera:
    """The camera, unless its pose cannot be one, as where a calibration means something else by its numbers."""
    turn = camera.T_parent_camera[..., :3, :3].double()
    away = float((turn @ turn.mT - turn.new_tensor(np.eye(3))).abs().max())
    if not away < _SKEW or float(turn.det().min()) < 0:
        given = "a mirrored rotation" if away < _SKEW else f"no rotation (off by {away:.3g})"
        expected = "x right, y down, z forward, each of length one"
        raise InvalidInput(f"T_parent_camera of camera {camera.name!r}", given, expected)
    return camera


def read_joints(model: RobotModel, joints: Sequence[str]) -> NDArray[np.float32]:
    """Joint values (J,) [rad or m] from words: all in the robot's order, or name=value for some, home for the others.

    Raises InvalidInput or UnknownName.
    """
    pose: NDArray[np.float32] = model.home.numpy().copy()
    named = [word.partition("=") for word in joints]
    if all(equals for _, equals, _ in named):
        for name, _, value in named:
            pose[model.robot.joint_index(name)] = _number(f"joint {name!r}", value)
    elif len(joints) != len(pose) or any(equals for _, equals, _ in named):
        order = ", ".join(model.robot.joint_names)
        raise InvalidInput("--joints", " ".join(joints), f"{len(pose)} numbers ({order}), or name=value for some")
    else:
        pose = np.array(
            [_number(f"joint {n!r}", w) for n, w in zip(model.robot.joint_names, joints, strict=True)], np.float32
        )
    return pose


def _number(what: str, word: str) -> float:
    try:
        value = float(word)
    except ValueError as error:
        raise InvalidInput(what, word, "a number") from error
    if not np.isfinite(value):
        raise InvalidInput(what, word, "a finite number")
    return value
