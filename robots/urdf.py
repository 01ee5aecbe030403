"""Reads a URDF file into a small checked tree of links, joints and visual shapes, in float64.

yourdfpy does the XML; this file refuses what our kinematics cannot honour, always naming the joint or link at fault.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import BadFile, Unsupported

Array = NDArray[np.float64]
MOVING = ("revolute", "continuous", "prismatic")


@dataclass(frozen=True, eq=False)
class JointRecord:
    """One joint; `parent` and `child` index the tree's links, `origin` (4, 4) maps the joint frame into the parent.

    `lower`, `upper`, `max_speed` are in rad and rad/s (m and m/s when prismatic), infinite where a continuous joint
    leaves them open. `mimic` is (name of the leading joint, multiplier, offset).
    """

    name: str
    kind: str
    parent: int
    child: int
    origin: Array
    axis: Array
    lower: float
    upper: float
    max_speed: float
    mimic: tuple[str, float, float] | None


@dataclass(frozen=True, eq=False)
class ShapeRecord:
    """One visual shape: `kind` box, cylinder, sphere or mesh; `size` in m (box: x y z; cylinder: radius, length;
    sphere: radius; mesh: scale x y z); `origin` (4, 4) maps the shape into its link; `color` rgba in [0, 1].
    """

    link: int
    kind: str
    size: tuple[float, ...]
    origin: Array
    color: tuple[float, float, float, float]
    mesh: Path | None


@dataclass(frozen=True, eq=False)
class UrdfTree:
    """Links depth first from the root (index 0); joint i moves link i + 1."""

    name: str
    links: tuple[str, ...]
    joints: tuple[JointRecord, ...]
    shapes: tuple[ShapeRecord, ...]


def read_urdf(path: str | Path, *, mesh_root: str | Path | None = None) -> UrdfTree:
    """Parse and check a URDF file; meshes are located but not loaded.

    `mesh_root` is the folder no mesh path may leave; by default the URDF's own folder.
    Raises BadFile (missing or broken file, bad tree, limits or mesh path) or Unsupported (floating, planar joint).
    """
    path = Path(path)
    robot = _parse(path)
    links = {link.name: link for link in robot.links}
    if len(links) != len(robot.links):
        raise BadFile(path, f"two links share the name {_repeated(link.name for link in robot.links)!r}")
    if len({joint.name for joint in robot.joints}) != len(robot.joints):
        raise BadFile(path, f"two joints share the name {_repeated(joint.name for joint in robot.joints)!r}")
    ordered, names = _depth_first(path, robot, links)
    index = {name: i for i, name in enumerate(names)}
    joints = tuple(_joint(path, joint, index) for joint in ordered)
    root = Path(mesh_root) if mesh_root is not None else path.parent
    colors = {m.name: m.color for m in robot.materials if m.color is not None}
    shapes = tuple(_shape(path, root, i, v, name, colors) for i, name in enumerate(names) for v in links[name].visuals)
    return UrdfTree(str(robot.name), names, joints, shapes)


def _parse(path: Path) -> Any:
    import yourdfpy  # slow to import, and needed only here

    try:
        text = path.read_bytes()
    except OSError as error:
        raise BadFile(path, f"cannot be read ({error.strerror})") from error
    # Without its zero bytes, wide text reads like narrow text.
    if b"<!DOCTYPE" in text.replace(b"\0", b""):
        raise BadFile(path, "has a DOCTYPE, which a URDF never needs and which may declare entities")
    try:
        return yourdfpy.URDF.load(str(path), build_scene_graph=False, load_meshes=False).robot
    except Exception as error:
        raise BadFile(path, f"is not a readable URDF ({type(error).__name__}: {error})") from error


def _repeated(names: Iterable[str]) -> str:
    seen: set[str] = set()
    return next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]


def _depth_first(path: Path, robot: Any, links: dict[str, Any]) -> tuple[list[Any], tuple[str, ...]]:
    """Joints and link names in depth-first order, children in the file's order."""
    children: dict[str, list[Any]] = {name: [] for name in links}
    moved_by: dict[str, str] = {}
    for joint in robot.joints:
        for side in (joint.parent, joint.child):
            if side not in links:
                raise BadFile(path, f"joint {joint.name!r} names the link {side!r}, which does not exist")
        if joint.child in moved_by:
            raise BadFile(path, f"link {joint.child!r} has two parents: {moved_by[joint.child]!r}, {joint.name!r}")
        moved_by[joint.child] = joint.name
        children[joint.parent].append(joint)
    roots = [name for name in links if name not in moved_by]
    if len(roots) > 1:
        raise BadFile(path, f"has {len(roots)} root links ({', '.join(roots)}), expected one")
    ordered: list[Any] = []
    stack = list(reversed(children[roots[0]])) if roots else []
    while stack:
        joint = stack.pop()
        ordered.append(joint)
        stack.extend(reversed(children[joint.child]))
    if len(ordered) != len(robot.joints) or not roots:
        lost = next(joint.name for joint in robot.joints if joint not in ordered)
        raise BadFile(path, f"joint {lost!r} lies on a cycle of links")
    return ordered, (roots[0], *(joint.child for joint in ordered))


