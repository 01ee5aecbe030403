"""The wheel: built from the checkout and from its source archive, inspected, and used where no checkout is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("robots", "envs", "policies")
IGNORED = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.tmp", ".*")

# Editable installs serve vap_sim from the checkout; without their finders only the installed wheel can answer.
AWAY = """
import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
"""
STRANGERS = """
home = sys.argv[1]
files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items() if name.startswith("vap_sim")}
strangers = {name: file for name, file in files.items() if file and not file.startswith(home)}
assert not strangers, strangers
assert not {"robots", "envs", "policies"} & set(sys.modules)
"""


def _run(*command: object, cwd: Path, **env: str) -> str:
    __tracebackhide__ = True
    words = [str(word) for word in command]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", **env}
    run = subprocess.run(
        words,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert run.returncode == 0, f"{' '.join(words[:2])}\n{run.stdout}\n{run.stderr}"
    return run.stdout


def _build_wheel(source: Path, out: Path) -> Path:
    _run(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", out, source, cwd=out
    )
    (wheel,) = out.glob("*.whl")
    return wheel


def _names(wheel: Path) -> set[str]:
    with ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, because building leaves folders behind."""
    copy = tmp_path_factory.mktemp("checkout")
    for path in ("setup.cfg", "pyproject.toml", "MANIFEST.in", "LICENSE", "README.md", "CHANGELOG.md"):
        if (ROOT / path).exists():
            shutil.copy(ROOT / path, copy)
    for room in ("vap_sim", *ROOMS):
        shutil.copytree(ROOT / room, copy / room, symlinks=True, ignore=IGNORED)
    return copy


@pytest.fixture(scope="module")
def wheel(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _build_wheel(checkout, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("site")
    _run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", target, wheel, cwd=target)
    return target


def _expected(checkout: Path) -> set[str]:
    """Every file of every package. Scripts in folders without `__init__.py` are for the workshop and stay there."""
    expected = set()
    for room in ("vap_sim", *ROOMS):
        prefix = "" if room == "vap_sim" else "vap_sim/"
        for folder, _, files in os.walk(checkout / room):
            names = [name for name in files if not name.endswith(".py") or "__init__.py" in files]
            expected |= {f"{prefix}{Path(folder, name).relative_to(checkout).as_posix()}" for name in names}
    return expected


def test_wheel_holds_every_file_of_the_packages_and_nothing_at_top_level(checkout: Path, wheel: Path) -> None:
    shipped = {name for name in _names(wheel) if not name.split("/")[0].endswith(".dist-info")}
    left_out, uncalled = sorted(_expected(checkout) - shipped), sorted(shipped - _expected(checkout))
    assert not left_out, f"add a package or a pattern of package data to setup.cfg: {', '.join(left_out)}"
    assert not uncalled, ", ".join(uncalled)
    assert {name.split("/")[0] for name in shipped} == {"vap_sim"}


def test_wheel_holds_robots_weights_and_types(wheel: Path) -> None:
    names = _names(wheel)
    assert {"vap_sim/robots/panda_robotiq/robot.urdf", "vap_sim/py.typed", "vap_sim/errors.py"} <= names
    assert [name for name in names if name.startswith("vap_sim/robots/") and name.endswith(".obj")]
    assert [name for name in names if name.startswith("vap_sim/models/compact/") and name.endswith(".safetensors")]
    assert [name for name in names if name.endswith(".json")]


def test_wheel_states_licence_command_and_dependencies(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        info = {name.split("/", 1)[1]: name for name in archive.namelist() if ".dist-info/" in name}
        metadata = archive.read(info["METADATA"]).decode()
        commands = archive.read(info["entry_points.txt"]).decode()
        assert b"Apache License" in archive.read(info["licenses/LICENSE"])
    assert "\nName: vap-sim\n" in metadata
    assert "Apache-2.0" in metadata
    assert "Requires-Python: >=3.11" in metadata
    assert "torchvision" not in metadata
    assert "vap-sim = vap_sim.cli:main" in commands


def test_source_archive_builds_the_same_wheel(checkout: Path, wheel: Path, tmp_path: Path) -> None:
    script = f"from setuptools.build_meta import build_sdist; print(build_sdist({str(tmp_path)!r}))"
    archive = _run(sys.executable, "-c", script, cwd=checkout).split()[-1]
    built = _build_wheel(tmp_path / archive, tmp_path)
    assert _names(built) == _names(wheel)


def test_installed_wheel_imports_without_the_checkout(site: Path, tmp_path: Path) -> None:
    script = f"{AWAY}\nimport vap_sim, vap_sim.errors, vap_sim.robots, vap_sim.envs, vap_sim.policies\n{STRANGERS}"
    _run(sys.executable, "-c", script, site, cwd=tmp_path, PYTHONPATH=str(site))


@pytest.mark.parametrize("options", [{"world": "kinematic"}, {}], ids=["kinematic", "default"])
def test_installed_wheel_dreams_without_the_checkout(site: Path, tmp_path: Path, options: dict[str, str]) -> None:
    script = f"""{AWAY}
import gymnasium as gym
import vap_sim
env = gym.make("VAPWorld-DROID-v0", **{options!r})
observation, info = env.reset(seed=0)
assert env.observation_space.contains(observation)
observation, reward, terminated, truncated, info = env.step(env.action_space.sample())
assert env.observation_space.contains(observation)
env.close()
{STRANGERS}"""
    _run(sys.executable, "-c", script, site, cwd=tmp_path, PYTHONPATH=str(site))
