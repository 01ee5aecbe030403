"""Shown once, is an action understood? Three systems that watch a demonstration, tiny, on eight actions of the twin.

    python benchmarks/reference_video.py

A tiny CogVideoX is trained on films of eight actions, and on it, frozen, each system learns to tell it what a
demonstration shows. Each then dreams from the first picture of held-out scenes, where every action begins alike, with a
demonstration of the action from another held-out scene and by another camera. A judge trained on twin films says which
action the dream shows. Runs that are finished are kept in `--out`, so the command may be killed and given again;
`--minutes` stops it in time by itself. What there is so far is told by

    python benchmarks/reference_video_report.py
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from harness import write_json
from prompt_forms_runs import checked_json
from reference_video_films import encoded, labels_of, recorded
from reference_video_judge import LEAST_ACCURACY, Judge, JudgeSettings, trained_judge
from reference_video_report import JUDGED, report
from reference_video_runs import Run, Stage, on_sheet, run_one
from reference_video_settings import RunSettings
from reference_video_systems import BASE, SYSTEMS

from vap_sim.envs.twin_actions import ActionSettings
from vap_sim.errors import InvalidInput
from vap_sim.models.checkpoint import save_tensors
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.training.reference_footage import Footage

SEEDS = (0, 1, 2)
SCENES, HELD_SCENES = 120, 16
SETTINGS = "settings.json"


def plan(systems: Sequence[str], seeds: Sequence[int]) -> Iterator[Run]:
    """All runs, seed by seed, the model that the others stand on first."""
    for seed in seeds:
        yield from (Run(system, seed) for system in (BASE, *systems))


def judged(judge: Judge, held: Sequence[Footage], codec: TinyCodec, folder: Path) -> dict[str, Any]:
    """How well the judge does on held-out twin films, and on what the codec keeps of them, which no dream can beat.

    Raises InvalidInput for a judge that is none.
    """
    films, labels = torch.stack([film.frames for film in held]), labels_of(held)
    found: dict[str, dict[str, Any]] = {}
    for name, shown in (("twin", films), ("codec", codec.decode(codec.encode(films)))):
        seen = judge(shown)
        found[name] = {"accuracy": seen.accuracy(labels), "confusion": seen.confusion(labels)}
    if found["twin"]["accuracy"] < LEAST_ACCURACY:
        expected = f"at least {LEAST_ACCURACY} on held-out twin films; train it for longer by --judge-steps"
        raise InvalidInput("accuracy of the judge", found["twin"]["accuracy"], expected)
    save_tensors(folder / "truth.safetensors", {"right": films[on_sheet(held)]}, {})
    write_json(folder / JUDGED, {**found, "films": len(held)})
    return found


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    own = RunSettings()
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--scenes", type=int, default=SCENES, help="scenes to learn from, each seen by two cameras")
    parser.add_argument("--held-scenes", type=int, default=HELD_SCENES, help="held-out scenes to judge on")
    parser.add_argument("--films", type=Path, help="folder of films; recorded to OUT/films if left out")
    parser.add_argument("--steps", type=int, default=own.steps, help="of the model without demonstrations")
    parser.add_argument(
        "--prism-pretraining", type=int, default=own.prism_pretraining, help="of a prism by pairs alone, before"
    )
    parser.add_argument("--prism-steps", type=int, default=own.prism_steps, help="of an action prism on it")
    parser.add_argument("--expert-steps", type=int, default=own.expert_steps, help="of an expert on it")
    parser.add_argument("--token-steps", type=int, default=own.token_steps, help="of the tokens of one action")
    parser.add_argument("--judge-steps", type=int, default=JudgeSettings.steps)
    parser.add_argument("--guidance", type=float, default=own.guidance, help="over the demonstration")
    parser.add_argument("--minutes", type=float, help="stop after so many minutes; the same command goes on")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that record")
    parser.add_argument("--out", type=Path, default=Path("out") / "reference_video")
    parser.add_argument("--sheet", type=Path, help="the contact sheet; OUT/sheet.png if left out")
    return parser.parse_args()


def main() -> None:
    args = options()
    torch.set_num_threads(args.threads)
    ends = None if args.minutes is None else time.monotonic() + 60 * args.minutes
    settings = replace(
        RunSettings(),
        steps=args.steps,
        prism_pretraining=args.prism_pretraining,
        prism_steps=args.prism_steps,
        expert_steps=args.expert_steps,
        token_steps=args.token_steps,
        guidance=args.guidance,
    )
    judging = JudgeSettings(steps=args.judge_steps)
    actions = ActionSettings(frames=settings.frames, size=(settings.side, settings.side))
    about = {
        "scenes": args.scenes,
        "held_scenes": args.held_scenes,
        "settings": asdict(settings),
        "judge": asdict(judging),
        "films": asdict(actions),
    }
    checked_json(args.out / SETTINGS, {**about, "settings": settings.of(BASE)})
    place = args.out / "films" if args.films is None else args.films
    films = recorded(args.scenes, place, replace(actions, cameras=2), workers=args.workers)
    held = recorded(args.held_scenes, place, actions, held_out=True, workers=args.workers)
    codec = TinyCodec(settings.channels)
    judge = trained_judge(films, codec, judging, args.out)
    judged(judge, held, codec, args.out)
    stage = Stage(films, encoded(films, codec), held, judge, settings, args.out)
    runs = list(plan(args.systems, args.seeds))
    for number, run in enumerate(runs, start=1):
        minutes = None if ends is None else max(0.0, (ends - time.monotonic()) / 60)
        print(f"run {number} of {len(runs)}: {run.name}", flush=True)
        if run_one(run, stage, minutes=minutes) is None:
            print("Time is up. The same command goes on from here.")
            break
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    found = report(args.out, args.sheet or args.out / "sheet.png")
    write_json(args.out / "report.json", {**found, "about": about, "machine": machine, "load": os.getloadavg()[0]})


if __name__ == "__main__":
    main()
