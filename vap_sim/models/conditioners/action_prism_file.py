"""A trained action prism on disk: one safetensors file whose header says what system it is and how to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vap_sim.errors import BadFile, VAPSimError
from vap_sim.models.checkpoint import fill, load_tensors, save_tensors
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.conditioners.action_prism import ActionPrism
from vap_sim.models.conditioners.file_header import header_of, read_settings

SYSTEM = "action_prism"
_FORMAT = 1


def save_action_prism(path: Path | str, prism: ActionPrism, description: Mapping[str, Any] | None = None) -> None:
    """Write its weights, whole or not at all. description: plain data about the run. Raises OSError."""
    header = header_of(SYSTEM, _FORMAT, prism.config, prism.settings, description)
    save_tensors(Path(path), prism.state_dict(), header)


def load_action_prism(path: Path | str, backbone: Backbone) -> ActionPrism:
    """Make what `save_action_prism` wrote again, of the backbone's device and type.

    Raises BadFile for a file that is damaged, a pickle or of another system, which it names, and InvalidInput for a
    backbone of other sizes.
    """
    path = Path(path)
    settings = read_settings(path, SYSTEM, _FORMAT, backbone.config)
    try:
        prism = ActionPrism(backbone, **settings, device="meta")
    except (TypeError, VAPSimError) as error:
        raise BadFile(path, f"field 'settings' of its header describes no action prism ({error!r})") from error
    tensors, _ = load_tensors(path)
    fill(prism, tensors, path)  # compares shapes: a file that lies about its own takes no memory
    place = backbone.transformer.patch_embed.proj.weight.device
    prism.to_empty(device=place)
    fill(prism, tensors, path)
    return prism
