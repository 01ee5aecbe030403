"""What the documents say is true: their code runs, their links lead somewhere, their commands and options exist."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from vap_sim.cli import commands
from vap_sim.commands.record import Record
from vap_sim.commands.train import Train

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
FENCE = re.compile(
    r"^(?P<before><!-- (?:continues|not run: [^\n]+) -->\n)?```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
COMMANDS = {name: kind for name, (kind, _) in commands().items()}


@dataclass(frozen=True)
class Snippet:
    """Blocks of Python of one page that run one after the other in one namespace; `line` is where the first begins."""

    page: Path
    line: int
    code: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def snippets(page: Path, text: str) -> list[Snippet]:
    """The Python blocks of a page, each by itself but for those that continue the one before."""
    found: list[Snippet] = []
    for block in FENCE.finditer(text):
        if block["language"] != "python" or "not run:" in (block["before"] or ""):
            continue
        line = text.count("\n", 0, block.start("code")) + 1
        code = "\n" * (line - 1) + block["code"]
        if block["before"] and found:
            found[-1] = Snippet(page, found[-1].line, (*found[-1].code, code))
        else:
            found.append(Snippet(page, line, (code,)))
    return found


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as forges make them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ +(.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken_links(page: Path, text: str) -> list[str]:
    """Relative links of a page that lead nowhere."""
    broken = []
    for link in LINK.findall(FENCE.sub("", text)):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


SNIPPETS = [snippet for page in PAGES for snippet in snippets(page, page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=str)
def test_code_runs(snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if any(re.search("VAPTwin|twin_recorder|pybullet_data", code) for code in snippet.code):
        pytest.importorskip("pybullet")
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    for code in snippet.code:
        exec(compile(code, str(snippet.page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    assert not broken_links(page, page.read_text(encoding="utf-8"))


def words_of_code(text: str) -> str:
    """Everything in a page that is set as code: fenced, indented, or between backticks."""
    indented = re.findall(r"^    .+$", text, re.MULTILINE)
    return "\n".join([block["code"] for block in FENCE.finditer(text)] + indented + re.findall(r"`([^`\n]+)`", text))


def option_names(command: type) -> set[str]:
    """As they are given: `--with`, whose field is `with_`."""
    return {field.name.strip("_").replace("_", "-") for field in fields(command)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([\w-]+):", makefile, re.MULTILINE))
    code = words_of_code(page.read_text(encoding="utf-8"))
    assert set(re.findall(r"^\s*make (?:[A-Z]\w*=\S+ )*([a-z][\w-]*)", code, re.MULTILINE)) <= targets
    for name, rest in re.findall(r"vap-sim ([a-z][\w-]*)(.*)", code):
        options = set(re.findall(r"--([\w-]+)", rest)) - {"help", "json"}
        assert {option.removeprefix("no-") for option in options} <= option_names(COMMANDS[name]), name
    for script in re.findall(r"python ((?:benchmarks|examples)/\S+\.py)", code):
        assert (ROOT / script).is_file()


@pytest.mark.parametrize(("command", "heading"), [(Record, "Record"), (Train, "Train")])
def test_training_page_lists_every_option(command: type, heading: str) -> None:
    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    listed = {
        option
        for row in re.findall(r"^\|(.+?)\|", section, re.MULTILINE)
        for option in re.findall(r"`--(?:no-)?([\w-]+)`", row)
    }
    assert listed == option_names(command)


def test_every_argument_of_the_environments_is_documented() -> None:
    from inspect import signature

    from vap_sim.envs.twin_env import TwinEnv
    from vap_sim.envs.world_env import WorldEnv

    text = (ROOT / "docs" / "environments.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \| (yes)? ?\| (yes)? ?\|", text, re.MULTILINE)
    for column, env in ((2, WorldEnv), (3, TwinEnv)):
        documented = {row[0]: row[1].replace('"', "'") for row in rows if row[column]}
        arguments = {
            name: str(repr(p.default)) for name, p in signature(env.__init__).parameters.items() if name != "self"
        }
        assert documented == arguments


def test_every_benchmark_is_explained() -> None:
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    headings = "\n".join(re.findall(r"^## .+$", text, re.MULTILINE))
    scripts = [path for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")]
    assert scripts and not [path.name for path in scripts if path.name not in headings]


def test_benchmarks_that_take_long_are_listed() -> None:
    """The page names those that `make bench` leaves out."""
    (left_out,) = re.findall(r"^LONG := (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    text = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    sentence = text.partition("run alone:")[2].partition(".")[0]
    assert re.findall(r"`(\w+)`", sentence) == left_out.split()
    assert all((ROOT / "benchmarks" / f"{name}.py").is_file() for name in left_out.split())


def test_episode_table_is_the_format() -> None:
    from vap_sim.data.twin import TwinEpisode

    text = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    section = text.partition("\n## The episode format\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [
        field.name for field in fields(TwinEpisode) if field.name != "meta"
    ]


def test_the_checks_catch_what_they_are_for(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "# A b, c!\n\n```python\nx = 1\n```\n\n<!-- continues -->\n```python\ny = x\n```\n\n```python\nz\n```\n"
    page.write_text(text, encoding="utf-8")
    first, second = snippets(page, text)
    assert (first.line, len(first.code), second.line, len(second.code)) == (4, 2, 13, 1)
    assert broken_links(page, "[a](#a-b-c) [b](page.md#a-b-c) [c](http://x/y) [d](page.md)") == []
    assert broken_links(page, "[a](nowhere.md) [b](#nothing) [c](page.md#no)") == [
        "nowhere.md",
        "#nothing",
        "page.md#no",
    ]
