"""Inverse kinematics: joint values that bring a link to a pose, by damped least squares within the joint limits."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.robots.kinematics import Robot
from vap_sim.robots.rotations import rotation_vector

# Added to the damping, which otherwise shrinks with the error, so that singular poses stay solvable.
_LEAST_DAMPING = 1e-8
# No joint moves further [rad or m] in one iteration; the linear picture holds no further.
_LONGEST_STEP = 0.5


@dataclass(frozen=True, eq=False)
class InverseResult:
    """Joint values `q` (*b, J) within the limits, how far they miss, and whether that is within the tolerances.

    `position_error` (*b) [m], `rotation_error` (*b) [rad], `converged` (*b) bool, `iterations` used by the slowest row.
    """

    q: Tensor
    position_error: Tensor
    rotation_error: Tensor
    converged: Tensor
    iterations: int


def solve_inverse(
    robot: Robot,
    link: str,
    T_base_target: Tensor,
    q_start: Tensor,
    *,
    max_iterations: int = 100,
    position_tolerance: float = 1e-5,
    rotation_tolerance: float = 1e-4,
) -> InverseResult:
    """Search from q_start (*b, J) for joint values that put `link` at T_base_target (*b, 4, 4).

    Joints the link does not depend on keep their start. A row that misses the tolerances ([m], [rad]) is returned as
    the nearest found, with `converged` False. Raises InvalidInput for wrong shapes or values that are not finite.
    """
    _check(robot, T_base_target, q_start)
    goal = T_base_target.to(q_start).reshape(-1, 4, 4)
    q = robot.clamp(q_start).reshape(-1, robot.num_joints)
    lower, upper = robot.lower.to(q), robot.upper.to(q)
    best, best_errors = q, q.new_full((q.shape[0], 2), torch.inf)
    tolerances = q.new_tensor([position_tolerance, rotation_tolerance])
    iterations = 0
    while True:
        pose, jacobian = robot.pose_and_jacobian(q, link)
        miss = _twist(pose, goal)
        errors = torch.linalg.vector_norm(miss.view(-1, 2, 3), dim=-1)
        closer = (errors.sum(-1) < best_errors.sum(-1))[:, None]
        best, best_errors = torch.where(closer, q, best), torch.where(closer, errors, best_errors)
        done = (best_errors <= tolerances).all(-1, keepdim=True)
        if iterations >= max_iterations or bool(done.all()):
            break
        step = _bounded_step(jacobian, miss, q, lower, upper)
        # A finished row stays where it is, so that its answer does not depend on its neighbours.
        q = torch.where(done, q, torch.clamp(q + step, lower, upper))
        iterations += 1
    position, rotation = best_errors.reshape(*q_start.shape[:-1], 2).unbind(-1)
    return InverseResult(best.reshape(q_start.shape), position, rotation, done.reshape(q_start.shape[:-1]), iterations)


def _check(robot: Robot, target: Tensor, start: Tensor) -> None:
    if start.shape[-1:] != (robot.num_joints,) or target.shape != (*start.shape[:-1], 4, 4):
        given = f"target {tuple(target.shape)}, start {tuple(start.shape)}"
        raise InvalidInput("inverse kinematics", given, f"(*b, 4, 4) and (*b, {robot.num_joints})")
    for name, values in (("target", target), ("start", start)):
        if not bool(values.isfinite().all()):
            raise InvalidInput(f"inverse kinematics {name}", "a value that is not finite", "finite values")


def _twist(pose: Tensor, goal: Tensor) -> Tensor:
    """The motion (n, 6) that takes `pose` to `goal`: linear [m], then a rotation vector [rad], in the base frame."""
    turn = goal[:, :3, :3] @ pose[:, :3, :3].transpose(-1, -2)
    return torch.cat([goal[:, :3, 3] - pose[:, :3, 3], rotation_vector(turn)], dim=-1)


def _bounded_step(jacobian: Tensor, miss: Tensor, q: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """One damped step; joints that it would push through their limit are held and the others solve again."""
    damping = 0.5 * (miss * miss).sum(-1)[:, None, None] + _LEAST_DAMPING
    step = _damped(jacobian, miss, damping)
    held = ((q <= lower) & (step < 0)) | ((q >= upper) & (step > 0))
    if bool(held.any()):
        step = _damped(jacobian.masked_fill(held[:, None], 0.0), miss, damping)
    longest = step.abs().amax(-1, keepdim=True)
    return step * (_LONGEST_STEP / longest.clamp_min(_LONGEST_STEP))


def _damped(jacobian: Tensor, miss: Tensor, damping: Tensor) -> Tensor:
    eye = torch.eye(6, dtype=jacobian.dtype, device=jacobian.device)
    normal = torch.addcmul(jacobian @ jacobian.transpose(-1, -2), damping, eye)
    step: Tensor = jacobian.transpose(-1, -2) @ torch.linalg.solve(normal, miss[..., None])
    return step.squeeze(-1)
