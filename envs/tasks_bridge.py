"""Tasks of the Bridge station: putting a thing on a plate, and stacking one block on another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vap_sim.envs import layouts
from vap_sim.envs.scenes import Scene, sample_scene
from vap_sim.envs.tasks import Situation, words_of

_REST = 0.05  # [m/s]
_STEADY = ("cube", "cylinder", "hexagon")
"""Shapes that can carry another: flat and level on top."""
_STACKED = ("cube", "brick", "cylinder", "hexagon")
_HALF_OPEN = 0.5


@dataclass(frozen=True)
class PutOnPlate:
    """Put object 0 on the plate, which is object 1, and let go: it must rest on the plate alone."""

    name: str = "put_on_plate"

    def scene(self, rng: np.random.Generator) -> Scene:
        count = int(rng.integers(2, 4))
        return sample_scene(rng, count, layout=layouts.BRIDGE, shapes=[layouts.BRIDGE.shapes, ("plate",)])

    def lacks(self, scene: Scene) -> str | None:
        return None if len(scene.objects) > 1 and scene.objects[1].shape == "plate" else "plate as its second object"

    def instruction(self, scene: Scene) -> str:
        return f"put the {words_of(scene)} on the {words_of(scene, 1)}"

    def distance(self, situation: Situation) -> float:
        return base_distance(situation, rise=_lowest_half(situation))

    def success(self, situation: Situation) -> bool:
        radius = situation.scene.objects[1].width / 2
        offset = situation.objects[0] - situation.objects[1]
        return rests_on_base(situation) and float(np.hypot(offset[0], offset[1])) < radius


@dataclass(frozen=True)
class Stack:
    """Stack object 0 on object 1 and let go: it must rest on that object alone."""

    name: str = "stack"

    def scene(self, rng: np.random.Generator) -> Scene:
        count = int(rng.integers(2, 4))
        return sample_scene(rng, count, layout=layouts.BRIDGE, shapes=[_STACKED, _STEADY])

    def lacks(self, scene: Scene) -> str | None:
        if len(scene.objects) > 1 and scene.objects[1].shape in (*_STEADY, "brick"):
            return None
        return "second object that is level on top"

    def instruction(self, scene: Scene) -> str:
        return f"stack the {words_of(scene)} on the {words_of(scene, 1)}"

    def distance(self, situation: Situation) -> float:
        return base_distance(situation, rise=situation.scene.objects[0].size[2] / 2)

    def success(self, situation: Situation) -> bool:
        above = situation.objects[0][2] - situation.objects[1][2]
        return rests_on_base(situation) and above > situation.scene.objects[1].size[2] / 2


def rests_on_base(situation: Situation) -> bool:
    """Whether object 0 rests on object 1, touching neither table nor robot nor anything else, and nothing moves."""
    contacts, others = situation.contacts, range(2, len(situation.objects))
    return bool(
        contacts[0, 1]
        and not situation.grounded[0]
        and not any(contacts[0, index] for index in others)
        and not situation.held[0]
        and situation.gripper < _HALF_OPEN
        and situation.objects[0][2] > situation.objects[1][2]
        and situation.speed < _REST
    )


def base_distance(situation: Situation, rise: float) -> float:
    """From the centre of object 0 to where it belongs: `rise` [m] above the top of object 1."""
    base = situation.scene.objects[1]
    place = situation.objects[1] + [0.0, 0.0, base.size[2] / 2 + rise]
    return float(np.linalg.norm(situation.objects[0] - place))


def _lowest_half(situation: Situation) -> float:
    """However a thing lies on a plate, its centre is at least this high above it [m]."""
    return min(situation.scene.objects[0].size) / 2
