"""The released folders of Video-As-Prompt on CogVideoX: backbone and expert fused in one transformer, read and written.

A tensor of the expert has the name of the backbone's tensor it began as, with a suffix after the part that is doubled:
`transformer_blocks.3.attn1.to_q.weight` and `transformer_blocks.3.attn1_mot_ref.to_q.weight`. Which blocks have one is
said by `block_idx_with_mot_ref` in `transformer/config.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput, UnknownName, VAPSimError
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.config import CODEC, TRANSFORMER, ModelConfig, build_transformer
from vap_sim.models.cogvideox.control_form import FILE as CONTROL_FILE
from vap_sim.models.cogvideox.folder import (
    SCHEDULERS,
    WEIGHTS,
    CogVideoXFolder,
    compare_shapes,
    read_config,
    read_json,
    tensor_shapes,
    weight_files,
)
from vap_sim.models.cogvideox.skeleton_control import check_backbone, check_plain
from vap_sim.models.cogvideox.stock import stock
from vap_sim.models.conditioners.video_as_prompt import VideoAsPrompt
from vap_sim.models.conditioners.video_as_prompt_expert import put_table, table_of

KIND = "CogVideoXTransformer3DMOTModel"
SUFFIX = "_mot_ref"
BLOCKS = "block_idx_with_mot_ref"
LARGEST = 5 * 10**9
"""Bytes of tensors in one file of a folder that is written."""
_TABLE = f"patch_embed{SUFFIX}.pos_embedding"
_NOT_BUILT = (
    "attention_head_dim_mot_ref", "supported_effect_types", "num_ref_embeddings", "reference_train_mode",
    "ablation_single_encoder", "ablation_residual_addition",
)  # fmt: skip
"""Values of a released config that are off there, and which this package has no parts for."""
_OTHERS = {
    TRANSFORMER: "a CogVideoX without an expert",
    "WanTransformer3DMOTModel": "Video-As-Prompt on Wan 2.1, which this package has no backbone for",
}


@dataclass(frozen=True, eq=False)
class Released:
    """What `load_released` found: a backbone, the conditioner beside it, and the folder's codec and noise schedule."""

    backbone: Backbone
    conditioner: VideoAsPrompt
    folder: CogVideoXFolder


def released_name(name: str, blocks: tuple[int, ...]) -> str:
    """The name in a released folder of a tensor of the expert's transformer, whose blocks have these numbers."""
    parts = name.split(".")
    doubled = 0
    if parts[0] == "transformer_blocks":
        parts[1], doubled = str(blocks[int(parts[1])]), 2
    parts[doubled] += SUFFIX
    return ".".join(parts)


def load_released(folder: Path | str, *, dtype: torch.dtype | None = None) -> Released:
    """Read a local folder with `transformer/config.json` and safetensors, on the CPU, in evaluation mode.

    dtype: of the weights; float32 if not given. Every name and shape is compared with the config before memory is
    taken. Raises BadFile that names a tensor which is missing, unknown or of another shape, a config of another system,
    and weights in pickle form; Unsupported for CogVideoX 1.5.
    """
    path = Path(folder)
    if not (path / "transformer" / "config.json").is_file() and (path / CONTROL_FILE).is_file():
        raise BadFile(path, "holds a control of Visual Action Prompts, not Video-As-Prompt; both are called VAP")
    opened, blocks = _opened(path)
    backbone = Backbone(build_transformer(opened.config, device="meta"))
    try:
        conditioner = VideoAsPrompt(backbone, blocks=blocks, device="meta")
    except VAPSimError as error:
        raise BadFile(path / "transformer" / "config.json", f"field {BLOCKS!r}: {error}") from error
    names = {released_name(name, conditioner.blocks): name for name in conditioner.expert.transformer.state_dict()}
    compare_shapes(path / "transformer", tensor_shapes(path / "transformer"), _expected(backbone, conditioner))
    own: dict[str, Tensor] = {}
    expert: dict[str, Tensor] = {}
    table = None
    for file in weight_files(path / "transformer"):
        for name, tensor in load_file(file).items():
            value = tensor.to(dtype or torch.float32)
            if name == _TABLE:
                table = value
            elif name in names:
                expert[names[name]] = value
            else:
                own[name] = value
    backbone.transformer.load_state_dict(own, assign=True)
    conditioner.expert.transformer.load_state_dict(expert, assign=True)
    put_table(conditioner.expert, table, backbone)
    return Released(backbone.eval(), conditioner.eval(), opened)


