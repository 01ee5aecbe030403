"""The systems of the comparison of demonstrations, small enough for a CPU, and what each of them learns from.

All stand on a frozen model. Action Prism and Video-As-Prompt learn from pairs what any demonstration means; FlexiAct
learns tokens for each action from one clip of it, cropped in a dozen ways, and is then told which tokens to use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from reference_video_films import ACTIONS, Kept, clip_of, paired_set
from torch import nn
from torch.nn import functional as F

from vap_sim.errors import UnknownName
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import Codec
from vap_sim.training.clips import Clip, DataSet
from vap_sim.training.reference_footage import Footage

BASE = "none"
"""No system: the model without demonstrations."""
LEARNED = ("flexiact",)
"""Systems that are told an action by the name of what was learned of it."""
CROPS = 12
"""Ways in which the one clip of an action is cropped, as in FlexiAct's training."""


@dataclass(frozen=True)
class Lesson:
    """One training of a system: what it learns from, and which of its weights move."""

    name: str
    data: DataSet
    weights: tuple[nn.Parameter, ...]


def system_for(name: str, backbone: Backbone, *, seed: int, tokens: int) -> Any:
    """An untrained conditioner, which is a module too. tokens: that FlexiAct learns in a block. Raises UnknownName."""
    if name not in SYSTEMS:
        raise UnknownName("system", name, SYSTEMS)
    return SYSTEMS[name](backbone, seed, tokens)


def lessons(
    name: str,
    system: Any,
    films: Sequence[Footage],
    clips: Sequence[Clip],
    codec: Codec,
    *,
    seed: int,
    references: int,
) -> Iterator[Lesson]:
    """What a system learns, one after the other. clips: those of the films; seed: chooses the one clip of an action."""
    if name not in LEARNED:
        # A prism's encoder has learned what films show before, and is left as it is.
        learner = system.listeners if name == "action_prism" else system
        yield Lesson(name, paired_set(films, clips, references), tuple(learner.parameters()))
        return
    for action in ACTIONS:
        shown = [film for film in films if film.label == action]
        film = shown[int(np.random.default_rng([seed, 51]).integers(len(shown)))]
        yield Lesson(action, _one_clip(film, codec, seed), (system.tokens.of(action),))


def _one_clip(film: Footage, codec: Codec, seed: int) -> DataSet:
    """One film, cropped in a dozen ways, each told by the name of its action."""
    clips = []
    for crop in range(CROPS):
        clip = clip_of(_cropped(film, np.random.default_rng([seed, 52, crop])), codec)
        told = replace(clip.prompt, motion=(film.label,))
        clips.append(Kept(replace(clip, prompt=told), f"{film.label}, {film.source}, crop {crop}"))
    return DataSet(film.label, tuple(clips))


def _cropped(film: Footage, rng: np.random.Generator) -> Footage:
    """A window of at least four fifths of the pictures, at their size."""
    side = film.frames.shape[1]
    window = int(rng.integers(4 * side // 5, side + 1))
    top, left = (int(rng.integers(side - window + 1)) for _ in range(2))
    part = film.frames[:, top : top + window, left : left + window].permute(0, 3, 1, 2).float()
    whole = F.interpolate(part, (side, side), mode="bilinear", align_corners=False)
    return replace(film, frames=whole.round().to(torch.uint8).permute(0, 2, 3, 1).contiguous())


def _action_prism(backbone: Backbone, seed: int, _tokens: int) -> Any:
    from vap_sim.models.conditioners.action_prism import ActionPrism

    return ActionPrism(
        backbone, preset="tiny", width=64, motion=64, layers=2, blocks=range(backbone.config.blocks), seed=seed
    )


def _video_as_prompt(backbone: Backbone, _seed: int, _tokens: int) -> Any:
    """Its cheapest form: experts in the first and the last block alone."""
    from vap_sim.models.conditioners.video_as_prompt import VideoAsPrompt

    return VideoAsPrompt(backbone, blocks="first_and_last")


def _flexiact(backbone: Backbone, _seed: int, tokens: int) -> Any:
    from vap_sim.models.conditioners.flexiact import FlexiAct

    return FlexiAct(backbone, dict.fromkeys(ACTIONS, tokens))


SYSTEMS: Mapping[str, Callable[[Backbone, int, int], Any]] = MappingProxyType(
    {"action_prism": _action_prism, "video_as_prompt": _video_as_prompt, "flexiact": _flexiact}
)
