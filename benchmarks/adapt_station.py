"""A station that no weights have seen: twin recordings played again before another camera, in another room.

The twin's shipped look is what the compact model was trained on. Here the camera stands elsewhere and sees wider, the
table has a grain, the robot another paint, the lens darkens towards the corners, the sensor is noisy and the video is
compressed; camera, room and light are one and the same in all recordings, as at a real station. What comes out are
prepared clips with the true camera, as `vap-sim prepare` writes them of real recordings.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from harness import joint_angles
from numpy.typing import NDArray
from tqdm import tqdm

from vap_sim.data.prepared import SUFFIX, ClipEntry, PreparedClip, PreparedSet, save_clip
from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.envs.scenes import CameraPose, Light, Scene
from vap_sim.envs.twin_renderer import Picture, Snapshot, TwinRenderer, scene_camera
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

SIZE = (192, 128)
POSE = CameraPose("side", eye=(1.25, -0.85, 0.72), target=(0.36, 0.0, 0.18), vertical_fov=0.80)
_TABLE, _WALL = (0.62, 0.45, 0.28), (0.36, 0.46, 0.50)
_LIGHT = Light(direction=(0.2, -1.0, 1.1), color=(1.06, 1.0, 0.9), ambient=0.5, diffuse=0.5)
_PAINT = np.array([0.55, 1.1, 2.4])
"""Exponents that give the robot's grey a colour, and darken what is dark."""
_NOISE, _QUALITY = 2.5, 70
_FINE = 3  # samples of the silhouette along a side of a pixel
_SEED = 20


def record_station(folder: Path, seeds: range, steps: int) -> list[Path]:
    """The twin recordings of these seeds, recorded where they are missing; their order is that of the seeds."""
    from vap_sim.envs.twin_recorder import RecorderSettings, record_file

    folder.mkdir(parents=True, exist_ok=True)
    settings = RecorderSettings(steps=steps, pictures=False)
    bar = tqdm(seeds, desc="recording", unit="episode", mininterval=5)
    return [record_file(seed, folder, settings) for seed in bar]


def foreign_station(files: list[Path], folder: Path) -> PreparedSet:
    """Play twin recordings at the foreign station, one clip each, and write them as prepared clips."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for file in tqdm(files, desc="playing again", unit="episode", mininterval=5):
        clip = foreign_clip(load_episode(file), file.name.partition(".")[0])
        name = f"{clip.name}{SUFFIX}"
        save_clip(folder / name, clip)
        entries.append(ClipEntry(clip.name, name, clip.length, tuple(camera.name for camera in clip.cameras)))
    made = PreparedSet(folder, {"station": "foreign"}, tuple(entry.name for entry in entries), tuple(entries))
    made.save()
    return made


def foreign_clip(episode: TwinEpisode, name: str) -> PreparedClip:
    """One recording as the foreign station's camera sees it."""
    camera, joints = scene_camera(POSE, SIZE), np.ascontiguousarray(episode.measured, np.float32)
    scene = Scene.from_dict(episode.meta["scene"])
    scene = replace(scene, table_color=_TABLE, wall_color=_WALL, light=_LIGHT, cameras=(POSE,))
    model = load_robot(episode.meta["robot"])
    rng = np.random.default_rng([_SEED, int(episode.meta["seed"])])
    with closing(TwinRenderer(scene, model.folder / "robot.urdf")) as renderer:
        frames = [
            _filmed(renderer.render(_snapshot(model, q, poses), camera, camera.T_parent_camera.numpy()), rng)
            for q, poses in zip(joints, episode.object_poses, strict=True)
        ]
    length = len(frames)
    return PreparedClip(
        name=name,
        frames=np.stack(frames)[None],
        joints=joints,
        cameras=(camera,),
        homographies=np.tile(np.eye(3, dtype=np.float32), (1, length, 1, 1)),
        robot=covered(model, joints, camera)[None],
        kept=np.ones((1, length), np.bool_),
        frame_rate=1 / float(episode.meta["control_dt"]),
        robot_name=model.name,
        state_source="logged",
        source=name,
        notes=("twin recording played again at the foreign station, with the true camera",),
    )


def covered(model: object, joints: NDArray[np.float32], camera: Camera) -> NDArray[np.uint8]:
    """How far the robot's silhouette covers each pixel (T, H, W), 0..255."""
    width, height = camera.size
    fine = camera.resized((width * _FINE, height * _FINE))
    masks = silhouettes(model, torch.from_numpy(joints)[None], [fine])[0, 0]  # type: ignore[arg-type]
    share = masks.reshape(len(joints), height, _FINE, width, _FINE).float().mean((2, 4))
    return np.asarray((255 * share).round().numpy(), np.uint8)


def _snapshot(model: object, q: NDArray[np.float32], poses: NDArray[np.float32]) -> Snapshot:
    things = tuple((tuple(row[:3].tolist()), tuple(row[3:].tolist())) for row in poses)
    return Snapshot(joint_angles(model, q), things)  # type: ignore[arg-type]


def _filmed(picture: Picture, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A drawn picture as this station's camera would have recorded it."""
    share = picture.coverage.astype(np.float64) / 255
    color = picture.rgb / 255.0
    robot = 0.06 + 0.9 * color**_PAINT
    things = color[..., [1, 2, 0]] ** 0.9
    room = color * _grain(color.shape[0], color.shape[1])
    layers = robot * share[1, ..., None] + things * share[2:].sum(0)[..., None] + room * share[0, ..., None]
    seen = 255 * layers * _corners(*color.shape[:2]) + rng.normal(0, _NOISE, color.shape)
    written = cv2.imencode(".jpg", seen.round().clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
    return np.asarray(cv2.imdecode(written, cv2.IMREAD_COLOR), np.uint8)


def _grain(height: int, width: int) -> NDArray[np.float64]:
    """A pattern of streaks (H, W, 1) around 1 that stands still in the picture, as the room does."""
    rng = np.random.default_rng(_SEED)
    streaks = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), sigmaX=9, sigmaY=1.2)
    blotches = cv2.GaussianBlur(rng.normal(0, 1, (height, width)), (0, 0), 14)
    pattern = 0.10 * streaks / streaks.std() + 0.08 * blotches / blotches.std()
    return np.asarray(1 + pattern, np.float64)[..., None]


def _corners(height: int, width: int) -> NDArray[np.float64]:
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    return np.asarray(1 - 0.22 * (x * x + y * y) / 2, np.float64)[..., None]
