"""Words and cells of the report page: what each figure is called and means, and how it is written.

Everything here returns HTML that is safe to put into a page.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from vap_sim.metrics.report import Interval
from vap_sim.metrics.told import Told
from vap_sim.metrics.trials import Cell

LABELS: Mapping[str, tuple[str, str]] = {
    "pearson": ("Pearson", "linear correlation; 1 is best"),
    "spearman": ("Spearman", "correlation of ranks; 1 is best"),
    "kendall": ("Kendall's tau-b", "pairs ordered alike less otherwise; 1 is best"),
    "mmrv_sim_real": ("MMRV (sim, real)", "SIMPLER's signature: rank violations priced in reference rates; 0 is best"),
    "mmrv_real_sim": ("MMRV (real, sim)", "mirrored: rank violations priced in sim rates; 0 is best"),
    "slope": ("Slope", "of sim over reference; 1 is best"),
    "intercept": ("Intercept", "of sim over reference; 0 is best"),
    "bias_mean": ("Mean bias", "points; above 0 sim is optimistic"),
    "bias_mean_size": ("Mean size of bias", "points; 0 is best"),
    "bias_largest": ("Largest bias", "points; the one largest in size"),
}
EPISODES: Mapping[str, str] = {
    "accuracy": "episodes that ended alike",
    "recall_on_failures": "of the reference's failures, those that failed in sim",
    "recall_on_successes": "of the reference's successes, those that succeeded in sim",
    "precision_of_failures": "of the failures in sim, those that failed in the reference",
    "optimism": "of the reference's failures, those that succeeded in sim",
    "pessimism": "of the reference's successes, those that failed in sim",
    "abstention": "no outcome in sim",
}
JUDGE: Mapping[str, str] = {
    "accuracy": "right where it answers",
    "recall_on_failures": "of true failures, those called so",
    "recall_on_successes": "of true successes, those called so",
    "optimism": "of true failures, those called successes",
    "pessimism": "of true successes, those called failures",
    "abstention": "cannot tell",
}


def ranges(seeds: Iterable[int]) -> str:
    """Ascending numbers as text: 1 to 4, 9."""
    runs: list[list[int]] = []
    for seed in seeds:
        if runs and seed == runs[-1][1] + 1:
            runs[-1][1] = seed
        else:
            runs.append([seed, seed])
    return ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in runs)


def figure_text(name: str, told: Told, bare: bool) -> str:
    """A figure of STATISTICS as safe text; biases in points."""
    points = name.startswith("bias")
    return escape(told.text(scale=100 if points else 1, digits=1 if points else 3, bare=bare))


def share_text(told: Told, bare: bool) -> str:
    """A share in percent as safe text."""
    return escape(told.text(scale=100, digits=1, bare=bare)) + (" %" if told.value is not None else "")


def cell_text(cell: Cell, interval: Interval | None) -> str:
    """Successes of trials, and the success rate with its interval in percent."""
    if interval is None:
        return f"undefined ({cell.silent} trials, none with an outcome)"
    silent = f", {cell.silent} silent" if cell.silent else ""
    rate = f"{100 * cell.rate:.0f} % ({100 * interval.low:.0f} to {100 * interval.high:.0f})"
    return f"{cell.successes} / {cell.answered}{silent}: {rate}"


def bounds_text(interval: Interval) -> str:
    """An interval alone."""
    return f"{interval.low:.3f} to {interval.high:.3f}"


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table of cells that are safe already."""
    head = "".join(f"<th>{one}</th>" for one in heads)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
