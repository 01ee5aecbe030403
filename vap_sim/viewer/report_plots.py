"""Plots of a report of policies as SVG, drawn by matplotlib, which the extra `report` brings.

Equal reports make equal pictures: no clock and no random names go into them. Text stays text, in the reader's font.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from vap_sim.errors import MissingDependency
from vap_sim.metrics.comparison import Comparison, Success

COLORS = ("#3b76c4", "#d2782a", "#3f9a5a", "#a65fb0", "#b5484b", "#7d8a2e", "#4aa3a8", "#86664c")
"""Of tasks, in their order; readable on white and on dark grey alike."""
_GREY = "#808080"
_STYLE: Mapping[str, Any] = {
    "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9, "axes.edgecolor": _GREY,
    "axes.labelcolor": _GREY, "xtick.color": _GREY, "ytick.color": _GREY, "text.color": _GREY, "axes.spines.top": False,
    "axes.spines.right": False, "text.parse_math": False,
}  # fmt: skip
_LONGEST_NAME = 28


def scatter_svg(comparison: Comparison) -> str:
    """Success in sim over success in reality, a point a policy and task with its intervals, and the identity.

    Raises MissingDependency without matplotlib.
    """
    figure, (axes,) = _canvas(5.2, 4.6)
    axes.plot((0, 1), (0, 1), color=_GREY, linewidth=1, linestyle="--", zorder=0)
    for index, task in enumerate(comparison.tasks):
        rows = [one for one in comparison.success if one.task == task and one.sim.counted and one.real.counted]
        if rows:
            axes.errorbar(
                [one.real.rate for one in rows], [one.sim.rate for one in rows],
                xerr=_reach(rows, "real"), yerr=_reach(rows, "sim"), fmt="o", markersize=5, linewidth=0.8, alpha=0.85,
                color=COLORS[index % len(COLORS)], label=_short(task),
            )  # fmt: skip
    axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), xlabel="success in the reference", aspect="equal")
    axes.set_ylabel(f"success in the {_short(comparison.name)}")
    axes.legend(frameon=False, loc="lower right")
    return _svg(figure, "scatter")


def bars_svg(comparison: Comparison) -> str:
    """Success of each policy in each task, sim beside reality, with intervals; what has no outcome has no bar.

    Raises MissingDependency without matplotlib.
    """
    rows = len(comparison.policies)
    figure, panels = _canvas(max(5.2, 2.6 * len(comparison.tasks)), 0.8 + 0.36 * rows, columns=len(comparison.tasks))
    for index, (axes, task) in enumerate(zip(panels, comparison.tasks, strict=True)):
        told = {one.policy: one for one in comparison.success if one.task == task}
        color = COLORS[index % len(COLORS)]
        for place, policy in enumerate(comparison.policies):
            for side, shift, alpha in (("sim", -0.19, 0.9), ("real", 0.19, 0.4)):
                cell = getattr(told[policy], side)
                if cell.counted:
                    reach = [[one[0]] for one in _reach([told[policy]], side)]
                    axes.barh(place + shift, cell.rate, 0.36, xerr=reach, color=color, alpha=alpha, ecolor=_GREY)
        axes.set(xlim=(0, 1.02), ylim=(rows - 0.5, -0.5), title=_short(task))
        axes.set_yticks(range(rows), [_short(name) for name in comparison.policies] if not index else [""] * rows)
        axes.set_xticks((0, 0.5, 1), ("0", "50 %", "100 %"))
    return _svg(figure, "bars")


def _canvas(width: float, height: float, columns: int = 1) -> tuple[Any, Any]:
    """A figure [inch] and the row of its axes. The figure knows no window system and leaves pyplot alone."""
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingDependency("matplotlib", "report") from error
    with mpl.rc_context(dict(_STYLE)):
        figure = Figure(figsize=(width, height), layout="constrained")
        return figure, figure.subplots(1, columns, squeeze=False)[0]


def _svg(figure: Any, name: str) -> str:
    """name: goes into the ids of its parts, which must not clash with those of another figure on one page."""
    import matplotlib as mpl

    file = io.StringIO()
    with mpl.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :]


def _reach(rows: Sequence[Success], side: str) -> list[list[float]]:
    """How far the intervals reach below and above the rates."""
    pairs = [(getattr(one, side).rate, getattr(one, f"{side}_interval")) for one in rows]
    return [[rate - told.low for rate, told in pairs], [told.high - rate for rate, told in pairs]]


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