def save_released(folder: Path | str, backbone: Backbone, conditioner: VideoAsPrompt) -> None:
    """Write `transformer/` of a folder as it is released, from which `load_released` makes equal parts.

    The config is written last, when all else is there; codec and noise schedule are not part of it. Raises InvalidInput
    for a backbone of other sizes or with LoRA on it, and for an expert that looks one way, which that layout cannot
    say; OSError.
    """
    check_backbone(conditioner.config, backbone)
    check_plain(backbone)
    if conditioner.one_way:
        raise InvalidInput("expert to save as released", "one_way", "both ways; save_video_as_prompt keeps any")
    place = Path(folder) / "transformer"
    place.mkdir(parents=True, exist_ok=True)
    (place / "config.json").unlink(missing_ok=True)
    _write_weights(place, _named(backbone, conditioner))
    values = {name: value for name, value in conditioner.config.transformer.items() if not name.startswith("_")}
    _write_json(place / "config.json", {"_class_name": KIND, **values, BLOCKS: list(conditioner.blocks)})


def _opened(path: Path) -> tuple[CogVideoXFolder, list[int]]:
    """The folder by its configs, and the numbers of the blocks with an expert."""
    file = path / "transformer" / "config.json"
    if not file.is_file():
        raise BadFile(path, "not a folder of Video-As-Prompt: it has no transformer/config.json")
    values = read_json(file)
    kind = values.get("_class_name")
    if kind != KIND:
        other = _OTHERS.get(str(kind), "another model")
        raise BadFile(file, f"field '_class_name' is {kind!r}: {other}; expected {KIND!r}")
    blocks = values.pop(BLOCKS, None)
    if not isinstance(blocks, list):
        raise BadFile(file, f"field {BLOCKS!r} is {blocks!r}, expected a list of block numbers")
    head = values.get("attention_head_dim")
    for name in _NOT_BUILT:
        value = values.pop(name, None)
        if value and not (name == "attention_head_dim_mot_ref" and value == head):
            raise BadFile(file, f"field {name!r} is {value!r}: a variant of Video-As-Prompt that is not built here")
    vae = read_config(path / "vae" / "config.json", (CODEC,)) or {}
    scheduler = read_config(path / "scheduler" / "scheduler_config.json", SCHEDULERS) or {}
    try:
        return CogVideoXFolder(path, ModelConfig(values, vae, scheduler)), blocks
    except (InvalidInput, UnknownName) as error:
        raise BadFile(file, str(error)) from error


def _named(backbone: Backbone, conditioner: VideoAsPrompt) -> dict[str, Tensor]:
    """All tensors by their released names."""
    own = dict(backbone.transformer.state_dict())
    expert = conditioner.expert
    own |= {released_name(name, conditioner.blocks): value for name, value in expert.transformer.state_dict().items()}
    table = table_of(expert)
    return own if table is None else {**own, _TABLE: table}


def _expected(backbone: Backbone, conditioner: VideoAsPrompt) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in _named(backbone, conditioner).items()}


def _write_weights(place: Path, tensors: Mapping[str, Tensor]) -> None:
    """Under temporary names first; an index of shards, where there are several, after them."""
    split = stock("huggingface_hub").split_torch_state_dict_into_shards(
        dict(tensors), filename_pattern=WEIGHTS + "{suffix}.safetensors", max_shard_size=LARGEST
    )
    for old in place.glob(f"{WEIGHTS}*.safetensors*"):
        old.unlink()
    for file, names in split.filename_to_tensors.items():
        partial = place / f"{file}.partial"
        shard = {name: tensors[name].detach().cpu().contiguous().clone() for name in names}
        save_file(shard, partial, metadata={"format": "pt"})
        os.replace(partial, place / file)
    if split.is_sharded:
        index = {"metadata": split.metadata, "weight_map": split.tensor_to_filename}
        _write_json(place / f"{WEIGHTS}.safetensors.index.json", index)


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(values, indent=1), encoding="utf-8")
    os.replace(partial, path)
