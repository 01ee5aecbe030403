"""Benchmarks as modules of a test: they find each other, and leave nothing behind."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests import benchmark_parts
from tests.benchmark_parts import benchmark_modules

BEFORE = ModuleType("first_part")
"""What has the name of a benchmark's file before."""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of three benchmarks: one that imports another, and one that fails after it has done so."""
    (tmp_path / "first_part.py").write_text("import second_part\nVALUE = second_part.VALUE + 1\n")
    (tmp_path / "second_part.py").write_text("VALUE = 1\n")
    (tmp_path / "broken_part.py").write_text("import first_part\nraise RuntimeError(first_part.VALUE)\n")
    monkeypatch.setattr(benchmark_parts, "FOLDER", tmp_path)
    monkeypatch.setitem(sys.modules, "first_part", BEFORE)
    return tmp_path


def test_modules_are_the_files_and_afterwards_all_is_as_before() -> None:
    path, known = list(sys.path), dict(sys.modules)
    with benchmark_modules(["first_part"]) as modules:
        assert list(modules) == ["first_part"] and modules["first_part"].VALUE == 2
        assert sys.modules["first_part"] is modules["first_part"] and "second_part" in sys.modules
    assert sys.path == path and dict(sys.modules) == known


@pytest.mark.parametrize("name", ["broken_part", "no_part"])
def test_an_import_that_fails_leaves_nothing_either(name: str) -> None:
    path, known = list(sys.path), dict(sys.modules)
    with pytest.raises((RuntimeError, ModuleNotFoundError), match=r"^2$|No module named 'no_part'"):
        with benchmark_modules(["second_part", name]):
            pass
    assert sys.path == path and dict(sys.modules) == known


def test_so_does_a_test_that_fails() -> None:
    path, known = list(sys.path), dict(sys.modules)
    with pytest.raises(AssertionError):
        with benchmark_modules(["first_part"]):
            raise AssertionError
    assert sys.path == path and dict(sys.modules) == known


def test_what_is_missing_is_the_reason_of_a_skip(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.skip.Exception, match="no_such_package"):
        with benchmark_modules(["first_part"], needs=["no_such_package"]):
            pass
    monkeypatch.setattr(benchmark_parts, "FOLDER", folder / "nothing")
    with pytest.raises(pytest.skip.Exception, match="benchmarks are not installed"):
        with benchmark_modules(["first_part"]):
            pass
