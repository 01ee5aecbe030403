"""Ready robots: a folder with a URDF, a skeleton, cameras and a gripper, loaded by name or path."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput, UnknownName, VAPSimError
from vap_sim.robots.camera import Camera
from vap_sim.robots.kinematics import Robot
from vap_sim.robots.skeleton import SkeletonSpec

_SHELF = Path(__file__).parent
SHELVES_VARIABLE = "VAP_SIM_ROBOTS"
"""Environment variable: folders of robots' folders, separated as in PATH, whose robots are known by name, too."""


@dataclass(frozen=True)
class GripperSpec:
    """The joint that opens a gripper and its values [rad or m] when open and closed."""

    joint: str
    open_value: float
    closed_value: float

    def to_joint(self, position: Tensor) -> Tensor:
        """Gripper position in [0, 1] (0 open, 1 closed) -> joint value."""
        return self.open_value + position * (self.closed_value - self.open_value)

    def to_position(self, joint_value: Tensor) -> Tensor:
        """Joint value -> gripper position in [0, 1]."""
        return (joint_value - self.open_value) / (self.closed_value - self.open_value)


@dataclass(frozen=True, eq=False)
class RobotModel:
    """Everything known about one robot. `home` (J,) float32 is a pose to start from; `gripper` is None without one."""

    robot: Robot
    skeleton: SkeletonSpec
    cameras: Mapping[str, Camera]
    gripper: GripperSpec | None
    flange_link: str
    tool_link: str
    home: Tensor
    folder: Path

    @property
    def name(self) -> str:
        """Name of the robot."""
        return self.robot.name

    def camera(self, name: str) -> Camera:
        """One of the robot's cameras. Raises UnknownName."""
        if name not in self.cameras:
            raise UnknownName("camera", name, self.cameras)
        return self.cameras[name]


def robot_names() -> tuple[str, ...]:
    """Names of the robots that come with the package and of those in the folders that SHELVES_VARIABLE names.

    Raises InvalidInput where two of them share a name.
    """
    return tuple(sorted(_known()))


def _known() -> dict[str, Path]:
    """The folder of every robot that is known by name."""
    named = os.environ.get(SHELVES_VARIABLE, "").split(os.pathsep)
    shelves = [_SHELF, *(Path(text).resolve() for text in named if text)]
    known: dict[str, Path] = {}
    for folder in (record.parent for shelf in shelves for record in sorted(shelf.glob("*/robot.json"))):
        if known.setdefault(folder.name, folder) != folder:
            raise InvalidInput(
                f"robot {folder.name!r}", f"{known[folder.name]} and {folder}", "one folder of that name"
            )
    return known


def load_robot(robot: str | Path) -> RobotModel:
    """The robot of that name, or the one in a user's folder (given as Path); loaded once per process.

    A folder holds robot.urdf, skeleton.json and robot.json. Raises UnknownName, or BadFile with file and field.
    """
    if isinstance(robot, Path):
        return _load(robot.resolve())
    known = _known()
    if robot not in known:
        raise UnknownName("robot", robot, sorted(known))
    model = _load(known[robot])
    if model.name != robot:
        # What is recorded of it would carry a name by which it is not found again.
        raise BadFile(model.folder / "robot.json", f"field 'name' is {model.name!r}, expected {robot!r}, as its folder")
    return model


@lru_cache(maxsize=32)
def _load(folder: Path) -> RobotModel:
    path = folder / "robot.json"
    values = _read(path)
    # The model is shared: tensors born in inference mode could never take part in a gradient later.
    with torch.inference_mode(False):
        robot = Robot.from_urdf(folder / "robot.urdf", name=str(values.get("name", folder.name)))
        try:
            return _model(folder, robot, values)
        except BadFile:
            raise
        except VAPSimError as error:
            raise BadFile(path, str(error)) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    except json.JSONDecodeError as error:
        raise BadFile(path, f"is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise BadFile(path, f"holds a {type(values).__name__}, expected an object")
    return values


def _model(folder: Path, robot: Robot, values: Mapping[str, Any]) -> RobotModel:
    flange, tool = (_link(robot, values, field) for field in ("flange_link", "tool_link"))
    skeleton = _skeleton(robot, folder / "skeleton.json")
    cameras = {name: Camera.from_dict(v, name=name) for name, v in _object(values, "cameras").items()}
    for camera in cameras.values():
        if camera.parent_link is not None:
            robot.link_index(camera.parent_link)
    gripper = _gripper(robot, _object(values, "gripper")) if values.get("gripper") is not None else None
    return RobotModel(robot, skeleton, MappingProxyType(cameras), gripper, flange, tool, _home(robot, values), folder)


def _skeleton(robot: Robot, path: Path) -> SkeletonSpec:
    skeleton = SkeletonSpec.load(path)
    for point in skeleton.points:
        try:
            robot.link_index(point.link)
        except UnknownName as error:
            raise BadFile(path, f"key point {point.name!r}: {error}") from error
    return skeleton


def _object(values: Mapping[str, Any], field: str) -> Mapping[str, Any]:
    value = values.get(field, {})
    if not isinstance(value, dict):
        raise InvalidInput(f"field {field!r}", type(value).__name__, "an object")
    return value


def _link(robot: Robot, values: Mapping[str, Any], field: str) -> str:
    if field not in values:
        raise InvalidInput(f"field {field!r}", "nothing", "the name of a link")
    name = str(values[field])
    robot.link_index(name)
    return name


def _gripper(robot: Robot, values: Mapping[str, Any]) -> GripperSpec:
    try:
        spec = GripperSpec(str(values["joint"]), float(values["open"]), float(values["closed"]))
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInput("field 'gripper'", dict(values), f"joint, open, closed ({error!r})") from error
    robot.joint_index(spec.joint)
    if spec.open_value == spec.closed_value:
        raise InvalidInput("field 'gripper'", dict(values), "open and closed values that differ")
    return spec


def _home(robot: Robot, values: Mapping[str, Any]) -> Tensor:
    """The start pose: zero, or the nearest value within the limits, for joints the file does not name."""
    home = torch.zeros(robot.num_joints)
    for name, value in _object(values, "home").items():
        try:
            home[robot.joint_index(name)] = float(value)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"home of joint {name!r}", value, "a number") from error
    return robot.clamp(home)
