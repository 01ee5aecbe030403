"""Experts on disk: the released layout key by key, files of our own, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.contracts.conditioner import told
from tests.models.cogvideox.conftest import small_backbone
from tests.models.cogvideox.control_tools import small_control, wake
from vap_sim.errors import BadFile, InvalidInput, Unsupported
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.control_form import FILE as CONTROL
from vap_sim.models.cogvideox.control_form import save_control
from vap_sim.models.conditioners import video_as_prompt_released as released_module
from vap_sim.models.conditioners.action_prism import ActionPrism
from vap_sim.models.conditioners.action_prism_file import save_action_prism
from vap_sim.models.conditioners.video_as_prompt import VideoAsPrompt
from vap_sim.models.conditioners.video_as_prompt_expert import table_of
from vap_sim.models.conditioners.video_as_prompt_file import load_video_as_prompt, save_video_as_prompt
from vap_sim.models.conditioners.video_as_prompt_released import load_released, save_released

WEIGHTS = "transformer/diffusion_pytorch_model.safetensors"
BLOCK = (
    "norm1{}.linear.weight", "norm1{}.linear.bias", "norm1{}.norm.weight", "norm1{}.norm.bias",
    "attn1{}.to_q.weight", "attn1{}.to_q.bias", "attn1{}.to_k.weight", "attn1{}.to_k.bias", "attn1{}.to_v.weight",
    "attn1{}.to_v.bias", "attn1{}.to_out.0.weight", "attn1{}.to_out.0.bias", "attn1{}.norm_q.weight",
    "attn1{}.norm_q.bias", "attn1{}.norm_k.weight", "attn1{}.norm_k.bias", "norm2{}.linear.weight",
    "norm2{}.linear.bias", "norm2{}.norm.weight", "norm2{}.norm.bias", "ff{}.net.0.proj.weight", "ff{}.net.0.proj.bias",
    "ff{}.net.2.weight", "ff{}.net.2.bias",
)  # fmt: skip
ENTRANCE = (
    "patch_embed{}.proj.weight", "patch_embed{}.proj.bias", "patch_embed{}.text_proj.weight",
    "patch_embed{}.text_proj.bias", "patch_embed{}.pos_embedding", "time_embedding{}.linear_1.weight",
    "time_embedding{}.linear_1.bias", "time_embedding{}.linear_2.weight", "time_embedding{}.linear_2.bias",
)  # fmt: skip


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    """Do not change it."""
    return small_backbone().requires_grad_(False)


@pytest.fixture(scope="module")
def expert(backbone: Backbone) -> VideoAsPrompt:
    """Do not change it."""
    return wake(VideoAsPrompt(backbone, blocks=(0, 2))).requires_grad_(False)


@pytest.fixture
def folder(tmp_path: Path, backbone: Backbone, expert: VideoAsPrompt) -> Path:
    save_released(tmp_path / "released", backbone, expert)
    return tmp_path / "released"


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name].float(), second[name]) for name in first)


def test_a_folder_has_the_keys_of_the_release(folder: Path) -> None:
    """Written out by hand from the released names, not by the code that makes them."""
    expected = {name.format("_mot_ref") for name in ENTRANCE} | {name.format("") for name in ENTRANCE}
    expected |= {f"transformer_blocks.{block}.{name.format('')}" for block in range(3) for name in BLOCK}
    expected |= {f"transformer_blocks.{block}.{name.format('_mot_ref')}" for block in (0, 2) for name in BLOCK}
    expected |= {f"{part}.{kind}" for part in ("norm_final", "proj_out") for kind in ("weight", "bias")}
    expected |= {f"norm_out.{part}.{kind}" for part in ("linear", "norm") for kind in ("weight", "bias")}
    assert set(load_file(folder / WEIGHTS)) == expected
    config = json.loads((folder / "transformer" / "config.json").read_text())
    assert config["_class_name"] == "CogVideoXTransformer3DMOTModel"
    assert config["block_idx_with_mot_ref"] == [0, 2]


def test_load_save_load_is_equal(folder: Path, tmp_path: Path, backbone: Backbone, expert: VideoAsPrompt) -> None:
    first = load_released(folder)
    assert same(backbone.transformer, first.backbone.transformer) and same(expert, first.conditioner)
    assert first.conditioner.settings == expert.settings and not first.conditioner.training
    assert table_of(first.conditioner.expert) is table_of(first.backbone)
    save_released(tmp_path / "again", first.backbone, first.conditioner)
    ones, others = load_file(folder / WEIGHTS), load_file(tmp_path / "again" / WEIGHTS)
    assert ones.keys() == others.keys() and all(torch.equal(ones[name].float(), others[name]) for name in ones)
    second = load_released(tmp_path / "again")
    assert torch.equal(told(backbone, [expert]), told(second.backbone, [second.conditioner]))
    half = load_released(folder, dtype=torch.bfloat16)
    assert {value.dtype for value in [*half.backbone.parameters(), *half.conditioner.parameters()]} == {torch.bfloat16}


def test_shards_and_a_table_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backbone: Backbone, expert: VideoAsPrompt
) -> None:
    monkeypatch.setattr(released_module, "LARGEST", 100_000)
    save_released(tmp_path, backbone, expert)
    index = tmp_path / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    assert len(set(json.loads(index.read_text())["weight_map"].values())) > 2
    assert same(expert, load_released(tmp_path).conditioner)
    monkeypatch.undo()
    save_released(tmp_path, backbone, expert)
    assert not index.exists() and not list(tmp_path.rglob("*.partial"))
    tensors = load_file(tmp_path / WEIGHTS)
    tensors["patch_embed_mot_ref.pos_embedding"] += 1
    save_file(tensors, tmp_path / WEIGHTS)
    other = load_released(tmp_path)
    assert torch.allclose(table_of(other.conditioner.expert), table_of(other.backbone) + 1, atol=1e-5)


def test_a_file_of_our_own_comes_back(tmp_path: Path, backbone: Backbone) -> None:
    made = VideoAsPrompt(backbone, blocks="first_and_last", one_way=True, scale=0.5, frames=3)
    one = wake(made).requires_grad_(False)
    save_video_as_prompt(tmp_path / "expert.safetensors", one, {"steps": 7})
    again = load_video_as_prompt(tmp_path / "expert.safetensors", backbone)
    assert same(one, again) and again.settings == one.settings
    assert table_of(again.expert) is table_of(backbone)
    with pytest.warns(UserWarning, match="resampled"):
        assert torch.equal(told(backbone, [one]), told(backbone, [again]))
    save_video_as_prompt(tmp_path / "again.safetensors", again, {"steps": 7})
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "expert.safetensors").read_bytes()


def _tensor(folder: Path, **changes: Any) -> None:
    tensors = load_file(folder / WEIGHTS)
    for name, value in changes.items():
        key = name.replace("__", ".")
        if value is None:
            del tensors[key]
        else:
            tensors[key] = value
    save_file(tensors, folder / WEIGHTS)


def _config(folder: Path, **changes: Any) -> None:
    path = folder / "transformer" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _pickled(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "transformer" / "diffusion_pytorch_model.bin")


def _other_paper(folder: Path) -> None:
    backbone = small_backbone()
    save_control(folder, backbone, small_control(backbone), profile="vap")
    (folder / "transformer" / "config.json").unlink()


Damage = Callable[[Path], None]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda f: _tensor(f, transformer_blocks__2__ff_mot_ref__net__2__bias=None),
            "1 tensors are missing: transformer_blocks.2.ff_mot_ref.net.2.bias",
        ),
        (lambda f: _tensor(f, norm_out_mot_ref__bias=torch.zeros(2)), "1 tensors are unknown: norm_out_mot_ref.bias"),
        (
            lambda f: _tensor(f, proj_out__bias=torch.zeros(2)),
            r"another shape .* first proj_out.bias: \(2,\)",
        ),
        (
            lambda f: _config(f, block_idx_with_mot_ref=[0, 1]),
            "tensors are missing: transformer_blocks.1.attn1_mot",
        ),
        (lambda f: _config(f, block_idx_with_mot_ref=[0, 7]), r"'block_idx_with_mot_ref': expert blocks: .* 0 .. 2"),
        (lambda f: _config(f, block_idx_with_mot_ref="0"), "field 'block_idx_with_mot_ref' is '0', expected a list"),
        (lambda f: _config(f, num_attention_heads=4), "tensors have another shape than the config says"),
        (lambda f: _config(f, reference_train_mode="reference_independent"), "'reference_train_mode' is .* not built"),
        (lambda f: _config(f, attention_head_dim_mot_ref=32), "'attention_head_dim_mot_ref' is 32: a variant"),
        (lambda f: _config(f, colour="red"), "unknown value of a CogVideoX transformer's config 'colour'"),
        (lambda f: _config(f, _class_name="CogVideoXTransformer3DModel"), "a CogVideoX without an expert; expected"),
        (lambda f: _config(f, _class_name="WanTransformer3DMOTModel"), "Video-As-Prompt on Wan 2.1"),
        (_other_paper, "a control of Visual Action Prompts, not Video-As-Prompt; both are called VAP"),
        (_pickled, "weights in pickle form are refused"),
        (lambda f: (f / WEIGHTS).write_bytes(b"no"), "not a whole safetensors file"),
        (lambda f: (f / "transformer" / "config.json").unlink(), "it has no transformer/config.json"),
    ],
)
def test_damaged_and_foreign_folders_are_named(folder: Path, damage: Damage, message: str) -> None:
    damage(folder)
    with pytest.raises(BadFile, match=message):
        load_released(folder)


def test_values_that_are_off_in_the_release_may_stand_there(folder: Path, expert: VideoAsPrompt) -> None:
    _config(folder, attention_head_dim_mot_ref=16, supported_effect_types=None, ablation_single_encoder=False)
    assert same(expert, load_released(folder).conditioner)
    _config(folder, patch_size_t=2)
    with pytest.raises(Unsupported, match=r"CogVideoX 1\.5"):
        load_released(folder)


def _resaved(path: Path, **changes: Any) -> None:
    from vap_sim.models.checkpoint import load_tensors, save_tensors

    tensors, header = load_tensors(path)
    for name in changes.pop("drop", ()):
        del tensors[name]
    save_tensors(path, tensors, {**header, **changes})


def test_damaged_and_foreign_files_are_named(tmp_path: Path, backbone: Backbone, expert: VideoAsPrompt) -> None:
    path = tmp_path / "expert.safetensors"
    cases: list[tuple[dict[str, Any], str]] = [
        ({"system": "visual_action_prompt"}, "says 'visual_action_prompt', expected 'video_as_prompt'"),
        ({"format": 9}, "field 'format' of its header is 9"),
        ({"settings": {"blocks": [5]}}, "field 'settings' of its header describes no expert"),
        ({"settings": {"colour": 1}}, "field 'settings' of its header describes no expert"),
        ({"backbone": None}, "field 'backbone' of its header is None, expected an object"),
        ({"drop": ["table"]}, "1 tensors are missing: table"),
        ({"settings": {"blocks": [0, 1, 2]}}, "tensors are missing: expert.transformer.transformer_blocks.2"),
    ]
    for changes, message in cases:
        save_video_as_prompt(path, expert)
        _resaved(path, **changes)
        with pytest.raises(BadFile, match=message):
            load_video_as_prompt(path, backbone)
    save_video_as_prompt(path, expert)
    with pytest.raises(InvalidInput, match=r"in_channels of the backbone for .*: given 4, expected 8"):
        load_video_as_prompt(path, small_backbone("5b"))
    save_action_prism(path, ActionPrism(backbone, preset="tiny", blocks=(0,)))
    with pytest.raises(BadFile, match="says 'action_prism', expected 'video_as_prompt'"):
        load_video_as_prompt(path, backbone)
    save_control(tmp_path, backbone, small_control(backbone), profile="vap")
    with pytest.raises(BadFile, match="says 'visual_action_prompt', expected 'video_as_prompt'"):
        load_video_as_prompt(tmp_path / CONTROL, backbone)
    with pytest.raises(BadFile, match="is a pickle file"):
        load_video_as_prompt(tmp_path / "expert.pt", backbone)


def test_what_the_released_layout_cannot_say_is_refused(tmp_path: Path, backbone: Backbone) -> None:
    with pytest.raises(InvalidInput, match="expert to save as released: given one_way"):
        save_released(tmp_path, backbone, VideoAsPrompt(backbone, one_way=True))
    with pytest.raises(InvalidInput, match="in_channels of the backbone: given 4"):
        save_released(tmp_path, small_backbone("5b"), VideoAsPrompt(backbone))
    assert not list(tmp_path.iterdir())
