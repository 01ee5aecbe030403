"""An environment that is held against the contracts, and how it is played."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils.env_checker import data_equivalence

from vap_sim.envs.start import shipped_starts
from vap_sim.envs.stations import Station, get_station
from vap_sim.robots.actions import ActionSpec, action_spec
from vap_sim.robots.library import RobotModel, load_robot

Step = tuple[dict[str, Any], float, bool, bool, dict[str, Any]]


@dataclass(frozen=True)
class EnvSubject:
    """An environment of a station. `arguments` make it; `task` is not the station's first choice, `fork_seconds` bounds
    a fork, `intervals` are actions a picture that its rates allow."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    task: str = "push"
    fork_seconds: float = 1e-3
    intervals: int = 3

    @property
    def station(self) -> Station:
        return get_station(self.name.split("-")[1])

    @property
    def model(self) -> RobotModel:
        return load_robot(self.station.robot)

    @property
    def gripper(self) -> int:
        """Which of the joints is the gripper's."""
        assert self.model.gripper is not None, self.name
        return self.model.robot.joint_index(self.model.gripper.joint)

    @property
    def action(self) -> ActionSpec:
        return action_spec(self.model, self.station.control)

    @property
    def start(self) -> str:
        """A shipped start of the task."""
        return shipped_starts(self.task, self.station.name)[1]

    def make(self, **changes: Any) -> gymnasium.Env[Any, Any]:
        return gymnasium.make(self.name, **{**self.arguments, **changes})

    def bare(self, **changes: Any) -> Any:
        """The environment without wrappers; typed loosely, to reach what Gymnasium does not know."""
        return self.make(**changes).unwrapped

    def fast(self) -> Any:
        """The environment with several actions a picture."""
        rate = self.station.video_hz
        return self.bare(control_hz=self.intervals * rate, video_hz=rate)


def moves(env: Any, steps: int) -> list[np.ndarray]:
    """The same gentle random actions for every environment with these bounds."""
    rng, space = np.random.default_rng(3), env.action_space
    middle, reach = (space.high + space.low) / 2, (space.high - space.low) / 4
    return [(middle + reach * rng.uniform(-1, 1, space.shape)).astype(np.float32) for _ in range(steps)]


def play(env: Any, steps: int) -> list[Step]:
    return [env.step(action) for action in moves(env, steps)]


def same(a: object, b: object) -> bool:
    """Whether two results of an environment are equal bit by bit."""
    return bool(data_equivalence(a, b, exact=True))
