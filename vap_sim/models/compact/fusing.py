"""What several views say of an object's next step, as one displacement in space that all of them then show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vap_sim.models.compact.geometry import NEAREST, Floats, responses, see

PIXELS, GROWTH, STRAY = 0.5, 0.03, 0.3
"""By how much a view usually errs: shift [px], log of growth; and how far objects go in a step at most, roughly [m]."""
_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Opinions:
    """What views (...) say: shift (..., 2) [px], twist (..., 2) turn [rad] and log of growth, and logit (...) of moving
    at all; as `motion.Motion` has it."""

    shift: Floats
    twist: Floats
    logit: Floats


def fused_logit(logit: Floats) -> float:
    """Of moving at all, by all views (n,): their mean.

    An arm that passes before an object in one view passes beside it in another: what one takes for contact, the other
    denies. Evidence is not added up: views see one arm and one object, and err together where contact is open."""
    return float(np.sort(logit).mean())


def displaced(projections: Floats, position: Floats, told: Opinions) -> Floats:
    """Where an object at position (3,) [m] goes by n views' opinions under projections (n, 3, 4): the point that their
    shifts and growths miss least, each by how sure it is that the object moves."""
    sure = np.sqrt(1 / (1 + np.exp(-np.clip(told.logit, -30, 30))) + 1e-3)
    old, depth = see(projections, position)
    goal = old + told.shift
    point = position.copy()
    for _ in range(_ROUNDS):
        now, deep = see(projections, point)
        linear = responses(projections, point)
        grown = -np.log(np.maximum(deep, NEAREST) / np.maximum(depth, NEAREST))
        miss = np.concatenate([(goal - now) / PIXELS, ((told.twist[:, 1] - grown) / GROWTH)[:, None]], axis=1)
        weight = np.array([PIXELS, PIXELS, GROWTH])
        left = (linear / weight[:, None] * sure[:, None, None]).reshape(-1, 3)
        right = (miss * sure[:, None]).reshape(-1)
        home = (position - point) / STRAY
        system = left.T @ left + np.eye(3) / STRAY**2
        point = point + np.linalg.solve(system, left.T @ right + home / STRAY)
    return np.asarray(point)
