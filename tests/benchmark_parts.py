"""The files of benchmarks/ as modules, for the tests of them."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


@contextmanager
def benchmark_modules(names: Sequence[str], *, needs: Sequence[str] = ()) -> Iterator[dict[str, ModuleType]]:
    """The named files as modules by name, freshly imported, as benchmarks import each other: by their bare names.

    needs: packages without which the test is skipped, as it is where benchmarks are not installed. Afterwards no module
    of a benchmark is left, and what had one of their names before has it again.
    """
    for name in needs:
        pytest.importorskip(name)
    if not FOLDER.exists():
        pytest.skip("benchmarks are not installed")
    bare = {path.stem for path in FOLDER.glob("*.py")}
    known = {name: sys.modules.pop(name) for name in bare & sys.modules.keys()}
    sys.path.insert(0, str(FOLDER))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(FOLDER))
        for name in bare:
            sys.modules.pop(name, None)
        sys.modules.update(known)
