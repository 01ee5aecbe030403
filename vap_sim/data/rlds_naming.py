"""What the features of well-known RLDS datasets mean, in which units: DROID, Bridge V2 and RT-1.

RLDS names features but not their meaning, and texts in `features.json` are often left over from the template that a
dataset was made from (Bridge calls its Cartesian deltas joint velocities). What is not known here is left out and named
in an episode's notes. Sources: `droid.py` of the DROID dataset builder (arXiv 2403.12945); the robot code of Bridge V2
(Walke et al., arXiv 2308.12952), whose `state` is x y z [m] and roll pitch yaw [rad] of the gripper, relative to
pointing down, and how far the gripper is open; RT-1 (Brohan et al., arXiv 2212.06817), as `fractal20220817_data`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.data import droid_log
from vap_sim.data.episode import Array
from vap_sim.data.logged import poses_from_euler
from vap_sim.data.rlds_features import FeatureSpec
from vap_sim.data.rlds_record import Record

SEEN = "steps/observation/"
_BRIDGE_REST = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])
"""Axes of Bridge's gripper frame, x along the fingers, where roll, pitch and yaw are zero."""
_BRIDGE_SLACK = 0.2
"""How far Bridge's gripper may be open beyond its range, whose ends differ between versions of its robot code."""
_TEXTS = ("steps/language_instruction", "steps/language_instruction_2", "steps/language_instruction_3",
          SEEN + "natural_language_instruction")  # fmt: skip


@dataclass(frozen=True)
class Naming:
    """How one dataset names what.

    name: of the dataset, for notes; needs: width of the features that it must have; frame_rate [Hz]; members: of an
    episode, from its record; views: names for cameras, where they differ from their features'.
    """

    name: str
    needs: Mapping[str, int]
    frame_rate: float | None
    members: Callable[[Record], dict[str, Any]]
    views: Mapping[str, str] = field(default_factory=dict)


def naming_of(dataset: str, specs: Mapping[str, FeatureSpec]) -> Naming:
    """The naming of a dataset by its name and features; that of unknown ones where none fits."""
    for prefix, naming in _KNOWN.items():
        has = all(key in specs and specs[key].width == width for key, width in naming.needs.items())
        if dataset.startswith(prefix) and has:
            return naming
    return Naming(dataset, {}, None, _unknown)


def instruction(record: Record) -> str:
    """The first text that is not empty."""
    return next((text for key in _TEXTS if (text := record.text(key))), "")


def _droid(record: Record) -> dict[str, Any]:
    names = (SEEN + "joint_position", SEEN + "gripper_position", SEEN + "cartesian_position")
    joints, gripper, flange = (record.numbers(name) for name in names)
    members = droid_log.measured(record.log, joints, gripper[:, 0], flange, names)
    commands = "steps/action_dict/"
    if commands + "joint_position" in record.specs:
        members["joint_targets"] = record.numbers(commands + "joint_position")
    if {commands + "joint_velocity", commands + "gripper_position"} <= set(record.specs):
        parts = [record.numbers(commands + "joint_velocity"), record.numbers(commands + "gripper_position")]
        members |= {"actions": np.concatenate(parts, 1), "action_names": droid_log.COMMANDS}
        members["notes"] = (*members["notes"], droid_log.COMMAND_NOTE)
    place = record.text("episode_metadata/file_path") or record.text("episode_metadata/recording_folderpath")
    outcomes = {word == "success" for word in place.split("/") if word in ("success", "failure")}
    return members | {"success": outcomes.pop() if len(outcomes) == 1 else None}


