"""Is a policy that was trained only in the dream as good in the twin as one that was trained there?

    python benchmarks/train_in_dream.py

Filtered behaviour cloning, twice alike: teachers that fail most of the time play the same episodes, from the same
starts, once in the dream and once in the twin. In the dream the judge says from pictures what succeeded, in the twin
its truth. The same network is trained with as many updates on what was kept, and both policies act in the twin, on
seeds that no training and no choice of settings has seen. All of it in one lab, whose camera stands where it stands:
objects, their places, table, light and the arm's first pose differ from episode to episode. Everything that is finished
is kept under OUT: a run that was stopped goes on where it was, and the arms can run beside each other (--arms dream,
--arms twin, then both).
"""

from __future__ import annotations

import argparse
import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import torch
from harness import write_json

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.envs.layouts import CameraSpread
from vap_sim.envs.scenes import Scene, sample_scene
from vap_sim.envs.stations import DROID
from vap_sim.envs.tasks import Push, Reach
from vap_sim.errors import InvalidInput
from vap_sim.metrics.agreement import wilson_interval
from vap_sim.policies.cloning import CloneTraining
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.evaluate import Arena, Evaluation, evaluate
from vap_sim.policies.improvement import improve
from vap_sim.policies.judge_learned import WEIGHTS, LearnedJudge
from vap_sim.policies.practice import Practice
from vap_sim.training.loop import LoopSettings

TASKS, ARMS, BAR = ("reach", "push"), ("dream", "twin"), 0.9
HELD_OUT, LATEST_TRAINING = 1_000_000, 900_000
TEACHERS = (
    "scripted+noise=0.01",
    "scripted+miss=0.015+noise=0.01",
    "scripted+miss=0.03+noise=0.02",
    "scripted+wrong_object",
    "scripted+miss=0.02+held_noise=0.01",
)
STEPS = {"reach": 16, "push": 36}
ONE_VIEW = {"views": ("exterior_1",)}
"""What the cloned policies and the judge look at."""


def _still(camera: CameraSpread) -> CameraSpread:
    """A camera that stands in the middle of where it may stand."""
    middles: dict[str, Any] = {
        name: (sum(getattr(camera, name)) / 2,) * 2 for name in ("azimuth", "elevation", "distance", "vertical_fov")
    }
    return replace(camera, jitter=0.0, **middles)


LAYOUT = replace(DROID.layout, cameras=tuple(_still(camera) for camera in DROID.layout.cameras))


class LabReach(Reach):
    """The task in the lab."""

    def scene(self, rng: np.random.Generator) -> Scene:
        return sample_scene(rng, layout=LAYOUT)


class LabPush(Push):
    """The task in the lab."""

    def scene(self, rng: np.random.Generator) -> Scene:
        return sample_scene(rng, goal=True, layout=LAYOUT)


LAB = replace(DROID, layout=LAYOUT, tasks={"reach": LabReach(), "push": LabPush()}, task="reach", scenes=None)
TWIN = Arena("VAPTwin-DROID-v0", {**ONE_VIEW, "station": LAB}, at_starts=False)


def practice(arm: str, task: str, options: argparse.Namespace) -> Practice:
    """What an arm plays; only where it plays, and who says what succeeded, differ."""
    seeds = range(options.first_seed, options.first_seed + options.episodes)
    if seeds[-1] >= LATEST_TRAINING:
        raise InvalidInput("training seeds", seeds, f"seeds below {LATEST_TRAINING}")
    common: dict[str, Any] = {"task": task, "teachers": TEACHERS, "seeds": seeds, "steps": STEPS[task], "rows": 8}
    if arm == "twin":
        return Practice(arena=TWIN, **common)
    told = {"world": options.world, **ONE_VIEW}
    env: Any = gymnasium.make("VAPWorld-DROID-v0", **told)
    spec = env.unwrapped.world_spec
    env.close()
    arena = Arena("VAPWorld-DROID-v0", told, {"fingerprint": spec.fingerprint})
    judged = hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]
    return Practice(
        arena=arena,
        reference=TWIN,
        judge=LearnedJudge.load(),
        every=1,
        consecutive=2,
        about={"judge": judged},
        **common,
    )


