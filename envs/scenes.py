"""Scenes as data: objects, table, wall, light and cameras, drawn from a seed and readable as JSON.

Nothing here knows a physics engine. Metres and radians in the robot's base frame; the table top is the plane z = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from vap_sim.errors import InvalidInput, UnknownName, VAPSimError

SHAPES = ("cube", "brick", "cylinder", "hexagon", "wedge", "sphere")
COLORS: dict[str, tuple[float, float, float]] = {
    "red": (0.86, 0.13, 0.12),
    "orange": (0.98, 0.52, 0.06),
    "yellow": (0.97, 0.86, 0.10),
    "lime": (0.60, 0.88, 0.16),
    "green": (0.07, 0.55, 0.20),
    "cyan": (0.10, 0.80, 0.82),
    "blue": (0.12, 0.27, 0.88),
    "purple": (0.50, 0.15, 0.75),
    "pink": (0.98, 0.40, 0.68),
    "brown": (0.42, 0.22, 0.09),
}
WORKSPACE_LOW, WORKSPACE_HIGH = (0.34, -0.26), (0.62, 0.26)
"""Corners (x, y) [m] of the table area in which objects and goals are placed."""

Vector3 = tuple[float, float, float]


@dataclass(frozen=True)
class SceneObject:
    """One loose object, standing on the table at (x, y) [m] with `yaw` [rad].

    `size` is its bounding box (x, y, z) [m] at yaw 0.
    """

    shape: str
    color: str
    size: Vector3
    x: float
    y: float
    yaw: float

    def __post_init__(self) -> None:
        if self.shape not in SHAPES:
            raise UnknownName("object shape", self.shape, SHAPES)
        if self.color not in COLORS:
            raise UnknownName("object color", self.color, COLORS)
        if len(self.size) != 3 or not all(0.01 <= side <= 0.3 for side in self.size):
            raise InvalidInput("object size [m]", self.size, "three sides between 0.01 and 0.3")
        if not np.isfinite((self.x, self.y, self.yaw)).all():
            raise InvalidInput("object pose (x, y, yaw)", (self.x, self.y, self.yaw), "finite numbers")

    @property
    def width(self) -> float:
        """The larger horizontal side [m]: the yardstick of 'within its own width'."""
        return max(self.size[0], self.size[1])


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
class Scene:
    """Everything a twin needs to build a world; `goal` is a disc (x, y, radius) [m] painted on the table, or None."""

    objects: tuple[SceneObject, ...]
    table_color: Vector3
    wall_color: Vector3
    light: Light
    cameras: tuple[CameraPose, ...]
    goal: tuple[float, float, float] | None = None
    name: str = ""

    def __post_init__(self) -> None:
        colors = [item.color for item in self.objects]
        if len(set(colors)) != len(colors):
            raise InvalidInput("object colors of a scene", colors, "a different color for each object")

    def to_dict(self) -> dict[str, Any]:
        """Tuples, texts and numbers, ready for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scene:
        """The inverse of `to_dict`. Raises InvalidInput or UnknownName for missing, unknown or wrong fields."""
        unknown = data.keys() - {field.name for field in fields(cls)} if isinstance(data, dict) else ()
        if unknown:
            raise UnknownName("field of a scene record", min(unknown), (field.name for field in fields(cls)))
        try:
            goal = data["goal"]
            return cls(
                objects=tuple(_object(**item) for item in data["objects"]),
                table_color=_three(data["table_color"]),
                wall_color=_three(data["wall_color"]),
                light=_light(**data["light"]),
                cameras=tuple(_camera(**item) for item in data["cameras"]),
                goal=None if goal is None else _three(goal),
                name=str(data.get("name", "")),
            )
        except VAPSimError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput("scene record", f"a bad or missing field ({error})", "Scene.to_dict()") from error


def _three(values: Sequence[float]) -> Vector3:
    first, second, third = values
    return float(first), float(second), float(third)


def _object(shape: str, color: str, size: Sequence[float], x: float, y: float, yaw: float) -> SceneObject:
    return SceneObject(shape, color, _three(size), float(x), float(y), float(yaw))


def _light(direction: Sequence[float], color: Sequence[float], ambient: float, diffuse: float) -> Light:
    return Light(_three(direction), _three(color), float(ambient), float(diffuse))


def _camera(name: str, eye: Sequence[float], target: Sequence[float], vertical_fov: float) -> CameraPose:
    return CameraPose(str(name), _three(eye), _three(target), float(vertical_fov))