def _joint(path: Path, joint: Any, index: dict[str, int]) -> JointRecord:
    if joint.type in ("floating", "planar"):
        raise Unsupported(f"{path}: joint {joint.name!r} is {joint.type}; write it as prismatic and revolute joints")
    if joint.type != "fixed" and joint.type not in MOVING:
        raise BadFile(path, f"joint {joint.name!r} has the unknown type {joint.type!r}")
    lower, upper, speed = _limits(path, joint)
    axis = np.asarray(joint.axis, dtype=np.float64)
    length = float(np.linalg.norm(axis)) if axis.shape == (3,) else 0.0
    if joint.type in MOVING and not (0 < length < np.inf):
        raise BadFile(path, f"joint {joint.name!r} has the axis {joint.axis}, expected three numbers not all zero")
    mimic = None
    if joint.mimic is not None and joint.type in MOVING:
        multiplier, offset = joint.mimic.multiplier, joint.mimic.offset
        mimic = (
            str(joint.mimic.joint),
            1.0 if multiplier is None else float(multiplier),
            0.0 if offset is None else float(offset),
        )
    origin = _origin(path, joint.origin, f"joint {joint.name!r}")
    axis = axis / length if length else axis
    ends = index[joint.parent], index[joint.child]
    return JointRecord(joint.name, joint.type, *ends, origin, axis, lower, upper, speed, mimic)


def _limits(path: Path, joint: Any) -> tuple[float, float, float]:
    if joint.type == "fixed":
        return 0.0, 0.0, 0.0
    given = joint.limit
    speed = None if given is None else given.velocity
    if joint.type == "continuous":
        return -np.inf, np.inf, np.inf if speed is None else float(speed)
    if joint.mimic is not None:
        # A follower is bounded through its leader.
        return -np.inf, np.inf, np.inf
    missing = [n for n in ("lower", "upper", "velocity") if given is None or getattr(given, n) is None]
    if missing:
        raise BadFile(path, f"joint {joint.name!r} has no limit for {', '.join(missing)}")
    lower, upper, speed = float(given.lower), float(given.upper), float(given.velocity)
    if not (lower <= upper and speed >= 0):
        raise BadFile(path, f"joint {joint.name!r} has limits {lower}..{upper} at {speed}, expected lower <= upper")
    return lower, upper, speed


def _origin(path: Path, matrix: Any, owner: str) -> Array:
    origin = np.eye(4) if matrix is None else np.asarray(matrix, dtype=np.float64)
    if not np.isfinite(origin).all():
        raise BadFile(path, f"{owner} has an origin that is not finite")
    return origin


def _shape(path: Path, root: Path, link: int, visual: Any, name: str, colors: dict[str, Any]) -> ShapeRecord:
    material = visual.material
    color = getattr(material, "color", None) or (colors.get(material.name) if material is not None else None)
    rgba = tuple(float(v) for v in color.rgba) if color is not None else (0.6, 0.6, 0.6, 1.0)
    geometry, mesh = visual.geometry, None
    if geometry.box is not None:
        kind, size = "box", tuple(float(v) for v in geometry.box.size)
    elif geometry.cylinder is not None:
        kind, size = "cylinder", (float(geometry.cylinder.radius), float(geometry.cylinder.length))
    elif geometry.sphere is not None:
        kind, size = "sphere", (float(geometry.sphere.radius),)
    else:
        kind, size = "mesh", _scale(geometry.mesh.scale)
        mesh = _mesh_path(path, root, str(geometry.mesh.filename), name)
    origin = _origin(path, visual.origin, f"a visual of link {name!r}")
    return ShapeRecord(link, kind, size, origin, (rgba[0], rgba[1], rgba[2], rgba[3]), mesh)


def _scale(scale: Any) -> tuple[float, float, float]:
    x, y, z = np.broadcast_to(1.0 if scale is None else np.asarray(scale, dtype=np.float64), (3,)).tolist()
    return x, y, z


def _mesh_path(path: Path, root: Path, filename: str, link: str) -> Path:
    """Where a mesh lies. A package:// name is looked up below the folder, with and without the package's own name."""
    root = root.resolve()
    if filename.startswith("package://"):
        rest = filename.removeprefix("package://")
        candidates = [root / rest, root / Path(*Path(rest).parts[1:])]
    else:
        candidates = [path.parent / filename.removeprefix("file://")]
    inside = [c.resolve() for c in candidates if c.resolve().is_relative_to(root)]
    if not inside:
        raise BadFile(
            path, f"link {link!r} has the mesh {filename!r}, which leaves the folder {root.name!r} of its robot"
        )
    for candidate in inside:
        if candidate.is_file():
            return candidate
    raise BadFile(path, f"link {link!r} has the mesh {filename!r}, which does not exist below {root.name!r}")
