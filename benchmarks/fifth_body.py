"""A body that does not ship, all the way of docs/new_body.md: does the preview lie on it, does adapting teach it?

    python benchmarks/fifth_body.py --minutes 30 --sheet out/fifth_body.png

The robot is pybullet's xArm 6 with its gripper, in a folder made by what the page says. The twin records 50 episodes
of it, and `adapt` goes on from the weights of `--world` with these recordings. Unseen episodes are then dreamt open
loop for 50 steps from their first picture, before and after. Exact masks of the twin are the truth; in a dream the
robot is found by a detector that learned from the exact masks of the same recordings and has nothing to do with the
world: "detector" is what it makes of the true frames, "copy" what the first picture repeated earns. Frame 0 is given
and not judged; intervals are bootstrapped over episodes. Everything stays in out/fifth_body/, and the same command goes
on from there. The record goes to out/fifth_body.json.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from fidelity import Truth, add, judge_masks, judge_pixels, read_truth
from fifth_body_folder import NAME, Drawn, drawn_over, known_by_name, make_folder, read_page
from harness import (
    HELD_OUT,
    Row,
    Tally,
    about,
    arguments,
    as_json,
    begin,
    dreamt_episodes,
    table,
    write_json,
    write_sheet,
)
from torch import Tensor

from vap_sim.commands.adapt import Adapt
from vap_sim.commands.adapt import run as adapt
from vap_sim.commands.record import Record
from vap_sim.commands.record import run as record
from vap_sim.data.twin import load_episode
from vap_sim.envs.twin_recorder import HELD_OUT_SEEDS
from vap_sim.metrics.detector import Detector, describe
from vap_sim.metrics.fidelity import copy_first_frame
from vap_sim.models.checkpoint import read_description, save_tensors
from vap_sim.models.registry import load_world
from vap_sim.robots.library import RobotModel
from vap_sim.training.detector import DetectorRecipe, DetectorTraining, load_stills
from vap_sim.training.loop import LoopSettings, train

FIRST = 140_000
"""The first seed of the recordings that are learned from."""
BARS = {"robot-mask ST-IoU": 0.75}
MEASURES = {
    "robot-mask ST-IoU": "",
    "robot-mask IoU, mean of frames": "",
    "object-mask ST-IoU": "",
    "PSNR at step 1": "dB",
    "PSNR at step 50": "dB",
    "moving pixels over copy, all steps": "dB",
}
SHEET_STEPS = (1, 10, 25, 50)


def recordings(folder: Path, first: int, count: int, workers: int) -> list[Path]:
    """Twin recordings of the robot from a seed on, made where they are missing."""
    held_out = first in HELD_OUT_SEEDS
    record(Record(out=folder, episodes=count, seed=first, held_out=held_out, workers=workers, robot=NAME))
    return [folder / f"twin_{seed:08d}.vap.npz" for seed in range(first, first + count)]


def previews(model: RobotModel, files: Sequence[Path]) -> list[Row]:
    """How well the drawing lies on the robot, over recordings."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for file in files:
        drawn: Drawn = drawn_over(model, load_episode(file, only=("labels", "measured")))
        for found in (drawn.overlap, drawn.inside, drawn.points):
            tallies[found.what].add_mean(found.existing(), found.undefined)
    return [Row(f"preview: {name}", tally.summary(), "%") for name, tally in tallies.items()]


