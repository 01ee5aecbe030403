"""A world on disk: a CogVideoX folder as diffusers stores it, and beside it `world.json`, which says how it dreams.

A published folder has no such file and is read with `settings.defaults`. All weights are safetensors.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch

from vap_sim.errors import BadFile, InvalidInput, UnknownName, VAPSimError
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import SIDE, Codec, TinyCodec
from vap_sim.models.cogvideox.config import ModelConfig
from vap_sim.models.cogvideox.fitting import Way, check_offload, explained
from vap_sim.models.cogvideox.folder import CogVideoXFolder, open_folder
from vap_sim.models.cogvideox.injection import Conditioner
from vap_sim.models.cogvideox.memory import compile_blocks, model_offload, sequential_offload
from vap_sim.models.cogvideox.parts import Parts
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
from vap_sim.models.cogvideox.settings import Settings, defaults
from vap_sim.models.cogvideox.text import HashedWords, T5Text, TextEncoder
from vap_sim.models.cogvideox.text_cache import CachedText
from vap_sim.models.cogvideox.video_codec import VideoCodec
from vap_sim.models.cogvideox.world import FRAME_RATE, PROFILE, CogVideoXWorld
from vap_sim.models.conditioners.opening import (
    CONTROL,
    FILES,
    SYSTEMS,
    VIDEO_AS_PROMPT,
    WEIGHTS,
    check_system,
    is_released,
    open_conditioner,
    system_in,
)
from vap_sim.models.conditioners.video_as_prompt_released import Released, load_released
from vap_sim.models.tensor_cache import TensorCache

HEADER = "world.json"
WORLD = "cogvideox"
_FORMAT = 1
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Header:
    """What `world.json` says; every field may be left out there.

    size: (width, height) [px]; frame_rate [Hz]; profile: how prompts are drawn; max_chunk: pixel frames of the clips it
    was trained with; tiny_codec: channels of the codec without weights, None for the folder's own; hashed_words: the
    text encoder is the one without weights; control: a folder of `control_form.save_control`, inside this one;
    settings: some of `Settings`; conditioners: further ones by the names of `opening.SYSTEMS`, each as
    `opening.open_conditioner` is told, of files inside this folder.
    """

    size: tuple[int, int] | None = None
    frame_rate: float | None = None
    profile: str | None = None
    max_chunk: int | None = None
    tiny_codec: int | None = None
    hashed_words: bool = False
    control: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    conditioners: Mapping[str, Any] = field(default_factory=dict)


def save_world(folder: Path | str, backbone: Backbone, header: Header) -> None:
    """Write transformer, noise schedule and `world.json`, the last when all else is there.

    A control branch is written by `control_form.save_control` into the subfolder that header.control names, further
    conditioners by their own functions into the files that header.conditioners names. LoRA is not part of it: take it
    off first. Raises InvalidInput, UnknownName, OSError.
    """
    folder = Path(folder)
    _check_header(header)
    if any("lora_" in name for name, _ in backbone.named_parameters()):
        raise InvalidInput("backbone to save", "one with LoRA on it", "a plain one; save_control keeps LoRA")
    (folder / HEADER).unlink(missing_ok=True)
    backbone.transformer.save_pretrained(folder / "transformer", safe_serialization=True)
    schedule = {**PUBLISHED, **backbone.config.scheduler}
    _write(folder / "scheduler" / "scheduler_config.json", schedule)
    _write(folder / HEADER, {"world": WORLD, "format": _FORMAT, **asdict(header)})


def read_header(folder: Path) -> Header:
    """What a folder says about itself. Raises BadFile naming the field."""
    path = folder / HEADER
    if not path.is_file():
        return Header()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(path, f"is not JSON ({error})") from error
    if not isinstance(values, dict):
        raise BadFile(path, f"is a {type(values).__name__}, expected an object")
    if values.pop("world", None) != WORLD or values.pop("format", None) != _FORMAT:
        raise BadFile(path, f"fields 'world' and 'format' are not {WORLD!r} and {_FORMAT}")
    known = [item.name for item in fields(Header)]
    unknown = sorted(values.keys() - set(known))
    if unknown:
        raise BadFile(path, f"field {unknown[0]!r} is unknown; known are {known}")
    try:
        if values.get("size") is not None:
            values["size"] = tuple(values["size"])
        header = Header(**values)
        _check_header(header)
    except (TypeError, VAPSimError) as error:
        raise BadFile(path, str(error)) from error
    return header


def load_world(
    path: Path | str | None,
    *,
    device: torch.device,
    chosen: Mapping[str, Any],
    size: tuple[int, int] | None = None,
    frame_rate: float | None = None,
    profile: str | None = None,
    control: Conditioner | Path | str | bool | None = None,
    conditioners: Mapping[str, Any] | bool | None = None,
    dtype: torch.dtype | str | None = None,
    offload: str | None = None,
    tiling: bool = False,
    compiled: bool = False,
    text_cache: Path | None = None,
) -> CogVideoXWorld:
    """See `CogVideoXWorld.load`. chosen: settings that are given, by name."""
    if path is None:
        raise InvalidInput("weights of world 'cogvideox'", None, "a CogVideoX folder, or its name on the hub")
    if Path(path).is_file():
        raise BadFile(path, "is a file; the weights of world 'cogvideox' are a folder, with transformer/config.json")
    check_offload(offload, device)
    kind = _dtype(dtype, device)
    released = load_released(path, dtype=kind) if is_released(path) else None
    folder = _plain_folder(path) if released is None else released.folder
    header, config = read_header(folder.path), folder.config
    wanted = _wanted(control, conditioners, header, folder, released)
    mode = chosen.get("mode", header.settings.get("mode", "stream" if released is None else "chunk"))
    settings = Settings(**{**defaults(mode, config, config.scheduler), **header.settings, **chosen})
    size = size or header.size or _native(config)
    with explained(config, Way(settings, kind, offload), size, device):
        backbone = Backbone(folder.transformer(kind)) if released is None else released.backbone
        opened = [open_conditioner(name, wanted[name], backbone) for name in SYSTEMS if name in wanted]
        told = tuple(one for one, _ in opened if one is not None)
        drawn = next((own for _, own in opened if own is not None), None)
        backbone.requires_grad_(False)
        release = _place(backbone, told, device, offload)
        codec = _codec(header, folder, device, kind, tiling)
        if compiled:
            compile_blocks(backbone)
        parts = Parts(
            backbone,
            codec,
            _text(header, folder, device, kind, text_cache),
            Schedule.of(config.scheduler or PUBLISHED),
            settings,
            (int(size[0]), int(size[1])),
            told,
            device,
            kind,
            release,
        )
        return CogVideoXWorld(
            parts,
            frame_rate=_first(frame_rate, header.frame_rate, FRAME_RATE),
            profile=_first(profile, drawn, header.profile, PROFILE),
            max_chunk=header.max_chunk,
            offload=offload,
        )


def _wanted(
    control: Any, conditioners: Any, header: Header, folder: CogVideoXFolder, released: Released | None
) -> dict[str, Any]:
    """What is to be opened, by system: what the folder brings, but where something else is given, or False."""
    given = {} if conditioners in (None, True, False) else conditioners
    if not isinstance(given, Mapping):
        raise InvalidInput("conditioners", given, "a mapping from systems to weights, like {'action_prism': PATH}")
    for name in given:
        check_system(name)
    given = {name: told for name, told in given.items() if told is not None}
    if control not in (None, True):
        if CONTROL in given:
            raise InvalidInput("control", control, f"None, because conditioners have a {CONTROL!r}")
        given = {**given, CONTROL: control}
    own: dict[str, Any] = {}
    if conditioners is not False:
        own |= {name: _inside(folder.path, told) for name, told in header.conditioners.items()}
        own |= {} if released is None else {VIDEO_AS_PROMPT: released.conditioner.requires_grad_(False)}
    own |= {} if header.control is None else {CONTROL: folder.path / header.control}
    for name, told in given.items():
        if isinstance(told, Mapping) and WEIGHTS not in told and name in own:  # settings of what the folder brings
            brought = own[name] if isinstance(own[name], Mapping) else {WEIGHTS: own[name]}
            given = {**given, name: {**brought, **told}}
    return {name: told for name, told in {**own, **given}.items() if told is not False}


def brings(folder: Path | str) -> tuple[str, ...]:
    """Systems whose weights a world's folder brings, by the names of `opening.SYSTEMS`. Raises as `load_world` does."""
    released = is_released(folder)
    header = read_header(Path(folder) if released else _plain_folder(folder).path)
    own = {CONTROL: header.control, VIDEO_AS_PROMPT: released or None} | dict(header.conditioners)
    return tuple(name for name in SYSTEMS if own.get(name) is not None)


