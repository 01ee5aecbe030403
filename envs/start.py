"""Starts: where a dream begins. Pictures, joints and cameras of one moment, from the twin, a recording or a photo."""

from __future__ import annotations

import json
import os
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from vap_sim.envs.demonstrating import load_demonstration, motion_names, save_demonstration
from vap_sim.envs.stations import get_station, station_names
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.prompts.visual_prompt import ReferenceClip
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

_SHELF = Path(__file__).parent / "start_frames"
_RECORD = "start.json"
_LARGEST_SIDE = 4096
_LIMIT_SLACK = 1e-3  # [rad or m] measured joints may overshoot a limit by this much
_GRIPPER_SLACK = 0.02


@dataclass(frozen=True, eq=False)
class Start:
    """One moment of one robot. V views, J independent joints.

    frames: (V, H, W, 3) uint8 RGB, one picture a camera; joints: (J,) float32 [rad or m], the gripper's joint included;
    gripper: 0 open .. 1 closed; cameras: V cameras of that size, without leading axes; robot: the name of the robot;
    scene: what the twin needs to build the same scene (`Scene.to_dict()`), or None; instruction: the task in words;
    demonstration: a video, one row, of what shall happen, for worlds that can be shown one; motion: names of learned
    motions, for worlds that have learned some. Raises InvalidInput where the parts disagree.
    """

    frames: Tensor
    joints: Tensor
    gripper: float
    cameras: tuple[Camera, ...]
    name: str = ""
    robot: str = "panda_robotiq"
    scene: dict[str, Any] | None = None
    instruction: str = ""
    demonstration: ReferenceClip | None = None
    motion: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        frames, joints = self.frames, self.joints
        what = f"start {self.name!r}"
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or min(frames.shape) < 1:
            given = f"{frames.dtype} {tuple(frames.shape)}"
            raise InvalidInput(f"frames of {what}", given, "torch.uint8 (V, H, W, 3), levels 0..255")
        if joints.dtype != torch.float32 or joints.ndim != 1 or not bool(torch.isfinite(joints).all()):
            given = f"{joints.dtype} {tuple(joints.shape)}, {joints.tolist()}"
            raise InvalidInput(f"joints of {what}", given, "finite torch.float32 (J,)")
        if not 0 <= self.gripper <= 1:
            raise InvalidInput(f"gripper of {what}", self.gripper, "a number from 0 (open) to 1 (closed)")
        if len(self.cameras) != frames.shape[0]:
            raise InvalidInput(f"cameras of {what}", len(self.cameras), f"{frames.shape[0]}, one for each picture")
        for camera in self.cameras:
            if camera.intrinsics.ndim != 2:
                raise InvalidInput(f"camera {camera.name!r} of {what}", "a batch of cameras", "a single camera")
            if tuple(camera.size) != self.size:
                raise InvalidInput(
                    f"size of camera {camera.name!r} of {what}", camera.size, f"{self.size}, as its picture has"
                )

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures [px]."""
        return int(self.frames.shape[2]), int(self.frames.shape[1])

    def resized(self, size: tuple[int, int]) -> Start:
        """The same moment at another size (width, height): pictures sampled anew, cameras to match."""
        pictures = [_resize(frame.numpy(), size) for frame in self.frames]
        cameras = tuple(camera.resized(size) for camera in self.cameras)
        return replace(self, frames=torch.from_numpy(np.stack(pictures)), cameras=cameras)

    def save(self, folder: str | Path) -> Path:
        """Write `start.json`, one PNG a camera and the demonstration, if there is one, into `folder`, which is made if
        need be. Undone by `load`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names) or not all(_is_plain(name) for name in names):
            raise InvalidInput("camera names of a start to save", names, "different names of letters, digits, _ and -")
        for name, frame in zip(names, self.frames, strict=True):
            _, png = cv2.imencode(
                ".png", cv2.cvtColor(frame.numpy(), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 9]
            )
            _write(folder / f"{name}.png", png.tobytes())
        record = {
            "name": self.name,
            "robot": self.robot,
            "instruction": self.instruction,
            "joints": self.joints.tolist(),
            "gripper": self.gripper,
            "cameras": [camera.to_dict() for camera in self.cameras],
            "scene": self.scene,
        }
        if self.motion:
            record["motion"] = list(self.motion)
        save_demonstration(folder, self.demonstration)
        _write(folder / _RECORD, json.dumps(record, indent=1).encode())
        return folder

    @staticmethod
    def load(folder: str | Path) -> Start:
        """The start that `save` wrote. Raises BadFile with the file and field at fault."""
        path = Path(folder) / _RECORD
        record = _read_record(path)
        try:
            cameras = tuple(Camera.from_dict(values) for values in record["cameras"])
            frames = [_read_picture(path.parent, camera) for camera in cameras]
            scene = record.get("scene")
            if scene is not None and not isinstance(scene, dict):
                raise InvalidInput("scene", type(scene).__name__, "an object or null")
            return Start(
                frames=torch.from_numpy(np.stack(frames)),
                joints=torch.tensor(record["joints"], dtype=torch.float32),
                gripper=float(record["gripper"]),
                cameras=cameras,
                name=str(record.get("name", "")),
                robot=str(record["robot"]),
                scene=scene,
                instruction=str(record.get("instruction", "")),
                demonstration=load_demonstration(path.parent),
                motion=motion_names(record.get("motion", ())),
            )
        except BadFile:
            raise
        except KeyError as error:
            raise BadFile(path, f"no field {error}") from error
        except (TypeError, ValueError, AttributeError) as error:
            raise BadFile(path, str(error)) from error


