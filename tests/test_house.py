"""The house rules that no linter knows: who may import whom, and what a file of the library may hold.

Every rule is a function of a parsed file, and `test_rule_catches` shows each of them an offender, so that a rule that
never fires is noticed. The rules of the package as a whole stand in test_package.py.
"""

from __future__ import annotations

import ast
import configparser
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("robots", "envs", "policies")
LONGEST_FILE = 350
_RECORDING = ("twin_recorder", "twin_behaviours", "twin_repertoires", "twin_actions", "hand_behaviours")
RECORDING = tuple(f"vap_sim.envs.{name}" for name in _RECORDING)
"""Where scripted experts drive the twin for recordings: of all environments, these alone know policies."""


@dataclass(frozen=True)
class Source:
    """One file of Python. `module` is its dotted name as users import it; `shipped` is false for a workshop script,
    which lies in a folder without `__init__.py` and is not installed."""

    module: str
    text: str
    is_package: bool = False
    shipped: bool = True

    @property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)


@dataclass(frozen=True)
class Import:
    """One imported name, absolute; `lazy` if it happens inside a function or for the type checker only."""

    name: str
    line: int
    lazy: bool


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_dir() and not path.is_symlink():
            yield from _files(path)
        elif path.suffix == ".py":
            yield path


def _library() -> dict[str, Source]:
    sources = {}
    for room in ("vap_sim", *ROOMS):
        for path in _files(ROOT / room):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts if room == "vap_sim" else ("vap_sim", *parts)
            is_package = parts[-1] == "__init__"
            module = ".".join(parts[:-1] if is_package else parts)
            shipped = (path.parent / "__init__.py").exists()
            sources[str(path.relative_to(ROOT))] = Source(module, path.read_text("utf-8"), is_package, shipped)
    return sources


LIBRARY = _library()
SHIPPED = {path: source for path, source in LIBRARY.items() if source.shipped}
OUTSIDE = {
    str(path.relative_to(ROOT)): Source(".".join(path.relative_to(ROOT).with_suffix("").parts), path.read_text("utf-8"))
    for folder in ("examples", "tests", "benchmarks")
    for path in _files(ROOT / folder)
}


# What a file imports ---------------------------------------------------------------------------------------------


def imports_of(source: Source) -> list[Import]:
    """Every import of the file, wherever it stands, with relative ones resolved and constant dynamic ones included."""
    return list(_imports(source.tree.body, source, lazy=False))


