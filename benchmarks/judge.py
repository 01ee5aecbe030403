"""How far is the judge to be believed? Held-out episodes of graded policies, in the twin's pictures and in the dream's.

    python benchmarks/judge.py --data data/judge --episodes 100 --sheet out/judge.png

Episodes that the folder lacks are recorded (seeds from 1,000,000 on). Every moment is judged twice: in the twin's
picture, against the twin's exact truth, and in the dreamt picture, against what the dream shows by its own objects'
places. That oracle is itself checked on true pictures first ("oracle"). Dreamt moments where 5 mm would change the
label, or where the dream never had the object, are "unclear": figures are given without them and with them. "last" is
the end of each episode. Optimism is the share of failures, as labelled, that the judge calls a success. Intervals are
bootstraps over episodes. The record goes to out/judge.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import Row, Summary, Tally, as_json, table, write_json, write_sheet
from numpy.typing import NDArray
from tqdm import tqdm

from vap_sim.commands.judge_episodes import JudgedEpisode, load_judged, record_missing
from vap_sim.commands.judge_oracle import label, shown_as_read, shown_in_twin
from vap_sim.commands.judge_questions import SOURCES, evidence_of, shown_in
from vap_sim.envs.tasks import get_task
from vap_sim.envs.twin_recorder import HELD_OUT_SEEDS
from vap_sim.policies.judge import Judge, Verdict
from vap_sim.policies.judge_learned import LearnedJudge

ACCURACY, ABSTENTION = 0.95, 0.10
AT_REST = 0.05  # [m/s] a single picture tells no speed, so the oracle is checked below it


@dataclass(frozen=True)
class Case:
    """One moment in one source: what is true there, whether that is clear, and what the judge said."""

    seed: int
    policy: str
    task: str
    source: str
    moment: int
    last: bool
    truth: bool
    clear: bool
    verdict: Verdict


def judged(judge: Judge, files: Sequence[Path]) -> list[Case]:
    """All moments of all episodes in both sources."""
    cases = []
    for path in tqdm(files, desc="judging", unit="episode", mininterval=5):
        episode = load_judged(path)
        for source in SOURCES:
            shown, task = shown_in(episode, source), get_task(episode.task)
            for moment, verdict in enumerate(judge.judge(evidence_of(episode, source))):
                truth = label(shown, moment, task)
                cases.append(
                    Case(
                        int(episode.meta["seed"]), str(episode.meta["policy"]), episode.task, source, moment,
                        moment == len(episode.steps) - 1, truth.success, truth.clear, verdict,
                    )
                )  # fmt: skip
    return cases


def per_episode(cases: Sequence[Case], value: Callable[[Case], bool | None]) -> Summary | None:
    """Mean of `value` over cases where it is not None, with an interval over episodes."""
    seeds: dict[int, list[float]] = {}
    for case in cases:
        given = value(case)
        seeds.setdefault(case.seed, []).extend([] if given is None else [float(given)])
    tally = Tally()
    for values in seeds.values():
        tally.add(values)
    return tally.summary() if seeds else None


def right(case: Case) -> bool | None:
    return None if case.verdict.answer is None else case.verdict.answer == case.truth


def abstains(case: Case) -> bool:
    return case.verdict.cannot_tell


def optimistic(case: Case) -> bool | None:
    return None if case.truth else case.verdict.yes


def report(cases: Sequence[Case]) -> list[Row]:
    """Accuracy, abstention and optimism by source and task, on clear labels, at all moments and at the last."""
    rows = []
    for source in SOURCES:
        here = [case for case in cases if case.source == source]
        for task in ("all tasks", *sorted({case.task for case in here})):
            own = [case for case in here if task in ("all tasks", case.task) and case.clear]
            for name, some in (("moments", own), ("last", [case for case in own if case.last])):
                bars = source == "dream" and task == "all tasks"
                answers = per_episode(some, lambda case: not abstains(case))
                head = f"{source}, {task}, {name}"
                rows.append(
                    Row(f"{head}: right where it answers", per_episode(some, right), "%", ACCURACY * bars or None)
                )
                rows.append(Row(f"{head}: answers", answers, "%", (1 - ABSTENTION) * bars or None))
                rows.append(Row(f"{head}: optimism on failures", per_episode(some, optimistic), "%"))
        rows.append(Row(f"{source}, all tasks, unclear ones too: right", per_episode(here, right), "%"))
    return rows


def confusion(cases: Sequence[Case]) -> dict[str, dict[str, int]]:
    """Counts by truth ("done", "not done") and verdict."""
    out = {truth: {"yes": 0, "no": 0, "cannot tell": 0} for truth in ("done", "not done")}
    for case in cases:
        out["done" if case.truth else "not done"][case.verdict.word] += 1
    return out


def oracle_rows(files: Sequence[Path]) -> list[Row]:
    """How often the geometric oracle is right on the twin's own pictures, moments at rest and clear, by task."""
    tallies: dict[str, Tally] = {}
    offs = []
    for path in files:
        episode = load_judged(path)
        truth, read, task = shown_in_twin(episode), shown_as_read(episode), get_task(episode.task)
        labels = [label(read, moment, task) for moment in range(len(episode.steps))]
        good = [
            float(item.success == episode.success[moment])
            for moment, item in enumerate(labels)
            if item.clear and episode.speed[moment] < AT_REST
        ]
        for name in ("all tasks", episode.task):
            tallies.setdefault(name, Tally()).add(good, len(labels) - len(good))
        offs.append(np.linalg.norm(read.places[:, 0] - truth.places[:, 0], axis=1))
    every = np.concatenate(offs)
    print(
        f"oracle: objects off by {1000 * np.nanmedian(every):.1f} mm (median), {np.isnan(every).mean():.1%} not found"
    )
    return [Row(f"oracle on true pictures, {name}", tally.summary(), "%") for name, tally in sorted(tallies.items())]


