"""World models by name and by file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest
import torch

from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported, VAPSimError
from vap_sim.models.checkpoint import save_tensors
from vap_sim.models.compact.model import CompactWorld
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, UNetConfig
from vap_sim.models.kinematic import KinematicWorld
from vap_sim.models.registry import is_path, load_world, world_names


def test_a_name_and_its_options() -> None:
    world = load_world("kinematic", views=2, frame_rate=15.0, size=(32, 16))
    assert world.spec == KinematicWorld(size=(32, 16), views=2, frame_rate=15.0).spec
    assert world_names() == ("still", "kinematic", "compact", "compact_bodies", "cogvideox")


def weights(path: Path, **fields: object) -> Path:
    net = UNetConfig((4, 4, 4, 4), (1, 1, 1, 1))
    network = CompactNetwork(CompactConfig(size=32, style=3, scene=net, motion=net, robot=net))
    shape = {name: {"widths": net.widths, "blocks": net.blocks} for name in ("scene", "motion", "robot")}
    described = {"network": {"size": 32, "style": 3, **shape}, **fields}
    save_tensors(path, network.state_dict(), described)
    return path


def test_a_weights_file_is_a_world(tmp_path: Path) -> None:
    path = weights(tmp_path / "mine.safetensors", world="compact")
    worlds = [load_world(path), load_world(str(path)), load_world("compact", weights=path)]
    assert {world.spec.fingerprint for world in worlds} == {worlds[0].spec.fingerprint}
    assert isinstance(worlds[0], CompactWorld) and worlds[0].spec.name == "compact" and worlds[0].spec.size == (32, 32)
    assert load_world(weights(tmp_path / "old.safetensors")).spec.name == "compact"


def test_a_text_may_be_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = weights(tmp_path / "runs" / "mine")
    same = load_world(path).spec
    monkeypatch.chdir(tmp_path)
    assert load_world("runs/mine").spec == load_world(str(path)).spec == same
    for folder in ("tiny", "kinematic"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "world.json").write_text('{"world": "kinematic"}')
    with pytest.raises(InvalidInput, match="weights of world 'kinematic': given tiny"):
        load_world("tiny")
    assert load_world("kinematic").spec.name == "kinematic", "the name wins over the folder"
    assert [is_path(text) for text in ("tiny", "tyni", "tiny/", ".", "", "kinematic")] == [
        True, False, True, True, False, False,
    ]  # fmt: skip


def test_nothing_is_imported_before_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("registry", "compact.model", "kinematic"):
        monkeypatch.delitem(sys.modules, f"vap_sim.models.{name}")
    fresh = import_module("vap_sim.models.registry")
    assert "vap_sim.models.kinematic" not in sys.modules
    fresh.load_world("kinematic")
    assert "vap_sim.models.kinematic" in sys.modules and "vap_sim.models.compact.model" not in sys.modules


@pytest.mark.parametrize(
    ("kind", "words", "load"),
    [
        (UnknownName, "unknown world 'kinematics'. Did you mean 'kinematic'", lambda f: load_world("kinematics")),
        (
            UnknownName,
            "option of world 'kinematic' 'view'. Did you mean 'views'",
            lambda f: load_world("kinematic", view=2),
        ),
        (
            UnknownName,
            "unknown option of world 'compact' 'view'. Did you mean 'views'",
            lambda f: load_world("compact", view=2),
        ),
        (UnknownName, "unknown world 'other'", lambda f: load_world(weights(f / "w", world="other"))),
        (UnknownName, "option of world 'kinematic' 'name_or_path'", lambda f: load_world("kinematic", name_or_path=f)),
        (BadFile, "runs/nowhere: no such weights file", lambda f: load_world("runs/nowhere")),
        (UnknownName, "unknown world ''", lambda f: load_world("")),
        (InvalidInput, "weights: .* None, because the world is given as the file", lambda f: load_world(f, weights=f)),
        (InvalidInput, "weights of world 'kinematic'", lambda f: load_world("kinematic", weights=f)),
        (InvalidInput, "device: given 'gpu'|device: given gpu", lambda f: load_world("kinematic", device="gpu")),
        (BadFile, "nowhere: no such weights file", lambda f: load_world(f / "nowhere")),
        (BadFile, "nowhere.safetensors: no such weights", lambda f: load_world(str(f / "nowhere.safetensors"))),
        (BadFile, "nowhere: no such weights file", lambda f: load_world("compact", weights=f / "nowhere")),
    ],
)
def test_errors(tmp_path: Path, kind: type[VAPSimError], words: str, load: Callable[[Path], object]) -> None:
    with pytest.raises(kind, match=words):
        load(tmp_path)


@pytest.mark.parametrize(("device", "backend"), [("cuda:0", torch.cuda), ("mps", torch.backends.mps)])
def test_an_absent_device_is_named(device: str, backend: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "is_available", lambda: False)
    with pytest.raises(Unsupported, match=f"device '{device}': torch finds no (CUDA|Metal) device"):
        load_world("kinematic", device=device)
