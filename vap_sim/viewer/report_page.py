"""A report of policies as one HTML page that needs nothing else but the videos beside it.

No script, no font and no style from elsewhere; the page forbids them to itself. Names come from users and are escaped.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

from vap_sim.metrics.comparison import Success
from vap_sim.metrics.episodes import Disagreement
from vap_sim.metrics.policy_report import PolicyReport, TableFacts
from vap_sim.metrics.trials import ENDS
from vap_sim.viewer.report_plots import bars_svg, scatter_svg
from vap_sim.viewer.report_tables import (
    EPISODES,
    JUDGE,
    LABELS,
    bounds_text,
    cell_text,
    figure_text,
    ranges,
    share_text,
    table,
)

SHOWN = 12
"""Disagreements on the page; the JSON report has them all."""
_STYLE = """
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:66rem;margin:2rem auto;padding:0 1rem}
body{background:Canvas;color:CanvasText}
h1{font-size:1.6rem;line-height:1.2}h2{margin-top:2.4rem;font-size:1.2rem;border-bottom:1px solid #8884}
table{border-collapse:collapse;margin:.8rem 0;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}
th,td{padding:.2rem .7rem;text-align:left;border-bottom:1px solid #8883;vertical-align:top}
th{font-weight:600}td.n{text-align:right;white-space:nowrap}.s{opacity:.7;font-size:.88em}
.few{border-left:4px solid #d2782a;padding:.3rem .9rem;background:#d2782a1a}
.wide,.pair{max-width:44rem}.pair{display:grid;grid-template-columns:1fr 1fr;gap:.6rem}
video{width:100%;background:#8882}
figure{margin:1rem 0}svg{max-width:100%;height:auto}figcaption{opacity:.7;font-size:.88em}
"""
_VIDEO = '<video controls muted loop preload="metadata" src="{}"></video>'


def write_page(path: Path, report: PolicyReport) -> None:
    """Write a report as HTML, by a temporary name first.

    path: of the page; videos are linked relative to it. Raises MissingDependency without matplotlib, OSError where
    the disk refuses.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(page(report, path.parent), encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def page(report: PolicyReport, folder: Path) -> str:
    """The page as text; folder: where it will lie. Raises MissingDependency without matplotlib."""
    dream = report.dream
    parts = [
        f"<h1>{escape(report.title)}</h1>",
        _summary(report),
        "<h2>Agreement</h2>",
        _agreement(report),
        "<h2>Success by policy and task</h2>",
        _plot(scatter_svg(dream), f"A point a policy and task; Wilson intervals at {_percent(report)}; dashed: equal"),
        _plot(bars_svg(dream), "Full colour: dream; pale: reference"),
        _success(dream.success),
        "<h2>Each task</h2>",
        _tasks(report),
        "<h2>Episode by episode</h2>",
        _episodes(report),
        "<h2>Beside worlds that know nothing</h2>" + _baselines(report) if report.baselines else "",
        "<h2>How episodes ended</h2>",
        _ends(report.tables),
        "<h2>The judge</h2>",
        _judges(report),
        "<h2>Worst disagreements</h2>",
        _disagreements(report, folder),
        "<h2>What this rests on</h2>",
        _record(report),
    ]
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src 'self' file:"
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(report.title)}</title><style>{_STYLE}</style></head>\n<body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def _summary(report: PolicyReport) -> str:
    dream = report.dream
    shape = f"{len(dream.policies)} policies, {len(dream.tasks)} tasks"
    if dream.paired:
        shape += f", {dream.pairs} pairs of trials from equal starts"
    told = f"{_source(dream.sim_by)}, in the reference by {_source(dream.real_by)}"
    rates = "Where a judge cannot tell, its probability counts in rates."
    lines = [f"<p>{shape}. Success in the dream is told by {told}. {rates} Intervals are at {_percent(report)}.</p>"]
    if report.few:
        few = "".join(f"<li>{escape(one)}</li>" for one in report.few)
        lines.append(f'<div class="few">Too little for bare numbers, so only intervals are told:<ul>{few}</ul></div>')
    if any(dream.unmatched):
        left_out = f"{dream.unmatched[0]} trials of the dream, {dream.unmatched[1]} of the reference"
        lines.append(f"<p>Left out for want of an equal start: {left_out}.</p>")
    if dream.incomplete:
        names = ", ".join(escape(name) for name in dream.incomplete)
        lines.append(
            f"<p>Without an outcome in some task, so left out where tasks are averaged or pooled: {names}.</p>"
        )
    return "".join(lines)


def _plot(svg: str, caption: str) -> str:
    return f"<figure>{svg}<figcaption>{escape(caption)}</figcaption></figure>"


def _agreement(report: PolicyReport) -> str:
    dream, bare = report.dream, not report.few
    fisher = dream.over_policies["pearson"].intervals[1:]
    note = f" Fisher: {bounds_text(fisher[0])}" if fisher else ""
    rows = [
        (
            f"{label}<br><span class=s>{escape(about)}</span>",
            figure_text(name, dream.over_policies[name], bare) + (escape(note) if name == "pearson" else ""),
            figure_text(name, dream.over_cells[name], bare),
        )
        for name, (label, about) in LABELS.items()
    ]
    return table(("figure", "over policies (means over tasks)", "over policies and tasks"), rows)


def _success(rows: Sequence[Success]) -> str:
    cells = [(cell_text(one.sim, one.sim_interval), cell_text(one.real, one.real_interval)) for one in rows]
    names = [(escape(one.policy), escape(one.task)) for one in rows]
    return table(
        ("policy", "task", "dream", "reference"), [(*left, *right) for left, right in zip(names, cells, strict=True)]
    )


def _tasks(report: PolicyReport) -> str:
    names = ("pearson", "spearman", "mmrv_sim_real", "mmrv_real_sim", "bias_mean", "bias_largest")
    rows = [
        (escape(task), *(figure_text(name, figures[name], not report.few) for name in names))
        for task, figures in report.dream.by_task.items()
    ]
    return table(("task", *(LABELS[name][0] for name in names)), rows)


def _episodes(report: PolicyReport) -> str:
    told = report.dream.episodes
    if told is None:
        return "<p>Undefined: dream and reference have no start in common.</p>"
    bare, counts = not report.few, told.counts
    rows = [
        (name.replace("_", " "), escape(about), share_text(told.shares[name], bare)) for name, about in EPISODES.items()
    ]
    meters = [
        (escape(name), figure_text(name, figure, bare), f"{figure.number}")
        for name, figure in told.meters.items()
        if figure.number
    ]
    confusion = table(
        ("", "dream: success", "dream: failure", "dream: cannot tell"),
        [
            ("reference: success", counts.yes_on_success, counts.no_on_success, counts.silent_on_success),
            ("reference: failure", counts.yes_on_failure, counts.no_on_failure, counts.silent_on_failure),
        ],
    )
    unlabelled = f"<p>{told.unlabelled} pairs without an outcome in the reference are left out.</p>"
    trust = "<p>Does a meter tell which episodes end otherwise? Area under the ROC curve, 0.5 is chance.</p>"
    return (
        table(("share", "", "value"), rows)
        + confusion
        + (unlabelled if told.unlabelled else "")
        + (trust + table(("meter of trust", "AUROC", "episodes"), meters) if meters else "")
    )


def _baselines(report: PolicyReport) -> str:
    names, bare = ("pearson", "spearman", "mmrv_sim_real", "mmrv_real_sim", "bias_mean"), not report.few
    rows = []
    for one in (report.dream, *report.baselines):
        shares = ["-", "-"]
        if one.episodes is not None:
            shares = [share_text(one.episodes.shares[name], bare) for name in ("accuracy", "recall_on_failures")]
        rows.append((escape(one.name), *(figure_text(name, one.over_policies[name], bare) for name in names), *shares))
    heads = ("world", *(LABELS[name][0] for name in names), "episodes alike", "recall on failures")
    return "<p>Over policies, all against the same reference.</p>" + table(heads, rows)


def _ends(tables: Mapping[str, TableFacts]) -> str:
    rows = []
    for name, facts in tables.items():
        for policy, ends in facts.ends.items():
            early = facts.early[policy]
            rows.append((escape(name), escape(policy) or "all", *ends.values(), share_text(early, True)))
    legend = "; ".join(f"{end}: {about}" for end, about in ENDS.items())
    return table(("table", "policy", *ENDS, "stopped early"), rows) + f"<p class=s>{escape(legend)}.</p>"


def _judges(report: PolicyReport) -> str:
    parts = []
    for name, facts in report.tables.items():
        head = f"<h3>{escape(name)}: {escape(facts.env_id)}</h3>"
        silent = f"<p>Could not tell in {facts.silent} of {facts.trials} trials.</p>"
        if facts.judge is None:
            parts.append(f"{head}{silent}<p>No trial carries both a verdict and the truth: nothing to judge it by.</p>")
            continue
        counts = facts.judge.counts
        parts.append(
            head
            + table(
                ("", "judge: yes", "judge: no", "judge: cannot tell"),
                [
                    ("truth: success", counts.yes_on_success, counts.no_on_success, counts.silent_on_success),
                    ("truth: failure", counts.yes_on_failure, counts.no_on_failure, counts.silent_on_failure),
                ],
            )
            + table(
                ("share", "", "value"),
                [
                    (share.replace("_", " "), escape(about), share_text(facts.judge.shares[share], True))
                    for share, about in JUDGE.items()
                ],
            )
        )
    return "".join(parts)


def _disagreements(report: PolicyReport, folder: Path) -> str:
    told = report.dream.episodes
    if told is None or not told.disagreements:
        return "<p>None.</p>" if told is not None else "<p>Unknown: no start in common.</p>"
    folders = report.tables["dream"].folder, report.tables["reference"].folder
    shown = [_disagreement(one, folders, folder) for one in told.disagreements[:SHOWN]]
    count = f"{len(shown)} of {len(told.disagreements)}, from the policies and tasks whose rates lie farthest apart."
    return f"<p>{count}</p>" + "".join(shown)


def _disagreement(one: Disagreement, folders: tuple[Path | None, Path | None], page_folder: Path) -> str:
    agreement = "" if one.agreement_min is None else f", prompt agreement down to {one.agreement_min:.2f}"
    text = f"{one.policy}, {one.task}, start {one.seed}: {one.way} in the dream{agreement}"
    sides = zip(("dream", "reference"), (one.sim_video, one.real_video), folders, strict=True)
    links = {side: video and escape(_link(video, folder, page_folder)) for side, video, folder in sides}
    if links["dream"] and links["dream"] == links["reference"]:  # one file that shows both
        shown = f'<div class="wide">{_VIDEO.format(links["dream"])}</div>'
    else:
        videos = [
            _VIDEO.format(link) if link else f'<div class="s">no video of the {side}</div>'
            for side, link in links.items()
        ]
        shown = f'<div class="pair">{"".join(videos)}</div>' if any(links.values()) else ""
    caption = f"{escape(text)}. Left: dream, right: reference." if shown else f"{escape(text)}. No video."
    return f"<figure><figcaption>{caption}</figcaption>{shown}</figure>"


def _link(video: str, folder: Path | None, page_folder: Path) -> str:
    place = video if folder is None else os.path.relpath(Path(folder) / video, page_folder)
    return quote(Path(place).as_posix())


def _record(report: PolicyReport) -> str:
    rows = []
    for name, facts in report.tables.items():
        seeds = "; ".join(f"{task}: {ranges(some)}" for task, some in facts.seeds.items())
        about = ", ".join(f"{key}: {value}" for key, value in facts.about.items()) or "-"
        work = f"{facts.steps} steps in {facts.seconds:.0f} s"
        rows.append(tuple(map(escape, (name, facts.env_id, str(facts.trials), work, seeds, about))))
    settings = report.settings
    versions = ", ".join(f"{name} {number}" for name, number in settings["versions"].items())
    drawn = f"Bootstrap over tasks and starts: {settings['resamples']} resamples, seed {settings['seed']}. {versions}."
    return table(("table", "environment", "trials", "work", "start seeds", "made by"), rows) + f"<p>{escape(drawn)}</p>"


def _percent(report: PolicyReport) -> str:
    return f"{100 * report.settings['level']:g} %"


def _source(by: str) -> str:
    return {"truth": "ground truth", "verdict": "the judge"}[by]
