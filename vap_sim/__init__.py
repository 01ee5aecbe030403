"""VAPSim: Gymnasium environments whose next picture is drawn by an action-conditioned world model.

Importing this package registers the environments `VAPWorld-DROID-v0` (the dream) and `VAPTwin-DROID-v0` (its ground
truth in pybullet) and loads nothing heavy; the names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import gymnasium

if TYPE_CHECKING:
    from vap_sim.envs.start import Start, load_start, photo_start, shipped_starts
    from vap_sim.models.protocol import Rollout, WorldModel, WorldModelSpec
    from vap_sim.models.registry import load_world, world_names
    from vap_sim.prompts.prompter import Prompter
    from vap_sim.prompts.visual_prompt import VisualPrompt
    from vap_sim.robots.camera import Camera
    from vap_sim.robots.control import Controller
    from vap_sim.robots.kinematics import Robot
    from vap_sim.robots.library import RobotModel, load_robot, robot_names
    from vap_sim.state import WorldState

__all__ = [
    "Camera",
    "Controller",
    "Prompter",
    "Robot",
    "RobotModel",
    "Rollout",
    "Start",
    "VisualPrompt",
    "WorldModel",
    "WorldModelSpec",
    "WorldState",
    "load_robot",
    "load_start",
    "load_world",
    "photo_start",
    "robot_names",
    "shipped_starts",
    "world_names",
]

_HOMES = {
    "vap_sim.envs.start": ("Start", "load_start", "photo_start", "shipped_starts"),
    "vap_sim.models.protocol": ("Rollout", "WorldModel", "WorldModelSpec"),
    "vap_sim.models.registry": ("load_world", "world_names"),
    "vap_sim.prompts.prompter": ("Prompter",),
    "vap_sim.prompts.visual_prompt": ("VisualPrompt",),
    "vap_sim.robots.camera": ("Camera",),
    "vap_sim.robots.control": ("Controller",),
    "vap_sim.robots.kinematics": ("Robot",),
    "vap_sim.robots.library": ("RobotModel", "load_robot", "robot_names"),
    "vap_sim.state": ("WorldState",),
}


def __getattr__(name: str) -> object:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _register() -> None:
    """Make the environments known by name; the classes themselves are imported when one is made."""
    worlds = {
        "VAPWorld-DROID-v0": ("vap_sim.envs.world_env:WorldEnv", "vap_sim.envs.vector_env:WorldVectorEnv"),
        "VAPTwin-DROID-v0": ("vap_sim.envs.twin_env:TwinEnv", None),
    }
    for name, (entry_point, vector_entry_point) in worlds.items():
        if name not in gymnasium.registry:
            gymnasium.register(
                name, entry_point=entry_point, vector_entry_point=vector_entry_point, max_episode_steps=200
            )


_register()
