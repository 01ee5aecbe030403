"""Pictures seen from above: what a camera shows of the table, at known metres, whatever camera it was.

Only calibrated cameras are used, nothing of the scene. A map is exact for what lies in the plane z = 0; what stands
above it leans away from the camera.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

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


def table_maps(pictures: Tensor, camera: Camera, grid: TableGrid) -> Tensor:
    """Pictures (b, C, H, W) float of a fixed camera with axis b -> (b, C, rows, columns); zero outside of them."""
    ground = F.pad(grid.points().reshape(-1, 2), (0, 1))
    xy, depth = camera.project(ground.expand(len(pictures), -1, -1))
    width, height = camera.size
    look = (2 * xy + 1) / xy.new_tensor([width, height]) - 1
    look = torch.where(depth[..., None] > 0, look, 2.0).clamp(-2, 2)
    look = look.reshape(len(pictures), grid.rows, grid.columns, 2)
    return F.grid_sample(pictures, look, mode="bilinear", padding_mode="zeros", align_corners=False)
