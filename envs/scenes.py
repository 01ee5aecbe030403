"""Scenes as data: objects, furniture, table, room, light and cameras, drawn from a seed and readable as JSON.

Nothing here knows a physics engine. Metres and radians in the robot's base frame; the table top is the plane z = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np

from vap_sim.colors import COLORS
from vap_sim.envs.layouts import DROID, CameraSpread, Layout
from vap_sim.envs.scene_parts import (
    HANDLE_THICKNESS,
    SHAPES,
    Cabinet,
    CameraPose,
    Light,
    Quaternion,
    Room,
    SceneObject,
    Vector3,
    read_cabinet,
    read_camera,
    read_light,
    read_object,
    read_room,
    three,
)
from vap_sim.errors import InvalidInput, UnknownName, VAPSimError

__all__ = [
    "COLORS", "SHAPES", "WORKSPACE_HIGH", "WORKSPACE_LOW", "Cabinet", "CameraPose", "Light", "Room", "Scene",
    "SceneObject", "Vector3", "sample_light", "sample_scene", "with_openings", "with_pose",
]  # fmt: skip

WORKSPACE_LOW, WORKSPACE_HIGH = DROID.low, DROID.high
"""Corners (x, y) [m] of the table area in which DROID's objects and goals are placed."""

_PLATE_MARGIN = 0.045  # [m] by which a plate keeps farther away from other things than an object does
_PLATE_WIDTH, _PLATE_HEIGHT = (0.115, 0.14), 0.014
_LATER = ("room", "cabinets")


@dataclass(frozen=True)
class Scene:
    """Everything a twin needs to build a world; `goal` is a disc (x, y, radius) [m] painted on the table, or None.

    cabinets: each has one drawer.
    """

    objects: tuple[SceneObject, ...]
    table_color: Vector3
    wall_color: Vector3
    light: Light
    cameras: tuple[CameraPose, ...]
    goal: tuple[float, float, float] | None = None
    name: str = ""
    room: Room = Room()
    cabinets: tuple[Cabinet, ...] = ()

    def __post_init__(self) -> None:
        colors = [item.color for item in self.objects]
        if len(set(colors)) != len(colors):
            raise InvalidInput("object colors of a scene", colors, "a different color for each object")

    def to_dict(self) -> dict[str, Any]:
        """Tuples, texts and numbers, ready for JSON; left unsaid are DROID's room, an absence of cabinets, and heights
        and turns of objects that stand on the table."""
        values = asdict(self)
        for item in values["objects"]:
            if item["z"] is None:
                del item["z"], item["turn"]
        for name in _LATER:
            if getattr(self, name) == type(self).__dataclass_fields__[name].default:
                del values[name]
        return values

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Scene:
        """The inverse of `to_dict`. Raises InvalidInput or UnknownName for missing, unknown or wrong fields."""
        unknown = data.keys() - {field.name for field in fields(cls)} if isinstance(data, dict) else ()
        if unknown:
            raise UnknownName("field of a scene record", min(unknown), (field.name for field in fields(cls)))
        try:
            goal, room = data["goal"], data.get("room")
            return cls(
                objects=tuple(read_object(**item) for item in data["objects"]),
                table_color=three(data["table_color"]),
                wall_color=three(data["wall_color"]),
                light=read_light(**data["light"]),
                cameras=tuple(read_camera(**item) for item in data["cameras"]),
                goal=None if goal is None else three(goal),
                name=str(data.get("name", "")),
                room=Room() if room is None else read_room(**room),
                cabinets=tuple(read_cabinet(**item) for item in data.get("cabinets", ())),
            )
        except VAPSimError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput("scene record", f"a bad or missing field ({error})", "Scene.to_dict()") from error


def sample_scene(
    rng: np.random.Generator,
    num_objects: int | None = None,
    *,
    goal: bool = False,
    layout: Layout = DROID,
    shapes: Sequence[Sequence[str]] = (),
    cabinet: Cabinet | None = None,
) -> Scene:
    """Draw a scene: 1 to 4 objects apart from each other, table, wall, light and the layout's exterior cameras.

    Args:
        rng: the only source of randomness; the same generator state gives the same scene.
        num_objects: 1 to 4; drawn when None.
        goal: paint a goal disc clear of all objects.
        layout: where things stand and how large they are.
        shapes: those among which the first objects' are drawn, one entry an object; the layout's for all others.
        cabinet: stands in the scene, and objects and goal keep clear of it and of its drawer's way.
    """
    if num_objects is not None and not 1 <= num_objects <= 4:
        raise InvalidInput("num_objects", num_objects, "1 to 4")
    count = int(rng.integers(1, 5)) if num_objects is None else num_objects
    choices = [*shapes, *([layout.shapes] * count)][:count]
    names = rng.permutation(sorted(COLORS))[:count]
    margins = [_PLATE_MARGIN if tuple(choice) == ("plate",) else 0.0 for choice in choices]
    spots = _spots(rng, [*margins, *([0.0] * goal)], layout, cabinet)
    objects = tuple(
        _sample_object(rng, str(name), spot, choice, layout)
        for name, spot, choice in zip(names, spots, choices, strict=False)
    )
    disc = (*spots[-1], float(rng.uniform(*layout.goal_radius))) if goal else None
    return Scene(
        objects=objects,
        table_color=_muted(rng, 0.35, 0.85),
        wall_color=_muted(rng, 0.45, 0.95),
        light=sample_light(rng),
        cameras=tuple(_sample_camera(rng, spread) for spread in layout.cameras),
        goal=disc,
        room=layout.room,
        cabinets=() if cabinet is None else (cabinet,),
    )


