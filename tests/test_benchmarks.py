"""Every benchmark can still be loaded: what it imports from the package is there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"
# In a process of its own: benchmarks import each other by bare names. What only an extra brings may be missing.
LOAD_ALL = """
import importlib, json, pathlib, sys
told = {}
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.py")):
    try:
        importlib.import_module(path.stem)
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] == "vap_sim" or (pathlib.Path(sys.argv[1]) / (error.name + ".py")).exists():
            told[path.stem] = repr(error)
    except Exception as error:
        told[path.stem] = repr(error)
print(json.dumps(told))
"""


def load_all(folder: Path) -> dict[str, str]:
    """What loading each file of a folder fails with, by the file's name."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALL, str(folder)], capture_output=True, text=True, cwd=folder, check=True
    )
    told: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return told


def test_all_benchmarks_load() -> None:
    if not FOLDER.exists():
        pytest.skip("benchmarks are not installed")
    assert load_all(FOLDER) == {}


def test_a_name_that_went_away_is_told(tmp_path: Path) -> None:
    (tmp_path / "good.py").write_text("import vap_sim.errors\n", encoding="utf-8")
    (tmp_path / "renamed.py").write_text("from vap_sim.errors import NoSuchError\n", encoding="utf-8")
    (tmp_path / "moved.py").write_text("import vap_sim.no_such_module\n", encoding="utf-8")
    assert sorted(load_all(tmp_path)) == ["moved", "renamed"]
