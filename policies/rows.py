"""An environment in rows, one an episode of a job, whether Gymnasium makes it so or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from vap_sim.policies.environments import environment_spec, takes, with_picture
from vap_sim.policies.policy import Observations, as_batch, info_rows

if TYPE_CHECKING:
    from vap_sim.policies.episodes import Job


class Rows:
    """An environment in rows, whether it has them or not; it is never asked to begin again by itself."""

    def __init__(self, job: Job) -> None:
        self.several = environment_spec(job.env_id).vector_entry_point is not None
        options = {**job.options, **({"task": job.task} if takes(job.env_id, "task") else {})}
        self.env: Any
        if self.several:
            # No limit: rows that are over wait for the others, and none of them begins again.
            never: dict[str, Any] = {"autoreset_mode": AutoresetMode.DISABLED, "max_episode_steps": -1}
            self.env = gymnasium.make_vec(job.env_id, num_envs=len(job.seeds), **never, **options)
        else:
            self.env = gymnasium.make(job.env_id, max_episode_steps=-1, **options)
        self.info: dict[str, Any] = {}

    def reset(self, job: Job) -> tuple[Observations, list[dict[str, Any]]]:
        """Observations and infos of the episodes' beginnings, one a row."""
        starts = list(job.starts) if job.at_starts else []
        if self.several:
            options: dict[str, Any] | None = {"start": starts} if starts else None
            observations, self.info = self.env.reset(seed=list(job.seeds), options=options)
            return with_picture(job.env_id, observations), info_rows(self.info)
        options = {"start": starts[0]} if starts else None
        observation, self.info = self.env.reset(seed=job.seeds[0], options=options)
        return as_batch(with_picture(job.env_id, observation)), [self.info]

    def step(
        self, actions: NDArray[np.float32]
    ) -> tuple[Observations, NDArray[Any], NDArray[Any], list[dict[str, Any]]]:
        """Observations, rewards, whether the environment ended the episode, and infos; one a row."""
        if self.several:
            observations, rewards, over, _, info = self.env.step(actions)
            return observations, rewards, over, info_rows(info)
        observation, reward, terminated, _, info = self.env.step(actions[0])
        return as_batch(observation), np.array([reward]), np.array([terminated]), [info]

    def echoes(self, row: int) -> NDArray[np.uint8]:
        """What the environment dreams beside a row, seen by its first camera (E, H, W, 3); nothing of one that does
        not."""
        base: Any = self.env.unwrapped
        shown = getattr(base, "echoes", None)
        if not callable(shown):
            return np.zeros((0, 1, 1, 3), np.uint8)
        pictures: NDArray[np.uint8] = shown(row) if self.several else shown()
        return pictures[:, 0]


@contextmanager
def opened(job: Job) -> Iterator[Rows]:
    """The rows of a job, closed in the end."""
    rows = Rows(job)
    try:
        yield rows
    finally:
        rows.env.close()