def _imports(nodes: Iterable[ast.AST], source: Source, lazy: bool) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, source)
            yield from (Import(f"{base}.{alias.name}".lstrip("."), node.lineno, lazy) for alias in node.names)
        elif isinstance(node, ast.Call) and re.search(r"\bimport_module$|^__import__$", _dotted(node.func)):
            constants = [str(word.value) for word in node.args[:1] if isinstance(word, ast.Constant)]
            yield from (Import(name, node.lineno, lazy) for name in constants)
        deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or (
            isinstance(node, ast.If) and _dotted(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")
        )
        yield from _imports(ast.iter_child_nodes(node), source, lazy or deferred)


def _absolute(node: ast.ImportFrom, source: Source) -> str:
    if not node.level:
        return node.module or ""
    here = source.module.split(".")
    up = node.level - 1 if source.is_package else node.level
    return ".".join([*here[: len(here) - up], *([node.module] if node.module else [])])


def _dotted(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def within(name: str, *prefixes: str) -> bool:
    """Whether a dotted name is one of the prefixes or lies below it."""
    return any(name == prefix or name.startswith(f"{prefix}.") for prefix in prefixes)


# The rules: each returns what it objects to ----------------------------------------------------------------------


def is_front_door(module: str) -> bool:
    return re.fullmatch(r"vap_sim|vap_sim\.(__main__|cli\w*|commands)(\..+)?", module) is not None


def may_use_pybullet(module: str) -> bool:
    return re.match(r"vap_sim\.(envs\.(twin\w*|scenes)|data\.record\w*)$|(tests|benchmarks)\.", module) is not None


def wall(source: Source) -> list[str]:
    """robots <- vap_sim <- envs; models <- training; policies beside envs; pybullet in the twin; no torchvision."""
    module, broken = source.module, []
    for item in imports_of(source):
        name = item.name
        if within(module, "vap_sim.robots"):
            wrong = within(name, "vap_sim", "gymnasium") and not within(name, "vap_sim.robots", "vap_sim.errors")
        elif within(module, "vap_sim.envs"):
            wrong = within(name, "vap_sim.policies") and module not in RECORDING
        elif within(module, "vap_sim.policies"):
            wrong = within(name, "vap_sim.envs", "vap_sim.models.compact", "vap_sim.models.cogvideox")
        elif within(module, "vap_sim") and not is_front_door(module):
            wrong = within(name, "vap_sim.envs", "vap_sim.policies", "gymnasium")
            wrong |= within(module, "vap_sim.models") and within(name, "vap_sim.training")
        else:
            wrong = False
        wrong |= within(name, "pybullet", "pybullet_data", "pybullet_utils") and not may_use_pybullet(module)
        wrong |= within(name, "torchvision")
        if wrong:
            broken.append(f"line {item.line}: {module} must not import {name}")
    return broken


def length(source: Source) -> list[str]:
    lines = len(source.text.splitlines())
    return [f"{lines} lines; {LONGEST_FILE} is the most: split it by idea"] if lines > LONGEST_FILE else []


def purpose(source: Source) -> list[str]:
    first = source.tree.body[0] if source.tree.body else None
    ok = first is not None and first.lineno == 1 and ast.get_docstring(source.tree)
    return [] if ok else ["line 1: the file does not begin with a docstring that says its purpose"]


def quiet(source: Source) -> list[str]:
    if is_front_door(source.module) or not source.shipped:
        return []
    return [f"line {node.lineno}: print in the library" for node in _calls(source) if _dotted(node.func) == "print"]


def keyed_randomness(source: Source) -> list[str]:
    """Draws name their generator: what `random`, `numpy.random` and torch draw by themselves nobody can replay."""
    samplers = r"rand|randn|randint|randperm|normal|bernoulli|multinomial"
    broken = []
    for node in _calls(source):
        name = _dotted(node.func)
        if re.fullmatch(rf"torch\.({samplers})", name):
            wrong = not any(keyword.arg in ("generator", None) for keyword in node.keywords)
        elif re.fullmatch(r"(np|numpy)\.random\.\w+", name):
            wrong = name.rsplit(".")[-1] not in ("default_rng", "Generator", "SeedSequence", "PCG64", "Philox")
        else:
            wrong = bool(re.fullmatch(r"torch\.\w+_like", name) and "rand" in name)
            # A command may seed torch once: modules draw their first weights from the global generator.
            wrong |= name == "torch.manual_seed" and not is_front_door(source.module)
            wrong |= bool(re.fullmatch(r"random\.[a-z]\w*", name))
        if wrong:
            broken.append(f"line {node.lineno}: {name} draws from a global generator")
    return broken


def safe_files(source: Source) -> list[str]:
    broken = [
        f"line {item.line}: {item.name} can run code that a file carries"
        for item in imports_of(source)
        if within(item.name, "pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve")
    ]
    for node in _calls(source):
        options = {keyword.arg: keyword.value for keyword in node.keywords}
        guard = options.get("weights_only")
        if _dotted(node.func) == "torch.load" and not (isinstance(guard, ast.Constant) and guard.value is True):
            broken.append(f"line {node.lineno}: torch.load without weights_only=True")
        if _dotted(node.func) in ("eval", "exec"):
            broken.append(f"line {node.lineno}: {_dotted(node.func)}")
    return broken


def _calls(source: Source) -> Iterator[ast.Call]:
    return (node for node in ast.walk(source.tree) if isinstance(node, ast.Call))


# What setup.cfg declares -----------------------------------------------------------------------------------------

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
# Distributions whose import name differs from their own.
IMPORT_NAMES = {"opencv-python-headless": ("cv2",), "rerun-sdk": ("rerun",)}
IMPORT_NAMES["pybullet"] = ("pybullet", "pybullet_data", "pybullet_utils")


def _listed(section: str, key: str) -> list[str]:
    return [line for line in SETUP[section][key].splitlines() if line]


def _requirements(*extras: str) -> list[Requirement]:
    return [Requirement(line) for extra in extras for line in _listed("options.extras_require", extra)]


CORE = [Requirement(line) for line in _listed("options", "install_requires")]
EXTRAS = _requirements(*(extra for extra in SETUP["options.extras_require"] if extra not in ("all", "test", "dev")))


def _import_names(requirements: list[Requirement]) -> set[str]:
    names = (IMPORT_NAMES.get(item.name, (item.name.replace("-", "_").lower(),)) for item in requirements)
    return {name for some in names for name in some}


def declared(source: Source) -> list[str]:
    """At the top of a file only core dependencies; inside functions also those of an extra; nothing undeclared."""
    broken = []
    for item in imports_of(source):
        top = item.name.split(".")[0]
        if top in sys.stdlib_module_names or top in _import_names(CORE) | {"vap_sim"}:
            continue
        if top not in _import_names(EXTRAS):
            broken.append(f"line {item.line}: {top} is in no list of setup.cfg")
        elif not item.lazy and not (top.startswith("pybullet") and may_use_pybullet(source.module)):
            broken.append(f"line {item.line}: {top} is optional: import it where it is used")
    return broken


LIBRARY_RULES = (wall, length, purpose, keyed_randomness, safe_files)
SHIPPED_RULES = (quiet, declared)


@pytest.mark.parametrize("rule", LIBRARY_RULES + SHIPPED_RULES, ids=lambda rule: rule.__name__)
def test_library_keeps(rule: Callable[[Source], list[str]]) -> None:
    files = SHIPPED if rule in SHIPPED_RULES else LIBRARY
    assert files
    objections = [f"{path}: {objection}" for path, source in files.items() for objection in rule(source)]
    assert not objections, "\n".join(objections)


@pytest.mark.parametrize("path", OUTSIDE)
def test_outside_the_library_no_file_is_long_and_only_tests_and_benchmarks_use_pybullet(path: str) -> None:
    assert not wall(OUTSIDE[path]) + length(OUTSIDE[path])


def test_tests_and_examples_import_at_the_top_only_what_the_locks_bring() -> None:
    """Anything else is imported where it is used, behind `pytest.importorskip` or the named error."""
    brought = {"vap_sim", "tests", *sys.stdlib_module_names} | _import_names(CORE)
    brought |= _import_names(_requirements("twin", "train", "test"))
    brought |= {source.module.rsplit(".")[-1] for source in OUTSIDE.values()}
    objections = [
        f"{path}: line {item.line}: {item.name}"
        for path, source in OUTSIDE.items()
        for item in imports_of(source)
        if not item.lazy and item.name.split(".")[0] not in brought
    ]
    assert not objections, "\n".join(objections)


OFFENDERS = [
    (wall, "vap_sim.robots.camera", "from vap_sim.state import WorldState", "must not import vap_sim.state.WorldState"),
    (wall, "vap_sim.robots.camera", "from vap_sim import envs", "must not import vap_sim.envs"),
    (wall, "vap_sim.robots.camera", "from ..noise import draw", "must not import vap_sim.noise.draw"),
    (wall, "vap_sim.robots.camera", "def f():\n    import gymnasium", "line 2: vap_sim.robots.camera must not"),
    (wall, "vap_sim.models.rollout", "import gymnasium as gym", "must not import gymnasium"),
    (wall, "vap_sim.models.rollout", "from ..training.loop import train", "must not import vap_sim.training.loop"),
    (wall, "vap_sim.models.rollout", "from ..envs.start import Start", "must not import vap_sim.envs.start.Start"),
    (wall, "vap_sim.data.lerobot", "import importlib\nimportlib.import_module('vap_sim.policies')", "vap_sim.policies"),
    (wall, "vap_sim.envs.world_env", "from vap_sim.policies.judge import Judge", "must not import vap_sim.policies"),
    (wall, "vap_sim.envs.world_env", "import pybullet", "must not import pybullet"),
    (wall, "vap_sim.policies.planners", "from vap_sim.envs.world_env import WorldEnv", "must not import vap_sim.envs"),
    (wall, "vap_sim.policies.planners", "from vap_sim.models import compact", "must not import vap_sim.models.compact"),
    (wall, "examples.01_first_step", "import pybullet_data", "must not import pybullet_data"),
    (wall, "benchmarks.speed", "from torchvision import ops", "must not import torchvision.ops"),
    (length, "vap_sim.state", "x = 1\n" * 351, "351 lines"),
    (purpose, "vap_sim.state", "import torch", "does not begin with a docstring"),
    (purpose, "vap_sim.state", "", "does not begin with a docstring"),
    (purpose, "vap_sim.state", "\n'''Late.'''", "does not begin with a docstring"),
    (quiet, "vap_sim.state", "def f():\n    print(1)", "line 2: print"),
    (keyed_randomness, "vap_sim.noise", "torch.randn(3)", "torch.randn draws from a global generator"),
    (keyed_randomness, "vap_sim.noise", "torch.randn_like(x)", "torch.randn_like"),
    (keyed_randomness, "vap_sim.noise", "np.random.rand(3)", "np.random.rand"),
    (keyed_randomness, "vap_sim.training.loop", "torch.manual_seed(0)", "torch.manual_seed"),
    (keyed_randomness, "vap_sim.noise", "random.shuffle(x)", "random.shuffle"),
    (safe_files, "vap_sim.state", "torch.load(path, weights_only=False)", "torch.load without"),
    (safe_files, "vap_sim.state", "from pickle import loads", "pickle.loads"),
    (safe_files, "vap_sim.state", "eval('1')", "eval"),
    (declared, "vap_sim.models.cogvideox.loading", "import diffusers", "diffusers is optional"),
    (declared, "vap_sim.models.cogvideox.loading", "def f():\n    import pandas", "pandas is in no list"),
]


@pytest.mark.parametrize(("rule", "module", "text", "words"), OFFENDERS)
def test_rule_catches(rule: Callable[[Source], list[str]], module: str, text: str, words: str) -> None:
    assert words in " ".join(rule(Source(module, text)))


@pytest.mark.parametrize(
    ("rule", "module", "text"),
    [
        (wall, "vap_sim.robots.camera", "from vap_sim.errors import InvalidInput\nfrom . import skeleton"),
        (wall, "vap_sim", "from gymnasium.envs.registration import register"),
        (wall, "vap_sim.cli_demo", "import vap_sim.envs"),
        (wall, "vap_sim.envs.twin_env", "import pybullet\nfrom vap_sim.models.protocol import WorldModel"),
        (wall, "vap_sim.training.loop", "from vap_sim.models.protocol import WorldModel"),
        (wall, "vap_sim.policies.evaluate", "import gymnasium\nfrom vap_sim.models.protocol import WorldModel"),
        (quiet, "vap_sim.cli", "print(1)"),
        (keyed_randomness, "vap_sim.commands.train", "torch.manual_seed(0)"),
        (keyed_randomness, "vap_sim.noise", "torch.randn(3, generator=g)\nnp.random.default_rng(0)\nrng.random()"),
        (safe_files, "vap_sim.state", "torch.load(path, weights_only=True)"),
        (declared, "vap_sim.models.loading", "import cv2\ndef f():\n    import diffusers"),
        (declared, "vap_sim.state", "if TYPE_CHECKING:\n    import diffusers"),
    ],
)
def test_rule_lets_pass(rule: Callable[[Source], list[str]], module: str, text: str) -> None:
    assert not rule(Source(module, text))


def test_relative_imports_resolve_from_a_package_and_from_a_module() -> None:
    text = "from .c import d\nfrom .. import e"
    assert [item.name for item in imports_of(Source("a.b", text, is_package=True))] == ["a.b.c.d", "a.e"]
    assert [item.name for item in imports_of(Source("a.b", text))] == ["a.c.d", "e"]
