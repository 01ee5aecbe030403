"""Every form of prompt gets its conditioner by name, and what was trained comes back from disk whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.models.cogvideox.conftest import small_backbone
from tests.models.cogvideox.control_tools import CODEC, JOINTS, SMALL, noised, prompt, run, wake
from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.control_form import FILE, NOTE, control_for, load_control, save_control
from vap_sim.models.cogvideox.lora import Lora, lora_parameters, trainable_parameters
from vap_sim.models.cogvideox.raw_action import ActionVector
from vap_sim.models.cogvideox.skeleton_control import SkeletonControl

pytest.importorskip("peft")
LORA = Lora(rank=2, alpha=4)


@pytest.mark.parametrize("name", ["vap", "compact", "skeleton", "mesh", "depth"])
def test_drawn_forms_get_a_branch(backbone: Backbone, name: str) -> None:
    control = control_for(name, backbone, joints=JOINTS, blocks=2, **SMALL)
    assert isinstance(control, SkeletonControl)
    assert control.settings["blocks"] == 2


def test_the_other_forms_get_numbers_and_nothing(backbone: Backbone) -> None:
    action = control_for("raw_action", backbone, joints=JOINTS, width=8)
    assert isinstance(action, ActionVector)
    assert action.settings == {"joints": JOINTS, "width": 8, "scale": 1.0}
    assert control_for("text", backbone, joints=JOINTS) is None
    with pytest.raises(UnknownName, match=r"'mash'\. Did you mean 'mesh'"):
        control_for("mash", backbone)
    with pytest.raises(InvalidInput, match="joints of the form 'raw_action'"):
        control_for("raw_action", backbone)
    with pytest.raises(InvalidInput, match=r"settings of the form 'text': given \['blocks'\]"):
        control_for("text", backbone, blocks=2)


def trained(form: str) -> tuple[Backbone, Any]:
    backbone = small_backbone()
    control = control_for(form, backbone, joints=JOINTS, width=8, **({"channels": 3} if form == "mesh" else {}))
    LORA.install(backbone)
    wake(control)
    with torch.no_grad():
        for value in lora_parameters(backbone).values():
            value.add_(0.05)
    return backbone, control


def answer(backbone: Backbone, control: Any) -> torch.Tensor:
    return run(backbone, control.inject(control.prepare(prompt(), CODEC), noised()))


@pytest.mark.parametrize("form", ["mesh", "raw_action"])
def test_saved_loaded_and_stepped_it_is_the_same(tmp_path: Path, form: str) -> None:
    backbone, control = trained(form)
    save_control(tmp_path, backbone, control, profile=form, lora=LORA, description={"steps": 3})
    other = small_backbone()
    back = load_control(tmp_path, other)
    assert (back.profile, back.lora, back.description) == (form, LORA, {"steps": 3})
    assert back.control.settings == control.settings

    def step(one: Backbone, its: Any) -> torch.Tensor:
        optimiser = torch.optim.AdamW(trainable_parameters(one, its).values(), lr=0.01)
        answer(one, its).square().mean().backward()
        optimiser.step()
        with torch.no_grad():
            return answer(one, its)

    with torch.no_grad():
        before = answer(backbone, control)
        assert torch.equal(answer(other, back.control), before)
    after = step(other, back.control)
    assert torch.equal(after, step(backbone, control))
    assert not torch.allclose(after, before, atol=1e-4)
    back.uninstall()
    assert [name for name, _ in other.named_parameters()] == [name for name, _ in small_backbone().named_parameters()]
    assert json.loads((tmp_path / NOTE).read_text("utf-8")) == load_tensors(tmp_path / FILE)[1]


def test_text_alone_and_no_lora_are_saved_too(tmp_path: Path, backbone: Backbone) -> None:
    save_control(tmp_path, backbone, None, profile="text")
    back = load_control(tmp_path, backbone)
    back.uninstall()
    assert (back.profile, back.control, back.lora) == ("text", None, None)
    with pytest.raises(InvalidInput, match="LoRA to save: given control"):
        save_control(tmp_path, backbone, None, profile="text", lora=LORA)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("control")
    backbone, control = trained("mesh")
    save_control(folder, backbone, control, profile="mesh", lora=LORA)
    return folder


def _header(**changes: Any) -> Any:
    return lambda tensors, header: (tensors, {**header, **changes})


def _tensor(name: str, value: torch.Tensor | None) -> Any:
    def change(tensors: dict[str, Any], header: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        others = {key: one for key, one in tensors.items() if key != name}
        return (others if value is None else {**others, name: value}), header

    return change


FIRST = "lora.transformer_blocks.0.attn1.to_q.lora_A.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_tensor(FIRST, None), f"tensor '{FIRST}' is missing"),
        (_tensor("control.foreign", torch.zeros(1)), "tensor 'control.foreign' is unknown to this model"),
        (_tensor(FIRST, torch.zeros(3, 3)), r"lora_A.weight' is \(3, 3\), expected \(2, 32\)"),
        (_tensor(FIRST, torch.zeros(2, 32, dtype=torch.int32)), "is torch.int32, expected torch.float32"),
        (_header(cogvideox_control=2), "field 'cogvideox_control' of its header is 2, expected 1"),
        (_header(profile=3), "field 'profile' of its header is 3, expected a str"),
        (_header(backbone=None), "field 'backbone' of its header is None"),
        (_header(description=[]), r"field 'description' of its header is \[\]"),
        (_header(control={"wings": 2}), "its header describes no control .*wings"),
        (_header(control=[1]), "its header describes no control"),
        (_header(control={"blocks": 9}), "its header describes no control .*blocks to copy: given 9"),
        (_header(profile="mash"), "its header describes no control .*Did you mean 'mesh'"),
        (_header(lora={"rank": 0}), "its header describes no control .*rank of LoRA"),
        (_header(lora={"rank": 10**9}), "its header describes no control .*rank of LoRA"),
        (_header(control={"width": 10**9}), "its header describes no control .*width"),
        (_header(control=None), "tensor 'control.branch.* is unknown to this model"),
    ],
)
def test_damaged_and_foreign_files_are_named(tmp_path: Path, saved: Path, change: Any, message: str) -> None:
    """And the backbone is left as it was."""
    tensors, header = change(*load_tensors(saved / FILE))
    save_tensors(tmp_path / FILE, tensors, header)
    backbone = small_backbone()
    names = list(backbone.state_dict())
    with pytest.raises(BadFile, match=message):
        load_control(tmp_path, backbone)
    assert list(backbone.state_dict()) == names


def test_a_missing_file_another_backbone_and_one_with_lora_are_named(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="no such weights file"):
        load_control(tmp_path, small_backbone())
    with pytest.raises(InvalidInput, match=r"in_channels of the backbone for .* given 4, expected 8"):
        load_control(saved, small_backbone("5b"))
    busy = small_backbone()
    LORA.install(busy)
    with pytest.raises(InvalidInput, match="backbone: given one with LoRA"):
        load_control(saved, busy)
