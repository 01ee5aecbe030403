"""Evaluations: matched starts in dream and reference, whatever the workers, and no trial twice after a kill."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.envs.start import load_start
from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported, WorkerLost
from vap_sim.metrics.trial_log import load_trials
from vap_sim.metrics.trials import TrialTable
from vap_sim.policies import evaluate as module
from vap_sim.policies.episodes import Job, Played, play
from vap_sim.policies.evaluate import Arena, Evaluation, evaluate, read_starts

SMALL = Evaluation(policies=("idle", "scripted"), tasks=("reach",), seeds=(3, 4, 7, 8, 9), steps=2, rows=2)
DREAM = Arena("VAPWorld-DROID-v0", {"world": "kinematic"}, {"world": "kinematic"})
STARTS = {("reach", seed): load_start(f"reach_0{place}") for place, seed in enumerate(SMALL.seeds)}


def run(log: Path, evaluation: Evaluation = SMALL, arena: Arena = DREAM, **options: Any) -> TrialTable:
    return evaluate(evaluation, arena, log, starts=STARTS, progress=False, **options)


def plain(table: TrialTable) -> list[Any]:
    return sorted((replace(one, seconds=0.0) for one in table), key=lambda one: one.key)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> TrialTable:
    return run(tmp_path_factory.mktemp("whole") / "dream.jsonl")


def test_every_policy_meets_every_start_once(whole: TrialTable) -> None:
    assert {one.key for one in whole} == set(SMALL.plan(DREAM.env_id)) and len(whole) == 10
    assert [one.seed for one in whole.where(policy="idle")] == [3, 4, 7, 8, 9]


def test_jobs_hold_consecutive_seeds_of_one_policy_and_task() -> None:
    jobs = list(SMALL.jobs(SMALL.plan("id"), STARTS, DREAM))
    assert [(job.policy, job.seeds) for job in jobs] == [
        (policy, seeds) for policy in SMALL.policies for seeds in ((3, 4), (7, 8), (9,))
    ]
    assert all(job.starts == tuple(STARTS["reach", seed] for seed in job.seeds) for job in jobs)
    assert [job.starts for job in SMALL.jobs(SMALL.plan("id"), {}, DREAM)] == [()] * 6


def test_processes_do_the_same_as_one(whole: TrialTable, tmp_path: Path) -> None:
    assert plain(run(tmp_path / "dream.jsonl", workers=2)) == plain(whole)


def test_ray_does_the_same(whole: TrialTable, tmp_path: Path) -> None:
    ray = pytest.importorskip("ray", reason="ray is not installed (extra ray)")
    try:
        assert plain(run(tmp_path / "dream.jsonl", workers=1, engine="ray")) == plain(whole)
    finally:
        ray.shutdown()


def test_what_is_there_is_not_played_again(whole: TrialTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, played = tmp_path / "dream.jsonl", []

    def counted(job: Job) -> list[Played]:
        played.append(job)
        return real(job)

    real = play
    monkeypatch.setattr(module, "play", counted)
    first = replace(SMALL, policies=("idle",), seeds=(3, 4, 7))
    run(log, first)
    assert [job.seeds for job in played] == [(3, 4), (7,)]
    assert plain(run(log)) == plain(whole)
    assert [(job.policy, job.seeds) for job in played[2:]] == [
        ("idle", (8, 9)), ("scripted", (3, 4)), ("scripted", (7, 8)), ("scripted", (9,)),
    ]  # fmt: skip
    assert plain(run(log)) == plain(whole) and len(played) == 6
    assert plain(run(log, first)) == [one for one in plain(whole) if one.key in set(first.plan(DREAM.env_id))]


def test_a_killed_evaluation_goes_on(whole: TrialTable, tmp_path: Path) -> None:
    """Killed for real, in the middle, with what the disk then holds."""
    log = tmp_path / "dream.jsonl"
    script = textwrap.dedent(f"""
        import sys
        sys.path[:0] = {[str(Path(__file__).parent)]!r}
        from pathlib import Path
        from test_evaluate import run
        run(Path({str(log)!r}))
    """)
    child = subprocess.Popen([sys.executable, "-c", script], start_new_session=True)
    try:
        for _ in range(600):
            if log.exists() and log.read_bytes().count(b"\n") > 2:
                break
            time.sleep(0.1)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()
    assert 2 <= len(load_trials(log)[0]) <= 10
    assert plain(run(log)) == plain(whole)


def test_a_worker_that_is_killed_is_named_and_the_same_command_goes_on(
    whole: TrialTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers are copies of this process, so that they begin at once and play what is known."""
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("this system does not fork")
    fork, log, known = multiprocessing.get_context("fork"), tmp_path / "dream.jsonl", {one.key: one for one in whole}

    def fatal(job: Job) -> list[Played]:
        if (job.policy, job.seeds) == ("scripted", (7, 8)):
            os.kill(os.getpid(), signal.SIGKILL)
        nothing = np.zeros((0, 0), np.float32)
        keys = [(DREAM.env_id, job.policy, job.task, seed) for seed in job.seeds]
        return [Played(known[key], np.zeros((1, 1, 1, 3), np.uint8), nothing, nothing, "") for key in keys]

    with monkeypatch.context() as patched:
        patched.setattr(module, "play", fatal)
        patched.setattr(module.multiprocessing, "get_context", lambda kind: fork)
        with pytest.raises(WorkerLost, match="scripted in reach from seeds 7 to 8") as lost:
            run(log, workers=2)
    assert str(log) in str(lost.value) and "fewer than 2 workers or 2 rows" in str(lost.value)
    copy = pickle.loads(pickle.dumps(lost.value))
    assert str(copy) == str(lost.value) and 1 <= len(lost.value.under_way) <= 2
    kept, begun = {one.key for one in load_trials(log)[0]}, " ".join(lost.value.under_way)
    for job in SMALL.jobs(SMALL.plan(DREAM.env_id), {}, DREAM):
        finished = {(DREAM.env_id, job.policy, job.task, seed) for seed in job.seeds} <= kept
        last = (job.policy, job.seeds) == ("scripted", (9,))  # it may not have been begun
        assert finished != (f"{job.policy} in {job.task} from seed" in begun and f" {job.seeds[-1]}" in begun) or last
    assert plain(run(log)) == plain(whole)


