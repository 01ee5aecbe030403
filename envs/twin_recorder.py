"""Records twin episodes of a station for training: chained behaviours, with layers, masks and object motion.

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
from vap_sim.envs.scenes import Scene
from vap_sim.envs.stations import Station, get_station
from vap_sim.envs.twin_episode import build_physics, cameras_of
from vap_sim.envs.twin_furniture import Pose, drawer_corners
from vap_sim.envs.twin_physics import SUBSTEP, Physics
from vap_sim.envs.twin_renderer import SUPERSAMPLING, Picture, Snapshot, TwinRenderer, object_mesh
from vap_sim.envs.twin_repertoires import Repertoire
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import Controller
from vap_sim.robots.library import RobotModel, load_robot

HELD_OUT_SEEDS = range(1_000_000, 2_000_000)
"""Seeds for evaluation. The recorder refuses them, so no model can be trained on them."""

POSES_PER_STEP = 24
"""Poses of a control step of 0.2 s; in all recordings there are two physics steps from one to the next."""
_STILL = 1e-5  # [m] and share of a turn by which a camera on a resting link may tremble


@dataclass(frozen=True)
class RecorderSettings:
    """What an episode looks like.

    robot and control_dt [s] are the station's own where they are not given, views the first of its views; `views` names
    cameras of the scene or of the robot. Without `pictures` only the motion is recorded, in a fifth of the time: what
    cameras see has no views then, and the cameras are named all the same. `flawed` is the share of behaviours that go
    wrong in one of the ways of FLAWS. `behaviours` and `flaws` leave only those of the station's repertoire and of
    FLAWS; all where they are empty. station: its name, or one of one's own. Raises InvalidInput, UnknownName.
    """

    robot: str = ""
    steps: int = 50
    control_dt: float = 0.0
    size: tuple[int, int] = (128, 128)
    views: tuple[str, ...] = ()
    pictures: bool = True
    flawed: float = 0.0
    behaviours: tuple[str, ...] = ()
    flaws: tuple[str, ...] = ()
    station: str | Station = "DROID"

    def __post_init__(self) -> None:
        place = get_station(self.station)
        own = {"robot": place.robot, "control_dt": 1 / place.control_hz, "views": place.views[:1]}
        for name, value in own.items():
            object.__setattr__(self, name, getattr(self, name) or value)
        repertoire = Repertoire.of(place)
        for kind, names, known in (
            ("behaviour", self.behaviours, repertoire.shares),
            ("flaw", self.flaws, repertoire.flaws),
        ):
            for name in names:
                if name not in known:
                    raise UnknownName(kind, name, known)
        if self.flawed > 0 and not repertoire.flaws:
            raise InvalidInput("share of flawed behaviours", self.flawed, f"0 at {place.name}, which knows no flaws")
        if not 0 <= self.flawed <= 1:
            raise InvalidInput("share of flawed behaviours", self.flawed, "0 to 1")
        if self.steps < 1 or min(self.size) < 2:
            given = f"{self.steps} steps, size {self.size}"
            raise InvalidInput("recorder settings", given, "at least one step and 2 x 2 pixels")
        if (
            round(self.control_dt / SUBSTEP) % 2
            or abs(round(self.control_dt / SUBSTEP) * SUBSTEP - self.control_dt) > 1e-9
        ):
            raise InvalidInput("control_dt of a recording [s]", self.control_dt, f"a multiple of {2 * SUBSTEP:.6g}")


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
        UnknownName: neither scene nor robot has a camera of a view's name.
    """
    check_seeds(range(seed, seed + 1), held_out=held_out)
    rng = np.random.default_rng([seed, 11])
    repertoire = Repertoire.of(get_station(settings.station))
    model = load_robot(settings.robot)
    scene = repertoire.station.sample_scene(rng)
    joints = repertoire.start(rng, model, scene)
    controller = Controller(model, "joint_velocity", settings.control_dt)
    cameras = list(cameras_of(scene, model, settings.views, settings.size))
    poses = round(settings.control_dt / SUBSTEP) // 2
    with (
        closing(build_physics(repertoire.station.physics, scene, model, joints)) as physics,
        closing(_Tape(scene, model, cameras if settings.pictures else [], settings.size)) as tape,
    ):
        state = controller.initial(joints[None])
        stage = repertoire.stage(model, scene, physics.snapshot, settings.control_dt)
        tape.add(physics, joints, None)
        behaviours: list[str] = []
        queue: Iterator[np.ndarray] = iter(())
        for _ in range(settings.steps):
            target = next(queue, None)
            if target is None:
                names, odds = repertoire.odds(scene, physics.snapshot(), settings.behaviours)
                name = str(rng.choice(names, p=odds))
                # Nothing is drawn for a share of zero, so that its episodes are what they were before flaws existed.
                errs = settings.flawed > 0 and rng.uniform() < settings.flawed
                flaw = str(rng.choice(settings.flaws or repertoire.flaws)) if errs else None
                behaviours.append(name if flaw is None else f"{flaw} {name}")
                here = np.asarray(state.joints[0], np.float64)
                queue = iter(repertoire.course(name, rng, stage, here, flaw))
                target = next(queue, here)
            action = controller.actions_for(state, target[None])
            state, path = controller.step(state, action, poses)
            physics.follow(np.asarray(path[0]), settings.control_dt)
            tape.add(physics, np.asarray(path[0, -1]), np.asarray(action[0]))
        station = repertoire.station.name
        meta = {
            "seed": seed,
            "behaviours": behaviours,
            "robot": settings.robot,
            "control_mode": controller.mode,
            "control_dt": settings.control_dt,
            "scene": scene.to_dict(),
            "cameras": [camera.to_dict() for camera in cameras],
            "outlines": _outlines(scene),
        }
        # DROID's files are what they were before there were other stations.
        return tape.episode(meta if station == "DROID" else {**meta, "station": station})


