"""How far is the judge to be believed? Held-out episodes of graded policies, in the twin's pictures and in the dream's.

    python benchmarks/judge.py --data data/judge --episodes 100 --sheet out/judge.png

Episodes that the folder lacks are recorded (seeds from 1,000,300 on). "Episodes" are dreams judged as
`vap-sim evaluate` does it: after every step; a yes ends the episode and makes it a success, else the verdict on its
likeliest moment counts; it is compared with what the dream showed until then, by its own objects' places: a success
where the task was done once.
"Moments" are harder: six an episode, many of them beside the moment where the truth changes, in the dreamt picture and
in the twin's, whose truth is exact. The oracle that labels dreams is itself checked on true pictures first
("oracle"). Where 5 mm would change a label it is "unclear": figures are given with those and without them. Optimism is
the share of failures, as labelled, that the judge calls a success. Intervals are bootstraps over episodes. The record
goes to out/judge.json.
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
from vap_sim.commands.judge_oracle import Label, label, shown_as_read, shown_in_twin
from vap_sim.commands.judge_questions import SOURCES, moments_in
from vap_sim.envs.tasks import get_task
from vap_sim.policies.judge import Judge, Verdict, likelier
from vap_sim.policies.judge_learned import LearnedJudge

SEEDS = range(1_000_300, 1_001_000)
ACCURACY, ABSTENTION = 0.95, 0.10
CONSECUTIVE = 1  # times yes that end an episode
AT_REST = 0.05  # [m/s] a single picture tells no speed, so the oracle is checked below it
KINDS = ("dream, episodes", "dream, moments", "twin, moments")


@dataclass(frozen=True)
class Case:
    """One verdict of a kind of KINDS: after how many steps, what is true there, and whether that is clear."""

    seed: int
    policy: str
    task: str
    kind: str
    step: int
    truth: bool
    clear: bool
    verdict: Verdict


def judged(judge: Judge, files: Sequence[Path]) -> list[Case]:
    """All verdicts on all episodes."""
    cases = []
    for path in tqdm(files, desc="judging", unit="episode", mininterval=5):
        episode = load_judged(path)
        cases.append(judged_whole(judge, episode))
        for source in SOURCES:
            here = moments_in(episode, source)
            rows = zip(here.steps, judge.judge(here.evidence), here.labels, strict=True)
            cases += [case(episode, f"{source}, moments", int(step), own, told) for step, told, own in rows]
    return cases


def judged_whole(judge: Judge, episode: JudgedEpisode) -> Case:
    """The verdict on a dreamt episode that is judged after every step until the judge has agreed often enough, and
    whether the task was done until then. That is clear where a moment clearly shows it, or all clearly do not."""
    here = moments_in(episode, "dream", np.arange(1, len(episode.dream)))
    agreed, done, clearly, doubtful = 0, False, False, False
    told = Verdict(None, None, "not judged yet")
    step = 0
    for moment, verdict, own in zip(here.steps, judge.judge(here.evidence), here.labels, strict=True):
        step, told = int(moment), likelier(told, verdict)
        done, clearly = done or own.success, clearly or (own.success and own.clear)
        doubtful = doubtful or not own.clear
        agreed = agreed + 1 if verdict.yes else 0
        if agreed == CONSECUTIVE:
            break
    return case(episode, KINDS[0], step, Label(done, clearly if done else not doubtful), told)


def case(episode: JudgedEpisode, kind: str, step: int, own: Label, verdict: Verdict) -> Case:
    return Case(episode.seed, episode.policy, episode.task, kind, step, own.success, own.clear, verdict)


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
    """Accuracy, abstention and optimism by kind and task; bars on dreamt episodes, whatever is unclear included."""
    rows = []
    for kind in KINDS:
        here = [case for case in cases if case.kind == kind]
        for task in ("all tasks", *sorted({case.task for case in here})):
            own = [case for case in here if task in ("all tasks", case.task)]
            bars = kind == KINDS[0] and task == "all tasks"
            clear, head = [case for case in own if case.clear], f"{kind}, {task}"
            answers = per_episode(own, lambda case: not abstains(case))
            rows += [
                Row(f"{head}: right where it answers", per_episode(own, right), "%", ACCURACY if bars else None),
                Row(f"{head}: answers", answers, "%", 1 - ABSTENTION if bars else None),
                Row(f"{head}: right, clear ones", per_episode(clear, right), "%"),
                Row(f"{head}: optimism on failures", per_episode(own, optimistic), "%"),
            ]
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
            float(item.success == task.success(truth.situations[moment]))
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
    """First, previous and judged picture of the judge's mistakes and doubts, whole episodes before moments."""
    by_seed = {int(path.name.split("_")[1].split(".")[0]): path for path in files}
    wrong = sorted((item for item in cases if right(item) is not True), key=lambda item: KINDS.index(item.kind))
    lines = []
    for item in wrong[:most]:
        episode = load_judged(by_seed[item.seed])
        if item.kind.startswith("dream"):
            pair = episode.dream[item.step - 1 : item.step + 1]
        else:
            pair = episode.twin[list(episode.steps).index(item.step)]
        shown = "done" if item.truth else "not done"
        caption = f"{item.kind} {item.seed} {item.task} {item.policy}: {shown}, judged {item.verdict.word}"
        lines.append((caption, [episode.dream[0], *pair]))
    return lines


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
    seeds = SEEDS[: options.episodes]
    files = record_missing(seeds, options.data, options.world, held_out=True)
    cases = judged(LearnedJudge.load(options.judge), files)
    rows = [*oracle_rows(files), *report(cases)]
    print(table(rows))
    counts: dict[str, Any] = {}
    for kind in KINDS:
        here = [item for item in cases if item.kind == kind]
        counts[kind] = {"confusion": confusion(here), "unclear": sum(not item.clear for item in here)}
        print(f"{kind}: {json.dumps(counts[kind])}")
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    details = [{**asdict(item), "verdict": {**asdict(item.verdict), "word": item.verdict.word}} for item in cases]
    about = {"command": command, "torch": torch.__version__, "python": platform.python_version()}
    write_json(options.out / "judge.json", {"about": about, "rows": as_json(rows), "counts": counts, "cases": details})
    if options.sheet is not None and (lines := sheet_lines(files, cases, 24)):
        write_sheet(options.sheet, lines)


if __name__ == "__main__":
    main()
