"""Tasks of the RT-1 station: picking, moving one thing near another, opening and closing a drawer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vap_sim.envs import layouts
from vap_sim.envs.scene_parts import Cabinet, three
from vap_sim.envs.scenes import Scene, sample_scene
from vap_sim.envs.tasks import Situation, words_of
from vap_sim.errors import InvalidInput

LIFT = 0.05
"""How high [m] a picked object must be above where it stood."""
NEAR = 0.06
"""The widest gap [m] between two objects that are near each other."""
_APART = 0.04  # [m] by which two objects are farther from each other at the beginning
OPENED, CLOSED = 0.75, 0.10
"""Shares of its travel from which a drawer is open, and up to which it is closed."""
_REST = 0.05  # [m/s]
_HALF_OPEN = 0.5
_GRIPPED = ("cube", "brick", "cylinder", "hexagon", "wedge")


@dataclass(frozen=True)
class Pick:
    """Grasp object 0 and lift it off the table."""

    name: str = "pick"

    def scene(self, rng: np.random.Generator) -> Scene:
        return sample_scene(rng, layout=layouts.RT1)

    def lacks(self, scene: Scene) -> str | None:
        return None if scene.objects else "object"

    def instruction(self, scene: Scene) -> str:
        return f"pick the {words_of(scene)}"

    def distance(self, situation: Situation) -> float:
        """From the tool to the object, and what is left to lift [m]."""
        to_object = float(np.linalg.norm(situation.tool - situation.objects[0]))
        return to_object + max(0.0, LIFT - _lift(situation))

    def success(self, situation: Situation) -> bool:
        return bool(situation.held[0]) and not bool(situation.grounded[0]) and _lift(situation) > LIFT


@dataclass(frozen=True)
class MoveNear:
    """Bring object 0 near object 1, nearer than to any other, and let go of it."""

    name: str = "move_near"

    def scene(self, rng: np.random.Generator) -> Scene:
        while True:  # half of the scenes or more have the two apart
            scene = sample_scene(rng, int(rng.integers(2, 4)), layout=layouts.RT1, shapes=[_GRIPPED, _GRIPPED])
            first, other = scene.objects[:2]
            if np.hypot(other.x - first.x, other.y - first.y) - (first.width + other.width) / 2 > NEAR + _APART:
                return scene

    def lacks(self, scene: Scene) -> str | None:
        return None if len(scene.objects) > 1 else "second object"

    def instruction(self, scene: Scene) -> str:
        return f"move the {words_of(scene)} near the {words_of(scene, 1)}"

    def distance(self, situation: Situation) -> float:
        return max(0.0, _gap(situation, 1) - NEAR)

    def success(self, situation: Situation) -> bool:
        nearest = min(range(1, len(situation.objects)), key=lambda index: _gap(situation, index))
        on_table = bool(situation.grounded[0]) and bool((situation.objects[:2, 2] > -0.02).all())
        free = not situation.held[0] and situation.gripper < _HALF_OPEN
        return bool(nearest == 1 and _gap(situation, 1) < NEAR and on_table and free and situation.speed < _REST)


@dataclass(frozen=True)
class MoveDrawer:
    """Open the drawer of the first cabinet, or close it. Whatever else stands on the table is in the way at most."""

    name: str
    opens: bool

    def scene(self, rng: np.random.Generator) -> Scene:
        cabinet = sample_cabinet(rng, opened=not self.opens)
        return sample_scene(rng, int(rng.integers(1, 3)), layout=layouts.RT1_DRAWER, cabinet=cabinet)

    def lacks(self, scene: Scene) -> str | None:
        return None if scene.cabinets else "cabinet"

    def instruction(self, scene: Scene) -> str:
        return f"{'open' if self.opens else 'close'} the drawer"

    def distance(self, situation: Situation) -> float:
        """How far the drawer still has to go [m]."""
        cabinet, opening = _drawer(situation)
        if self.opens:
            return max(0.0, OPENED * cabinet.travel - opening)
        return max(0.0, opening - CLOSED * cabinet.travel)

    def success(self, situation: Situation) -> bool:
        return self.distance(situation) == 0.0


def sample_cabinet(rng: np.random.Generator, *, opened: bool) -> Cabinet:
    """Draw a cabinet within reach, its drawer nearly shut, or out far enough to be open."""
    travel = float(rng.uniform(0.14, 0.17))
    share = rng.uniform(OPENED + 0.05, 1.0) if opened else rng.uniform(0.0, CLOSED)
    level = rng.uniform(0.35, 0.9)
    return Cabinet(
        x=float(rng.uniform(0.58, 0.64)),
        y=float(rng.uniform(-0.12, 0.0)),
        yaw=float(np.pi + rng.normal(0.0, 0.06)),
        size=three((rng.uniform(0.22, 0.26), rng.uniform(0.26, 0.34), rng.uniform(0.15, 0.19))),
        color=three(np.clip(level + rng.uniform(-0.12, 0.12, 3), 0.0, 1.0).tolist()),
        opening=float(share) * travel,
        travel=travel,
    )


def _drawer(situation: Situation) -> tuple[Cabinet, float]:
    cabinets, drawers = situation.scene.cabinets, situation.drawers
    if not cabinets or len(drawers) != len(cabinets):
        given = f"{len(cabinets)} cabinets and {len(drawers)} openings of drawers"
        raise InvalidInput("situation of a task with a drawer", given, "a cabinet, and an opening for each")
    return cabinets[0], float(drawers[0])


def _lift(situation: Situation) -> float:
    """How much higher object 0 is than it stood at the beginning [m]."""
    return float(situation.objects[0][2]) - situation.scene.objects[0].size[2] / 2


def _gap(situation: Situation, index: int) -> float:
    """From the edge of object 0 to that of another, seen from above and both taken as round [m]."""
    first, other = situation.scene.objects[0], situation.scene.objects[index]
    apart = situation.objects[index][:2] - situation.objects[0][:2]
    return float(np.hypot(apart[0], apart[1])) - (first.width + other.width) / 2
