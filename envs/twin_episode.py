"""One scene of the twin from its beginning to its end: physics and renderer together, and what is seen of them."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

import numpy as np
import torch
from numpy.typing import NDArray

# First of all, because this module names what is missing where pybullet is.
from vap_sim.envs import twin_renderer
from vap_sim.envs.rendering import Picture
from vap_sim.envs.scenes import Scene, with_openings, with_pose
from vap_sim.envs.stations import TWIN_PHYSICS
from vap_sim.envs.tasks import Situation
from vap_sim.envs.twin_physics import Physics, Saved
from vap_sim.errors import UnknownName
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import ControlState
from vap_sim.robots.library import RobotModel

Masks = NDArray[np.bool_]
_STANDING, _UPRIGHT = 4e-3, 0.999
"""An object stands if its middle is this near [m] to half its height, and its axis this upright (cosine)."""


@dataclass(frozen=True, eq=False)
class View:
    """One camera's picture (H, W, 3) uint8 and exact bool masks: robot (H, W), objects and drawers (K + D, H, W)."""

    rgb: Picture
    robot: Masks
    objects: Masks


@dataclass(frozen=True, eq=False)
class TwinState:
    """The twin at one moment of one episode; good until the episode's environment is reset or closed.

    saved: a state kept inside the engine; control, drawn: nominal joints now and (J,) those of the pictures; views: the
    pictures shown; steps, phase: actions since the start and since the last picture; ended: whether the task is done.
    """

    saved: Saved
    control: ControlState
    drawn: NDArray[np.float32]
    views: tuple[View, ...]
    steps: int
    phase: int
    ended: bool
    maker: str
    episode: weakref.ref[Episode]

    @property
    def nbytes(self) -> int:
        """Memory outside of the engine [bytes]."""
        return sum(view.rgb.nbytes + view.robot.nbytes + view.objects.nbytes for view in self.views) + self.drawn.nbytes


class Episode:
    """One scene's physics and renderer, which open and close together."""

    def __init__(
        self, scene: Scene, model: RobotModel, joints: NDArray[np.float64], physics: str = TWIN_PHYSICS
    ) -> None:
        """A robot at `joints` (J,) in a scene; `physics` is "module:name" as a station gives it."""
        self.scene, self.model = scene, model
        self.physics = build_physics(physics, scene, model, joints)
        try:
            self.renderer = twin_renderer.TwinRenderer(scene, model.folder / "robot.urdf")
        except BaseException:
            self.physics.close()
            raise
        # The engine holds its worlds until told otherwise, also those of an environment that nobody closed.
        self._end = weakref.finalize(self, _free, self.physics, self.renderer)

    def close(self) -> None:
        """Free both; harmless when called twice."""
        self._end()

    def forget(self, saved: Saved) -> None:
        """Free a state kept inside the engine."""
        if self._end.alive:
            self.physics.forget(saved)

    def look(self, cameras: Sequence[Camera]) -> tuple[View, ...]:
        """What the cameras see now."""
        snapshot, views = self.physics.snapshot(), []
        for camera in cameras:
            pose = camera.T_parent_camera
            if camera.parent_link is not None:
                links = self.model.robot.forward(torch.from_numpy(self.physics.joints()))
                pose = camera.to("cpu", torch.float64).T_base_camera(links, self.model.robot)
            picture = self.renderer.render(snapshot, camera, np.asarray(pose, np.float64))
            views.append(View(picture.rgb, picture.robot_mask, picture.object_masks))
        return tuple(views)

    def situation(self) -> Situation:
        """What a task may look at, now."""
        physics, count = self.physics, range(len(self.scene.objects))
        gripper, joints, poses = self.model.gripper, physics.joints(), physics.world.poses()
        assert gripper is not None, "the twin's physics moves a gripper"
        return Situation(
            scene=self.scene,
            tool=physics.tool_position(),
            gripper=float(gripper.to_position(torch.tensor(joints[self.model.robot.joint_index(gripper.joint)]))),
            objects=np.array([position for position, _ in poses]),
            touched=np.array([physics.touched(index) for index in count]),
            held=np.array([physics.held(index) for index in count]),
            speed=physics.world.speed(),
            turns=np.array([turn for _, turn in poses]),
            contacts=physics.world.contacts(),
            grounded=physics.world.grounded(),
            drawers=physics.world.openings(),
        )

    def present_scene(self) -> Scene:
        """The scene with its objects and drawers where they are now."""
        scene = self.scene
        for index, ((x, y, z), turn) in enumerate(self.physics.world.poses()):
            qx, qy, qz, qw = (float(value) for value in turn)
            yaw = np.arctan2(2 * (qw * qz + qx * qy), 1 - 2 * (qy * qy + qz * qz))
            upright = 1 - 2 * (qx * qx + qy * qy) > _UPRIGHT
            stands = upright and abs(float(z) - scene.objects[index].size[2] / 2) < _STANDING
            place = (None, None) if stands else (float(z), (qx, qy, qz, qw))
            scene = with_pose(scene, index, float(x), float(y), float(yaw), *place)
        travels = [cabinet.travel for cabinet in scene.cabinets]
        return with_openings(scene, np.clip(self.physics.world.openings(), 0.0, travels).tolist())


def cameras_of(scene: Scene, model: RobotModel, views: Sequence[str], size: tuple[int, int]) -> tuple[Camera, ...]:
    """The named cameras, of the scene or else of the robot, with pictures of `size`. Raises UnknownName."""
    poses = {pose.name: pose for pose in scene.cameras}
    for name in views:
        if name not in poses and name not in model.cameras:
            raise UnknownName("view of the twin", name, sorted({*poses, *model.cameras}))
    return tuple(
        twin_renderer.scene_camera(poses[name], size) if name in poses else model.cameras[name].resized(size)
        for name in views
    )


def build_physics(name: str, scene: Scene, model: RobotModel, joints: NDArray[np.float64]) -> Physics:
    """The physics that a station names as "module:name", with the robot at `joints` (J,) in a scene."""
    module, _, attribute = name.partition(":")
    made: Physics = getattr(import_module(module), attribute)(scene, model, joints)
    return made


def _free(physics: Physics, renderer: twin_renderer.TwinRenderer) -> None:
    physics.close()
    renderer.close()
