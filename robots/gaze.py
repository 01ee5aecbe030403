"""Where a head that moves freely looks: from its joints to what lies ahead of it, and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import Unsupported
from vap_sim.robots.library import RobotModel

Array = NDArray[np.float64]
HEAD = ("head_x", "head_y", "head_z", "head_yaw", "head_pitch", "head_roll")
"""Joints that place a head which looks along its x axis, z up."""
_LONGEST = 1.2  # [m] to what is looked at where the gaze misses the table


def head_places(model: RobotModel) -> list[int]:
    """Where HEAD stands among a robot's joints. Raises Unsupported for a robot without such a head."""
    names = model.robot.joint_names
    missing = [name for name in HEAD if name not in names]
    if missing:
        raise Unsupported(f"robot {model.name!r} has no head that moves freely: no joint {missing[0]!r}")
    return [names.index(name) for name in HEAD]


def head_values(eye: Array, target: Array, roll: float = 0.0) -> Array:
    """Values (6,) [m, rad] of HEAD for an eye at `eye` (3,) that looks at `target` (3,) [m], tilted by `roll` [rad]."""
    way = target - eye
    return np.array([*eye, np.arctan2(way[1], way[0]), np.arctan2(-way[2], np.hypot(way[0], way[1])), roll])


def looking_at(model: RobotModel, joints: Array, eye: Array, target: Array, roll: float = 0.0) -> Array:
    """Joints (J,) [rad, m] with the head's place at `eye` (3,), its gaze on `target` (3,) [m], tilted by `roll` [rad].

    Raises Unsupported for a robot without such a head.
    """
    out, places = np.asarray(joints, np.float64).copy(), head_places(model)
    out[places] = head_values(np.asarray(eye, np.float64), np.asarray(target, np.float64), roll)
    return out


def looked_at(values: Array, height: float = 0.0) -> Array:
    """What a head with the values (6,) of HEAD looks at (3,) [m]: the plane z = `height`, or not too far ahead."""
    eye, (yaw, pitch, _) = values[:3], values[3:]
    ahead = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)])
    reach = (height - eye[2]) / ahead[2] if ahead[2] < -1e-3 else _LONGEST
    found: Array = eye + ahead * float(np.clip(reach, 0.1, _LONGEST))
    return found
