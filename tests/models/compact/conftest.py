"""A tiny network and a tiny clip that several tests of the compact model use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from vap_sim.models.compact.losses import Clip, LossWeights, compact_loss
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, UNetConfig
from vap_sim.models.compact.slots import SLOTS

SIZE = 32
NET = UNetConfig((8, 12), (1, 1))
CONFIG = CompactConfig(size=SIZE, style=4, scene=NET, motion=NET, robot=NET)


def make_network(seed: int, config: CompactConfig = CONFIG, spread: float = 0.0) -> CompactNetwork:
    """A fresh network; with `spread`, layers that start at zero are random too, so that everything says something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = CompactNetwork(config)
        if spread:
            with torch.no_grad():
                for value in network.parameters():
                    value.add_(torch.randn_like(value) * spread)
    return network


def make_clip(seed: int, count: int = 2, length: int = 4) -> Clip:
    """A red square slides one pixel a frame over a grey table, a blue one rests, a white arm comes from the left."""
    rng = np.random.default_rng(seed)
    frames, objects, robots, seens, centres = [], [], [], [], []
    numbers = np.zeros((count, SIZE, SIZE), np.uint8)
    plate = np.broadcast_to(rng.integers(90, 140, (count, 1, 1, 3)), (count, SIZE, SIZE, 3)).astype(np.uint8)
    skeletons = np.zeros((count, length + 2, SIZE, SIZE, 3), np.uint8)
    for row in range(count):
        x, y = int(rng.integers(12, 18)), int(rng.integers(4, 16))
        for frame in range(length):
            layer = np.zeros((SIZE, SIZE, 4), np.uint8)
            layer[24:30, 4:10] = (20, 40, 220, 255)
            layer[y : y + 6, x + frame : x + frame + 6] = (220, 30, 30, 255)
            robot = np.zeros((SIZE, SIZE), np.uint8)
            robot[y + 2 : y + 4, : x + frame] = 255
            alpha, arm = layer[..., 3:] / 255, robot[..., None] / 255
            scene = layer[..., :3] + (1 - alpha) * plate[row]
            frames.append((scene * (1 - arm) + 240 * arm).astype(np.uint8))
            objects.append(layer)
            robots.append(robot)
            seens.append(np.where((layer[..., 3] > 0) & (robot == 0), np.uint8(255), np.uint8(0)))
            places = np.zeros((SLOTS, 2), np.float32)
            places[0], places[1] = (x + frame + 2.5, y + 2.5), (6.5, 26.5)
            centres.append(places)
        for frame in range(length + 2):  # two older ones first
            skeletons[row, frame, y + 3, : x + frame - 2] = 255
        numbers[row, y : y + 6, x : x + 6], numbers[row, 24:30, 4:10] = 1, 2
    steps = np.zeros((count, length, SLOTS, 4), np.float32)
    steps[:, 1:, 0, 0] = 1.0

    def first(images: object, *shape: int) -> torch.Tensor:
        values = np.asarray(images).reshape(count, *shape)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, -3)))

    return Clip(
        frames=first(frames, length, SIZE, SIZE, 3),
        skeletons=first(skeletons, length + 2, SIZE, SIZE, 3),
        objects=first(objects, length, SIZE, SIZE, 4),
        plate=first(plate, SIZE, SIZE, 3),
        robot=torch.from_numpy(np.stack(robots)).reshape(count, length, 1, SIZE, SIZE),
        seen=torch.from_numpy(np.stack(seens)).reshape(count, length, 1, SIZE, SIZE),
        numbers=torch.from_numpy(numbers),
        centres=torch.from_numpy(np.stack(centres)).reshape(count, length, SLOTS, 2),
        steps=torch.from_numpy(steps),
    )


@pytest.fixture(scope="session")
def lesson() -> tuple[CompactNetwork, dict[str, float], dict[str, float]]:
    """A network after forty steps on one clip, and its losses before and after."""
    network, clip = make_network(0), make_clip(0, count=1, length=2)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    losses: list[dict[str, float]] = []
    for _ in range(40):
        total, terms = compact_loss(network, clip, LossWeights(), jitter=torch.zeros(1, SLOTS, 2), painted=(1,))
        losses.append({name: float(value) for name, value in terms.items()})
        optimizer.zero_grad()
        total.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return network, losses[0], losses[-1]


@pytest.fixture
def network() -> CompactNetwork:
    return make_network(0)


@pytest.fixture
def lively() -> CompactNetwork:
    return make_network(0, spread=0.05)


@pytest.fixture
def clip() -> Clip:
    return make_clip(0)


@pytest.fixture
def clips() -> Callable[..., Clip]:
    return make_clip


@pytest.fixture
def networks() -> Callable[..., CompactNetwork]:
    return make_network
