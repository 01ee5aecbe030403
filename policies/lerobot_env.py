"""This package's environments as LeRobot's evaluation wants them: the other side of LeRobot's EnvHub contract.

Read against lerobot 0.4 to 0.6; needs none of it. A hub repository's `env.py` returns what `make_lerobot_envs` makes
(see integrations/lerobot).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.policies.judge import Judge
from vap_sim.policies.judge_reward import JudgeReward

SUITE = "vapsim"
TASKS = ("reach", "push", "pick_place")
_CAMERA = "exterior_1"
_STATE = ("joint_position", "gripper_position")
Observation = dict[str, Any]


class LeRobotEnv(gymnasium.Wrapper[Observation, NDArray[np.float32], dict[str, NDArray[Any]], NDArray[np.float32]]):
    """One environment with LeRobot's names.

    Observations: `pixels`, a dict of cameras, each uint8 (H, W, 3) RGB (LeRobot makes `observation.images.<camera>` of
    them); `agent_pos` float32 (8,), seven joints [rad] and the gripper, 0 open .. 1 closed (`observation.state`).
    Actions are the environment's. `info["is_success"]` tells a success, by the environment's own truth where it knows
    it, else by its judge, who ends the episode. `task` names the task, `task_description` says it in the words of the
    present start; `_max_episode_steps` is the length of an episode.
    """

    def __init__(self, env: gymnasium.Env[dict[str, NDArray[Any]], NDArray[np.float32]], task: str, steps: int) -> None:
        """steps: after which the environment truncates. Raises InvalidInput for one without pictures or joints."""
        super().__init__(env)
        inner = env.observation_space
        if not isinstance(inner, spaces.Dict) or not {"image", *_STATE} <= inner.keys():
            raise InvalidInput("observations", inner, f"a Dict with image, {' and '.join(_STATE)}")
        self.task: str = task
        self.task_description: str = task
        self._max_episode_steps: int = steps
        pictures = [name for name in inner if name.startswith("image")]
        self._cameras: dict[str, str] = {_CAMERA if n == "image" else n.removeprefix("image_"): n for n in pictures}
        parts = [inner[name] for name in _STATE]
        low, high = (np.concatenate([getattr(part, end) for part in parts]) for end in ("low", "high"))
        self.observation_space = spaces.Dict(
            {
                "pixels": spaces.Dict({camera: inner[name] for camera, name in self._cameras.items()}),
                "agent_pos": spaces.Box(low, high, dtype=np.float32),
            }
        )

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """As the environment's; options that it does not know are ignored."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.task_description = str(info.get("instruction") or self.task)
        return self._renamed(observation), {**info, "is_success": False}

    def step(self, action: NDArray[np.float32]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """As the environment's, with `info["is_success"]`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        success = bool(info["success"]) if "success" in info else bool(terminated)
        return self._renamed(observation), float(reward), terminated, truncated, {**info, "is_success": success}

    def _renamed(self, observation: Mapping[str, NDArray[Any]]) -> Observation:
        pixels = {camera: observation[name] for camera, name in self._cameras.items()}
        return {"pixels": pixels, "agent_pos": np.concatenate([observation[name] for name in _STATE])}


def make_lerobot_envs(
    n_envs: int = 1,
    use_async_envs: bool = False,
    *,
    tasks: Sequence[str] = TASKS,
    steps: int = 40,
    env_id: str = "VAPWorld-DROID-v0",
    judge: Judge | Literal["learned"] | None = "learned",
    options: Mapping[str, Any] | None = None,
) -> dict[str, dict[int, VectorEnv[Any, Any, Any]]]:
    """What a hub's `make_env` returns: {suite: {task number: n_envs environments}}, one number a task, in order.

    use_async_envs: one process an environment; steps: of an episode at most; judge: says who succeeded in a dream (an
    environment that knows the truth needs none and is given none); options: further arguments of the environment.
    Finished rows begin again at once (`SAME_STEP`), with `final_info`. Raises InvalidInput and UnknownName.
    """
    if n_envs < 1 or steps < 1:
        raise InvalidInput("n_envs and steps", f"{n_envs} and {steps}", "at least 1 each")
    if not tasks:
        raise InvalidInput("tasks", tasks, f"at least one of {', '.join(TASKS)}")
    for task in tasks:
        if task not in TASKS:
            raise UnknownName("task", task, TASKS)
    asked = _judge(judge) if _takes_judge(env_id) else None
    made: dict[int, VectorEnv[Any, Any, Any]] = {}
    for number, task in enumerate(tasks):
        makers: list[Callable[[], gymnasium.Env[Any, Any]]] = [
            partial(make_lerobot_env, env_id, task, steps, asked, dict(options or {})) for _ in range(n_envs)
        ]
        made[number] = (
            # Forked processes would share what torch's threads hold.
            AsyncVectorEnv(makers, context="spawn", autoreset_mode=AutoresetMode.SAME_STEP)
            if use_async_envs
            else SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
        )
    return {SUITE: made}


def make_lerobot_env(env_id: str, task: str, steps: int, judge: Judge | None, options: Mapping[str, Any]) -> LeRobotEnv:
    """One environment; arguments as in `make_lerobot_envs`."""
    import vap_sim  # noqa: F401 - registers the environments, also in a process of its own

    given = {"render_mode": "rgb_array", **options, "task": task}
    if judge is not None:
        given["judge"] = JudgeReward(judge, task)
    return LeRobotEnv(gymnasium.make(env_id, max_episode_steps=steps, **given), task, steps)


def _takes_judge(env_id: str) -> bool:
    """Whether an environment is judged from outside; one that knows the truth is not."""
    import vap_sim  # noqa: F401 - registers the environments

    entry = gymnasium.spec(env_id).entry_point
    creator = load_env_creator(entry) if isinstance(entry, str) else entry
    return creator is not None and "judge" in inspect.signature(creator).parameters


def _judge(judge: Judge | Literal["learned"] | None) -> Judge | None:
    if judge == "learned":
        from vap_sim.policies.judge_learned import LearnedJudge

        return LearnedJudge.load()
    return judge
