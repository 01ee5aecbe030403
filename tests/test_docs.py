"""The documentation site builds without a warning, and what pages show is covered: names, blocks, commands."""

from __future__ import annotations

import configparser
import json
import logging
import re
import runpy
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from tests.test_readme import FENCE, PAGES, ROOT
from vap_sim.cli import commands, parse

DOCS = ROOT / "docs"
NOT_RUN = {
    "docs/cogvideox.md": "needs trained weights",
    "docs/few_steps.md": "needs trained weights",
    "docs/training_in_the_dream.md": "trains for hours",
}
"""Pages with a block of Python that is only compiled, and why; each says so itself. Other tests run the like."""
SMALL = {
    "adapt": "tests/test_adapt_command.py",
    "calibrate": "tests/test_calibrate_command.py",
    "clone": "tests/test_small_commands.py",
    "completion": "tests/test_cli_promises.py",
    "demo": "tests/test_demo_command.py",
    "distill": "tests/training/test_distill_command.py",
    "evaluate": "tests/test_evaluate_command.py",
    "imagine": "tests/test_imagine_command.py",
    "improve": "tests/policies/test_practice.py",
    "inspect": "tests/test_inspect_command.py",
    "learn-action": "tests/training/test_learn_action.py",
    "prepare": "tests/test_prepare_command.py",
    "prepare-hands": "tests/extraction/test_hands_clips.py",
    "preview": "tests/test_preview_command.py",
    "record": "tests/test_cli.py",
    "replay": "tests/test_adapt_command.py",
    "serve-policy": "tests/test_small_commands.py",
    "teleop": "tests/viewer/test_teleop_journal.py",
    "train": "tests/test_train_command.py",
    "train-conditioner": "tests/training/test_train_conditioner.py",
}
"""Where a command that a page shows, and that needs data or hours there, is run with little."""
NOT_SMALL = {"train-judge": "makes its own data, minutes of it at the least; the parts are tested by themselves"}
SHOWN = re.compile(r"vap-sim|make|([\w-]+/bin/)?(python(3\.11)?|pip)|torchrun|export")
"""What a line of a console block may begin with; anything else in an indented block must be a drawing of a folder."""
DRAWN = ("robots/", "my_robot/", "my_robots/")

MADE = runpy.run_path(str(DOCS / "make_site.py"))


def page_id(page: Path) -> str:
    return str(page.relative_to(ROOT))


def shell_blocks(text: str) -> list[str]:
    """Console blocks and indented blocks of a page."""
    fenced = [block["code"] for block in FENCE.finditer(text) if block["language"] in ("console", "bash", "sh")]
    bare = FENCE.sub("", text)
    indented = re.findall(r"(?:(?<=\n\n)|\A)((?:    .*\n|\n(?=    ))+)", bare)
    return fenced + [re.sub(r"^    ", "", block, flags=re.MULTILINE) for block in indented]


def command_lines(block: str) -> list[list[str]]:
    """The commands of a block as words, without prompts, comments and where their output goes."""
    joined = re.sub(r"\\\n\s*", " ", block)
    lines = [line.removeprefix("$ ").strip() for line in joined.splitlines()]
    found = [shlex.split(line, comments=True) for line in lines if SHOWN.fullmatch(line.split(" ")[0])]
    return [words[: words.index(">")] if ">" in words else words for words in found]


# Names ---------------------------------------------------------------------------------------------------------------


def test_every_public_name_is_documented() -> None:
    griffe = pytest.importorskip("griffe", reason="comes with the extra docs")
    names, silent = MADE["public_names"](), []
    for name, docstring in names.items():
        silent += [] if docstring else [name]
    assert len(names) > 2000 and griffe is not None
    assert not silent, "public names without a docstring:\n" + "\n".join(silent)


def test_every_module_and_every_export_has_its_place_in_the_reference() -> None:
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert set(MADE["PACKAGES"]) == set(setup["options"]["packages"].split()), "PACKAGES of docs/make_site.py"
    pages = MADE["reference_pages"]()
    for module in MADE["modules"]():
        text = pages[module.page]
        assert text.startswith(f"# {module.name}\n")
        package = module.path.name == "__init__.py"
        assert not package or all(f"[`{name}`]" in text for name in module.exported)
        assert package or f"::: {module.name}\n" in text
    written = (DOCS / "reference" / "README.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in written for name in MADE["PACKAGES"] if name.count(".") < 2)


def test_the_help_of_every_command_is_shown() -> None:
    page = MADE["help_page"]()
    for name, (kind, _) in commands().items():
        own = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert f"```console\nvap-sim {name} " in own
        options = re.findall(r"^\| `([^`]+)` \| [^|]* \| (.+) \|$", own, re.MULTILINE)
        assert len(options) >= len(fields(kind)) and all(told.strip() for _, told in options)
    assert "`--cogvideox.form`" in page and "`FOLDER`" in page


# The site ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The site without the pages of modules, which `make docs` adds, and what was warned of."""
    pytest.importorskip("mkdocs", reason="the site is built with the extra docs")
    pytest.importorskip("material", reason="the site is built with the extra docs")
    pytest.importorskip("mkdocstrings", reason="the site is built with the extra docs")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder, heard = tmp_path_factory.mktemp("site"), []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())

    ear, log = Ear(level=logging.WARNING), logging.getLogger("mkdocs")
    log.addHandler(ear)
    try:
        config: Any = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder))
        config["extra"]["reference"] = False
        build(config)
    finally:
        log.removeHandler(ear)
    return folder, heard


