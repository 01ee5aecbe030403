"""What files of trained conditioners have in common: a header that says which system they are and how to make it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.checkpoint import read_description

SIZES = ("width", "blocks", "heads", "patch", "in_channels", "latent_channels", "text_width")
"""Of the backbone that a conditioner was trained on."""
_PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")


def header_of(
    system: str, number: int, config: object, settings: Mapping[str, Any], description: Mapping[str, Any] | None
) -> dict[str, Any]:
    """The header of a file. number: of its format; config: the backbone's, of which SIZES are kept; settings: what the
    conditioner is made again with; description: plain data about the run."""
    return {
        "system": system,
        "format": number,
        "backbone": {name: getattr(config, name) for name in SIZES},
        "settings": dict(settings),
        "description": dict(description or {}),
    }


def read_settings(path: Path, system: str, number: int, config: object) -> dict[str, Any]:
    """The settings in the header of a file of a system, for a backbone of this config.

    Raises BadFile for a file that is damaged, a pickle or of another system, which it names, and InvalidInput for a
    backbone of other sizes.
    """
    if path.suffix in _PICKLES:
        raise BadFile(path, f"is a pickle file, which could run code; weights of {system} are a safetensors file")
    header = read_description(path)
    check_system(path, header, system, number)
    for field in ("backbone", "settings"):
        if not isinstance(header.get(field), dict):
            raise BadFile(path, f"field {field!r} of its header is {header.get(field)!r}, expected an object")
    sizes: dict[str, Any] = header["backbone"]
    for name in SIZES:
        own = getattr(config, name)
        if sizes.get(name) != own:
            raise InvalidInput(f"{name} of the backbone for {path}", own, f"{sizes.get(name)}, as it was trained")
    settings: dict[str, Any] = header["settings"]
    return settings


def check_system(path: Path, header: Mapping[str, Any], system: str, number: int) -> None:
    """Raise BadFile unless a header says that the file is of this system and format."""
    given = header.get("system")
    if given is None and "cogvideox_control" in header:
        given = "visual_action_prompt"
    if given != system:
        raise BadFile(path, f"field 'system' of its header says {given!r}, expected {system!r}")
    if header.get("format") != number:
        raise BadFile(path, f"field 'format' of its header is {header.get('format')!r}, expected {number}")
