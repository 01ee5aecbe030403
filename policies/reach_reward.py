"""A dense reward for task "reach", from joints and the first picture alone: every centimetre nearer counts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.detector import DETECTED_COLORS
from vap_sim.policies.judge_reward import Beginning, JudgeReward
from vap_sim.policies.sight import Sight, points_at_height
from vap_sim.robots.library import load_robot

_MIDDLE = 0.03  # [m] of an object above the table, unknown: half of a common size


class ReachReward:
    """What an environment takes as `judge`: (obs, info) -> (reward, terminated), for one environment.

    The reward is `per_metre` for each metre that the tool came nearer to the place `above` [m] over the table where the
    named object stands; and 1.0 besides, with the episode over, when `judge` says so. Going to and fro earns nothing:
    it is the difference of a potential (Ng, Harada and Russell 1999).

    Where the object is, is read from the first picture, by its color in the instruction. `info["distance_seen"]` is
    what is left [m]; it is absent, and the judge's the only reward, where the object is not found. After a jump, as
    `set_state` makes one, a step earns no nearness.

        reward = ReachReward(JudgeReward(LearnedJudge.load(), "reach", every=2, consecutive=2))
    """

    def __init__(
        self, judge: JudgeReward, *, robot: str = "panda_robotiq", above: float = 0.08, per_metre: float = 5.0
    ) -> None:
        if judge.task != "reach":
            raise InvalidInput("task of a judge for nearness", judge.task, "'reach', whose goal a first picture shows")
        if not 0 <= above <= 1 or not 0 <= per_metre < np.inf:
            raise InvalidInput("above and per_metre", (above, per_metre), "0 to 1 m, and 0 or more")
        self.judge, self.model = judge, load_robot(robot)
        self.above, self.per_metre = float(above), float(per_metre)
        self._begun: dict[int, tuple[Beginning, NDArray[np.float64] | None]] = {}
        self._left: dict[int, tuple[int, float]] = {}

    def __call__(self, obs: Mapping[str, NDArray[Any]], info: dict[str, Any]) -> tuple[float, bool]:
        """Reward and whether the episode is over. Raises InvalidInput without a start, and what the judge raises."""
        rewards, over = self.judge_rows({name: np.asarray(value)[None] for name, value in obs.items()}, [info])
        return float(rewards[0]), bool(over[0])

    def judge_rows(
        self, observations: Mapping[str, NDArray[Any]], infos: Sequence[dict[str, Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Rewards (b,) and whether episodes are over (b,), of b rows at once; see `JudgeReward.judge_rows`."""
        targets = [self._aim(info) for info in infos]
        rewards, over = self.judge.judge_rows(observations, infos)
        nearer = [self._nearer(info, target) for info, target in zip(infos, targets, strict=True)]
        return rewards + self.per_metre * np.array(nearer), over

    def _aim(self, info: Mapping[str, Any]) -> NDArray[np.float64] | None:
        """Where the episode of a row aims at."""
        row, start = int(info.get("row", 0)), info.get("start")
        if start is None or isinstance(start, str):
            raise InvalidInput("info for nearness", sorted(info), "one with 'start', as environments tell their judge")
        if row not in self._begun or self._begun[row][0] is not start:
            self._begun[row] = (start, self.target(start))
        return self._begun[row][1]

    def _nearer(self, info: dict[str, Any], target: NDArray[np.float64] | None) -> float:
        """How much nearer the tool came in this step [m]."""
        if target is None:
            return 0.0
        row, steps, start = int(info.get("row", 0)), int(info["steps"]), info["start"]
        left = self._distance(info["joints"], target)
        counted, before = self._left.get(row, (-1, left))
        if steps == 1:
            counted, before = 0, self._distance(start.joints, target)
        self._left[row] = (steps, left)
        info["distance_seen"] = left
        return before - left if counted == steps - 1 else 0.0

    def target(self, start: Beginning) -> NDArray[np.float64] | None:
        """The place (3,) [m] over the object of a start that its instruction names, None where it is not found.

        Raises InvalidInput for a camera that is not fixed in the base frame."""
        words = set(re.findall(r"[a-z]+", start.instruction.lower()))
        named = [color for color in DETECTED_COLORS if color in words]
        if len(named) != 1:
            return None
        pixels, seen = Sight(named[0], DETECTED_COLORS).find(start.frames[:1])
        if not seen[0]:
            return None
        return np.array([*points_at_height(pixels, start.cameras[0], _MIDDLE)[0], self.above])

    def _distance(self, joints: NDArray[np.floating[Any]] | Tensor, target: NDArray[np.float64]) -> float:
        """From the tool to the target [m]."""
        robot = self.model.robot
        links = robot.forward(torch.as_tensor(np.asarray(joints), dtype=torch.float64))
        return float(np.linalg.norm(links[robot.link_index(self.model.tool_link), :3, 3].numpy() - target))
