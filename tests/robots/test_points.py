"""Key points in numpy are those of forward kinematics, for every kind of joint, each row for itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.errors import UnknownName
from vap_sim.robots.kinematics import Robot
from vap_sim.robots.library import RobotModel
from vap_sim.robots.points import THICK, plan_points
from vap_sim.robots.skeleton import Bone, KeyPoint, SkeletonSpec

LIFT = """<robot name="lift">
  <link name="base"/><link name="post"/><link name="slide"/><link name="hook"/><link name="end"/>
  <joint name="turn" type="revolute"><parent link="base"/><child link="post"/><origin xyz="0.1 0 0.2" rpy="0.3 0 0.1"/>
    <axis xyz="0 0.6 0.8"/><limit lower="-2" upper="2" velocity="1" effort="1"/></joint>
  <joint name="lift" type="prismatic"><parent link="post"/><child link="slide"/><origin xyz="0 0.2 0"/>
    <axis xyz="0 0 1"/><limit lower="0" upper="0.5" velocity="1" effort="1"/></joint>
  <joint name="follow" type="revolute"><parent link="post"/><child link="hook"/><axis xyz="1 0 0"/>
    <limit lower="-3" upper="3" velocity="1" effort="1"/><mimic joint="turn" multiplier="-0.5" offset="0.2"/></joint>
  <joint name="fixed" type="fixed"><parent link="slide"/><child link="end"/><origin xyz="0.05 0 0.1"/></joint>
</robot>"""


def random_joints(robot: Robot, rows: int) -> torch.Tensor:
    share = torch.rand(rows, robot.num_joints, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    return robot.lower + share * (robot.upper - robot.lower)


def test_points_of_the_shipped_robot(model: RobotModel) -> None:
    q = random_joints(model.robot, 20)
    expected = model.skeleton.positions(model.robot, model.robot.forward(q)).numpy()
    plan = plan_points(model.robot, model.skeleton, model.tool_link)
    found = plan.positions(q.numpy())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert (found[:, model.skeleton.point_index("ground"), 2] == 0).all()
    for row in range(20):
        assert np.array_equal(plan.positions(q[row : row + 1].numpy())[0], found[row])


@pytest.mark.parametrize("link", ["tool", "panda_link5"])
def test_where_the_tool_is(model: RobotModel, link: str) -> None:
    q = random_joints(model.robot, 5)
    index = model.robot.link_index(link)
    found = plan_points(model.robot, model.skeleton, link).positions_and_tool(q.numpy())[1]
    np.testing.assert_allclose(found, model.robot.forward(q)[:, index].numpy(), rtol=0, atol=1e-12)
    with pytest.raises(UnknownName, match="tol"):
        plan_points(model.robot, model.skeleton, "tol")


def test_points_of_sliding_and_following_joints(tmp_path: Path) -> None:
    (tmp_path / "lift.urdf").write_text(LIFT)
    robot = Robot.from_urdf(tmp_path / "lift.urdf")
    points = tuple(KeyPoint(link, link, (0.1, -0.2, 0.3)) for link in robot.link_names)
    skeleton = SkeletonSpec(points, (Bone("base", "end", "arm", (255, 0, 0)),))
    q = random_joints(robot, 6)
    expected = skeleton.positions(robot, robot.forward(q)).numpy()
    np.testing.assert_allclose(plan_points(robot, skeleton, "end").positions(q.numpy()), expected, rtol=0, atol=1e-12)


def test_bones_are_limbs_between_their_points(model: RobotModel) -> None:
    """None is told of those that are drawn to the ground, and the order is that of the skeleton."""
    q, skeleton = random_joints(model.robot, 4), model.skeleton
    points = skeleton.positions(model.robot, model.robot.forward(q)).float()
    found = plan_points(model.robot, skeleton, model.tool_link).bones(points.numpy())
    limbs = [bone for bone in skeleton.bones if bone.group != "plumb"]
    assert len(limbs) < len(skeleton.bones) and found.shape == (4, len(limbs), 8) and found.dtype == np.float32
    for number, bone in enumerate(limbs):
        for part, end in ((slice(0, 3), bone.start), (slice(3, 6), bone.end)):
            assert np.array_equal(found[:, number, part], points[:, skeleton.point_index(end)].numpy())
        thick = THICK if bone.radius is None else bone.radius
        assert found[:, number, 6:].tolist() == [[np.float32(thick), float(bone.group == "gripper")]] * 4
    assert {bone.group for bone in limbs} == {"arm", "gripper"}


def test_a_bone_of_which_no_radius_is_told_is_taken_to_be_thick(tmp_path: Path) -> None:
    (tmp_path / "lift.urdf").write_text(LIFT)
    robot = Robot.from_urdf(tmp_path / "lift.urdf")
    points = (*(KeyPoint(link, link) for link in robot.link_names), KeyPoint("shade", "end", ground=True))
    bones = (
        Bone("base", "post", "arm", (255, 0, 0), radius=0.07),
        Bone("end", "shade", "plumb", (0, 255, 0)),
        Bone("end", "slide", "gripper", (0, 0, 255)),
    )
    plan = plan_points(robot, SkeletonSpec(points, bones), "end")
    found = plan.bones(plan.positions(random_joints(robot, 2).numpy()).astype(np.float32).reshape(2, 1, -1, 3))
    assert found.shape == (2, 1, 2, 8)
    assert found[1, 0, :, 6:].tolist() == [[np.float32(0.07), 0.0], [np.float32(THICK), 1.0]]
    bare = plan_points(robot, SkeletonSpec(points, ()), "end")
    assert bare.bones(np.zeros((3, len(points), 3), np.float32)).shape == (3, 0, 8)


def test_points_of_a_robot_without_joints(tmp_path: Path) -> None:
    (tmp_path / "stone.urdf").write_text('<robot name="stone"><link name="base"/></robot>')
    robot = Robot.from_urdf(tmp_path / "stone.urdf")
    skeleton = SkeletonSpec((KeyPoint("a", "base", (0.0, 1.0, 2.0)),), ())
    assert plan_points(robot, skeleton, "base").positions(np.zeros((2, 0))).tolist() == [[[0.0, 1.0, 2.0]]] * 2


def test_a_point_on_a_link_that_is_missing(model: RobotModel) -> None:
    skeleton = SkeletonSpec(
        (KeyPoint("a", "panda_link77", (0.0, 0.0, 0.0)), KeyPoint("b", "tool", (0.0, 0.0, 0.0))), ()
    )
    with pytest.raises(UnknownName, match="unknown link 'panda_link77'"):
        plan_points(model.robot, skeleton, model.tool_link)