def sample_scene(rng: np.random.Generator, num_objects: int | None = None, *, goal: bool = False) -> Scene:
    """Draw a scene: 1 to 4 objects apart from each other, table, wall, light and two exterior cameras.

    Args:
        rng: the only source of randomness; the same generator state gives the same scene.
        num_objects: 1 to 4; drawn when None.
        goal: paint a goal disc clear of all objects.
    """
    if num_objects is not None and not 1 <= num_objects <= 4:
        raise InvalidInput("num_objects", num_objects, "1 to 4")
    count = int(rng.integers(1, 5)) if num_objects is None else num_objects
    names = rng.permutation(sorted(COLORS))[:count]
    spots = _spots(rng, count + int(goal), gap=0.115)
    objects = tuple(_sample_object(rng, str(name), spot) for name, spot in zip(names, spots, strict=False))
    disc = (*spots[-1], float(rng.uniform(0.055, 0.07))) if goal else None
    return Scene(
        objects=objects,
        table_color=_muted(rng, 0.35, 0.85),
        wall_color=_muted(rng, 0.45, 0.95),
        light=_sample_light(rng),
        cameras=(_sample_camera(rng, "exterior_1", 1.0), _sample_camera(rng, "exterior_2", -1.0)),
        goal=disc,
    )


def _sample_object(rng: np.random.Generator, color: str, spot: tuple[float, float]) -> SceneObject:
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    side, height = float(rng.uniform(0.048, 0.066)), float(rng.uniform(0.05, 0.085))
    size = {
        "cube": (side, side, side),
        "brick": (side * 1.7, side, float(rng.uniform(0.045, 0.06))),
        "cylinder": (side, side, height),
        "hexagon": (side, side * np.sqrt(3) / 2, height),
        "wedge": (side * 1.3, side, side),
        "sphere": (side, side, side),
    }[shape]
    return SceneObject(shape, color, _three(size), spot[0], spot[1], float(rng.uniform(-np.pi, np.pi)))


def _spots(rng: np.random.Generator, count: int, gap: float) -> list[tuple[float, float]]:
    """`count` table points at least `gap` apart; gives up a little gap after many refusals, so it always ends."""
    spots: list[tuple[float, float]] = []
    while len(spots) < count:
        point = rng.uniform(WORKSPACE_LOW, WORKSPACE_HIGH)
        if all(np.hypot(point[0] - x, point[1] - y) >= gap for x, y in spots):
            spots.append((float(point[0]), float(point[1])))
        gap *= 0.998
    return spots


def _muted(rng: np.random.Generator, low: float, high: float) -> Vector3:
    """A color of low saturation, so that objects stand out from table and wall."""
    level = rng.uniform(low, high)
    return _three(np.clip(level + rng.uniform(-0.07, 0.07, 3), 0.0, 1.0).tolist())


def _sample_light(rng: np.random.Generator) -> Light:
    angle, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.8, 2.5)
    warmth = rng.uniform(-0.06, 0.06)
    return Light(
        direction=(float(np.cos(angle)), float(np.sin(angle)), float(height)),
        color=(float(1 + warmth), 1.0, float(1 - warmth)),
        ambient=float(rng.uniform(0.45, 0.65)),
        diffuse=float(rng.uniform(0.3, 0.5)),
    )


def _sample_camera(rng: np.random.Generator, name: str, side: float) -> CameraPose:
    """An exterior camera near the station's nominal pose on the left (+1) or right (-1) of the robot."""
    azimuth = side * rng.uniform(0.35, 0.80)
    elevation, distance = rng.uniform(0.38, 0.62), rng.uniform(0.95, 1.12)
    target = np.array([0.44, 0.0, 0.15]) + rng.uniform(-0.03, 0.03, 3)
    offset = distance * np.array(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    )
    eye = target + offset
    return CameraPose(name, _three(eye.tolist()), _three(target.tolist()), float(rng.uniform(0.62, 0.70)))


def with_pose(scene: Scene, index: int, x: float, y: float, yaw: float) -> Scene:
    """The same scene with object `index` moved to (x, y, yaw)."""
    if not 0 <= index < len(scene.objects):
        raise InvalidInput("object index", index, f"0 to {len(scene.objects) - 1}")
    moved = replace(scene.objects[index], x=x, y=y, yaw=yaw)
    return replace(scene, objects=(*scene.objects[:index], moved, *scene.objects[index + 1 :]))