def _plain_folder(path: Path | str) -> CogVideoXFolder:
    if system_in(path) == CONTROL:
        hint = (
            "a control of Visual Action Prompts, which goes beside a CogVideoX: conditioners={'skeleton_control': ...}"
        )
        raise BadFile(path, f"is no world but {hint}")
    return open_folder(str(path))


def _inside(folder: Path, told: Any) -> Any:
    """What a header says of a conditioner, with names of files as places in its folder."""
    if isinstance(told, Mapping):
        return {name: _inside(folder, value) if name in FILES else value for name, value in told.items()}
    return folder / told if isinstance(told, str) else [folder / name for name in told]


def _place(backbone: Backbone, conditioners: Sequence[Any], device: torch.device, offload: str | None) -> Any:
    """Bring the weights where they are used; what lets them go before decoding, or None."""
    networks = [one for one in conditioners if isinstance(one, torch.nn.Module)]
    if offload == "sequential":
        for network in (backbone, *networks):
            sequential_offload(network, device)
        return None
    for network in networks:
        network.to(device)
    if offload == "model":
        return model_offload([backbone], device)[0].offload
    backbone.to(device)
    return None


def _codec(header: Header, folder: CogVideoXFolder, device: torch.device, kind: torch.dtype, tiling: bool) -> Codec:
    if header.tiny_codec is not None:
        return TinyCodec(header.tiny_codec)
    return VideoCodec.open(folder, device=device, dtype=kind, tiling=tiling)


