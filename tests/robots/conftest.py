"""Robots and folders that several tests of this room use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vap_sim.robots.kinematics import Robot
from vap_sim.robots.library import RobotModel, load_robot

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def model() -> RobotModel:
    return load_robot("panda_robotiq")


@pytest.fixture(scope="session")
def robot(model: RobotModel) -> Robot:
    return model.robot


@pytest.fixture(scope="session")
def droid_episodes() -> list[Path]:
    folder = Path(os.environ.get("VAP_SIM_REAL_DATA", ROOT.parent / "shared" / "data")) / "droid"
    files = sorted(folder.glob("*/annotation.json"))
    if not files:
        pytest.skip(f"no real recordings in {folder}; set VAP_SIM_REAL_DATA")
    return files
