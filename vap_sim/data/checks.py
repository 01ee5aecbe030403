"""What is wrong with a recording, or odd: units, limits and speeds of a robot, logged poses, lengths, frozen pictures.

Nothing is repaired here. A finding is an error where the episode cannot be used as it is, and a warning where it can be
but should be looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.data.episode import Episode, Footage
from vap_sim.errors import BadFile, UnknownName
from vap_sim.robots.library import RobotModel

KINDS = (
    "joint count", "degrees", "limits", "speed", "still log", "no such link", "millimetres", "pose",
    "length", "unreadable", "frozen", "blank",
)  # fmt: skip
LIMIT_SLACK = 0.02
"""How far beyond a limit a measured joint may be [rad or m]: encoders and URDF files differ by as much."""
SPEED_SLACK = 1.1
"""Share of a joint's highest speed that it may reach by the noise of a log."""
POSE_WARNING, POSE_ERROR = 1e-3, 1e-2
"""Median distance between a logged pose and the one that the joints give [m]."""
MOVED = 0.01
"""A joint that moves so far between two frames [rad or m] moves something in the picture."""
_STILL = 1e-5
_BLANK = 2.0  # grey levels of spread within a picture

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """kind: one of KINDS; field: of the episode, or "views/NAME"; message: what, where and how much; error: whether the
    episode cannot be used as it is."""

    kind: str
    field: str
    message: str
    error: bool


def check_episode(episode: Episode, robot: RobotModel | None = None, *, pictures: bool = True) -> tuple[Finding, ...]:
    """Everything that is found wrong or odd, in the order of KINDS.

    Without a robot its joints are not judged; without `pictures` no frame is decoded. Numbers that are not finite and
    rows of other lengths need no check: an episode that has them does not exist (see `Episode`).
    """
    found = [] if robot is None else [*_joint_findings(episode, robot), *_pose_findings(episode, robot)]
    found += [finding for name, footage in episode.views.items() for finding in _seen(episode, name, footage, pictures)]
    return tuple(sorted(found, key=lambda finding: KINDS.index(finding.kind)))


def arm_joints(robot: RobotModel) -> tuple[str, ...]:
    """The robot's joints without that of its gripper: what `Episode.joints` has a column for, in this order."""
    gripper = None if robot.gripper is None else robot.gripper.joint
    return tuple(name for name in robot.robot.joint_names if name != gripper)


def full_joints(episode: Episode, robot: RobotModel) -> Array:
    """Joints (T, J) [rad or m] in the robot's own order, with the gripper's; one that is not logged is open.

    The episode must have as many joints as `arm_joints`.
    """
    assert episode.joints is not None
    whole = np.zeros((episode.length, robot.robot.num_joints))
    for column, name in enumerate(arm_joints(robot)):
        whole[:, robot.robot.joint_index(name)] = episode.joints[:, column]
    if robot.gripper is not None:
        position = torch.zeros(episode.length) if episode.gripper is None else torch.from_numpy(episode.gripper)
        whole[:, robot.robot.joint_index(robot.gripper.joint)] = robot.gripper.to_joint(position).numpy()
    return whole


def pose_errors(episode: Episode, robot: RobotModel) -> Array | None:
    """Distance (T,) [m] between the logged origin of `tool_link` and the one that the joints give; None without both.

    Raises UnknownName for a link that the robot has not.
    """
    poses = _poses(episode, robot)
    if poses is None or episode.tool is None:
        return None
    distance: Array = np.linalg.norm(episode.tool[:, :3, 3] - poses[:, :3, 3], axis=1)
    return distance


def _poses(episode: Episode, robot: RobotModel) -> Array | None:
    """(T, 4, 4) of the link whose pose is logged, by the joints."""
    fits = episode.joints is not None and episode.joints.shape[1] == len(arm_joints(robot))
    if episode.tool is None or episode.tool_link is None or not fits:
        return None
    link = robot.robot.link_index(episode.tool_link)
    found: Array = robot.robot.forward(torch.from_numpy(full_joints(episode, robot)))[:, link].numpy()
    return found


def _joint_findings(episode: Episode, robot: RobotModel) -> Iterator[Finding]:
    names = arm_joints(robot)
    for field in ("joints", "joint_targets"):
        values: Array | None = getattr(episode, field)
        if values is None:
            continue
        if values.shape[1] != len(names):
            own = "" if robot.gripper is None else f", and {robot.gripper.joint!r}, which belongs into 'gripper'"
            told = f"{values.shape[1]} joints; {robot.name} has {len(names)}: {', '.join(names)}{own}"
            yield Finding("joint count", field, told, error=True)
            continue
        bounds = _bounds(robot, names)
        if (worst := _as_degrees(values, bounds)) is not None:
            frame, joint = worst
            told = f"{names[joint]} is {values[frame, joint]:.4g} in frame {frame}: these are degrees, not radians"
            yield Finding("degrees", field, told, error=True)
            continue
        yield from _beyond(field, values, names, bounds)
        if field == "joints":
            yield from _too_fast(episode, values, names, bounds)
            if episode.length > 1 and np.ptp(values, axis=0).max() < _STILL:
                yield Finding("still log", field, "no joint moves in any frame", error=False)


def _bounds(robot: RobotModel, names: tuple[str, ...]) -> tuple[Array, Array, Array]:
    """Lower and upper limits and highest speeds (J,) of some joints."""
    columns = [robot.robot.joint_index(name) for name in names]
    lower, upper, speed = (
        bound[columns].double().numpy() for bound in (robot.robot.lower, robot.robot.upper, robot.robot.max_speed)
    )
    return lower, upper, speed


