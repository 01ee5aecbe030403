"""A table with boxes, seen by cameras around it: pictures, prompts and projections without a renderer or a robot."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor

from vap_sim.models.compact.slots import Slots, cut, number_objects
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.robots.camera import Camera

RED, BLUE, GREEN = (220, 30, 30), (20, 40, 220), (20, 160, 40)
EYES = ((1.2, 0.7, 0.7), (1.2, -0.7, 0.7), (1.3, 0.0, 0.9), (0.4, 0.9, 0.8))


def cameras(count: int = 2, size: int = 128) -> tuple[Camera, ...]:
    """Cameras that look at the middle of the table from several sides."""
    return tuple(
        Camera.look_at(f"view_{n}", eye, (0.45, 0.0, 0.05), size=(size, size), focal_px=1.4 * size)
        for n, eye in enumerate(EYES[:count])
    )


def projections(views: Sequence[Camera]) -> Tensor:
    """(V, 3, 4) float32."""
    out = []
    for camera in views:
        inverse = torch.linalg.inv(camera.T_parent_camera.double())
        out.append((camera.intrinsics.double() @ inverse[:3]).float())
    return torch.stack(out)


def box(middle: Sequence[float], side: float = 0.06) -> np.ndarray:
    """The corners (8, 3) of an upright cube [m]."""
    signs = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3), axis=-1).reshape(8, 3)
    return np.asarray(middle) + side * signs


def picture(camera: Camera, boxes: Sequence[tuple[Sequence[float], tuple[int, int, int]]]) -> np.ndarray:
    """Boxes (middle, color) alone, as premultiplied rgba (H, W, 4) uint8, the nearest last."""
    width, height = camera.size
    canvas = np.zeros((height, width, 4), np.uint8)
    drawn = []
    for middle, color in boxes:
        xy, depth = camera.project(torch.from_numpy(box(middle)).float())
        drawn.append((float(depth.mean()), xy.numpy(), color))
    for _, xy, color in sorted(drawn, key=lambda item: -item[0]):
        hull = cv2.convexHull(np.round(xy * 16).astype(np.int32))
        cv2.fillConvexPoly(canvas, hull, (*color, 255), cv2.LINE_8, 4)
    return canvas


def slots_of(layer: np.ndarray) -> Slots:
    """One row of slots, as a reading of a layer (H, W, 4) finds them."""
    objects = torch.from_numpy(layer).permute(2, 0, 1)[None].float() / 255
    return cut(objects, torch.from_numpy(number_objects(layer))[None])


def seen_by(prompt: VisualPrompt, views: Sequence[Camera]) -> VisualPrompt:
    """A prompt (b, V, F, ...) with the projections of cameras that stand still."""
    b, _, frames = prompt.skeleton.shape[:3]
    fixed = projections(views)[None, :, None].expand(b, -1, frames, -1, -1).contiguous()
    return VisualPrompt(prompt.skeleton, projections=fixed)
