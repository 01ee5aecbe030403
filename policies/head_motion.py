"""How a head moves while it looks at what its hand does: small sways, and a gaze that follows the work with a lag."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import Unsupported
from vap_sim.robots.library import RobotModel

Array = NDArray[np.float64]
HEAD = ("head_x", "head_y", "head_z", "head_yaw", "head_pitch", "head_roll")
"""Joints that place a head which looks along its x axis, z up."""
_LAG = 0.8  # [s] with which the gaze follows
_SHARE = 0.6  # of the way to what is watched that the gaze goes
_LEAN = 0.10  # [m] that the head moves along for every metre that the gaze moves
_SWAYS, _RATES = (0.003, 0.009), (0.06, 0.25)
"""Sizes [m] and rates [Hz] of the waves that a sway is made of."""
_ROLL = 1.5  # [rad] of roll for every metre of sway
_LONGEST = 1.2  # [m] to what is looked at where the gaze misses the table
_HEIGHT = 0.03  # [m] above the table of what is looked at


def looking_at(model: RobotModel, joints: Array, eye: Array, target: Array, roll: float = 0.0) -> Array:
    """Joints (J,) [rad, m] with the head's place at `eye` (3,), its gaze on `target` (3,) [m], tilted by `roll` [rad].

    Raises Unsupported for a robot without such a head.
    """
    out, places = np.asarray(joints, np.float64).copy(), _places(model)
    out[places] = _head(np.asarray(eye, np.float64), np.asarray(target, np.float64), roll)
    return out


def onlooking(model: RobotModel, targets: Array, watched: Array, control_dt: float, rng: np.random.Generator) -> Array:
    """Joint targets (T, J) with a head that looks on, from where it is in the first of them.

    watched: (T, 3) [m] what the hand works at; control_dt [s]: between targets; rng: decides how the head sways. Raises
    Unsupported for a robot without such a head.
    """
    out, places = np.asarray(targets, np.float64).copy(), _places(model)
    eye, first = out[0, places[:3]], out[0, places[3:]]
    start = eye + _gaze(eye, first)
    time = np.arange(1, len(out) + 1, dtype=np.float64) * control_dt
    sways, strays = _sway(rng, time, 3), _sway(rng, time, 3)
    gaze, keep = start.copy(), np.exp(-control_dt / _LAG)
    for row, (point, sway, stray) in enumerate(zip(watched, sways, strays, strict=True)):
        gaze = keep * gaze + (1 - keep) * ((1 - _SHARE) * start + _SHARE * point)
        place = eye + sway + _LEAN * (gaze - start)
        out[row, places] = _head(place, gaze + stray, float(first[2] + _ROLL * sway[1]))
    lower, upper = (bound.double().numpy() for bound in (model.robot.lower, model.robot.upper))
    return np.clip(out, lower, upper)


def _places(model: RobotModel) -> list[int]:
    names = model.robot.joint_names
    missing = [name for name in HEAD if name not in names]
    if missing:
        raise Unsupported(f"robot {model.name!r} has no head that moves freely: no joint {missing[0]!r}")
    return [names.index(name) for name in HEAD]


def _head(eye: Array, target: Array, roll: float) -> Array:
    """Values of HEAD for an eye that looks at a target."""
    way = target - eye
    return np.array([*eye, np.arctan2(way[1], way[0]), np.arctan2(-way[2], np.hypot(way[0], way[1])), roll])


def _gaze(eye: Array, turns: Array) -> Array:
    """From the eye to what it looks at by its yaw, pitch and roll: on the table, or not too far away [m]."""
    yaw, pitch, _ = turns
    ahead = np.array([np.cos(yaw) * np.cos(pitch), np.sin(yaw) * np.cos(pitch), -np.sin(pitch)])
    reach = (_HEIGHT - eye[2]) / ahead[2] if ahead[2] < -1e-3 else _LONGEST
    return ahead * float(np.clip(reach, 0.1, _LONGEST))


def _sway(rng: np.random.Generator, time: Array, axes: int) -> Array:
    """(T, axes) [m] two slow waves an axis, nothing at time zero."""
    size, rate = rng.uniform(*_SWAYS, (2, axes)), rng.uniform(*_RATES, (2, axes))
    phase = rng.uniform(0, 2 * np.pi, (2, axes))
    angle = 2 * np.pi * rate * time[:, None, None] + phase
    return np.asarray((size * (np.sin(angle) - np.sin(phase))).sum(1))
