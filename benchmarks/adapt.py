"""Does `vap-sim adapt` teach the compact model a station? Recordings it did not learn from, dreamt before and after.

    python benchmarks/adapt.py --minutes 20
    python benchmarks/adapt.py --station data/prepared --held-out 2 --minutes 60

Without `--station` the station is the foreign one of adapt_station.py: twin recordings before another camera in another
room, with the true camera. With it, prepared clips of a real one. The last recordings are held out; each is dreamt open
loop from its first picture by its joints, ten seconds at 5 Hz. Each figure stands beside that of the weights before,
of the recording itself (the most that can be asked of agreement), and of the first picture repeated. `--limit` N also
dreams N held-out twin episodes, in the look that the weights knew, to see what was forgotten. Frame 0 is given and not
judged; intervals are bootstrapped over replays. The record goes to out/adapt.json, videos to out/adapt/.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from harness import Row, Tally, about, arguments, as_json, begin, dreamt_episodes, held_out_files, table, write_json

from vap_sim.commands.adapt import Adapt, detector_beside
from vap_sim.commands.adapt import run as adapt
from vap_sim.commands.replay import RECORD, Replay
from vap_sim.commands.replay import run as replay
from vap_sim.metrics.fidelity import moving_gain
from vap_sim.models.registry import load_world

SECONDS = 10.0
SEEDS = range(900_200, 900_210)
"""Of the recordings that are played again at the foreign station; no shipped weights have learned from them."""
STEPS = 50
BARS = {"gain": 3.0, "agreement": 0.5}
NAMES = {
    "gain": "moving pixels over copy",
    "moving": "PSNR on moving pixels",
    "psnr": "PSNR, whole picture",
    "agreement": "agreement",
}


def foreign(folder: Path) -> Path:
    """The foreign station's clips, made where they are missing."""
    from adapt_station import foreign_station, record_station

    station = folder / "foreign"
    if not (station / "prepared.json").is_file():
        foreign_station(record_station(folder / "recordings", SEEDS, STEPS), station)
    return station


def replays(station: Path, weights: str, out: Path, clips: Sequence[str], options: argparse.Namespace) -> list[Any]:
    """The record of each replay of these clips."""
    command = Replay(
        dataset=station,
        out=out,
        weights=(weights,),
        episodes=tuple(clips),
        seconds=SECONDS,
        detector=str(detector_beside(options.weights)),
        sheet=True,
        threads=options.threads,
    )
    replay(command)
    found: list[Any] = json.loads((out / RECORD).read_text())["replays"]
    return found


def tallies_of(found: Sequence[Mapping[str, Any]]) -> dict[str, Tally]:
    """Totals by figure, one value a replay: its mean over steps."""
    tallies: dict[str, Tally] = defaultdict(Tally)
    for one in found:
        for name, value in one["mean"].items():
            undefined = sum(step.get(name) is None for step in one["steps"])
            tallies[name].add([] if value is None else [value], undefined)
    return tallies


def rows_of(before: Mapping[str, Tally], after: Mapping[str, Tally]) -> list[Row]:
    copies = {"moving": "copy", "agreement": "agreement_copy"}
    rows = []
    for name, words in NAMES.items():
        beside = {"before": before[name].summary(), "recording": None, "copy": None}
        if name == "agreement":
            beside["recording"] = after["agreement_recorded"].summary()
        if name in copies:
            beside["copy"] = after[copies[name]].summary()
        rows.append(Row(words, after[name].summary(), "" if name == "agreement" else "dB", BARS.get(name), beside))
    return rows


def twin_gain(world: str, files: Sequence[Path]) -> Tally:
    """Moving pixels over copy on twin episodes, one value each."""
    tally = Tally()
    for episode, dreamt in dreamt_episodes(load_world(world), files):
        found = moving_gain(generated=dreamt, truth=torch.from_numpy(episode.frames[0]))
        tally.add_mean(found.existing(), found.undefined)
    return tally


def main() -> None:
    parser = arguments(__doc__, "adapt.json")
    parser.add_argument("--station", type=Path, help="a folder of prepared clips; the foreign station if left out")
    parser.add_argument("--held-out", type=int, default=3, help="recordings that are not learned from")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--minutes", type=float, help="of training, in which it goes as far as it gets")
    parser.add_argument("--lora", type=int, default=0, help="rank; 0 trains the whole picture networks")
    parser.add_argument("--scenes", type=int, default=2)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--detector-steps", type=int, default=150)
    parser.add_argument("--twin", type=Path, help="twin recordings to mix in")
    options = parser.parse_args()
    world = begin(options)
    place = options.out.with_suffix("")
    options.weights = place / "adapted.safetensors"
    station = options.station or foreign(place)
    began = time.perf_counter()
    said = adapt(
        Adapt(
            folder=station,
            out=options.weights,
            weights=options.world,
            twin=options.twin,
            held_out=options.held_out,
            steps=options.steps,
            cooldown=options.steps // 3,
            minutes=options.minutes,
            learning_rate=options.learning_rate,
            lora=options.lora,
            scenes=options.scenes,
            detector_steps=options.detector_steps,
            threads=options.threads,
        )
    )
    seconds = time.perf_counter() - began
    description = load_description(options.weights)
    clips = description["adapted"]["held_out"]
    after = replays(station, str(options.weights), place / "after", clips, options)
    before = replays(station, options.world, place / "before", clips, options)
    rows = rows_of(tallies_of(before), tallies_of(after))
    if options.limit:
        files = held_out_files(options.episodes, options.limit)
        known, kept = (twin_gain(one, files).summary() for one in (options.world, str(options.weights)))
        rows.append(Row("twin: moving pixels over copy", kept, "dB", None, {"before": known}))
    print(f"{len(clips)} held-out clips of {station}, {len(after)} views\n{said}\n{table(rows)}")
    record = {"about": about(world, options), "seconds": seconds, "adapted": description["adapted"]}
    write_json(options.out, {**record, "results": as_json(rows), "replays": {"before": before, "after": after}})


def load_description(weights: Path) -> dict[str, Any]:
    from vap_sim.models.checkpoint import read_description

    return read_description(weights)


if __name__ == "__main__":
    main()
