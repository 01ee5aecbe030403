"""Which joints a prompt is drawn from: what the robot measured, what it was told, or what it was bound to do.

A prompt drawn from measured joints knows how contacts ended; a model that is used before anything happens must not. The
nominal path is what the robot's controller makes of the commands without the scene.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.data.episode import Episode
from vap_sim.data.prepared import STATE_SOURCES
from vap_sim.errors import BadFile, UnknownName
from vap_sim.robots.control import DROID_TAU, Controller
from vap_sim.robots.library import RobotModel

Array = NDArray[np.float64]


def robot_joints(
    episode: Episode, model: RobotModel, source: str = "logged", *, lag: float = DROID_TAU
) -> tuple[Array, tuple[str, ...]]:
    """All joints (T, J) [rad or m] of an episode in the robot's own order, and what was decided on the way.

    source: "logged" takes the measured joints; "target" the command that each frame was last given; "nominal" the path
    of a controller that follows the commands with time constant `lag` [s] from the first measured pose. The gripper is
    the measured one in all of them: recordings state no other. Raises BadFile for an episode without what it takes,
    or with joints that are not the robot's, UnknownName.
    """
    if source not in STATE_SOURCES:
        raise UnknownName("state source", source, STATE_SOURCES)
    measured = _whole(episode, model, "joints")
    if source == "logged":
        return measured, ()
    told = _whole(episode, model, "joint_targets")
    # Row t was commanded after frame t: at frame t the robot is on its way to row t - 1.
    held = np.concatenate([measured[:1], told[:-1]])
    note = "the gripper in the prompts is the measured one"
    if source == "target":
        return held, (note,)
    mode, finger = "joint_position", None if model.gripper is None else model.gripper.joint
    controller = Controller(model, mode, 1 / episode.frame_rate, tau=lag, anchor="joints")
    arm = [k for k, name in enumerate(model.robot.joint_names) if name != finger]
    state, path = controller.initial(measured[:1]), [measured[0]]
    for goal in held[1:]:
        state, poses = controller.step(state, controller.actions_for(state, goal[None]), 1)
        path.append(poses[0, 0].astype(np.float64))
    nominal = np.stack(path)
    result = measured.copy()
    result[:, arm] = nominal[:, arm]
    return result, (note, f"the nominal path follows the joint targets with a lag of {lag:g} s")


def _whole(episode: Episode, model: RobotModel, member: str) -> Array:
    """A member of the episode with the gripper's joint in its place."""
    robot, gripper = model.robot, model.gripper
    values: Array | None = getattr(episode, member)
    if values is None:
        known = [name for name in ("joints", "joint_targets", "tool") if getattr(episode, name) is not None]
        raise BadFile(
            episode.source, f"episode {episode.name!r} states no {member}, only: {', '.join(known) or 'none'}"
        )
    arm = [k for k, name in enumerate(robot.joint_names) if gripper is None or name != gripper.joint]
    if values.shape[1] != len(arm):
        expected = f"{len(arm)} of {model.name}: {', '.join(robot.joint_names[k] for k in arm)}"
        raise BadFile(
            episode.source, f"episode {episode.name!r}, {member}: {values.shape[1]} joints, expected {expected}"
        )
    result = np.zeros((episode.length, robot.num_joints))
    result[:, arm] = values
    if gripper is not None:
        if episode.gripper is None:
            raise BadFile(episode.source, f"episode {episode.name!r} states no gripper, and {model.name} has one")
        position = torch.from_numpy(np.asarray(episode.gripper, np.float64))
        result[:, robot.joint_index(gripper.joint)] = gripper.to_joint(position).numpy()
    return result
