"""A robot before a made-up scene as a known camera sees it, for tests of calibration."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np

from vap_sim.extraction.cameras_prior import from_camera, projections
from vap_sim.extraction.motion_masks import Clip
from vap_sim.extraction.silhouettes import draw_masks, pose_body
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

SIZE = (160, 96)
MODEL: RobotModel = load_robot("panda_robotiq")
CAMERA = Camera.look_at("test", (1.05, -0.55, 0.62), (0.42, 0.05, 0.3), size=SIZE, focal_px=88.0)
_FINE = 6


def poses(frames: int = 30, seed: int = 3, reach: float = 1.0) -> np.ndarray:
    """Joints (frames, 8) of a robot that wanders around its home; `reach` 0 keeps it there."""
    rng = np.random.default_rng(seed)
    knots = rng.normal(0, [0.4, 0.35, 0.3, 0.35, 0.35, 0.35, 0.5, 0.25], (8, 8)) * reach
    time = np.linspace(0, 7, frames)
    moves = np.stack([np.interp(time, np.arange(8), knots[:, joint]) for joint in range(8)], axis=1)
    q = MODEL.home.double().numpy() + moves
    q[:, 7] = np.abs(q[:, 7])
    return np.clip(q, MODEL.robot.lower.numpy(), MODEL.robot.upper.numpy())


def scene(seed: int = 5, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture (H, W, 3) of soft blots, about as bright as half of white."""
    rng = np.random.default_rng(seed)
    blots = cv2.GaussianBlur(rng.uniform(0, 255, (size[1], size[0], 3)).astype(np.float32), (0, 0), 4)
    return np.asarray((blots - blots.mean()) * 5 + 115)


@lru_cache(maxsize=8)
def clip(frames: int = 30, seed: int = 3, reach: float = 1.0, camera: Camera = CAMERA) -> Clip:
    """A light robot before blots, its edges mixed as a camera mixes them, with a little noise."""
    q = poses(frames, seed, reach)
    fine = camera.size[0] * _FINE, camera.size[1] * _FINE
    drawn = draw_masks(pose_body(MODEL, q), projections(from_camera(camera)[None], camera.size, fine)[0], fine)
    cover = np.stack([cv2.resize(m.astype(np.float32), camera.size, interpolation=cv2.INTER_AREA) for m in drawn])
    noise = np.random.default_rng(seed).normal(0, 2, (frames, *cover.shape[1:], 3))
    mixed = cover[..., None] * 228.0 + (1 - cover[..., None]) * scene(size=camera.size) + noise
    return Clip(f"clip {seed}", mixed.clip(0, 255).astype(np.uint8), q)


def still_clip(frames: int = 20) -> Clip:
    """A robot whose log moves before a camera that sees none of it."""
    pictures = np.broadcast_to(scene().clip(0, 255).astype(np.uint8), (frames, SIZE[1], SIZE[0], 3))
    return Clip("unseen", np.ascontiguousarray(pictures), poses(frames))
