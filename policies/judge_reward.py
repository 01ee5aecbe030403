"""A judge as the reward of an environment: judged now and then, believed when it says yes several times in a row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.policies.judge import LATEST_PICTURES, Judge, Verdict, single
from vap_sim.robots.camera import Camera


class Beginning(Protocol):
    """Where an episode begins; `Start` is one. frames (V, H, W, 3) uint8, one camera a view."""

    @property
    def frames(self) -> Tensor: ...

    @property
    def cameras(self) -> tuple[Camera, ...]: ...

    @property
    def instruction(self) -> str: ...


@dataclass(frozen=True, eq=False)
class _Watched:
    """One episode so far: where it began, the latest pictures, actions taken, yes in a row, and the last verdict."""

    start: Beginning
    pictures: tuple[NDArray[np.uint8], ...]
    steps: int = 0
    agreed: int = 0
    verdict: Verdict = field(default_factory=lambda: Verdict(None, None, "not judged yet"))


class JudgeReward:
    """What an environment takes as `judge`: (obs, info) -> (reward, terminated), by a judge of pictures.

    The reward is 1.0, and the episode over, once the judge has said yes `consecutive` times in a row; it is asked every
    `every` steps. "No" and "cannot tell" both give 0.0 and go on, and `info["verdict"]` tells them apart: "yes", "no",
    "cannot tell", or "" in a step that was not judged; `info["success_probability"]` is there where the judge gave one.

        reward = JudgeReward(LearnedJudge.load(), "push")
        env = gym.make("VAPWorld-DROID-v0", task="push", judge=reward)

    A judge must know camera and first picture: the environments of this package tell their judge `info["start"]`, and a
    vector environment also `info["row"]`. For another environment call `begin` with a start after every reset. A jump
    in `info["steps"]`, as after `set_state`, forgets what was agreed and the picture before. One object serves one
    environment. A judge that fails raises; nothing is made of it.
    """

    def __init__(self, judge: Judge, task: str, *, every: int = 1, consecutive: int = 1) -> None:
        if every < 1 or consecutive < 1:
            raise InvalidInput("every and consecutive", (every, consecutive), "at least 1 each")
        self.judge, self.task, self.every, self.consecutive = judge, task, int(every), int(consecutive)
        self._watched: dict[int, _Watched] = {}

    def begin(self, start: Beginning, row: int = 0) -> None:
        """An episode begins at `start`, in row `row` of a vector environment."""
        self._watched[row] = _Watched(start, (np.asarray(start.frames[0]),))

    def __call__(self, obs: Mapping[str, NDArray[Any]], info: dict[str, Any]) -> tuple[float, bool]:
        """Reward and whether the episode is over. Raises InvalidInput where no episode has begun, or no joints are
        told."""
        row, steps = int(info.get("row", 0)), int(info["steps"])
        watched = self._present(info, row, steps)
        pictures = (*watched.pictures, np.asarray(obs["image"]))[-LATEST_PICTURES:]
        agreed, verdict = watched.agreed, watched.verdict
        judged = steps % self.every == 0
        if judged:
            start = watched.start
            evidence = single(
                np.asarray(start.frames[0]),
                np.stack(pictures),
                info["joints"],
                start.cameras[0],
                self.task,
                start.instruction,
            )
            verdict = self.judge.judge(evidence)[0]
            agreed = agreed + 1 if verdict.yes else 0
        self._watched[row] = _Watched(watched.start, pictures, steps, agreed, verdict)
        info["verdict"] = verdict.word if judged else ""
        if judged and verdict.probability is not None:
            info["success_probability"] = verdict.probability
        done = agreed >= self.consecutive
        return float(done), done

    def verdict(self, row: int = 0) -> Verdict:
        """The latest verdict of a row, with its reason. Raises InvalidInput where no episode has begun."""
        if row not in self._watched:
            raise InvalidInput("episode to judge", f"none has begun in row {row}", "begin(start) after every reset")
        return self._watched[row].verdict

    def _present(self, info: Mapping[str, Any], row: int, steps: int) -> _Watched:
        told = info.get("start")
        watched = self._watched.get(row)
        if told is not None and not isinstance(told, str) and (watched is None or watched.start is not told):
            self.begin(told, row)
        watched = self._watched.get(row)
        if watched is None:
            raise InvalidInput("episode to judge", f"none has begun in row {row}", "begin(start) after every reset")
        if steps == watched.steps + 1:
            return watched
        # Another episode, or another moment of this one: the picture before is not known.
        return _Watched(watched.start, (np.asarray(watched.start.frames[0]),) if steps == 1 else (), steps - 1)
