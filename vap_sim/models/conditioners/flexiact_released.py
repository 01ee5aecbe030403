"""FlexiAct's released weights, which are torch files: opened without running anything, checked name by name.

Two kinds: the RefAdapter, `transformer_blocks.I.attn1.processor.lora_{q,k,v,proj}.{down,up}.weight`, and a motion,
`transformer_blocks.I.attn1.processor.motion_inversion_tokens`, for each block I.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from vap_sim.errors import BadFile
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.lora import TARGETS

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")
"""Names of torch's own files end so; all else is taken for safetensors."""
_LAYERS = dict(zip(("lora_q", "lora_k", "lora_v", "lora_proj"), TARGETS, strict=True))
_SIDES = {"down": "lora_A", "up": "lora_B"}
_MOTION, _ADAPTER = "motion_inversion_tokens", "processor.lora_"
_SHOWN = 400
"""Names of one kind that an error lists: more than either file has."""
_OTHERS = {
    "_mot_ref": "Video-As-Prompt", "video_inject": "AICL (EchoReel)", "controlnet_": "a CogVideoX ControlNet",
    _MOTION: "a FlexiAct motion", _ADAPTER: "FlexiAct's RefAdapter",
}  # fmt: skip


def released_motion(path: Path, backbone: Backbone) -> Tensor:
    """The tokens (blocks, m, D) float32 of a released motion. Raises BadFile naming every tensor that is wrong."""
    tensors = _read(path)
    names = [f"transformer_blocks.{block}.attn1.processor.{_MOTION}" for block in range(backbone.config.blocks)]
    check_names(path, tensors, names, "a FlexiAct motion")
    count = tensors[names[0]].shape[1] if tensors[names[0]].ndim == 3 else 0
    _check_shapes(path, tensors, dict.fromkeys(names, (1, count, backbone.config.width)))
    return torch.cat([tensors[name].float() for name in names])


def released_adapter(path: Path, backbone: Backbone) -> tuple[dict[str, Tensor], int]:
    """The weights of the released RefAdapter, as `RefAdapter` takes them, float32, and their rank. Raises BadFile
    naming every tensor that is wrong."""
    tensors = _read(path)
    names = adapter_names(backbone.config.blocks)
    check_names(path, tensors, names, "FlexiAct's RefAdapter")
    first = tensors[next(name for name, ours in names.items() if ours.endswith("lora_A.weight"))]
    rank, width = (first.shape[0] if first.ndim else 0), backbone.config.width
    shapes = {name: (rank, width) if "lora_A" in ours else (width, rank) for name, ours in names.items()}
    _check_shapes(path, tensors, shapes)
    return {ours: tensors[name].float() for name, ours in names.items()}, rank


def adapter_names(blocks: int) -> dict[str, str]:
    """The released names of an adapter's weights, and those that peft has for them."""
    return {
        f"transformer_blocks.{block}.attn1.processor.{layer}.{side}.weight": (
            f"transformer_blocks.{block}.attn1.{target}.{ours}.weight"
        )
        for block in range(blocks)
        for layer, target in _LAYERS.items()
        for side, ours in _SIDES.items()
    }


def check_names(path: Path, found: Iterable[str], expected: Iterable[str], what: str) -> None:
    """Raise BadFile unless a file of `what` has exactly these tensors, naming all that differ, or what it is a file of
    if that can be told."""
    found, expected = set(found), set(expected)
    if not found & expected:
        other = next((system for mark, system in _OTHERS.items() if any(mark in name for name in found)), None)
        if other is not None and other != what:
            raise BadFile(path, f"holds weights of {other}, expected {what}")
    blocks = [1 + max(_blocks(names), default=-1) for names in (found, expected)]
    problems = [f"it is of {blocks[0]} blocks, the backbone has {blocks[1]}"] if blocks[0] != blocks[1] else []
    for word, names in (("missing", expected - found), ("unknown", found - expected)):
        if names:
            shown = ", ".join(sorted(names, key=_order)[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
            problems.append(f"{len(names)} tensor{'s are' if len(names) > 1 else ' is'} {word}: {shown}")
    if problems:
        raise BadFile(path, f"is not {what} for this backbone; " + "; ".join(problems))


def _check_shapes(path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    wrong = [name for name, shape in expected.items() if tuple(tensors[name].shape) != shape or not min(shape)]
    if wrong:
        name = wrong[0]
        shape = tuple(tensors[name].shape)
        raise BadFile(
            path,
            f"{len(wrong)} tensors do not fit the backbone, the first {name}: {shape}, expected {expected[name]}; "
            f"all of them: {', '.join(wrong[:_SHOWN])}",
        )


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a torch file, by name, on the CPU. No code in it is run."""
    if not Path(path).is_file():
        raise BadFile(path, "no such weights file")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BadFile(path, f"is no whole file of torch.save ({error})") from error
    # torch stores as it is; what is packed could be of any size.
    if any(one.compress_type != zipfile.ZIP_STORED for one in entries) or (
        sum(one.file_size for one in entries) > Path(path).stat().st_size
    ):
        raise BadFile(path, "is packed, which torch.save never does; it is not opened")
    try:
        values = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch names what it refuses by many kinds of errors
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise BadFile(
            path, f"cannot be opened with weights_only=True, and is not opened otherwise ({reason})"
        ) from error
    if not isinstance(values, dict) or not values:
        raise BadFile(path, f"holds {type(values).__name__} of no tensors, expected an object of tensors by name")
    for name, value in values.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            hint = " (a whole training state, such as AICL's?)" if name == "module" else ""
            raise BadFile(path, f"field {name!r} is a {type(value).__name__}, expected a tensor{hint}")
        if not value.is_floating_point() or value.layout != torch.strided:
            raise BadFile(path, f"tensor {name!r} is {value.dtype} {value.layout}, expected plain floats")
    return dict(values)


def _blocks(names: Iterable[str]) -> list[int]:
    found = (re.match(r"transformer_blocks\.(\d{1,6})\.", name) for name in names)
    return [int(match[1]) for match in found if match]


def _order(name: str) -> list[tuple[int, str]]:
    """By number where names hold one."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in name.split(".")]
