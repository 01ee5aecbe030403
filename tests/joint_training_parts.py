"""The files of the benchmark of joint training as modules, for the tests of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace

from tests.benchmark_parts import benchmark_modules

OWN = ("diets", "judge", "runs", "report", "dreams")


@contextmanager
def benchmark_parts() -> Iterator[SimpleNamespace]:
    """The modules by their own names; "main" is the command's."""
    names = ("joint_training", *(f"joint_training_{name}" for name in OWN))
    with benchmark_modules(names, needs=("pybullet", "tensorboard")) as modules:
        yield SimpleNamespace(main=modules["joint_training"], **{n: modules[f"joint_training_{n}"] for n in OWN})
