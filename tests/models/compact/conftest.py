"""Tiny networks, pictures and paths that several tests of the compact model use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from vap_sim.models.compact.losses import Pictures, PictureWeights, picture_loss
from vap_sim.models.compact.motion_losses import Paths
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, UNetConfig
from vap_sim.models.compact.slots import PATCH

SIZE = 32
NET = UNetConfig((8, 12), (1, 1))
CONFIG = CompactConfig(size=SIZE, style=4, scene=NET, motion=NET, robot=NET)
PATH_SIZE = 64


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


def make_pictures(seed: int, count: int = 2, shown: int = 4) -> Pictures:
    """A red square slides one pixel a frame over a grey table, a blue one rests, a white arm comes from the left."""
    rng = np.random.default_rng(seed)
    frames, objects, robots, seens = [], [], [], []
    plate = np.broadcast_to(rng.integers(90, 140, (count, 1, 1, 3)), (count, SIZE, SIZE, 3)).astype(np.uint8)
    skeletons = np.zeros((count, shown, SIZE, SIZE, 3), np.uint8)
    for row in range(count):
        x, y = int(rng.integers(12, 18)), int(rng.integers(4, 16))
        for frame in range(shown):
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
            skeletons[row, frame, y + 3, : x + frame] = 255

    def first(images: object, *shape: int) -> torch.Tensor:
        values = np.asarray(images).reshape(count, *shape)
        return torch.from_numpy(np.ascontiguousarray(np.moveaxis(values, -1, -3)))

    return Pictures(
        frames=first(frames, shown, SIZE, SIZE, 3),
        skeletons=first(skeletons, shown, SIZE, SIZE, 3),
        objects=first(objects, shown, SIZE, SIZE, 4),
        plate=first(plate, SIZE, SIZE, 3),
        robot=torch.from_numpy(np.stack(robots)).reshape(count, shown, 1, SIZE, SIZE),
        seen=torch.from_numpy(np.stack(seens)).reshape(count, shown, 1, SIZE, SIZE),
    )


def make_paths(seed: int, shifts: Sequence[tuple[float, float]] = ((1.0, 0.5), (0.0, 0.0)), length: int = 4) -> Paths:
    """Squares that move by their shifts [px] (and then turn and grow, too) before a bar; another object slides by."""
    rng = np.random.default_rng(seed)
    count, size = len(shifts), PATH_SIZE
    start = rng.integers(20, 40, (count, 2)).astype(np.float32)
    shift = np.array(shifts, np.float32)
    skeletons = np.zeros((count, length + 2, 3, size, size), np.uint8)
    others = np.zeros((count, length, 1, size, size), np.uint8)
    patches = np.zeros((count, 1, PATCH, PATCH), np.uint8)
    steps = np.zeros((count, length, 4), np.float32)
    for row, (x, y) in enumerate(start.astype(int)):
        patches[row, 0, PATCH // 2 - 3 : PATCH // 2 + 5, PATCH // 2 - 3 : PATCH // 2 + 4] = 255
        steps[row, 1:, :2] = shift[row]
        steps[row, 1:, 2:] = np.array([0.05, 0.02]) * shift[row].any()
        for frame in range(length):
            others[row, frame, 0, y + 2 : y + 9, x - 4 + frame : x + 3 + frame] = 255
        for frame in range(length + 2):  # two older ones first
            skeletons[row, frame, row % 3, y, : x + round(shift[row, 0] * (frame - 2)) - 4] = 255
    # The bounding box in space is centred elsewhere than what is seen of the object.
    centres = start[:, None] + np.cumsum(steps[..., :2], axis=1) + np.float32(0.3)
    return Paths(
        skeletons=torch.from_numpy(skeletons),
        others=torch.from_numpy(others),
        patches=torch.from_numpy(patches),
        start=torch.from_numpy(start),
        velocity=torch.from_numpy(shift),
        centres=torch.from_numpy(centres),
        steps=torch.from_numpy(steps),
        frames=torch.eye(2).expand(count, 2, 2).clone(),
        carried=torch.zeros(count, length, 4),
        planes=torch.eye(3).expand(count, length, 3, 3).clone(),
    )


@pytest.fixture(scope="session")
def lesson() -> tuple[CompactNetwork, dict[str, float], dict[str, float]]:
    """A network whose pictures took forty steps on one scene, and its losses before and after."""
    network, pictures = make_network(0), make_pictures(0, count=1, shown=2)
    optimizer = torch.optim.AdamW([*network.scene.parameters(), *network.robot.parameters()], 3e-3)
    losses: list[dict[str, float]] = []
    for _ in range(40):
        total, terms = picture_loss(network, pictures, PictureWeights())
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
def pictures() -> Pictures:
    return make_pictures(0)


@pytest.fixture
def paths() -> Paths:
    return make_paths(0)


@pytest.fixture
def scenes() -> Callable[..., Pictures]:
    return make_pictures


@pytest.fixture
def followed() -> Callable[..., Paths]:
    return make_paths


@pytest.fixture
def networks() -> Callable[..., CompactNetwork]:
    return make_network
