"""How the scenes of a station are drawn: where things may stand, how large they are, where cameras stand, which room.

Metres and radians in the robot's base frame; the table top is the plane z = 0. Pairs of numbers are (low, high).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vap_sim.envs.scene_parts import SHAPES, Box, Room, Vector3

Range = tuple[float, float]


@dataclass(frozen=True)
class CameraSpread:
    """Where an exterior camera may stand: on a part of a sphere around its target, which itself is off by `jitter` [m].

    azimuth is measured from +x towards +y, `mirrored` turns its sign; distance [m]; vertical_fov [rad].
    """

    name: str
    azimuth: Range
    elevation: Range
    distance: Range
    target: Vector3
    vertical_fov: Range
    jitter: float = 0.03
    mirrored: bool = False


@dataclass(frozen=True)
class Layout:
    """The spread of a station's scenes.

    low, high: corners (x, y) of the area in which objects and goals are placed; gap: from one to the next; side,
    height: of objects, and `brick_height` that of bricks; shapes: theirs; goal_radius: of the disc painted as a goal.
    """

    low: tuple[float, float]
    high: tuple[float, float]
    cameras: tuple[CameraSpread, ...]
    gap: float = 0.115
    shapes: tuple[str, ...] = SHAPES
    side: Range = (0.048, 0.066)
    height: Range = (0.05, 0.085)
    brick_height: Range = (0.045, 0.06)
    goal_radius: Range = (0.055, 0.07)
    room: Room = Room()


_DROID_CAMERA = CameraSpread("exterior_1", (0.35, 0.80), (0.38, 0.62), (0.95, 1.12), (0.44, 0.0, 0.15), (0.62, 0.70))

DROID = Layout(
    low=(0.34, -0.26),
    high=(0.62, 0.26),
    cameras=(
        _DROID_CAMERA,
        CameraSpread(
            "exterior_2",
            _DROID_CAMERA.azimuth,
            _DROID_CAMERA.elevation,
            _DROID_CAMERA.distance,
            _DROID_CAMERA.target,
            _DROID_CAMERA.vertical_fov,
            mirrored=True,
        ),
    ),
)
"""A Panda at a table, seen by two cameras in front of it, left and right."""

BRIDGE = Layout(
    low=(0.17, -0.17),
    high=(0.34, 0.17),
    cameras=(
        CameraSpread("exterior_1", (-2.40, -1.95), (0.62, 0.82), (0.60, 0.70), (0.25, 0.0, 0.05), (0.60, 0.70), 0.02),
        CameraSpread("exterior_2", (0.45, 0.95), (0.42, 0.62), (0.62, 0.74), (0.24, 0.0, 0.05), (0.60, 0.70), 0.02),
    ),
    gap=0.085,
    side=(0.027, 0.034),
    height=(0.030, 0.050),
    brick_height=(0.027, 0.036),
    goal_radius=(0.045, 0.055),
    room=Room(
        table=Box((0.40, 0.0, -0.03), (0.70, 0.80, 0.03)),
        walls=(Box((1.3, 0.0, 0.6), (0.02, 4.0, 3.0)), Box((-1.3, 0.0, 0.6), (0.02, 4.0, 3.0)),
               Box((0.0, 1.3, 0.6), (4.0, 0.02, 3.0)), Box((0.0, -1.3, 0.6), (4.0, 0.02, 3.0))),
        floor=Box((0.0, 0.0, -0.75), (4.0, 4.0, 0.02)),
    ),
)  # fmt: skip
"""A WidowX on a table, seen over its right shoulder, where Bridge's main camera stands, and from the front left."""

RT1 = Layout(
    low=(0.42, -0.26),
    high=(0.62, 0.14),
    cameras=(
        CameraSpread("exterior_1", (1.25, 1.75), (0.42, 0.62), (1.10, 1.30), (0.45, -0.08, 0.12), (0.66, 0.78)),
    ),
    gap=0.125,
    height=(0.05, 0.08),
    room=Room(
        table=Box((0.83, 0.0, -0.02), (0.53, 1.0, 0.02)),
        walls=(Box((1.9, 0.0, 0.6), (0.02, 4.0, 3.0)), Box((-1.4, 0.0, 0.6), (0.02, 4.0, 3.0)),
               Box((0.0, -1.8, 0.6), (4.0, 0.02, 3.0))),
        floor=Box((0.0, 0.0, -0.889), (4.0, 4.0, 0.02)),
    ),
)  # fmt: skip
"""RT-1's robot at a counter: it looks down with the camera in its head; `exterior_1` stands to its left."""

RT1_DRAWER = replace(RT1, low=(0.42, -0.36), high=(0.66, 0.30))
"""The same counter with a cabinet on it: other things stand to its sides."""