def test_the_site_builds_without_a_warning(site: tuple[Path, list[str]]) -> None:
    """Links, anchors, pages that the navigation forgets: MkDocs warns of all of them."""
    folder, heard = site
    assert not heard, "\n".join(heard)
    assert {"index.html", "command_line.html", "limits.html", "reports/droid/report.html"} <= {
        str(path.relative_to(folder)) for path in folder.rglob("*.html")
    }


def test_pages_fetch_nothing_from_other_hosts(site: tuple[Path, list[str]]) -> None:
    folder, _ = site
    source = r"""<(?:script|img|iframe|source|video)\b[^>]*\bsrc=["']?(?:https?:)?//[^"'\s>]+"""
    sheet = r"""<link\b(?=[^>]*(?:stylesheet|preload|icon))[^>]*href=["']?(?:https?:)?//[^"'\s>]+"""
    fetched = re.compile(f"{source}|{sheet}")
    for path in folder.rglob("*.html"):
        found = fetched.search(path.read_text(encoding="utf-8"))
        assert not found, f"{path.relative_to(folder)}: {found and found.group()}"
    for path in folder.rglob("*.css"):
        assert not re.search(r"url\([\"']?https?:|@import", path.read_text(encoding="utf-8")), path
    assert (folder / "search" / "search_index.json").stat().st_size > 100_000


def test_links_to_the_checkout_lead_to_pages(site: tuple[Path, list[str]]) -> None:
    folder, _ = site
    for name in ("examples/05_your_photo.py", "integrations/lerobot/README", "README", "robots/widowx/README"):
        target = folder / "repository" / f"{name}.html"
        assert target.is_file() or target.with_name("index.html").is_file(), name
    text = (folder / "environments.html").read_text(encoding="utf-8")
    assert 'href="repository/examples/05_your_photo.py.html"' in text and "../examples" not in text


def test_relinking_leaves_code_alone() -> None:
    text = (
        "[a](../examples/05_your_photo.py) [b](data.md#x) [c](http://x/y) [d](#here)\n```text\n[e](../README.md)\n```\n"
    )
    made = MADE["relinked"]("docs/page.md", text, "page.md")
    assert made == text.replace("../examples/05_your_photo.py", "repository/examples/05_your_photo.py.md")
    deeper = MADE["relinked"]("README.md", "[a](docs/data.md) [b](examples)", "repository/README.md")
    assert deeper == "[a](../data.md) [b](examples/README.md)"


# Blocks --------------------------------------------------------------------------------------------------------------


def test_what_is_not_run_is_listed_with_its_reason() -> None:
    found = {}
    for page in PAGES:
        for block in FENCE.finditer(page.read_text(encoding="utf-8")):
            if "not run:" in (block["before"] or ""):
                found[page_id(page)] = block["before"][len("<!-- not run: ") : -len(" -->\n")]
                compile(block["code"], page_id(page), "exec")
    assert found == NOT_RUN


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_block_is_of_a_kind_that_is_checked(page: Path) -> None:
    """Python is run, JSON read, and what looks like a console is a command that exists."""
    text = page.read_text(encoding="utf-8")
    for block in FENCE.finditer(text):
        assert block["language"] in ("python", "json", "console"), f"{page_id(page)}: a block of {block['language']!r}"
        if block["language"] == "json":
            json.loads(block["code"])
    for block in shell_blocks(text):
        assert command_lines(block) or block.startswith(DRAWN), f"{page_id(page)}: neither command nor folder:\n{block}"


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_every_command_is_understood(page: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each line of a console is parsed as it stands; `--help` and `--version` are answered."""
    known = commands()
    for block in shell_blocks(page.read_text(encoding="utf-8")):
        for words in command_lines(block):
            if words[0] == "vap-sim" and not words[1].startswith("-"):
                kind, _ = known[words[1]]
                if words[-1] != "--help":
                    assert isinstance(parse(words[1], kind, words[2:])[0], kind)
            elif words[0] == "python" and words[1].startswith(("benchmarks/", "docs/")):
                source = (ROOT / words[1]).read_text(encoding="utf-8")
                options = [word[2:].partition("=")[0].replace("-", "_") for word in words[2:] if word.startswith("--")]
                assert all(re.search(rf"\b(no_)?{option.removeprefix('no_')}\b", source) for option in options), words
            elif words[0] == "pip":
                extras = {
                    extra for word in words for some in re.findall(r"\[([\w,]+)\]", word) for extra in some.split(",")
                }
                assert all(f"\n{extra} =\n" in (ROOT / "setup.cfg").read_text("utf-8") for extra in extras), words
    capsys.readouterr()


def test_every_command_is_run_somewhere() -> None:
    assert set(SMALL) | set(NOT_SMALL) == set(commands())
    for name, path in SMALL.items():
        kind, text = commands()[name][0], (ROOT / path).read_text(encoding="utf-8")
        assert f'"{name}"' in text or f"{kind.__name__}(" in text, f"{path} does not run {name}"


def test_every_variable_is_listed() -> None:
    page = (DOCS / "command_line.md").read_text(encoding="utf-8")
    for room in ("vap_sim", "envs", "policies", "robots"):
        for path in (ROOT / room).rglob("*.py"):
            for name in re.findall(r"VAP_SIM_[A-Z]\w*", path.read_text(encoding="utf-8")):
                assert f"| `{name}` |" in page, f"{path.relative_to(ROOT)}: {name}"