def test_what_finished_beside_a_lost_worker_is_told_first() -> None:
    """Of four that may wait, two are lost, one has finished, and one comes too late to be taken."""
    jobs = list(SMALL.jobs(SMALL.plan("id"), {}, DREAM))
    ends: list[Future[list[Played]]] = [Future() for _ in range(3)]
    ends[0].set_exception(BrokenProcessPool())
    ends[1].set_exception(BrokenProcessPool())
    ends[2].set_result([])

    def submit(job: Job) -> Future[list[Played]]:
        if jobs.index(job) == 3:
            raise BrokenProcessPool
        return ends[jobs.index(job)]

    outcomes = module._as_they_come(jobs, 2, submit)
    assert next(outcomes) == []
    with pytest.raises(module._Lost) as lost:
        next(outcomes)
    assert lost.value.jobs == tuple(jobs[:2])


def test_a_log_of_another_world_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "dream.jsonl"
    run(log, replace(SMALL, policies=("idle",), seeds=(3,)))
    with pytest.raises((InvalidInput, BadFile), match="kinematic"):
        run(log, arena=replace(DREAM, about={"world": "another"}))


def test_names_and_numbers_are_checked_before_anything_is_played(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown engine 'rai'"):
        run(tmp_path / "a.jsonl", engine="rai")
    with pytest.raises(InvalidInput, match="workers: given 0"):
        run(tmp_path / "a.jsonl", workers=0)
    with pytest.raises(UnknownName, match="'skripted'"):
        replace(SMALL, policies=("skripted",))
    for change in ({"seeds": ()}, {"tasks": ()}, {"policies": ()}, {"seeds": (1, 1)}, {"rows": 0}):
        with pytest.raises(InvalidInput):
            replace(SMALL, **change)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def twin() -> Iterator[Arena]:
    pytest.importorskip("pybullet")
    yield Arena("VAPTwin-DROID-v0", at_starts=False)


def test_dream_and_reference_begin_alike(twin: Arena, tmp_path: Path) -> None:
    evaluation = Evaluation(policies=("scripted",), tasks=("reach", "push"), seeds=(500_000, 500_001), steps=1)
    starts = read_starts(twin, evaluation.tasks, evaluation.seeds, progress=False)
    assert set(starts) == {(task, seed) for task in evaluation.tasks for seed in evaluation.seeds}
    again = read_starts(twin, ("push",), (500_001,), progress=False)
    assert np.array_equal(again["push", 500_001].frames, starts["push", 500_001].frames)
    jobs = [job for arena in (twin, DREAM) for job in evaluation.jobs(evaluation.plan(arena.env_id), starts, arena)]
    first = [[one.frames[0] for one in play(job)] for job in jobs]
    for in_twin, in_dream in zip(first[:2], first[2:], strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(in_twin, in_dream, strict=True))
    truth = evaluate(evaluation, twin, tmp_path / "twin.jsonl", starts=starts, progress=False)
    assert all(one.success is not None for one in truth) and truth.source() == "truth"


def test_a_reference_must_tell_its_starts() -> None:
    with pytest.raises(Unsupported, match="'VAPWorld-DROID-v0' cannot record starts"):
        read_starts(DREAM, ("reach",), (1,), progress=False)
