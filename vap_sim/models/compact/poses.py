"""Where objects in space lie in each view: the one place from which all views take them, so that none contradicts
another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.models.compact.fusing import Opinions, displaced, fused_logit
from vap_sim.models.compact.geometry import NEAREST, Floats, eyes_of, likeness, responses, see
from vap_sim.models.compact.motion import MOVES_ABOVE

_GONE = -1e4  # [px] where an object behind a camera is said to be


@dataclass(frozen=True, eq=False)
class Placed:
    """The S objects of one row, seen by V views.

    position (S, 3) and stride (S, 3), their last displacement [m]; present (V, S) bool: the view has a cut-out of it.
    How a cut-out hangs on its object: grain (V, S, 3, 2) [m], the displacements across the view it was cut from that
    moved it by one pixel there; offset (V, S, 2) [px] of its middle from the object's there; spin (V, S) [rad], how far
    it has turned since by itself.
    """

    position: Floats
    stride: Floats
    present: NDArray[np.bool_]
    grain: Floats
    offset: Floats
    spin: Floats

    @classmethod
    def of(cls, context: Mapping[str, Tensor], row: int) -> Placed:
        """Those of a row of a state's context."""
        values = {name: context[name][row].cpu().numpy() for name in cls.__dataclass_fields__}
        numbers = {name: value.astype(np.float64) for name, value in values.items() if name != "present"}
        return cls(present=values["present"], **numbers)

    def context(self) -> dict[str, Tensor]:
        """As a state keeps it, one row."""
        return {
            name: torch.from_numpy(value if value.dtype == np.bool_ else value.astype(np.float32))[None]
            for name, value in vars(self).items()
        }

    def kept(self) -> Placed:
        """As it is after a state has kept it: numbers of single precision."""
        return Placed.of(self.context(), 0)

    def poses(self, projections: Floats) -> tuple[Floats, Floats, Floats]:
        """Centre (V, S, 2) [px] and turn (V, S, 2), as `Slots` has them, and depth (V, S) [m] under projections
        (V, 3, 4)."""
        seen = projections[:, None]
        xy, depth = see(seen, self.position)
        turn = likeness(responses(seen, self.position)[..., :2, :] @ self.grain)
        turn = _times(turn, np.stack([np.cos(self.spin), np.sin(self.spin)], axis=-1))
        centre = xy + _times(turn, self.offset)
        behind = (depth <= NEAREST)[..., None]
        return np.where(behind, _GONE, centre), np.where(behind, [1.0, 0.0], turn), depth

    def drift(self, projections: Floats) -> Floats:
        """How far objects went in their last step, in pixels of views (V, 3, 4): (V, S, 2)."""
        seen = projections[:, None]
        return see(seen, self.position)[0] - see(seen, self.position - self.stride)[0]

    def moved(self, projections: Floats, told: Opinions, heard: NDArray[np.bool_]) -> tuple[Placed, NDArray[np.bool_]]:
        """A step on, and which objects (S,) moved.

        told: what views say of objects: shift (V, S, 2), twist (V, S, 2) turn [rad] and log of growth, logit (V, S).
        heard: (V, S), whose words count."""
        position, stride, spin = self.position.copy(), np.zeros_like(self.stride), self.spin.copy()
        went = np.zeros(len(position), np.bool_)
        for one in range(len(position)):
            views = np.flatnonzero(heard[:, one])
            if not len(views) or fused_logit(told.logit[views, one]) <= MOVES_ABOVE:
                continue
            here = Opinions(told.shift[views, one], told.twist[views, one], told.logit[views, one])
            position[one] = displaced(projections[views], self.position[one], here)
            stride[one], went[one] = position[one] - self.position[one], True
            spin[views, one] += told.twist[views, one, 0]
        return replace(self, position=position, stride=stride, spin=spin), went

    def touched(self, projections: Floats, shift: Floats, turn: Floats, went: NDArray[np.bool_]) -> Placed:
        """A step on, in which the objects that `went` (S,) names went by shift (S, 3) [m] and turned by rotation
        vectors (S, 3) [rad]: of that, what is about a view's line of sight is seen."""
        moved = np.where(went[:, None], shift, 0.0)
        sight = self.position - eyes_of(projections)[:, None]
        sight = sight / np.maximum(np.linalg.norm(sight, axis=-1, keepdims=True), 1e-9)
        spin = self.spin + np.where(went, (sight * turn).sum(-1), 0.0)
        return replace(self, position=self.position + moved, stride=moved, spin=spin)


def _times(a: Floats, b: Floats) -> Floats:
    """The product of complex numbers (..., 2)."""
    real = a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1]
    return np.stack([real, a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]], axis=-1)
