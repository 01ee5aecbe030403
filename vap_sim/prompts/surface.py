"""A robot's surface as one list of triangles, and where a camera sees them and how bright."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.prompts.projection import Bools, Floats, product, to_rays
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel

Doubles = NDArray[np.float64]

# The light stands up and to the left behind the camera, so that a picture depends on nothing but robot and camera.
_TO_LIGHT = np.array([-0.45, -0.65, -0.62])
_AMBIENT = 0.1
# Reflected light as a screen codes it; without it a black gripper would drown in the black around the robot.
_SCREEN_EXPONENT = 1 / 2.2


@dataclass(frozen=True, eq=False)
class Surface:
    """All visual parts of a robot in link frames [m]: N corners, T triangles, P parts."""

    links: NDArray[np.intp]  # (P,) the link of each part
    corners: Floats  # (N, 3)
    corner_part: NDArray[np.intp]  # (N,)
    first_corners: NDArray[np.intp]  # (P,) where each part's corners begin
    triangles: NDArray[np.intp]  # (T, 3) numbers of corners
    part: NDArray[np.intp]  # (T,)
    normals: Doubles  # (T, 3) of unit length, outwards where the part is closed
    offsets: Doubles  # (T,) normal times any point of the triangle
    colors: Doubles  # (T, 3) in full light, 0..1
    closed: Bools  # (T,)


@dataclass(frozen=True, eq=False)
class SeenSurface:
    """A surface in n pictures: rays (n, N, 3), which are (u*z, v*z, z) [px, m]; colors (n, T, 3) uint8; facing (n, T),
    whether the camera stands on the outer side of a triangle."""

    rays: Floats
    colors: NDArray[np.uint8]
    facing: Bools


def gather_surface(model: RobotModel) -> Surface:
    """The surface of a robot's visuals. Raises InvalidInput for a robot without any."""
    visuals = [visual for visual in model.robot.visuals if len(visual.triangles)]
    if not visuals:
        raise InvalidInput(f"visuals of robot {model.name!r}", "none with a surface", "at least one")
    corners, triangles, first = [], [], [0]
    for visual in visuals:
        unique, number = np.unique(visual.triangles.reshape(-1, 3), axis=0, return_inverse=True)
        corners.append(unique)
        triangles.append(number.reshape(-1, 3) + first[-1])
        first.append(first[-1] + len(unique))
    points = np.concatenate([visual.triangles for visual in visuals]).astype(np.float64)
    across = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    normals = across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-30)
    counts = [len(visual.triangles) for visual in visuals]
    return Surface(
        links=np.array([visual.link for visual in visuals], dtype=np.intp),
        corners=np.concatenate(corners).astype(np.float32),
        corner_part=np.repeat(np.arange(len(visuals)), np.diff(first)),
        first_corners=np.array(first[:-1], dtype=np.intp),
        triangles=np.concatenate(triangles).astype(np.intp),
        part=np.repeat(np.arange(len(visuals)), counts),
        normals=normals,
        offsets=(normals * points[:, 0]).sum(-1),
        colors=np.repeat(np.array([visual.color[:3] for visual in visuals], dtype=np.float64), counts, axis=0),
        closed=np.repeat(np.array([visual.closed for visual in visuals]), counts),
    )


def poses_seen(surface: Surface, model: RobotModel, T_base_link: Tensor, camera: Camera) -> tuple[Doubles, Doubles]:
    """Poses (b * F, P, 3, 4) of the parts in the camera's frame and intrinsics (b * F, 3, 3).

    T_base_link: (b, F, L, 4, 4) float64 metres. The camera has no leading axis or one of length b. Raises InvalidInput.
    """
    b, pixel_frames = T_base_link.shape[:2]
    lead = tuple(camera.intrinsics.shape[:-2])
    if lead not in ((), (b,)):
        raise InvalidInput(f"leading axis of camera {camera.name!r}", lead, f"none or ({b},)")
    exact = camera.to("cpu", torch.float64)
    pose = exact.T_base_camera(T_base_link, model.robot).numpy()
    intrinsics = exact.intrinsics.numpy()
    if lead:
        intrinsics = intrinsics[:, None]
        pose = pose[:, None] if camera.parent_link is None else pose
    pose = np.broadcast_to(pose, (b, pixel_frames, 4, 4)).reshape(-1, 1, 4, 4)
    turn = pose[..., :3, :3].swapaxes(-1, -2)
    parts = T_base_link.numpy()[:, :, surface.links].reshape(b * pixel_frames, -1, 4, 4)
    moved = parts[..., :3, :].copy()
    moved[..., 3] -= pose[..., :3, 3]
    seen = product(turn, moved)
    return seen, np.broadcast_to(intrinsics, (b, pixel_frames, 3, 3)).reshape(-1, 3, 3)


def see_surface(surface: Surface, poses: Doubles, intrinsics: Doubles) -> SeenSurface:
    """The surface in n pictures, for poses (n, P, 3, 4) of its parts in the camera's frame, intrinsics (n, 3, 3)."""
    turn, place = poses[..., :3], poses[..., 3]
    inverse = turn.swapaxes(-1, -2)
    eye = -(inverse * place[..., None, :]).sum(-1)
    height = (surface.normals * eye[:, surface.part]).sum(-1) - surface.offsets
    facing = height > 0
    light = (inverse * (_TO_LIGHT / np.linalg.norm(_TO_LIGHT))).sum(-1)
    cosine = (surface.normals * light[:, surface.part]).sum(-1)
    lit = np.maximum(np.where(facing, cosine, -cosine), 0)
    brightness = _AMBIENT + (1 - _AMBIENT) * lit
    # Power by parts: the colours do not change from picture to picture.
    screen = np.clip(surface.colors, 0, 1) ** _SCREEN_EXPONENT
    colors = np.rint(255 * screen * (brightness**_SCREEN_EXPONENT)[..., None]).astype(np.uint8)
    matrices = product(intrinsics[:, None], poses).astype(np.float32)
    rays = to_rays(matrices[:, surface.corner_part], surface.corners[:, None, :])[:, :, 0]
    return SeenSurface(rays, colors, facing)
