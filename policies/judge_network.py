"""The eyes of the learned judge: small networks that measure where an object or a goal disc is, and how surely.

An eye looks at a window of a picture and says where in it the middle of the thing is, how large the thing is, and by
how much it expects to be wrong. The calibrated camera turns that into a place on the table. Whether a task is done
follows from such measures alone (`judge_margins`), so there is nothing else in which a network could take a shortcut.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WINDOW = 32
"""Pixels along a side of what an eye sees, of a picture HEIGHT pixels high."""
HEIGHT = 128
CHANNELS = 4
"""What an eye sees: red, green, blue, and likeness to what it looks for."""
_OFFSET, _SIZE, _SPREAD = 4.0, 0.06, 0.005  # units of what an eye says: [px], [m], [m]
_LEAST_SPREAD = 5e-4  # [m]
_STANDS, _PER_METRE, _LEAST_FALL = 0.03, 170.0, 0.1


@dataclass(frozen=True)
class JudgeConfig:
    """Channels of an eye's levels, and hidden units above them."""

    widths: tuple[int, ...] = (16, 32, 48, 64)
    hidden: int = 96


@dataclass(frozen=True, eq=False)
class Views:
    """n windows of pictures that are HEIGHT pixels high.

    windows (n, CHANNELS, WINDOW, WINDOW) in [0, 1]; middles (n, 2) x, y [px] of the windows; strength (n,) of the finds
    they lie about; intrinsics (n, 3, 3) [px] and poses (n, 4, 4) of the cameras.
    """

    windows: Tensor
    middles: Tensor
    strength: Tensor
    intrinsics: Tensor
    poses: Tensor

    def __len__(self) -> int:
        return len(self.middles)

    @staticmethod
    def cat(parts: Iterable[Views]) -> Views:
        """All windows of several."""
        every = list(parts)
        return Views(**{item.name: torch.cat([getattr(part, item.name) for part in every]) for item in fields(Views)})


@dataclass(frozen=True, eq=False)
class Sighting:
    """What an eye measures in n windows: places (n, 2) [m] on the table; size (n,) [m], the height of an object or the
    radius of a disc; spread (n,) [m], by how much it expects the place to be wrong."""

    places: Tensor
    size: Tensor
    spread: Tensor

    def __len__(self) -> int:
        return len(self.size)

    def rows(self, rows: slice | Tensor) -> Sighting:
        """The chosen ones."""
        return Sighting(self.places[rows], self.size[rows], self.spread[rows])

    @staticmethod
    def cat(parts: Iterable[Sighting]) -> Sighting:
        """All of several."""
        every = list(parts)
        names = ("places", "size", "spread")
        return Sighting(**{name: torch.cat([getattr(part, name) for part in every]) for name in names})


def to_table(pixels: Tensor, height: Tensor, intrinsics: Tensor, poses: Tensor) -> Tensor:
    """Points (n, 2) [m] at `height` (n,) above the table that are seen at `pixels` (n, 2).

    Rays that do not fall are bent down a little, so that every pixel has a place."""
    focal, middle = intrinsics[:, [0, 1], [0, 1]], intrinsics[:, :2, 2]
    rays = F.pad((pixels - middle) / focal, (0, 1), value=1.0)
    rays = (poses[:, :3, :3] @ rays[:, :, None])[:, :, 0]
    fall = (-rays[:, 2]).clamp_min(_LEAST_FALL)
    return poses[:, :2, 3] + rays[:, :2] * ((poses[:, 2, 3] - height) / fall)[:, None]


class Eye(nn.Module):
    """Measures one kind of thing: an object, seen at half of its height, or (`flat`) a disc on the table."""

    def __init__(self, config: JudgeConfig, *, flat: bool) -> None:
        super().__init__()
        self.flat = flat
        widths = (CHANNELS, *config.widths)
        self.levels = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=1 if level == 0 else 2, padding=1)
            for level, (a, b) in enumerate(zip(widths, widths[1:], strict=False))
        )
        side = WINDOW // 2 ** (len(config.widths) - 1)
        self.gather = nn.Linear(widths[-1] * side * side + 3, config.hidden)
        self.out = nn.Linear(config.hidden, 4)

    def forward(self, views: Views, mirrored: Tensor | None = None) -> Sighting:
        """What is seen. mirrored (n,) bool: look at these windows in a mirror, which changes nothing but the view."""
        windows = views.windows
        if mirrored is not None:
            windows = torch.where(mirrored[:, None, None, None], windows.flip(-1), windows)
        x = windows * 2 - 1
        for level in self.levels:
            x = F.silu(level(x))
        x = F.silu(self.gather(torch.cat([x.flatten(1), _viewed_from(views)], dim=1)))
        offset, size, spread = self.out(x).split([2, 1, 1], dim=1)
        if mirrored is not None:
            offset = torch.stack([torch.where(mirrored, -offset[:, 0], offset[:, 0]), offset[:, 1]], dim=1)
        size, spread = F.softplus(size[:, 0] + 0.54) * _SIZE, F.softplus(spread[:, 0] + 0.54) * _SPREAD + _LEAST_SPREAD
        height = torch.zeros_like(size) if self.flat else size / 2
        places = to_table(views.middles + _OFFSET * offset, height, views.intrinsics, views.poses)
        return Sighting(places, size, spread)


class JudgeNet(nn.Module):
    """An eye for objects and an eye for goal discs."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.object_eye, self.goal_eye = Eye(config, flat=False), Eye(config, flat=True)


def _viewed_from(views: Views) -> Tensor:
    """(n, 3) numbers of about unit size: pixels a metre there, steepness of the view, strength of the find."""
    there = to_table(views.middles, torch.full_like(views.strength, _STANDS), views.intrinsics, views.poses)
    eye = views.poses[:, :3, 3]
    far = (eye - F.pad(there, (0, 1), value=_STANDS)).norm(dim=1).clamp_min(0.05)
    scale = views.intrinsics[:, 0, 0] / far / _PER_METRE - 1
    return torch.stack([3 * scale, 4 * eye[:, 2] / far - 2, 2 * views.strength - 1], dim=1)
