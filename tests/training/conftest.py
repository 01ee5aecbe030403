"""A short recording that several tests of training use."""

from __future__ import annotations

from pathlib import Path

import pytest

from vap_sim.data.twin import TwinEpisode, save_episode


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