def trained_eye(folder: Path, files: Sequence[Path], steps: int) -> Detector:
    """The detector of this body, learned from exact masks of recordings; training goes on where it was stopped."""
    path = folder / "eye.safetensors"
    if not path.exists():
        network = Detector.load().network.requires_grad_(True)
        stills, shown = load_stills(files, every=3), load_stills(files[:2], every=10)
        recipe = DetectorRecipe(network, stills, shown, DetectorTraining(batch=8))
        outcome = train(
            recipe,
            LoopSettings(
                folder=folder / "eye",
                steps=steps,
                learning_rate=1e-3,
                warmup=min(30, steps // 10),
                cooldown=steps // 2,
                average=0.97,
                checkpoint_every=50,
                preview_every=steps,
            ),
        )
        tensors = {name: value.to(torch.bfloat16) for name, value in outcome.weights.items()}
        save_tensors(path, tensors, describe(network, step=outcome.step, body=NAME))
    return Detector.load(path)


Results = Mapping[str, tuple[list[float], int]]


def judged(detector: Detector, truth: Truth, frames: Tensor) -> Results:
    """Every measure of a dream of one episode."""
    return judge_masks(truth, detector.labels(frames, truth.things)) | judge_pixels(truth, frames)


def compare(
    worlds: Mapping[str, str], files: Sequence[Path], detector: Detector
) -> tuple[dict[str, dict[str, Tally]], list[tuple[str, list[Tensor]]]]:
    """Totals by kind and measure: of each world's dreams, of the true frames and of the first one repeated; and rows of
    pictures, truth and dreams of each episode."""
    tallies: dict[str, dict[str, Tally]] = defaultdict(lambda: defaultdict(Tally))
    dreams: dict[str, list[Tensor]] = {}
    truths: list[Truth] = []
    for kind, world in worlds.items():
        dreams[kind] = []
        for place, (episode, frames) in enumerate(dreamt_episodes(load_world(world), files)):
            if place == len(truths):
                truths.append(read_truth(episode, classes=detector.classes))
            add(tallies[kind], judged(detector, truths[place], frames))
            dreams[kind].append(frames)
    for truth in truths:
        still = copy_first_frame(truth.frames).contiguous()
        add(tallies["detector"], judge_masks(truth, detector.labels(truth.frames, truth.things)))
        add(tallies["copy"], judged(detector, truth, still))
    lines = []
    for place, truth in enumerate(truths):
        for kind, frames in {"truth": truth.frames, **{kind: found[place] for kind, found in dreams.items()}}.items():
            seed, steps = truth.episode.meta["seed"], [step for step in SHEET_STEPS if step < len(frames)]
            lines.append((f"seed {seed}, steps {', '.join(map(str, steps))}: {kind}", [frames[s] for s in steps]))
    return {kind: dict(found) for kind, found in tallies.items()}, lines


def rows_of(tallies: Mapping[str, Mapping[str, Tally]]) -> list[Row]:
    """The report: figures after adapting beside those before, of the detector, and of the first picture repeated."""
    rows = []
    for name, unit in MEASURES.items():
        found = {kind: tally[name].summary() if name in tally else None for kind, tally in tallies.items()}
        rows.append(Row(name, found.pop("after", None), unit, BARS.get(name), found))
    return rows


def taught(options: argparse.Namespace, place: Path) -> tuple[Path, str]:
    """Adapt the world to the recordings, and return the weights and what was said."""
    weights = place / "adapted.safetensors"
    command = Adapt(
        folder=place / "recordings",
        out=weights,
        weights=options.world,
        steps=options.steps,
        cooldown=options.steps // 3,
        minutes=options.minutes,
        learning_rate=options.learning_rate,
        scenes=options.scenes,
        detector_steps=0,
        threads=options.threads,
    )
    return weights, str(adapt(command))


def main() -> None:
    parser = arguments(__doc__, "fifth_body.json")
    parser.add_argument("--seed", type=int, default=HELD_OUT[0], help="the first unseen episode's; 900000: development")
    parser.add_argument("--recordings", type=int, default=50, help="that are learned from")
    parser.add_argument("--steps", type=int, default=1500, help="of adapting")
    parser.add_argument("--minutes", type=float, help="of adapting, in which it goes as far as it gets")
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--scenes", type=int, default=1)
    parser.add_argument("--eye-steps", type=int, default=400, help="of the detector's training")
    parser.add_argument("--workers", type=int, default=1, help="processes that record")
    options = parser.parse_args()
    world, place, count = begin(options), options.out.with_suffix(""), options.limit or 20
    with known_by_name(make_folder(place, read_page())) as model:
        files = recordings(place / "recordings", FIRST, options.recordings, options.workers)
        unseen = recordings(options.episodes or place / "unseen", options.seed, count, options.workers)
        rows = previews(model, unseen)
        eye = trained_eye(place, files, options.eye_steps)
        weights, said = taught(options, place)
        tallies, lines = compare({"before": options.world, "after": str(weights)}, unseen, eye)
    rows += rows_of(tallies)
    print(f"{NAME}: {len(files)} recordings learned from, {len(unseen)} unseen ones from seed {options.seed}\n{said}")
    print(table(rows))
    adapted: Any = read_description(weights)["adapted"]
    write_json(options.out, {"about": about(world, options), "adapted": adapted, "results": as_json(rows)})
    if options.sheet is not None:
        write_sheet(options.sheet, [(name, [frame.numpy() for frame in frames]) for name, frames in lines[:12]])


if __name__ == "__main__":
    main()
