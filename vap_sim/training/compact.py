"""The recipe of the compact model: clips of growing length from twin episodes, and dreams to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.compact import layers
from vap_sim.models.compact.losses import Clip, LossWeights, compact_loss, unit
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.models.compact.slots import SLOTS, advance, render
from vap_sim.training.clips import ClipSource


@dataclass(frozen=True)
class Stage:
    """From step `start` on: `batch` clips of `length` frames, `painted` of these painted, objects `jitter` [px] off."""

    start: int
    length: int
    batch: int
    painted: int
    jitter: float


@dataclass(frozen=True)
class CompactTraining:
    """Settings of the recipe. Rollouts grow: a short one teaches motion, a long one teaches to forgive.

    `scale` multiplies every stage's batch, for devices that take more at once than a CPU."""

    seed: int = 0
    profile: str = "compact"
    stages: tuple[Stage, ...] = (
        Stage(0, 4, 8, 2, 0.7),
        Stage(1500, 5, 8, 2, 0.8),
        Stage(3000, 8, 6, 2, 1.0),
    )
    scale: int = 1
    weights: LossWeights = LossWeights()
    precision: str = "bf16"

    def stage(self, step: int) -> Stage:
        """The stage a step belongs to."""
        return [stage for stage in self.stages if stage.start <= step][-1]


class CompactRecipe:
    """Feeds `train` with the compact model's batches; see `vap_sim.training.loop.Recipe`."""

    def __init__(
        self,
        network: CompactNetwork,
        source: ClipSource,
        shown: ClipSource,
        training: CompactTraining,
        device: str = "cpu",
    ) -> None:
        """`shown`: films whose dreams are drawn as previews (not used for training).

        Raises InvalidInput where films are shorter than the longest clip of the training (or than two frames, to be
        shown), or of another size than the network's pictures.
        """
        side = network.config.size
        if source.size != (side, side) or shown.size != (side, side):
            raise InvalidInput("size of films for training", f"{source.size} and {shown.size}", f"{(side, side)}")
        longest = max(stage.length for stage in training.stages)
        if source.shortest < longest or shown.shortest < 2:
            given = f"{source.shortest} frames in the shortest film, {shown.shortest} in the shortest one to show"
            raise InvalidInput("films for training", given, f"at least {longest}, the longest clip, and 2 to show")
        self.network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.source, self.shown, self.training, self.device = source, shown, training, device

    def describe(self) -> Mapping[str, Any]:
        return _plain({**asdict(self.training), "network": asdict(self.network.config)})  # type: ignore[no-any-return]

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        stage = self.training.stage(step)
        rng = np.random.default_rng([self.training.seed, step])
        batch = stage.batch * self.training.scale
        clip = self.source.draw(rng, batch, stage.length)
        jitter = torch.from_numpy(rng.normal(0, stage.jitter, (batch, SLOTS, 2)).astype(np.float32))
        painted = tuple(int(v) for v in rng.choice(np.arange(1, stage.length), stage.painted, replace=False))
        clip, jitter = _to(clip, self.device), jitter.to(self.device)
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.training.precision == "bf16"):
            return compact_loss(self.network, clip, self.training.weights, jitter=jitter, painted=painted)

    def preview(self, step: int) -> Mapping[str, Tensor]:
        """Dreams of up to 25 frames: columns are frames 1, 5, 10, 15, 20, 25; rows truth, dream, next clip."""
        rng = np.random.default_rng([self.training.seed, 99])
        length = min(26, self.shown.shortest)
        clip = _to(self.shown.draw(rng, 4, length), self.device)
        with torch.autocast(self.device.split(":")[0], torch.bfloat16, enabled=self.training.precision == "bf16"):
            dreamed = dream(self.network, clip)
        columns = [column for column in (1, 5, 10, 15, 20, 25) if column < length]
        truth = unit(clip.frames[:, columns])
        pairs = torch.stack([truth, dreamed[:, [c - 1 for c in columns]]], dim=1)
        sheet = pairs.permute(0, 1, 4, 2, 5, 3)  # rows, kind, H, columns, W, C
        sheet = sheet.reshape(-1, sheet.shape[3] * sheet.shape[4], 3)
        return {"dreams": (sheet.permute(2, 0, 1) * 255).round().to(torch.uint8).cpu()}


def dream(network: CompactNetwork, clip: Clip) -> Tensor:
    """Roll a clip out from its first picture: frames (b, T - 1, 3, H, W) in [0, 1]."""
    skeletons = [layers.skeleton_blocks(unit(item)) for item in clip.skeletons.unbind(1)]
    reading = layers.read(network, unit(clip.frames[:, 0]), skeletons[2])
    slots = layers.find_slots(reading.objects)
    frames = []
    for step in range(1, clip.frames.shape[1]):
        newest = [max(step + shift, 2) for shift in (2, 1, 0)]
        layer = render(slots, clip.frames.shape[-1])
        motion = layers.move(network, torch.cat([skeletons[k] for k in newest], dim=1), layer, slots)
        slots = advance(slots, motion.shift, motion.twist, motion.logit > 0)
        layer = render(slots, clip.frames.shape[-1])
        frames.append(layers.paint(network, skeletons[step + 2], layer, reading.style, reading.plate).frame)
    return torch.stack(frames, dim=1)


def _to(clip: Clip, device: str) -> Clip:
    return Clip(**{name: value.to(device) for name, value in vars(clip).items()})


def _plain(value: Any) -> Any:
    """Tuples to lists all the way down, as JSON gives them back."""
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
