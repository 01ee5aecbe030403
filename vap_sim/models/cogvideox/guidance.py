"""Classifier-free guidance over text and control: which passes a step takes, and how their predictions are mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from vap_sim.errors import InvalidInput


@dataclass(frozen=True)
class Branch:
    """One pass: whether it reads the caption (else the empty one) and whether the conditioners speak in it."""

    text: bool
    control: bool

    @property
    def name(self) -> str:
        """How a state's tensors are named that belong to this pass."""
        return ("text" if self.text else "plain") + ("" if self.control else "_alone")


@dataclass(frozen=True)
class Guidance:
    """How strongly text and control are obeyed; 1 is what the model predicts by itself and costs one pass.

    Without anything e(), with control e(c), with both e(c, t), the mix is e() + control (e(c) - e()) + text (e(c, t) -
    e(c)). With control 1 it is that of diffusers' pipelines. dynamic: the text's scale follows diffusers'
    `use_dynamic_cfg`. Raises InvalidInput.
    """

    text: float = 1.0
    control: float = 1.0
    dynamic: bool = False

    def __post_init__(self) -> None:
        for name in ("text", "control"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
                raise InvalidInput(f"guidance of {name}", value, "a number from 0 to 100, 1 for none")
        if self.dynamic and self.text == 1:
            raise InvalidInput("dynamic guidance", "a guidance of text of 1, which is none", "another one")

    @property
    def branches(self) -> tuple[Branch, ...]:
        """The passes of a step, the complete one first."""
        full = [Branch(True, True)]
        if self.text != 1:
            full.append(Branch(False, True))
        if self.control != 1:
            full.append(Branch(self.text == 1, False))
        return tuple(full)

    def mix(self, predictions: Sequence[Tensor], text: float | None = None) -> Tensor:
        """One prediction of those of `branches`. text: its scale now, where it is dynamic."""
        if len(predictions) == 1:
            return predictions[0]
        scale = self.text if text is None else text
        if self.text == 1:
            factors = [self.control, 1 - self.control]
        elif self.control == 1:
            factors = [scale, 1 - scale]
        else:
            factors = [scale, self.control - scale, 1 - self.control]
        mixed = factors[0] * predictions[0]
        for factor, one in zip(factors[1:], predictions[1:], strict=True):
            mixed = mixed + factor * one
        return mixed