def record_file(seed: int, folder: Path, settings: RecorderSettings, *, held_out: bool = False) -> Path:
    """Record one episode to `folder`; an episode that is already there is kept.

    Its name begins with "twin", or with "motion" where it has no pictures."""
    check_seeds(range(seed, seed + 1), held_out=held_out)
    path = Path(folder) / f"{'twin' if settings.pictures else 'motion'}_{seed:08d}{SUFFIX}"
    if not path.exists():
        save_episode(path, record_episode(seed, settings, held_out=held_out))
    return path


def _outlines(scene: Scene) -> list[list[list[float]]]:
    """Corners [m] of every object, and then of every drawer, in its own frame."""
    objects = [np.round(object_mesh(item).vertices, 6).tolist() for item in scene.objects]
    return [*objects, *(np.round(drawer_corners(cabinet), 6).tolist() for cabinet in scene.cabinets)]


class _Tape:
    """Collects what one episode records, frame by frame."""

    def __init__(self, scene: Scene, model: RobotModel, cameras: list[Camera], size: tuple[int, int]) -> None:
        """Pictures are taken by `cameras`, perhaps none, of `size` (width, height)."""
        self.renderer = TwinRenderer(scene, model.folder / "robot.urdf") if cameras else None
        self.model, self.cameras, self.size = model, cameras, size
        self.poses: list[np.ndarray] = []
        self.frames: list[list[Picture]] = []
        self.layers: list[list[Picture]] = []
        self.flow: list[list[np.ndarray]] = []
        self.plates: list[list[np.ndarray]] = []
        self.snapshots: list[Snapshot] = []
        self.joints: list[np.ndarray] = []
        self.measured: list[np.ndarray] = []
        self.actions: list[np.ndarray] = []

    def close(self) -> None:
        if self.renderer is not None:
            self.renderer.close()

    def add(self, physics: Physics, joints: np.ndarray, action: np.ndarray | None) -> None:
        snapshot = physics.snapshot()
        if self.renderer is not None:
            before, self.poses = self.poses, self._camera_poses(physics)
            still = [_same(*pair) for pair in zip(before or self.poses, self.poses, strict=True)]
            self._picture(self.renderer, snapshot, self.snapshots[-1] if self.snapshots else snapshot, still)
        self.snapshots.append(snapshot)
        self.joints.append(joints)
        self.measured.append(physics.joints())
        if action is not None:
            self.actions.append(action)

    def _camera_poses(self, physics: Physics) -> list[np.ndarray]:
        """Where each camera is now: T_base_camera (4, 4)."""
        links = None
        if any(camera.parent_link is not None for camera in self.cameras):
            links = self.model.robot.forward(torch.from_numpy(np.asarray(physics.joints(), np.float64)))
        robot = self.model.robot
        return [
            np.asarray(camera.T_parent_camera, np.float64)
            if camera.parent_link is None
            else camera.to("cpu", torch.float64).T_base_camera(links, robot).numpy()
            for camera in self.cameras
        ]

    def _picture(self, renderer: TwinRenderer, snapshot: Snapshot, previous: Snapshot, still: list[bool]) -> None:
        """Takes all pictures; what a camera that stood `still` has seen of things at rest is not drawn again."""
        pairs = list(zip(self.cameras, self.poses, strict=True))
        self.frames.append([renderer.render(snapshot, camera, pose) for camera, pose in pairs])
        rest = bool(self.layers) and not _moved(previous, snapshot)
        layers, flows, plates = [], [], []
        for view, (camera, pose) in enumerate(pairs):
            stays = bool(self.layers) and still[view]
            if rest and stays:
                layers.append(self.layers[-1][view])
                flows.append(np.zeros_like(self.flow[-1][view]))
            else:
                layers.append(renderer.render(snapshot, camera, pose, robot=False))
                flows.append(object_flow(layers[-1], camera, pose, previous, snapshot))
            plates.append(
                self.plates[-1][view]
                if stays
                else renderer.render(snapshot, camera, pose, robot=False, objects=False).rgb
            )
        self.layers.append(layers)
        self.flow.append(flows)
        self.plates.append(plates)

    def episode(self, meta: dict[str, Any]) -> TwinEpisode:
        return TwinEpisode(
            **self._pictures(),
            joints=np.stack(self.joints).astype(np.float32),
            measured=np.stack(self.measured).astype(np.float32),
            actions=np.stack(self.actions).astype(np.float32),
            object_poses=np.stack(
                [[[*position, *turn] for position, turn in item.bodies] for item in self.snapshots]
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
            plates = {"plate": np.zeros((0, height, width, 3), np.uint8), "plates": self._moving_plates()}
            return {**empty, **plates, "flow": flow}
        views = range(len(self.cameras))
        return {
            "frames": np.stack([[row[view].rgb for row in self.frames] for view in views]),
            "objects": np.stack([[row[view].objects for row in self.layers] for view in views]),
            "plate": np.stack(self.plates[0]),
            "plates": self._moving_plates(),
            "robot": np.stack([[row[view].coverage[1] for row in self.frames] for view in views]),
            "labels": np.stack([[row[view].coarse_labels for row in self.frames] for view in views]),
            "flow": np.stack([[row[view] for row in self.flow] for view in views]),
        }

    def _moving_plates(self) -> np.ndarray:
        """(M, T, H, W, 3) the empty scene of every frame for the cameras on links."""
        moving = [view for view, camera in enumerate(self.cameras) if camera.parent_link is not None]
        if not moving or self.renderer is None:
            return np.zeros((0,) * 5, np.uint8)
        return np.stack([[row[view] for row in self.plates] for view in moving])


def _same(before: np.ndarray, after: np.ndarray) -> bool:
    """Whether a camera has not moved: not at all, where it is fixed in the base frame."""
    return bool(np.abs(before - after).max() < _STILL)


def _moved(before: Snapshot, after: Snapshot) -> bool:
    return any(
        np.abs(np.subtract(a[0], b[0])).max() > 2e-5 or np.abs(np.subtract(a[1], b[1])).max() > 2e-4
        for a, b in zip(before.bodies, after.bodies, strict=True)
    )


def object_flow(
    picture: Picture, camera: Camera, T_base_camera: np.ndarray, before: Snapshot, after: Snapshot
) -> np.ndarray:
    """Where each object pixel was one frame before, minus where it is, exact from poses; seen by a camera at rest.

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
    for index, (old, new) in enumerate(zip(before.bodies, after.bodies, strict=True)):
        mask = labels == 2 + index
        move = _pose(old) @ np.linalg.inv(_pose(new))
        then = points[mask] @ move[:3, :3].T + move[:3, 3]
        seen = (then - T_base_camera[:3, 3]) @ T_base_camera[:3, :3]
        pixels = seen @ intrinsics.T
        flow[mask] = pixels[:, :2] / pixels[:, 2:] - xy[mask]
    flow[np.abs(flow).max(-1) < 0.03] = 0
    return np.round(np.moveaxis(flow, -1, 0) * FLOW_SCALE).clip(-32767, 32767).astype(np.int16)


def _pose(record: Pose) -> np.ndarray:
    pose = np.eye(4)
    pose[:3, :3] = Rotation.from_quat(record[1]).as_matrix()
    pose[:3, 3] = record[0]
    return pose
