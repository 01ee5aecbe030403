"""A short recording, its films and a tiny network that several tests of training use."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vap_sim.data.twin import TwinEpisode, save_episode
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, UNetConfig
from vap_sim.training.films import PictureFilm, films_of
from vap_sim.training.motion_films import MotionFilm, load_motion_films


@pytest.fixture(scope="session")
def recording() -> TwinEpisode:
    """Ten frames 64 x 64 by two cameras; an object is pushed from the fifth frame on."""
    pytest.importorskip("pybullet")
    from vap_sim.envs.twin_recorder import RecorderSettings, record_episode

    return record_episode(46, RecorderSettings(steps=9, size=(64, 64), views=("exterior_1", "exterior_2")))


@pytest.fixture(scope="session")
def recording_file(recording: TwinEpisode, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recording") / "twin_46.vap.npz"
    save_episode(path, recording)
    return path


@pytest.fixture(scope="session")
def picture_films(recording: TwinEpisode) -> list[PictureFilm]:
    return films_of(recording, "compact")


@pytest.fixture(scope="session")
def motion_films(recording_file: Path) -> list[MotionFilm]:
    return list(load_motion_films([recording_file], "compact", progress=False))


def make_network(size: int = 64) -> CompactNetwork:
    """A tiny network all of whose layers say something."""
    net = UNetConfig((8, 8), (1, 1))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(3)
        network = CompactNetwork(CompactConfig(size=size, style=4, scene=net, motion=net, robot=net))
        for value in network.parameters():
            value.add_(torch.randn_like(value) * 0.03)
    return network


@pytest.fixture
def networks() -> Callable[..., CompactNetwork]:
    return make_network
