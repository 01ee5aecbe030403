"""How fast prompts are drawn: from joint angles to pixels, in batches and one at a time, and silhouettes.

    python benchmarks/prompts.py --threads 2 --size 128 --out out/prompts.json
    python benchmarks/prompts.py --forms mesh depth --batches 64

Prints the median of the repetitions, their spread (half the distance between the quartiles) and the processor time,
which tells more on a busy machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import torch

from vap_sim.prompts import Prompter, form_names, profile, profile_names, silhouettes
from vap_sim.robots.library import load_robot


def measure(work: Callable[[], object], repetitions: int, inner: int = 1) -> tuple[float, float, float]:
    """Median seconds of one call, half the distance between the quartiles, and processor seconds, after a warm-up."""
    for _ in range(max(3, repetitions // 5)):
        work()
    seconds, processor = [], []
    for _ in range(repetitions):
        start, start_processor = time.perf_counter(), time.process_time()
        for _ in range(inner):
            work()
        seconds.append((time.perf_counter() - start) / inner)
        processor.append((time.process_time() - start_processor) / inner)
    low, middle, high = statistics.quantiles(seconds, n=4)
    return middle, (high - low) / 2, statistics.median(processor)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--robot", default="panda_robotiq")
    options.add_argument("--camera", default="exterior_1")
    options.add_argument("--size", type=int, default=128)
    options.add_argument("--batches", type=int, nargs="+", default=[256, 512, 1024])
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--repetitions", type=int, default=15)
    options.add_argument("--forms", nargs="+", choices=form_names(), help="time these forms of a prompt instead")
    options.add_argument("--out", type=Path, default=Path("out/prompts.json"))
    given = options.parse_args()
    torch.set_num_threads(given.threads)

    model = load_robot(given.robot)
    size = (given.size, given.size)
    camera = model.camera(given.camera).resized(size)
    noise = torch.randn(max(given.batches), 1, len(model.home), generator=torch.Generator().manual_seed(0))
    q = model.robot.clamp(model.home + 0.4 * noise)
    rows: list[dict[str, object]] = []

    def report(what: str, pictures: int, seconds: float, spread: float, processor: float) -> None:
        figures = {"seconds": seconds, "spread": spread, "processor_seconds": processor}
        rows.append({"what": what, "pictures": pictures, "per_second": pictures / seconds, **figures})
        each, busy = 1e6 * seconds / pictures, 1e6 * processor / pictures
        percent = 100 * spread / seconds
        print(f"{what:34s} {1e6 / each:10,.0f} /s  {each:8.1f} us each +-{percent:.1f} %  {busy:8.1f} us of processor")

    for name in given.forms or profile_names():
        prompter = Prompter(model, profile(name), size)
        for batch in given.batches:
            figures = measure(partial(prompter.draw, q[:batch], [camera]), given.repetitions)
            report(f"prompts, {name}, batch {batch}", batch, *figures)
        inner = 10 if given.forms else 100
        figures = measure(partial(prompter.draw, q[:1], [camera]), given.repetitions, inner=inner)
        report(f"prompts, {name}, one at a time", 1, *figures)
    for batch in () if given.forms else (1, 64):
        figures = measure(partial(silhouettes, model, q[:batch], [camera]), given.repetitions)
        report(f"silhouettes, batch {batch}", batch, *figures)

    about = {
        "robot": given.robot,
        "size": size,
        "threads": given.threads,
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0],
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = given.out.with_suffix(".partial")
    unfinished.write_text(json.dumps({"about": about, "results": rows}, indent=2), encoding="utf-8")
    unfinished.replace(given.out)


if __name__ == "__main__":
    main()
