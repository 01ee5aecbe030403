"""Clips of a small station, made up for tests: a patterned room, a plain robot in its own silhouette, a true camera."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from vap_sim.data.prepared import SUFFIX, ClipEntry, PreparedClip, PreparedSet, save_clip
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

HOME = np.array([0.0, -0.4, 0.0, -2.2, 0.0, 1.9, 0.8, 0.0], np.float32)
ROBOT = np.array([230, 120, 40], np.uint8)


def camera(size: tuple[int, int] = (64, 64), name: str = "side", parent: str | None = None) -> Camera:
    """One that sees the whole arm."""
    return Camera.look_at(name, (1.5, -0.9, 0.9), (0.25, 0.0, 0.3), size=size, vertical_fov=0.8, parent_link=parent)


def sweep(length: int, turns: float = 1.0) -> np.ndarray:
    """Joints (T, 8) of an arm that swings from one side to the other and back, so that all of its upper part moves."""
    joints = np.tile(HOME, (length, 1))
    joints[:, 0] = 0.9 * np.sin(np.linspace(0, 2 * np.pi * turns, length))
    return joints


def room(size: tuple[int, int], seed: int = 0) -> np.ndarray:
    """A picture (H, W, 3) uint8 without a robot."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(60, 130, (size[1] // 8, size[0] // 8, 3))
    return np.kron(coarse, np.ones((8, 8, 1))).astype(np.uint8)


def make_clip(name: str = "a", length: int = 9, *, size: tuple[int, int] = (64, 64), **changes: Any) -> PreparedClip:
    """One view of an arm that swings."""
    q, view = sweep(length), camera(size)
    robot = silhouettes(load_robot("panda_robotiq"), torch.from_numpy(q)[None], [view])[0, 0].numpy()
    frames = np.where(robot[..., None], ROBOT, room(size))
    fields: dict[str, Any] = {
        "name": name,
        "frames": frames[None],
        "joints": q,
        "cameras": (view,),
        "homographies": np.tile(np.eye(3, dtype=np.float32), (1, length, 1, 1)),
        "robot": robot[None] * np.uint8(255),
        "kept": np.ones((1, length), np.bool_),
        "frame_rate": 5.0,
        "robot_name": "panda_robotiq",
        "state_source": "logged",
        "source": name,
    }
    return PreparedClip(**{**fields, **changes})


def write_set(folder: Path, clips: list[PreparedClip]) -> PreparedSet:
    """The clips as a folder of prepared clips."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for clip in clips:
        save_clip(folder / f"{clip.name}{SUFFIX}", clip)
        names = tuple(one.name for one in clip.cameras)
        entries.append(ClipEntry(clip.name, f"{clip.name}{SUFFIX}", clip.length, names))
    made = PreparedSet(folder, {}, tuple(entry.name for entry in entries), tuple(entries))
    made.save()
    return made
