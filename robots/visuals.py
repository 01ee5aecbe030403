"""Visual shapes as point clouds: the corner points of each shape's convex hull, for silhouettes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import BadFile
from vap_sim.robots.urdf import ShapeRecord

_ROUND_SECTIONS = 20


@dataclass(frozen=True, eq=False)
class Visual:
    """Hull corners of one shape: `vertices` (N, 3) float32 [m] in the frame of link `link`; `color` rgba in [0, 1]."""

    link: int
    vertices: NDArray[np.float32]
    color: tuple[float, float, float, float]


def load_visuals(shapes: Iterable[ShapeRecord]) -> tuple[Visual, ...]:
    """Hull corners of every shape, in order. Raises BadFile when a mesh cannot be read."""
    return tuple(_visual(shape) for shape in shapes)


def _visual(shape: ShapeRecord) -> Visual:
    placed = _corners(shape) @ shape.origin[:3, :3].T + shape.origin[:3, 3]
    return Visual(shape.link, placed.astype(np.float32), shape.color)


def _corners(shape: ShapeRecord) -> NDArray[np.float64]:
    if shape.kind == "box":
        signs: NDArray[np.float64] = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3, indexing="ij"), axis=-1).reshape(8, 3)
        return signs * shape.size
    if shape.kind == "cylinder":
        radius, length = shape.size
        return _rings([(radius, -length / 2), (radius, length / 2)])
    if shape.kind == "sphere":
        polar = np.linspace(-np.pi / 2, np.pi / 2, _ROUND_SECTIONS // 2 + 1)
        return _rings([(shape.size[0] * np.cos(a), shape.size[0] * np.sin(a)) for a in polar])
    return _mesh_corners(shape)


def _rings(rings: list[tuple[float, float]]) -> NDArray[np.float64]:
    angle = np.arange(_ROUND_SECTIONS) * (2 * np.pi / _ROUND_SECTIONS)
    around = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=-1)
    return np.concatenate([radius * around + (0.0, 0.0, height) for radius, height in rings])


def _mesh_corners(shape: ShapeRecord) -> NDArray[np.float64]:
    import trimesh  # slow to import, and needed only here

    try:
        mesh = trimesh.load(str(shape.mesh), force="mesh", process=False, skip_materials=True)
        corners = np.asarray(mesh.convex_hull.vertices, dtype=np.float64)
    except Exception as error:
        raise BadFile(shape.mesh, f"is not a readable mesh ({type(error).__name__}: {error})") from error
    return np.multiply(corners, shape.size)
