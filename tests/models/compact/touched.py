"""Worlds that move things in space, seen exactly: what they are shown, told and made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor

from tests.models.compact.test_views import CONFIG, SIZE
from tests.models.compact.two_views import BLUE, RED, cameras, picture, seen_by
from vap_sim.models.compact.layers import Reading
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.models.compact.views import CompactViews
from vap_sim.prompts.visual_prompt import BONE, VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.state import WorldState

Boxes = Sequence[tuple[tuple[float, float, float], tuple[int, int, int]]]
ONE: Boxes = (((0.45, 0.05, 0.03), RED),)
TWO: Boxes = (*ONE, ((0.5, -0.1, 0.03), BLUE))
TOUCHED = replace(CONFIG, contact=True)
HELD, FREE = 50.0, -50.0


def read_exactly(network: CompactNetwork, frame: Tensor, skeleton: Tensor) -> Reading:
    """Pictures are read without a network: what is colorful is an object, all else the table."""
    alpha = (frame.amax(1, keepdim=True) - frame.amin(1, keepdim=True) > 0.2).float()
    nothing = torch.full((1, 10, SIZE, SIZE), -20.0)
    return Reading(frame, torch.cat([frame * alpha, alpha], 1), frame, torch.zeros(1, 4), nothing)


def network(
    held: float = HELD, moves: float = 9.0, shift: Sequence[float] = (0.0, 0.0, 0.0), lively: float = 0.0
) -> CompactNetwork:
    """Says of every thing that it is held or not, whether it moves, and how it goes by itself [cm]; lively: by how much
    that differs from thing to thing and from moment to moment."""
    source = torch.Generator().manual_seed(4)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        made = CompactNetwork(TOUCHED)
        assert made.contact is not None
        made.contact.head.weight.copy_(torch.randn(made.contact.head.weight.shape, generator=source) * lively)
        made.contact.head.bias.copy_(torch.tensor([*shift, 0.0, 0.0, 0.0, held, 0.0, 0.0, 0.0, moves]))
    return made


def world(made: CompactNetwork | None = None, views: int = 2, **options: float) -> CompactViews:
    return CompactViews(network() if made is None else made, views=views, dtype=torch.float32, **options)  # type: ignore[arg-type]


def raised(camera: Camera, height: float) -> Camera:
    """The same camera `height` [m] above where it is."""
    pose = camera.T_parent_camera.clone()
    pose[2, 3] += height
    return replace(camera, T_parent_camera=pose)


def views_of(count: int, height: float = 0.0) -> tuple[Camera, ...]:
    return tuple(raised(camera, height) for camera in cameras(count, SIZE))


def swung(
    axis: Sequence[float] | np.ndarray, at: Sequence[float] | np.ndarray, steps: int = 12, angle: float = 0.05
) -> np.ndarray:
    """Poses (T + 1, 4, 4) of a tool at a place that turns about an axis of length one, by `angle` [rad] a step."""
    out = np.tile(np.eye(4), (steps + 1, 1, 1))
    turns = np.arange(steps + 1)[:, None] * angle * np.asarray(axis)
    out[:, :3, :3] = Rotation.from_rotvec(turns).as_matrix()
    out[:, :3, 3] = at
    return out


def taken(poses: np.ndarray, step: Sequence[float]) -> np.ndarray:
    """Poses that besides go by `step` [m] in each step."""
    out = poses.copy()
    out[:, :3, 3] += np.arange(len(poses))[:, None] * np.asarray(step)
    return out


PATH = taken(swung((0.36, 0.48, 0.8), (0.47, 0.02, 0.08)), (-0.004, 0.006, 0.008))
"""Of a tool that turns about no axis of the base, up and aside."""


def told(path: np.ndarray = PATH, views: int = 2, height: float = 0.0) -> VisualPrompt:
    """The prompt of a tool's path (T + 1, 4, 4) [m] and of a finger at it; all of it raised by `height` [m]."""
    path = path.copy()
    path[:, 2, 3] += height
    bare = torch.zeros(1, views, len(path), SIZE, SIZE, 3, dtype=torch.uint8)
    finger = np.einsum("tij,pj->tpi", path, np.array([[0.0, 0.02, 0.0, 1.0], [0.0, 0.03, 0.06, 1.0]]))[:, :, :3]
    bones = np.zeros((len(path), 2, BONE), np.float32)
    bones[:, 0, :6] = finger.reshape(-1, 6)
    bones[:, 1, :6] = (0.2, 0.0, 0.3 + height, 0.4, 0.0, 0.2 + height)
    bones[:, :, 6:] = [[0.01, 1.0], [0.05, 0.0]]
    tool = torch.from_numpy(path.astype(np.float32))[None]
    return replace(seen_by(VisualPrompt(bare), views_of(views, height)), tool=tool, bones=torch.from_numpy(bones)[None])


def shown(views: int, boxes: Boxes = ONE, height: float = 0.0) -> Tensor:
    """Pictures (1, V, H, W, 3) uint8 of boxes on a grey table."""
    layers = [picture(camera, boxes) for camera in cameras(views, SIZE)]
    return torch.from_numpy(np.stack([np.where(one[..., 3:] > 0, one[..., :3], np.uint8(120)) for one in layers]))[None]


def begun(dream: CompactViews, prompt: VisualPrompt, boxes: Boxes = ONE) -> WorldState:
    return dream.encode(shown(dream.spec.views, boxes), prompt.between(0, 1), [0])


def stepped(dream: CompactViews, state: WorldState, prompt: VisualPrompt) -> list[WorldState]:
    """The state after each frame of a prompt but its first, that of the beginning first."""
    out = [state]
    for frame in range(1, prompt.pixel_frames):
        out.append(dream.imagine(out[-1], prompt.between(frame, frame + 1), decode=False).state)
    return out
