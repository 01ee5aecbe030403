"""What a planner wants: costs of imagined futures, lower is better, that can be weighed and added.

An objective says which pictures it must see, so that a world decodes no others. It gives one finite number a future;
what cannot be judged has a cost that the user states, or raises, and is never silently not a number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.imagination import PICTURES, Imagined
from vap_sim.policies.sight import Sight, points_at_height
from vap_sim.robots.camera import Camera

Floats = NDArray[np.float64]


class Objective(Protocol):
    """A cost of futures."""

    @property
    def pictures(self) -> str:
        """What of `Imagined.frames` it looks at: "none", "last" or "all"."""
        ...

    def cost(self, imagined: Imagined) -> Floats:
        """The costs (b,) of b futures."""
        ...


def costs(objective: Objective, imagined: Imagined) -> Floats:
    """The costs (b,) of futures. Raises InvalidInput naming the objective whose costs are not b finite numbers."""
    values = np.asarray(objective.cost(imagined), np.float64)
    name = type(objective).__name__
    if values.shape != (len(imagined),):
        raise InvalidInput(f"costs of {name}", f"shape {values.shape}", f"({len(imagined)},), one a future")
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise InvalidInput(f"cost of {name} for future {row}", values[row], "a finite number")
    return values


@dataclass(frozen=True, eq=False)
class Weighted:
    """A weighted sum of objectives: `Weighted((1.0, ToolAt(...)), (0.1, Smooth()))`, weights finite."""

    terms: tuple[tuple[float, Objective], ...]

    def __init__(self, *terms: tuple[float, Objective]) -> None:
        if not terms or not all(np.isfinite(weight) for weight, _ in terms):
            raise InvalidInput("terms of an objective", [weight for weight, _ in terms], "finite weights, at least one")
        object.__setattr__(self, "terms", terms)

    @property
    def pictures(self) -> str:
        """The most that a term looks at."""
        return PICTURES[max(PICTURES.index(term.pictures) for _, term in self.terms)]

    def cost(self, imagined: Imagined) -> Floats:
        return np.asarray(np.sum([weight * costs(term, imagined) for weight, term in self.terms], axis=0))


@dataclass(frozen=True, eq=False)
class GoalImage:
    """How far the last picture is from a goal picture.

    goal: (H, W, 3) uint8 RGB; mask: (H, W) bool, where they are compared, everywhere if None; view: which camera;
    features: from pictures (n, H, W, 3) uint8 to features (n, ...) floats, whose mean squared difference is the cost
    (then without mask); by default the mean absolute difference of pixels, from 0 to 1.
    """

    goal: Tensor
    mask: Tensor | None = None
    view: int = 0
    features: Callable[[Tensor], Tensor] | None = None
    pictures: str = "last"

    def __post_init__(self) -> None:
        goal, mask = self.goal, self.mask
        if goal.dtype != torch.uint8 or goal.ndim != 3 or goal.shape[-1] != 3:
            raise InvalidInput("goal picture", f"{goal.dtype} {tuple(goal.shape)}", "torch.uint8 (H, W, 3)")
        if mask is not None and (mask.dtype != torch.bool or mask.shape != goal.shape[:2] or not bool(mask.any())):
            given = f"{mask.dtype} {tuple(mask.shape)}"
            raise InvalidInput("mask of a goal picture", given, f"torch.bool {tuple(goal.shape[:2])}, somewhere True")
        if mask is not None and self.features is not None:
            raise InvalidInput("goal picture", "a mask and features", "one of the two: features see whole pictures")

    def cost(self, imagined: Imagined) -> Floats:
        last = last_pictures(imagined, self.view)
        if last.shape[1:] != self.goal.shape:
            raise InvalidInput("goal picture", tuple(self.goal.shape), f"{tuple(last.shape[1:])}, as pictures are")
        if self.features is not None:
            both = self.features(torch.cat([self.goal[None], last])).double().flatten(1)
            return np.asarray((both[1:] - both[:1]).square().mean(1).numpy())
        apart = (last.short() - self.goal.short()).abs().double().mean(-1) / 255
        flat = apart.flatten(1) if self.mask is None else apart[:, self.mask]
        return np.asarray(flat.mean(1).numpy())


@dataclass(frozen=True, eq=False)
class Judged:
    """What a judge thinks of the last picture: 1 minus the success that it sees.

    judge: from pictures (n, H, W, 3) uint8 to success (n,) in [0, 1], not-a-number where it cannot tell; unknown: the
    cost of those, None to refuse them by InvalidInput.
    """

    judge: Callable[[Tensor], NDArray[np.floating] | Tensor]
    unknown: float | None = None
    view: int = 0
    pictures: str = "last"

    def cost(self, imagined: Imagined) -> Floats:
        verdict = np.asarray(self.judge(last_pictures(imagined, self.view)), np.float64)
        if self.unknown is not None:
            return np.where(np.isnan(verdict), self.unknown, 1 - verdict)
        return 1 - verdict


@dataclass(frozen=True, eq=False)
class ToolAt:
    """How far the tool ends from a pose: distance [m], plus `turn_weight` [m/rad] times the angle to a rotation.

    position: (3,) [m]; rotation: (3, 3) R_base_tool, or None for any; along: share (0 to 1) of the mean over the whole
    way instead of its end, which rewards coming early.
    """

    position: Floats
    rotation: Floats | None = None
    turn_weight: float = 0.1
    along: float = 0.0
    pictures: str = "none"

    def cost(self, imagined: Imagined) -> Floats:
        apart = np.linalg.norm(imagined.tool[:, :, :3, 3] - np.asarray(self.position), axis=-1)
        if self.rotation is not None:
            traces = np.einsum("btij,ij->bt", imagined.tool[:, :, :3, :3], np.asarray(self.rotation))
            apart = apart + self.turn_weight * np.arccos(np.clip((traces - 1) / 2, -1, 1))
        return np.asarray((1 - self.along) * apart[:, -1] + self.along * apart.mean(1))


@dataclass(frozen=True, eq=False)
class JointsAt:
    """Root mean square distance of the last joints from `joints` (J,) [rad or m]; `weights` (J,), even if None."""

    joints: Floats
    weights: Floats | None = None
    pictures: str = "none"

    def cost(self, imagined: Imagined) -> Floats:
        weights = np.ones(len(self.joints)) if self.weights is None else np.asarray(self.weights)
        square = np.square(imagined.joints[:, -1] - self.joints) @ weights / weights.sum()
        return np.asarray(np.sqrt(square))


@dataclass(frozen=True)
class ToolAbove:
    """How deep the tool dips below `height` above the table [m], at the worst of all actions; 0 where it never does."""

    height: float
    pictures: str = "none"

    def cost(self, imagined: Imagined) -> Floats:
        return np.asarray(np.maximum(self.height - imagined.tool[:, :, 2, 3], 0.0).max(1))


@dataclass(frozen=True)
class Smooth:
    """Root mean square of how much the joints' motion changes from one action to the next [rad or m]."""

    pictures: str = "none"

    def cost(self, imagined: Imagined) -> Floats:
        if imagined.joints.shape[1] < 3:
            raise InvalidInput("futures to be smooth", f"{imagined.joints.shape[1]} actions", "at least 3")
        return np.asarray(np.sqrt(np.square(np.diff(imagined.joints, n=2, axis=1)).mean((1, 2))))


