"""Does a plan made in the dream work in the twin, and how fast is it imagined?

    python benchmarks/planning.py --trials 50

Task `push` in the twin, on seeds that no training and no choice of settings has seen. CEM searches pushes in the dream
of each observed picture; the random policy draws from the same space without imagining; the scripted expert knows where
everything is. All have the same starts and as many steps. Trials go to a file one by one (out/planning.jsonl); a run
that was stopped goes on where it was, and trials under other settings are left alone. The record goes to
out/planning.json.

Speed: 64 candidates of 10 steps, dreamt together, against steps of one environment, in turns, on two threads.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from harness import about, write_json
from tqdm import tqdm

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.envs.start import load_start
from vap_sim.imagination import Imagination
from vap_sim.metrics.agreement import wilson_interval
from vap_sim.models.registry import load_world
from vap_sim.policies.plan_policy import ScriptedPolicy
from vap_sim.policies.planned import PLANNED
from vap_sim.policies.planners import Blind
from vap_sim.policies.planning_policy import PlanningPolicy
from vap_sim.policies.policy import Policy, as_batch, brief

TASK, FIRST_SEED, LONGEST = "push", 1_000_000, 60
VIEWS = ("exterior_1",)
SUCCESS_BAR, SPEED_BAR = 0.8, 3.0
CANDIDATES, HORIZON = 64, 10
SPACE: Any = PLANNED[TASK].task(8)
PLANNER: Any = PLANNED[TASK].planner


def policies(imagination: Imagination) -> dict[str, Callable[[], Policy]]:
    """The policies to be compared, by name."""
    return {
        "expert": lambda: ScriptedPolicy(TASK),
        "random push": lambda: PlanningPolicy(SPACE, Blind(), imagination),
        "CEM in the dream": lambda: PlanningPolicy(SPACE, PLANNER, imagination),
    }


def trial(env: Any, policy: Policy, seed: int) -> dict[str, Any]:
    """One episode in the twin from a seed."""
    observation, info = env.reset(seed=seed)
    began = perf_counter()
    policy = brief(policy, info)
    carry = policy.reset(1, seed)
    steps, done, promised = 0, False, []
    while steps < LONGEST and not done:
        action, carry = policy.act(as_batch(observation), carry)
        if "cost" in carry and carry["step"][0] == 1:
            cost = float(carry["cost"][0])
            promised.append(cost if math.isfinite(cost) else None)
        observation, _, done, _, info = env.step(action[0])
        steps += 1
    return {
        "seed": seed,
        "success": bool(info["success"]),
        "steps": steps,
        "distance": info["distance"],
        "promised": promised,
        "seconds": perf_counter() - began,
        "load": os.getloadavg()[0],
    }


def settings(name: str, fingerprint: str) -> str:
    """A short name for everything that a trial of a policy depends on."""
    every: dict[str, Any] = {"task": TASK, "longest": LONGEST, "policy": name}
    if name != "expert":
        every |= {"space": asdict(SPACE), "world": fingerprint}
    if name.startswith("CEM"):
        every["planner"] = asdict(PLANNER)
    return hashlib.sha256(json.dumps(every, sort_keys=True).encode()).hexdigest()[:12]


def known_trials(path: Path) -> list[dict[str, Any]]:
    """The trials written so far; a last line cut short by a kill is dropped."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def run_trials(path: Path, imagination: Imagination, seeds: range) -> dict[str, list[dict[str, Any]]]:
    """All trials of all policies on the seeds: those in the file, and the rest, which are appended to it."""
    done = {(item["settings"], item["seed"]): item for item in known_trials(path)}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(item) + "\n" for item in done.values()), encoding="utf-8")
    env: Any = gym.make("VAPTwin-DROID-v0", task=TASK, views=VIEWS).unwrapped
    makers, fingerprint = policies(imagination), imagination.world.spec.fingerprint
    keys = {name: settings(name, fingerprint) for name in makers}
    for seed in tqdm(seeds, desc="trials", unit="seed", mininterval=5):
        for name, make in makers.items():
            if (keys[name], seed) not in done:
                item = {"policy": name, "settings": keys[name], **trial(env, make(), seed)}
                done[keys[name], seed] = item
                with path.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(item) + "\n")
    env.close()
    return {name: [done[key, seed] for seed in seeds] for name, key in keys.items()}


