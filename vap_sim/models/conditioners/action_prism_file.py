"""A trained action prism on disk: one safetensors file whose header says what system it is and how to make it again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vap_sim.errors import BadFile, InvalidInput, VAPSimError
from vap_sim.models.checkpoint import fill, load_tensors, read_description, save_tensors
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.conditioners.action_prism import ActionPrism

SYSTEM = "action_prism"
_FORMAT = 1
_SIZES = ("width", "blocks", "heads", "patch", "in_channels", "latent_channels", "text_width")
_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")


def save_action_prism(path: Path | str, prism: ActionPrism, description: Mapping[str, Any] | None = None) -> None:
    """Write its weights, whole or not at all. description: plain data about the run. Raises OSError."""
    header = {
        "system": SYSTEM,
        "format": _FORMAT,
        "backbone": {name: getattr(prism.config, name) for name in _SIZES},
        "settings": prism.settings,
        "description": dict(description or {}),
    }
    save_tensors(Path(path), prism.state_dict(), header)


def load_action_prism(path: Path | str, backbone: Backbone) -> ActionPrism:
    """Make what `save_action_prism` wrote again, of the backbone's device and type.

    Raises BadFile for a file that is damaged, a pickle or of another system, which it names, and InvalidInput for a
    backbone of other sizes.
    """
    path = Path(path)
    if path.suffix in _PICKLES:
        raise BadFile(path, "is a pickle file, which could run code; an action prism is a safetensors file")
    header = read_description(path)
    check_system(path, header, SYSTEM, _FORMAT)
    sizes = header.get("backbone")
    if not isinstance(sizes, dict):
        raise BadFile(path, f"field 'backbone' of its header is {sizes!r}, expected an object")
    for name in _SIZES:
        own = getattr(backbone.config, name)
        if sizes.get(name) != own:
            raise InvalidInput(f"{name} of the backbone for {path}", own, f"{sizes.get(name)}, as it was trained")
    try:
        prism = ActionPrism(backbone, **header["settings"], device="meta")
    except (KeyError, TypeError, VAPSimError) as error:
        raise BadFile(path, f"field 'settings' of its header describes no action prism ({error!r})") from error
    tensors, _ = load_tensors(path)
    fill(prism, tensors, path)  # compares shapes: a file that lies about its own takes no memory
    place = backbone.transformer.patch_embed.proj.weight.device
    prism.to_empty(device=place)
    fill(prism, tensors, path)
    return prism


def check_system(path: Path, header: Mapping[str, Any], system: str, number: int) -> None:
    """Raise BadFile unless a header says that the file is of this system and format."""
    given = header.get("system")
    if given is None and "cogvideox_control" in header:
        given = "visual_action_prompt"
    if given != system:
        raise BadFile(path, f"field 'system' of its header says {given!r}, expected {system!r}")
    if header.get("format") != number:
        raise BadFile(path, f"field 'format' of its header is {header.get('format')!r}, expected {number}")
