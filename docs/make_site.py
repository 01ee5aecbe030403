"""What MkDocs runs while it builds the site (`hooks` in mkdocs.yml): pages from docstrings, help and the checkout.

Pages below docs/ link to files beside docs/ as a repository host shows them. On the site such a link leads to a page
made of that file, so that every link of a page holds in both places.
"""

from __future__ import annotations

import ast
import inspect
import logging
import posixpath
import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

LOG = logging.getLogger("mkdocs.hooks.vap_sim")
ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("robots", "envs", "policies")
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(\[[^\]]*\]\()([^)\s#]+)(#[^)\s]*)?(\))")
LANGUAGES = {".py": "python", ".json": "json", ".yml": "yaml", ".cfg": "ini", ".toml": "toml", ".urdf": "xml"}
PACKAGES = {
    "vap_sim": "What most programs need",
    "vap_sim.envs": "Environments",
    "vap_sim.robots": "Robots and cameras",
    "vap_sim.prompts": "Visual action prompts",
    "vap_sim.models": "World models",
    "vap_sim.models.compact": "The compact world",
    "vap_sim.models.cogvideox": "CogVideoX",
    "vap_sim.models.conditioners": "Conditioners",
    "vap_sim.policies": "Policies, judges, planning",
    "vap_sim.data": "Recordings",
    "vap_sim.extraction": "From video to prompts",
    "vap_sim.metrics": "Metrics",
    "vap_sim.training": "Training",
    "vap_sim.viewer": "Looking at dreams",
    "vap_sim.commands": "The command line from inside",
}
"""The packages of the reference in their order. One that is missing here is an error, not a gap."""


@dataclass(frozen=True)
class Module:
    """A module: its name, its file, the first line of its docstring, and what `__all__` lists."""

    name: str
    path: Path
    purpose: str
    exported: tuple[str, ...]

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]

    @property
    def page(self) -> str:
        return f"reference/{self.name.replace('.', '/')}{'/README' * (self.path.name == '__init__.py')}.md"


@cache
def modules() -> tuple[Module, ...]:
    """Every module that is installed, in the order of PACKAGES, a package before what is in it; read, not imported."""
    found = []
    for package in PACKAGES:
        parts = package.split(".")
        folder = ROOT.joinpath(*(parts[1:] if len(parts) > 1 and parts[1] in ROOMS else parts))
        for path in sorted(folder.glob("*.py"), key=lambda path: (path.name != "__init__.py", path.name)):
            if path.stem == "__main__":
                continue
            tree = ast.parse(path.read_text(encoding="utf-8"))
            lines = str(ast.get_docstring(tree)).split("\n\n")[0].split("\n")
            listed = [node.value for node in tree.body if isinstance(node, ast.Assign) and _is_all(node.targets[0])]
            exported = tuple(ast.literal_eval(listed[0])) if listed else ()
            name = package if path.name == "__init__.py" else f"{package}.{path.stem}"
            found.append(Module(name, path, " ".join(lines), exported))
    return tuple(found)


