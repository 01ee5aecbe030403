"""Starts and environments that several tests of this room use."""

from __future__ import annotations

import pytest

from vap_sim.envs.start import Start, load_start
from vap_sim.robots.library import RobotModel, load_robot


@pytest.fixture(scope="session")
def model() -> RobotModel:
    return load_robot("panda_robotiq")


@pytest.fixture
def start() -> Start:
    return load_start("push_00")
