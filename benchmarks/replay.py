"""How fast `vap-sim replay` exports: recorded seconds over seconds taken, and where these go.

Twin recordings of 10 s, one camera, dreamt by one world with the shipped detector and meter of trust, which is what the
command does for them: read, dream, judge, draw and encode a film of 864 x 512 pixels, which is written while the next
recording is dreamt. The command runs over all recordings several times, with its world loaded already; the first
recording, by itself, warms up. Wall time is what the bar is about; processor time stands beside it, because a machine
that others use is slower by the clock. The parts are of each recording by itself. The record goes to out/replay.json.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any
from unittest.mock import patch

import numpy as np
from harness import about, arguments, begin, held_out_files, write_json

from vap_sim.commands import replay as command
from vap_sim.commands.replay import Replay, write_scene
from vap_sim.commands.replay_stages import seeing
from vap_sim.metrics.replay import judge
from vap_sim.viewer import replay_lanes
from vap_sim.viewer.replay_lanes import DreamSettings, Stage, dream_scene
from vap_sim.viewer.replay_logged import LogSettings
from vap_sim.viewer.replay_source import open_source

BAR = 5.0
"""Times real time."""


class Clock:
    """Wall and processor seconds by the name of what took them."""

    def __init__(self) -> None:
        self.wall: dict[str, float] = defaultdict(float)
        self.processor: dict[str, float] = defaultdict(float)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        began, used = perf_counter(), _used()
        yield
        self.wall[name] += perf_counter() - began
        self.processor[name] += _used() - used


def _used() -> float:
    told = resource.getrusage(resource.RUSAGE_SELF)
    return told.ru_utime + told.ru_stime


def main() -> None:
    parser = arguments(__doc__, "replay.json")
    parser.set_defaults(threads=2, limit=9)
    parser.add_argument("--repeats", type=int, default=3, help="how often all recordings are replayed")
    options = parser.parse_args()
    world = begin(options)
    files = held_out_files(options.episodes, options.limit)
    source = open_source(files[0].parent, "twin", LogSettings({}))
    plain = Stage("dream", options.world, world)
    runs = [
        one(source, file.name.removesuffix(".vap.npz"), plain, options, warm=number > 0)
        for number, file in enumerate(files)
    ][1:]
    recorded = sum(run["recorded"] for run in runs)
    names = tuple(run["name"] for run in runs)
    exports = [whole(files[0].parent, names, plain, options) for _ in range(options.repeats)]
    times, spent = (recorded / np.array(seconds) for seconds in zip(*exports, strict=True))
    median = float(np.median(times))
    print(f"{len(runs)} recordings of {np.mean([run['recorded'] for run in runs]):.1f} s, {options.threads} threads")
    for name in runs[0]["wall"]:
        wall, used = (float(np.median([run[kind][name] for run in runs])) for kind in ("wall", "processor"))
        print(f"  {name:14} {wall:7.2f} s, {used:6.2f} s of one processor")
    low, high = float(times.min()), float(times.max())
    verdict = "pass" if median >= BAR else "FAIL"
    print(f"export: {median:.1f} times real time ({low:.1f} to {high:.1f})   >= {BAR:g}   {verdict}")
    print(f"        {np.median(spent):.1f} recorded seconds a second of one processor")
    told = {"median": median, "spread": [low, high], "bar": BAR, "per_processor": spent.tolist()}
    write_json(options.out, {"about": about(world, options), "times_real_time": told, "runs": runs})


def whole(folder: Path, names: tuple[str, ...], plain: Stage, options: argparse.Namespace) -> tuple[float, float]:
    """Wall and processor seconds of the command over all recordings."""
    with tempfile.TemporaryDirectory() as out, patch.object(command, "open_stages", lambda _: (plain,)):
        told = Replay(folder, Path(out), episodes=names, format="twin", threads=options.threads)
        began, used = perf_counter(), _used()
        command.run(told)
        return perf_counter() - began, _used() - used


def one(source: Any, name: str, plain: Stage, options: argparse.Namespace, *, warm: bool) -> dict[str, Any]:
    """One recording from its file to its film, and what each part took."""
    clock = Clock()

    # Judging is timed by itself, within the making of lanes.
    def timed(*given: Any) -> Any:
        with clock("judge"):
            return judge(*given)

    with tempfile.TemporaryDirectory() as folder, patch.object(replay_lanes, "judge", timed), clock("all"):
        told = Replay(Path(), Path(folder), threads=options.threads)
        with clock("read"):
            recorded = source.read(name)
        stage = seeing(told, plain, recorded.from_twin, recorded.model.name)
        with clock("dream, judge"):
            scene = dream_scene(recorded, recorded.views[0], [stage], DreamSettings(), {})
        with clock("draw, encode"):
            write_scene(told, scene)
    length = (scene.clip.length - 1) / scene.clip.frame_rate
    print(f"{name}: {length / clock.wall['all']:.1f} times real time{'' if warm else ', warming up'}", flush=True)
    parts = {"wall": dict(clock.wall), "processor": dict(clock.processor)}
    return {"name": name, "recorded": length, "seconds": clock.wall["all"], **parts} | {
        "processor_seconds": clock.processor["all"]
    }


if __name__ == "__main__":
    main()
