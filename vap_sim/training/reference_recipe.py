"""The recipe of models that are shown an action: pairs in the one loop, and the published settings of three papers.

A pair enters `DiffusionRecipe` like any clip, its demonstration in the prompt. What a conditioner is not shown in a
share of rows is the recipe's `control`, so a dropped demonstration adds nothing; this module adds captions that fall
away together with those of the demonstration, as guidance over text needs them where both are blank in its plain pass.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from torch import Tensor

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.cogvideox.text import UNCONDITIONAL
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt
from vap_sim.training.diffusion import Batch, DiffusionRecipe, DiffusionTraining
from vap_sim.training.loop import LoopSettings
from vap_sim.training.reference_clips import PairSettings


class ReferenceRecipe(DiffusionRecipe):
    """`DiffusionRecipe` on pairs. together: where a row's caption is left out, so are those of its demonstrations."""

    def __init__(self, *parts: Any, together: bool = False, **options: Any) -> None:
        """parts, options: as of `DiffusionRecipe`. Raises InvalidInput for clips without demonstration."""
        super().__init__(*parts, **options)
        self.together = together
        if self.data[0].clips[0].load().prompt.reference is None:
            raise InvalidInput(f"clips of {self.data[0].name!r}", "no demonstration in their prompts", "pairs")

    def describe(self) -> Mapping[str, Any]:
        """See the protocol."""
        return {**super().describe(), "part": "diffusion of pairs", "together": self.together}

    def batch(self, rows: Sequence[int]) -> Batch:
        """What the rows of these numbers show, on the team's device."""
        batch = super().batch(rows)
        if not self.together:
            return batch
        blank = (batch.text == self.text.encode([UNCONDITIONAL]).to(batch.text)).flatten(1).all(1)
        return replace(batch, prompt=without_captions(batch.prompt, blank))


def without_captions(prompt: VisualPrompt, rows: Tensor) -> VisualPrompt:
    """The same, but in the given rows, (b,) bool, captions are empty: the prompt's and those of its demonstrations."""
    clip = prompt.reference
    if clip is not None:
        each = [ReferenceClip(one.frames, _blank(one.text, rows)) for one in clip.each]
        clip = replace(each[0], more=tuple(each[1:]))
    return replace(prompt, text=_blank(prompt.text, rows), reference=clip)


def _blank(texts: tuple[str, ...] | None, rows: Tensor) -> tuple[str, ...] | None:
    if texts is None:
        return None
    return tuple(UNCONDITIONAL if row else text for text, row in zip(texts, rows.tolist(), strict=True))


@dataclass(frozen=True)
class ReferencePreset:
    """How a paper trained its system, as settings of this package.

    source: where they are from; training, pairs: of the recipe and of its clips; together: see `ReferenceRecipe`;
    references: demonstrations of a target to choose from; rows: of a step, over all processes; loop: values of
    `LoopSettings`; steps: of training, or None where the paper does not say; frozen: what is not trained; otherwise:
    what it does that these settings do not, or do in another way.
    """

    source: str
    training: DiffusionTraining
    pairs: PairSettings
    references: int
    rows: int
    steps: int | None
    frozen: str
    together: bool = False
    loop: Mapping[str, Any] = field(default_factory=dict)
    otherwise: tuple[str, ...] = ()

    def loop_settings(self, folder: Path, steps: int | None = None, **changes: Any) -> LoopSettings:
        """For the loop. steps: where the paper does not say, or to train for another time, over which the learning
        rate then falls. Raises InvalidInput where neither says."""
        count = self.steps if steps is None else steps
        if count is None:
            raise InvalidInput("steps of training", None, f"a number of steps: {self.source} does not say")
        values = {name: count if value == "all" else value for name, value in self.loop.items()}
        return LoopSettings(folder, count, **{**values, **changes})


_BARE = DiffusionTraining(region=1.0, caption=0.0, control=0.0, image=0.0, noisy_image=False)

PRESETS: Mapping[str, ReferencePreset] = MappingProxyType(
    {
        "action_prism": ReferencePreset(
            source="AICL (arXiv 2403.11535), the code of its first version",
            training=replace(_BARE, batch=4, caption=0.1),
            pairs=PairSettings(frames=17),
            references=1,
            rows=16,
            steps=None,
            frozen="the backbone",
            loop={
                "learning_rate": 1e-4,
                "weight_decay": 0.03,
                "betas": (0.9, 0.9),
                "warmup": 0,
                "checkpoint_every": 1500,
            },
            otherwise=(
                "its host is a U-Net of 16 frames at 256 x 256 that predicts noise; here 17 frames, and the velocity",
                "its share of blank captions is not known; 0.1 is usual. The demonstration's are never left out",
                "16-bit floats with loss scaling there",
            ),
        ),
        "video_as_prompt": ReferencePreset(
            source="Video-As-Prompt (arXiv 2510.20888), table 3 and the released code, on CogVideoX-5B-I2V",
            training=replace(_BARE, caption=0.02, precision="bf16"),
            pairs=PairSettings(frames=49, size=(720, 480)),
            references=10,
            rows=48,
            steps=20_000,
            frozen="the backbone",
            together=True,
            loop={"learning_rate": 1e-5, "weight_decay": 1e-4, "betas": (0.9, 0.99), "warmup": 1000, "clip": 1.0},
            otherwise=(
                "the demonstration is never left out there; training with control above 0 is an option of this package",
                "its table is cut to a multiple of 48 rows there; here every row is seen",
            ),
        ),
        "flexiact_adapter": ReferencePreset(
            source="FlexiAct (arXiv 2505.03730) and its code, the RefAdapter",
            training=replace(_BARE, caption=0.1, image=0.05, precision="bf16"),
            pairs=PairSettings(frames=49, size=(720, 480)),
            references=1,
            rows=8,
            steps=40_000,
            frozen="all but the LoRA of every attention",
            loop={"learning_rate": 1e-5, "weight_decay": 1e-4, "betas": (0.9, 0.95), "warmup": 0, "cooldown": "all"},
            otherwise=("see `vap_sim.training.flexiact`, whose recipe also lets any frame of a film be its first",),
        ),
        "flexiact_tokens": ReferencePreset(
            source="FlexiAct (arXiv 2505.03730) and its code, the tokens of one action",
            training=replace(_BARE, caption=0.1, image=0.05, precision="bf16"),
            pairs=PairSettings(frames=49, size=(720, 480)),
            references=1,
            rows=1,
            steps=3_000,
            frozen="all but the tokens; the adapter is off",
            loop={"learning_rate": 3e-3, "weight_decay": 1e-4, "betas": (0.9, 0.95), "warmup": 0, "cooldown": "all"},
            otherwise=("see `vap_sim.training.flexiact`, whose recipe has the loss' second term and the twelve crops",),
        ),
    }
)


def reference_preset(name: str) -> ReferencePreset:
    """The published settings of a system: a name of `PRESETS`. Raises UnknownName."""
    if name not in PRESETS:
        raise UnknownName("preset of training with demonstrations", name, PRESETS)
    return PRESETS[name]
