"""Stills: single pictures of many scenes with the exact places in them, from which a judge's eyes learn to measure.

The twin's renderer draws them without any physics: the first picture of a scene as an episode would begin, then the
same scene with objects put elsewhere, often at the rim of the goal disc, and the arm above, beside or away from them.
"""

from __future__ import annotations

import json
import os
import zipfile
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]
from tqdm import tqdm

from vap_sim.errors import BadFile
from vap_sim.policies.motion_plans import Waypoint
from vap_sim.policies.scripted import tool_pose
from vap_sim.robots.camera import Camera
from vap_sim.robots.inverse import solve_inverse
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.robots.urdf import read_urdf

if TYPE_CHECKING:
    from vap_sim.envs.scenes import Scene

SUFFIX = ".stills.npz"
FORMAT = 1
SCENES, PICTURES = 25, 5
"""Scenes of a file, and pictures of a scene; the first of them shows it as an episode begins."""
_ROBOT = "panda_robotiq"
_LYING = 0.06  # share of objects that lie on their side

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stills:
    """n pictures (n, H, W, 3) uint8 and what each shows.

    shown: n mappings with "camera" (a camera record), "objects" (color, x, y and height [m] of each), and "goal" (x, y,
    radius [m]), which is None where a picture is not the first of its scene.
    """

    pictures: NDArray[np.uint8]
    shown: list[dict[str, Any]]


def stills_missing(files: int, folder: Path) -> list[Path]:
    """The first `files` files of stills in `folder`; those that are missing are drawn, with progress."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"stills_{index:06d}{SUFFIX}" for index in range(files)]
    missing = [(index, path) for index, path in enumerate(paths) if not path.exists()]
    for index, path in tqdm(missing, desc="drawing stills", unit="file", mininterval=5, disable=not missing):
        save_stills(path, draw_stills(index))
    return paths


def draw_stills(seed: int) -> Stills:
    """SCENES scenes with PICTURES pictures each; everything follows from `seed`, and no episode shares its scenes."""
    from vap_sim.envs.scenes import sample_scene
    from vap_sim.envs.twin_renderer import Snapshot, TwinRenderer, scene_camera

    rng = np.random.default_rng([seed, 47])
    model = load_robot(_ROBOT)
    followers = _followers(model)
    pictures, shown = [], []
    for number in range(SCENES):
        scene = sample_scene(rng, goal=True)
        camera = scene_camera(scene.cameras[int(number % 3 == 2)])
        pose = np.asarray(camera.T_parent_camera, np.float64)
        laid = [scene, *(_laid(rng, scene) for _ in range(PICTURES - 1))]
        joints = _arms(rng, model, laid)
        with closing(TwinRenderer(scene, model.folder / "robot.urdf")) as renderer:
            for index, (each, arm) in enumerate(zip(laid, joints, strict=True)):
                poses = [_pose(rng, item, index > 0) for item in each.objects]
                angles = _angles(model, followers, arm)
                shot = Snapshot(angles, tuple((position, turn) for position, turn, _ in poses))
                pictures.append(renderer.render(shot, camera, pose).rgb)
                objects = [
                    {"color": item.color, "x": item.x, "y": item.y, "height": height}
                    for item, (_, _, height) in zip(each.objects, poses, strict=True)
                ]
                goal = list(scene.goal) if index == 0 and scene.goal is not None else None
                shown.append({"camera": camera.to_dict(), "objects": objects, "goal": goal})
    return Stills(np.stack(pictures), shown)


def save_stills(path: Path, stills: Stills) -> None:
    """Write `path` whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("wb") as file:
            text = json.dumps({"format": FORMAT, "shown": stills.shown}).encode()
            np.savez_compressed(file, pictures=stills.pictures, meta=np.frombuffer(text, np.uint8))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def load_stills(path: Path) -> Stills:
    """Read a file of `save_stills`. Raises BadFile."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            pictures, meta = archive["pictures"], json.loads(archive["meta"].tobytes())
        shown = meta["shown"] if meta["format"] == FORMAT else None
    except (OSError, KeyError, TypeError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BadFile(path, f"not a whole file of stills ({error})") from error
    if shown is None:
        raise BadFile(path, f"meta: this reader knows format {FORMAT}")
    if pictures.dtype != np.uint8 or pictures.ndim != 4 or len(pictures) != len(shown):
        raise BadFile(path, f"pictures: {pictures.dtype} {pictures.shape} for {len(shown)} records")
    return Stills(pictures, shown)


def camera_of(record: dict[str, Any]) -> Camera:
    """The camera that a still was taken by."""
    return Camera.from_dict(record["camera"])


def _laid(rng: np.random.Generator, scene: Scene) -> Scene:
    """The scene with one object near the goal's rim or anywhere, clear of the others."""
    from vap_sim.envs.scenes import WORKSPACE_HIGH, WORKSPACE_LOW, with_pose

    index, goal = int(rng.integers(len(scene.objects))), scene.goal
    assert goal is not None
    others = [item for k, item in enumerate(scene.objects) if k != index]
    place = rng.uniform(WORKSPACE_LOW, WORKSPACE_HIGH)
    for _ in range(20):
        if rng.uniform() < 0.6:
            angle, far = rng.uniform(-np.pi, np.pi), goal[2] * rng.uniform(0, 1.8)
            place = np.array([goal[0] + far * np.cos(angle), goal[1] + far * np.sin(angle)])
        else:
            place = rng.uniform(WORKSPACE_LOW, WORKSPACE_HIGH)
        if all(np.hypot(place[0] - item.x, place[1] - item.y) > 0.09 for item in others):
            break
    return with_pose(scene, index, float(place[0]), float(place[1]), float(rng.uniform(-np.pi, np.pi)))


