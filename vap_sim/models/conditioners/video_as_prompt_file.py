"""A trained expert of Video-As-Prompt alone: one safetensors file whose header says what system it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput, VAPSimError
from vap_sim.models.checkpoint import load_tensors, read_description, save_tensors
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.folder import compare_shapes
from vap_sim.models.conditioners.action_prism_file import check_system
from vap_sim.models.conditioners.video_as_prompt import VideoAsPrompt
from vap_sim.models.conditioners.video_as_prompt_expert import put_table, table_of

SYSTEM = "video_as_prompt"
_FORMAT = 1
_SIZES = ("width", "blocks", "heads", "patch", "in_channels", "latent_channels", "text_width")
_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")
_TABLE = "table"


def save_video_as_prompt(
    path: Path | str, conditioner: VideoAsPrompt, description: Mapping[str, Any] | None = None
) -> None:
    """Write the expert's weights, whole or not at all. description: plain data about the run. Raises OSError."""
    header = {
        "system": SYSTEM,
        "format": _FORMAT,
        "backbone": {name: getattr(conditioner.config, name) for name in _SIZES},
        "settings": conditioner.settings,
        "description": dict(description or {}),
    }
    save_tensors(Path(path), _tensors(conditioner), header)


def load_video_as_prompt(path: Path | str, backbone: Backbone) -> VideoAsPrompt:
    """Make what `save_video_as_prompt` wrote again, of the backbone's device and type.

    Raises BadFile for a file that is damaged, a pickle or of another system, which it names, and InvalidInput for a
    backbone of other sizes.
    """
    path = Path(path)
    if path.suffix in _PICKLES:
        raise BadFile(path, "is a pickle file, which could run code; an expert is a safetensors file")
    header = read_description(path)
    check_system(path, header, SYSTEM, _FORMAT)
    sizes, settings = header.get("backbone"), header.get("settings")
    if not isinstance(sizes, dict) or not isinstance(settings, dict):
        raise BadFile(path, "fields 'backbone' and 'settings' of its header are no two objects")
    for name in _SIZES:
        own = getattr(backbone.config, name)
        if sizes.get(name) != own:
            raise InvalidInput(f"{name} of the backbone for {path}", own, f"{sizes.get(name)}, as it was trained")
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
