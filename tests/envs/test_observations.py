"""Observations: their spaces, and that nothing in them belongs to anybody else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from gymnasium.spaces import Box, Dict

from vap_sim.envs.observations import first_row, make_layout
from vap_sim.errors import InvalidInput
from vap_sim.robots.library import RobotModel


def test_space_of_a_panda(model: RobotModel) -> None:
    space = make_layout(model, ("exterior_1", "wrist"), (96, 64)).space
    assert isinstance(space, Dict)
    assert set(space) == {"image", "image_wrist", "joint_position", "gripper_position"}
    assert space["image"] == Box(0, 255, (64, 96, 3), np.uint8)
    assert space["gripper_position"] == Box(0, 1, (1,), np.float32)
    assert np.array_equal(space["joint_position"].low, model.robot.lower[:7].numpy())


def test_joints_are_split_and_moved_into_the_limits(model: RobotModel) -> None:
    layout = make_layout(model, ("a", "b"), (2, 2))
    frames = np.arange(24, dtype=np.uint8).reshape(1, 2, 2, 2, 3)
    joints = np.array([[9.0, 0, 0, -1, 0, 1, 0, 0.2]])
    out = first_row(layout.observe(frames, layout.show(joints)))
    assert np.array_equal(out["image"], frames[0, 0])
    assert np.array_equal(out["image_b"], frames[0, 1])
    assert out["joint_position"][0] == model.robot.upper[0]
    assert out["gripper_position"] == pytest.approx([0.25])
    assert out in layout.space
    assert not any(np.shares_memory(frames, out[key]) for key in layout.image_keys)


def test_robot_without_gripper_has_no_gripper_position(model: RobotModel) -> None:
    layout = make_layout(replace(model, gripper=None), ("a",), (2, 2))
    out = layout.observe(np.zeros((3, 1, 2, 2, 3), np.uint8), layout.show(np.zeros((3, 8))))
    assert set(out) == {"image", "joint_position"}
    assert out["joint_position"].shape == (3, 8)


@pytest.mark.parametrize("views", [(), ("a", "a"), "exterior_1"])
def test_views_are_different_names(model: RobotModel, views: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"views: given .*different camera names"):
        make_layout(model, views, (2, 2))
