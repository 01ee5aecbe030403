"""Action prisms on disk: the same again, and every wrong file named for what it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.cogvideox.conftest import small_backbone
from tests.models.cogvideox.control_tools import small_control, wake
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.config import build_transformer, tiny_config
from vap_sim.models.cogvideox.control_form import FILE, save_control
from vap_sim.models.conditioners.action_prism import ActionPrism
from vap_sim.models.conditioners.action_prism_file import load_action_prism, save_action_prism


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """Do not change it."""
    return small_backbone()


@pytest.fixture(scope="module")
def prism(backbone: Backbone) -> ActionPrism:
    """Do not change it."""
    return wake(ActionPrism(backbone, preset="tiny", blocks=(0, 2), layers=2, scale=0.5, frames=3))


def test_loaded_and_saved_again_it_is_the_same(tmp_path: Path, backbone: Backbone, prism: ActionPrism) -> None:
    path, again = tmp_path / "wave.safetensors", tmp_path / "again.safetensors"
    save_action_prism(path, prism, {"steps": 7})
    loaded = load_action_prism(path, backbone)
    assert loaded.settings == prism.settings and loaded.blocks == (0, 2)
    ours, theirs = prism.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    save_action_prism(again, loaded, {"steps": 7})
    assert again.read_bytes() == path.read_bytes()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["again.safetensors", "wave.safetensors"]


def test_it_takes_the_type_of_the_backbone(tmp_path: Path, backbone: Backbone, prism: ActionPrism) -> None:
    save_action_prism(tmp_path / "a.safetensors", prism)
    coarse = small_backbone().to(torch.bfloat16)
    assert {value.dtype for value in load_action_prism(tmp_path / "a.safetensors", coarse).parameters()} == {
        torch.bfloat16
    }


def test_a_backbone_of_another_width_is_named(tmp_path: Path, prism: ActionPrism) -> None:
    save_action_prism(tmp_path / "a.safetensors", prism)
    wide = tiny_config(latent_channels=4, blocks=3, heads=3, size=(8, 12), frames=4, text_length=5, text_width=8)
    with pytest.raises(
        InvalidInput, match=r"width of the backbone for .*a\.safetensors: given 48, expected 32, as it was"
    ):
        load_action_prism(tmp_path / "a.safetensors", Backbone(build_transformer(wide)))


def changed(change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Callable[[Path], None]:
    """Writes the file again after its tensors and header were changed."""

    def write(path: Path) -> None:
        tensors, header = load_tensors(path)
        change(tensors, header)
        save_tensors(path, tensors, header)

    return write


BAD: list[tuple[Callable[[Path], None], str]] = [
    (
        changed(lambda t, h: h.update(system="video_as_prompt")),
        "'system' of its header says 'video_as_prompt', expected",
    ),
    (changed(lambda t, h: h.pop("system")), "'system' of its header says None"),
    (changed(lambda t, h: h.update(format=9)), "'format' of its header is 9, expected 1"),
    (changed(lambda t, h: h.pop("backbone")), "'backbone' of its header is None, expected an object"),
    (changed(lambda t, h: h.pop("settings")), "'settings' of its header is None, expected an object"),
    (changed(lambda t, h: h["settings"].update(layers=10**9)), "'settings' .*layers of a prism: given 1000000000"),
    (changed(lambda t, h: h["settings"].update(depth=2)), "'settings' .*unknown size of a prism 'depth'"),
    (changed(lambda t, h: h["settings"].update(layers=20, width=8192)), "tensor .* is "),
    (changed(lambda t, h: t.pop("encoder.queries")), "tensor 'encoder.queries' is missing"),
    (changed(lambda t, h: t.update(more=torch.zeros(1))), "tensor 'more' is unknown to this model"),
    (
        changed(lambda t, h: t.update({"encoder.queries": torch.zeros(2, 31)})),
        r"queries' is \(2, 31\), expected \(2, 32\)",
    ),
    (lambda path: path.write_bytes(path.read_bytes()[:-9]), "not a whole safetensors file"),
    (lambda path: path.unlink(), "no such weights file"),
]


@pytest.mark.parametrize(("spoil", "words"), BAD)
def test_wrong_files_are_named(
    tmp_path: Path, backbone: Backbone, prism: ActionPrism, spoil: Callable[[Path], None], words: str
) -> None:
    path = tmp_path / "a.safetensors"
    save_action_prism(path, prism)
    spoil(path)
    with pytest.raises(BadFile, match=words) as refusal:
        load_action_prism(path, backbone)
    assert str(path) in str(refusal.value)


def test_files_of_other_kinds_are_told_apart(tmp_path: Path, backbone: Backbone) -> None:
    save_control(tmp_path, backbone, small_control(backbone), profile="vap")
    with pytest.raises(BadFile, match="says 'visual_action_prompt', expected 'action_prism'"):
        load_action_prism(tmp_path / FILE, backbone)
    (tmp_path / "checkpoint.pt").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(BadFile, match="is a pickle file, which could run code"):
        load_action_prism(tmp_path / "checkpoint.pt", backbone)
