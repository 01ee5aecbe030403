"""Writes the convex low-poly link meshes of this folder; run it again after changing a part.

Every part is the convex hull of a few spheres, discs or boxes, given in its link's frame in metres. Convex parts make
silhouettes exact (a hull projects to a hull) and keep software rendering fast.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import trimesh

Points = np.ndarray
_SPHERE: Points = trimesh.creation.icosphere(subdivisions=1).vertices


def ball(x: float, y: float, z: float, radius: float) -> Points:
    """Points of a low-poly sphere, (42, 3) [m]."""
    return np.asarray([x, y, z]) + radius * _SPHERE


def disc(x: float, y: float, z: float, radius: float, axis: str = "z") -> Points:
    """A ring of 16 points around `axis`, (16, 3) [m]."""
    angle = np.arange(16) * (2 * np.pi / 16)
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(16)], axis=1) * radius
    return np.asarray([x, y, z]) + np.roll(ring, {"z": 0, "x": 1, "y": 2}[axis], axis=1)


def box(low: tuple[float, float, float], high: tuple[float, float, float]) -> Points:
    """The eight corners of an axis-aligned box, (8, 3) [m]."""
    return np.stack(np.meshgrid(*zip(low, high, strict=True)), axis=-1).reshape(-1, 3)


PARTS: dict[str, Callable[[], list[Points]]] = {
    "base_foot": lambda: [box((-0.15, -0.09, 0.0), (0.07, 0.09, 0.03)), box((-0.12, -0.07, 0.06), (0.06, 0.07, 0.07))],
    "base_column": lambda: [disc(0, 0, 0.05, 0.078), disc(0, 0, 0.14, 0.072)],
    "shoulder_column": lambda: [disc(0, 0, -0.192, 0.068), disc(0, 0, -0.06, 0.062)],
    "shoulder": lambda: [
        disc(0, -0.068, 0, 0.062, "y"),
        disc(0, 0.068, 0, 0.062, "y"),
        disc(0, -0.045, 0, 0.07, "y"),
        disc(0, 0.045, 0, 0.07, "y"),
    ],
    "upper_arm": lambda: [ball(0, -0.03, 0, 0.058), disc(0, -0.195, 0, 0.057, "y")],
    "upper_arm_ring": lambda: [disc(0, 0, -0.121, 0.06), disc(0, 0, -0.09, 0.06)],
    "elbow_arm": lambda: [disc(0, 0, -0.09, 0.056), ball(0.03, 0, -0.03, 0.05), ball(0.0825, 0, 0, 0.045)],
    "elbow": lambda: [
        disc(0.0825, -0.062, 0, 0.05, "y"),
        disc(0.0825, 0.062, 0, 0.05, "y"),
        disc(0.0825, 0, 0, 0.057, "y"),
    ],
    "forearm_top": lambda: [ball(0, 0, 0, 0.05), ball(-0.05, 0.05, 0, 0.05), disc(-0.0825, 0.124, 0, 0.05, "y")],
    "forearm": lambda: [disc(0, 0, -0.26, 0.052), ball(0, 0.02, -0.12, 0.045), ball(0, 0.045, -0.05, 0.034)],
    "wrist": lambda: [
        disc(0, -0.05, 0, 0.044, "y"),
        disc(0, 0.075, 0, 0.044, "y"),
        disc(0, 0.01, 0, 0.052, "y"),
        ball(0, 0.04, -0.05, 0.036),
    ],
    "hand_arm": lambda: [ball(0, 0, 0, 0.044), ball(0.088, 0, 0, 0.046), disc(0.088, -0.05, 0, 0.044, "y")],
    "flange": lambda: [disc(0, 0, 0.05, 0.046), disc(0, 0, 0.085, 0.044)],
    "flange_ring": lambda: [disc(0, 0, 0.085, 0.034), disc(0, 0, 0.107, 0.034)],
    "gripper_collar": lambda: [disc(0, 0, 0.0, 0.038), disc(0, 0, 0.03, 0.038)],
    "gripper_body": lambda: [
        disc(0, 0, 0.03, 0.036),
        box((-0.022, -0.045, 0.06), (0.022, 0.045, 0.072)),
        box((-0.018, -0.026, 0.09), (0.018, 0.026, 0.092)),
    ],
    "outer_knuckle": lambda: [
        box((-0.013, -0.009, -0.009), (0.013, 0.009, 0.009)),
        box((-0.013, 0.0225, -0.0131), (0.013, 0.0405, 0.0049)),
    ],
    "outer_finger": lambda: [
        box((-0.011, -0.009, -0.009), (0.011, 0.009, 0.009)),
        box((-0.011, -0.002, 0.039), (0.011, 0.0135, 0.055)),
    ],
    "inner_knuckle": lambda: [
        box((-0.016, -0.006, -0.006), (0.016, 0.006, 0.006)),
        box((-0.016, 0.0316, 0.037), (0.016, 0.0436, 0.049)),
    ],
    "inner_finger": lambda: [
        box((-0.011, -0.008, -0.008), (0.011, 0.008, 0.008)),
        box((-0.011, -0.019, 0.012), (0.011, -0.008, 0.05)),
    ],
    "pad": lambda: [box((-0.011, -0.0035, -0.019), (0.011, 0.0035, 0.019))],
}


def write_meshes(folder: Path) -> None:
    """Write one OBJ file a part, with smooth vertex normals for round parts, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, points in PARTS.items():
        hull = trimesh.convex.convex_hull(np.concatenate(points()))
        if len(hull.faces) < 30:
            hull.unmerge_vertices()  # boxes keep hard edges
        text = trimesh.exchange.obj.export_obj(hull, include_normals=True, header=None, digits=5)
        (folder / f"{name}.obj").write_text(text + "\n")


if __name__ == "__main__":
    write_meshes(Path(__file__).parent / "meshes")