def _is_all(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and target.id == "__all__"


# Pages from docstrings and from help -----------------------------------------------------------------------------


def reference_pages() -> dict[str, str]:
    """Page by place on the site: one of each module, whose names the docstrings explain."""
    pages = {}
    for module in modules():
        text = f"# {module.name}\n\n"
        if module.path.name == "__init__.py":
            text += f"{module.purpose}\n\n" + "".join(_listed(module))
        else:
            text += f"::: {module.name}\n"
        pages[module.page] = text
    return pages


def _listed(package: Module) -> Iterator[str]:
    """What a package exports, and its modules, each with a link."""
    homes = _homes(package)
    if package.exported:
        yield f"`from {package.name} import ...` knows\n\n"
        yield "".join(f"- [`{name}`][{homes[name]}.{name}]\n" for name in package.exported) + "\n"
    own = [module for module in modules() if module.package == package.name and module != package]
    if own:
        yield "| module | |\n| --- | --- |\n"
    for module in own:
        link = posixpath.relpath(module.page, posixpath.dirname(package.page))
        yield f"| [{module.name}]({link}) | {module.purpose} |\n"


def _homes(package: Module) -> dict[str, str]:
    """The module that defines each exported name, as the package's own imports say."""
    homes = {}
    for node in ast.walk(ast.parse(package.path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            homes |= {alias.asname or alias.name: node.module for alias in node.names}
    return homes


@cache
def public_names() -> dict[str, str]:
    """Every public class, function, method and property by its full name, with its docstring; "" where it has none."""
    import griffe

    extensions = griffe.load_extensions(str(ROOT / "docs" / "site" / "inherit.py"))
    package = griffe.load("vap_sim", search_paths=[ROOT], extensions=extensions, docstring_parser="google")
    found: dict[str, str] = {}

    def walk(owner: Any) -> None:
        for name, one in owner.members.items():
            if name.startswith("_") or one.is_alias:
                continue
            if one.is_class or one.is_function or "property" in one.labels:
                found[one.path] = one.docstring.value if one.docstring else ""
            if one.is_class or one.is_module:
                walk(one)

    walk(package)
    return found


def reference_nav() -> list[Any]:
    """The reference as mkdocs.yml would list it."""
    nav: list[Any] = []
    for package, title in PACKAGES.items():
        own = [module for module in modules() if module.package == package]
        nav.append({title: [one.page if one.name == package else {_short(one.name): one.page} for one in own]})
    return nav


def _short(name: str) -> str:
    return name.rpartition(".")[2]


def help_page() -> str:
    """What `vap-sim COMMAND --help` says of every command, as a page."""
    from vap_sim.cli import GROUPS, commands

    known = commands()
    names = [name for group in GROUPS.values() for name in group if name in known]
    names += [name for name in known if name not in names]
    text = "# Commands and options\n\nWhat `vap-sim COMMAND --help` says; [the command line](../command_line.md).\n"
    return text + "".join(_help(name, known[name][0]) for name in names)


def _help(name: str, kind: type) -> str:
    """One command: what it does, an example, and its options in a table."""
    told, _, _ = str(inspect.getdoc(kind)).partition("\nAttributes:\n")
    (first, *rest) = told.strip().split("\n\n")
    does, _, example = first.partition("Example: ")
    lines = [f"\n## {name}\n", f"{does.strip()}\n", f"```console\n{example}\n```\n", *(f"{one}\n" for one in rest)]
    return "\n".join([*lines, "| option | default | |", "| --- | --- | --- |", *_rows(kind)]) + "\n"


def _rows(kind: type, prefix: str = "") -> Iterator[str]:
    """The options of a record: as they are typed, what they are by default, and what they mean."""
    from tyro.conf import Positional

    attributes = str(inspect.getdoc(kind)).partition("\nAttributes:\n")[2]
    meant = dict(re.findall(r"^ {4}(\w+): ((?:.|\n {8})+)", attributes, re.MULTILINE))
    hints = get_type_hints(kind, include_extras=True)
    for one in fields(kind):
        word, hint = one.name.strip("_").replace("_", "-"), hints[one.name]
        if is_dataclass(hint):
            yield from _rows(hint, f"{prefix}{word}.")  # type: ignore[arg-type]
            continue
        bare = get_args(hint)[0] if get_origin(hint) is Annotated else hint
        shown = word.upper() if hint is Positional[bare] else f"--{prefix}{word}"
        default = "needed" if one.default is MISSING else _default(one.default)
        words = " ".join(meant.get(one.name, "").split()).replace("|", r"\|")
        yield f"| `{shown}` | {default} | {words} |"


def _default(value: object) -> str:
    """As one would type it; nothing for what is left open."""
    if value is None or value == ():
        return ""
    return f"`{' '.join(map(str, value)) if isinstance(value, tuple) else value}`"


# Pages of the checkout -------------------------------------------------------------------------------------------


def page_of(path: str) -> str:
    """Where on the site a file or folder of the checkout is shown; `path` is relative to the checkout."""
    folder = (ROOT / path).is_dir()
    if not needs_page(path):
        return f"{path[5:]}/README.md" if folder else path[5:]
    return f"repository/{path}/README.md" if folder else f"repository/{path.removesuffix('.md')}.md"


def needs_page(path: str) -> bool:
    """Whether a file or folder of the checkout is shown only if a page is made of it."""
    return not path.startswith("docs/") or ((ROOT / path).is_dir() and not (ROOT / path / "README.md").is_file())


def beside_docs(path: str, text: str) -> set[str]:
    """What a page (at `path` in the checkout) links to outside docs/, relative to the checkout."""
    found = {_target(path, link) for _, link, _, _ in LINK.findall(FENCE.sub("", text))}
    return {one for one in found if one and needs_page(one)}


def _target(path: str, link: str) -> str:
    """What a relative link leads to, relative to the checkout; "" for addresses."""
    if re.match(r"\w+:", link):
        return ""
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link)).removeprefix("./")


def linked_files() -> list[str]:
    """All files and folders beside docs/ that a page leads to, at first or by way of another, sorted."""
    pages = sorted((ROOT / "docs").rglob("*.md"))
    left = {one for page in pages for one in beside_docs(str(page.relative_to(ROOT)), page.read_text(encoding="utf-8"))}
    found: set[str] = set()
    while left:
        one = left.pop()
        found.add(one)
        left |= beside_docs(_page_file(one), _repository_page(one)) - found
    return sorted(found)


def _page_file(path: str) -> str:
    """The file whose place relative links in the page of `path` start from."""
    return f"{path}/README.md" if (ROOT / path).is_dir() else path


def _repository_page(path: str) -> str:
    """The page of a file or folder of the checkout, its links as they are in the checkout."""
    place = ROOT / path
    if place.is_dir():
        told = (place / "README.md").read_text(encoding="utf-8") if (place / "README.md").is_file() else f"# {path}\n"
        names = sorted(inner.name for inner in place.iterdir() if inner.suffix in LANGUAGES and inner.name[0] != "_")
        return told + "\n" + "".join(f"- [{name}]({name})\n" for name in names)
    text = place.read_text(encoding="utf-8")
    return text if path.endswith(".md") else f"# {path}\n\n````{LANGUAGES.get(place.suffix, 'text')}\n{text}````\n"


def relinked(path: str, text: str, place: str) -> str:
    """The text of a page (`path` in the checkout, `place` on the site) with its links led to pages of the site."""
    here = posixpath.dirname(place)

    def led(match: re.Match[str]) -> str:
        before, link, anchor, after = match.groups()
        target = _target(path, link)
        if not target:
            return match.group()
        return f"{before}{posixpath.relpath(page_of(target), here or '.')}{anchor or ''}{after}"

    ends = [0, *(end for fence in FENCE.finditer(text) for end in fence.span()), len(text)]
    parts = [text[a:b] for a, b in zip(ends, ends[1:], strict=False)]
    return "".join(part if number % 2 else LINK.sub(led, part) for number, part in enumerate(parts))


# What MkDocs calls -----------------------------------------------------------------------------------------------


def on_config(config: Any) -> Any:
    """Anchors as repository hosts make them, and the pages that are made here in their places."""
    from pymdownx.slugs import slugify

    config["mdx_configs"].setdefault("toc", {})["slugify"] = slugify(case="lower")
    (reference,) = [section["Reference"] for section in config["nav"] if "Reference" in section]
    reference.append({"Commands and options": "reference/commands.md"})
    if config["extra"]["reference"]:
        reference.extend(reference_nav())
    config["nav"].append({"Repository": [page_of(path) for path in linked_files()]})
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages that are made here."""
    from mkdocs.structure.files import File

    places = {path: page_of(path) for path in linked_files()}
    made = {place: relinked(_page_file(path), _repository_page(path), place) for path, place in places.items()}
    made["reference/commands.md"] = help_page()
    if config["extra"]["reference"]:
        made |= reference_pages()
    for place, text in made.items():
        files.append(File.generated(config, place, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, **others: Any) -> str:
    """Lead links of pages below docs/ to the pages of what is beside it."""
    written = ROOT / "docs" / page.file.src_uri
    place = page.file.src_uri
    return relinked(f"docs/{place}", markdown, place) if written.is_file() else markdown


def on_post_build(config: Any) -> None:
    """Every public name stands in the reference, or the build fails."""
    if not config["extra"]["reference"]:
        return
    shown = set()
    for page in Path(config["site_dir"], "reference").rglob("*.html"):
        shown |= set(re.findall(r'id="(vap_sim[\w.]*)"', page.read_text(encoding="utf-8")))
    missing = sorted(name for name in public_names() if name not in shown)
    if missing:
        from mkdocs.exceptions import PluginError

        raise PluginError(f"{len(missing)} public names are not in the reference: {', '.join(missing)}")
    LOG.info("The reference shows all %d public names.", len(public_names()))
