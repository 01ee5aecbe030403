"""A judge as the reward of an environment: judged now and then, believed when it says yes several times in a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.policies.judge import LATEST_PICTURES, Evidence, Judge, Verdict
from vap_sim.robots.camera import Camera


class Beginning(Protocol):
    """Where an episode begins; `Start` is one. frames (V, H, W, 3) uint8, one camera a view."""

    @property
    def frames(self) -> Tensor:
        """(V, H, W, 3) uint8 RGB, one camera a view."""
        ...

    @property
    def cameras(self) -> tuple[Camera, ...]:
        """The calibrated camera of each view."""
        ...

    @property
    def instruction(self) -> str:
        """The task in words, "" where none is told."""
        ...


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
    vector environment also `info["row"]`; it asks for all its rows at once. For another environment call `begin` with a
    start after every reset. A jump in `info["steps"]`, as after `set_state`, forgets what was agreed and the picture
    before. One object serves one environment. A judge that fails raises; nothing is made of it.
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
        rewards, over = self.judge_rows({"image": np.asarray(obs["image"])[None]}, [info])
        return float(rewards[0]), bool(over[0])

    def judge_rows(
        self, observations: Mapping[str, NDArray[Any]], infos: Sequence[dict[str, Any]]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Rewards (b,) and whether episodes are over (b,), of b rows at once: what each would be told alone, while the
        judge is asked once for all that are due."""
        rows = [int(info.get("row", 0)) for info in infos]
        looked = [
            self._looked(image, info, row) for image, info, row in zip(observations["image"], infos, rows, strict=True)
        ]
        verdicts = self._asked(looked, infos)
        over = np.zeros(len(infos), np.bool_)
        for place, (row, watched, info) in enumerate(zip(rows, looked, infos, strict=True)):
            verdict = verdicts.get(place)
            info["verdict"] = "" if verdict is None else verdict.word
            if verdict is not None:
                watched = replace(watched, agreed=watched.agreed + 1 if verdict.yes else 0, verdict=verdict)
                if verdict.probability is not None:
                    info["success_probability"] = verdict.probability
            self._watched[row] = watched
            over[place] = watched.agreed >= self.consecutive
        return over.astype(np.float64), over

    def verdict(self, row: int = 0) -> Verdict:
        """The latest verdict of a row, with its reason. Raises InvalidInput where no episode has begun."""
        if row not in self._watched:
            raise InvalidInput("episode to judge", f"none has begun in row {row}", "begin(start) after every reset")
        return self._watched[row].verdict

    def _looked(self, image: NDArray[np.uint8], info: Mapping[str, Any], row: int) -> _Watched:
        """The episode of a row with its present picture, not judged yet."""
        steps = int(info["steps"])
        watched = self._present(info, row, steps)
        pictures = (*watched.pictures, np.array(image))[-LATEST_PICTURES:]
        return replace(watched, pictures=pictures, steps=steps)

    def _asked(self, looked: Sequence[_Watched], infos: Sequence[Mapping[str, Any]]) -> dict[int, Verdict]:
        """The verdicts of those that are due, by place; those that show as many pictures are judged together."""
        due = [place for place, watched in enumerate(looked) if watched.steps % self.every == 0]
        verdicts: dict[int, Verdict] = {}
        for count in sorted({len(looked[place].pictures) for place in due}):
            places = [place for place in due if len(looked[place].pictures) == count]
            starts = [looked[place].start for place in places]
            evidence = Evidence(
                first=np.stack([np.asarray(start.frames[0]) for start in starts]),
                last=np.stack([np.stack(looked[place].pictures) for place in places]),
                joints=np.stack([np.asarray(infos[place]["joints"], np.float64) for place in places]),
                cameras=tuple(start.cameras[0] for start in starts),
                tasks=(self.task,) * len(places),
                instructions=tuple(start.instruction for start in starts),
            )
            verdicts |= zip(places, self.judge.judge(evidence), strict=True)
        return verdicts

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