@dataclass(frozen=True, eq=False)
class ObjectAt:
    """How far on the table [m] an object lies from a goal in the last picture, by the camera.

    sight: finds the object; camera: single, fixed; goal: x, y [m]; height: of the object's middle above the table [m];
    lost: the cost of a future at whose end the object is not seen [m].
    """

    sight: Sight
    camera: Camera
    goal: tuple[float, float]
    height: float = 0.03
    lost: float = 1.0
    view: int = 0
    pictures: str = "last"

    def cost(self, imagined: Imagined) -> Floats:
        middles, seen = self.sight.find(last_pictures(imagined, self.view))
        out = np.full(len(middles), self.lost)
        out[seen] = np.linalg.norm(points_at_height(middles[seen], self.camera, self.height) - self.goal, axis=1)
        return out


@dataclass(frozen=True, eq=False)
class ObjectInPicture:
    """How far in the last picture an object's middle lies from the pixel `goal` (x, y), in widths of the picture.

    Needs no calibrated camera. sight, lost, view: as in `ObjectAt`.
    """

    sight: Sight
    goal: tuple[float, float]
    lost: float = 1.0
    view: int = 0
    pictures: str = "last"

    def cost(self, imagined: Imagined) -> Floats:
        last = last_pictures(imagined, self.view)
        middles, seen = self.sight.find(last)
        return np.where(seen, np.linalg.norm(middles - self.goal, axis=1) / last.shape[2], self.lost)


def last_pictures(imagined: Imagined, view: int = 0) -> Tensor:
    """The last pictures (b, H, W, 3) of one camera. Raises InvalidInput for futures without pictures or such a view."""
    if imagined.frames is None:
        raise InvalidInput("futures", "no pictures", 'pictures: imagine(..., pictures="last")')
    if not 0 <= view < imagined.frames.shape[1]:
        raise InvalidInput("view of an objective", view, f"0 to {imagined.frames.shape[1] - 1}")
    return imagined.frames[:, view, -1]
