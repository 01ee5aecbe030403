"""Tasks of the EgoVid station, where a hand works before its owner's eyes: lifting, pushing, tilting as if to pour."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.envs.layouts import CameraSpread, Layout
from vap_sim.envs.scene_parts import Box, Room
from vap_sim.envs.scenes import Scene, sample_scene, with_pose
from vap_sim.envs.tasks import Situation, no_goal, words_of
from vap_sim.errors import InvalidInput

LIFT = 0.06
"""How high [m] a lifted object must be above where it stood."""
TILT = float(np.radians(60))
"""How far [rad] from upright a tilted object must be."""
_REST = 0.05  # [m/s]
_AHEAD = 0.26  # [rad] the middle of the directions in which a right hand pushes
_EASY = (-0.35, 1.0)  # [rad] where a right hand points with an easy wrist
_ARM = 0.1  # [m] that a radian counts for in a distance

LAYOUT = Layout(
    low=(0.34, -0.14),
    high=(0.54, 0.18),
    cameras=(
        CameraSpread("exterior_1", (0.35, 0.75), (0.38, 0.60), (0.85, 1.00), (0.37, 0.0, 0.10), (0.64, 0.74)),
    ),
    gap=0.125,
    shapes=("cube", "brick", "cylinder", "hexagon", "wedge", "sphere"),
    side=(0.045, 0.058),
    height=(0.05, 0.075),
    brick_height=(0.042, 0.055),
    goal_radius=(0.055, 0.07),
    room=Room(
        table=Box((0.42, 0.0, -0.02), (0.60, 0.80, 0.02)),
        walls=(Box((2.2, 0.0, 0.6), (0.02, 4.0, 3.0)), Box((-1.4, 0.0, 0.6), (0.02, 4.0, 3.0))),
        floor=Box((0.0, 0.0, -0.76), (4.0, 4.0, 0.02)),
    ),
)  # fmt: skip
"""A table before somebody who sits at it; `exterior_1` looks at them from the front."""
TALL = replace(LAYOUT, side=(0.045, 0.058), height=(0.10, 0.125))
"""The same table with things high enough to be held from the side."""
GRASPED = ("cube", "brick", "cylinder", "hexagon", "sphere")
"""Shapes that fingers and thumb hold from above; those of a wedge slip on its slopes."""


@dataclass(frozen=True)
class GraspLift:
    """Grasp object 0 and lift it off the table."""

    name: str = "grasp_lift"

    def scene(self, rng: np.random.Generator) -> Scene:
        scene = sample_scene(rng, int(rng.integers(1, 4)), layout=LAYOUT, shapes=[GRASPED])
        return _handy(scene, float(rng.uniform(*_EASY)))

    def lacks(self, scene: Scene) -> str | None:
        return None if scene.objects else "object"

    def instruction(self, scene: Scene) -> str:
        return f"grasp the {words_of(scene)} and lift it"

    def distance(self, situation: Situation) -> float:
        """From where the hand closes to the object, and what is left to lift [m]."""
        to_object = float(np.linalg.norm(situation.tool - situation.objects[0]))
        return to_object + max(0.0, LIFT - _raised(situation))

    def success(self, situation: Situation) -> bool:
        return _carried(situation) and _raised(situation) > LIFT


@dataclass(frozen=True)
class PushAway:
    """Push object 0 away or aside, onto the goal disc; it must stay on the table and come to rest."""

    name: str = "push"

    def scene(self, rng: np.random.Generator) -> Scene:
        return _outward(sample_scene(rng, int(rng.integers(1, 3)), goal=True, layout=LAYOUT))

    def lacks(self, scene: Scene) -> str | None:
        return no_goal(scene)

    def instruction(self, scene: Scene) -> str:
        return f"push the {words_of(scene)} onto the disc"

    def distance(self, situation: Situation) -> float:
        """From the object to the middle of the disc [m]."""
        return _to_goal(situation)

    def success(self, situation: Situation) -> bool:
        on_table = bool(situation.grounded[0]) and situation.objects[0][2] > -0.02
        return on_table and _to_goal(situation) < _disc(situation)[2] and situation.speed < _REST


@dataclass(frozen=True)
class Tilt:
    """Hold object 0 above the goal disc and tilt it by more than 60 degrees, as if to pour."""

    name: str = "tilt"

    def scene(self, rng: np.random.Generator) -> Scene:
        shapes = [("cylinder", "hexagon")]
        return sample_scene(rng, int(rng.integers(1, 3)), goal=True, layout=TALL, shapes=shapes)

    def lacks(self, scene: Scene) -> str | None:
        return no_goal(scene)

    def instruction(self, scene: Scene) -> str:
        return f"tilt the {words_of(scene)} above the disc as if to pour"

    def distance(self, situation: Situation) -> float:
        """What is left [m]: to the object, over to the disc, to lift, and 0.1 m for every radian to tilt."""
        to_object = 0.0 if situation.held[0] else float(np.linalg.norm(situation.tool - situation.objects[0]))
        aside = max(0.0, _to_goal(situation) - _disc(situation)[2])
        left = max(0.0, TILT - _tilt(situation))
        return to_object + aside + _ARM * left + (0.0 if _carried(situation) else LIFT)

    def success(self, situation: Situation) -> bool:
        above = _to_goal(situation) < _disc(situation)[2]
        return _carried(situation) and above and _tilt(situation) > TILT


def _outward(scene: Scene) -> Scene:
    """The same scene where the goal lies away from the person or aside; else object 0 and the goal change places."""
    goal, item = scene.goal, scene.objects[0]
    if goal is None or abs(np.arctan2(goal[1] - item.y, goal[0] - item.x) - _AHEAD) <= np.pi / 2:
        return scene
    moved = replace(scene, goal=(item.x, item.y, goal[2]))
    return with_pose(moved, 0, goal[0], goal[1], item.yaw)


def _handy(scene: Scene, yaw: float) -> Scene:
    """The same scene with object 0, where it is long, lying so that a hand that points to `yaw` [rad] can take it."""
    item = scene.objects[0]
    return with_pose(scene, 0, item.x, item.y, yaw - np.pi / 2) if item.shape == "brick" else scene


def _raised(situation: Situation) -> float:
    """How far object 0 is above the height at which it stood [m]."""
    return float(situation.objects[0][2]) - situation.scene.objects[0].size[2] / 2


def _carried(situation: Situation) -> bool:
    """Whether the hand holds object 0 and nothing else bears it."""
    return bool(situation.held[0]) and not bool(situation.grounded[0])


def _tilt(situation: Situation) -> float:
    """The angle between object 0's own axis and the vertical [rad]."""
    upright = Rotation.from_quat(situation.turns[0]).as_matrix()[2, 2]
    return float(np.arccos(np.clip(upright, -1.0, 1.0)))


def _disc(situation: Situation) -> tuple[float, float, float]:
    if situation.scene.goal is None:
        raise InvalidInput("scene of a task with a goal", "no goal disc", "one, as the task's own `scene` draws it")
    return situation.scene.goal


def _to_goal(situation: Situation) -> float:
    x, y, _ = _disc(situation)
    return float(np.hypot(situation.objects[0][0] - x, situation.objects[0][1] - y))
