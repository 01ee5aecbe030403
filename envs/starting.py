"""Choosing where an episode begins: an argument, a reset option, or a draw from the shipped starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vap_sim.envs.demonstrating import DemonstrationLike, motion_names, resolve_demonstration
from vap_sim.envs.start import Start, load_start, photo_start, shipped_starts
from vap_sim.envs.stations import get_station, station_names
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.library import RobotModel

StartLike = Start | str | Path | Mapping[str, Any]
_PHOTO = ("image", "joints", "camera", "gripper", "size", "instruction", "name")


def resolve_start(value: StartLike, model: RobotModel) -> Start:
    """The start that an argument means: a Start, a shipped one's name, a folder (Path), or a photo of the robot.

    A photo is a mapping with image, joints and camera, and whatever else `photo_start` takes. Raises UnknownName for a
    name or field that does not exist, InvalidInput for values that do not fit.
    """
    if isinstance(value, Start):
        return value
    if isinstance(value, str | Path):
        return load_start(value)
    if not isinstance(value, Mapping):
        raise InvalidInput("start", type(value).__name__, "a name, a folder, a Start, or {image, joints, camera}")
    for name in value:
        if name not in _PHOTO:
            raise UnknownName("field of a photo start", name, _PHOTO)
    missing = [name for name in _PHOTO[:3] if name not in value]
    if missing:
        raise InvalidInput("photo start", sorted(value), f"also {missing}")
    return photo_start(**value, robot=model)


def instructed(start: Start, instruction: str | None) -> Start:
    """The start with other words for its task, or itself for None. Raises InvalidInput for what is no text."""
    if instruction is None:
        return start
    if not isinstance(instruction, str):
        raise InvalidInput("instruction", instruction, "a text, the task in words")
    return replace(start, instruction=instruction)


def demonstrated(start: Start, demonstration: DemonstrationLike | None) -> Start:
    """The start with another demonstration, or itself for None. Raises as `resolve_demonstration` does."""
    return start if demonstration is None else replace(start, demonstration=resolve_demonstration(demonstration))


def moved(start: Start, motion: str | Sequence[str] | None) -> Start:
    """The start with other learned motions, or itself for None. Raises as `motion_names` does."""
    return start if motion is None else replace(start, motion=motion_names(motion))


def start_names(task: str | None, model: RobotModel) -> tuple[str, ...]:
    """Names of the shipped starts to draw from, none for a robot they do not show. Raises UnknownName for the task."""
    places = [get_station(name) for name in station_names()]
    own = [place for place in places if place.robot == model.name]
    names = tuple(name for place in own for name in shipped_starts(task, place.name))
    known = {known for place in places for known in place.tasks}
    if not names and task is not None and task not in known:
        raise UnknownName("task with shipped starts", task, sorted(known))
    return names


def draw(rng: np.random.Generator, names: tuple[str, ...]) -> tuple[int, str | None]:
    """The key of an episode's noise and one of `names`, None if there are none. Always the same number of draws."""
    key, place = rng.integers(2**31, size=2)
    return int(key), names[int(place) % len(names)] if names else None


def first_start(given: Start | None, default: Start | None, drawn: str | None, model: RobotModel) -> Start:
    """The start of an episode: what the reset was given, else the environment's own, else the drawn one."""
    start = default if given is None else given
    if start is not None:
        return start
    if drawn is None:
        expected = f"one of robot {model.name!r}, as argument or in reset(options={{'start': ...}}): none is shipped"
        raise InvalidInput("start", None, expected)
    return load_start(drawn)