def shipped_starts(task: str | None = None, station: str = "DROID") -> tuple[str, ...]:
    """Names of the starts of a station that come with the package, or of those made for one of its tasks.

    They are `<task>_<number>` at DROID and `<station>_<task>_<number>` elsewhere. Raises UnknownName for the station.
    """
    prefix = _prefix(get_station(station).name)
    others = tuple(_prefix(name) for name in station_names() if _prefix(name))
    own = [name for name in _shelf() if (name.startswith(prefix) if prefix else not name.startswith(others))]
    return tuple(name for name in own if task is None or name.rpartition("_")[0] == prefix + task)


def _prefix(station: str) -> str:
    return "" if station == "DROID" else f"{station.lower()}_"


def load_start(name: str | Path) -> Start:
    """The shipped start of that name, or the one saved in a folder (given as Path).

    Raises UnknownName with the nearest name, or BadFile.
    """
    if isinstance(name, Path):
        return Start.load(name)
    if name not in _shelf():
        raise UnknownName("start", name, _shelf())
    return _shipped(name)


def photo_start(
    image: ArrayLike | Tensor,
    joints: ArrayLike | Tensor,
    camera: Camera | str | Sequence[Camera],
    *,
    gripper: float | None = None,
    robot: str | Path | RobotModel = "panda_robotiq",
    size: tuple[int, int] | None = None,
    instruction: str = "",
    name: str = "photo",
) -> Start:
    """A start from your own photo.

    Args:
        image: (H, W, 3) uint8 RGB, or (V, H, W, 3) with one picture a camera.
        joints: (J,) all independent joints [rad or m]; with `gripper` given also without the gripper's joint.
        camera: the calibrated camera of that picture size, the name of one of the robot's own, or one camera a view.
        gripper: 0 open .. 1 closed; None reads it off `joints`.
        robot: its name, or its folder, or the robot itself.
        size: (width, height) to which pictures and cameras are sampled; None keeps them.

    Raises InvalidInput or UnknownName for what does not fit; nothing is scaled or guessed silently.
    """
    model = robot if isinstance(robot, RobotModel) else load_robot(robot)
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise InvalidInput("photo", f"{pixels.dtype} {pixels.shape}", "uint8 levels 0..255 (not 0..1), (H, W, 3) RGB")
    if pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
        raise InvalidInput("photo", f"shape {pixels.shape}", "(H, W, 3) RGB, or (V, H, W, 3)")
    frames = torch.from_numpy(np.array(pixels if pixels.ndim == 4 else pixels[None]))
    cameras = (camera,) if isinstance(camera, Camera | str) else tuple(camera)
    views = tuple(model.camera(item) if isinstance(item, str) else item for item in cameras)
    full, closed = _joints(model, joints, gripper)
    start = Start(frames, full, closed, views, name, model.name, None, instruction)
    return start if size is None or size == start.size else start.resized(size)


