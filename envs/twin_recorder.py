"""Records twin episodes for training: chained behaviours, with layers, masks and object motion.

Behaviours follow one another until the episode is full, each planned from where the objects really are, so that
failures, misses and second tries are in the data. Everything follows from (seed, settings); the same seed writes the
same file.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.data.twin import FLOW_SCALE, SUFFIX, TwinEpisode, save_episode
from vap_sim.envs.scenes import CameraPose, Scene, sample_scene
from vap_sim.envs.twin_behaviours import BEHAVIOURS, FLAWS, Stage, course_of
from vap_sim.envs.twin_physics import TwinPhysics
from vap_sim.envs.twin_renderer import SUPERSAMPLING, Picture, Snapshot, TwinRenderer, object_mesh, scene_camera
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.policies import motion_plans
from vap_sim.policies.scripted import joint_targets
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import Controller
from vap_sim.robots.library import RobotModel, load_robot

HELD_OUT_SEEDS = range(1_000_000, 2_000_000)
"""Seeds for evaluation. The recorder refuses them, so no model can be trained on them."""

POSES_PER_STEP = 24


@dataclass(frozen=True)
class RecorderSettings:
    """What an episode looks like. `views` names the scene's exterior cameras to record.

    Without `pictures` only the motion is recorded, in a fifth of the time: what cameras see has no views then, and the
    cameras are named all the same. `flawed` is the share of behaviours that go wrong in one of the ways of FLAWS.
    `behaviours` and `flaws` leave only those of BEHAVIOURS and FLAWS; all where they are empty.
    """

    robot: str = "panda_robotiq"
    steps: int = 50
    control_dt: float = 0.2
    size: tuple[int, int] = (128, 128)
    views: tuple[str, ...] = ("exterior_1",)
    pictures: bool = True
    flawed: float = 0.0
    behaviours: tuple[str, ...] = ()
    flaws: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind, names, known in (("behaviour", self.behaviours, BEHAVIOURS), ("flaw", self.flaws, FLAWS)):
            for name in names:
                if name not in known:
                    raise UnknownName(kind, name, known)
        if not 0 <= self.flawed <= 1:
            raise InvalidInput("share of flawed behaviours", self.flawed, "0 to 1")
        if self.steps < 1 or not self.views or min(self.size) < 2:
            given = f"{self.steps} steps, views {self.views}, size {self.size}"
            raise InvalidInput("recorder settings", given, "at least one step, one view and 2 x 2 pixels")


def check_seeds(seeds: range, *, held_out: bool) -> None:
    """Raise InvalidInput for the first seed that is not kept for evaluation although `held_out`, or the reverse."""
    for seed in seeds:
        if (seed in HELD_OUT_SEEDS) != held_out or seed < 0:
            place = "inside" if held_out else "zero or more and outside"
            raise InvalidInput("seed", seed, f"one {place} {HELD_OUT_SEEDS}")


def record_episode(seed: int, settings: RecorderSettings, *, held_out: bool = False) -> TwinEpisode:
    """Play and record one episode.

    Args:
        seed: decides scene, start pose and behaviour. settings: see RecorderSettings.
        held_out: must be True exactly for seeds kept for evaluation.

    Raises:
        InvalidInput: a held-out seed without `held_out`, or the reverse.
        UnknownName: the scene has no camera of a view's name.
    """
    check_seeds(range(seed, seed + 1), held_out=held_out)
    rng = np.random.default_rng([seed, 11])
    shares = {name: share for name, share in BEHAVIOURS.items() if name in (settings.behaviours or BEHAVIOURS)}
    odds = np.array(list(shares.values())) / sum(shares.values())
    model = load_robot(settings.robot)
    scene = sample_scene(rng, goal=bool(rng.uniform() < 0.5))
    joints = _start_joints(rng, model)
    controller = Controller(model, "joint_velocity", settings.control_dt)
    cameras = [scene_camera(_camera_pose(scene, name), settings.size) for name in settings.views]
    with (
        closing(TwinPhysics(scene, model.folder / "robot.urdf", joints)) as physics,
        closing(_Tape(scene, model, cameras if settings.pictures else [], settings.size)) as tape,
    ):
        state = controller.initial(joints[None])
        stage = Stage(model, scene, physics.snapshot, settings.control_dt)
        tape.add(physics, joints, None)
        behaviours: list[str] = []
        queue: Iterator[np.ndarray] = iter(())
        for _ in range(settings.steps):
            target = next(queue, None)
            if target is None:
                name = str(rng.choice(list(shares), p=odds))
                # Nothing is drawn for a share of zero, so that its episodes are what they were before flaws existed.
                errs = settings.flawed > 0 and rng.uniform() < settings.flawed
                flaw = str(rng.choice(settings.flaws or FLAWS)) if errs else None
                behaviours.append(name if flaw is None else f"{flaw} {name}")
                here = np.asarray(state.joints[0], np.float64)
                queue = iter(course_of(name, rng, stage, here, flaw))
                target = next(queue, here)
            action = controller.actions_for(state, target[None])
            state, path = controller.step(state, action, POSES_PER_STEP)
            physics.follow(np.asarray(path[0]), settings.control_dt)
            tape.add(physics, np.asarray(path[0, -1]), np.asarray(action[0]))
        return tape.episode(
            {
                "seed": seed,
                "behaviours": behaviours,
                "robot": settings.robot,
                "control_mode": controller.mode,
                "control_dt": settings.control_dt,
                "scene": scene.to_dict(),
                "cameras": [camera.to_dict() for camera in cameras],
                "outlines": [np.round(object_mesh(item).vertices, 6).tolist() for item in scene.objects],
            }
        )


def record_file(seed: int, folder: Path, settings: RecorderSettings, *, held_out: bool = False) -> Path:
    """Record one episode to `folder`; an episode that is already there is kept.

    Its name begins with "twin", or with "motion" where it has no pictures."""
    check_seeds(range(seed, seed + 1), held_out=held_out)
    path = Path(folder) / f"{'twin' if settings.pictures else 'motion'}_{seed:08d}{SUFFIX}"
    if not path.exists():
        save_episode(path, record_episode(seed, settings, held_out=held_out))
    return path


def _camera_pose(scene: Scene, name: str) -> CameraPose:
    poses = {pose.name: pose for pose in scene.cameras}
    if name not in poses:
        raise UnknownName("view to record", name, poses)
    return poses[name]


def _start_joints(rng: np.random.Generator, model: RobotModel) -> np.ndarray:
    """Near the home pose, or anywhere above the table."""
    home = model.home.double().numpy()
    spread = np.array([0.12, 0.10, 0.12, 0.10, 0.12, 0.10, 0.15, 0.0])
    joints = home + rng.normal(0, 1, 8) * spread
    if rng.uniform() < 0.4:
        far = motion_plans.wander(rng, 1)
        joints = joint_targets(model, home, far, 0.2)[-1]
    joints[7] = rng.uniform(0, 0.8) if rng.uniform() < 0.3 else 0.0
    return np.asarray(model.robot.clamp(torch.as_tensor(joints)))


class _Tape:
    """Collects what one episode records, frame by frame."""

    def __init__(self, scene: Scene, model: RobotModel, cameras: list[Camera], size: tuple[int, int]) -> None:
        """Pictures are taken by `cameras`, perhaps none, of `size` (width, height)."""
        self.renderer = TwinRenderer(scene, model.folder / "robot.urdf") if cameras else None
        self.cameras, self.size = cameras, size
        self.frames: list[list[Picture]] = []
        self.layers: list[list[Picture]] = []
        self.flow: list[list[np.ndarray]] = []
        self.snapshots: list[Snapshot] = []
        self.joints: list[np.ndarray] = []
        self.measured: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []

    def close(self) -> None:
        if self.renderer is not None:
            self.renderer.close()

    def add(self, physics: TwinPhysics, joints: np.ndarray, action: np.ndarray | None) -> None:
        snapshot = physics.snapshot()
        if self.renderer is not None:
            self._picture(self.renderer, snapshot, self.snapshots[-1] if self.snapshots else snapshot)
        self.snapshots.append(snapshot)
        self.joints.append(joints)
        self.measured.append(physics.joints())
        if action is not None:
            self.actions.append(action)

    def _picture(self, renderer: TwinRenderer, snapshot: Snapshot, previous: Snapshot) -> None:
        poses = [np.asarray(camera.T_parent_camera, np.float64) for camera in self.cameras]
        pairs = list(zip(self.cameras, poses, strict=True))
        self.frames.append([renderer.render(snapshot, camera, pose) for camera, pose in pairs])
        if self.layers and not _moved(previous, snapshot):
            self.layers.append(self.layers[-1])
            self.flow.append([np.zeros_like(flow) for flow in self.flow[-1]])
        else:
            self.layers.append([renderer.render(snapshot, camera, pose, robot=False) for camera, pose in pairs])
            self.flow.append(
                [
                    object_flow(picture, camera, pose, previous, snapshot)
                    for picture, (camera, pose) in zip(self.layers[-1], pairs, strict=True)
                ]
            )

    def episode(self, meta: dict[str, Any]) -> TwinEpisode:
        return TwinEpisode(
            **self._pictures(),
            joints=np.stack(self.joints).astype(np.float32),
            measured=np.stack(self.measured).astype(np.float32),
            actions=np.stack(self.actions).astype(np.float32),
            object_poses=np.stack(
                [[[*position, *turn] for position, turn in item.objects] for item in self.snapshots]
            ).astype(np.float32),
            meta=meta,
        )

    def _pictures(self) -> dict[str, np.ndarray]:
        """The members of an episode that have an axis of views."""
        if self.renderer is None:
            (width, height), length = self.size, len(self.snapshots)
            empty = {name: np.zeros((0, length, height, width), np.uint8) for name in ("robot", "labels")}
            colors = {"frames": (length, height, width, 3), "objects": (length, height, width, 4)}
            empty |= {name: np.zeros((0, *shape), np.uint8) for name, shape in colors.items()}
            flow = np.zeros((0, length, 2, height // 2, width // 2), np.int16)
            return {**empty, "plate": np.zeros((0, height, width, 3), np.uint8), "flow": flow}
        poses = [np.asarray(camera.T_parent_camera, np.float64) for camera in self.cameras]
        plates = [
            self.renderer.render(self.snapshots[0], camera, pose, robot=False, objects=False).rgb
            for camera, pose in zip(self.cameras, poses, strict=True)
        ]
        views = range(len(self.cameras))
        return {
            "frames": np.stack([[row[view].rgb for row in self.frames] for view in views]),
            "objects": np.stack([[row[view].objects for row in self.layers] for view in views]),
            "plate": np.stack(plates),
            "robot": np.stack([[row[view].coverage[1] for row in self.frames] for view in views]),
            "labels": np.stack([[row[view].coarse_labels for row in self.frames] for view in views]),
            "flow": np.stack([[row[view] for row in self.flow] for view in views]),
        }


def _moved(before: Snapshot, after: Snapshot) -> bool:
    return any(
        np.abs(np.subtract(a[0], b[0])).max() > 2e-5 or np.abs(np.subtract(a[1], b[1])).max() > 2e-4
        for a, b in zip(before.objects, after.objects, strict=True)
    )


def object_flow(
    picture: Picture, camera: Camera, T_base_camera: np.ndarray, before: Snapshot, after: Snapshot
) -> np.ndarray:
    """Where each object pixel was one frame before, minus where it is, exact from poses.

    Returns (2, H/2, W/2) int16 [px / 32], horizontal first; zero where no object is seen.
    """
    cell = 2 * SUPERSAMPLING
    first = cell // 2
    depth, labels = picture.depth[first::cell, first::cell], picture.labels[first::cell, first::cell]
    down, across = np.meshgrid(*(np.arange(n) for n in labels.shape), indexing="ij")
    xy = (np.stack([across, down], axis=-1) * cell + first - (SUPERSAMPLING - 1) / 2) / SUPERSAMPLING
    intrinsics = np.asarray(camera.intrinsics, np.float64)
    rays = np.concatenate([xy, np.ones_like(xy[..., :1])], axis=-1) @ np.linalg.inv(intrinsics).T
    points = (rays * depth[..., None]) @ T_base_camera[:3, :3].T + T_base_camera[:3, 3]
    flow = np.zeros((*labels.shape, 2))
    for index, (old, new) in enumerate(zip(before.objects, after.objects, strict=True)):
        mask = labels == 2 + index
        move = _pose(old) @ np.linalg.inv(_pose(new))
        then = points[mask] @ move[:3, :3].T + move[:3, 3]
        seen = (then - T_base_camera[:3, 3]) @ T_base_camera[:3, :3]
        pixels = seen @ intrinsics.T
        flow[mask] = pixels[:, :2] / pixels[:, 2:] - xy[mask]
    flow[np.abs(flow).max(-1) < 0.03] = 0
    return np.round(np.moveaxis(flow, -1, 0) * FLOW_SCALE).clip(-32767, 32767).astype(np.int16)


def _pose(record: tuple[tuple[float, ...], tuple[float, ...]]) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(record[1]).as_matrix()
    pose[:3, 3] = record[0]
    return pose
