"""`vap-sim record`: record twin episodes for training or evaluation, on all cores, resumable."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from vap_sim.errors import InvalidInput
from vap_sim.workers import lost_workers_named

if TYPE_CHECKING:
    from vap_sim.envs.twin_recorder import RecorderSettings


@dataclass(frozen=True)
class Record:
    """Record twin episodes; those already there are kept. Example: vap-sim record --out data/train --episodes 800

    Each seed fixes one episode. Seeds from 1,000,000 on are kept for evaluation.

    Attributes:
        out: Folder for the episodes.
        episodes: How many.
        seed: The first of consecutive seeds.
        steps: Actions of an episode.
        held_out: Record seeds that are kept for evaluation, and no others.
        workers: Processes at once.
        pictures: Without them only motion is recorded, in a fifth of the time: enough to train what moves objects.
        flawed: Share of behaviours in which something goes wrong: open fingers, low speed, a hand that drifts.
        behaviours: Only these, by name.
        flaws: Only these, by name.
        station: DROID, Bridge, RT1 or EgoVid.
        views: Cameras to record, those of the robot among them, such as wrist or head; by default the station's first.
        robot: Another arm with a gripper at that station's table, by name; by default the station's own.
    """

    out: Path
    episodes: int = 800
    seed: int = 0
    steps: int = 50
    held_out: bool = False
    workers: int = 2
    pictures: bool = True
    flawed: float = 0.0
    behaviours: tuple[str, ...] = ()
    flaws: tuple[str, ...] = ()
    station: str = "DROID"
    views: tuple[str, ...] = ()
    robot: str = ""


def run(command: Record) -> Path:
    """Record, and return the folder."""
    from vap_sim.envs.twin_recorder import RecorderSettings, check_seeds

    if command.episodes < 1 or command.steps < 1 or command.workers < 1:
        given = f"{command.episodes} episodes, {command.steps} steps, {command.workers} workers"
        raise InvalidInput("vap-sim record", given, "at least one of each")
    seeds = range(command.seed, command.seed + command.episodes)
    check_seeds(seeds, held_out=command.held_out)
    command.out.mkdir(parents=True, exist_ok=True)
    settings = RecorderSettings(
        steps=command.steps,
        pictures=command.pictures,
        flawed=command.flawed,
        behaviours=command.behaviours,
        flaws=command.flaws,
        station=command.station,
        views=command.views,
        robot=command.robot,
    )
    jobs = [(seed, command.out, settings, command.held_out) for seed in seeds]
    kept = "Episodes that were finished are kept: the same command goes on, with fewer --workers if memory is short."
    pool = ProcessPoolExecutor(command.workers, mp_context=get_context("spawn"))
    with lost_workers_named(f"recording into {command.out}", kept), pool:
        list(tqdm(pool.map(_one, jobs), total=len(jobs), unit="episode", desc="recording", dynamic_ncols=True))
    return command.out


def _one(job: tuple[int, Path, RecorderSettings, bool]) -> None:
    import torch

    from vap_sim.envs.twin_recorder import record_file

    torch.set_num_threads(1)  # the processes are the parallelism
    seed, folder, settings, held_out = job
    record_file(seed, folder, settings, held_out=held_out)
