"""Makes the shipped starts from the twin, some scenes a task seen by the station's cameras; for a checkout with
pybullet. Stations to make may be named; all without."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from vap_sim.envs.stations import get_station, station_names
from vap_sim.envs.twin_env import TwinEnv

FIRST_SEED = 2_000_000
"""Beyond the seeds of recordings for training and for evaluation."""
STARTS_PER_TASK = {"DROID": 8}
FEW = 4
MORE = {
    "DROID": ("exterior_2", "wrist"),
    "Bridge": ("exterior_2", "wrist"),
    "RT1": ("exterior_1",),
    "EgoVid": ("exterior_1",),
}
"""Cameras of which a start has pictures in its folder `more`, read when an environment has such views."""


def main(stations: tuple[str, ...]) -> None:
    """Write one folder a start beside this file, named as `shipped_starts` tells."""
    for station in stations:
        place, count = get_station(station), STARTS_PER_TASK.get(station, FEW)
        for index, task in enumerate(place.tasks):
            further = MORE.get(station, ())
            env = TwinEnv(task=task, station=place, views=(*place.views[:1], *further))
            for number in range(count):
                env.reset(seed=FIRST_SEED + index * count + number)
                name = f"{task}_{number:02d}" if station == "DROID" else f"{station.lower()}_{task}_{number:02d}"
                start, folder = env.start(name), Path(__file__).parent / name
                replace(start, frames=start.frames[:1], cameras=start.cameras[:1]).save(folder)
                if further:
                    more = replace(start, frames=start.frames[1:], cameras=start.cameras[1:], scene=None)
                    more.save(folder / "more")
            env.close()


if __name__ == "__main__":
    main(tuple(sys.argv[1:]) or station_names())
