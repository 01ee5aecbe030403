"""The conditioners of a world by name: which systems there are, and how each is opened from files with its strength.

Both Visual Action Prompts and Video-As-Prompt are called VAP, so weights of another system are named before they are
read.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import safetensors
from torch import nn

from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.models.checkpoint import read_description
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.control_form import FILE as CONTROL_FILE
from vap_sim.models.cogvideox.control_form import load_control
from vap_sim.models.cogvideox.folder import read_json
from vap_sim.models.cogvideox.lora import merge_lora
from vap_sim.models.cogvideox.skeleton_control import checked_scale
from vap_sim.models.conditioners.action_prism_file import load_action_prism
from vap_sim.models.conditioners.flexiact_adapter import WEIGHT
from vap_sim.models.conditioners.flexiact_bias import NoiseBias
from vap_sim.models.conditioners.flexiact_files import load_flexiact
from vap_sim.models.conditioners.video_as_prompt_file import load_video_as_prompt
from vap_sim.models.conditioners.video_as_prompt_released import SUFFIX

CONTROL, ACTION_PRISM, VIDEO_AS_PROMPT, FLEXIACT = "skeleton_control", "action_prism", "video_as_prompt", "flexiact"
WEIGHTS, ADAPTER, SCALE = "weights", "adapter", "scale"
FILES = (WEIGHTS, ADAPTER)
"""Settings that are places on disk."""
_TITLES = {
    CONTROL: "a control of Visual Action Prompts",
    ACTION_PRISM: "an action prism (AICL)",
    VIDEO_AS_PROMPT: "an expert of Video-As-Prompt",
    FLEXIACT: "FlexiAct",
}
_OTHER_NAMES = {"visual_action_prompt": CONTROL}
_CALLED_VAP = {CONTROL, VIDEO_AS_PROMPT}
_RELEASED = "MOTModel"
"""How the class of a transformer with an expert in it is called at its end."""

Place = str | Path


def open_conditioner(system: str, told: Any, backbone: Backbone) -> tuple[Any, str | None]:
    """A conditioner for a backbone, and the profile of the prompts it was trained with, if it has one.

    system: a name of `SYSTEMS`; told: where its weights are, a path or for "flexiact" several; or a conditioner, which
    is taken as it is; or a mapping of either as "weights" beside settings: "scale", and with "flexiact" those of
    `_flexiact`. The conditioner is None for a control that is only LoRA, which is then in the backbone's weights.

    Raises UnknownName for a system or a setting that does not exist, BadFile for weights that are damaged or of another
    system, which it names, InvalidInput for those of another width and for impossible settings.
    """
    check_system(system)
    settings = dict(told) if isinstance(told, Mapping) else {WEIGHTS: told}
    weights = settings.pop(WEIGHTS, None)
    if weights is None:
        raise InvalidInput(f"conditioner {system!r}", dict(told), f"also {WEIGHTS!r}, where they are")
    paths = _paths(weights)
    if paths is None:
        if not hasattr(weights, "inject"):
            expected = "a path, paths, or a conditioner"
            raise InvalidInput(f"{WEIGHTS} of conditioner {system!r}", repr(weights), expected)
        if settings.keys() - {SCALE}:
            raise InvalidInput(
                f"settings of conditioner {system!r}", settings, f"at most {SCALE!r}: it is already made"
            )
        if settings:
            weights.scale = checked_scale(settings[SCALE])
        return weights, None
    opener = _OPENERS[system]
    known = [name for name in inspect.signature(opener).parameters if name not in ("backbone", "paths")]
    for name in settings:
        if name not in known:
            raise UnknownName(f"setting of conditioner {system!r}", name, [WEIGHTS, *known])
    for path in paths:
        _check_holds(path, system)
    found: tuple[Any, str | None] = opener(backbone, paths, **settings)
    if isinstance(found[0], nn.Module):
        found[0].eval().requires_grad_(False)
    return found


def check_system(name: str) -> None:
    """Raise UnknownName unless there is a system of that name."""
    if name not in _OPENERS:
        raise UnknownName("conditioner", name, SYSTEMS)


def is_released(folder: Place) -> bool:
    """Whether a folder holds a backbone and an expert of Video-As-Prompt in one transformer, as they are released."""
    config = Path(folder) / "transformer" / "config.json"
    return config.is_file() and str(read_json(config).get("_class_name")).endswith(_RELEASED)


def system_in(path: Place) -> str | None:
    """The system whose weights a file or folder holds, None where it does not say. Raises BadFile for a damaged one."""
    place = Path(path)
    if place.is_dir():
        return CONTROL if (place / CONTROL_FILE).is_file() else VIDEO_AS_PROMPT if is_released(place) else None
    if place.suffix != ".safetensors" or not place.is_file():
        return None
    try:
        with safetensors.safe_open(place, "pt") as file:
            names, marked = list(file.keys()), "description" in (file.metadata() or {})
    except (safetensors.SafetensorError, OSError) as error:
        raise BadFile(place, f"not a whole safetensors file ({error})") from error
    if not marked:
        return VIDEO_AS_PROMPT if any(SUFFIX in name for name in names) else None
    header = read_description(place)
    system = CONTROL if "cogvideox_control" in header else str(header.get("system"))
    return _OTHER_NAMES.get(system, system)


def _check_holds(path: Path, system: str) -> None:
    found = system_in(path)
    if found in _TITLES and found != system:
        hint = "; both papers are called VAP" if {found, system} == _CALLED_VAP else ""
        raise BadFile(path, f"holds {_TITLES[str(found)]}, expected {_TITLES[system]}{hint}")
    if found == system == VIDEO_AS_PROMPT and is_released(path):
        raise BadFile(path, "is a released folder, with the backbone of its expert in it: open it as the world itself")


def _paths(weights: Any) -> tuple[Path, ...] | None:
    """The places that are meant; None for what is no place."""
    if isinstance(weights, str | Path):
        return (Path(weights),)
    if isinstance(weights, list | tuple) and weights and all(isinstance(one, str | Path) for one in weights):
        return tuple(Path(one) for one in weights)
    return None


def _only(paths: Sequence[Path], system: str) -> Path:
    if len(paths) != 1:
        raise InvalidInput(f"weights of conditioner {system!r}", [str(path) for path in paths], "one place")
    return paths[0]


def _control(backbone: Backbone, paths: Sequence[Path], scale: float | None = None) -> tuple[Any, str | None]:
    """scale: as it was trained if not given."""
    trained = load_control(_only(paths, CONTROL), backbone)
    if trained.lora is not None:
        merge_lora(backbone)
    if scale is not None:
        if trained.control is None:
            raise InvalidInput(f"scale of conditioner {CONTROL!r}", scale, "none: this one is only LoRA")
        trained.control.scale = checked_scale(scale)
    return trained.control, trained.profile


def _action_prism(backbone: Backbone, paths: Sequence[Path], scale: float | None = None) -> tuple[Any, str | None]:
    prism = load_action_prism(_only(paths, ACTION_PRISM), backbone)
    prism.scale = prism.scale if scale is None else checked_scale(scale)
    return prism, None


def _video_as_prompt(backbone: Backbone, paths: Sequence[Path], scale: float | None = None) -> tuple[Any, str | None]:
    expert = load_video_as_prompt(_only(paths, VIDEO_AS_PROMPT), backbone)
    expert.scale = expert.scale if scale is None else checked_scale(scale)
    return expert, None


def _flexiact(
    backbone: Backbone,
    paths: Sequence[Path],
    adapter: Place | None = None,
    weight: float = WEIGHT,
    scale: float = 1.0,
    alpha: float = NoiseBias.alpha,
    high: float = NoiseBias.high,
    low: float = NoiseBias.low,
) -> tuple[Any, str | None]:
    """The motions of these files. adapter: the file of a RefAdapter, which becomes part of the backbone's own weights,
    times `weight`; alpha, high, low: see `NoiseBias`."""
    bias = {"alpha": alpha, "high": high, "low": low}
    made = load_flexiact(backbone, paths, adapter, weight=weight, fused=True, scale=scale, **bias)
    # Offload hooks and compilation come later, and nothing can be put below them.
    made.install(backbone)
    made.adapter = None
    return made, None


_OPENERS: Mapping[str, Callable[..., tuple[Any, str | None]]] = MappingProxyType(
    {CONTROL: _control, ACTION_PRISM: _action_prism, VIDEO_AS_PROMPT: _video_as_prompt, FLEXIACT: _flexiact}
)
SYSTEMS = tuple(_OPENERS)
"""The names, in the order in which conditioners stand in a world."""