def _sample_object(
    rng: np.random.Generator, color: str, spot: tuple[float, float], shapes: Sequence[str], layout: Layout
) -> SceneObject:
    shape = shapes[int(rng.integers(len(shapes)))]
    side, height = float(rng.uniform(*layout.side)), float(rng.uniform(*layout.height))
    size = {
        "cube": (side, side, side),
        "brick": (side * 1.7, side, float(rng.uniform(*layout.brick_height))),
        "cylinder": (side, side, height),
        "hexagon": (side, side * np.sqrt(3) / 2, height),
        "wedge": (side * 1.3, side, side),
        "sphere": (side, side, side),
    }
    if shape == "plate":
        width = float(rng.uniform(*_PLATE_WIDTH))
        size["plate"] = (width, width, _PLATE_HEIGHT)
    return SceneObject(shape, color, three(size[shape]), spot[0], spot[1], float(rng.uniform(-np.pi, np.pi)))


def _spots(
    rng: np.random.Generator, margins: Sequence[float], layout: Layout, cabinet: Cabinet | None
) -> list[tuple[float, float]]:
    """A table point for each margin, apart by the layout's gap and both margins [m]; gives up a little of the gap after
    many refusals, so it always ends."""
    spots: list[tuple[float, float]] = []
    gap = layout.gap
    while len(spots) < len(margins):
        point, own = rng.uniform(layout.low, layout.high), margins[len(spots)]
        apart = all(
            np.hypot(point[0] - x, point[1] - y) >= gap + own + other
            for (x, y), other in zip(spots, margins, strict=False)
        )
        if apart and (cabinet is None or _clear(cabinet, point, gap / 2)):
            spots.append((float(point[0]), float(point[1])))
        gap *= 0.998
    return spots


def _clear(cabinet: Cabinet, point: np.ndarray, margin: float) -> bool:
    """Whether a point (x, y) is at least `margin` [m] away from the cabinet and from where its drawer and handle go."""
    turn = np.array([[np.cos(cabinet.yaw), np.sin(cabinet.yaw)], [-np.sin(cabinet.yaw), np.cos(cabinet.yaw)]])
    along, across = turn @ (point - [cabinet.x, cabinet.y])
    ahead = along - (cabinet.travel + cabinet.handle_reach + HANDLE_THICKNESS)
    return bool(abs(across) > cabinet.size[1] / 2 + margin or ahead > margin or -along > cabinet.size[0] + margin)


def _muted(rng: np.random.Generator, low: float, high: float) -> Vector3:
    """A color of low saturation, so that objects stand out from table and wall."""
    level = rng.uniform(low, high)
    return three(np.clip(level + rng.uniform(-0.07, 0.07, 3), 0.0, 1.0).tolist())


def sample_light(rng: np.random.Generator) -> Light:
    """A light from anywhere above."""
    angle, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.8, 2.5)
    warmth = rng.uniform(-0.06, 0.06)
    return Light(
        direction=(float(np.cos(angle)), float(np.sin(angle)), float(height)),
        color=(float(1 + warmth), 1.0, float(1 - warmth)),
        ambient=float(rng.uniform(0.45, 0.65)),
        diffuse=float(rng.uniform(0.3, 0.5)),
    )


def _sample_camera(rng: np.random.Generator, spread: CameraSpread) -> CameraPose:
    """An exterior camera near the station's nominal pose."""
    azimuth = (-1.0 if spread.mirrored else 1.0) * rng.uniform(*spread.azimuth)
    elevation, distance = rng.uniform(*spread.elevation), rng.uniform(*spread.distance)
    target = np.array(spread.target) + rng.uniform(-spread.jitter, spread.jitter, 3)
    offset = distance * np.array(
        [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
    )
    eye = target + offset
    return CameraPose(
        spread.name, three(eye.tolist()), three(target.tolist()), float(rng.uniform(*spread.vertical_fov))
    )


def with_pose(
    scene: Scene,
    index: int,
    x: float,
    y: float,
    yaw: float,
    z: float | None = None,
    turn: Quaternion | None = None,
) -> Scene:
    """The same scene with object `index` moved to (x, y, yaw), on the table unless `z` and `turn` say how it is."""
    if not 0 <= index < len(scene.objects):
        raise InvalidInput("object index", index, f"0 to {len(scene.objects) - 1}")
    moved = replace(scene.objects[index], x=x, y=y, yaw=yaw, z=z, turn=turn)
    return replace(scene, objects=(*scene.objects[:index], moved, *scene.objects[index + 1 :]))


def with_openings(scene: Scene, openings: Sequence[float]) -> Scene:
    """The same scene with its drawers out by `openings` [m], one a cabinet."""
    return replace(
        scene,
        cabinets=tuple(
            replace(cabinet, opening=float(opening)) for cabinet, opening in zip(scene.cabinets, openings, strict=True)
        ),
    )