def report(results: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Print success rates with their intervals; the same as a record."""
    record: dict[str, Any] = {}
    for name, trials in results.items():
        wins = sum(item["success"] for item in trials)
        interval = wilson_interval(successes=wins, trials=len(trials))
        seconds = median(item["seconds"] for item in trials)
        record[name] = {"wins": wins, "trials": len(trials), "low": interval.low, "high": interval.high}
        share, low, high = (100 * value for value in (wins / len(trials), interval.low, interval.high))
        rate = f"{share:5.1f} %  ({low:.1f} .. {high:.1f})"
        print(f"{name:18}{wins:4d} of {len(trials):4d}  {rate}  {seconds:.1f} s a trial")
    expert = record["expert"]["wins"]
    if not expert:
        print("success against the expert's: undefined, the expert never succeeded")
        return record
    record["relative"] = record["CEM in the dream"]["wins"] / expert
    verdict = "pass" if record["relative"] >= SUCCESS_BAR else "FAIL"
    print(f"CEM in the dream: {record['relative']:.0%} of the expert's success, bar {SUCCESS_BAR:.0%}: {verdict}")
    return record


def speed(imagination: Imagination, rounds: int, threads: int) -> dict[str, float]:
    """Imagined steps a second over those of one environment, measured in turns; medians."""
    torch.set_num_threads(threads)
    start = load_start("push_00")
    env = gym.make("VAPWorld-DROID-v0", world=imagination.world, start=start, views=VIEWS)
    env.reset(seed=0)
    actions = ScriptedPolicy(TASK).plan(start, 2 * HORIZON)[HORIZON:]
    rng = np.random.default_rng(0)
    spread = np.concatenate([rng.normal(0, 0.05, (CANDIDATES, HORIZON, 7)), np.zeros((CANDIDATES, HORIZON, 1))], axis=2)
    candidates = (actions + spread).astype(np.float32)
    dream = imagination.begin(start.frames[None], start.joints[None].numpy(), start.cameras, [0])
    rows: dict[str, list[float]] = {"environment": [], "imagined": [], "imagined, every picture": []}
    for turn in range(rounds + 1):
        began = perf_counter()
        for _ in range(4):
            for action in actions:
                env.step(action)
        times = {"environment": (perf_counter() - began) / (4 * HORIZON)}
        for name, pictures in (("imagined", "last"), ("imagined, every picture", "all")):
            began = perf_counter()
            imagination.imagine(dream.repeat(CANDIDATES), candidates, pictures)
            times[name] = (perf_counter() - began) / (CANDIDATES * HORIZON)
        if turn:
            for name, seconds in times.items():
                rows[name].append(seconds)
    env.close()
    rates = {name: 1 / median(values) for name, values in rows.items()}
    ratio = rates["imagined"] / rates["environment"]
    print("  ".join(f"{name} {rate:.0f} steps/s" for name, rate in rates.items()))
    verdict = "pass" if ratio >= SPEED_BAR else "FAIL"
    print(
        f"{CANDIDATES} candidates x {HORIZON} steps, {threads} threads: {ratio:.2f} x, bar {SPEED_BAR:g} x: {verdict}"
    )
    return {**rates, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="compact", help="a world's name or a weights file")
    parser.add_argument("--trials", type=int, default=50, help="seeds from the first on; 0 measures speed alone")
    parser.add_argument("--first-seed", type=int, default=FIRST_SEED)
    parser.add_argument("--rounds", type=int, default=5, help="of the speed measurement; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=1, help="of the trials; speed is measured on two")
    parser.add_argument("--out", type=Path, default=Path("out") / "planning.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    imagination = Imagination(world=load_world(options.world))
    record: dict[str, Any] = {"about": about(imagination.world, options), "planner": asdict(PLANNER)}
    if options.trials:
        seeds = range(options.first_seed, options.first_seed + options.trials)
        results = run_trials(options.out.with_suffix(".jsonl"), imagination, seeds)
        record |= {"seeds": [seeds[0], seeds[-1]], "success": report(results)}
    if options.rounds:
        record["speed"] = speed(imagination, options.rounds, threads=2)
    write_json(options.out, record)


if __name__ == "__main__":
    main()
