"""How a head moves while it looks at what its hand does: small sways, and a gaze that follows the work with a lag."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vap_sim.robots.gaze import head_places, head_values, looked_at
from vap_sim.robots.library import RobotModel

Array = NDArray[np.float64]
_LAG = 0.8  # [s] with which the gaze follows
_SHARE = 0.6  # of the way to what is watched that the gaze goes
_LEAN = 0.10  # [m] that the head moves along for every metre that the gaze moves
_SWAYS, _RATES = (0.003, 0.009), (0.06, 0.25)
"""Sizes [m] and rates [Hz] of the waves that a sway is made of."""
_ROLL = 1.5  # [rad] of roll for every metre of sway
_HEIGHT = 0.03  # [m] above the table of what is looked at


def onlooking(model: RobotModel, targets: Array, watched: Array, control_dt: float, rng: np.random.Generator) -> Array:
    """Joint targets (T, J) with a head that looks on, from where it is in the first of them.

    watched: (T, 3) [m] what the hand works at; control_dt [s]: between targets; rng: decides how the head sways. Raises
    Unsupported for a robot without such a head.
    """
    out, places = np.asarray(targets, np.float64).copy(), head_places(model)
    first = out[0, places]
    eye, start = first[:3], looked_at(first, _HEIGHT)
    time = np.arange(1, len(out) + 1, dtype=np.float64) * control_dt
    sways, strays = _sway(rng, time, 3), _sway(rng, time, 3)
    gaze, keep = start.copy(), np.exp(-control_dt / _LAG)
    for row, (point, sway, stray) in enumerate(zip(watched, sways, strays, strict=True)):
        gaze = keep * gaze + (1 - keep) * ((1 - _SHARE) * start + _SHARE * point)
        place = eye + sway + _LEAN * (gaze - start)
        out[row, places] = head_values(place, gaze + stray, float(first[5] + _ROLL * sway[1]))
    lower, upper = (bound.double().numpy() for bound in (model.robot.lower, model.robot.upper))
    return np.clip(out, lower, upper)


def _sway(rng: np.random.Generator, time: Array, axes: int) -> Array:
    """(T, axes) [m] two slow waves an axis, nothing at time zero."""
    size, rate = rng.uniform(*_SWAYS, (2, axes)), rng.uniform(*_RATES, (2, axes))
    phase = rng.uniform(0, 2 * np.pi, (2, axes))
    angle = 2 * np.pi * rate * time[:, None, None] + phase
    return np.asarray((size * (np.sin(angle) - np.sin(phase))).sum(1))
