"""Episodes of one policy in one task, from chosen starts: played, judged from pictures, and told as trials.

Nothing here knows an environment: it is made by its Gymnasium id, in rows where it has a vector form of its own. Of an
environment that can be started anywhere (`options={"start": ...}`) every row gets its own start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.metrics.trials import Trial
from vap_sim.metrics.verdicts import Answer
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.dissent import dissent
from vap_sim.policies.environments import environment_spec
from vap_sim.policies.judge import LATEST_PICTURES, Evidence, Judge, Verdict, likelier
from vap_sim.policies.judge_reward import Beginning
from vap_sim.policies.policy import CheckedPolicy, Observations, PolicyFault, checked
from vap_sim.policies.registry import load_policy
from vap_sim.policies.rows import Rows, opened

_STATE = ("joint_position", "gripper_position")
_DRIFTS = ("dream_risk", "dream_drift")  # the first that a world gives is a trial's drift, at its worst
_ANSWERS: Mapping[bool | None, Answer] = {True: "yes", False: "no", None: "cannot tell"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """Episodes that can be played by one process: a policy by its name in one task of one environment.

    seeds: of the episodes; starts: one an episode, or () where none is known; at_starts: the environment is told to
    begin there, else it begins by its seed and starts only tell the judge what it begins with; steps: actions at most;
    options: arguments of the environment; judge: who judges pictures, None for nobody; every: steps between
    judgements; consecutive: how many "yes" in a row end an episode; least_agreement: an episode whose prompt agreement
    falls below it is stopped as untrusted; policy_seconds: the longest that an `act` may take.
    Raises InvalidInput.
    """

    env_id: str
    policy: str
    task: str
    seeds: tuple[int, ...]
    starts: tuple[Beginning, ...] = ()
    at_starts: bool = True
    steps: int = 40
    options: Mapping[str, Any] = field(default_factory=dict)
    judge: Judge | None = None
    every: int = 1
    consecutive: int = 1
    least_agreement: float | None = None
    policy_seconds: float | None = None

    def __post_init__(self) -> None:
        if not self.seeds or len(self.starts) not in (0, len(self.seeds)):
            given = f"{len(self.seeds)} seeds with {len(self.starts)} starts"
            raise InvalidInput("episodes of a job", given, "at least one, with as many starts or none")
        # `Policy.reset(n, seed)` counts up from one seed, and a row must act as it would alone.
        if self.seeds != tuple(range(self.seeds[0], self.seeds[0] + len(self.seeds))):
            raise InvalidInput("seeds of a job", self.seeds, "consecutive ones")
        if min(self.steps, self.every, self.consecutive) < 1:
            given = f"{self.steps}, {self.every}, {self.consecutive}"
            raise InvalidInput("steps, every and consecutive of a job", given, "at least 1 each")
        if self.judge is not None and not self.starts:
            raise InvalidInput("job with a judge", "no starts", "starts: a judge must know camera and first picture")


@dataclass(frozen=True, eq=False)
class Played:
    """One episode of n steps: its trial, the pictures (n + 1, H, W, 3) uint8 of its first camera, the joints and
    gripper observed with each (n + 1, J) float32, J = 0 where none are, the actions (n, A) float32, and the task in
    words."""

    trial: Trial
    frames: NDArray[np.uint8]
    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    instruction: str


def play(job: Job) -> list[Played]:
    """Play the episodes of a job, in the order of its seeds; what a row does, it does whatever the others do.

    A policy that gives nothing usable ends its episode as "policy failed", with what it gave in the note. Raises what
    the environment or the judge raise, and for a policy's name what `load_policy` raises.
    """
    group = len(job.seeds) if environment_spec(job.env_id).vector_entry_point is not None else 1
    played: list[Played] = []
    for first in range(0, len(job.seeds), group):
        part = _part(job, slice(first, first + group))
        try:
            played += _played(part)
        except PolicyFault:
            # Whose row it was, and what happens to the others, only playing them alone can tell.
            played += [_played(_part(part, slice(row, row + 1)))[0] for row in range(len(part.seeds))]
    return played


def rehearse(job: Job) -> None:
    """Begin the first episode of a job, ask its judge, and let its policy act once: what cannot work is raised now.

    Raises what `play` raises, PolicyFault too, and InvalidInput where nobody would tell whether an episode succeeded.
    Nothing is said of how fast the policy answers, since what answers first often has to warm up.
    """
    first = replace(_part(job, slice(0, 1)), policy_seconds=None)
    with opened(first) as rows:
        episodes = _Episodes(first, *rows.reset(first))
        if job.judge is None and episodes.success[0] is None:
            expected = f"one: environment {job.env_id!r} does not tell success itself"
            raise InvalidInput("judge", "none", expected)
        policy, carry = _policy(first, rows)
        try:
            policy.act(episodes.observations, carry)
        except KeyError as error:
            given, expected = f"names {sorted(episodes.observations)}", f"{error} among them, for policy {job.policy!r}"
            raise InvalidInput(f"observation of environment {job.env_id!r}", given, expected) from error
        episodes.judge([0])


def _part(job: Job, rows: slice) -> Job:
    return replace(job, seeds=job.seeds[rows], starts=job.starts[rows])


def _played(job: Job) -> list[Played]:
    """All episodes side by side. A policy that fails ends an episode that is alone, and is raised by several."""
    began = perf_counter()
    with opened(job) as rows:
        episodes = _Episodes(job, *rows.reset(job))
        try:
            policy, carry = _policy(job, rows)
            while episodes.open:
                actions, carry = policy.act(episodes.observations, carry)
                for row in episodes.advance(actions, *rows.step(actions)):
                    episodes.reconsider(row, rows.echoes(row))
        except PolicyFault as fault:
            if len(job.seeds) > 1:
                raise
            episodes.end(0, "policy failed", str(fault))
    return episodes.told((perf_counter() - began) / len(job.seeds))


def _policy(job: Job, rows: Rows) -> tuple[CheckedPolicy, Any]:
    """The job's policy, briefed, and its memory."""
    base: Any = rows.env.unwrapped
    space = getattr(base, "single_action_space", base.action_space)
    shown = getattr(base, "single_observation_space", base.observation_space)
    told = {name: job.options[name] for name in ("robot", "control", "control_hz") if name in job.options}
    context = PolicyContext(task=job.task, action_space=space, observation_space=shown, **told)
    policy = checked(load_policy(job.policy, context), space, job.policy, job.policy_seconds).briefed(rows.info)
    return policy, policy.reset(len(job.seeds), job.seeds[0])


