"""Eight actions played in the twin, each in a scene and by a camera that its seed draws: demonstrations and targets.

Two bodies know them, a Panda and a WidowX, so that a demonstration may show another body than its target. One seed
gives every action of a body the same scene, camera and beginning, so the first picture never tells which action
follows. Directions are the robot's own: left is its left (+y), away is away from its base (+x).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.envs.layouts import BRIDGE, DROID, Layout
from vap_sim.envs.scenes import CameraPose, Scene, SceneObject, sample_scene
from vap_sim.envs.twin_behaviours import object_target
from vap_sim.envs.twin_physics import TwinPhysics
from vap_sim.envs.twin_recorder import POSES_PER_STEP, check_seeds
from vap_sim.envs.twin_renderer import TwinRenderer, scene_camera
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.policies import motion_plans
from vap_sim.policies.handling import Handling, handling_of
from vap_sim.policies.motion_plans import Target, Waypoint
from vap_sim.policies.scripted import joint_targets
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import Controller
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.training.clips import caption_of
from vap_sim.training.reference_footage import SUFFIX, Footage, save_footage

Plan = list[Waypoint]
_HALF = 0.5
"""Gripper position at the beginning: it can open and close from there."""
_STEADY = ("cube", "brick", "cylinder", "hexagon")
"""Shapes that stay where they are let go and can be gripped."""
Range = tuple[float, float]


@dataclass(frozen=True)
class _Stage:
    """Where and how far a body acts [m]: corners (x, y) of where the object acted upon stands, how far any other is
    from it; by how much the hand begins off it, and how high; how far it pushes, how high it lifts, how far to either
    side and at what height it waves; distance of cameras, and corners of what they look at."""

    layout: Layout
    low: Range
    high: Range
    clearance: float
    off: float
    height: Range
    push: Range
    lift: Range
    side: Range
    wave: Range
    distance: Range
    target_low: tuple[float, float, float]
    target_high: tuple[float, float, float]


_STAGES: Mapping[str, _Stage] = MappingProxyType(
    {
        "panda_robotiq": _Stage(
            DROID, (0.42, -0.09), (0.52, 0.09), 0.19, 0.015, (0.17, 0.22), (0.10, 0.15), (0.24, 0.34), (0.09, 0.14),
            (0.30, 0.36), (0.76, 0.88), (0.43, -0.04, 0.16), (0.49, 0.04, 0.21),
        ),
        "widowx": _Stage(
            BRIDGE, (0.22, -0.05), (0.28, 0.05), 0.12, 0.008, (0.12, 0.15), (0.05, 0.075), (0.15, 0.19), (0.06, 0.09),
            (0.16, 0.19), (0.58, 0.66), (0.20, -0.025, 0.09), (0.24, 0.025, 0.12),
        ),
    }
)  # fmt: skip


@dataclass(frozen=True)
class ActionSettings:
    """robot: a name of `action_bodies`; frames: of a film; control_dt [s]: of a control step; stride: control steps
    from one frame to the next; size: (width, height) of the pictures; cameras: that film the same motion; told:
    whether captions name the action.

    Raises InvalidInput, UnknownName.
    """

    robot: str = "panda_robotiq"
    frames: int = 17
    control_dt: float = 0.1
    stride: int = 2
    size: tuple[int, int] = (64, 64)
    cameras: int = 1
    told: bool = False

    def __post_init__(self) -> None:
        if self.robot not in _STAGES:
            raise UnknownName("body of an action", self.robot, _STAGES)
        if self.frames < 2 or min(self.stride, self.cameras) < 1 or min(self.size) < 16 or not self.control_dt > 0:
            given = f"{self.frames} frames, stride {self.stride}, {self.cameras} cameras, size {self.size}"
            expected = "2 frames, stride 1, 1 camera, 16 x 16 px or more, and a control_dt above 0"
            raise InvalidInput("settings of an action", f"{given}, control_dt {self.control_dt}", expected)


def record_action(action: str, seed: int, settings: ActionSettings, *, held_out: bool = False) -> tuple[Footage, ...]:
    """Play one action and film it, once by each camera.

    seed: decides scene, cameras and where the hand begins, whatever the action; both decide the details of the motion.
    held_out: must be True exactly for seeds kept for evaluation. Raises UnknownName, InvalidInput.
    """
    if action not in ACTIONS:
        raise UnknownName("action", action, ACTIONS)
    check_seeds(range(seed, seed + 1), held_out=held_out)
    rng = np.random.default_rng([seed, 23])
    model, stage = load_robot(settings.robot), _STAGES[settings.robot]
    scene = _scene(rng, stage)
    joints, hand = _start(rng, model, scene, settings.control_dt)
    cameras = [scene_camera(_camera_pose(rng, stage), settings.size) for _ in range(settings.cameras)]
    films, poses = _played(action, seed, settings, model, scene, joints, hand, cameras)
    caption = caption_of({"scene": scene.to_dict(), "behaviours": [action if settings.told else "moves"]})
    rate = 1 / (settings.stride * settings.control_dt)
    return tuple(
        Footage(film, action, f"twin scene {seed}{_body(settings)}", caption, rate, joints=poses, camera=camera)
        for film, camera in zip(films, cameras, strict=True)
    )


def record_action_files(
    action: str, seed: int, folder: Path, settings: ActionSettings, *, held_out: bool = False
) -> tuple[Path, ...]:
    """Record one action to a folder, a file a camera; films that are already there are kept."""
    check_seeds(range(seed, seed + 1), held_out=held_out)
    name = f"{action}{_body(settings).replace(' of a ', '_')}_{seed:08d}"
    paths = tuple(Path(folder) / f"{name}_{camera}{SUFFIX}" for camera in range(settings.cameras))
    if not all(path.exists() for path in paths):
        for path, film in zip(paths, record_action(action, seed, settings, held_out=held_out), strict=True):
            save_footage(path, film)
    return paths


def _body(settings: ActionSettings) -> str:
    """What tells films of other bodies than the first from its own; scenes of one seed differ from body to body."""
    return "" if settings.robot == ActionSettings.robot else f" of a {settings.robot}"


def _played(
    action: str,
    seed: int,
    settings: ActionSettings,
    model: RobotModel,
    scene: Scene,
    joints: NDArray[np.float64],
    hand: Waypoint,
    cameras: Sequence[Camera],
) -> tuple[list[Tensor], Tensor]:
    """What each camera saw, (T, H, W, 3) uint8, and the nominal joints (T, J) float32."""
    controller = Controller(model, "joint_velocity", settings.control_dt)
    rng = np.random.default_rng([seed, 24, list(ACTIONS).index(action)])
    steps = settings.stride * (settings.frames - 1)
    views = [(camera, np.asarray(camera.T_parent_camera, np.float64)) for camera in cameras]
    films: list[list[NDArray[np.uint8]]] = [[] for _ in views]
    poses = []
    urdf, body = model.folder / "robot.urdf", _Body(_STAGES[settings.robot], handling_of(model))
    with closing(TwinPhysics(scene, model, joints)) as physics, closing(TwinRenderer(scene, urdf)) as renderer:
        plan = _paced(rng, ACTIONS[action](rng, hand, object_target(scene, physics.snapshot(), 0), body))
        course = joint_targets(model, joints, plan, settings.control_dt, steps)
        state = controller.initial(joints[None])
        for step in range(steps + 1):
            if step % settings.stride == 0:
                snapshot = physics.snapshot()
                for film, (camera, pose) in zip(films, views, strict=True):
                    film.append(renderer.render(snapshot, camera, pose).rgb)
                poses.append(np.asarray(state.joints[0], np.float32))
            if step < steps:
                told = controller.actions_for(state, course[step : step + 1])
                state, path = controller.step(state, told, POSES_PER_STEP)
                physics.follow(np.asarray(path[0]), settings.control_dt)
    return [torch.from_numpy(np.stack(film)) for film in films], torch.from_numpy(np.stack(poses))


def action_bodies() -> tuple[str, ...]:
    """Names of the robots that know the actions."""
    return tuple(_STAGES)


def action_names() -> tuple[str, ...]:
    """The eight actions, in the order of their numbers as classes."""
    return tuple(ACTIONS)


def _scene(rng: np.random.Generator, stage: _Stage) -> Scene:
    """A scene whose first object stands alone in the middle and can be pushed anywhere and gripped."""
    scene = sample_scene(rng, int(rng.integers(1, 4)), layout=stage.layout)
    first = scene.objects[0]
    shape = first.shape if first.shape in _STEADY else _STEADY[int(rng.integers(len(_STEADY)))]
    x, y = (float(value) for value in rng.uniform(stage.low, stage.high))
    acted = replace(first, shape=shape, x=x, y=y)
    others = [item for item in scene.objects[1:] if _apart(acted, item) > stage.clearance]
    return replace(scene, objects=(acted, *others))


def _apart(one: SceneObject, other: SceneObject) -> float:
    return float(np.hypot(one.x - other.x, one.y - other.y))


def _camera_pose(rng: np.random.Generator, stage: _Stage) -> CameraPose:
    """In front of the robot and rather near, up to 34 degrees to its left or right."""
    low = np.array([-0.6, 0.35, stage.distance[0], 0.60, *stage.target_low])
    high = np.array([0.6, 0.65, stage.distance[1], 0.68, *stage.target_high])
    azimuth, elevation, distance, view, *target = rng.uniform(low, high).tolist()
    flat = distance * np.cos(elevation)
    offset = (flat * np.cos(azimuth), flat * np.sin(azimuth), distance * np.sin(elevation))
    x, y, z = (a + float(b) for a, b in zip(target, offset, strict=True))
    return CameraPose("demonstration", (x, y, z), (target[0], target[1], target[2]), view)


def _start(
    rng: np.random.Generator, model: RobotModel, scene: Scene, control_dt: float
) -> tuple[NDArray[np.float64], Waypoint]:
    """Joints (J,) with the half-open hand over the first object, and where that is."""
    item, stage = scene.objects[0], _STAGES[model.name]
    x, y = rng.normal((item.x, item.y), stage.off)
    square = Target(item.x, item.y, item.yaw, item.size, item.shape in ("cube", "cylinder"))
    height, yaw = float(rng.uniform(*stage.height)), square.grasp_yaw_of(handling_of(model))
    hand = Waypoint(float(x), float(y), height, yaw + float(rng.normal(0, 0.1)), gripper=_HALF)
    home = model.home.double().numpy()
    return joint_targets(model, home, [hand, replace(hand, hold=1)], control_dt)[-1], hand


@dataclass(frozen=True)
class _Body:
    """What plans must know of the body that acts."""

    stage: _Stage
    handling: Handling


def _pushed(
    rng: np.random.Generator, _hand: Waypoint, target: Target, body: _Body, *, along: tuple[float, float]
) -> Plan:
    reach = float(rng.uniform(*body.stage.push))
    turn = float(rng.normal(0, 0.12))
    x, y = along[0] * np.cos(turn) - along[1] * np.sin(turn), along[0] * np.sin(turn) + along[1] * np.cos(turn)
    goal = (target.x + reach * float(x), target.y + reach * float(y))
    return motion_plans.push(target, goal, body.handling)


def _lift(rng: np.random.Generator, _hand: Waypoint, target: Target, body: _Body) -> Plan:
    down = motion_plans.pick_place(target, (target.x, target.y), body.handling)[1:3]
    up = replace(down[-1], z=float(rng.uniform(*body.stage.lift)), hold=0, speed=0.25 * body.handling.pace)
    return [*down, up]


def _gripper(rng: np.random.Generator, hand: Waypoint, _target: Target, _body: _Body, *, position: float) -> Plan:
    rest = replace(hand, hold=int(rng.integers(1, 6)))
    between = (position + _HALF) / 2
    return [rest, replace(hand, gripper=between, hold=3), replace(hand, gripper=position, hold=3)]


def _wave(rng: np.random.Generator, hand: Waypoint, _target: Target, body: _Body) -> Plan:
    side, height = float(rng.uniform(*body.stage.side)), float(rng.uniform(*body.stage.wave))
    first = 1.0 if rng.uniform() < 0.5 else -1.0
    swing = [replace(hand, y=hand.y + first * way * side, z=height, speed=0.5) for way in (1, -1, 1, -1)]
    return [replace(hand, z=height, speed=0.45), *swing]


def _paced(rng: np.random.Generator, plan: Plan) -> Plan:
    pace = float(rng.uniform(0.9, 1.25))
    return [replace(point, speed=point.speed * pace) for point in plan]


ACTIONS: Mapping[str, Callable[[np.random.Generator, Waypoint, Target, _Body], Plan]] = MappingProxyType(
    {
        "push_left": partial(_pushed, along=(0.0, 1.0)),
        "push_right": partial(_pushed, along=(0.0, -1.0)),
        "push_away": partial(_pushed, along=(1.0, 0.0)),
        "push_near": partial(_pushed, along=(-1.0, 0.0)),
        "lift": _lift,
        "open": partial(_gripper, position=0.0),
        "close": partial(_gripper, position=1.0),
        "wave": _wave,
    }
)
"""What each action plans: of a source of chance, where the hand begins, the object acted upon, and who acts."""
