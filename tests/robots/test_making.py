"""A robot written from tables is the robot that is read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.robots.kinematics import Robot
from vap_sim.robots.making import JointPlan, LinkPlan, ball, box, disc, part, write_robot

RED = (1.0, 0.0, 0.0)


def links() -> list[LinkPlan]:
    block = part("block", RED, box((-0.1, -0.2, 0.0), (0.1, 0.2, 0.3)))
    return [
        LinkPlan("base", (block,), 2.0),
        LinkPlan("arm", (block, part("knob", RED, ball(0, 0, 0.4, 0.05)))),
        LinkPlan("tip"),
    ]


def joints() -> list[JointPlan]:
    return [
        JointPlan("turn", "base", "arm", (0, 0, 0.3), (0.1, 0.2, 0.3), (0, 1, 0), (-1.0, 2.0), speed=1.5),
        JointPlan(
            "slide", "arm", "tip", (0, 0, 0.1), axis=(0, 0, 1), limits=(0, 0.1), slides=True, mimic=("turn", 0.5, 0.01)
        ),
    ]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    robot = Robot.from_urdf(write_robot(tmp_path, "toy", "A toy.", links(), joints()))
    assert (robot.name, robot.joint_names, robot.link_names) == ("toy", ("turn",), ("base", "arm", "tip"))
    assert (robot.lower.item(), robot.upper.item(), robot.max_speed.item()) == (-1.0, 2.0, 1.5)
    poses = robot.forward(torch.tensor([0.4], dtype=torch.float64))
    along = poses[1, :3, :3].T @ (poses[2, :3, 3] - poses[1, :3, 3])
    torch.testing.assert_close(along, torch.tensor([0.0, 0.0, 0.1 + 0.5 * 0.4 + 0.01], dtype=torch.float64))
    first, again, knob = robot.visuals
    assert np.ptp(first.vertices, axis=0) == pytest.approx([0.2, 0.4, 0.3])
    assert first.color == (1, 0, 0, 1) and first.closed and knob.closed
    assert np.array_equal(first.vertices, again.vertices) and (first.link, again.link, knob.link) == (0, 1, 1)
    assert sorted(path.name for path in (tmp_path / "meshes").iterdir()) == ["block.obj", "knob.obj"]


def test_inertia_is_that_of_the_box_around_the_parts(tmp_path: Path) -> None:
    text = write_robot(tmp_path, "toy", "A toy.", links(), joints()).read_text()
    # 2 / 12 kg times the squares of 0.4 and 0.3, 0.2 and 0.3, 0.2 and 0.4 m
    assert 'ixx="0.04167" ixy="0" ixz="0" iyy="0.02167" iyz="0" izz="0.03333"' in text
    assert '<origin xyz="0 0 0.15" rpy="0 0 0"/>' in text


def test_rounds_have_their_radius() -> None:
    assert np.linalg.norm(ball(1, 2, 3, 0.5) - [1, 2, 3], axis=1) == pytest.approx(np.full(42, 0.5))
    for axis, index in (("x", 0), ("y", 1), ("z", 2)):
        ring = disc(1, 2, 3, 0.5, axis)
        assert np.ptp(ring, axis=0)[index] == 0
        assert np.linalg.norm(ring - [1, 2, 3], axis=1) == pytest.approx(np.full(16, 0.5))


def test_two_shapes_of_one_name_are_refused(tmp_path: Path) -> None:
    other = LinkPlan("other", (part("block", RED, ball(0, 0, 0, 1)),))
    with pytest.raises(InvalidInput, match="part 'block' of toy: given two shapes"):
        write_robot(tmp_path, "toy", "A toy.", [*links(), other], joints())
