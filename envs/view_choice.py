"""Which of a start's pictures an environment begins from: those of its views, by their cameras' names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from vap_sim.envs.start import Start, shipped_starts
from vap_sim.envs.stations import station_names
from vap_sim.errors import UnknownName
from vap_sim.robots.library import RobotModel


def chosen_views(start: Start, views: Sequence[str]) -> Start:
    """The start as an environment of these views sees it.

    A start whose cameras have the views' names gives those, in the views' order, and may have more; those that are
    shipped with further pictures of their moment are asked for them. One of which no camera has a view's name, such as
    a photo, is taken as it is. Raises UnknownName for a view that the start lacks beside others that it has.
    """
    names = [camera.name for camera in start.cameras]
    if names == list(views) or not set(names) & set(views):
        return start
    if not set(views) <= set(names) and (more := _more(start)) is not None:
        start = replace(start, frames=torch.cat([start.frames, more.frames]), cameras=(*start.cameras, *more.cameras))
        names = [camera.name for camera in start.cameras]
    for view in views:
        if view not in names:
            raise UnknownName(f"view of start {start.name!r}", view, names)
    places = [names.index(view) for view in views]
    return replace(start, frames=start.frames[places], cameras=tuple(start.cameras[place] for place in places))


def _more(start: Start) -> Start | None:
    """Further pictures of the moment of a shipped start, if it has any and this is it."""
    found = _shipped_more(start.name) if start.name else None
    if found is None or not torch.equal(found.joints, start.joints):
        return None
    return found if found.size == start.size else found.resized(start.size)


@lru_cache(maxsize=256)
def _shipped_more(name: str) -> Start | None:
    folder = Path(__file__).parent / "start_frames" / name / "more"
    known = any(name in shipped_starts(station=station) for station in station_names())
    return Start.load(folder) if known and folder.is_dir() else None


def rides(model: RobotModel, views: Sequence[str]) -> bool:
    """Whether any of the views is a camera that rides on a link of the robot."""
    return any(name in model.cameras and model.camera(name).parent_link is not None for name in views)
