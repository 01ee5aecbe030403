"""Which form of prompt tells a video model the action best? The Visual Action Prompts paper's comparison, tiny.

    python benchmarks/prompt_forms.py --data data/train --held-out out/episodes

A tiny CogVideoX is trained for each form of prompt, once with one camera for all episodes and once with a camera of its
own for each, with several seeds, all else equal. Each then dreams held-out episodes from their first picture. Runs that
are finished are kept in `--out`, so the command may be killed and given again; `--minutes` stops it in time by itself.
What there is so far is told by

    python benchmarks/prompt_forms_report.py
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from harness import held_out_files, write_json
from prompt_forms_films import CAMERAS, Film, films_of
from prompt_forms_report import BAR_FORMS, report
from prompt_forms_runs import Judge, Run, RunSettings, checked_json, run_one
from tqdm import tqdm

from vap_sim.data.twin import episode_files
from vap_sim.envs.twin_recorder import RecorderSettings, check_seeds, record_file
from vap_sim.prompts.profiles import FORMS

EPISODES = 380
"""Recordings to learn from, of seeds 0 and on."""
SEEDS = (0, 1, 2)
SETTINGS = "settings.json"
_STATES_ONLY = RecorderSettings(size=(32, 32))  # of these recordings no picture is used


def plan(forms: Sequence[str], cameras: Sequence[str], seeds: Sequence[int]) -> Iterator[Run]:
    """All runs in the order in which they are worth having: what the bar rests on first, seed by seed."""
    asked = [form for form in BAR_FORMS[::-1] if form in forms]
    others = [form for form in forms if form not in BAR_FORMS]
    for some in (asked, others):
        for kind in cameras:
            for seed in seeds:
                yield from (Run(form, kind, seed) for form in some)


def training_files(folder: Path | None, out: Path, count: int, workers: int) -> list[Path]:
    """The recordings to learn from, recorded to `out` where no folder is given. Raises BadFile, InvalidInput."""
    if folder is not None:
        return episode_files(folder)[:count]
    place = out / "recordings"
    place.mkdir(parents=True, exist_ok=True)
    one = partial(_record, folder=place)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        bar = tqdm(pool.map(one, range(count)), total=count, desc="recording", unit="episode", mininterval=5)
        return list(bar)


def _record(seed: int, *, folder: Path) -> Path:
    torch.set_num_threads(1)
    return record_file(seed, folder, _STATES_ONLY)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of recordings to learn from; recorded if left out")
    parser.add_argument("--held-out", type=Path, help="folder of held-out recordings; recorded if left out")
    parser.add_argument("--episodes", type=int, default=EPISODES, help="recordings to learn from")
    parser.add_argument("--limit", type=int, help="judge on only so many held-out recordings")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--cameras", nargs="+", choices=CAMERAS, default=list(CAMERAS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--steps", type=int, default=RunSettings.steps, help="training steps of every run")
    parser.add_argument("--batch", type=int, default=RunSettings.batch)
    parser.add_argument("--minutes", type=float, help="stop after so many minutes; the same command goes on")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2, help="processes that record and draw")
    parser.add_argument("--out", type=Path, default=Path("out") / "prompt_forms")
    parser.add_argument("--sheet", type=Path, help="the contact sheet; OUT/sheet.png if left out")
    return parser.parse_args()


def main() -> None:
    args = options()
    torch.set_num_threads(args.threads)
    ends = None if args.minutes is None else time.monotonic() + 60 * args.minutes
    settings = replace(RunSettings(), steps=args.steps, batch=args.batch)
    files = training_files(args.data, args.out, args.episodes, args.workers)
    held = held_out_files(args.held_out, args.limit)
    about = {"episodes": len(files), "held_out": len(held), "settings": asdict(settings)}
    checked_json(args.out / SETTINGS, about)
    loaded: dict[str, tuple[tuple[Film, ...], Judge]] = {}
    runs = list(plan(args.forms, args.cameras, args.seeds))
    for number, run in enumerate(runs, start=1):
        if run.cameras not in loaded:
            loaded.clear()  # films and clips of one kind of camera at a time
            loaded[run.cameras] = _load(run.cameras, settings, files, held, args)
        films, judge = loaded[run.cameras]
        minutes = None if ends is None else max(0.0, (ends - time.monotonic()) / 60)
        print(f"run {number} of {len(runs)}: {run.name}", flush=True)
        if run_one(run, settings, films, judge, args.out, minutes=minutes, device=args.device) is None:
            print("Time is up. The same command goes on from here.")
            break
    machine = {"processor": platform.processor() or platform.machine(), "torch": torch.__version__}
    told = report(args.out, args.sheet or args.out / "sheet.png")
    write_json(args.out / "report.json", {**told, "about": about, "machine": machine, "load": os.getloadavg()[0]})


def _load(
    kind: str, settings: RunSettings, files: Sequence[Path], held: Sequence[Path], args: argparse.Namespace
) -> tuple[tuple[Film, ...], Judge]:
    """Films to learn from and the judge of the held-out ones. Raises InvalidInput for seeds on the wrong side."""
    drawn = args.out / "films"
    films = films_of(files, kind, settings.films, drawn, workers=args.workers)
    shown = films_of(held, kind, settings.films, drawn, workers=args.workers)
    for some, held_out in ((films, False), (shown, True)):
        for film in some:
            check_seeds(range(film.seed, film.seed + 1), held_out=held_out)
    judge = Judge(shown, settings, kind)
    judge.keep_baselines(args.out)
    return films, judge


if __name__ == "__main__":
    main()
