"""How often each station's scripted experts succeed in the twin, on development seeds, and what it looks like.

    python benchmarks/experts.py --stations Bridge RT1 --seeds 30 --sheets out/sheets

Prints successes with Wilson's interval of 95 %, the median number of steps to success, and the seeds that failed. With
`--sheets` a contact sheet of every few episodes is written beside it, failures first.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import gymnasium
import numpy as np
import torch

from vap_sim.envs.stations import get_station, station_names
from vap_sim.envs.twin_env import TwinEnv
from vap_sim.metrics.agreement import wilson_interval
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.experts import expert_tasks
from vap_sim.policies.policy import as_batch, brief
from vap_sim.policies.registry import load_policy

FIRST_SEED = 900_000
"""Development seeds begin here; neither training nor evaluation uses them."""
SHEETS, COLUMNS = 6, 10
"""Episodes on a contact sheet, and pictures of each."""


@dataclass(frozen=True)
class Played:
    """One episode: whether the task was done, after how many steps, and what was seen."""

    seed: int
    success: bool
    steps: int
    frames: np.ndarray


def play(env: TwinEnv, policy: Any, seed: int, longest: int, rest: int) -> Played:
    """One episode; after success the expert goes on for `rest` steps, so that what it did last can be seen."""
    obs, info = env.reset(seed=seed)
    told = brief(policy, info)
    carry = told.reset(1, seed)
    frames, done, after = [_picture(obs)], 0, 0
    for step in range(longest):
        action, carry = told.act(as_batch(obs), carry)
        obs, _, ended, _, info = env.step(action[0])
        frames.append(_picture(obs))
        done = done or (step + 1 if ended else 0)
        after += bool(done)
        if after > rest:
            break
    return Played(seed, bool(done), done, np.stack(frames))


def _picture(obs: Any) -> np.ndarray:
    return np.concatenate([obs[name] for name in sorted(obs) if name.startswith("image")], axis=1)


def sheet(played: Sequence[Played]) -> np.ndarray:
    """Episodes as rows of pictures, evenly spread in time; failures first."""
    rows = []
    for one in sorted(played, key=lambda item: item.success)[:SHEETS]:
        picks = np.linspace(0, len(one.frames) - 1, COLUMNS).round().astype(int)
        row = np.concatenate(list(one.frames[picks]), axis=1)
        words = f"{one.seed} {'done at ' + str(one.steps) if one.success else 'FAILED'}"
        rows.append(cv2.putText(row.copy(), words, (3, 11), cv2.FONT_HERSHEY_SIMPLEX, 0.38, (255, 0, 0), 1))
    return np.concatenate(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stations", nargs="+", default=list(station_names()))
    parser.add_argument("--tasks", nargs="+", default=[], help="of those stations; all by default")
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--longest", type=int, default=200, help="steps of an episode")
    parser.add_argument("--views", nargs="+", default=[], help="cameras shown; the station's first by default")
    parser.add_argument("--sheets", type=Path, help="folder for contact sheets")
    options = parser.parse_args()
    torch.set_num_threads(1)
    gymnasium.logger.min_level = gymnasium.logger.ERROR  # episodes go on a little after success
    for name in options.stations:
        station = get_station(name)
        for task in (task for task in station.tasks if not options.tasks or task in options.tasks):
            if task not in expert_tasks(station.robot):
                print(f"{name:8} {task:14} has no expert")
                continue
            env = TwinEnv(station=name, task=task, views=tuple(options.views) or station.views[:1])
            context = PolicyContext(station.robot, station.control, station.control_hz, task)
            policy = load_policy("scripted", context)
            seeds = range(options.first_seed, options.first_seed + options.seeds)
            played = [play(env, policy, seed, options.longest, rest=4) for seed in seeds]
            env.close()
            report(name, task, played)
            if options.sheets is not None:
                options.sheets.mkdir(parents=True, exist_ok=True)
                path = options.sheets / f"{name}_{task}.png"
                cv2.imwrite(str(path), cv2.cvtColor(sheet(played), cv2.COLOR_RGB2BGR))


def report(station: str, task: str, played: Sequence[Played]) -> None:
    """One line for a task."""
    good = [one for one in played if one.success]
    bounds = wilson_interval(successes=len(good), trials=len(played))
    steps = median(one.steps for one in good) if good else float("nan")
    failed = " ".join(str(one.seed) for one in played if not one.success)
    told = f"{station:8} {task:14} {len(good):3d} of {len(played):3d}  [{bounds.low:.0%}, {bounds.high:.0%}]"
    print(f"{told}  {steps:5.0f} steps  {failed}", flush=True)


if __name__ == "__main__":
    main()
