"""Policies scored in a dream and in its reference, from the same starts: a plan, jobs, and trials that survive a kill.

The plan is every policy in every task from every start, in both environments. Jobs run in processes of this machine, or
of a Ray cluster; finished trials are on disk before the next job begins, and a plan that was stopped goes on where it
was. What is told of the trials is `vap_sim.metrics.policy_report`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import gymnasium
from tqdm import tqdm

from vap_sim.errors import InvalidInput, MissingDependency, UnknownName, Unsupported, WorkerLost
from vap_sim.metrics.trial_log import TrialLog
from vap_sim.metrics.trials import TrialKey, TrialTable, plan_trials
from vap_sim.policies.environments import takes
from vap_sim.policies.episodes import Job, Played, play
from vap_sim.policies.judge import Judge
from vap_sim.policies.judge_reward import Beginning
from vap_sim.policies.registry import parse_policy

ENGINES = ("processes", "ray")
Starts = Mapping[tuple[str, int], Beginning]
"""Where episodes begin, by task and seed."""


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is played. Raises InvalidInput, UnknownName.

    policies: names as `load_policy` reads them; tasks; seeds: of the starts; steps: actions of an episode at most;
    judge, every, consecutive, least_agreement, policy_seconds: as in `Job`; rows: episodes of a job.
    """

    policies: tuple[str, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int = 40
    judge: Judge | None = None
    every: int = 1
    consecutive: int = 1
    least_agreement: float | None = None
    policy_seconds: float | None = None
    rows: int = 10

    def __post_init__(self) -> None:
        for name in self.policies:
            parse_policy(name)
        if self.rows < 1:
            raise InvalidInput("rows of an evaluation", self.rows, "at least 1")
        self.plan("")

    def plan(self, env_id: str) -> tuple[TrialKey, ...]:
        """All trials in one environment."""
        return plan_trials(env_ids=[env_id or "-"], policies=self.policies, tasks=self.tasks, seeds=self.seeds)

    def jobs(self, keys: Iterable[TrialKey], starts: Starts, arena: Arena) -> Iterator[Job]:
        """The trials of these keys in an arena as jobs of up to `rows` consecutive seeds."""
        for (env_id, policy, task), group in groupby(keys, key=lambda key: key[:3]):
            for seeds in _runs([key.seed for key in group], self.rows):
                yield Job(
                    env_id=env_id,
                    policy=policy,
                    task=task,
                    seeds=seeds,
                    starts=tuple(starts[task, seed] for seed in seeds) if starts else (),
                    steps=self.steps,
                    at_starts=arena.at_starts,
                    options=arena.options,
                    judge=self.judge,
                    every=self.every,
                    consecutive=self.consecutive,
                    least_agreement=self.least_agreement,
                    policy_seconds=self.policy_seconds,
                )


@dataclass(frozen=True)
class Arena:
    """One environment of an evaluation: its id, its arguments, and what makes its trials (weights, versions), which
    the log keeps. at_starts: it is told where to begin; the reference, whose starts they are, begins there by seed."""

    env_id: str
    options: Mapping[str, Any] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    at_starts: bool = True


def read_starts(reference: Arena, tasks: Sequence[str], seeds: Sequence[int], *, progress: bool = True) -> Starts:
    """Where the reference begins, by task and seed, for all environments to begin there.

    Raises Unsupported for a reference whose moments cannot be recorded (it has no method `start`).
    """
    starts: dict[tuple[str, int], Beginning] = {}
    with tqdm(total=len(tasks) * len(seeds), desc="starts", unit="start", disable=not progress) as bar:
        for task in tasks:
            named = {"task": task} if takes(reference.env_id, "task") else {}
            env = gymnasium.make(reference.env_id, **{**reference.options, **named})
            record = getattr(env.unwrapped, "start", None)
            if not callable(record):
                env.close()
                raise Unsupported(f"environment {reference.env_id!r} cannot record starts: it has no method 'start'")
            try:
                for seed in seeds:
                    env.reset(seed=seed)
                    starts[task, seed] = record(f"{task}_{seed}")
                    bar.update()
            finally:
                env.close()
    return starts


def evaluate(
    evaluation: Evaluation,
    arena: Arena,
    log: Path,
    *,
    starts: Starts,
    workers: int = 1,
    engine: str = "processes",
    progress: bool = True,
) -> TrialTable:
    """Play what is missing of an evaluation in one environment, and return all of its trials.

    log: where trials are kept (JSON lines); starts: as `read_starts` gives them, empty where environments begin by
    their seeds; workers: jobs at once; engine: "processes" of this machine, or "ray" for the cluster that Ray finds or,
    without one, begins here.

    Raises UnknownName for the engine, MissingDependency without Ray, InvalidInput where the log was made by something
    else, WorkerLost where a job's process is killed, and what jobs raise: everything but a policy that fails, which is
    told in its trial.
    """
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    if workers < 1:
        raise InvalidInput("workers", workers, "at least 1")
    plan = evaluation.plan(arena.env_id)
    with TrialLog(log, arena.about) as kept:
        missing = kept.table.missing(plan)
        jobs = list(evaluation.jobs(missing, starts, arena))
        bar = tqdm(total=len(plan), initial=len(plan) - len(missing), unit="episode", disable=not progress)
        bar.set_description(f"{log.stem}: {arena.env_id}")
        with bar:
            try:
                for played in _run(jobs, workers, engine):
                    for one in played:
                        kept.append(one.trial)
                    bar.update(len(played))
            except _Lost as lost:
                less = f"fewer than {workers} workers or {evaluation.rows} rows"
                advice = f"Finished trials are in {log}; the same command goes on, and needs less memory with {less}"
                raise WorkerLost(map(_named, lost.jobs), advice) from lost
        return TrialTable(tuple(one for one in kept.table if one.key in set(plan)), kept.about, log.parent)


def _run(jobs: Sequence[Job], workers: int, engine: str) -> Iterator[list[Played]]:
    """The jobs' outcomes as they come. Raises _Lost."""
    if engine == "ray":
        yield from _run_on_ray(jobs, workers)
    elif workers == 1:
        yield from map(_lean, jobs)
    else:
        with ProcessPoolExecutor(
            workers, mp_context=multiprocessing.get_context("spawn"), initializer=_one_thread
        ) as pool:
            yield from _as_they_come(jobs, workers, lambda job: pool.submit(_lean, job))


class _Lost(Exception):
    """A worker has gone, and perhaps these jobs with it."""

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.jobs = tuple(jobs)
        super().__init__(len(jobs))


def _as_they_come(
    jobs: Sequence[Job], workers: int, submit: Callable[[Job], Future[list[Played]]]
) -> Iterator[list[Played]]:
    """Few jobs wait at a time: each carries pictures. What is finished comes even where a worker was lost."""
    waiting, left = dict[Future[list[Played]], Job](), iter(jobs)
    while True:
        with suppress(BrokenExecutor):  # so are then the jobs that wait, of which there are some
            for job in islice(left, 2 * workers - len(waiting)):
                waiting[submit(job)] = job
        if not waiting:
            return
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        if any(_broken(one) for one in done):
            done, _ = wait(waiting)
        lost = [job for one, job in waiting.items() if one in done and _broken(one)]
        for one in [one for one in waiting if one in done and not _broken(one)]:
            del waiting[one]
            yield one.result()
        if lost:
            # Workers take jobs in the order they came: those behind had not been begun.
            raise _Lost(lost[:workers])


def _broken(one: Future[list[Played]]) -> bool:
    return isinstance(one.exception(), BrokenExecutor)


def _run_on_ray(jobs: Sequence[Job], workers: int) -> Iterator[list[Played]]:
    try:
        import ray
    except ImportError as error:
        raise MissingDependency("ray", "ray") from error
    if not ray.is_initialized():
        ray.init(address=None, num_cpus=workers, include_dashboard=False, log_to_driver=False)
    remote = ray.remote(num_cpus=1)(_lean_alone)
    left, waiting = iter(jobs), dict[Any, Job]()
    while True:
        waiting |= {remote.remote(job): job for job in islice(left, 2 * workers - len(waiting))}
        if not waiting:
            return
        (done,), _ = ray.wait(list(waiting), num_returns=1)
        job = waiting.pop(done)
        try:
            yield ray.get(done)
        except (ray.exceptions.WorkerCrashedError, ray.exceptions.OutOfMemoryError) as error:
            raise _Lost([job]) from error


def _lean(job: Job) -> list[Played]:
    """Play a job, and let go of its pictures."""
    return [replace(one, frames=one.frames[:0]) for one in play(job)]


def _lean_alone(job: Job) -> list[Played]:
    _one_thread()
    return _lean(job)


def _one_thread() -> None:
    import torch

    import vap_sim  # noqa: F401 - registers the environments

    torch.set_num_threads(1)  # the processes are the parallelism


def _named(job: Job) -> str:
    seeds = f"seed {job.seeds[0]}" if len(job.seeds) == 1 else f"seeds {job.seeds[0]} to {job.seeds[-1]}"
    return f"{job.policy} in {job.task} from {seeds}"


def _runs(seeds: Sequence[int], longest: int) -> Iterator[tuple[int, ...]]:
    """The seeds in their order as runs of consecutive ones, of up to `longest`."""
    run: list[int] = []
    for seed in seeds:
        if run and (seed != run[-1] + 1 or len(run) == longest):
            yield tuple(run)
            run = []
        run.append(seed)
    if run:
        yield tuple(run)
