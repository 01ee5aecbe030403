"""The page of a report: whole, from nothing elsewhere, and no name of a user's is ever markup."""

from __future__ import annotations

import sys
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from vap_sim.errors import MissingDependency
from vap_sim.metrics.policy_report import PolicyReport, policy_report
from vap_sim.metrics.trials import Trial, TrialTable
from vap_sim.viewer.report_page import page, write_page
from vap_sim.viewer.report_plots import bars_svg, scatter_svg
from vap_sim.viewer.report_tables import ranges

HOSTILE = "<script>alert('x')</script>\"&]]>$\\frac{"
BASE = Trial(policy="p", task="push", seed=0, env_id="twin", steps=50, reward=0, end="time limit", seconds=1)


def tables(folder, names=("expert", "noisy", "slow", "random", HOSTILE), starts=20) -> tuple[TrialTable, TrialTable]:
    def make(env_id: str, shift: int) -> TrialTable:
        trials = [
            replace(
                BASE, policy=name, task=task, seed=seed, env_id=env_id, success=seed < 4 * index + shift,
                verdict="yes" if seed < 4 * index + shift else "no", video=f"videos/{env_id} {seed}#.mp4",
            )
            for index, name in enumerate(names) for task in ("push", HOSTILE[:20]) for seed in range(starts)
        ]  # fmt: skip
        return TrialTable(tuple(trials), {HOSTILE: HOSTILE}, folder)

    return make("dream", 2), make("twin", 1)


def report(folder, **options) -> PolicyReport:
    dream, twin = tables(folder, **options)
    copy = TrialTable(tuple(replace(one, success=False, verdict="no") for one in dream))
    return policy_report(dream=dream, reference=twin, baselines={HOSTILE: copy}, title=HOSTILE, resamples=100)


class Reader(HTMLParser):
    """Collects tags and text, and checks that tags close in order."""

    VOID = ("meta", "br", "path", "use", "rect")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data) -> None:
        self.text.append(data)


@pytest.fixture(scope="module")
def told(tmp_path_factory) -> tuple[PolicyReport, str, Reader]:
    pytest.importorskip("matplotlib", reason="plots need the extra report")
    folder = tmp_path_factory.mktemp("run")
    made = report(folder / "trials")
    reader = Reader()
    write_page(folder / "pages" / "report.html", made)
    text = (folder / "pages" / "report.html").read_text("utf-8")
    reader.feed(text)
    assert [path.name for path in (folder / "pages").iterdir()] == ["report.html"]
    assert text == page(made, folder / "pages")
    return made, text, reader


def test_the_page_is_whole_and_takes_nothing_from_elsewhere(told) -> None:
    _, text, reader = told
    assert reader.open == []
    assert {tag for tag, _ in reader.tags} >= {"html", "title", "table", "svg", "video"}
    for tag, attributes in reader.tags:
        assert tag not in ("script", "link", "iframe", "object", "base", "img")
        for name, value in attributes.items():
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href"):
                assert value is not None and not value.startswith(("http", "//", "data:", "javascript:"))
    assert "@import" not in text and "url(http" not in text
    assert "default-src 'none'" in text


def test_hostile_names_are_text(told) -> None:
    _, text, reader = told
    assert "<script" not in text
    assert any(HOSTILE in part for part in reader.text)


def test_every_figure_and_both_conventions_are_named(told) -> None:
    made, _, reader = told
    text = " ".join(reader.text)
    for words in (
        "Pearson",
        "Spearman",
        "MMRV (sim, real)",
        "MMRV (real, sim)",
        "Slope",
        "Mean bias",
        "Worst",
        "stopped",
    ):
        assert words in text
    assert made.dream.over_policies["pearson"].text() in text
    assert "ground truth" in text


def test_videos_stand_side_by_side_relative_to_the_page(told) -> None:
    _, _, reader = told
    sources = [attributes["src"] for tag, attributes in reader.tags if tag == "video"]
    assert len(sources) == 2 * len(told[0].dream.episodes.disagreements) == 20
    assert sources[0].startswith("../trials/videos/dream%20")
    assert sources[1].startswith("../trials/videos/twin%20")
    assert all(source.endswith("%23.mp4") for source in sources)


def test_one_task_has_a_page_too(tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra report")
    dream, twin = (table.where(task="push") for table in tables(tmp_path))
    text = page(policy_report(dream=dream, reference=twin, resamples=100), tmp_path)
    assert text.count("<svg") == 2 and "videos/dream" in text


def test_a_file_that_both_sides_name_is_shown_once(tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra report")
    both = [
        TrialTable(tuple(replace(one, video="videos/both.mp4") for one in table), {}, tmp_path)
        for table in tables(tmp_path)
    ]
    text = page(policy_report(dream=both[0], reference=both[1], resamples=100), tmp_path)
    assert text.count("<video") == text.count('<div class="wide">') == 10 and '<div class="pair">' not in text


def test_plots_are_svg_that_parses_and_equal_reports_draw_equal_ones(told) -> None:
    made, _, _ = told
    for draw in (scatter_svg, bars_svg):
        text = draw(made.dream)
        root = ElementTree.fromstring(text)
        assert root.tag.endswith("svg")
        assert draw(made.dream) == text
    clip = "{http://www.w3.org/2000/svg}clipPath"
    scatter, bars = (ElementTree.fromstring(draw(made.dream)) for draw in (scatter_svg, bars_svg))
    assert not {node.get("id") for node in scatter.iter(clip)} & {node.get("id") for node in bars.iter(clip)}


def test_few_trials_print_intervals_and_no_bare_number(tmp_path) -> None:
    pytest.importorskip("matplotlib", reason="plots need the extra report")
    made = report(tmp_path, names=("a", "b", "c"), starts=10)
    text = page(made, tmp_path)
    assert "so only intervals are told" in text
    assert "3 policies; 5 at least" in text
    figure = made.dream.over_policies["bias_mean"]
    assert figure.text(scale=100, digits=1, bare=False) in text
    assert figure.text(scale=100, digits=1) not in text


def test_seeds_are_told_in_runs() -> None:
    assert ranges([1, 2, 3, 7, 9, 10]) == "1 to 3, 7, 9 to 10"
    assert ranges([]) == ""


def test_without_matplotlib_the_extra_is_named_and_no_page_is_left(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependency, match=r"matplotlib .*vap-sim\[report\]"):
        write_page(tmp_path / "report.html", report(tmp_path))
    assert list(tmp_path.iterdir()) == []