def _as_degrees(values: Array, bounds: tuple[Array, Array, Array]) -> tuple[int, int] | None:
    """Frame and joint farthest beyond its limit, where all would fit as degrees and some are beyond a whole turn."""
    lower, upper, _ = bounds
    excess = _excess(values, lower, upper)
    turned = np.radians(values)
    if np.abs(values).max() <= 2 * math.pi or (_excess(turned, lower, upper) > 0.1).any() or excess.max() <= 0.1:
        return None
    frame, joint = np.unravel_index(int(excess.argmax()), excess.shape)
    return int(frame), int(joint)


def _excess(values: Array, lower: Array, upper: Array) -> Array:
    return np.maximum(np.maximum(lower - values, values - upper), 0)


def _beyond(field: str, values: Array, names: tuple[str, ...], bounds: tuple[Array, Array, Array]) -> Iterator[Finding]:
    lower, upper, _ = bounds
    excess = _excess(values, lower, upper)
    for joint, name in enumerate(names):
        frames = np.flatnonzero(excess[:, joint] > LIMIT_SLACK)
        if len(frames):
            frame = int(excess[:, joint].argmax())
            limits = f"{lower[joint]:.3f} to {upper[joint]:.3f}"
            told = f"{name} is {values[frame, joint]:.3f} in frame {frame}, its limits are {limits}"
            yield Finding("limits", field, f"{told} ({len(frames)} of {len(values)} frames)", error=False)


def _too_fast(
    episode: Episode, values: Array, names: tuple[str, ...], bounds: tuple[Array, Array, Array]
) -> Iterator[Finding]:
    speeds = np.abs(np.diff(values, axis=0)) * episode.frame_rate
    for joint, name in enumerate(names):
        highest = bounds[2][joint]
        if not len(speeds) or not 0 < highest < np.inf or speeds[:, joint].max() <= SPEED_SLACK * highest:
            continue
        frame = int(speeds[:, joint].argmax())
        count = int((speeds[:, joint] > SPEED_SLACK * highest).sum())
        told = f"{name} moves at {speeds[frame, joint]:.2f} a second after frame {frame}, it can do {highest:.2f}"
        yield Finding("speed", "joints", f"{told} ({count} of {len(speeds)} steps)", error=False)


def _pose_findings(episode: Episode, robot: RobotModel) -> Iterator[Finding]:
    try:
        poses = _poses(episode, robot)
    except UnknownName as error:
        yield Finding("no such link", "tool_link", str(error), error=True)
        return
    if poses is None or episode.tool is None or not _in_radians(episode, robot):
        return
    errors = np.linalg.norm(episode.tool[:, :3, 3] - poses[:, :3, 3], axis=1)
    median = float(np.median(errors))
    if median <= POSE_WARNING:
        return
    scaled = np.linalg.norm(episode.tool[:, :3, 3] / 1000 - poses[:, :3, 3], axis=1)
    if np.median(scaled) <= POSE_ERROR:
        farthest = np.abs(episode.tool[:, :3, 3]).max()
        told = f"positions of {episode.tool_link} reach {farthest:.0f}: these are millimetres, not metres"
        yield Finding("millimetres", "tool", told, error=True)
        return
    told = f"{episode.tool_link} is logged {1000 * median:.1f} mm (median) from where the joints put it"
    told += f", {1000 * errors.max():.1f} mm at most, in frame {int(errors.argmax())}"
    # Seen from the link itself, another link of the same body stands still.
    offsets = np.einsum("tji,tj->ti", poses[:, :3, :3], episode.tool[:, :3, 3] - poses[:, :3, 3])
    if np.linalg.norm(offsets.std(0)) < 0.1 * median:
        offset = ", ".join(f"{1000 * value:z.1f}" for value in np.median(offsets, axis=0))
        told += f"; always at ({offset}) mm in its frame: the pose of another link"
    yield Finding("pose", "tool", told, error=median > POSE_ERROR)


def _in_radians(episode: Episode, robot: RobotModel) -> bool:
    assert episode.joints is not None
    return _as_degrees(episode.joints, _bounds(robot, arm_joints(robot))) is None


def _seen(episode: Episode, name: str, footage: Footage, pictures: bool) -> Iterator[Finding]:
    """Findings about one view."""
    field = f"views/{name}"
    try:
        length = footage.length
        if length != episode.length:
            told = f"{length} frames of video for {episode.length} rows of the log"
            yield Finding("length", field, told, error=True)
        if pictures:
            yield from _looked_at(episode, field, footage)
    except BadFile as error:
        yield Finding("unreadable", field, str(error), error=True)


def _looked_at(episode: Episode, field: str, footage: Footage) -> Iterator[Finding]:
    """Frames that repeat the one before though the robot moved, and frames of one colour."""
    moved = None if episode.joints is None else np.abs(np.diff(episode.joints, axis=0)).max(1, initial=0) > MOVED
    before: np.ndarray | None = None
    repeated: list[int] = []
    blank: list[int] = []
    for number, picture in enumerate(footage.frames()):
        if picture[::4, ::4].std() < _BLANK:
            blank.append(number)
        same = before is not None and np.array_equal(before, picture)
        # A picture of a scene at rest may well be the same twice.
        if same and moved is not None and number <= len(moved) and moved[number - 1]:
            repeated.append(number)
        before = picture
    if repeated:
        told = (
            f"{len(repeated)} of {number + 1} frames repeat the one before though the robot moves, first {repeated[0]}"
        )
        yield Finding("frozen", field, told, error=len(repeated) > number / 2)
    if blank:
        told = f"{len(blank)} of {number + 1} frames are of one colour, first {blank[0]}"
        yield Finding("blank", field, told, error=len(blank) > number / 2)
