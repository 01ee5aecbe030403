"""Key points of few poses in numpy: for one pose, starting a torch operation costs more than its arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.robots.kinematics import Robot
from vap_sim.robots.skeleton import SkeletonSpec

Floats = NDArray[np.float64]
THICK = 0.02
"""[m] radius of limbs of which a skeleton does not tell it."""


@dataclass(frozen=True, eq=False)
class PointPlan:
    """A robot's kinematics and a skeleton's P points on it, brought into arrays once; M frames, of which 0 is the base.

    A frame's transform in its parent is `const + sine * sin(angle) + cosine * cos(angle)`, with the angle itself in
    place of its sine where its joint is prismatic.
    """

    source: NDArray[np.intp]  # (M,) which independent joint drives a frame
    scale: Floats  # (M,)
    offset: Floats  # (M,)
    prismatic: NDArray[np.bool_] | None  # (M,), None where no joint is
    const: Floats  # (M, 4, 4)
    sine: Floats
    cosine: Floats
    jumps: tuple[NDArray[np.intp], ...]  # each (M,): the frames 1, 2, 4, ... steps towards the base
    frames: NDArray[np.intp]  # (P,) the frame of each point
    places: Floats  # (P, 4, 1) where a point is in its frame
    keep: Floats  # (P, 3) zero where a coordinate is moved to the ground
    tool_frame: int  # of the tool's link
    tool_mount: Floats  # (4, 4) that link in its frame
    ends: NDArray[np.intp]  # (B, 2) the points that bones join, but for those drawn to the ground
    limbs: NDArray[np.float32]  # (B, 2) their radius [m], and 1 for a gripper's

    def positions(self, q: Floats) -> Floats:
        """Points (n, P, 3) [m] in the base frame at joint values q (n, J) [rad or m], each row for itself."""
        return self.positions_and_tool(q)[0]

    def positions_and_tool(self, q: Floats) -> tuple[Floats, Floats]:
        """What `positions` gives, and the poses (n, 4, 4) of the tool's link in the base frame."""
        q = q if q.shape[1] else np.zeros((len(q), 1))  # a robot without joints
        angle = q.take(self.source, axis=1) * self.scale + self.offset
        sine = np.sin(angle)
        if self.prismatic is not None:
            sine = np.where(self.prismatic, angle, sine)
        poses = self.const + self.sine * sine[..., None, None] + self.cosine * np.cos(angle)[..., None, None]
        for jump in self.jumps:
            poses = np.matmul(poses.take(jump, axis=1), poses)
        points: Floats = np.matmul(poses.take(self.frames, axis=1), self.places)[..., :3, 0] * self.keep
        return points, np.matmul(poses[:, self.tool_frame], self.tool_mount)

    def bones(self, points: NDArray[np.float32]) -> NDArray[np.float32]:
        """The bones (..., B, 8) of points (..., P, 3) [m]: both ends, radius [m], and 1 for a gripper's, 0 for an
        arm's."""
        lead = points.shape[:-2]
        ends = points.take(self.ends, axis=-2).reshape(*lead, len(self.ends), 6)
        return np.concatenate([ends, np.broadcast_to(self.limbs, (*lead, *self.limbs.shape))], axis=-1)


def plan_points(robot: Robot, skeleton: SkeletonSpec, tool_link: str) -> PointPlan:
    """Everything about the points of `skeleton` and a tool's link that does not depend on the pose. Raises UnknownName
    for a link."""
    tables = robot._tables(torch.float64, torch.device("cpu"))
    links = [robot.link_index(point.link) for point in skeleton.points]
    tool = robot.link_index(tool_link)
    bones = [bone for bone in skeleton.bones if bone.group != "plumb"]
    ends = [[skeleton.point_index(end) for end in (bone.start, bone.end)] for bone in bones]
    limbs = [(THICK if bone.radius is None else bone.radius, float(bone.group == "gripper")) for bone in bones]
    offsets = np.array([(*point.offset, 1.0) for point in skeleton.points])[:, :, None]
    return PointPlan(
        source=tables.source.numpy(),
        scale=tables.scale.numpy(),
        offset=tables.offset.numpy(),
        prismatic=None if tables.prismatic is None else tables.prismatic.numpy(),
        const=tables.const.numpy(),
        sine=tables.sine.numpy(),
        cosine=tables.cosine.numpy(),
        jumps=tuple(jump.numpy() for jump in tables.jumps),
        frames=np.array([tables.frame_of_link[link] for link in links]),
        places=tables.mount.numpy()[links] @ offsets,
        keep=np.array([(1.0, 1.0, 0.0 if point.ground else 1.0) for point in skeleton.points]),
        tool_frame=tables.frame_of_link[tool],
        tool_mount=tables.mount.numpy()[tool],
        ends=np.array(ends, np.intp).reshape(-1, 2),
        limbs=np.array(limbs, np.float32).reshape(-1, 2),
    )
