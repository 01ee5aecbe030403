"""Stations: everything that a twin and a dream of one place of work need to know, as one record a place.

A station names its robot, rates, cameras and tasks, and how its scenes are drawn; environments, recordings and
scripted experts read them from it. Nothing here loads a robot or a physics engine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.envs import layouts
from vap_sim.envs.layouts import Layout
from vap_sim.envs.scenes import Scene, sample_scene
from vap_sim.envs.tasks import TASKS, Task
from vap_sim.envs.tasks_bridge import PutOnPlate, Stack
from vap_sim.envs.tasks_rt1 import MoveDrawer, MoveNear, Pick
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.library import RobotModel

StartJoints = Callable[[np.random.Generator, RobotModel, Scene], NDArray[np.float64]]
"""Draws where the joints (J,) [rad or m] stand at the beginning of an episode."""

SceneDraw = Callable[[np.random.Generator], Scene]
"""Draws a scene."""
TWIN_PHYSICS = "vap_sim.envs.twin_physics:TwinPhysics"


@dataclass(frozen=True)
class Station:
    """One place of work. Its environments are `VAPWorld-<name>-v0` and `VAPTwin-<name>-v0`.

    robot: its name in the library; tasks: by name, and `task` the one to do unless told otherwise; layout: how scenes
    without a task of their own are drawn; control: of the actions; control_hz, video_hz: actions and pictures a second,
    of which 240 is a multiple; views: cameras of the scene or of the robot, of which recordings show the first unless
    told otherwise; size: (width, height) of pictures [px].

    scenes: draws those of recordings, in which any of the tasks may be done; None draws a task and then its scene.

    start_spread [rad]: of the joints about the home pose, `start_spreads` that of single ones by name, the gripper's is
    open; or `start_joints` draws them. physics: "module:name" of what moves, called with (scene, robot model, joints)
    and imported when a twin is built; twin_physics.TwinPhysics says what it must be able to do.

    Raises InvalidInput, or UnknownName where `task` is none of the tasks.
    """

    name: str
    robot: str
    tasks: Mapping[str, Task]
    task: str
    layout: Layout
    control: str = "joint_velocity"
    control_hz: float = 5.0
    video_hz: float = 5.0
    views: tuple[str, ...] = ("exterior_1",)
    size: tuple[int, int] = (128, 128)
    start_spread: float = 0.05
    start_spreads: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    start_joints: StartJoints | None = None
    scenes: SceneDraw | None = None
    physics: str = TWIN_PHYSICS

    def __post_init__(self) -> None:
        if self.task not in self.tasks:
            raise UnknownName(f"task of station {self.name!r}", self.task, self.tasks)
        for name, task in self.tasks.items():
            if task.name != name:
                raise InvalidInput(f"tasks of station {self.name!r}", f"{task.name!r} under {name!r}", "its own name")
        for rate in (self.control_hz, self.video_hz):
            if abs(240 / rate - round(240 / rate)) > 1e-9:
                raise InvalidInput(f"rates of station {self.name!r} [Hz]", rate, "a divisor of 240")

    def get_task(self, name: str | None = None) -> Task:
        """The task of that name, or the one to do unless told otherwise. Raises UnknownName with the nearest one."""
        chosen = self.task if name is None else name
        if chosen not in self.tasks:
            raise UnknownName(f"task of station {self.name!r}", chosen, self.tasks)
        return self.tasks[chosen]

    def sample_scene(self, rng: np.random.Generator) -> Scene:
        """Draw a scene of any of the tasks, as recordings need them."""
        if self.scenes is not None:
            return self.scenes(rng)
        names = tuple(self.tasks)
        return self.tasks[names[int(rng.integers(len(names)))]].scene(rng)

    def draw_joints(self, rng: np.random.Generator, model: RobotModel, scene: Scene) -> NDArray[np.float64]:
        """Where the joints (J,) [rad or m] of a robot stand at the beginning: near its home, within the limits."""
        if self.start_joints is not None:
            return self.start_joints(rng, model, scene)
        joints = model.home.double().numpy()
        gripper = None if model.gripper is None else model.gripper.joint
        moving = [index for index, name in enumerate(model.robot.joint_names) if name != gripper]
        spread = [self.start_spreads.get(model.robot.joint_names[index], self.start_spread) for index in moving]
        joints[moving] += rng.normal(0, spread)
        return np.asarray(model.robot.clamp(torch.from_numpy(joints)))


def _by_name(*tasks: Task) -> Mapping[str, Task]:
    return MappingProxyType({task.name: task for task in tasks})


def _tabletop(rng: np.random.Generator) -> Scene:
    return sample_scene(rng, goal=bool(rng.uniform() < 0.5))


DROID = Station(
    name="DROID",
    robot="panda_robotiq",
    tasks=MappingProxyType(TASKS),
    task="pick_place",
    layout=layouts.DROID,
    views=("exterior_1", "wrist"),
    scenes=_tabletop,
)

BRIDGE = Station(
    name="Bridge",
    robot="widowx",
    tasks=_by_name(PutOnPlate(), Stack()),
    task="put_on_plate",
    layout=layouts.BRIDGE,
    control="ee_delta",
)

RT1 = Station(
    name="RT1",
    robot="google_robot",
    tasks=_by_name(Pick(), MoveNear(), MoveDrawer("open_drawer", opens=True), MoveDrawer("close_drawer", opens=False)),
    task="pick",
    layout=layouts.RT1,
    control="ee_delta",
    control_hz=3.0,
    video_hz=3.0,
    views=("head",),
    start_spread=0.04,
    start_spreads=MappingProxyType({"joint_head_pan": 0.03, "joint_head_tilt": 0.03}),
)

_SHELF: Mapping[str, Station | str] = MappingProxyType(
    {"DROID": DROID, "Bridge": BRIDGE, "RT1": RT1, "EgoVid": "vap_sim.envs.hand_station:EGOVID"}
)
"""Stations by name, or "module:name" of one that is loaded when it is asked for."""


def station_names() -> tuple[str, ...]:
    """Names of the stations that come with the package."""
    return tuple(_SHELF)


def get_station(name: str | Station) -> Station:
    """The station of that name, or the station itself. Raises UnknownName with the nearest name."""
    if isinstance(name, Station):
        return name
    if name not in _SHELF:
        raise UnknownName("station", name, _SHELF)
    found = _SHELF[name]
    if isinstance(found, str):
        module, _, attribute = found.partition(":")
        station = getattr(import_module(module), attribute)
        assert isinstance(station, Station), found
        return station
    return found
