"""VAPSim: Gymnasium environments whose next picture is drawn by an action-conditioned world model.

Importing this package registers two environments a station, `VAPWorld-<station>-v0` (the dream) and
`VAPTwin-<station>-v0` (its ground truth in pybullet), for DROID, Bridge, RT1 and EgoVid, and loads nothing heavy; the
names below are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

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


_STATIONS: dict[str, dict[str, Any]] = {
    "DROID": {},
    "Bridge": {"robot": "widowx", "task": "put_on_plate", "control": "ee_delta", "world": "compact_bodies"},
    "RT1": {
        "robot": "google_robot",
        "task": "pick",
        "control": "ee_delta",
        "control_hz": 3.0,
        "video_hz": 3.0,
        "views": ("head",),
        "world": "compact_bodies",
        "world_options": {"frame_rate": 3.0},
    },
    "EgoVid": {
        "robot": "human_hand",
        "task": "grasp_lift",
        "control": "ee_head_delta",
        "views": ("head",),
        "world": "compact_bodies",
    },
}
"""Arguments of each station's dream, where they are not WorldEnv's own defaults; a test compares them with the station.

One set of weights knows the bodies of all of them; DROID's arm has a set of its own, which is truer to it.
"""


def _register() -> None:
    """Make the environments known by name; the classes themselves are imported when one is made."""
    for station, arguments in _STATIONS.items():
        worlds: dict[str, dict[str, Any]] = {
            f"VAPWorld-{station}-v0": {
                "entry_point": "vap_sim.envs.world_env:WorldEnv",
                "vector_entry_point": "vap_sim.envs.vector_env:WorldVectorEnv",
                "kwargs": arguments,
            },
            f"VAPTwin-{station}-v0": {
                "entry_point": "vap_sim.envs.twin_env:TwinEnv",
                "kwargs": {} if station == "DROID" else {"station": station},
            },
        }
        for name, settings in worlds.items():
            if name not in gymnasium.registry:
                gymnasium.register(name, max_episode_steps=200, **settings)


_register()
