"""Learned motions and a RefAdapter on disk: our own safetensors, and what the authors of FlexiAct released."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.conditioners.flexiact import FlexiAct, check_name
from vap_sim.models.conditioners.flexiact_adapter import ALPHA, WEIGHT, RefAdapter, adapter_shapes
from vap_sim.models.conditioners.flexiact_released import SUFFIXES, check_names, released_adapter, released_motion

SYSTEM = "flexiact"
MOTIONS, ADAPTER = "motions", "adapter"
_FORMAT = 1
_WORDS = {MOTIONS: "learned motions", ADAPTER: "a RefAdapter"}


def save_motions(path: Path | str, motions: Mapping[str, Tensor], description: Mapping[str, Any] | None = None) -> None:
    """Write motions, tokens (blocks, m, D) by name, into one safetensors file, whole or not at all.

    description: plain data about where they come from. Raises InvalidInput, OSError.
    """
    sizes = {(len(value), value.shape[-1]) for value in motions.values() if value.ndim == 3}
    if not motions or len(sizes) != 1 or any(value.ndim != 3 for value in motions.values()):
        shapes = {name: tuple(value.shape) for name, value in motions.items()}
        raise InvalidInput("motions to save", shapes, "one or more (blocks, m, D), of the same blocks and D")
    for name in motions:
        check_name(name)
    ((blocks, width),) = sizes
    counts = {name: value.shape[1] for name, value in motions.items()}
    header = _header(MOTIONS, blocks, width, description) | {"tokens": counts}
    save_tensors(Path(path), {name: value.detach() for name, value in motions.items()}, header)


def load_motions(path: Path | str, backbone: Backbone, name: str | None = None) -> dict[str, Tensor]:
    """The motions of a file, tokens (blocks, m, D) float32 by name: of `save_motions`, or one that was released.

    name: what its only motion is called here, else what the file says, and for a released one, which does not, the name
    of the file. Raises BadFile naming every tensor that is wrong or what the file holds instead, InvalidInput for a
    backbone of other sizes and for a name that cannot be given.
    """
    path = Path(path)
    if path.suffix.lower() in SUFFIXES:
        called = path.stem if name is None else name
        check_name(called)
        return {called: released_motion(path, backbone)}
    tensors, header = _own(path, MOTIONS, backbone)
    counts = header.get("tokens")
    if not isinstance(counts, dict) or not counts:
        raise BadFile(path, f"field 'tokens' of its header is {counts!r}, expected numbers of tokens by name")
    check_names(path, tensors, counts, _WORDS[MOTIONS])
    shapes = {one: (backbone.config.blocks, count, backbone.config.width) for one, count in counts.items()}
    _check(path, tensors, shapes)
    if name is not None:
        if len(tensors) > 1:
            raise InvalidInput(f"name of the motion in {path}", name, f"none: it holds {sorted(tensors)}")
        check_name(name)
        return {name: next(iter(tensors.values())).float()}
    for one in tensors:
        check_name(one)
    return {one: tensors[one].float() for one in counts}


def save_adapter(path: Path | str, adapter: RefAdapter, description: Mapping[str, Any] | None = None) -> None:
    """Write a trained adapter; its weight and whether it is fused are said where it is used. Raises InvalidInput,
    OSError."""
    weights = adapter.weights
    if not weights:
        raise InvalidInput("weights of the adapter to save", weights, "some: see `adapter_weights`")
    blocks = len(weights) // len(adapter_shapes(1, 1))
    width = next(value.shape[1] for name, value in weights.items() if ".lora_A." in name)
    about = {"rank": adapter.rank, "alpha": adapter.alpha}
    save_tensors(Path(path), dict(weights), _header(ADAPTER, blocks, width, description) | about)


def load_adapter(
    path: Path | str, backbone: Backbone, *, weight: float = WEIGHT, fused: bool = False, alpha: float = ALPHA
) -> RefAdapter:
    """The adapter of a file of `save_adapter`, or the one that was released, to be used at this weight.

    alpha: of a released file, which does not say it. Raises BadFile naming every tensor that is wrong or what the file
    holds instead, InvalidInput for a backbone of other sizes.
    """
    path = Path(path)
    if path.suffix.lower() in SUFFIXES:
        weights, rank = released_adapter(path, backbone)
        return RefAdapter(weights, rank, alpha, weight, fused)
    tensors, header = _own(path, ADAPTER, backbone)
    try:
        empty = RefAdapter(None, header.get("rank", 0), header.get("alpha", 0.0))
    except (TypeError, InvalidInput) as error:
        raise BadFile(path, f"fields 'rank' and 'alpha' of its header describe no adapter ({error})") from error
    shapes = adapter_shapes(backbone.config.blocks, backbone.config.width, empty.rank)
    check_names(path, tensors, shapes, _WORDS[ADAPTER])
    _check(path, tensors, shapes)
    weights = {name: value.float() for name, value in tensors.items()}
    return replace(empty, weights=weights, weight=weight, fused=fused)


def load_flexiact(
    backbone: Backbone,
    motions: Sequence[Path | str] = (),
    adapter: Path | str | None = None,
    *,
    weight: float = WEIGHT,
    fused: bool = False,
    **settings: Any,
) -> FlexiAct:
    """The conditioner of all motions of these files, and of an adapter's file at this weight; nothing of it is trained.

    settings: scale, alpha, high, low of `FlexiAct`. Raises what `load_motions` and `load_adapter` raise, InvalidInput
    for a name that two files give.
    """
    found: dict[str, Tensor] = {}
    for path in motions:
        for name, value in load_motions(path, backbone).items():
            if name in found:
                raise InvalidInput(
                    f"motion of {path}", name, f"a name that none of the files before gives: {list(found)}"
                )
            found[name] = value
    worn = None if adapter is None else load_adapter(adapter, backbone, weight=weight, fused=fused)
    made = FlexiAct(backbone, {name: value.shape[1] for name, value in found.items()}, adapter=worn, **settings)
    with torch.no_grad():
        for name, value in found.items():
            made.tokens.of(name).copy_(value)
    return made.eval().requires_grad_(False)


def _header(part: str, blocks: int, width: int, description: Mapping[str, Any] | None) -> dict[str, Any]:
    sizes = {"blocks": blocks, "width": width}
    return {"system": SYSTEM, "part": part, "format": _FORMAT, **sizes, "description": dict(description or {})}


def _own(path: Path, part: str, backbone: Backbone) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file of ours that holds this part, for a backbone of these sizes."""
    tensors, header = load_tensors(path)
    system = "visual_action_prompt" if "cogvideox_control" in header else header.get("system")
    if system != SYSTEM:
        raise BadFile(path, f"holds weights of {system or 'something else'}, expected {_WORDS[part]} of {SYSTEM}")
    if header.get("part") != part:
        held = _WORDS.get(str(header.get("part")), repr(header.get("part")))
        raise BadFile(path, f"holds {held}, expected {_WORDS[part]}")
    if header.get("format") != _FORMAT:
        raise BadFile(path, f"field 'format' of its header is {header.get('format')!r}, expected {_FORMAT}")
    for name in ("width", "blocks"):
        own = getattr(backbone.config, name)
        if header.get(name) != own:
            raise InvalidInput(f"{name} of the backbone for {path}", own, f"{header.get(name)}, as it was trained")
    return tensors, header


def _check(path: Path, tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    for name, value in tensors.items():
        if tuple(value.shape) != tuple(shapes[name]) or not value.is_floating_point():
            given = f"{value.dtype} {tuple(value.shape)}"
            raise BadFile(path, f"tensor {name!r} is {given}, expected floats {tuple(shapes[name])}")
