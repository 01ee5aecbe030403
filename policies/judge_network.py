"""The network of the learned judge: two small eyes that look closely at object and goal, and a head over measures.

The eyes say where object and goal exactly are and how large. The answer rests on the measures in which the tasks
themselves are stated (how far from the goal, how fast, is the gripper open, where is the tool) and on what the eyes
saw.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.nn import functional as F

TASKS = ("reach", "push", "pick_place")
"""The tasks that the learned judge knows."""
LOOKS = ("first", "before", "now")
"""The object is looked at in the first, the last but one and the last picture; the goal only in the first."""
WINDOW = 24
"""Cells of the table map along a side of what an eye sees."""
CHANNELS = 5
"""What an eye sees: red, green, blue, likeness to the named colour, silhouette of the robot."""
INTERVAL = 0.2
"""Seconds between the last two pictures."""


@dataclass(frozen=True)
class JudgeConfig:
    """Channels of an eye's levels, numbers that an eye passes on, and hidden units of the head."""

    widths: tuple[int, ...] = (20, 32, 48)
    features: int = 16
    hidden: int = 64


@dataclass(frozen=True, eq=False)
class Asked:
    """What b questions rest on.

    windows: (b, 4, CHANNELS, WINDOW, WINDOW) in [0, 1], about the object in LOOKS and about the goal; middles (b, 4, 2)
    [m] of the windows; strength (b, 4) of the finds; lean (b, 4, 2) parallax there; tool (b, 3) [m]; gripper (b,) 0
    open .. 1 closed; task (b,) int64, numbers into TASKS.
    """

    windows: Tensor
    middles: Tensor
    strength: Tensor
    lean: Tensor
    tool: Tensor
    gripper: Tensor
    task: Tensor

    def __len__(self) -> int:
        return len(self.task)

    def rows(self, rows: Tensor) -> Asked:
        """The chosen questions."""
        return Asked(**{field.name: getattr(self, field.name)[rows] for field in fields(Asked)})

    @staticmethod
    def cat(parts: Iterable[Asked]) -> Asked:
        """All questions of several."""
        every = list(parts)
        return Asked(
            **{field.name: torch.cat([getattr(part, field.name) for part in every]) for field in fields(Asked)}
        )


@dataclass(frozen=True, eq=False)
class JudgeReading:
    """logit (b,) that the task is done; places (b, 4, 2) [m] of the object in LOOKS and of the goal; top (b,) height of
    the object and radius (b,) of the goal [m]."""

    logit: Tensor
    places: Tensor
    top: Tensor
    radius: Tensor


class _Eye(nn.Module):
    """Windows (n, CHANNELS, WINDOW, WINDOW) and 3 numbers each -> offset (n, 2) [m], size (n,) [m], features."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        widths = (CHANNELS, *config.widths)
        self.levels = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(widths, widths[1:], strict=False)
        )
        side = WINDOW // 2 ** len(config.widths)
        self.gather = nn.Linear(widths[-1] * side * side + 3, 64)
        self.out = nn.Linear(64, 3 + config.features)

    def forward(self, windows: Tensor, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = windows * 2 - 1
        for level in self.levels:
            x = F.silu(level(x))
        x = F.silu(self.gather(torch.cat([x.flatten(1), numbers], dim=1)))
        out: Tensor = self.out(x)
        return out[:, :2] * 0.02, F.softplus(out[:, 2]) * 0.08, torch.tanh(out[:, 3:])


class JudgeNet(nn.Module):
    """Two eyes and a head; see the module."""

    def __init__(self, config: JudgeConfig) -> None:
        super().__init__()
        self.config = config
        self.object_eye, self.goal_eye = _Eye(config), _Eye(config)
        measures = 15 + 3 * config.features
        self.head = nn.Sequential(
            nn.Linear(measures, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.hidden), nn.SiLU(),
            nn.Linear(config.hidden, len(TASKS)),
        )  # fmt: skip

    def forward(self, asked: Asked) -> JudgeReading:
        b, looks = len(asked), len(LOOKS)
        numbers = torch.cat([asked.lean, asked.strength[..., None]], dim=-1)
        seen = self.object_eye(asked.windows[:, :looks].flatten(0, 1), numbers[:, :looks].flatten(0, 1))
        offsets, sizes, features = (part.unflatten(0, (b, looks)) for part in seen)
        goal_offset, radius, goal_features = self.goal_eye(asked.windows[:, looks], numbers[:, looks])
        # What stands on the table leans away from the camera; its middle does so by about half of its height.
        offsets = offsets - asked.lean[:, :looks] * sizes[..., None] / 2
        places = asked.middles + torch.cat([offsets, goal_offset[:, None]], dim=1)
        top = sizes[:, 0]
        around = torch.cat([features[:, 0], features[:, 2], goal_features], dim=1)
        logits = self.head(torch.cat([_measures(asked, places, top, radius), around], dim=1))
        return JudgeReading(logits.gather(1, asked.task[:, None])[:, 0], places, top, radius)


def _measures(asked: Asked, places: Tensor, top: Tensor, radius: Tensor) -> Tensor:
    """(b, 15) numbers of about unit size, lengths in units of 2 cm."""
    first, before, now, goal = places.unbind(1)
    above_now, above_first = (
        torch.cat([asked.tool[:, :2] - place, (asked.tool[:, 2] - top - 0.03)[:, None]], dim=1)
        for place in (now, first)
    )
    lengths = [
        radius - _norm(now - goal),
        2 * _norm(now - before),
        _norm(now - first),
        _norm(above_now),
        _norm(above_first),
        _norm(above_now[:, :2]),
        _norm(above_first[:, :2]),
        above_first[:, 2],
        radius,
        top,
    ]
    measured = torch.stack(lengths, dim=1).mul(50).clamp(-5, 8)
    return torch.cat([measured, asked.strength * 2 - 1, asked.gripper[:, None] * 2 - 1], dim=1)


def _norm(values: Tensor) -> Tensor:
    """Length of vectors (b, n), with a gradient at zero."""
    return (values.square().sum(-1) + 1e-8).sqrt()
