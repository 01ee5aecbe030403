"""Inverse kinematics: it undoes the forward one, keeps to the limits, and says when it fails."""

from __future__ import annotations

import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.robots.inverse import solve_inverse
from vap_sim.robots.kinematics import Robot


def problem(robot: Robot, count: int, distance: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Poses (n, 4, 4) of the tool at random joints, and starts (n, J) about `distance` [rad] away from them."""
    generator = torch.Generator().manual_seed(4)
    share = torch.rand(count, robot.num_joints, generator=generator, dtype=torch.float64)
    q = robot.lower + share * (robot.upper - robot.lower)
    start = robot.clamp(q + distance * torch.randn(q.shape, generator=generator, dtype=torch.float64))
    return robot.forward(q)[:, robot.link_index("tool")], start


def test_reaches_every_pose_from_nearby(robot: Robot) -> None:
    goal, start = problem(robot, 200, 0.15)
    found = solve_inverse(robot, "tool", goal, start)
    assert bool(found.converged.all())
    assert found.iterations < 20
    reached = robot.forward(found.q)[:, robot.link_index("tool")]
    torch.testing.assert_close(reached, goal, atol=1.1e-4, rtol=0)
    torch.testing.assert_close(reached[:, :3, 3], goal[:, :3, 3], atol=1e-5, rtol=0)
    assert torch.equal(found.q, robot.clamp(found.q))
    # The gripper does not move the tool point, so its joint keeps its value.
    assert torch.equal(found.q[:, -1], start[:, -1])


def test_errors_are_those_of_the_answer(robot: Robot) -> None:
    goal, start = problem(robot, 60, 0.6)
    found = solve_inverse(robot, "tool", goal, start, max_iterations=3)
    reached = robot.forward(found.q)[:, robot.link_index("tool")]
    torch.testing.assert_close(found.position_error, (reached - goal)[:, :3, 3].norm(dim=-1))
    turn = ((reached[:, :3, :3] @ goal[:, :3, :3].mT).diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    torch.testing.assert_close(found.rotation_error, turn.clamp(-1, 1).acos(), atol=1e-6, rtol=0)
    assert not bool(found.converged.all())


def test_out_of_reach_is_reported(robot: Robot) -> None:
    goal, start = problem(robot, 2, 0.1)
    goal[0, :3, 3] = torch.tensor([3.0, 0.0, 0.5])
    found = solve_inverse(robot, "tool", goal, start)
    assert found.converged.tolist() == [False, True]
    assert found.position_error[0] > 1.5
    assert found.iterations == 100
    assert torch.equal(found.q, robot.clamp(found.q))


def test_more_iterations_never_give_a_worse_answer(robot: Robot) -> None:
    goal, start = problem(robot, 40, 1.5)
    misses = []
    for most in range(0, 24, 2):
        found = solve_inverse(robot, "tool", goal, start, max_iterations=most)
        misses.append(found.position_error + found.rotation_error)
    assert bool((torch.stack(misses).diff(dim=0) <= 0).all())


def test_limits_hold_while_others_take_over(robot: Robot) -> None:
    """Joint 1 stands at its limit and the goal lies beyond it; the other joints must reach it."""
    start = torch.tensor([[2.8973, 0.3, 0.0, -1.9, 0.0, 2.2, 0.0, 0.0]], dtype=torch.float64)
    pose = robot.forward(start)[:, robot.link_index("tool")].clone()
    away = torch.linalg.cross(torch.tensor([[0.0, 0.0, 1.0]], dtype=torch.float64), pose[:, :3, 3])
    pose[:, :3, 3] += 0.05 * away / away.norm()
    found = solve_inverse(robot, "tool", pose, start)
    assert bool(found.converged.all())
    assert found.q[0, 0] <= robot.upper[0]


def test_batch_equals_single_and_axes_are_kept(robot: Robot) -> None:
    goal, start = problem(robot, 12, 0.3)
    together = solve_inverse(robot, "tool", goal.reshape(3, 4, 4, 4), start.reshape(3, 4, -1))
    assert together.q.shape == (3, 4, robot.num_joints)
    assert together.converged.shape == together.position_error.shape == (3, 4)
    for i in range(12):
        alone = solve_inverse(robot, "tool", goal[i], start[i])
        torch.testing.assert_close(together.q.reshape(12, -1)[i], alone.q, atol=1e-9, rtol=0)


def test_start_at_the_goal_stays(robot: Robot) -> None:
    _, start = problem(robot, 3, 0.1)
    goal = robot.forward(start)[:, robot.link_index("panda_link8")]
    found = solve_inverse(robot, "panda_link8", goal, start)
    assert (found.iterations, torch.equal(found.q, start)) == (0, True)


def test_bad_inputs_are_named(robot: Robot) -> None:
    goal, start = problem(robot, 2, 0.1)
    with pytest.raises(InvalidInput, match=r"given target \(1, 4, 4\), start \(2, 8\), expected"):
        solve_inverse(robot, "tool", goal[:1], start)
    goal[0, 0, 3] = torch.nan
    with pytest.raises(InvalidInput, match="inverse kinematics target: given a value that is not finite"):
        solve_inverse(robot, "tool", goal, start)
