"""Visual shapes: the corner points of each shape's convex hull, for silhouettes, and its surface, for pictures."""

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
    """One shape in the frame of link `link` [m]; `color` rgba in [0, 1].

    `vertices` (N, 3) float32: the corners of its convex hull; `triangles` (T, 3, 3) float32: its surface, three corners
    each; `closed`: the surface has an inside, and all triangles are wound counter-clockwise as seen from outside.
    """

    link: int
    vertices: NDArray[np.float32]
    color: tuple[float, float, float, float]
    triangles: NDArray[np.float32]
    closed: bool


def load_visuals(shapes: Iterable[ShapeRecord]) -> tuple[Visual, ...]:
    """Hull corners and surface of every shape, in order. Raises BadFile when a mesh cannot be read."""
    return tuple(_visual(shape) for shape in shapes)


def _visual(shape: ShapeRecord) -> Visual:
    corners, triangles, closed = _mesh(shape) if shape.kind == "mesh" else _solid(_corners(shape))
    placed, surface = (
        (points @ shape.origin[:3, :3].T + shape.origin[:3, 3]).astype(np.float32) for points in (corners, triangles)
    )
    return Visual(shape.link, placed, shape.color, surface, closed)


def _corners(shape: ShapeRecord) -> NDArray[np.float64]:
    if shape.kind == "box":
        signs: NDArray[np.float64] = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3, indexing="ij"), axis=-1).reshape(8, 3)
        return signs * shape.size
    if shape.kind == "cylinder":
        radius, length = shape.size
        return _rings([(radius, -length / 2), (radius, length / 2)])
    polar = np.linspace(-np.pi / 2, np.pi / 2, _ROUND_SECTIONS // 2 + 1)
    return _rings([(shape.size[0] * np.cos(a), shape.size[0] * np.sin(a)) for a in polar])


def _rings(rings: list[tuple[float, float]]) -> NDArray[np.float64]:
    angle = np.arange(_ROUND_SECTIONS) * (2 * np.pi / _ROUND_SECTIONS)
    around = np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], axis=-1)
    return np.concatenate([radius * around + (0.0, 0.0, height) for radius, height in rings])


def _solid(corners: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """The corners of a convex solid, and its surface."""
    if not np.ptp(corners, axis=0).min() > 0:  # without volume there is no surface to show
        return corners, np.zeros((0, 3, 3)), True
    from trimesh.convex import convex_hull  # slow to import, and needed only here

    return corners, np.asarray(convex_hull(corners).triangles, dtype=np.float64), True


def _mesh(shape: ShapeRecord) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Hull corners and surface of a mesh file, and whether the surface is closed."""
    import trimesh  # slow to import, and needed only here

    try:
        mesh = trimesh.load(str(shape.mesh), force="mesh", process=False, skip_materials=True)
        corners = np.asarray(mesh.convex_hull.vertices, dtype=np.float64)
        # Files give a corner once for every normal at it; only joined corners tell which edges two triangles share.
        mesh.merge_vertices(merge_tex=True, merge_norm=True)
        closed = bool(mesh.is_watertight and mesh.is_winding_consistent)
        triangles = np.asarray(mesh.triangles, dtype=np.float64)
        inside_out = closed and float(mesh.volume) * float(np.prod(shape.size)) < 0
    except Exception as error:
        raise BadFile(shape.mesh, f"is not a readable mesh ({type(error).__name__}: {error})") from error
    triangles = np.multiply(triangles, shape.size)
    return np.multiply(corners, shape.size), triangles[:, ::-1] if inside_out else triangles, closed
