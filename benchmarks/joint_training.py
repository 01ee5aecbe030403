"""Is one model of all bodies as good as one of each, and does a skill wander from body to body?

    python benchmarks/joint_training.py --workers 2

The Visual Action Prompts paper's claims, at our scale: contact networks are trained from nothing on recordings of one
body or of all, with several seeds, and followed on others. In one diet the Google robot is never shown closing a
drawer, while other arms close it. Recordings are made on demand. What is finished is kept in `--out`, so the command
may be killed and given again; `--minutes` stops it in time by itself. What there is so far is told by

    python benchmarks/joint_training_report.py
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import fields, replace
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import torch
from harness import write_json
from joint_training_diets import BLOCKS, DIETS, JUDGED, RECORDINGS, TAUGHT, Kind, films_of, record_kind, seeds_of
from joint_training_judge import Exam, exam_of
from joint_training_report import report
from joint_training_runs import Run, RunSettings, read_run, run_one, seconds_of

from vap_sim.training.contact_films import ContactFilm
from vap_sim.workers import lost_workers_named

SEEDS = (0, 1, 2)


def plan(diets: Sequence[str], seeds: Sequence[int]) -> Iterator[Run]:
    """All runs in the order in which they are worth having: seed by seed, the diets that the bar rests on first."""
    for seed in seeds:
        yield from (Run(diet, seed) for diet in DIETS if diet in diets)


def recordings(settings: RunSettings, diets: Sequence[str], data: Path, workers: int) -> None:
    """Make all recordings that diets and exams need and that are not there yet. Raises OSError."""
    for name in dict.fromkeys(name for diet in diets for name in DIETS[diet]):
        taught(name, settings, data, workers)
    for name in JUDGED:
        judged(name, settings, data, workers)


def taught(name: str, settings: RunSettings, data: Path, workers: int = 1) -> list[Path]:
    """The recordings of a kind that is learned from."""
    return _recorded(TAUGHT[name], seeds_of(TAUGHT[name], settings.recordings), data / name, workers)


def judged(name: str, settings: RunSettings, data: Path, workers: int = 1) -> list[Path]:
    """The recordings of a kind that is judged by."""
    seeds = seeds_of(JUDGED[name], settings.judged, settings.block)
    return _recorded(JUDGED[name], seeds, data / f"{name}_{settings.block}", workers)


def _recorded(kind: Kind, seeds: range, folder: Path, workers: int) -> list[Path]:
    return record_kind(kind, seeds, folder, workers=workers, name=folder.name)


@lru_cache(maxsize=len(TAUGHT))
def films(name: str, settings: RunSettings, data: Path) -> tuple[ContactFilm, ...]:
    """The films of a kind, kept by the process."""
    return films_of(name, taught(name, settings, data), settings.views)


@lru_cache(maxsize=len(JUDGED))
def exam(name: str, settings: RunSettings, data: Path) -> Exam:
    """What a kind asks, kept by the process."""
    return exam_of(judged(name, settings, data), drawers=name == "closing")


def work(run: Run, settings: RunSettings, data: Path, out: Path, ends: float | None, threads: int) -> bool:
    """Train and judge a run in a process of its own; False where time was up before. ends: by `time.time`."""
    torch.set_num_threads(threads)
    minutes = None if ends is None else max(0.0, (ends - time.time()) / 60)
    if minutes == 0.0:
        return False
    meals = {name: films(name, settings, data) for name in DIETS[run.diet]}
    exams = {name: exam(name, settings, data) for name in JUDGED}
    return run_one(run, settings, meals, exams, out, minutes=minutes) is not None


def work_all(runs: Sequence[Run], settings: RunSettings, options: argparse.Namespace, ends: float | None) -> bool:
    """Whether all runs are finished, each worked on by one of several processes."""
    asked = (settings, options.data, options.out, ends, options.threads)
    if options.workers == 1:
        return all(work(run, *asked) for run in runs)
    advice = "What is finished is kept: the same command goes on, with --workers 1 if memory is short."
    pool = ProcessPoolExecutor(options.workers, mp_context=get_context("spawn"))
    with lost_workers_named("training", advice), pool:
        jobs: dict[Future[bool], Run] = {pool.submit(work, run, *asked): run for run in runs}
        finished = []
        for job in as_completed(jobs):
            finished.append(job.result())
            print(f"{jobs[job].name}: {'finished' if finished[-1] else 'stopped in time'}", flush=True)
    return all(finished)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--diets", nargs="+", choices=DIETS, default=list(DIETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--seed-block", choices=BLOCKS, default="test", help="recordings to be judged by")
    for name in ("recordings", "judged", "steps", "grows", "cooldown", "batch"):
        parser.add_argument(f"--{name}", type=int, default=getattr(RunSettings, name), help=_HELP[name])
    parser.add_argument("--minutes", type=float, help="stop after so many minutes; the same command goes on")
    parser.add_argument("--workers", type=int, default=2, help="runs at once, each in a process of its own")
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--data", type=Path, default=RECORDINGS, help="folder of the recordings, made where missing")
    parser.add_argument("--out", type=Path, default=Path("out") / "joint_training")
    parser.add_argument("--estimate", action="store_true", help="say how long it will take, and do nothing")
    return parser.parse_args()


_HELP: Mapping[str, str] = {
    "recordings": "of each kind to learn from",
    "judged": "recordings of each kind to be judged by",
    "steps": "updates of every run",
    "grows": "update from which things are followed for longer",
    "cooldown": "updates over which the learning rate falls",
    "batch": "things of each kind in an update",
}


def main() -> None:
    args = options()
    ends = None if args.minutes is None else time.time() + 60 * args.minutes
    asked = {field.name: getattr(args, field.name) for field in fields(RunSettings) if hasattr(args, field.name)}
    settings = replace(RunSettings(), block=args.seed_block, **asked)
    runs = list(plan(args.diets, args.seeds))
    left = [run for run in runs if read_run(args.out, run, settings) is None]
    hours = sum(seconds_of(run, settings) for run in left) / 3600
    print(f"{len(left)} of {len(runs)} runs to do: about {hours:.1f} hours of one core, and the recordings", flush=True)
    if args.estimate:
        return
    recordings(settings, args.diets, args.data, args.workers)
    if not work_all(left, settings, args, ends):
        print("Time is up. The same command goes on from here.")
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    told = report(args.out)
    write_json(args.out / "report.json", {**told, "machine": machine, "load": os.getloadavg()[0]})


if __name__ == "__main__":
    main()
