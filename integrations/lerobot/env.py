"""LeRobot's EnvHub entry: push this folder to a hub repository, or load this file, and `make_env` gives the dream."""

from __future__ import annotations

from typing import Any

from vap_sim.policies.lerobot_env import TASKS, make_lerobot_envs


def make_env(n_envs: int = 1, use_async_envs: bool = False, cfg: Any = None) -> dict[str, dict[int, Any]]:
    """{"vapsim": {task number: vector environment}} for reach, push and pick_place.

    cfg: LeRobot's environment config, if it hands one over; of it are read `task` (one or several names, separated by
    commas), `episode_length`, and `env_id` to evaluate in the twin instead.
    """
    named = getattr(cfg, "task", None)
    tasks = tuple(name.strip() for name in named.split(",")) if named else TASKS
    steps = getattr(cfg, "episode_length", None) or 40
    env_id = getattr(cfg, "env_id", None) or "VAPWorld-DROID-v0"
    return make_lerobot_envs(n_envs, use_async_envs, tasks=tasks, steps=int(steps), env_id=env_id)