def _text(
    header: Header, folder: CogVideoXFolder, device: torch.device, kind: torch.dtype, cache: Path | None
) -> TextEncoder:
    if header.hashed_words:
        return HashedWords(folder.config.text_length, folder.config.text_width)
    text = T5Text(folder, device=device, dtype=kind)
    return text if cache is None else CachedText(text, TensorCache(cache))


def _dtype(given: torch.dtype | str | None, device: torch.device) -> torch.dtype:
    if given is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if isinstance(given, torch.dtype):
        return given
    if given not in _DTYPES:
        raise UnknownName("dtype of the weights", given, _DTYPES)
    return _DTYPES[given]


def _native(config: ModelConfig) -> tuple[int, int]:
    values = config.transformer
    return SIDE * int(values["sample_width"]), SIDE * int(values["sample_height"])


def _first(*given: Any) -> Any:
    return next(value for value in given if value is not None)


def _check_header(header: Header) -> None:
    for name in header.settings:
        if name not in Settings.names():
            raise UnknownName("setting of a CogVideoX world", name, Settings.names())
    replace(Settings(), **header.settings)
    if header.control is not None and not _is_name(header.control):
        raise InvalidInput("control", header.control, "the name of a folder inside this one")
    if not isinstance(header.conditioners, Mapping):
        raise InvalidInput("conditioners", header.conditioners, "an object from systems to names of files")
    for name, told in header.conditioners.items():
        check_system(name)
        if name == CONTROL:
            raise InvalidInput(f"conditioner {name!r}", told, "none: the field 'control' names a folder's control")
        places = [told.get(field) for field in FILES if field in told] if isinstance(told, Mapping) else [told]
        flat = [one for place in places for one in (place if isinstance(place, list | tuple) else [place])]
        if not flat or not all(_is_name(one) for one in flat):
            raise InvalidInput(f"conditioner {name!r}", told, "names of files inside this folder")


def _is_name(given: Any) -> bool:
    """Whether this is the name of something inside a folder."""
    return isinstance(given, str) and Path(given).name == given


def _write(path: Path, values: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(values, indent=1), encoding="utf-8")
    os.replace(partial, path)
