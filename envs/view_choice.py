"""Which views an environment shows, and which of a start's pictures those are: by their cameras' names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import torch

from vap_sim.envs.start import Start, load_start, shipped_starts
from vap_sim.envs.stations import Station, get_station, station_names
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.library import RobotModel


def station_views(place: Station, model: RobotModel) -> tuple[str, ...]:
    """A station's views; of another robot there, those that its scenes or the robot have a camera for, if any."""
    if model.name == place.robot:
        return place.views
    known = {*model.cameras, *(spread.name for spread in place.layout.cameras)}
    return tuple(view for view in place.views if view in known) or place.views


def default_views(model: RobotModel, start: Start | None = None) -> tuple[str, ...]:
    """The views of an environment that was not asked for any.

    They are those of the station that has the robot, or one exterior view for a robot of no station. Of an environment
    that begins at a start of its own, they are those of them that the start has, or, where it has none of them, all
    that it has: a photo is one view.
    """
    places = [get_station(name) for name in station_names()]
    views = next((place.views for place in places if place.robot == model.name), ("exterior_1",))
    if start is None:
        return views
    names = [camera.name for camera in _widened(start, views).cameras]
    return tuple(view for view in views if view in names) or tuple(names)


def first_view(env_id: str) -> dict[str, tuple[str, ...]]:
    """Arguments with which an environment of this package shows its station's first view alone, for whoever looks at no
    other: each costs as much again. None for ids of others."""
    kind, _, rest = env_id.rpartition(":")[2].partition("-")
    station = rest.rpartition("-")[0]
    known = kind in ("VAPWorld", "VAPTwin") and station in station_names()
    return {"views": get_station(station).views[:1]} if known else {}


def own_views(start: Start, views: Sequence[str]) -> tuple[str, ...]:
    """Those of the views that a start can show: by its cameras' names, or, where none of them has such a name, as many
    of the first as it has pictures."""
    names = [camera.name for camera in _widened(start, views).cameras]
    return tuple(view for view in views if view in names) or tuple(views[: len(names)])


def chosen_views(start: Start, views: Sequence[str]) -> Start:
    """The start as an environment of these views sees it.

    A start whose cameras have the views' names gives those, in the views' order, and may have more; those that are
    shipped with further pictures of their moment are asked for them. One of which no camera has a view's name, such as
    a photo, is taken as it is. Raises InvalidInput for a start of fewer pictures than views, UnknownName for a view
    that the start lacks beside others that it has.
    """
    names = [camera.name for camera in start.cameras]
    if names == list(views):
        return start
    wide = _widened(start, views)
    if set(views) & {camera.name for camera in wide.cameras}:
        start, names = wide, [camera.name for camera in wide.cameras]
    if len(names) < len(views):
        shown = tuple(view for view in views if view in names) or tuple(names)
        expected = f"{list(views)}, as the environment has; one made with views={shown!r} begins there"
        raise InvalidInput(f"views of start {start.name!r}", names, expected)
    if not set(names) & set(views):
        return start
    for view in views:
        if view not in names:
            raise UnknownName(f"view of start {start.name!r}", view, names)
    places = [names.index(view) for view in views]
    return replace(start, frames=start.frames[places], cameras=tuple(start.cameras[place] for place in places))


def _widened(start: Start, views: Sequence[str]) -> Start:
    """The start with further pictures of its moment, if it lacks some of the views and is shipped with more."""
    names = [camera.name for camera in start.cameras]
    if set(names) >= set(views) or (whole := _whole(start)) is None:
        return start
    further = [place for place, camera in enumerate(whole.cameras) if camera.name not in names]
    cameras = (*start.cameras, *(whole.cameras[place] for place in further))
    return replace(start, frames=torch.cat([start.frames, whole.frames[further]]), cameras=cameras)


def _whole(start: Start) -> Start | None:
    """All pictures of the moment of a shipped start, if this is it."""
    found = _shipped_whole(start.name) if start.name else None
    if found is None or not torch.equal(found.joints, start.joints):
        return None
    if not {camera.name for camera in start.cameras} <= {camera.name for camera in found.cameras}:
        return None
    return found if found.size == start.size else found.resized(start.size)


@lru_cache(maxsize=256)
def _shipped_whole(name: str) -> Start | None:
    folder = Path(__file__).parent / "start_frames" / name / "more"
    known = any(name in shipped_starts(station=station) for station in station_names())
    if not known or not folder.is_dir():
        return None
    own, more = load_start(name), Start.load(folder)
    return replace(own, frames=torch.cat([own.frames, more.frames]), cameras=(*own.cameras, *more.cameras))


def rides(model: RobotModel, views: Sequence[str]) -> bool:
    """Whether any of the views is a camera that rides on a link of the robot."""
    return any(name in model.cameras and model.camera(name).parent_link is not None for name in views)
