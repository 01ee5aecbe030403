"""Which conditioner tells CogVideoX the action in each form of prompt; a trained one on disk, with its LoRA."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput, VAPSimError
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.injection import Uninstall
from vap_sim.models.cogvideox.lora import Lora, lora_parameters
from vap_sim.models.cogvideox.raw_action import ActionVector
from vap_sim.models.cogvideox.skeleton_control import SkeletonControl, check_plain
from vap_sim.prompts.profiles import profile

FILE = "control.safetensors"
NOTE = "control.json"
_FORMAT = 1
DRAWN = ("skeleton", "mesh", "depth")
_SIZES = ("width", "blocks", "patch", "in_channels", "latent_channels")

Control = SkeletonControl | ActionVector


@dataclass(frozen=True, eq=False)
class TrainedControl:
    """What `load_control` found. profile: of the prompts it was trained with; control: None for text alone; lora:
    None without; description: what the training run wrote; uninstall: takes the LoRA off the backbone again."""

    profile: str
    control: Control | None
    lora: Lora | None
    description: Mapping[str, Any]
    uninstall: Uninstall


def control_for(name: str, backbone: Backbone, *, joints: int | None = None, **settings: Any) -> Control | None:
    """The untrained conditioner for prompts of a draw profile or form: "vap", "mesh", "depth", "raw_action", "text".

    Drawn forms get a `SkeletonControl`, "raw_action" an `ActionVector` for so many `joints`, "text" None: a caption
    needs no conditioner. settings: of that class. Raises UnknownName, InvalidInput.
    """
    form = profile(name).form
    if form in DRAWN:
        return SkeletonControl(backbone, **settings)
    if form == "raw_action":
        if joints is None:
            raise InvalidInput("joints of the form 'raw_action'", None, "how many numbers a pixel frame has")
        return ActionVector(backbone, joints=joints, **settings)
    if settings:
        raise InvalidInput(f"settings of the form {form!r}", sorted(settings), "none: it has no conditioner")
    return None


def save_control(
    folder: Path | str,
    backbone: Backbone,
    control: Control | None,
    *,
    profile: str,
    lora: Lora | None = None,
    description: Mapping[str, Any] | None = None,
) -> None:
    """Write `control.safetensors`, whole or not at all: weights of the control and of the LoRA on the backbone.

    Its header says how to make both again; `control.json` says the same to people and is not read. profile: of the
    prompts it was trained with; description: plain data about the run. Raises InvalidInput if the LoRA is not on the
    backbone, and OSError.
    """
    tensors: dict[str, Tensor] = {}
    if control is not None:
        tensors |= _control_tensors(control)
    if lora is not None:
        weights = _lora_tensors(backbone, lora)
        if not weights:
            raise InvalidInput("LoRA to save", lora.name, "one that is installed on the backbone")
        tensors |= weights
    header = {
        "cogvideox_control": _FORMAT,
        "profile": profile,
        "backbone": _sizes(backbone),
        "control": None if control is None else control.settings,
        "lora": None if lora is None else lora.settings,
        "description": dict(description or {}),
    }
    folder = Path(folder)
    save_tensors(folder / FILE, tensors, header)
    partial = folder / f"{NOTE}.partial"
    partial.write_text(json.dumps(header, indent=1), encoding="utf-8")
    os.replace(partial, folder / NOTE)


def load_control(folder: Path | str, backbone: Backbone) -> TrainedControl:
    """Make what `save_control` wrote again: a new control, and the LoRA installed on this backbone.

    Where anything is wrong the backbone stays as it was. Raises BadFile naming the field or tensor, InvalidInput for a
    backbone of other sizes, or with LoRA or offload hooks on it.
    """
    path = Path(folder) / FILE
    check_plain(backbone)
    tensors, header = load_tensors(path)
    if header.get("cogvideox_control") != _FORMAT:
        given = header.get("cogvideox_control")
        raise BadFile(path, f"field 'cogvideox_control' of its header is {given!r}, expected {_FORMAT}")
    sizes = _field(path, header, "backbone", Mapping)
    for name, own in _sizes(backbone).items():
        if sizes.get(name) != own:
            raise InvalidInput(f"{name} of the backbone for {path}", own, f"{sizes.get(name)}, as it was trained")
    name, description = _field(path, header, "profile", str), _field(path, header, "description", Mapping)
    settings, updates = header.get("control"), header.get("lora")
    try:
        control = None if settings is None else control_for(name, backbone, **settings)
        lora = None if updates is None else Lora(**updates)
        uninstall = lora.install(backbone) if lora is not None else _nothing
    except (TypeError, AttributeError, VAPSimError) as error:
        raise BadFile(path, f"its header describes no control for this backbone ({error})") from error
    try:
        filled = {} if control is None else _control_tensors(control)
        if lora is not None:
            filled |= _lora_tensors(backbone, lora)
        _fill(path, filled, tensors)
    except BadFile:
        uninstall()
        raise
    return TrainedControl(name, control, lora, description, uninstall)


def _control_tensors(control: Control) -> dict[str, Tensor]:
    return {f"control.{name}": value for name, value in control.state_dict().items()}


def _lora_tensors(backbone: Backbone, lora: Lora) -> dict[str, Tensor]:
    return {f"lora.{name}": value.detach() for name, value in lora_parameters(backbone, lora.name).items()}


def _sizes(backbone: Backbone) -> dict[str, int]:
    return {name: getattr(backbone.config, name) for name in _SIZES}


def _field(path: Path, header: Mapping[str, Any], name: str, kind: type) -> Any:
    value = header.get(name)
    if not isinstance(value, kind):
        raise BadFile(path, f"field {name!r} of its header is {value!r}, expected a {kind.__name__}")
    return value


def _fill(path: Path, own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Copy tensors of exactly these names and shapes. `checkpoint.fill` does it for one module; this is for parts."""
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors or name not in own:
            raise BadFile(path, f"tensor {name!r} is {'missing' if name not in tensors else 'unknown to this model'}")
        if own[name].shape != tensors[name].shape:
            raise BadFile(path, f"tensor {name!r} is {tuple(tensors[name].shape)}, expected {tuple(own[name].shape)}")
        if not tensors[name].is_floating_point():
            raise BadFile(path, f"tensor {name!r} is {tensors[name].dtype}, expected {own[name].dtype}")
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(tensors[name])


def _nothing() -> None:
    """What takes no LoRA off."""
