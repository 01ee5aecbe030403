"""What all formats of DROID log alike: a Panda with a Robotiq gripper, its joints, its flange, three views.

The platform computes the pose that it logs from the joints that it logs, so that the two must agree to a fraction of a
millimetre; damage to either, and angles in degrees, show in their difference. Source: Khazatsky et al., "DROID: A
Large-Scale In-The-Wild Robot Manipulation Dataset" (arXiv 2403.12945), and the platform's recorder.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from vap_sim.data.episode import Array
from vap_sim.data.logged import Log, poses_from_euler
from vap_sim.robots.library import load_robot

ROBOT = "panda_robotiq"
TOOL_LINK = "panda_link8"
"""The flange, whose pose is logged as `cartesian_position`."""
ARM_JOINTS = 7
CONTROL_RATE = 15.0
"""Rows of the platform's own log in a second."""
VIEWS = ("exterior_1", "exterior_2", "wrist")
COMMANDS = (*(f"joint_velocity_{k}" for k in range(1, ARM_JOINTS + 1)), "gripper_position")
COMMAND_NOTE = "actions: joint velocities, 1 being 0.2 rad in a step of 1/15 s; gripper position, 0 open, 1 closed"
_FARTHEST = 0.005
"""Metres by which the logged flange may lie from where the logged joints put it."""


def measured(log: Log, joints: Array, gripper: Array, flange: Array, fields: tuple[str, str, str]) -> dict[str, Any]:
    """Members `robot`, `joints`, `gripper`, `tool`, `tool_link` and `notes` of an episode.

    Args:
        log: for errors. joints: (T, 7) [rad]. gripper: (T,), 0 open and 1 closed. flange: (T, 6), x y z [m] and roll
            pitch yaw [rad, extrinsic x y z]. fields: what these three are called in the file.

    Raises BadFile for a frame in which joints and flange disagree.
    """
    tool = poses_from_euler(flange)
    apart = _apart(joints, tool)
    worst = int(np.argmax(apart))
    if apart[worst] > _FARTHEST:
        if _apart(np.radians(joints), tool).max() <= _FARTHEST:
            log.refuse(fields[0], "its angles are in degrees, expected radians")
        problem = f"frame {worst} puts the flange {1e3 * apart[worst]:.0f} mm away from field {fields[2]!r}"
        log.refuse(fields[0], f"{problem}, expected at most {1e3 * _FARTHEST:.0f} mm")
    inside, notes = log.gripper(gripper, fields[1])
    return {
        "robot": ROBOT, "joints": joints, "gripper": inside, "tool": tool, "tool_link": TOOL_LINK, "notes": notes,
    }  # fmt: skip


def _apart(joints: Array, tool: Array) -> Array:
    """Metres between the logged flange and the flange of the logged joints, (T,); a radian counts as 0.1 m."""
    model = load_robot(ROBOT)
    rest = np.zeros((len(joints), model.robot.num_joints - ARM_JOINTS))
    poses = model.robot.forward(torch.from_numpy(np.concatenate([joints, rest], 1)))
    flange = poses[:, model.robot.link_index(TOOL_LINK)].numpy()
    offset = np.linalg.norm(flange[:, :3, 3] - tool[:, :3, 3], axis=1)
    trace = np.einsum("tij,tij->t", flange[:, :3, :3], tool[:, :3, :3])
    turn = np.arccos(np.clip((trace - 1) / 2, -1, 1))
    return np.asarray(offset + 0.1 * turn)
