"""A robot parsed once from URDF, and batched, differentiable forward kinematics and Jacobians in torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.robots.urdf import MOVING, JointRecord, UrdfTree, read_urdf
from vap_sim.robots.visuals import Visual, load_visuals

# Below this many poses the cost is the number of torch calls, above it the memory layout.
_SMALL_BATCH = 80


class _Tables(NamedTuple):
    """Constants of one dtype and device. Frame 0 is the base, frame m > 0 the link moved by moving joint m - 1.

    A joint's local transform is `const + sine * sin(q) + cosine * cos(q)`; a prismatic joint puts q in place of sin(q).
    """

    source: Tensor  # (M + 1,) which independent joint drives a frame
    scale: Tensor  # (M + 1,)
    offset: Tensor  # (M + 1,)
    prismatic: Tensor | None  # (M + 1,) bool, None where no joint is
    const: Tensor  # (M + 1, 4, 4)
    sine: Tensor
    cosine: Tensor
    jumps: tuple[Tensor, ...]  # ancestors 1, 2, 4, ... frames up
    parents: tuple[int, ...]
    frame_of_link: tuple[int, ...]
    frame_index: Tensor  # (L,)
    mount: Tensor  # (L, 4, 4) fixed transform from a link's frame to the link
    rigid: tuple[bool, ...]  # True where mount is the identity
    bottom: Tensor  # (1, 4, 1)


class _Chain(NamedTuple):
    """The moving joints between the base and one link."""

    links: Tensor  # (n,) child links
    axes: Tensor  # (n, 1, 3)
    turning: Tensor | None  # (n, 1) bool, False for prismatic; None where all turn
    source: Tensor  # (n,) independent joint
    scale: Tensor  # (n, 1)


@dataclass(frozen=True, eq=False)
class Robot:
    """Kinematics of one robot: J independent joints (mimic joints follow theirs), L links, depth first from the base.

    `lower`, `upper` (J,) [rad, or m when prismatic; infinite when continuous] and `max_speed` (J,) are float32.
    """

    name: str
    joint_names: tuple[str, ...]
    link_names: tuple[str, ...]
    lower: Tensor
    upper: Tensor
    max_speed: Tensor
    _tree: UrdfTree = field(repr=False)
    _followed: dict[str, tuple[str, float, float]] = field(repr=False)
    _cache: dict[object, object] = field(default_factory=dict, repr=False)

    @staticmethod
    def from_urdf(path: str | Path, *, name: str | None = None, mesh_root: str | Path | None = None) -> Robot:
        """Read a URDF file; no mesh is loaded until `visuals` is asked for.

        Mesh paths must stay inside `mesh_root` (by default the file's folder). Raises BadFile or Unsupported, with the
        joint's or link's name, for what the kinematics cannot honour.
        """
        tree = read_urdf(path, mesh_root=mesh_root)
        followed = {j.name: _resolve_mimic(path, tree, j) for j in tree.joints if j.kind in MOVING}
        free = [j for j in tree.joints if j.kind in MOVING and j.mimic is None]
        lower, upper, speed = (torch.tensor([getattr(j, n) for j in free]) for n in ("lower", "upper", "max_speed"))
        return Robot(name or tree.name, tuple(j.name for j in free), tree.links, lower, upper, speed, tree, followed)

    @property
    def num_joints(self) -> int:
        """J, the number of independent joints."""
        return len(self.joint_names)

    @cached_property
    def visuals(self) -> tuple[Visual, ...]:
        """Convex hulls of the URDF's visual shapes, loaded on first use. Raises BadFile for an unreadable mesh."""
        return load_visuals(self._tree.shapes)

    @property
    def parents(self) -> tuple[int, ...]:
        """The link that each link hangs on, by position in `link_names`; the base, link 0, has itself."""
        return (0, *(joint.parent for joint in self._tree.joints))

    def link_index(self, name: str) -> int:
        """Position of a link in `link_names`. Raises UnknownName."""
        if name not in self.link_names:
            raise UnknownName("link", name, self.link_names)
        return self.link_names.index(name)

    def joint_index(self, name: str) -> int:
        """Position of an independent joint in `joint_names`. Raises UnknownName."""
        if name not in self.joint_names:
            raise UnknownName("joint", name, self.joint_names)
        return self.joint_names.index(name)

    def clamp(self, q: Tensor) -> Tensor:
        """Joint values q (*b, J) moved to the nearest values within the limits."""
        return torch.clamp(q, self.lower.to(q), self.upper.to(q))

    def moving(self, q: Tensor) -> dict[str, float]:
        """Values of all moving joints by name, those that follow others included, at joint values q (J,)."""
        leaders = {name: float(value) for name, value in zip(self.joint_names, q, strict=True)}
        return {name: scale * leaders[leader] + offset for name, (leader, scale, offset) in self._followed.items()}

    def forward(self, q: Tensor) -> Tensor:
        """Poses of all links: q (*b, J) float32 or float64 [rad, m] -> T_base_link (*b, L, 4, 4), differentiable.

        Joint limits are not applied. The result may be a strided view. Raises InvalidInput for another shape or type.
        """
        if q.shape[-1:] != (self.num_joints,) or q.dtype not in (torch.float32, torch.float64):
            expected = f"float32 or float64 of shape (*b, {self.num_joints})"
            raise InvalidInput("joints q", f"{q.dtype} of shape {tuple(q.shape)}", expected)
        tables = self._tables(q.dtype, q.device)
        if not self.num_joints:
            return tables.mount.expand(*q.shape[:-1], -1, -1, -1)
        flat = q.reshape(-1, self.num_joints)
        # Matrix products may run in TF32 on a GPU; the element-wise path never does.
        small = flat.shape[0] < _SMALL_BATCH and q.device.type == "cpu"
        poses = _forward_small(tables, flat) if small else _forward_large(tables, flat)
        return poses.reshape(*q.shape[:-1], *poses.shape[1:]) if q.ndim != 2 else poses

    def jacobian(self, q: Tensor, link: str) -> Tensor:
        """How a link's origin moves with the joints: q (*b, J) -> (*b, 6, J), linear then angular, base frame."""
        return self.pose_and_jacobian(q, link)[1]

    def pose_and_jacobian(self, q: Tensor, link: str) -> tuple[Tensor, Tensor]:
        """Pose T_base_link (*b, 4, 4) of one link and its Jacobian (*b, 6, J), for little more than the pose alone."""
        index = self.link_index(link)
        poses = self.forward(q)
        chain = self._chain(index, q.dtype, q.device)
        frames = poses.index_select(-3, chain.links)
        axes = (frames[..., :3, :3] * chain.axes).sum(-1)
        arms = poses[..., index, None, :3, 3] - frames[..., :3, 3]
        linear = torch.linalg.cross(axes, arms)
        if chain.turning is not None:
            linear = torch.where(chain.turning, linear, axes)
            axes = axes * chain.turning
        columns = torch.cat([linear, axes], dim=-1) * chain.scale
        out = columns.new_zeros(*q.shape[:-1], self.num_joints, 6)
        return poses[..., index, :, :], out.index_add(-2, chain.source, columns).transpose(-1, -2)

    def movers(self, link: str) -> frozenset[int]:
        """Which of the J joints move a link. Raises UnknownName."""
        return frozenset(self._chain(self.link_index(link), torch.float32, torch.device("cpu")).source.tolist())

    def reach(self, link: str) -> float:
        """Upper bound of the distance [m] between the base and a link's origin: the length of the stretched chain."""
        total, index = 0.0, self.link_index(link)
        while index:
            joint = self._tree.joints[index - 1]
            total += float(np.linalg.norm(joint.origin[:3, 3]))
            if joint.kind == "prismatic":
                total += max(abs(joint.lower), abs(joint.upper))
            index = joint.parent
        return total

    def _tables(self, dtype: torch.dtype, device: torch.device) -> _Tables:
        key = (dtype, device)
        if key not in self._cache:
            # Tensors born in inference mode could never take part in a gradient later.
            with torch.inference_mode(False):
                self._cache[key] = _build_tables(self, dtype, device)
        return self._cache[key]  # type: ignore[return-value]

    def _chain(self, link: int, dtype: torch.dtype, device: torch.device) -> _Chain:
        key = (link, dtype, device)
        if key not in self._cache:
            with torch.inference_mode(False):
                self._cache[key] = _build_chain(self, link, dtype, device)
        return self._cache[key]  # type: ignore[return-value]


def _resolve_mimic(path: str | Path, tree: UrdfTree, joint: JointRecord) -> tuple[str, float, float]:
    """The independent joint behind a moving one, with q = scale * q_independent + offset."""
    by_name = {j.name: j for j in tree.joints}
    scale, offset, current, seen = 1.0, 0.0, joint, {joint.name}
    while current.mimic is not None:
        leader, multiplier, shift = current.mimic
        if leader not in by_name or by_name[leader].kind not in MOVING:
            moving = [j.name for j in tree.joints if j.kind in MOVING and j.name != current.name]
            known = UnknownName("moving joint", leader, moving)
            raise BadFile(path, f"joint {current.name!r} mimics {leader!r}, which is no moving joint: {known}")
        if leader in seen:
            raise BadFile(path, f"joint {joint.name!r} mimics itself through {leader!r}")
        scale, offset = scale * multiplier, offset + scale * shift
        current = by_name[leader]
        seen.add(leader)
    return current.name, scale, offset


def _build_tables(robot: Robot, dtype: torch.dtype, device: torch.device) -> _Tables:
    tree, links = robot._tree, len(robot.link_names)
    frame, mount = [0] * links, [np.eye(4)] * links
    parents, source, scale, offset, prismatic = [0], [0], [0.0], [0.0], [False]
    const, sine, cosine = [np.eye(4)], [np.zeros((4, 4))], [np.zeros((4, 4))]
    for joint in tree.joints:
        before = mount[joint.parent] @ joint.origin
        if joint.kind not in MOVING:
            frame[joint.child], mount[joint.child] = frame[joint.parent], before
            continue
        frame[joint.child], mount[joint.child] = len(parents), np.eye(4)
        leader, times, plus = robot._followed[joint.name]
        parents.append(frame[joint.parent])
        source.append(robot.joint_names.index(leader))
        scale.append(times)
        offset.append(plus)
        prismatic.append(joint.kind == "prismatic")
        for table, term in zip((const, sine, cosine), _motion_terms(joint), strict=True):
            table.append(before @ term)
    jumps, up = [], np.array(parents)
    while up.any():
        jumps.append(torch.from_numpy(up.copy()).to(device))
        up = up[up]

    def real(values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=dtype, device=device)

    return _Tables(
        torch.tensor(source, device=device),
        real(scale),
        real(offset),
        torch.tensor(prismatic, device=device) if any(prismatic) else None,
        real(const),
        real(sine),
        real(cosine),
        tuple(jumps),
        tuple(parents),
        tuple(frame),
        torch.tensor(frame, device=device),
        real(mount),
        tuple(bool((m == np.eye(4)).all()) for m in mount),
        real([[[0.0], [0.0], [0.0], [1.0]]]),
    )


def _motion_terms(joint: JointRecord) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The joint's own motion as const + sine * sin(q) + cosine * cos(q) (Rodrigues), each (4, 4)."""
    const, sine, cosine = np.eye(4), np.zeros((4, 4)), np.zeros((4, 4))
    if joint.kind == "prismatic":
        sine[:3, 3] = joint.axis
        return const, sine, cosine
    x, y, z = joint.axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    const[:3, :3] += cross @ cross
    sine[:3, :3] = cross
    cosine[:3, :3] = -cross @ cross
    return const, sine, cosine


def _build_chain(robot: Robot, link: int, dtype: torch.dtype, device: torch.device) -> _Chain:
    joints: list[JointRecord] = []
    while link:
        joint = robot._tree.joints[link - 1]
        if joint.kind in MOVING:
            joints.insert(0, joint)
        link = joint.parent
    follow = [robot._followed[j.name] for j in joints]
    turning = [[j.kind != "prismatic"] for j in joints]
    return _Chain(
        torch.tensor([j.child for j in joints], dtype=torch.long, device=device),
        torch.as_tensor(np.array([j.axis for j in joints]).reshape(-1, 1, 3), dtype=dtype, device=device),
        torch.tensor(turning, device=device) if not all(t for [t] in turning) else None,
        torch.tensor([robot.joint_names.index(f[0]) for f in follow], dtype=torch.long, device=device),
        torch.tensor([[f[1]] for f in follow], dtype=dtype, device=device).reshape(-1, 1),
    )


def _features(tables: _Tables, q: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Sine and cosine of every frame's joint value (q itself instead of sin for prismatic), frames along `dim`."""
    along = (-1,) if dim else (-1, 1)
    angle = torch.addcmul(tables.offset.reshape(along), q.index_select(dim, tables.source), tables.scale.reshape(along))
    sine = angle.sin()
    if tables.prismatic is not None:
        sine = torch.where(tables.prismatic.reshape(along), angle, sine)
    return sine, angle.cos()


def _forward_small(tables: _Tables, q: Tensor) -> Tensor:
    """Few poses: all joints in each call, chains multiplied by doubling (log2 of the depth many calls)."""
    sine, cosine = _features(tables, q, 1)
    local = torch.addcmul(tables.const, tables.sine, sine[..., None, None])
    frames = torch.addcmul(local, tables.cosine, cosine[..., None, None])
    for jump in tables.jumps:
        frames = frames.index_select(1, jump) @ frames
    return frames.index_select(1, tables.frame_index) @ tables.mount


def _forward_large(tables: _Tables, q: Tensor) -> Tensor:
    """Many poses: one joint at a time with the batch innermost, so that every call runs over long contiguous rows."""
    sine, cosine = _features(tables, q.t().contiguous(), 0)
    const, on_sine, on_cosine = (t[:, :3, :, None] for t in (tables.const, tables.sine, tables.cosine))
    frames = [const[0].expand(3, 4, q.shape[0])]
    for frame, parent in enumerate(tables.parents[1:], start=1):
        local = torch.addcmul(torch.addcmul(const[frame], on_sine[frame], sine[frame]), on_cosine[frame], cosine[frame])
        frames.append(_compose(frames[parent], local) if parent else local)
    bottom = tables.bottom.expand(1, 4, q.shape[0])
    rows: list[Tensor] = []
    for link, frame in enumerate(tables.frame_of_link):
        pose = frames[frame]
        if not tables.rigid[link]:
            pose = _compose(pose, tables.mount[link, :3, :, None])
        rows += [pose, bottom]
    return torch.cat(rows).view(len(tables.frame_of_link), 4, 4, q.shape[0]).permute(3, 0, 1, 2)


def _compose(a: Tensor, b: Tensor) -> Tensor:
    """Rigid a (3, 4, n) after b (3, 4, n or 1)."""
    a0, a1, a2, a3 = a.unbind(1)
    out = torch.addcmul(a0[:, None] * b[0], a1[:, None], b[1])
    out = torch.addcmul(out, a2[:, None], b[2])
    out[:, 3] += a3
    return out
