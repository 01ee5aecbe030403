"""The episodes that the tests of LeRobot's reader write and read, exactly."""

from __future__ import annotations

from tests.data.episodes import episode
from vap_sim.data.episode import Episode
from vap_sim.data.film import FilmSettings
from vap_sim.data.lerobot_write import LeRobotSettings

EXACT = LeRobotSettings(FilmSettings(lossless=True), precision="float64", episodes_a_file=3)
LENGTHS = (5, 3, 6, 4)


def takes() -> list[Episode]:
    return [episode(k, length=length) for k, length in enumerate(LENGTHS)]
