"""From pictures to what the judge's eyes are shown: windows about the named colour, and about a ring on the table."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from vap_sim.errors import Unsupported
from vap_sim.policies.judge_finding import color_likeness, crop, find_object, find_ring
from vap_sim.policies.judge_network import HEIGHT, WINDOW, Views
from vap_sim.policies.judge_table import TableGrid, table_maps
from vap_sim.robots.camera import Camera

Color = tuple[float, float, float]
_GRID = TableGrid()


def named_color(instruction: str, colors: Mapping[str, Color]) -> str | None:
    """The one colour that an instruction names, None where it names none or several."""
    words = set(re.findall(r"[a-z]+", instruction.lower()))
    found = [name for name in colors if name in words]
    return found[0] if len(found) == 1 else None


def seen(pictures: NDArray[np.uint8], cameras: Sequence[Camera]) -> tuple[Tensor, Camera]:
    """Pictures (b, H, W, 3) uint8 in [0, 1] as (b, 3, HEIGHT, W'), with their cameras as one.

    Raises Unsupported for cameras that move with the robot."""
    for camera in cameras:
        if camera.parent_link is not None:
            raise Unsupported(f"camera {camera.name!r} rides on {camera.parent_link!r}; a judge needs one fixed")
    whole = Camera.batch([camera.to("cpu", torch.float32) for camera in cameras])
    rgb = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
    if rgb.shape[-2] == HEIGHT:
        return rgb, whole
    size = (max(1, round(rgb.shape[-1] * HEIGHT / rgb.shape[-2])), HEIGHT)
    small = F.interpolate(rgb, size=size[::-1], mode="bilinear", antialias=True, align_corners=False)
    return small, whole.resized(size)


def object_views(rgb: Tensor, camera: Camera, colors: Tensor, side: int = WINDOW) -> Views:
    """Windows about what in pictures (b, 3, H, W) is most like colors (b, 3), `side` pixels wide."""
    likeness = color_likeness(rgb, colors)
    found = find_object(likeness)
    return _views(torch.cat([rgb, likeness[:, None]], dim=1), found.cell, found.strength, camera, side)


def goal_views(rgb: Tensor, camera: Camera, side: int = WINDOW) -> Views:
    """Windows about the bright ring that fits best on the table in pictures (b, 3, H, W)."""
    found = find_ring(table_maps(rgb, camera, _GRID))
    place = _GRID.points()[found.cell[:, 0], found.cell[:, 1]]
    pixel, _ = camera.project(F.pad(place, (0, 1))[:, None])
    cell = pixel[:, 0].flip(-1).round().long()
    return _views(torch.cat([rgb, whiteness(rgb)], dim=1), cell, found.strength, camera, side)


def whiteness(rgb: Tensor) -> Tensor:
    """(b, 1, H, W): how white pixels (b, 3, H, W) are."""
    return rgb.amin(1, keepdim=True)


def _views(planes: Tensor, cell: Tensor, strength: Tensor, camera: Camera, side: int) -> Views:
    """Windows about `cell` (b, 2), row and column; a window of even side has its middle half a pixel before it."""
    cell = torch.stack([cell[:, axis].clamp(0, planes.shape[2 + axis] - 1) for axis in (0, 1)], dim=1)
    return Views(
        crop(planes, cell, side), cell.flip(-1).float() - 0.5, strength, camera.intrinsics, camera.T_parent_camera
    )
