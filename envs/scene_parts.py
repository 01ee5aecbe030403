"""What scenes are made of, as data: loose objects, cabinets with drawers, camera poses, light, and the room around.

Nothing here knows a physics engine. Metres and radians in the robot's base frame; the table top is the plane z = 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vap_sim.colors import COLORS
from vap_sim.errors import InvalidInput, UnknownName

SHAPES = ("cube", "brick", "cylinder", "hexagon", "wedge", "sphere")
"""Shapes of things to be moved about."""
ALL_SHAPES = (*SHAPES, "plate")

Vector3 = tuple[float, float, float]
Quaternion = tuple[float, float, float, float]


@dataclass(frozen=True)
class SceneObject:
    """One loose object, standing on the table at (x, y) [m] with `yaw` [rad].

    `size` is its bounding box (x, y, z) [m] at yaw 0. Where it does not stand on the table but lies, leans, is held or
    is on top of something, `z` [m] is the height of its middle and `turn` its rotation (quaternion xyzw); both or none.
    """

    shape: str
    color: str
    size: Vector3
    x: float
    y: float
    yaw: float
    z: float | None = None
    turn: Quaternion | None = None

    def __post_init__(self) -> None:
        if self.shape not in ALL_SHAPES:
            raise UnknownName("object shape", self.shape, ALL_SHAPES)
        if self.color not in COLORS:
            raise UnknownName("object color", self.color, COLORS)
        if len(self.size) != 3 or not all(0.01 <= side <= 0.3 for side in self.size):
            raise InvalidInput("object size [m]", self.size, "three sides between 0.01 and 0.3")
        if not np.isfinite((self.x, self.y, self.yaw)).all():
            raise InvalidInput("object pose (x, y, yaw)", (self.x, self.y, self.yaw), "finite numbers")
        if (self.z is None) != (self.turn is None):
            raise InvalidInput("object pose (z, turn)", (self.z, self.turn), "both or none")
        if self.z is not None and self.turn is not None:
            straight = len(self.turn) == 4 and abs(float(np.linalg.norm(self.turn)) - 1) < 1e-3
            if not (np.isfinite(self.z) and straight):
                raise InvalidInput("object pose (z, turn)", (self.z, self.turn), "a finite height, a unit quaternion")

    @property
    def width(self) -> float:
        """The larger horizontal side [m]: the yardstick of 'within its own width'."""
        return max(self.size[0], self.size[1])


HANDLE_REACH = 0.05
"""From the front of a drawer to the middle of its handle's bar [m]."""
HANDLE_WIDTH, HANDLE_THICKNESS = 0.12, 0.014
"""Length of the handle's bar, which lies level and along the front, and its thickness [m]."""
HANDLE_SHARE = 0.62
"""Height of the handle as a share of its cabinet's."""


@dataclass(frozen=True)
class Cabinet:
    """A cabinet that stands fast on the table, with one drawer that slides out of its front.

    Its frame stands on the table below the middle of the closed front at (x, y) [m]; `yaw` [rad] is where the front
    looks, which is where the drawer slides. size: depth, width and height [m]; opening: how far the drawer is out now;
    travel: how far it goes [m]; handle_reach: from its front to the middle of the handle's bar [m]; handle_share:
    height of that bar as a share of the cabinet's.
    """

    x: float
    y: float
    yaw: float
    size: Vector3
    color: Vector3
    opening: float = 0.0
    travel: float = 0.16
    handle_reach: float = HANDLE_REACH
    handle_share: float = HANDLE_SHARE

    def __post_init__(self) -> None:
        if not np.isfinite((self.x, self.y, self.yaw)).all():
            raise InvalidInput("cabinet pose (x, y, yaw)", (self.x, self.y, self.yaw), "finite numbers")
        if len(self.size) != 3 or not all(0.08 <= side <= 0.6 for side in self.size):
            raise InvalidInput("cabinet size [m]", self.size, "depth, width, height between 0.08 and 0.6")
        if not 0 < self.travel < self.size[0]:
            raise InvalidInput("travel of a drawer [m]", self.travel, f"more than 0 and less than {self.size[0]:g}")
        if not -1e-2 <= self.opening <= self.travel + 1e-2:
            raise InvalidInput("opening of a drawer [m]", self.opening, f"0 to {self.travel:g}")

    @property
    def handle_height(self) -> float:
        """Height [m] of the handle's bar over the table."""
        return self.handle_share * self.size[2]

    def handle(self, opening: float | None = None) -> Vector3:
        """The middle of the handle's bar (x, y, z) [m], at an opening [m] or as the drawer stands."""
        out = self.handle_reach + (self.opening if opening is None else opening)
        return self.x + out * float(np.cos(self.yaw)), self.y + out * float(np.sin(self.yaw)), self.handle_height


@dataclass(frozen=True)
class CameraPose:
    """Where an exterior camera stands: eye and target [m], vertical field of view [rad]."""

    name: str
    eye: Vector3
    target: Vector3
    vertical_fov: float


@dataclass(frozen=True)
class Light:
    """One directional light: where it comes from, its color, and the ambient and diffuse shares."""

    direction: Vector3
    color: Vector3
    ambient: float
    diffuse: float


@dataclass(frozen=True)
class Box:
    """A box along the axes: its centre and half its sides [m]."""

    centre: Vector3
    half: Vector3


@dataclass(frozen=True)
class Room:
    """What stands around a robot and never moves: the table, whose top is z = 0, walls, and the floor."""

    table: Box = Box((0.45, 0.0, -0.03), (0.62, 0.85, 0.03))
    walls: tuple[Box, ...] = (Box((-0.75, 0.0, 0.6), (0.02, 4.0, 3.0)),)
    floor: Box = Box((0.0, 0.0, -0.8), (4.0, 4.0, 0.02))


def three(values: Sequence[float]) -> Vector3:
    """Exactly three numbers."""
    first, second, third = values
    return float(first), float(second), float(third)


def read_object(
    shape: str,
    color: str,
    size: Sequence[float],
    x: float,
    y: float,
    yaw: float,
    z: float | None = None,
    turn: Sequence[float] | None = None,
) -> SceneObject:
    """An object of its record."""
    height = None if z is None else float(z)
    return SceneObject(shape, color, three(size), float(x), float(y), float(yaw), height, _four(turn))


def _four(turn: Sequence[float] | None) -> Quaternion | None:
    if turn is None:
        return None
    x, y, z, w = turn
    return float(x), float(y), float(z), float(w)


def read_cabinet(size: Sequence[float], color: Sequence[float], **numbers: float) -> Cabinet:
    """A cabinet of its record."""
    return Cabinet(size=three(size), color=three(color), **{name: float(value) for name, value in numbers.items()})


def read_light(direction: Sequence[float], color: Sequence[float], ambient: float, diffuse: float) -> Light:
    """A light of its record."""
    return Light(three(direction), three(color), float(ambient), float(diffuse))


def read_camera(name: str, eye: Sequence[float], target: Sequence[float], vertical_fov: float) -> CameraPose:
    """A camera's pose of its record."""
    return CameraPose(str(name), three(eye), three(target), float(vertical_fov))


def read_room(table: Mapping[str, Any], walls: Sequence[Mapping[str, Any]], floor: Mapping[str, Any]) -> Room:
    """A room of its record."""
    return Room(_box(**table), tuple(_box(**wall) for wall in walls), _box(**floor))


def _box(centre: Sequence[float], half: Sequence[float]) -> Box:
    return Box(three(centre), three(half))
