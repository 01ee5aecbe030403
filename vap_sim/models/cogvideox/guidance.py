"""Classifier-free guidance: which passes a step takes, and how their predictions are mixed.

What can be guided stands in a row: control (what is drawn or numbered), the reference (a demonstration), text. Each has
a scale; those of scale 1 speak in every pass, the others join one after the other, each amplified by its scale. Where
the reference has none of its own, it is part of control.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from vap_sim.errors import InvalidInput

_ROW = ("control", "reference", "text")


@dataclass(frozen=True)
class Branch:
    """One pass: whether it reads the caption (else the empty one), whether the conditioners speak in it (control), and
    where the reference has a scale of its own, whether those that are told by demonstrations do."""

    text: bool
    control: bool
    reference: bool = True

    @property
    def name(self) -> str:
        """How a state's tensors are named that belong to this pass."""
        silent = ("" if self.control else "_alone") + ("" if self.reference else "_unshown")
        return ("text" if self.text else "plain") + silent


@dataclass(frozen=True)
class Guidance:
    """How strongly text, control and reference are obeyed; 1 is what the model predicts by itself and costs no pass.

    Without anything e(), with control e(c), with both e(c, t), the mix is e() + control (e(c) - e()) + text (e(c, t) -
    e(c)); a reference r stands between: reference (e(c, r) - e(c)). With the others 1 that of text is diffusers' own.
    The released Video-As-Prompt shows the demonstration in every pass (arXiv 2510.20888), so that no guidance amplifies
    it; that of the reference here does, against the model as it is without. dynamic: the text's scale follows
    diffusers' `use_dynamic_cfg`. Raises InvalidInput.
    """

    text: float = 1.0
    control: float = 1.0
    dynamic: bool = False
    reference: float = 1.0

    def __post_init__(self) -> None:
        for name in ("text", "control", "reference"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
                raise InvalidInput(f"guidance of {name}", value, "a number from 0 to 100, 1 for none")
        if self.dynamic and self.text == 1:
            raise InvalidInput("dynamic guidance", "a guidance of text of 1, which is none", "another one")

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The passes of a step, the complete one first, each with one thing less than the one before."""
        passes = [Branch(True, True, True)]
        for name in reversed(self._guided):
            passes.append(replace(passes[-1], **{name: False}))
        return tuple(passes)

    def mix(self, predictions: Sequence[Tensor], text: float | None = None) -> Tensor:
        """One prediction of those of `branches`. text: its scale now, where it is dynamic."""
        now = self if text is None else replace(self, text=text, dynamic=False)
        scales = [float(getattr(now, name)) for name in reversed(self._guided)]
        if not scales:
            return predictions[0]
        # Each prediction comes with the scale of what joined last in it, less that of what joins next.
        factors = [scales[0], *(after - before for before, after in zip(scales, [*scales[1:], 1.0], strict=True))]
        mixed = factors[0] * predictions[0]
        for factor, one in zip(factors[1:], predictions[1:], strict=True):
            mixed = mixed + factor * one
        return mixed

    @property
    def _guided(self) -> list[str]:
        return [name for name in _ROW if getattr(self, name) != 1]
