"""Tasks: which scene they need, and when they are done; the tasks of the DROID station.

Reward and success live here, not in the world model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from vap_sim.envs.scenes import Scene, sample_scene
from vap_sim.errors import InvalidInput, UnknownName


@dataclass(frozen=True)
class Situation:
    """What a task may look at. Metres in the base frame.

    tool (3,); gripper in [0, 1] (0 open); objects (K, 3) centres; touched, held (K,) bool; speed of the fastest object
    [m/s]. Whoever judges by pictures alone may leave out the rest: turns (K, 4) quaternions xyzw of the objects;
    contacts (K, K) bool, which objects touch each other; grounded (K,) bool, which touch the table or what stands fast
    on it; drawers (D,) openings of the scene's cabinets [m].
    """

    scene: Scene
    tool: np.ndarray
    gripper: float
    objects: np.ndarray
    touched: np.ndarray
    held: np.ndarray
    speed: float
    turns: np.ndarray = field(default_factory=lambda: np.zeros((0, 4)))
    contacts: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), bool))
    grounded: np.ndarray = field(default_factory=lambda: np.zeros(0, bool))
    drawers: np.ndarray = field(default_factory=lambda: np.zeros(0))


class Task(Protocol):
    """A task draws its scene and judges a situation; of loose objects, object 0 is always the one it is about."""

    @property
    def name(self) -> str:
        """What the task is called in `get_task`."""
        ...

    def scene(self, rng: np.random.Generator) -> Scene:
        """Draw a scene in which the task can be done."""
        ...

    def lacks(self, scene: Scene) -> str | None:
        """What the task needs and a scene does not have, in words; None where nothing is missing."""
        ...

    def instruction(self, scene: Scene) -> str:
        """The task in words."""
        ...

    def success(self, situation: Situation) -> bool:
        """Whether the task is done now."""
        ...

    def distance(self, situation: Situation) -> float:
        """What is left to do [m]; its negative is the dense reward. Raises InvalidInput where the goal is missing."""
        ...


@dataclass(frozen=True)
class Reach:
    """Bring the tool to within 3 cm of the point 3 cm above the first object."""

    name: str = "reach"

    def scene(self, rng: np.random.Generator) -> Scene:
        return sample_scene(rng)

    def lacks(self, scene: Scene) -> str | None:
        return None

    def instruction(self, scene: Scene) -> str:
        return f"move the gripper above the {words_of(scene)}"

    def distance(self, situation: Situation) -> float:
        top = situation.objects[0] + [0, 0, situation.scene.objects[0].size[2] / 2 + 0.03]
        return float(np.linalg.norm(situation.tool - top))

    def success(self, situation: Situation) -> bool:
        return self.distance(situation) < 0.03


@dataclass(frozen=True)
class Push:
    """Slide the first object onto the goal disc; it must stay on the table and come to rest."""

    name: str = "push"

    def scene(self, rng: np.random.Generator) -> Scene:
        return sample_scene(rng, goal=True)

    def lacks(self, scene: Scene) -> str | None:
        return no_goal(scene)

    def instruction(self, scene: Scene) -> str:
        return f"push the {words_of(scene)} onto the disc"

    def distance(self, situation: Situation) -> float:
        return _to_goal(situation)

    def success(self, situation: Situation) -> bool:
        return _on_goal(situation)


@dataclass(frozen=True)
class PickPlace:
    """Carry the first object to the goal disc and let go of it there."""

    name: str = "pick_place"

    def scene(self, rng: np.random.Generator) -> Scene:
        return sample_scene(rng, goal=True)

    def lacks(self, scene: Scene) -> str | None:
        return no_goal(scene)

    def instruction(self, scene: Scene) -> str:
        return f"put the {words_of(scene)} on the disc"

    def distance(self, situation: Situation) -> float:
        return _to_goal(situation)

    def success(self, situation: Situation) -> bool:
        return _on_goal(situation) and not situation.held[0] and situation.gripper < 0.5


_ALL: tuple[Task, ...] = (Reach(), Push(), PickPlace())
TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def get_task(name: str) -> Task:
    """DROID's task of that name; `Station.get_task` knows those of other stations. Raises UnknownName."""
    if name not in TASKS:
        raise UnknownName("task", name, TASKS)
    return TASKS[name]


def words_of(scene: Scene, index: int = 0) -> str:
    """An object in words; its color is its own in the scene. Raises InvalidInput where there is no such object."""
    if index >= len(scene.objects):
        raise InvalidInput("objects of a scene", len(scene.objects), f"at least {index + 1}, as the task needs")
    return f"{scene.objects[index].color} {scene.objects[index].shape}"


def no_goal(scene: Scene) -> str | None:
    """What a scene without a goal lacks."""
    return "goal" if scene.goal is None else None


def _to_goal(situation: Situation) -> float:
    goal = situation.scene.goal
    if goal is None:
        raise InvalidInput("scene of a task with a goal", "no goal disc", "one, as the task's own `scene` draws it")
    return float(np.linalg.norm(situation.objects[0][:2] - goal[:2]))


def _on_goal(situation: Situation) -> bool:
    goal, size = situation.scene.goal, situation.scene.objects[0].size
    # However it lies or stands on the table, an object's centre is no higher than half its diagonal.
    on_table = -0.02 < situation.objects[0][2] < float(np.linalg.norm(size)) / 2
    return goal is not None and on_table and _to_goal(situation) < goal[2] and situation.speed < 0.05
