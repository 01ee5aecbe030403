"""The report of an evaluation of policies: a dream against its reference, baselines beside it, all as data.

Nothing is drawn here; `vap_sim.viewer.report_page` makes a page of it. With few policies or trials figures are told by
their intervals alone: a correlation of five points is not a number to remember.
"""

from __future__ import annotations

import json
import os
import platform
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from vap_sim.errors import InvalidInput
from vap_sim.metrics.agreement import wilson_interval
from vap_sim.metrics.comparison import Comparison, compare
from vap_sim.metrics.episodes import SHARES
from vap_sim.metrics.report import Interval
from vap_sim.metrics.resampling import RESAMPLES
from vap_sim.metrics.told import Told, tell
from vap_sim.metrics.trials import EARLY, ENDS, Source, TrialTable
from vap_sim.metrics.verdicts import Confusion, confusion

FORMAT = "vap-sim policy report 1"
LEAST_POLICIES = 5
LEAST_TRIALS = 20
"""Below these a figure is told by its interval alone."""


@dataclass(frozen=True)
class JudgeFacts:
    """How the judge does on trials whose truth is known: counts, and shares of `Confusion` with Wilson intervals."""

    counts: Confusion
    shares: Mapping[str, Told]


@dataclass(frozen=True)
class TableFacts:
    """What a table tells by itself.

    ends: trials by how they ended, over all and by policy; early: share cut short before it was decided, likewise
    ("" stands for all policies); silent: trials on which the judge could not tell; judge: None where no trial carries
    both verdict and truth; seeds: of the starts, by task; about: what made the trials.
    """

    name: str
    env_id: str
    trials: int
    steps: int
    seconds: float
    silent: int
    ends: Mapping[str, Mapping[str, int]]
    early: Mapping[str, Told]
    judge: JudgeFacts | None
    seeds: Mapping[str, tuple[int, ...]]
    about: Mapping[str, Any]
    folder: Path | None


@dataclass(frozen=True)
class PolicyReport:
    """All figures of an evaluation.

    dream: the comparison that matters; baselines: the same of worlds that know nothing, against the same reference;
    tables: facts of each table by name, "reference" among them; few: what there is too little of, "" if of nothing;
    settings: level, resamples and seed of the bootstrap, and versions.
    """

    title: str
    dream: Comparison
    baselines: tuple[Comparison, ...]
    tables: Mapping[str, TableFacts]
    few: tuple[str, ...]
    settings: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """All of it as JSON values; keys are stable within FORMAT. Folders are left out: a report may be moved."""
        content = asdict(self)
        for facts in content["tables"].values():
            del facts["folder"]
        return {"format": FORMAT, **dict(json.loads(json.dumps(content, allow_nan=False)))}


def policy_report(
    *,
    dream: TrialTable,
    reference: TrialTable,
    baselines: Mapping[str, TrialTable] | None = None,
    title: str = "Policies in the dream and in the reference",
    dream_by: Source | None = None,
    reference_by: Source | None = None,
    level: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PolicyReport:
    """Compare a dream, and baselines such as "still" and "kinematic", with one reference.

    dream_by, reference_by: who tells outcomes (baselines as the dream), see `TrialTable.source`; level, resamples,
    seed: of the intervals. Raises InvalidInput for an empty title, for a baseline called "dream" or "reference", and
    for tables that cannot be compared (see `compare`).
    """
    named = {"dream": dream, **(baselines or {}), "reference": reference}
    if len(named) != 2 + len(baselines or {}) or not title.strip():
        raise InvalidInput("report", f"{title!r} with baselines {list(baselines or {})}", "a title, and other names")

    def against(name: str, table: TrialTable) -> Comparison:
        return compare(
            sim=table, real=reference, name=name, sim_by=dream_by, real_by=reference_by, level=level,
            resamples=resamples, seed=seed,
        )  # fmt: skip

    told = against("dream", dream)
    return PolicyReport(
        title=title,
        dream=told,
        baselines=tuple(against(name, table) for name, table in (baselines or {}).items()),
        tables={name: table_facts(name, table, level) for name, table in named.items()},
        few=_few(told),
        settings={"level": level, "resamples": resamples, "seed": seed, "versions": _versions()},
    )


def table_facts(name: str, table: TrialTable, level: float = 0.95) -> TableFacts:
    """What a table of one environment tells by itself. Raises InvalidInput for one of several or of none."""
    if len(table.env_ids) != 1:
        raise InvalidInput(f"table {name!r}", f"environments {list(table.env_ids)}", "trials of one (see `where`)")
    parts = {"": table, **{policy: table.where(policy=policy) for policy in table.policies}}
    seeds = {task: tuple(sorted({one.seed for one in table.where(task=task)})) for task in table.tasks}
    return TableFacts(
        name=name,
        env_id=table.env_ids[0],
        trials=len(table),
        steps=sum(one.steps for one in table),
        seconds=float(sum(one.seconds for one in table)),
        silent=sum(one.verdict == "cannot tell" for one in table),
        ends={policy: _ends(part) for policy, part in parts.items()},
        early={
            policy: _share("early stops", sum(one.end in EARLY for one in part), len(part), level)
            for policy, part in parts.items()
        },
        judge=_judge(table, level),
        seeds=seeds,
        about=table.about,
        folder=table.folder,
    )


def write_json(path: Path, report: PolicyReport) -> None:
    """Write a report's figures, by a temporary name first. Raises OSError where the disk refuses."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(report.to_json(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _ends(table: TrialTable) -> dict[str, int]:
    counts = Counter(one.end for one in table)
    return {end: counts[end] for end in ENDS}


def _share(name: str, part: int, whole: int, level: float) -> Told:
    def value() -> float:
        if not whole:
            raise InvalidInput(name, "no such episodes", "at least one")
        return part / whole

    def interval(_: float) -> Interval:
        return wilson_interval(successes=part, trials=whole, level=level)

    return tell(name, value, [interval], number=whole)


def _judge(table: TrialTable, level: float) -> JudgeFacts | None:
    both = [one for one in table if one.verdict is not None and one.success is not None]
    if not both:
        return None
    counts = confusion(told=[one.verdict for one in both], truth=[bool(one.success) for one in both])
    return JudgeFacts(counts, {name: _share(name, *counts.counts(name), level) for name in SHARES})


def _few(told: Comparison) -> tuple[str, ...]:
    lacking = []
    if len(told.policies) < LEAST_POLICIES:
        lacking.append(f"{len(told.policies)} policies; {LEAST_POLICIES} at least for figures over policies")
    cells = [min(one.sim.counted, one.real.counted) for one in told.success]
    if min(cells) < LEAST_TRIALS:
        lacking.append(f"{min(cells)} trials of some policy and task; {LEAST_TRIALS} at least for each")
    if not told.paired:
        lacking.append("no start in common: sim and real were drawn apart, and single episodes cannot be compared")
    return tuple(lacking)


def _versions() -> dict[str, str]:
    names = ("vap-sim", "numpy", "scipy")
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed as a package"
    return found
