"""The recipe of the learned judge: questions about moments, with what is true of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.policies.judge_network import CHANNELS, WINDOW, Asked, JudgeNet, JudgeReading

_UNIT = 0.01  # [m] the scale on which errors of places and sizes count


@dataclass(frozen=True, eq=False)
class Questions:
    """N questions and their truth.

    asked: with windows as uint8 levels; done (N,) 0 or 1, and weight (N,): 0 where that is unclear; places (N, 4, 2),
    top (N,), radius (N,) [m], NaN where not known.
    """

    asked: Asked
    done: Tensor
    weight: Tensor
    places: Tensor
    top: Tensor
    radius: Tensor

    def __len__(self) -> int:
        return len(self.done)

    def rows(self, rows: Tensor) -> Questions:
        """The chosen questions."""
        parts = {field.name: getattr(self, field.name)[rows] for field in fields(Questions) if field.name != "asked"}
        return Questions(asked=self.asked.rows(rows), **parts)

    @staticmethod
    def cat(parts: Iterable[Questions]) -> Questions:
        """All questions of several."""
        every = list(parts)
        names = [field.name for field in fields(Questions) if field.name != "asked"]
        rest = {name: torch.cat([getattr(part, name) for part in every]) for name in names}
        return Questions(asked=Asked.cat(part.asked for part in every), **rest)


@dataclass(frozen=True)
class JudgeTraining:
    """Settings of the recipe."""

    seed: int = 0
    batch: int = 128
    places: float = 0.3


class JudgeRecipe:
    """Feeds `vap_sim.training.loop.train` with batches of questions, half of them answered yes where there are such."""

    def __init__(self, network: JudgeNet, questions: Questions, training: JudgeTraining) -> None:
        self.network, self.questions, self.training = network, questions, training
        clear = questions.weight > 0
        self._kinds = [torch.nonzero(clear & (questions.done == value))[:, 0] for value in (0, 1)]
        self._kinds = [kind for kind in self._kinds if len(kind)]

    def describe(self) -> Mapping[str, Any]:
        return {**asdict(self.training), "network": {k: _plain(v) for k, v in asdict(self.network.config).items()}}

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        rng = np.random.default_rng([self.training.seed, step])
        share = self.training.batch // (len(self._kinds) + 1)
        rows = [kind[torch.from_numpy(rng.integers(len(kind), size=share))] for kind in self._kinds]
        rows.append(torch.from_numpy(rng.integers(len(self.questions), size=share)))
        batch = varied(self.questions.rows(torch.cat(rows)), rng)
        return judge_loss(self.network(batch.asked), batch, self.training.places)

    def preview(self, step: int) -> Mapping[str, Tensor]:
        return {}


def judge_loss(reading: JudgeReading, truth: Questions, places: float) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Cross-entropy of clear answers, and Huber losses of all places and sizes that are known."""
    entropy = F.binary_cross_entropy_with_logits(reading.logit, truth.done, reduction="none")
    answer = (entropy * truth.weight).sum() / truth.weight.sum().clamp_min(1.0)
    # A goal counts where the task has one; the rest is unknown, and NaN.
    found = _known(reading.places, truth.places) + _known(reading.top, truth.top) + _known(reading.radius, truth.radius)
    return answer + places * found, {"answer": answer.detach(), "found": found.detach()}


def as_seen(asked: Asked) -> Asked:
    """Questions with uint8 windows as the network takes them."""
    return replace(asked, windows=asked.windows.float() / 255)


def varied(questions: Questions, rng: np.random.Generator) -> Questions:
    """Uint8 windows to [0, 1] with another gain, tint and noise, and half of the questions mirrored left to right."""
    asked, count = questions.asked, len(questions)
    windows = asked.windows.float() / 255
    gain = torch.from_numpy(1 + rng.normal(0, 0.05, (count, 1, 1, 1, 1)) + rng.normal(0, 0.02, (count, 1, 3, 1, 1)))
    noise = rng.normal(0, 1, windows[:, :, :3].shape).astype(np.float32) * rng.uniform(0, 0.03, (count, 1, 1, 1, 1))
    rgb = (windows[:, :, :3] * gain.float() + torch.from_numpy(noise.astype(np.float32))).clamp(0, 1)
    windows = torch.cat([rgb, windows[:, :, 3:]], dim=2)
    turned = torch.from_numpy(rng.random(count) < 0.5)
    windows = torch.where(turned[:, None, None, None, None], _mirrored(windows), windows)
    sign = torch.where(turned, -1.0, 1.0)
    side = torch.stack([torch.ones_like(sign), sign], dim=1)[:, None]
    tool = asked.tool * torch.stack([torch.ones_like(sign), sign, torch.ones_like(sign)], dim=1)
    changed = replace(asked, windows=windows, middles=asked.middles * side, lean=asked.lean * side, tool=tool)
    return replace(questions, asked=changed, places=questions.places * side)


def _mirrored(windows: Tensor) -> Tensor:
    # WINDOW is even and the middle cell is WINDOW / 2, so a mirror about it also moves by one cell.
    return torch.roll(windows.flip(-1), 1, dims=-1)


def _known(given: Tensor, truth: Tensor) -> Tensor:
    known = torch.isfinite(truth)
    off = F.smooth_l1_loss(given / _UNIT, torch.nan_to_num(truth) / _UNIT, reduction="none")
    return (off.clamp_max(10.0) * known).sum() / known.sum().clamp_min(1)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


assert WINDOW % 8 == 0 and CHANNELS == 5, "eyes halve a window three times"
