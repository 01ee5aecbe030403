"""Episodes made up for tests of readers, writers and checks: a Panda that moves by sines, seen by two cameras."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from vap_sim.data.episode import Episode
from vap_sim.data.footage import ArrayFootage
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

RATE = 5.0
SIZES = {"exterior_1": (48, 32), "wrist": (32, 40)}


def pictures(length: int, size: tuple[int, int], seed: int) -> np.ndarray:
    """A slope with a square that wanders over it: no two frames alike."""
    down, across = np.mgrid[: size[1], : size[0]]
    frames = np.stack([np.stack([across * 4, down * 5, 0 * down + 6 * k + seed], -1) for k in range(length)])
    frames = frames.astype(np.uint8)
    for k, frame in enumerate(frames):
        frame[k % 20 : k % 20 + 8, (2 * k + seed) % 20 : (2 * k + seed) % 20 + 8] = 250
    return frames


def joint_path(length: int, seed: int) -> np.ndarray:
    """Panda arm joints (T, 7) [rad], within limits and speeds."""
    home = load_robot("panda_robotiq").home[:7].double().numpy()
    phases = np.random.default_rng(seed).uniform(0, 6, 7)
    return home + 0.3 * np.sin(0.3 * np.arange(length)[:, None] + phases)


def flange_poses(joints: np.ndarray) -> np.ndarray:
    """(T, 4, 4) of the Panda's flange."""
    model = load_robot("panda_robotiq")
    whole = torch.cat([torch.from_numpy(joints), torch.zeros(len(joints), 1, dtype=torch.float64)], dim=1)
    return model.robot.forward(whole)[:, model.robot.link_index(model.flange_link)].numpy().copy()


def episode(seed: int = 0, length: int = 12, name: str | None = None, **changes: object) -> Episode:
    """One episode with every field filled; `changes` replace fields."""
    joints = joint_path(length, seed)
    camera = Camera.look_at("exterior_1", (1.2, 0.5 + seed, 0.6), (0.4, 0, 0.1), size=(48, 32), focal_px=50.0)
    fields: dict[str, object] = {
        "name": name or f"take {seed}",
        "source": Path("memory"),
        "views": {view: ArrayFootage(pictures(length, size, seed)) for view, size in SIZES.items()},
        "length": length,
        "frame_rate": RATE,
        "instruction": f"move the {('red', 'blue')[seed % 2]} cube, gently – ü",
        "robot": "panda_robotiq",
        "joints": joints,
        "gripper": 0.5 + 0.5 * np.sin(np.arange(length)),
        "tool": flange_poses(joints),
        "tool_link": "panda_link8",
        "joint_targets": joints + 0.01,
        "actions": np.random.default_rng(seed).normal(size=(length, 4)),
        "action_names": ("x", "y", "z", "grip"),
        "cameras": {"exterior_1": camera},
        "success": seed % 3 != 0,
        "notes": ("made up",),
    }
    return Episode(**{**fields, **changes})  # type: ignore[arg-type]


def assert_equal(given: Episode, expected: Episode, *, films: bool = True, but: Sequence[str] = ()) -> None:
    """That two episodes hold the same, number by number; with `films`, picture by picture too."""
    for member in ("name", "length", "frame_rate", "instruction", "robot", "tool_link", "action_names", "success"):
        if member not in but:
            assert getattr(given, member) == getattr(expected, member), member
    for member in ("joints", "gripper", "tool", "joint_targets", "actions"):
        if member not in but:
            a, b = getattr(given, member), getattr(expected, member)
            assert (a is None) == (b is None) and (a is None or np.array_equal(a, b)), member
    assert list(given.views) == list(expected.views)
    for view, footage in expected.views.items():
        assert given.views[view].size == footage.size and given.views[view].length == footage.length
        if films:
            pairs = zip(given.views[view].frames(), footage.frames(), strict=True)
            assert all(np.array_equal(a, b) for a, b in pairs), view
    assert list(given.cameras) == list(expected.cameras)
    for view, camera in expected.cameras.items():
        assert given.cameras[view].to_dict() == camera.to_dict()
