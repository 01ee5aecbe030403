"""`vap-sim evaluate`: success of policies in a dream and in its reference, and how far to believe the dream."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vap_sim.commands.evaluate_films import filmed
from vap_sim.commands.evaluate_setup import check_options, kept_trials, make_arenas, make_judge
from vap_sim.commands.outcome import Outcome

if TYPE_CHECKING:
    from vap_sim.metrics.policy_report import PolicyReport
    from vap_sim.metrics.trials import TrialKey
    from vap_sim.policies.evaluate import Arena, Evaluation


@dataclass(frozen=True)
class Evaluate:
    """Score policies in a dream and its reference. Example: vap-sim evaluate --policies scripted random --episodes 20

    Both begin at the same starts, which the reference draws from --seed on. Every trial is kept in OUT; the same
    command goes on where it was stopped, then writes OUT/report.html and OUT/report.json.

    Attributes:
        policies: Names such as scripted, scripted+miss=0.02, random, bc@FILE, openpi@HOST:PORT.
        env: Gymnasium id of the dream.
        reference: Gymnasium id of what it is compared with.
        out: Folder for trials, films and the report.
        tasks: Tasks to play.
        episodes: Starts of each task, so many trials of a policy.
        seed: The first start's; from 1,000,000 on nothing was trained on.
        steps: Actions of an episode at most.
        judge: learned, or none where the environment knows success itself.
        world: Name or weights file of the world that dreams.
        weights: Other weights for a named world.
        views: Cameras of dream and reference, by default their own; for DROID, exterior_1 alone is half the work.
        env_options: More arguments of the dream, as JSON.
        baselines: Worlds that take the dream's place: still, kinematic.
        trust: Run the trust meter.
        least_agreement: Stop episodes whose prompt agreement falls below it.
        policy_seconds: Longest time a policy may take for an answer.
        rows: Episodes at once in a dream.
        workers: Jobs at once.
        engine: processes, or ray.
        videos: Films of so many of the worst disagreements.
    """

    policies: tuple[str, ...]
    env: str = "VAPWorld-DROID-v0"
    reference: str = "VAPTwin-DROID-v0"
    out: Path = Path("out/evaluation")
    tasks: tuple[str, ...] = ("reach", "push", "pick_place")
    episodes: int = 50
    seed: int = 1_000_000
    steps: int = 40
    judge: str = "learned"
    world: str | None = None
    weights: Path | None = None
    views: tuple[str, ...] = ()
    env_options: str = "{}"
    baselines: tuple[str, ...] = ()
    trust: bool = True
    least_agreement: float | None = None
    policy_seconds: float | None = None
    rows: int = 10
    workers: int = 2
    engine: str = "processes"
    videos: int = 6


def run(command: Evaluate) -> Outcome:
    """Play what is missing, write the report, and return what it says in short.

    What cannot work is found before long work begins: names, files of policies, servers that do not answer, logs that
    other settings made. Raises what `policies.evaluate.evaluate` and `policies.episodes.rehearse` raise, InvalidInput
    and UnknownName for options, OSError.
    """
    import vap_sim  # noqa: F401 - registers the environments
    from vap_sim.metrics.policy_report import policy_report, write_json
    from vap_sim.policies.evaluate import Evaluation, evaluate
    from vap_sim.viewer.report_page import write_page

    check_options(command)
    judge = make_judge(command.judge)
    evaluation = Evaluation(
        policies=command.policies,
        tasks=command.tasks,
        seeds=tuple(range(command.seed, command.seed + command.episodes)),
        steps=command.steps,
        judge=judge,
        least_agreement=command.least_agreement,
        policy_seconds=command.policy_seconds,
        rows=command.rows,
    )
    arenas = make_arenas(command)
    kept = kept_trials(command.out, evaluation, arenas)
    missing = {name: kept[name].missing(evaluation.plan(arena.env_id)) for name, arena in arenas.items()}
    starts = _rehearsed(evaluation, arenas, missing)
    starts |= _starts(arenas["reference"], {key[2:] for keys in missing.values() for key in keys} - starts.keys())
    tables = {
        name: evaluate(
            evaluation, arena, command.out / f"{name}.jsonl", starts=starts, workers=command.workers,
            engine=command.engine,
        )
        for name, arena in arenas.items()
    }  # fmt: skip

    def told() -> PolicyReport:
        others = {name: table for name, table in tables.items() if name not in ("dream", "reference")}
        title = f"Policies in {command.env} and in {command.reference}"
        by: Any = None if judge is None else "verdict"
        return policy_report(
            dream=tables["dream"], reference=tables["reference"], baselines=others, title=title, dream_by=by
        )

    report = told()
    if command.videos and report.dream.episodes is not None and report.dream.episodes.disagreements:
        worst = [(one.policy, one.task, one.seed) for one in report.dream.episodes.disagreements[: command.videos]]
        starts |= _starts(arenas["reference"], {one[1:] for one in worst} - starts.keys())
        tables |= filmed(command.out, evaluation, arenas, tables, starts, worst)
        report = told()
    write_json(command.out / "report.json", report)
    write_page(command.out / "report.html", report)
    written = [command.out / "report.html", command.out / "report.json"]
    record = json.loads(written[1].read_text(encoding="utf-8"))
    return Outcome(_summary(report, command.out), {**record, "written": written})


def _starts(reference: Arena, places: Collection[tuple[str, int]], progress: bool = True) -> dict[Any, Any]:
    """Where the reference begins in these tasks by these seeds."""
    from vap_sim.policies.evaluate import read_starts

    starts: dict[Any, Any] = {}
    for task in sorted({task for task, _ in places}):
        seeds = sorted(seed for one, seed in places if one == task)
        starts |= read_starts(reference, [task], seeds, progress=progress)
    return starts


def _rehearsed(
    evaluation: Evaluation, arenas: Mapping[str, Arena], missing: Mapping[str, Sequence[TrialKey]]
) -> dict[Any, Any]:
    """Try by one action each whatever is to be played: every policy in the dream and in the reference, every task in
    every environment. Returns the starts that were used. Raises what `policies.episodes.rehearse` raises."""
    from tqdm import tqdm

    from vap_sim.policies.episodes import rehearse

    tried = [(arenas[name], key) for name, keys in missing.items() for key in _samples(keys, name)]
    starts = _starts(arenas["reference"], {key[2:] for _, key in tried}, progress=False)
    for arena, key in tqdm(tried, desc="rehearsal", unit="action", disable=not tried):
        (job,) = evaluation.jobs([key], starts, arena)
        rehearse(job)
    return starts


def _samples(keys: Sequence[TrialKey], arena: str) -> list[TrialKey]:
    """As few trials as have every policy and every task; of baselines, which differ from the dream in what it shows
    alone, as few as have every task."""
    of_policy: dict[str, dict[str, TrialKey]] = {}
    for key in keys if arena in ("dream", "reference") else ():
        of_policy.setdefault(key.policy, {}).setdefault(key.task, key)
    # Policies take turns with the tasks, so that few more trials are needed for those.
    chosen = [list(own.values())[index % len(own)] for index, own in enumerate(of_policy.values())]
    for key in keys:
        if key.task not in {one.task for one in chosen}:
            chosen.append(key)
    return chosen


def _summary(report: PolicyReport, out: Path) -> str:
    bare = not report.few
    lines = [f"{'policy':32}{'task':12}{'dream':>9}{'rate':>7}{'reference':>11}"]
    for one in report.dream.success:
        rates = [f"{cell.successes}/{cell.answered}" for cell in (one.sim, one.real)]
        rate = f"{100 * one.sim.rate:.0f} %" if one.sim.counted else "-"
        silent = f"  no outcome in {one.sim.silent} more of the dream" if one.sim.silent else ""
        lines.append(f"{one.policy[:31]:32}{one.task:12}{rates[0]:>9}{rate:>7}{rates[1]:>11}{silent}")
    lines += [f"{name}: {told.text(bare=bare)}" for name, told in report.dream.over_policies.items()]
    return "\n".join([*lines, *report.few, f"written: {out / 'report.html'}, {out / 'report.json'}"])
