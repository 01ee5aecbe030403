"""Small skeletons, profiles and robots that the drawing tests share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vap_sim.prompts import DrawProfile, GroupStyle, profile
from vap_sim.robots.camera import Camera
from vap_sim.robots.kinematics import Robot
from vap_sim.robots.library import RobotModel
from vap_sim.robots.skeleton import Bone, KeyPoint, SkeletonSpec

RED, GREEN = (255, 0, 0), (0, 255, 0)
INTRINSICS = torch.tensor([[100.0, 0.0, 31.5], [0.0, 100.0, 31.5], [0.0, 0.0, 1.0]])
LINES = DrawProfile("lines", (GroupStyle("arm", 4 / 64, 0.0),))
SOLID = replace(profile("compact"), groups=(GroupStyle("arm", 0.03, 0.0),), thinnest=0.0, depth_cue=None)


def bones(
    *pairs: tuple[int, int], colors: tuple[tuple[int, int, int], ...] = (RED, GREEN), radius: float | None = None
) -> SkeletonSpec:
    """A skeleton of arm bones between numbered points, all as thick."""
    count = 1 + max(max(pair) for pair in pairs)
    points = tuple(KeyPoint(f"p{i}", "base") for i in range(count))
    made = tuple(Bone(f"p{a}", f"p{b}", "arm", colors[i % len(colors)], radius) for i, (a, b) in enumerate(pairs))
    return SkeletonSpec(points, made)


def project(points: Tensor, intrinsics: Tensor = INTRINSICS) -> tuple[Tensor, Tensor]:
    """What `Camera.project` gives for points (*b, P, 3) of the camera's own frame."""
    return Camera("still", intrinsics, torch.eye(4), None, (64, 64)).project(points)


ROBOT = """<robot name="boxes">
  <link name="base"><visual><origin xyz="0 0 0"/><geometry><box size="0.3 0.2 0.1"/></geometry></visual></link>
  <link name="arm"><visual><origin xyz="0.2 0 0.05"/><geometry><box size="0.4 0.1 0.06"/></geometry></visual></link>
  <joint name="turn" type="revolute"><parent link="base"/><child link="arm"/>
    <origin xyz="0.1 0 0.1"/><axis xyz="0 1 0"/><limit lower="-3" upper="3" velocity="1" effort="1"/></joint>
</robot>"""
# Half sizes and centres of the two boxes in their links' frames.
BOXES = (((0.15, 0.1, 0.05), (0.0, 0.0, 0.0)), ((0.2, 0.05, 0.03), (0.2, 0.0, 0.05)))


def boxes(folder: Path) -> RobotModel:
    """A robot of one joint and two boxes."""
    path = folder / "robot.urdf"
    path.write_text(ROBOT, encoding="utf-8")
    points = (KeyPoint("root", "base"), KeyPoint("elbow", "arm"), KeyPoint("end", "arm", (0.4, 0.0, 0.05)))
    made = (Bone("root", "elbow", "arm", RED), Bone("elbow", "end", "arm", GREEN))
    return RobotModel(Robot.from_urdf(path), SkeletonSpec(points, made), {}, None, "arm", "arm", torch.zeros(1), folder)
