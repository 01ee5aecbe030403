"""The judge of the comparison of demonstrations: which of the eight actions does a film show?

A small convolutional network over space and time looks at how each frame differs from the first. It is trained on twin
films alone, many of them damaged as dreams are, by noise on their latents; a film's mirror image shows the mirrored
action. Its accuracy on held-out twin films is part of every report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference_video_films import ACTIONS, labels_of
from torch import Tensor, nn
from torch.nn import functional as F

from vap_sim.models.checkpoint import fill, load_tensors, save_tensors
from vap_sim.models.cogvideox.codec import Codec
from vap_sim.noise import standard_normals
from vap_sim.training.loop import LoopSettings, plain, train
from vap_sim.training.reference_footage import Footage

LEAST_ACCURACY = 0.9
"""On held-out twin films; a judge below is no judge."""
_MIRRORED = tuple(
    ACTIONS.index({"push_left": "push_right", "push_right": "push_left"}.get(name, name)) for name in ACTIONS
)


@dataclass(frozen=True)
class JudgeSettings:
    """steps, batch, learning_rate: of its training; damaged: share of films whose latents get noise, of a spread of up
    to `noise`; width: of its first layer; seed: of weights and batches."""

    steps: int = 1500
    batch: int = 16
    learning_rate: float = 2e-3
    damaged: float = 0.5
    noise: float = 0.5
    width: int = 24
    seed: int = 0


class ActionNet(nn.Module):
    """Films (n, T, H, W, 3) uint8 to a score for each action (n, 8)."""

    def __init__(self, width: int, seed: int) -> None:
        super().__init__()
        widths = (width, 2 * width, 3 * width, 4 * width)
        layers: list[nn.Module] = []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            for number, (before, after) in enumerate(zip((3, *widths), widths, strict=False)):
                stride = (1 if number == 0 else 2, 2, 2)
                layers += [nn.Conv3d(before, after, 3, stride, 1), nn.GroupNorm(4, after), nn.SiLU()]
            self.trunk = nn.Sequential(*layers)
            self.head = nn.Linear(2 * widths[-1], len(ACTIONS))

    def forward(self, films: Tensor) -> Tensor:
        pictures = films.float() / 127.5 - 1
        apart = (pictures[:, 1:] - pictures[:, :1]).permute(0, 4, 1, 2, 3)
        seen = self.trunk(F.avg_pool3d(apart, (1, 2, 2)))
        pooled = torch.cat([seen.mean((2, 3, 4)), seen.amax((3, 4)).mean(2)], dim=1)
        scores: Tensor = self.head(pooled)
        return scores


class JudgeRecipe:
    """Feeds `train` with the judge's batches; see `vap_sim.training.loop.Recipe`."""

    def __init__(self, network: ActionNet, films: Sequence[Footage], codec: Codec, settings: JudgeSettings) -> None:
        self.network, self.settings, self.codec = network, settings, codec
        self.frames, self.labels = torch.stack([film.frames for film in films]), labels_of(films)

    def describe(self) -> Mapping[str, Any]:
        return dict(plain({"part": "judge of actions", **asdict(self.settings), "films": len(self.frames)}))

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        rng = np.random.default_rng([self.settings.seed, 41, step])
        rows = torch.from_numpy(rng.integers(len(self.frames), size=self.settings.batch))
        films, labels = self.frames[rows].clone(), self.labels[rows].clone()
        mirrored = torch.from_numpy(rng.uniform(size=len(rows)) < 0.5)
        films[mirrored] = films[mirrored].flip(3)
        labels[mirrored] = torch.tensor(_MIRRORED)[labels[mirrored]]
        worn = torch.from_numpy(rng.uniform(size=len(rows)) < self.settings.damaged)
        if bool(worn.any()):
            latents = self.codec.encode(films[worn])
            keys = torch.full((len(latents),), step)
            noise = standard_normals(keys, torch.arange(len(latents)), tuple(latents.shape[1:]))
            spread = torch.from_numpy(rng.uniform(0, self.settings.noise, len(latents))).float()
            noise[:, 0] = 0  # the first frame of a dream is given
            films[worn] = self.codec.decode(latents + spread[:, None, None, None, None] * noise)
        films = films[..., torch.from_numpy(rng.permutation(3))]
        scores = self.network(films)
        right = (scores.argmax(1) == labels).float().mean()
        return F.cross_entropy(scores, labels, label_smoothing=0.05), {"right": right}

    def preview(self, _step: int) -> Mapping[str, Tensor]:
        return {}


@dataclass(frozen=True)
class Verdicts:
    """What a judge says of n films: action (n,) int64 and how sure it is of each (n, 8)."""

    actions: Tensor
    shares: Tensor

    def confusion(self, labels: Tensor) -> list[list[int]]:
        """How often films of the action of the row were taken for that of the column."""
        table = torch.zeros(len(ACTIONS), len(ACTIONS), dtype=torch.int64)
        table.index_put_((labels, self.actions), torch.ones_like(labels), accumulate=True)
        return [[int(count) for count in row] for row in table]

    def accuracy(self, labels: Tensor) -> float:
        """Share of films that were taken for what they are."""
        return float((self.actions == labels).float().mean())


class Judge:
    """Names the action of a film."""

    def __init__(self, network: ActionNet) -> None:
        self.network = network.eval().requires_grad_(False)

    @torch.inference_mode()
    def __call__(self, frames: Tensor) -> Verdicts:
        """Of films (n, T, H, W, 3) uint8, each by itself."""
        shares = torch.cat([self.network(some).softmax(1) for some in torch.split(frames, 32)])
        return Verdicts(shares.argmax(1), shares)


def trained_judge(films: Sequence[Footage], codec: Codec, settings: JudgeSettings, folder: Path) -> Judge:
    """The judge in a folder, trained if it is not there; training that was killed goes on. Raises BadFile, OSError."""
    path = folder / "judge.safetensors"
    network = ActionNet(settings.width, settings.seed)
    if not path.is_file():
        steps = settings.steps
        loop = LoopSettings(
            folder / "training" / "judge", steps, None, settings.learning_rate, 50, steps // 2,
            average=0.99, log_every=min(50, steps), preview_every=steps + 1,
        )  # fmt: skip
        outcome = train(JudgeRecipe(network, films, codec, settings), loop)
        save_tensors(path, outcome.weights, {"judge": asdict(settings)})
    fill(network, load_tensors(path)[0], path)
    return Judge(network)
