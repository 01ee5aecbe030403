"""Writes a robot's URDF and its convex low-poly meshes from tables of numbers, for robots described by numbers alone.

Every part is the convex hull of a few balls, discs or boxes, given in its link's frame in metres. Convex parts make
silhouettes exact (a hull projects to a hull), and few triangles keep software rendering fast.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput

Points = NDArray[np.float64]
Vector = tuple[float, float, float]
_FEW_FACES = 30
_LEAST_MASS, _LEAST_INERTIA = 1e-3, 1e-6


@dataclass(frozen=True, eq=False)
class Part:
    """One convex part of a link: the hull of `points` (N, 3) [m], kept in meshes/`name`.obj; `color` RGB in [0, 1]."""

    name: str
    points: Points
    color: Vector


@dataclass(frozen=True, eq=False)
class LinkPlan:
    """One link, its parts and its mass [kg]; its inertia is that of the box around its parts."""

    name: str
    parts: tuple[Part, ...] = ()
    mass: float = _LEAST_MASS


@dataclass(frozen=True)
class JointPlan:
    """One joint as URDF has it: origin `xyz` [m] and `rpy` [rad] in the parent, `limits` (lower, upper) [rad or m],
    `speed` [rad/s or m/s], `effort` [Nm or N], `mimic` (joint, multiplier, offset). Without limits it is fixed."""

    name: str
    parent: str
    child: str
    xyz: Vector = (0.0, 0.0, 0.0)
    rpy: Vector = (0.0, 0.0, 0.0)
    axis: Vector = (0.0, 0.0, 1.0)
    limits: tuple[float, float] | None = None
    speed: float = 1.0
    effort: float = 10.0
    slides: bool = False
    mimic: tuple[str, float, float] | None = None


def ball(x: float, y: float, z: float, radius: float) -> Points:
    """Points of a low-poly sphere, (42, 3) [m]."""
    import trimesh  # slow to import, and needed only here

    sphere: Points = np.asarray(trimesh.creation.icosphere(subdivisions=1).vertices, dtype=np.float64)
    return np.asarray([x, y, z]) + radius * sphere


def disc(x: float, y: float, z: float, radius: float, axis: str = "z") -> Points:
    """A ring of 16 points around `axis`, (16, 3) [m]."""
    angle = np.arange(16) * (2 * np.pi / 16)
    ring = np.stack([np.cos(angle), np.sin(angle), np.zeros(16)], axis=1) * radius
    return np.asarray([x, y, z]) + np.roll(ring, {"z": 0, "x": 1, "y": 2}[axis], axis=1)


def box(low: Vector, high: Vector) -> Points:
    """The eight corners of an axis-aligned box, (8, 3) [m]."""
    corners: Points = np.stack(np.meshgrid(*zip(low, high, strict=True)), axis=-1).reshape(-1, 3)
    return corners


def part(name: str, color: Vector, *points: Points) -> Part:
    """The part that several groups of points (N, 3) [m] span together."""
    return Part(name, np.concatenate(points), color)


def write_robot(folder: Path, name: str, remark: str, links: Sequence[LinkPlan], joints: Sequence[JointPlan]) -> Path:
    """Write robot.urdf and meshes/*.obj into `folder`; a mesh that several links name is written once.

    `remark` becomes the file's comment. Raises InvalidInput where two different parts share a name.
    """
    parts: dict[str, Part] = {}
    for piece in (piece for link in links for piece in link.parts):
        if parts.setdefault(piece.name, piece) is not piece and not np.array_equal(
            parts[piece.name].points, piece.points
        ):
            raise InvalidInput(f"part {piece.name!r} of {name}", "two shapes", "one shape a name")
    (folder / "meshes").mkdir(parents=True, exist_ok=True)
    for piece in parts.values():
        _write(folder / "meshes" / f"{piece.name}.obj", _mesh_text(piece.points))
    lines = ['<?xml version="1.0"?>', f"<!-- {remark} -->", f'<robot name="{name}">']
    lines += [line for link in links for line in _link_lines(link)]
    lines += [line for joint in joints for line in _joint_lines(joint)]
    _write(folder / "robot.urdf", "\n".join([*lines, "</robot>"]) + "\n")
    return folder / "robot.urdf"


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a data file of a robot, replacing it at once. Raises OSError."""
    _write(path, _json_text(values))


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def _json_text(values: dict[str, Any]) -> str:
    """JSON with one entry a line."""
    fields = []
    for name, value in values.items():
        if isinstance(value, list):
            entries = ",\n".join(f"    {json.dumps(entry)}" for entry in value)
            fields.append(f"  {json.dumps(name)}: [\n{entries}\n  ]")
        elif isinstance(value, dict) and len(value) != 3:
            entries = ",\n".join(f"    {json.dumps(key)}: {json.dumps(entry)}" for key, entry in value.items())
            fields.append(f"  {json.dumps(name)}: {{\n{entries}\n  }}")
        else:
            fields.append(f"  {json.dumps(name)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(fields) + "\n}\n"


def _mesh_text(points: Points) -> str:
    import trimesh  # slow to import, and needed only here

    hull = trimesh.convex.convex_hull(points)
    if len(hull.faces) < _FEW_FACES:
        hull.unmerge_vertices()  # boxes keep hard edges, round parts get smooth normals
    return str(trimesh.exchange.obj.export_obj(hull, include_normals=True, header=None, digits=5)) + "\n"


def _link_lines(link: LinkPlan) -> list[str]:
    centre, inertia = np.zeros(3), np.full(3, _LEAST_INERTIA)
    if link.parts:
        points = np.concatenate([piece.points for piece in link.parts])
        low, high = points.min(axis=0), points.max(axis=0)
        centre, square = (low + high) / 2, (high - low) ** 2
        inertia = np.maximum(link.mass / 12 * (square.sum() - square), _LEAST_INERTIA)
    ixx, iyy, izz = (f"{value:.4g}" for value in inertia)
    lines = [
        f'  <link name="{link.name}">',
        "    <inertial>",
        f'      <origin xyz="{_numbers(centre.round(4))}" rpy="0 0 0"/>',
        f'      <mass value="{link.mass:g}"/>',
        f'      <inertia ixx="{ixx}" ixy="0" ixz="0" iyy="{iyy}" iyz="0" izz="{izz}"/>',
        "    </inertial>",
    ]
    for piece in link.parts:
        mesh = f'<geometry><mesh filename="meshes/{piece.name}.obj"/></geometry>'
        color = f'<color rgba="{_numbers(piece.color)} 1"/>'
        lines += [
            "    <visual>",
            f"      {mesh}",
            f'      <material name="{piece.name}">{color}</material>',
            "    </visual>",
            f"    <collision>{mesh}</collision>",
        ]
    return [*lines, "  </link>"]


def _joint_lines(joint: JointPlan) -> list[str]:
    kind = "fixed" if joint.limits is None else "prismatic" if joint.slides else "revolute"
    lines = [
        f'  <joint name="{joint.name}" type="{kind}">',
        f'    <parent link="{joint.parent}"/>',
        f'    <child link="{joint.child}"/>',
        f'    <origin xyz="{_numbers(joint.xyz)}" rpy="{_numbers(joint.rpy)}"/>',
    ]
    if joint.limits is not None:
        lower, upper = _numbers(joint.limits).split()
        lines += [
            f'    <axis xyz="{_numbers(joint.axis)}"/>',
            f'    <limit lower="{lower}" upper="{upper}" effort="{joint.effort:g}" velocity="{joint.speed:g}"/>',
        ]
    if joint.mimic is not None:
        leader, multiplier, offset = joint.mimic
        lines.append(f'    <mimic joint="{leader}" multiplier="{multiplier:g}" offset="{offset:g}"/>')
    return [*lines, "  </joint>"]


def _numbers(values: Sequence[float] | Points) -> str:
    """The shortest text that is read back as the same numbers."""
    return " ".join(repr(float(value) + 0.0).removesuffix(".0") for value in values)
