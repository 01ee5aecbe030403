"""Stable-Baselines3 trains in the dream: a vector environment of any Gymnasium id, as that library wants to see it.

Raises MissingDependency on import without Stable-Baselines3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput, MissingDependency, UnknownName, Unsupported
from vap_sim.policies.policy import info_rows


def _library() -> Any:
    """What that library calls a vector environment."""
    try:
        from stable_baselines3.common.vec_env import VecEnv
    except ImportError as error:
        raise MissingDependency("stable-baselines3", "rl") from error
    return VecEnv


_VEC_ENV: Any = _library()
Seen = dict[str, NDArray[Any]]
Reward = Callable[[Mapping[str, NDArray[Any]], dict[str, Any]], tuple[float, bool]]


class DreamVecEnv(_VEC_ENV):  # type: ignore[misc]
    """`num_envs` dreams stepped together, for `PPO("MultiInputPolicy", env)` and the like.

    keys: what the policy is shown, all observations where None; what it was trained on is what `load_policy("sb3@...")`
    shows it later. options: arguments of the environment, such as task, world or start. reward: what the environment
    takes as `judge`, `(obs, info) -> (reward, terminated)`; without one every reward is 0.

        reward = JudgeReward(LearnedJudge.load(), "reach", every=2, consecutive=2)
        env = DreamVecEnv(num_envs=8, task="reach", max_episode_steps=24, reward=reward)
        PPO("MultiInputPolicy", env, n_steps=32).learn(10_000)

    A row that is over begins again within the same step, from a start drawn by its own generator: the step's
    observation is the new one, `terminal_observation` in its info the last one of the old, `TimeLimit.truncated` tells
    that time was up and the task not done, and `episode` holds return `r` and length `l`. `seed(s)` takes effect at the
    next `reset`: row i is seeded with s + i.

    Raises UnknownName for a key, InvalidInput where no row is asked for, Unsupported for an id without a vector form.
    """

    def __init__(
        self,
        env_id: str = "VAPWorld-DROID-v0",
        num_envs: int = 8,
        *,
        keys: Sequence[str] | None = None,
        reward: Reward | None = None,
        max_episode_steps: int = 40,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        if num_envs < 1 or max_episode_steps < 1:
            raise InvalidInput("num_envs and max_episode_steps", (num_envs, max_episode_steps), "at least 1 each")
        if gymnasium.spec(env_id).vector_entry_point is None:
            raise Unsupported(
                f"environment {env_id!r} has no vector form of its own; use stable_baselines3's DummyVecEnv"
            )
        given: dict[str, Any] = options if reward is None else {**options, "judge": reward}
        self.dreams: Any = gymnasium.make_vec(
            env_id,
            num_envs=num_envs,
            max_episode_steps=max_episode_steps,
            autoreset_mode=AutoresetMode.SAME_STEP,
            render_mode=render_mode,
            **given,
        )
        space: Any = self.dreams.single_observation_space
        shown: Mapping[str, spaces.Space[Any]] = space.spaces
        for key in keys or ():
            if key not in shown:
                raise UnknownName("observation key", key, shown)
        self.keys = tuple(shown if keys is None else keys)
        self._returns, self._lengths = np.zeros(num_envs), np.zeros(num_envs, np.int64)
        self._actions: NDArray[np.float32] | None = None
        super().__init__(num_envs, spaces.Dict({key: shown[key] for key in self.keys}), self.dreams.single_action_space)

    def reset(self) -> Seen:
        """Begin new dreams in all rows. Observations (num_envs, ...) by name."""
        seeds = None if all(seed is None for seed in self._seeds) else list(self._seeds)
        observations, info = self.dreams.reset(seed=seeds, options=self._one_for_all())
        self.reset_infos = info_rows(info)
        self._reset_seeds()
        self._reset_options()
        self._returns[:], self._lengths[:] = 0, 0
        return self._chosen(observations)

    def step_async(self, actions: NDArray[np.float32]) -> None:
        """Keep actions (num_envs, A) for `step_wait`."""
        self._actions = np.asarray(actions, np.float32)

    def step_wait(self) -> tuple[Seen, NDArray[np.float32], NDArray[np.bool_], list[dict[str, Any]]]:
        """Take the step. Raises InvalidInput where `step_async` gave no actions before."""
        if self._actions is None:
            raise InvalidInput("actions of a step", None, "step_async(actions) before step_wait()")
        observations, rewards, terminated, truncated, info = self.dreams.step(self._actions)
        self._actions = None
        over = terminated | truncated
        self._returns += rewards
        self._lengths += 1
        present = info_rows({name: value for name, value in info.items() if name.strip("_") not in _LAST})
        infos = []
        for row, told in enumerate(present):
            if over[row]:
                # What this step showed stands in `final_*`; `told` belongs to the episode that has just begun.
                self.reset_infos[row] = told
                told = _last_info(info, row)
                told["terminal_observation"] = self._chosen(info["final_obs"][row])
                told["episode"] = {"r": float(self._returns[row]), "l": int(self._lengths[row])}
            told["TimeLimit.truncated"] = bool(truncated[row] and not terminated[row])
            infos.append(told)
        self._returns[over], self._lengths[over] = 0, 0
        return self._chosen(observations), rewards.astype(np.float32), over, infos

    def close(self) -> None:
        """Forget the dreams."""
        self.dreams.close()

    def get_images(self) -> Sequence[NDArray[np.uint8] | None]:
        """One picture (H, W, 3) a row."""
        pictures = self.dreams.render() if self.render_mode == "rgb_array" else None
        return [None] * self.num_envs if pictures is None else list(pictures)

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        """The attribute of all dreams, once for each row asked for."""
        return [getattr(self.dreams, attr_name)] * len(self._rows(indices))

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        """Raises Unsupported: the dreams are one environment."""
        raise Unsupported(f"attribute {attr_name!r} of single dreams cannot be set: they are one environment")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **options: Any) -> list[Any]:
        """Raises Unsupported: the dreams are one environment, `dreams`, whose methods can be called."""
        raise Unsupported(f"method {method_name!r} of single dreams cannot be called: use the attribute 'dreams'")

    def env_is_wrapped(
        self, wrapper_class: type[gymnasium.Wrapper[Any, Any, Any, Any]], indices: Any = None
    ) -> list[bool]:
        """False for each row: what wraps them wraps all."""
        return [False] * len(self._rows(indices))

    def _rows(self, indices: Any) -> list[int]:
        return list(self._get_indices(indices))

    def _chosen(self, observations: Mapping[str, NDArray[Any]]) -> Seen:
        return {key: np.array(observations[key]) for key in self.keys}

    def _one_for_all(self) -> dict[str, Any] | None:
        """Options of single rows, as `set_options` took them, as the vector environment wants them."""
        names = sorted({name for row in self._options for name in row})
        return {name: [row.get(name) for row in self._options] for name in names} or None


_LAST = ("final_obs", "final_info")


def _last_info(info: Mapping[str, Any], row: int) -> dict[str, Any]:
    """The info of the step that ended a row's episode."""
    final = info["final_info"]
    if isinstance(final, Mapping):
        return info_rows(final)[row]
    return dict(final[row])