def _pose(rng: np.random.Generator, item: Any, may_lie: bool) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """Position, quaternion (x, y, z, w) and height [m] of an object that stands on the table or lies on its side."""
    lies = may_lie and item.shape in ("brick", "cylinder", "hexagon") and rng.uniform() < _LYING
    turn = Rotation.from_euler("z", item.yaw)
    if lies:
        turn = turn * Rotation.from_euler("x", np.pi / 2)
    height = float(item.size[1] if lies else item.size[2])
    return (item.x, item.y, height / 2), tuple(turn.as_quat().tolist()), height


def _arms(rng: np.random.Generator, model: RobotModel, scenes: list[Scene]) -> Floats:
    """Joints (n, J): as an episode begins for the first scene, then the tool near an object, its goal, or anywhere."""
    home = model.home.double().numpy()
    start = np.repeat(home[None], len(scenes), axis=0)
    start[:, :7] += rng.normal(0, 0.05, (len(scenes), 7))
    poses = []
    for scene in scenes:
        item = scene.objects[int(rng.integers(len(scene.objects)))]
        kind = rng.uniform()
        if kind < 0.5:  # above it, as after a reach or when letting go
            x, y = rng.normal((item.x, item.y), 0.02)
            point = Waypoint(x, y, item.size[2] + float(rng.uniform(-0.03, 0.16)), rng.uniform(-1.5, 1.5))
        elif kind < 0.75:  # beside it, as in a push
            angle, far = rng.uniform(-np.pi, np.pi), rng.uniform(0.05, 0.12)
            point = Waypoint(item.x + far * np.cos(angle), item.y + far * np.sin(angle), rng.uniform(0.03, 0.2), angle)
        else:
            x, y, z = rng.uniform((0.28, -0.38, 0.10), (0.68, 0.38, 0.52))
            point = Waypoint(x, y, z, rng.uniform(-1.5, 1.5), float(rng.normal(0, 0.2)))
        poses.append(tool_pose(point))
    target = torch.from_numpy(np.stack(poses))
    found = solve_inverse(
        model.robot, model.tool_link, target, torch.from_numpy(start), max_iterations=40, position_tolerance=1e-3,
        rotation_tolerance=1e-2,
    ).q.numpy()  # fmt: skip
    joints = np.where(rng.uniform(size=len(scenes))[:, None] < 0.15, start, found)
    joints[0] = start[0]
    assert model.gripper is not None
    closed = np.where(rng.uniform(size=len(scenes)) < 0.5, 0.0, rng.uniform(0, 1, len(scenes)))
    closed[0] = 0.0
    joints[:, model.robot.joint_index(model.gripper.joint)] = model.gripper.to_joint(torch.from_numpy(closed)).numpy()
    return joints


def _followers(model: RobotModel) -> list[tuple[str, str, float, float]]:
    """Joints that follow others: name, whom, by which factor and offset."""
    tree = read_urdf(model.folder / "robot.urdf")
    return [(joint.name, *joint.mimic) for joint in tree.joints if joint.mimic is not None]


def _angles(model: RobotModel, followers: list[tuple[str, str, float, float]], joints: Floats) -> dict[str, float]:
    angles = dict(zip(model.robot.joint_names, (float(value) for value in joints), strict=True))
    for name, leader, factor, offset in followers:
        angles[name] = factor * angles[leader] + offset
    return angles