def trained(arm: str, task: str, options: argparse.Namespace) -> tuple[Path, dict[str, Any]]:
    """The policy of an arm, and how it came about."""
    out = options.out / arm / f"{task}.safetensors"
    updates = options.updates
    settings = LoopSettings(
        out.with_name(out.name + ".run"),
        updates,
        learning_rate=1e-3,
        warmup=min(100, updates),
        cooldown=updates // 2,
        average=0.995,
    )
    training, sizes = CloneTraining(batch=options.batch), {"chunk": options.chunk, "width": options.width}
    (played,) = improve(
        practice(arm, task, options), PolicyContext(task=task), out, settings, training=training, **sizes
    )
    return out, {"episodes": played.episodes, "kept": played.successes, "steps": played.steps}


def scored(policies: dict[str, Path], task: str, options: argparse.Namespace) -> dict[str, Any]:
    """Success of policies by their files in the twin, on as many held-out seeds."""
    names = {arm: f"bc@{path}" for arm, path in policies.items()}
    seeds = tuple(range(options.test_seed, options.test_seed + options.trials))
    marks = {arm: hashlib.sha256(path.read_bytes()).hexdigest()[:16] for arm, path in policies.items()}
    record: dict[str, Any] = {}
    for arm, name in names.items():
        plan = Evaluation(policies=(name,), tasks=(task,), seeds=seeds, steps=STEPS[task] + 4)
        log = options.out / f"trials_{task}_{arm}_{marks[arm]}.jsonl"
        table = evaluate(plan, TWIN, log, starts={}, progress=True)
        wins = sum(bool(trial.success) for trial in table)
        record[arm] = {"wins": wins, "trials": len(table), **asdict(wilson_interval(successes=wins, trials=len(table)))}
    return record


def report(task: str, record: dict[str, Any]) -> dict[str, Any]:
    """Print a task's outcome, and add the ratio to its record."""
    for arm in record["test"]:
        one, made = record["test"][arm], record["training"][arm]
        print(
            f"{task:6} trained in the {arm:5}: {one['wins']:3d} of {one['trials']:3d} in the twin, "
            f"{100 * one['wins'] / one['trials']:5.1f} % ({100 * one['low']:.1f} .. {100 * one['high']:.1f}); "
            f"learned from {made['kept']} of {made['episodes']} episodes, {made['steps']} steps"
        )
    if set(record["test"]) == set(ARMS):
        dream, twin = (record["test"][arm]["wins"] for arm in ARMS)
        if not twin:
            print(f"{task:6} ratio: undefined, the twin-trained policy never succeeded")
            return record
        verdict = "pass" if dream / twin >= BAR else "FAIL"
        print(f"{task:6} ratio {dream / twin:.2f}, bar {BAR:g}: {verdict}")
        return {**record, "ratio": dream / twin}
    return record


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="compact", help="a world's name or a weights file")
    parser.add_argument("--tasks", nargs="+", default=TASKS, choices=TASKS)
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--episodes", type=int, default=800, help="of an arm, in each task")
    parser.add_argument("--updates", type=int, default=3000, help="of the network")
    parser.add_argument("--batch", type=int, default=64, help="steps in a batch")
    parser.add_argument("--width", type=int, default=16, help="of the network's convolutions")
    parser.add_argument("--chunk", type=int, default=4, help="actions that the policy decides on at once")
    parser.add_argument("--trials", type=int, default=100, help="held-out seeds; 0 trains only")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--test-seed", type=int, default=HELD_OUT)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out") / "train_in_dream")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    record: dict[str, Any] = {}
    for task in options.tasks:
        made = {arm: trained(arm, task, options) for arm in options.arms}
        record[task] = {"training": {arm: about for arm, (_, about) in made.items()}}
        if options.trials:
            record[task]["test"] = scored({arm: path for arm, (path, _) in made.items()}, task, options)
            record[task] = report(task, record[task])
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    write_json(options.out / "record.json", {"settings": settings, "teachers": TEACHERS, "tasks": record})


if __name__ == "__main__":
    main()