def check_start(start: Start, model: RobotModel, size: tuple[int, int], views: int) -> None:
    """Raises InvalidInput unless a dream of `model` with `views` pictures of `size` (width, height) can begin there."""
    what = f"start {start.name!r}"
    robot = model.robot
    if start.robot != model.name:
        raise InvalidInput(f"robot of {what}", start.robot, f"{model.name!r}, as the environment has")
    if start.size != tuple(size):
        hint = f"{tuple(size)}; start.resized({tuple(size)}), or photo_start(..., size={tuple(size)}), samples it anew"
        raise InvalidInput(f"size of the pictures of {what}", start.size, hint)
    if len(start.cameras) != views:
        names = [camera.name for camera in start.cameras]
        raise InvalidInput(f"views of {what}", names, f"{views}, as the world model has")
    if start.joints.shape != (robot.num_joints,):
        expected = f"({robot.num_joints},): {', '.join(robot.joint_names)}"
        raise InvalidInput(f"joints of {what}", tuple(start.joints.shape), expected)
    outside = (start.joints < robot.lower - _LIMIT_SLACK) | (start.joints > robot.upper + _LIMIT_SLACK)
    if bool(outside.any()):
        worst = int(outside.int().argmax())
        limits = f"a value in [{float(robot.lower[worst]):g}, {float(robot.upper[worst]):g}]"
        raise InvalidInput(f"joint {robot.joint_names[worst]!r} of {what}", float(start.joints[worst]), limits)
    _, closed = _joints(model, start.joints, None)
    if abs(closed - start.gripper) > _GRIPPER_SLACK:
        raise InvalidInput(f"gripper of {what}", start.gripper, f"{closed:.3f}, as its joint says")
    for camera in start.cameras:
        _check_sight(model, start, camera)


def _check_sight(model: RobotModel, start: Start, camera: Camera) -> None:
    poses = model.robot.forward(start.joints)
    points = model.skeleton.positions(model.robot, poses)
    xy, depth = camera.project(points, poses, model.robot)
    width, height = camera.size
    inside = (xy >= -0.5).all(-1) & (xy[:, 0] < width - 0.5) & (xy[:, 1] < height - 0.5) & (depth > 0)
    if not bool(inside.any()):
        behind = int((depth <= 0).sum())
        given = f"{behind} of {len(depth)} points of the robot behind it, the rest outside of its picture"
        expected = "a camera that sees the robot (x right, y down, z forward; metres in the robot's base frame)"
        raise InvalidInput(f"camera {camera.name!r} of start {start.name!r}", given, expected)


def _joints(model: RobotModel, joints: ArrayLike | Tensor, gripper: float | None) -> tuple[Tensor, float]:
    """All joints (J,) float32 and the gripper's position, the one from the other where it is missing."""
    try:
        values = torch.as_tensor(np.asarray(joints, dtype=np.float32)).clone()
    except (TypeError, ValueError) as error:
        raise InvalidInput("joints", joints, f"numbers ({error})") from error
    spec = model.gripper
    if spec is None:
        return values, 0.0
    index = model.robot.joint_index(spec.joint)
    if gripper is not None and values.shape == (model.robot.num_joints - 1,):
        joint = spec.to_joint(torch.tensor([float(gripper)]))
        values = torch.cat([values[:index], joint, values[index:]])
    if values.shape != (model.robot.num_joints,):
        expected = f"({model.robot.num_joints},): {', '.join(model.robot.joint_names)}"
        raise InvalidInput("joints", f"shape {tuple(values.shape)}", expected)
    read = min(max(float(spec.to_position(values[index])), 0.0), 1.0)
    return values, read if gripper is None else float(gripper)


@lru_cache(maxsize=1)
def _shelf() -> tuple[str, ...]:
    return tuple(sorted(path.parent.name for path in _SHELF.glob(f"*/{_RECORD}")))


@lru_cache(maxsize=256)
def _shipped(name: str) -> Start:
    return Start.load(_SHELF / name)


def _is_plain(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) is not None


def _resize(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    shrinks = size[0] < picture.shape[1] or size[1] < picture.shape[0]
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR))


def _write(path: Path, content: bytes) -> None:
    """All or nothing: the file appears under its name when it is complete."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_bytes(content)
    os.replace(part, path)


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise BadFile(path, f"is not JSON ({error})") from error
    if not isinstance(record, Mapping):
        raise BadFile(path, f"holds a {type(record).__name__}, expected an object")
    return dict(record)


def _read_picture(folder: Path, camera: Camera) -> np.ndarray:
    """The RGB picture of a camera; its size is checked before anything is unpacked."""
    if not _is_plain(camera.name):
        raise BadFile(folder / _RECORD, f"camera name {camera.name!r}, expected letters, digits, _ and -")
    path = folder / f"{camera.name}.png"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    if len(content) < 24 or content[:8] != b"\x89PNG\r\n\x1a\n" or content[12:16] != b"IHDR":
        raise BadFile(path, "is not a PNG picture")
    size = struct.unpack(">II", content[16:24])
    if size != tuple(camera.size) or max(size) > _LARGEST_SIDE:
        raise BadFile(path, f"is {size[0]} x {size[1]} pixels, the camera says {camera.size} (at most {_LARGEST_SIDE})")
    picture = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise BadFile(path, "is damaged")
    return np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB))
