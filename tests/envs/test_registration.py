"""Importing the package: environments by name, public names on demand, and nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

import vap_sim
import vap_sim.envs
from vap_sim.envs.world_env import WorldEnv

ROOT = Path(__file__).resolve().parents[2]


def _run(script: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120, check=True
    )
    return run.stdout


def test_both_ways_to_make_it() -> None:
    for name in ("VAPWorld-DROID-v0", "vap_sim:VAPWorld-DROID-v0"):
        assert isinstance(gymnasium.make(name, world="kinematic").unwrapped, WorldEnv)


def test_importing_rooms_loads_nothing_heavy() -> None:
    heavy = {"torch", "pybullet", "cv2", "scipy", "trimesh"}
    script = f"import sys, vap_sim, vap_sim.envs, vap_sim.policies; dir(vap_sim); print({heavy!r} & set(sys.modules))"
    assert _run(script).strip() == "set()"


@pytest.mark.parametrize("package", [vap_sim, vap_sim.envs], ids=["vap_sim", "envs"])
def test_public_names(package: object) -> None:
    names = package.__all__  # type: ignore[attr-defined]
    assert names == sorted(names)
    assert set(names) <= set(dir(package))
    for name in names:
        assert getattr(package, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        package.nothing  # type: ignore[attr-defined]


def test_importing_again_registers_nothing_twice(recwarn: pytest.WarningsRecorder) -> None:
    vap_sim._register()
    assert not recwarn.list
