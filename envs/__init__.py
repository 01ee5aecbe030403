"""The Gymnasium contract around the engine, and the ground-truth twin in pybullet. Names are loaded when first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vap_sim.envs.scenes import Scene, sample_scene
    from vap_sim.envs.session import SessionState
    from vap_sim.envs.start import Start, load_start, photo_start, shipped_starts
    from vap_sim.envs.tasks import Situation, Task, get_task
    from vap_sim.envs.trust_limit import TrustLimit, TrustLimits, TrustLimitVector
    from vap_sim.envs.vector_env import WorldVectorEnv
    from vap_sim.envs.world_env import WorldEnv

__all__ = [
    "Scene",
    "SessionState",
    "Situation",
    "Start",
    "Task",
    "TrustLimit",
    "TrustLimitVector",
    "TrustLimits",
    "WorldEnv",
    "WorldVectorEnv",
    "get_task",
    "load_start",
    "photo_start",
    "sample_scene",
    "shipped_starts",
]

_HOMES = {
    "scenes": ("Scene", "sample_scene"),
    "session": ("SessionState",),
    "start": ("Start", "load_start", "photo_start", "shipped_starts"),
    "tasks": ("Situation", "Task", "get_task"),
    "trust_limit": ("TrustLimit", "TrustLimits", "TrustLimitVector"),
    "vector_env": ("WorldVectorEnv",),
    "world_env": ("WorldEnv",),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
