"""How the twin drives a robot's gripper: which joints close with bounded force, what follows them, what grips.

Field `drive` of robot.json says it; for a robot without that field every joint of its gripper is a finger of its own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vap_sim.errors import BadFile, UnknownName
from vap_sim.robots.library import RobotModel
from vap_sim.robots.urdf import UrdfTree, read_urdf

_TORQUE, _PUSH = 4.0, 10.0
"""Force of a finger that turns [Nm] or slides [N] unless robot.json says another."""
_LEAD_SHARE = 0.15


@dataclass(frozen=True)
class Ratio:
    """A joint that follows the gripper's: its value is `scale` times the gripper's joint plus `offset`."""

    scale: float
    offset: float


@dataclass(frozen=True)
class Finger:
    """One finger. joint: closes it; grips: links whose touch counts as its grip and that hold fast; followers: joints
    that keep in step with it, and the force [Nm or N] by which they do."""

    joint: str
    grips: tuple[str, ...]
    followers: Mapping[str, float]


@dataclass(frozen=True)
class Drive:
    """A gripper's fingers.

    force: of each finger [Nm or N], until it is stopped; lead: how far a finger's target may run ahead of the slower
    finger, in the gripper's joint [rad or m]; friction: of what grips; gain: share of a finger's error made good in a
    physics step; ratios: of every joint that moves with the gripper, the gripper's own included.
    """

    fingers: tuple[Finger, ...]
    force: float
    lead: float
    friction: float
    gain: float
    ratios: Mapping[str, Ratio]


def drive_of(model: RobotModel) -> Drive | None:
    """The drive of a robot's gripper; None for a robot without one. Raises BadFile with the field at fault."""
    gripper = model.gripper
    if gripper is None:
        return None
    ratios = _ratios(model, gripper.joint)
    path = model.folder / "robot.json"
    values = json.loads(path.read_text(encoding="utf-8")).get("drive")
    if values is None:
        return _plain(model, ratios)
    try:
        fingers = tuple(
            Finger(
                str(item["joint"]),
                tuple(str(name) for name in item["grips"]),
                MappingProxyType({str(name): float(force) for name, force in item.get("followers", {}).items()}),
            )
            for item in values["fingers"]
        )
        force, lead, friction = (float(values[name]) for name in ("force", "lead", "friction"))
        gain = float(values.get("gain", 0.25))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        expected = "expected fingers (joint, grips, followers), force, lead, friction"
        raise BadFile(path, f"field 'drive': {expected} ({error!r})") from error
    drive = Drive(fingers, force, lead, friction, gain, ratios)
    _check(model, drive)
    return drive


def _check(model: RobotModel, drive: Drive) -> None:
    path = model.folder / "robot.json"
    named = [name for finger in drive.fingers for name in (finger.joint, *finger.followers)]
    try:
        for name in named:
            if name not in drive.ratios:
                raise UnknownName("joint of the gripper", name, drive.ratios)
        for link in (link for finger in drive.fingers for link in finger.grips):
            model.robot.link_index(link)
    except UnknownName as error:
        raise BadFile(path, f"field 'drive': {error}") from error
    left_out = sorted(drive.ratios.keys() - named)
    if left_out or len(set(named)) != len(named):
        raise BadFile(path, f"field 'drive': each joint of the gripper once, without {left_out or named}")
    if not drive.fingers or min(drive.force, drive.lead, drive.friction, drive.gain) <= 0:
        raise BadFile(path, "field 'drive': at least one finger, and force, lead, friction and gain above 0")


def _ratios(model: RobotModel, joint: str) -> Mapping[str, Ratio]:
    """How every joint that the gripper's moves follows it, read off two poses."""
    index = model.robot.joint_index(joint)
    still = model.home.double() * 0
    moved = still.clone()
    moved[index] = 1.0
    rest, full = model.robot.moving(still), model.robot.moving(moved)
    names = [name for name in full if full[name] != rest[name]]
    return MappingProxyType({name: Ratio(full[name] - rest[name], rest[name]) for name in names})


def _plain(model: RobotModel, ratios: Mapping[str, Ratio]) -> Drive:
    """Every joint of the gripper closes on its own, and all links beyond it grip."""
    assert model.gripper is not None, "asked for a robot with a gripper"
    tree = read_urdf(model.folder / "robot.urdf")
    joints = {joint.name: joint for joint in tree.joints}
    fingers = tuple(Finger(name, _beyond(tree, joints[name].child), MappingProxyType({})) for name in ratios)
    travel = abs(model.gripper.closed_value - model.gripper.open_value)
    force = _PUSH if joints[model.gripper.joint].kind == "prismatic" else _TORQUE
    return Drive(fingers, force, _LEAD_SHARE * travel, 1.6, 0.25, ratios)


def _beyond(tree: UrdfTree, link: int) -> tuple[str, ...]:
    """A link and all that hang on it; joints are in the order of their children, parents first."""
    moved = {link}
    for joint in tree.joints:
        if joint.parent in moved:
            moved.add(joint.child)
    return tuple(tree.links[index] for index in sorted(moved))