class _Episodes:
    """What happened so far in the rows of a job."""

    def __init__(self, job: Job, observations: Observations, infos: list[dict[str, Any]]) -> None:
        self.job, self.observations, self.infos = job, observations, infos
        count = len(job.seeds)
        self.frames = [[_picture(observations, row)] for row in range(count)]
        self.states = [[_joints(observations, row)] for row in range(count)]
        self.actions: list[list[NDArray[np.float32]]] = [[] for _ in range(count)]
        self.rewards, self.ends, self.notes = np.zeros(count), [""] * count, [""] * count
        self.agreed, self.verdicts = [0] * count, [_unasked(job)] * count
        self.success: list[bool | None] = [_truth(info) for info in infos]
        self.agreements: list[list[float]] = [[] for _ in range(count)]
        self.drifts: list[list[float]] = [[] for _ in range(count)]
        self.dissents: list[float | None] = [None] * count
        self.steps = [0] * count

    @property
    def open(self) -> bool:
        """Whether an episode goes on."""
        return not all(self.ends)

    def advance(
        self,
        actions: NDArray[np.float32],
        observations: Observations,
        rewards: NDArray[Any],
        over: NDArray[Any],
        infos: list[dict[str, Any]],
    ) -> list[int]:
        """A step was taken in every row that is not over. Returns those that it was the last of."""
        self.observations, self.infos = observations, infos
        going = [row for row, end in enumerate(self.ends) if not end]
        for row in going:
            self.steps[row] += 1
            self.frames[row].append(_picture(observations, row))
            self.states[row].append(_joints(observations, row))
            self.actions[row].append(actions[row].copy())
            self.rewards[row] += float(rewards[row])
            truth = _truth(infos[row])
            self.success[row] = truth if truth is None else bool(self.success[row]) or truth
            if "prompt_agreement" in infos[row]:
                self.agreements[row].append(float(infos[row]["prompt_agreement"]))
            self.drifts[row] += [float(infos[row][name]) for name in _DRIFTS if name in infos[row]][:1]
        last = [row for row in going if bool(over[row]) or self.steps[row] >= self.job.steps]
        self.judge([row for row in going if row in last or self.steps[row] % self.job.every == 0])
        for row in going:
            least = self.job.least_agreement
            if least is not None and self.agreements[row] and self.agreements[row][-1] < least:
                self.end(
                    row, "untrusted", f"prompt agreement {self.agreements[row][-1]:.2f}, at least {least:g} is asked"
                )
            elif bool(over[row]) or (self.agreed[row] >= self.job.consecutive and self.success[row] is None):
                # Where the truth is known, it decides when an episode is over, not a judge who may err.
                self.end(row, "done")
            elif self.steps[row] >= self.job.steps:
                self.end(row, "time limit")
        return [row for row in going if self.ends[row]]

    def reconsider(self, row: int, echoes: NDArray[np.uint8]) -> None:
        """Ask the judge, if there is one, what the last moment of a row shows in its echoes (E, H, W, 3)."""
        if self.job.judge is not None and len(echoes):
            self.dissents[row] = dissent(self.job.judge, self._evidence([row]), self.verdicts[row], echoes)

    def end(self, row: int, end: str, note: str = "") -> None:
        """Close a row."""
        self.ends[row], self.notes[row] = end, note

    def told(self, seconds: float) -> list[Played]:
        """All rows; seconds: of wall time a row."""
        return [self._told(row, seconds) for row in range(len(self.ends))]

    def judge(self, rows: Sequence[int]) -> None:
        """Ask the judge, if there is one, what these rows show."""
        job = self.job
        if job.judge is None or not rows:
            return
        if "joints" not in self.infos[0]:
            expected = "'joints' among them, which judges are told"
            raise InvalidInput(f"info of environment {job.env_id!r}", f"names {sorted(self.infos[0])}", expected)
        for row, verdict in zip(rows, job.judge.judge(self._evidence(rows)), strict=True):
            # Once as often "yes" as it takes, an episode stays a success, as one does that the environment ended.
            if self.agreed[row] < job.consecutive:
                self.agreed[row] = self.agreed[row] + 1 if verdict.yes else 0
                self.verdicts[row] = likelier(self.verdicts[row], verdict)

    def _evidence(self, rows: Sequence[int]) -> Evidence:
        job = self.job
        return Evidence(
            first=np.stack([np.asarray(job.starts[row].frames[0]) for row in rows]),
            last=np.stack([np.stack(self.frames[row][-LATEST_PICTURES:]) for row in rows]),
            joints=np.stack([np.asarray(self.infos[row]["joints"], np.float64) for row in rows]),
            cameras=tuple(job.starts[row].cameras[0] for row in rows),
            tasks=(job.task,) * len(rows),
            instructions=tuple(job.starts[row].instruction for row in rows),
        )

    def _told(self, row: int, seconds: float) -> Played:
        job, agreements, verdict = self.job, self.agreements[row], self.verdicts[row]
        failed = self.ends[row] == "policy failed"
        trial = Trial(
            policy=job.policy,
            task=job.task,
            seed=job.seeds[row],
            env_id=job.env_id,
            steps=self.steps[row],
            reward=float(self.rewards[row]),
            end=self.ends[row],
            seconds=seconds,
            # An episode that nobody went on playing is not done, whatever its last picture shows.
            verdict=None if job.judge is None else "no" if failed else _ANSWERS[verdict.answer],
            success=self.success[row],
            probability=None if job.judge is None or failed else verdict.probability,
            agreement_mean=float(np.mean(agreements)) if agreements else None,
            agreement_min=min(agreements) if agreements else None,
            drift=max(self.drifts[row], default=None),
            dissent=self.dissents[row],
            note=self.notes[row],
        )
        done = self.actions[row]
        actions = np.stack(done) if done else np.zeros((0, 0), np.float32)
        instruction = str(self.infos[row].get("instruction", ""))
        return Played(trial, np.stack(self.frames[row]), np.stack(self.states[row]), actions, instruction)


def _picture(observations: Observations, row: int) -> NDArray[np.uint8]:
    return np.array(observations["image"][row], dtype=np.uint8)


def _joints(observations: Observations, row: int) -> NDArray[np.float32]:
    shown = [np.asarray(observations[key][row]) for key in _STATE if key in observations]
    return np.concatenate(shown).astype(np.float32) if shown else np.zeros(0, np.float32)


def _truth(info: Mapping[str, Any]) -> bool | None:
    return bool(info["success"]) if "success" in info else None


def _unasked(job: Job) -> Verdict:
    return Verdict(None, None, "nobody was asked" if job.judge is None else "not judged yet")
