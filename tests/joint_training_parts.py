"""The files of the benchmark of joint training as modules, for the tests of it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
OWN = ("diets", "judge", "runs", "report", "dreams")
NAMES = ("harness", *(f"joint_training_{name}" for name in OWN), "joint_training")


@contextmanager
def benchmark_parts() -> Iterator[SimpleNamespace]:
    """The modules, which import each other by their bare names."""
    for name in ("pybullet", "tensorboard"):
        pytest.importorskip(name)
    if not FOLDER.exists():
        pytest.skip("benchmarks are not installed")
    known = {name: sys.modules.pop(name, None) for name in NAMES}
    sys.path.insert(0, str(FOLDER))
    try:
        modules = {name: importlib.import_module(name) for name in NAMES}
        yield SimpleNamespace(main=modules["joint_training"], **{n: modules[f"joint_training_{n}"] for n in OWN})
    finally:
        sys.path.remove(str(FOLDER))
        for name in NAMES:
            sys.modules.pop(name, None)
        sys.modules.update({name: one for name, one in known.items() if one is not None})
