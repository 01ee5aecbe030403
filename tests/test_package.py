"""What the package declares and what importing it costs: packages, locks, public names, a light import."""

from __future__ import annotations

import configparser
import importlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("robots", "envs", "policies")
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
HAS_PYBULLET = importlib.util.find_spec("pybullet") is not None


def _listed(section: str, key: str) -> list[str]:
    return [line for line in SETUP[section][key].splitlines() if line]


def _packages_on_disk(folder: Path, name: str) -> set[str]:
    if not (folder / "__init__.py").exists() or folder.is_symlink():
        return set()
    below = (_packages_on_disk(child, f"{name}.{child.name}") for child in folder.iterdir() if child.is_dir())
    return {name}.union(*below)


def _modules() -> list[str]:
    """Every module that is installed, by its public name; `__main__` files run when imported and are left out."""
    modules = []
    for package in sorted(_listed("options", "packages")):
        parts = package.split(".")
        folder = ROOT.joinpath(*(parts[1:] if len(parts) > 1 and parts[1] in ROOMS else parts))
        files = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__main__")
        modules += [package if stem == "__init__" else f"{package}.{stem}" for stem in files]
    return modules


def _needs_pybullet(module: str) -> bool:
    return module.startswith(("vap_sim.envs.twin", "vap_sim.envs.scenes", "vap_sim.data.record"))


def test_setup_cfg_lists_every_package_and_no_other() -> None:
    on_disk = _packages_on_disk(ROOT / "vap_sim", "vap_sim")
    on_disk = on_disk.union(*(_packages_on_disk(ROOT / room, f"vap_sim.{room}") for room in ROOMS))
    listed = set(_listed("options", "packages"))
    assert not on_disk - listed, "add these under [options] packages in setup.cfg"
    assert not listed - on_disk, "these packages of setup.cfg have no folder with an __init__.py"


def test_rooms_are_installed_inside_vap_sim_alone() -> None:
    assert all(name.split(".")[0] == "vap_sim" for name in _listed("options", "packages"))
    for room in ROOMS:
        link = ROOT / "vap_sim" / room
        assert link.is_symlink(), f"{link.name}: the checkout lost its relative link"
        assert link.resolve() == ROOT / room
        assert f"vap_sim.{room} = {room}" in _listed("options", "package_dir")


@pytest.mark.parametrize("module", [name for name in _modules() if HAS_PYBULLET or not _needs_pybullet(name)])
def test_every_public_name_exists(module: str) -> None:
    loaded = importlib.import_module(module)
    names = getattr(loaded, "__all__", ())
    assert len(set(names)) == len(names)
    assert not [name for name in names if not hasattr(loaded, name)]


def test_importing_the_package_loads_nothing_heavy() -> None:
    heavy = {"torch", "pybullet", "cv2", "av", "trimesh", "yourdfpy", "scipy", "diffusers", "transformers", "PIL"}
    script = f"import sys, vap_sim; print(*sorted({heavy!r} & set(sys.modules)))"
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_torchvision_is_absent() -> None:
    """One that does not match torch breaks transformers and diffusers as well; nothing here may pull it in."""
    assert importlib.util.find_spec("torchvision") is None
    for name in importlib.metadata.packages_distributions().get("vap_sim", []):
        assert not [item for item in importlib.metadata.requires(name) or [] if "torchvision" in item]


def _pins(name: str) -> dict[str, str]:
    lines = (ROOT / "requirements" / name).read_text("utf-8").splitlines()
    pins = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pins), (
        "a lock holds exact versions, no local ones"
    )
    names = [canonicalize_name(pin.name) for pin in pins]
    assert len(set(names)) == len(names)
    return {canonicalize_name(pin.name): str(pin.specifier).removeprefix("==") for pin in pins}


@pytest.mark.parametrize(
    ("lock", "extras"),
    [
        ("lock.txt", ("twin", "train")),
        ("dev.txt", ("test", "dev", "diffusion", "report", "docs")),
        ("lowest.txt", ("twin", "train", "test")),
    ],
)
def test_lock_pins_what_setup_cfg_asks_for(lock: str, extras: tuple[str, ...]) -> None:
    pins = _pins(lock) | (_pins("lock.txt") if lock == "dev.txt" else {})
    asked = [line for extra in extras for line in _listed("options.extras_require", extra)]
    asked += _listed("options", "install_requires")
    for requirement in map(Requirement, asked):
        pinned = pins.get(canonicalize_name(requirement.name))
        assert pinned is not None, f"{requirement.name} is not pinned in {lock}"
        assert requirement.specifier.contains(pinned), (
            f"{lock} pins {requirement.name} {pinned}, setup.cfg says {requirement}"
        )
        lower = [item.version for item in requirement.specifier if item.operator in (">=", "==")]
        if lock == "lowest.txt":
            assert re.fullmatch(rf"{re.escape(lower[0])}(\.\d+|\.post\d+)*", pinned), (
                f"{requirement.name}: not the lowest"
            )
    assert "torchvision" not in pins


def test_extra_all_names_every_other_extra_but_two() -> None:
    (requirement,) = (Requirement(line) for line in _listed("options.extras_require", "all"))
    assert requirement.extras == set(SETUP["options.extras_require"]) - {"all", "gl", "rerun"}


def test_build_requirement_is_locked() -> None:
    """The Makefile builds without isolation, so the build's needs must come with the lock."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    for requirement in map(Requirement, project["build-system"]["requires"]):
        assert requirement.specifier.contains(_pins("lock.txt")[canonicalize_name(requirement.name)])


@pytest.mark.parametrize("lock", ["lock.txt", "dev.txt"])
def test_pins_install_on_the_oldest_python_that_is_promised(lock: str) -> None:
    """Debian 12 has Python 3.11.2. Of what is installed here, by what it says itself."""
    oldest = SETUP["options"]["python_requires"].removeprefix(">=") + ".0"
    here = {canonicalize_name(item.metadata["Name"]): item for item in importlib.metadata.distributions()}
    known = {
        name: here[name] for name, version in _pins(lock).items() if name in here and here[name].version == version
    }
    assert known or lock == "dev.txt", "nothing of the lock is installed"
    wants = {name: SpecifierSet(item.metadata["Requires-Python"] or "") for name, item in known.items()}
    assert {name: str(python) for name, python in wants.items() if not python.contains(oldest)} == {}
