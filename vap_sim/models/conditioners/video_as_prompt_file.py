"""A trained expert of Video-As-Prompt alone: one safetensors file whose header says what system it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vap_sim.errors import BadFile, VAPSimError
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.folder import compare_shapes
from vap_sim.models.conditioners.file_header import header_of, read_settings
from vap_sim.models.conditioners.video_as_prompt import VideoAsPrompt
from vap_sim.models.conditioners.video_as_prompt_expert import put_table, table_of

SYSTEM = "video_as_prompt"
_FORMAT = 1
_TABLE = "table"


def save_video_as_prompt(
    path: Path | str, conditioner: VideoAsPrompt, description: Mapping[str, Any] | None = None
) -> None:
    """Write the expert's weights, whole or not at all. description: plain data about the run. Raises OSError."""
    header = header_of(SYSTEM, _FORMAT, conditioner.config, conditioner.settings, description)
    save_tensors(Path(path), _tensors(conditioner), header)


def load_video_as_prompt(path: Path | str, backbone: Backbone) -> VideoAsPrompt:
    """Make what `save_video_as_prompt` wrote again, of the backbone's device and type.

    Raises BadFile for a file that is damaged, a pickle or of another system, which it names, and InvalidInput for a
    backbone of other sizes.
    """
    path = Path(path)
    settings = read_settings(path, SYSTEM, _FORMAT, backbone.config)
    try:
        conditioner = VideoAsPrompt(backbone, **settings, device="meta")
    except (TypeError, VAPSimError) as error:
        raise BadFile(path, f"field 'settings' of its header describes no expert ({error!r})") from error
    tensors, _ = load_tensors(path)
    shapes = [{name: tuple(v.shape) for name, v in some.items()} for some in (tensors, _tensors(conditioner))]
    compare_shapes(path, *shapes)
    weight = backbone.transformer.patch_embed.proj.weight
    placed = {name: value.to(device=weight.device, dtype=weight.dtype) for name, value in tensors.items()}
    put_table(conditioner.expert, placed.pop(_TABLE, None), backbone)
    conditioner.load_state_dict(placed, assign=True)
    return conditioner


def _tensors(conditioner: VideoAsPrompt) -> dict[str, Tensor]:
    table = table_of(conditioner.expert)
    return conditioner.state_dict() | ({} if table is None else {_TABLE: table})
