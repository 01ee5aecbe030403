"""Joints for recordings that log only where the tool was, as Bridge's do: found by inverse kinematics along the log.

An arm of at most six joints has a few poses for each place of its tool; which one it took at the start is the one
nearest to its home, and from there it follows without a jump. An arm of seven has a circle of them: what its elbow did
is not in such a log, and nothing is made up here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.data.checks import arm_joints
from vap_sim.data.episode import Episode
from vap_sim.errors import BadFile
from vap_sim.robots.inverse import InverseResult, solve_inverse
from vap_sim.robots.library import RobotModel

POSITION_SLACK, TURN_SLACK = 2e-3, np.radians(1.0)
"""How far from its logged pose the tool may be with the joints that are found [m, rad]."""
LONGEST_STEP = 1.0
"""An arm that moves a joint further between two frames [rad or m] has changed from one way of bending to another."""
_STARTS, _SPREAD = 32, 0.6
_CLOSE = (1e-4, 1e-3)  # [m, rad] where the search ends


def with_joints(episode: Episode, model: RobotModel) -> Episode:
    """The episode with joints that put `tool_link` where it was logged, and a note that says so.

    It is returned as it is where it has joints, where it logs no tool or not of which link, and where more than six
    joints move that link. Raises BadFile, naming the frame, where the robot does not reach a logged pose or would have
    to jump, and UnknownName for a link that the robot has not.
    """
    if episode.joints is not None or episode.tool is None or episode.tool_link is None:
        return episode
    moving = _moving(model, episode.tool_link)
    if not 0 < len(moving) <= 6:
        return episode
    tool = torch.from_numpy(episode.tool)
    found, misses = _followed(model, episode.tool_link, tool)
    _check(episode, model, misses, found[:, moving].numpy())
    arm = [model.robot.joint_index(name) for name in arm_joints(model)]
    worst = 1000 * float(misses[:, 0].max())
    note = f"joints: found from the logged poses of {episode.tool_link}, which they give to {worst:.2f} mm or better"
    return replace(episode, joints=found[:, arm].numpy(), notes=(*episode.notes, note))


def _moving(model: RobotModel, link: str) -> list[int]:
    """The joints that move a link."""
    _, jacobian = model.robot.pose_and_jacobian(model.home.double()[None], link)
    return [int(k) for k in torch.nonzero(jacobian[0].abs().amax(0) > 0)[:, 0]]


def _followed(model: RobotModel, link: str, tool: Tensor) -> tuple[Tensor, NDArray[np.float64]]:
    """Joints (T, J), each frame's found from the one before, and how far they miss (T, 2) [m, rad]."""
    q = _beginning(model, link, tool[0])
    rows, misses = [], []
    for goal in tool:
        result = _solve(model, link, goal[None], q[None])
        q = result.q[0]
        rows.append(q)
        misses.append((float(result.position_error[0]), float(result.rotation_error[0])))
    return torch.stack(rows), np.array(misses)


def _beginning(model: RobotModel, link: str, goal: Tensor) -> Tensor:
    """Of the joints that reach the first pose from around the home pose, those nearest to it; else what came nearest
    to the pose."""
    home = model.home.double()
    away = np.random.default_rng(0).normal(0, _SPREAD, (_STARTS, len(home)))
    away[0] = 0
    starts = model.robot.clamp(home + torch.from_numpy(away))
    result = _solve(model, link, goal.expand(_STARTS, 4, 4), starts)
    missed = result.position_error + result.rotation_error + 1e3 * ~result.converged
    order = torch.where(result.converged, (result.q - home).square().sum(1) - 1e3, missed)
    return result.q[int(order.argmin())]


def _solve(model: RobotModel, link: str, goal: Tensor, start: Tensor) -> InverseResult:
    return solve_inverse(model.robot, link, goal, start, position_tolerance=_CLOSE[0], rotation_tolerance=_CLOSE[1])


def _check(episode: Episode, model: RobotModel, misses: NDArray[np.float64], joints: NDArray[np.float64]) -> None:
    """Raises BadFile for the first frame that was not reached, or only by a jump."""
    missed = np.flatnonzero((misses[:, 0] > POSITION_SLACK) | (misses[:, 1] > TURN_SLACK))
    place = f"episode {episode.name!r}, field 'tool', frame"
    if len(missed):
        frame = missed[0]
        off = f"{1000 * misses[frame, 0]:.1f} mm and {np.degrees(misses[frame, 1]):.1f} degrees"
        problem = f"{model.name} does not reach the logged pose of {episode.tool_link} by {off}"
        raise BadFile(episode.source, f"{place} {frame}: {problem} ({len(missed)} of {len(misses)} frames)")
    steps = np.abs(np.diff(joints, axis=0)).max(1, initial=0)
    if len(steps) and steps.max() > LONGEST_STEP:
        frame, step = int(steps.argmax()), steps.max()
        raise BadFile(episode.source, f"{place} {frame + 1}: {model.name} would have to jump by {step:.2f} rad")
