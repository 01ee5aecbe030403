"""How long does a dream hold? Thousands of steps without reset under a random smooth policy.

    python benchmarks/stability.py --steps 3000 --sheet out/stability.png

Compares the agreement with the prompt in the last 100 steps with that of steps 10 to 109, and the time of a step after
1000 steps with that after 20. "twin" is the agreement of the twin's own pictures of the same poses (of every fifth), so
that a late stretch of harder poses is not taken for decay. The record goes to out/stability.json.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from harness import (
    Row,
    Tally,
    about,
    arguments,
    as_json,
    begin,
    episode_camera,
    held_out_files,
    table,
    twin_pictures,
    write_json,
    write_sheet,
)
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vap_sim.data.twin import load_episode
from vap_sim.metrics.trust import PromptAgreement
from vap_sim.models.protocol import WorldModel
from vap_sim.policies.motion_plans import wander
from vap_sim.policies.scripted import joint_targets
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.state import WorldState

BAR = 0.9
EARLY, LATE = 10, 100  # the early stretch begins after so many steps; both stretches are LATE steps long
SHEET_STEPS = (1, 10, 50, 500, 1000, 3000)
TIMED = (20, 1000)  # steps after which a step's time is compared
ROUNDS = 80


def smooth_motion(model: RobotModel, start: NDArray[Any], steps: int, seed: int) -> Tensor:
    """Joints (steps, J) [rad] of a tool that wanders above the table without end."""
    rng = np.random.default_rng([seed, 7])
    here, pieces, total = np.asarray(start, np.float64), [], 0
    while total < steps:
        piece = joint_targets(model, here, wander(rng, 10), 0.2)
        pieces.append(piece)
        here, total = piece[-1], total + len(piece)
    return model.robot.clamp(torch.from_numpy(np.concatenate(pieces)[:steps])).float()


@dataclass(frozen=True, eq=False)
class LongDream:
    """Frames (steps, H, W, 3) uint8; seconds of a step from each state of TIMED, None where the dream is shorter."""

    frames: Tensor
    step_seconds: dict[int, float] | None


def long_dream(world: WorldModel, start: Tensor, joints: Tensor, camera: Camera) -> LongDream:
    """Dream from start (H, W, 3) through joints (1 + steps, J) [rad], one step a pose."""
    prompter = Prompter(load_robot("panda_robotiq"), profile(world.spec.profile), world.spec.size)

    def prompt(pose: Tensor, pixel_frames: int) -> VisualPrompt:
        return prompter.draw(pose[None, None].expand(1, pixel_frames, -1), [camera])

    state = world.encode(start[None, None], prompt(joints[0], 1), [0])
    frames, kept = [], {}
    for index, pose in enumerate(tqdm(joints[1:], desc="dreaming", unit="step", mininterval=5), start=1):
        state, frame = world.step(state, prompt(pose, world.spec.frames_per_step))
        frames.append(frame[0, 0, -1].cpu())
        if index in TIMED:
            kept[index] = state, prompt(pose, world.spec.frames_per_step)
    timed = alternate(world, kept) if len(kept) == len(TIMED) else None
    return LongDream(torch.stack(frames), timed)


def alternate(world: WorldModel, kept: dict[int, tuple[WorldState, VisualPrompt]]) -> dict[int, float]:
    """Lower quartile of the seconds of a step from each kept state, in turn, so that other load falls on all alike."""
    seconds: dict[int, list[float]] = {index: [] for index in kept}
    for _ in range(ROUNDS):
        for index, (state, prompt) in kept.items():
            began = time.perf_counter()
            world.step(state, prompt)[1].cpu()
            seconds[index].append(time.perf_counter() - began)
    return {index: float(np.percentile(values, 25)) for index, values in seconds.items()}


def main() -> None:
    parser = arguments(__doc__, "stability.json")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.set_defaults(limit=1)
    options = parser.parse_args()
    if options.steps < EARLY + LATE:
        parser.error(f"--steps {options.steps}: at least {EARLY + LATE}")
    world, model = begin(options), load_robot("panda_robotiq")
    meter = PromptAgreement(model, world.spec.size)
    stretches = {
        f"agreement, steps {EARLY}..{EARLY + LATE - 1}": range(EARLY - 1, EARLY + LATE - 1),
        f"agreement, last {LATE} steps": range(options.steps - LATE, options.steps),
    }
    dreams = {name: Tally() for name in stretches}
    twins = {name: Tally() for name in stretches}
    step_times, lines = [], []
    for file in held_out_files(options.episodes, options.limit):
        episode = load_episode(file)
        camera, start = episode_camera(episode), torch.from_numpy(episode.frames[0, 0])
        first = torch.from_numpy(episode.joints[:1])
        joints = torch.cat([first, smooth_motion(model, episode.joints[0], options.steps, options.seed)])
        dreamt = long_dream(world, start, joints, camera)
        frames = dreamt.frames
        if dreamt.step_seconds is not None:
            step_times.append(dreamt.step_seconds)
        for name, steps in stretches.items():
            rows, some = list(steps), list(steps)[::5]
            own = meter.all(frames[rows], joints[1:][rows], camera)
            dreams[name].add(own.existing(), own.undefined)
            best = meter.all(twin_pictures(episode, joints[1:][some].numpy()), joints[1:][some], camera)
            twins[name].add(best.existing(), best.undefined)
        shown = [step for step in SHEET_STEPS if step <= options.steps]
        lines.append((f"{file.name}, steps {', '.join(map(str, shown))}", [frames[step - 1].numpy() for step in shown]))
    results = [Row(name, dreams[name].summary(), "", None, {"twin": twins[name].summary()}) for name in stretches]
    early, late = (row.summary for row in results)
    assert early is not None and late is not None
    kept = late.value / early.value
    print(f"world {world.spec.name} ({world.spec.fingerprint}), {options.steps} steps, {len(lines)} dreams")
    print(table(results))
    print(f"agreement kept: {100 * kept:.1f} %, bar {100 * BAR:.0f} %: {'pass' if kept >= BAR else 'FAIL'}")
    record: dict[str, Any] = {"about": about(world, options), "results": as_json(results), "kept": kept, "bar": BAR}
    if step_times:
        early_ms, late_ms = (1e3 * float(np.mean([times[index] for times in step_times])) for index in TIMED)
        record |= {"step_ms": [early_ms, late_ms], "step_time_1000_over_20": late_ms / early_ms}
        print(f"step time at 1000 over 20: {late_ms / early_ms:.3f} ({late_ms:.2f} ms over {early_ms:.2f} ms)")
    write_json(options.out, record)
    if options.sheet is not None:
        write_sheet(options.sheet, lines)


if __name__ == "__main__":
    main()
