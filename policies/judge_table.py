"""Pictures seen from above: what a camera shows of the table, at known metres, whatever camera it was.

Only calibrated cameras are used, nothing of the scene. A map is exact for what lies in the plane z = 0; what stands
above it leans away from the camera, by the parallax that goes with the map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.errors import Unsupported
from vap_sim.robots.camera import Camera


@dataclass(frozen=True)
class TableGrid:
    """Cells of `cell` [m]: row r is x = x0 + r cell, column c is y = y0 + c cell, in the robot's base frame."""

    x0: float = 0.23
    y0: float = -0.316
    cell: float = 0.008
    rows: int = 64
    columns: int = 80

    def points(self) -> Tensor:
        """(rows, columns, 2) x, y [m] of all cells."""
        x = self.x0 + self.cell * torch.arange(self.rows, dtype=torch.float32)
        y = self.y0 + self.cell * torch.arange(self.columns, dtype=torch.float32)
        return torch.stack(torch.meshgrid(x, y, indexing="ij"), dim=-1)


def table_maps(pictures: Tensor, cameras: Sequence[Camera], grid: TableGrid) -> Tensor:
    """Pictures (b, C, H, W) float of b fixed cameras -> (b, C, rows, columns); zero outside of the picture."""
    _check_fixed(cameras)
    ground = F.pad(grid.points().reshape(-1, 2), (0, 1))
    camera = Camera.batch([_plain(camera) for camera in cameras])
    xy, depth = camera.project(ground.expand(len(cameras), -1, -1))
    width, height = camera.size
    look = (2 * xy + 1) / xy.new_tensor([width, height]) - 1
    look = torch.where(depth[..., None] > 0, look, 2.0).clamp(-2, 2)
    look = look.reshape(len(cameras), grid.rows, grid.columns, 2)
    return F.grid_sample(pictures, look, mode="bilinear", padding_mode="zeros", align_corners=False)


def parallax(cameras: Sequence[Camera], grid: TableGrid) -> Tensor:
    """(b, 2, rows, columns): metres along x and y by which a map shows a point too far for each metre of its height."""
    _check_fixed(cameras)
    eyes = torch.stack([camera.T_parent_camera[:3, 3] for camera in cameras]).float()
    away = grid.points().permute(2, 0, 1)[None] - eyes[:, :2, None, None]
    return away / eyes[:, 2].clamp_min(0.05)[:, None, None, None]


def _check_fixed(cameras: Sequence[Camera]) -> None:
    for camera in cameras:
        if camera.parent_link is not None:
            raise Unsupported(
                f"camera {camera.name!r} rides on {camera.parent_link!r}; maps need one fixed at the base"
            )


def _plain(camera: Camera) -> Camera:
    return camera.to("cpu", torch.float32)