def _bridge(record: Record) -> dict[str, Any]:
    key = SEEN + "state"
    state = record.numbers(key)
    tool = poses_from_euler(state[:, :6])
    tool[:, :3, :3] = tool[:, :3, :3] @ _BRIDGE_REST
    shut, notes = record.log.gripper(1 - state[:, -1], key, _BRIDGE_SLACK)
    actions, names = _actions(record)
    if names == tuple(f"action_{k}" for k in range(7)):
        names = ("x", "y", "z", "roll", "pitch", "yaw", "gripper_open")
    return {
        "robot": "widowx", "tool": tool, "tool_link": "ee_gripper_link", "gripper": shut,
        "actions": actions, "action_names": names,
        "notes": (
            *notes,
            "the arm's base is taken not to be turned in its workspace; if it is, so is tool about the upright",
            "actions: steps of the gripper frame [m, rad], and whether the gripper is to be open",
            *_left_out(record, {key}),
        ),
    }  # fmt: skip


def _fractal(record: Record) -> dict[str, Any]:
    pose, shut = SEEN + "base_pose_tool_reached", SEEN + "gripper_closed"
    reached, actions = record.numbers(pose), _actions(record)
    lengths = np.linalg.norm(reached[:, 3:], axis=1)
    if np.abs(lengths - 1).max() > 0.01:
        record.log.refuse(pose, f"has a quaternion of length {lengths[np.abs(lengths - 1).argmax()]:.3g}, expected 1")
    tool = np.tile(np.eye(4), (record.length, 1, 1))
    tool[:, :3, :3], tool[:, :3, 3] = Rotation.from_quat(reached[:, 3:]).as_matrix(), reached[:, :3]
    gripper, notes = record.log.gripper(record.numbers(shut)[:, 0], shut)
    told = record.flag("aspects/has_aspects")
    left_out = _left_out(record, {pose, shut})
    return {
        "robot": "google_robot", "tool": tool, "gripper": gripper, "actions": actions[0], "action_names": actions[1],
        "success": record.flag("aspects/success") if told else None,
        "notes": (*notes, "tool is the frame that the robot reports; its link is not stated", *left_out),
    }  # fmt: skip


def _unknown(record: Record) -> dict[str, Any]:
    actions, names = _actions(record)
    notes = ("actions are as logged: their units are not stated",) if actions is not None else ()
    return {"actions": actions, "action_names": names, "notes": (*notes, *_left_out(record, set()))}


def _actions(record: Record) -> tuple[Array | None, tuple[str, ...]]:
    """`action`, one table or several side by side, and names for its columns."""
    keys = [k for k, spec in record.specs.items() if spec.kind == "numbers" and spec.per_step]
    keys = [k for k in keys if k == "steps/action" or k.startswith("steps/action/")]
    if not keys:
        return None, ()
    names: list[str] = []
    for key in keys:
        name, width = key.removeprefix("steps/action/").removeprefix("steps/"), record.specs[key].width
        names += [name] if record.specs[key].shape == () else [f"{name}_{k}" for k in range(width)]
    return np.concatenate([record.numbers(key) for key in keys], axis=1), tuple(names)


def _left_out(record: Record, used: set[str]) -> tuple[str, ...]:
    others = [k for k, s in record.specs.items() if k.startswith(SEEN) and s.kind == "numbers" and k not in used]
    others = [key.removeprefix(SEEN) for key in others if "embedding" not in key]
    return (f"observations of unstated meaning are left out: {', '.join(others)}",) if others else ()


_KNOWN: Mapping[str, Naming] = {
    "droid": Naming(
        "DROID", {SEEN + "joint_position": 7, SEEN + "gripper_position": 1, SEEN + "cartesian_position": 6},
        droid_log.CONTROL_RATE, _droid,
        {"exterior_image_1_left": "exterior_1", "exterior_image_2_left": "exterior_2", "wrist_image_left": "wrist"},
    ),
    "bridge": Naming("Bridge V2", {SEEN + "state": 7}, 5.0, _bridge),
    "fractal": Naming("RT-1", {SEEN + "base_pose_tool_reached": 7, SEEN + "gripper_closed": 1}, 3.0, _fractal),
}  # fmt: skip
