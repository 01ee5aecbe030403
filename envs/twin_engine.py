"""The physics engine behind the twin, or a named error that says how to get it."""

from __future__ import annotations

from vap_sim.errors import MissingDependency

try:
    import pybullet
except ImportError as error:
    raise MissingDependency(
        "pybullet", "twin", "Its newest wheel is for Python 3.11; on 3.12 and later build it from its source package."
    ) from error

__all__ = ["pybullet"]
