"""`vap-sim evaluate`: success of policies in a dream and in its reference, and how far to believe the dream."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vap_sim.errors import InvalidInput, UnknownName

if TYPE_CHECKING:
    from vap_sim.metrics.policy_report import PolicyReport
    from vap_sim.metrics.trials import TrialTable
    from vap_sim.policies.evaluate import Arena, Evaluation, Starts
    from vap_sim.policies.judge import Judge

JUDGES = ("learned", "none")
_FRAME_RATE = 5.0  # [Hz] of the videos of disagreements


@dataclass(frozen=True)
class Evaluate:
    """Score policies in a dream and its reference. Example: vap-sim evaluate --policies scripted random --episodes 20

    policies: names such as scripted, scripted+miss=0.02, random, bc@FILE, openpi@HOST:PORT. env, reference: Gymnasium
    ids; both begin at the same starts, which the reference draws from `seed` on. Every trial is kept in OUT; the same
    command goes on where it was stopped, then writes OUT/report.html and OUT/report.json.

    judge: learned, or none where the environment knows success itself; world, weights: of the dream; env_options: more
    of its arguments, as JSON; baselines: worlds that take the dream's place, such as kinematic; trust: run the trust
    meter; least_agreement: stop episodes below it; rows: episodes at once in a dream; workers, engine: jobs at once, in
    processes or on ray; videos: of so many of the worst disagreements."""

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
    env_options: str = "{}"
    baselines: tuple[str, ...] = ()
    trust: bool = True
    least_agreement: float | None = None
    policy_seconds: float | None = None
    rows: int = 10
    workers: int = 2
    engine: str = "processes"
    videos: int = 6


def run(command: Evaluate) -> str:
    """Play what is missing, write the report, and return what it says in short.

    Raises what `policies.evaluate.evaluate` raises, InvalidInput and UnknownName for options, OSError.
    """
    from vap_sim.metrics.policy_report import policy_report, write_json
    from vap_sim.policies.evaluate import Arena, Evaluation, evaluate, read_starts
    from vap_sim.viewer.report_page import write_page

    if command.episodes < 1 or command.videos < 0:
        raise InvalidInput("--episodes and --videos", f"{command.episodes}, {command.videos}", "at least 1, and 0")
    judge = _judge(command.judge)
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
    about = {"steps": command.steps, "judge": _judge_name(command.judge), "least_agreement": command.least_agreement}
    arenas = {"dream": _dream(command, command.world, about)}
    for name in command.baselines:
        if name in ("dream", "reference", *list(arenas)[1:]):
            raise InvalidInput("--baselines", command.baselines, "different worlds, none called dream or reference")
        arenas[name] = _dream(replace(command, weights=None), name, about)
    arenas["reference"] = Arena(command.reference, {}, about, at_starts=False)
    starts = read_starts(arenas["reference"], evaluation.tasks, evaluation.seeds)
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
        worst = report.dream.episodes.disagreements[: command.videos]
        chosen = [(one.policy, one.task, one.seed) for one in worst]
        tables["dream"] = _filmed(command.out, evaluation, arenas, tables["dream"], starts, chosen)
        report = told()
    write_json(command.out / "report.json", report)
    write_page(command.out / "report.html", report)
    return _summary(report, command.out)


def _judge(name: str) -> Judge | None:
    if name not in JUDGES:
        raise UnknownName("judge", name, JUDGES)
    if name == "none":
        return None
    from vap_sim.policies.judge_learned import LearnedJudge

    return LearnedJudge.load()


def _judge_name(name: str) -> str:
    if name == "none":
        return name
    from vap_sim.policies.judge_learned import WEIGHTS

    return f"{name} {hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]}"


def _dream(command: Evaluate, world: str | None, about: Mapping[str, Any]) -> Arena:
    """The dream's environment, and which weights it dreams with."""
    import gymnasium

    import vap_sim  # noqa: F401 - registers the environments
    from vap_sim.policies.episodes import accepted
    from vap_sim.policies.evaluate import Arena

    try:
        options = json.loads(command.env_options)
    except ValueError as error:
        raise InvalidInput("--env-options", command.env_options, f"a JSON object ({error})") from error
    if not isinstance(options, dict):
        raise InvalidInput("--env-options", command.env_options, "a JSON object")
    given = {"world": world, "weights": None if command.weights is None else str(command.weights)}
    options |= {name: value for name, value in given.items() if value is not None}
    if command.trust and "trust" in accepted(command.env):
        options["trust"] = True
    env = gymnasium.make(command.env, **options)
    spec = getattr(env.unwrapped, "world_spec", None)
    env.close()
    made = {} if spec is None else {"world": spec.name, "fingerprint": spec.fingerprint}
    return Arena(command.env, options, {**about, **made})


def _filmed(
    out: Path,
    evaluation: Evaluation,
    arenas: Mapping[str, Arena],
    table: TrialTable,
    starts: Starts,
    chosen: Sequence[tuple[str, str, int]],
) -> TrialTable:
    """The table with videos of the chosen trials, reference beside dream, played once more.

    A trial that ends otherwise when it is played again, as one of a policy on a network may, is told in its note."""
    from vap_sim.metrics.trials import TrialKey, TrialTable
    from vap_sim.policies.episodes import play

    found = {one.key: one for one in table}
    for number, (policy, task, seed) in enumerate(chosen):
        films = []
        for name in ("reference", "dream"):
            key = TrialKey(arenas[name].env_id, policy, task, seed)
            (job,) = evaluation.jobs([key], starts, arenas[name])
            films += play(job)
        before = found[films[1].trial.key]
        video = f"videos/{number + 1}_{task}_{seed}.mp4"
        _write(out / video, films[0].frames, films[1].frames)
        again = films[1].trial.steps == before.steps and films[1].trial.verdict == before.verdict
        note = before.note if again else f"{before.note} played again, it ended otherwise".strip()
        found[before.key] = replace(before, video=video, note=note)
    return TrialTable(tuple(found.values()), table.about, out)


def _write(path: Path, *films: Any) -> None:
    """Films (n, H, W, 3) side by side; one that ended earlier stands still."""
    import numpy as np

    from vap_sim.viewer.video import write_mp4

    longest = max(len(film) for film in films)
    longer = [np.concatenate([film, np.repeat(film[-1:], longest - len(film), axis=0)]) for film in films]
    write_mp4(path, np.concatenate(longer, axis=2).repeat(2, axis=1).repeat(2, axis=2), _FRAME_RATE)


def _summary(report: PolicyReport, out: Path) -> str:
    bare = not report.few
    lines = [f"{'policy':32}{'task':12}{'dream':>9}{'reference':>11}"]
    for one in report.dream.success:
        rates = [f"{cell.successes}/{cell.answered}" for cell in (one.sim, one.real)]
        lines.append(f"{one.policy[:31]:32}{one.task:12}{rates[0]:>9}{rates[1]:>11}")
    lines += [f"{name}: {told.text(bare=bare)}" for name, told in report.dream.over_policies.items()]
    return "\n".join([*lines, *report.few, f"written: {out / 'report.html'}, {out / 'report.json'}"])