def sheet_lines(files: Sequence[Path], cases: Sequence[Case], most: int) -> list[tuple[str, list[NDArray[np.uint8]]]]:
    """First, previous and judged picture of the judge's mistakes on clear labels."""
    by_seed = {int(load_seed(path)): path for path in files}
    lines = []
    for case in [case for case in cases if case.clear and right(case) is False][:most]:
        episode: JudgedEpisode = load_judged(by_seed[case.seed])
        pictures = episode.twin if case.source == "twin" else episode.dream
        shown = "done" if case.truth else "not done"
        caption = f"{case.source} {case.seed} {case.task} {case.policy}: {shown}, judged {case.verdict.word}"
        lines.append((caption, [episode.first, pictures[case.moment, 0], pictures[case.moment, 1]]))
    return lines


def load_seed(path: Path) -> str:
    """The seed in an episode's file name."""
    return path.name.split("_")[1].split(".")[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("out") / "judge", help="folder of episodes")
    parser.add_argument("--episodes", type=int, default=100)
    parser.add_argument("--world", default="compact")
    parser.add_argument("--judge", type=Path, help="a judge's weights file; by default the one that ships")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out"))
    parser.add_argument("--sheet", type=Path, help="write a contact sheet of mistakes to this PNG file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    seeds = HELD_OUT_SEEDS[: options.episodes]
    files = record_missing(seeds, options.data, options.world, held_out=True)
    cases = judged(LearnedJudge.load(options.judge), files)
    rows = [*oracle_rows(files), *report(cases)]
    print(table(rows))
    counts: dict[str, Any] = {}
    for source in SOURCES:
        here = [case for case in cases if case.source == source]
        unclear = sum(not case.clear for case in here)
        counts[source] = {
            "confusion": confusion([c for c in here if c.clear]),
            "moments": len(here),
            "unclear": unclear,
        }
        print(f"{source}: {len(here)} moments, {unclear} unclear; {json.dumps(counts[source]['confusion'])}")
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    details = [{**asdict(case), "verdict": {**asdict(case.verdict), "word": case.verdict.word}} for case in cases]
    about = {"command": command, "torch": torch.__version__, "python": platform.python_version()}
    write_json(options.out / "judge.json", {"about": about, "rows": as_json(rows), "counts": counts, "cases": details})
    if options.sheet is not None and (lines := sheet_lines(files, cases, 24)):
        write_sheet(options.sheet, lines)


if __name__ == "__main__":
    main()
