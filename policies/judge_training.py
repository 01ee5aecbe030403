"""The recipe of the judge's eyes: windows of pictures, and what is to be measured in them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.policies.judge_finding import color_likeness
from vap_sim.policies.judge_looking import whiteness
from vap_sim.policies.judge_network import WINDOW, Eye, JudgeNet, Sighting, Views

SHIFT = 4
"""Pixels by which a window is moved aside at most, so that an eye does not learn where proposals use to lie."""
WIDE = WINDOW + 2 * SHIFT
_FARTHEST = 0.08  # [m] larger errors are those of proposals, which an eye cannot mend
_SIZE_UNIT = 0.005  # [m]


@dataclass(frozen=True, eq=False)
class Lessons:
    """n things to measure: wide (n, 3, WIDE, WIDE) uint8 windows about proposals; middles, strength, intrinsics and
    poses as in `Views`; colors (n, 3) that are looked for; places (n, 2) and size (n,) [m], NaN where not known."""

    wide: Tensor
    middles: Tensor
    strength: Tensor
    intrinsics: Tensor
    poses: Tensor
    colors: Tensor
    places: Tensor
    size: Tensor

    def __len__(self) -> int:
        return len(self.size)

    def rows(self, rows: Tensor) -> Lessons:
        """The chosen ones."""
        return Lessons(**{item.name: getattr(self, item.name)[rows] for item in fields(Lessons)})

    @staticmethod
    def cat(parts: Iterable[Lessons]) -> Lessons:
        """All of several."""
        every = list(parts)
        return Lessons(
            **{item.name: torch.cat([getattr(part, item.name) for part in every]) for item in fields(Lessons)}
        )

    def views(self, shift: Tensor | None = None, rgb: Tensor | None = None, *, flat: bool) -> Views:
        """What an eye sees of them. shift (n, 2) whole pixels x, y within SHIFT; rgb: other colours of the windows."""
        moved = torch.zeros(len(self), 2, dtype=torch.long) if shift is None else shift
        wide = self.wide.float() / 255 if rgb is None else rgb
        like = whiteness(wide) if flat else color_likeness(wide, self.colors)[:, None]
        planes = torch.cat([wide, like], dim=1)
        span = torch.arange(WINDOW) + SHIFT
        down = (span + moved[:, 1:])[:, None, :, None]
        across = (span + moved[:, :1])[:, None, None, :]
        rows, channels = torch.arange(len(self))[:, None, None, None], torch.arange(4)[None, :, None, None]
        return Views(
            planes[rows, channels, down, across],
            self.middles + moved,
            self.strength,
            self.intrinsics,
            self.poses,
        )


@dataclass(frozen=True)
class JudgeTraining:
    """Settings of the recipe: windows of objects and of goals in a batch, and what an error of size counts."""

    seed: int = 0
    objects: int = 96
    goals: int = 24
    size: float = 0.5


class JudgeRecipe:
    """Feeds `vap_sim.training.loop.train` with batches of lessons for both eyes, in other light and framing each time.

    kinds: lessons about objects of several origins; each batch takes as many of each."""

    def __init__(self, network: JudgeNet, kinds: list[Lessons], goals: Lessons, training: JudgeTraining) -> None:
        self.network, self.kinds, self.goals, self.training = network, kinds, goals, training

    def describe(self) -> Mapping[str, Any]:
        """Settings, and how much there is to learn from."""
        network = {name: _plain(value) for name, value in asdict(self.network.config).items()}
        return {
            **asdict(self.training),
            "network": network,
            "lessons": [len(kind) for kind in (*self.kinds, self.goals)],
        }

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Loss of one batch and its terms."""
        rng = np.random.default_rng([self.training.seed, step])
        share = self.training.objects // len(self.kinds)
        objects = Lessons.cat(_drawn(kind, share, rng) for kind in self.kinds)
        goals = _drawn(self.goals, self.training.goals, rng)
        of_objects = measured(self.network.object_eye, objects, rng, self.training.size)
        of_goals = measured(self.network.goal_eye, goals, rng, self.training.size)
        return of_objects + of_goals, {"objects": of_objects.detach(), "goals": of_goals.detach()}

    def preview(self, step: int) -> Mapping[str, Tensor]:
        """Nothing to look at."""
        return {}


def measured(eye: Eye, lessons: Lessons, rng: np.random.Generator, size: float) -> Tensor:
    """The loss of an eye on lessons that are shown to it in another light, framing, and half of them mirrored."""
    count = len(lessons)
    shift = torch.from_numpy(rng.integers(-SHIFT, SHIFT + 1, (count, 2)))
    mirrored = torch.from_numpy(rng.random(count) < 0.5)
    views = lessons.views(shift, relit(lessons.wide, rng), flat=eye.flat)
    views = replace(views, strength=(views.strength + torch.from_numpy(rng.normal(0, 0.03, count)).float()).clamp(0, 1))
    return sighting_loss(eye(views, mirrored), lessons, size)


def sighting_loss(sighting: Sighting, lessons: Lessons, size: float) -> Tensor:
    """Laplace's negative log likelihood of places, in which the spread is what the eye expects to be wrong by, and a
    Huber loss of sizes; over what is known."""
    known, sized = torch.isfinite(lessons.places).all(-1), torch.isfinite(lessons.size)
    off = (sighting.places - torch.nan_to_num(lessons.places)).square().sum(-1).add(1e-8).sqrt().clamp_max(_FARTHEST)
    place = 2 * (sighting.spread / 0.005).log() + 2 * off / sighting.spread
    bulk = F.smooth_l1_loss(sighting.size / _SIZE_UNIT, torch.nan_to_num(lessons.size) / _SIZE_UNIT, reduction="none")
    return (place * known).sum() / known.sum().clamp_min(1) + size * (bulk * sized).sum() / sized.sum().clamp_min(1)


def relit(wide: Tensor, rng: np.random.Generator) -> Tensor:
    """Windows (n, 3, S, S) uint8 as levels in [0, 1] with another gain, tint and noise."""
    count = len(wide)
    gain = 1 + rng.normal(0, 0.06, (count, 1, 1, 1)) + rng.normal(0, 0.02, (count, 3, 1, 1))
    noise = torch.from_numpy(rng.uniform(0, 0.02, (count, 1, 1, 1))).float()
    rough = torch.randn(wide.shape, generator=torch.Generator().manual_seed(int(rng.integers(2**62))))
    return (wide.float() / 255 * torch.from_numpy(gain).float() + noise * rough).clamp(0, 1)


def _drawn(lessons: Lessons, count: int, rng: np.random.Generator) -> Lessons:
    return lessons.rows(torch.from_numpy(rng.integers(len(lessons), size=count)))


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
