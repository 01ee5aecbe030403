"""Clips for calibration from recordings of any format: few frames, small pictures, the robot's own joints."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.data.episode import Episode
from vap_sim.data.joints_from_tool import with_joints
from vap_sim.errors import BadFile
from vap_sim.extraction.motion_masks import Clip, fitting_size
from vap_sim.robots.library import RobotModel

Array = NDArray[np.float64]
MOST_FRAMES = 160
_LONGEST = 320


def read_clip(episode: Episode, view: str, model: RobotModel, most: int = MOST_FRAMES) -> Clip:
    """At most `most` frames of one view, equally far apart, no larger than 320 pixels a side, with their joints.

    Joints that are not logged are found from the tool, where they can be (`joints_from_tool`).

    Raises BadFile for an episode without joints, with joints that are not the robot's or with a clip that is damaged or
    of another length; UnknownName for a view that it lacks.
    """
    footage = episode.view(view)
    joints = robot_joints(with_joints(episode, model), model)
    step = -(-episode.length // most)
    size = fitting_size(footage.size, _LONGEST)
    frames = []
    for number, picture in enumerate(footage.frames(0, episode.length)):
        if number % step == 0:
            whole = (picture.shape[1], picture.shape[0]) == size
            frames.append(picture if whole else cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
    if len(frames) != len(joints[::step]):
        given = f"{len(frames)} of every {step} frames read, {len(joints[::step])} joint poses"
        raise BadFile(episode.source, f"episode {episode.name!r}, view {view!r}: {given}")
    return Clip(episode.name, np.stack(frames), joints[::step])


def robot_joints(episode: Episode, model: RobotModel) -> Array:
    """An episode's measured joints (T, J) in the order of the robot's own, the gripper's included [rad or m].

    A gripper whose position is not in the log is taken to be open: its fingers are a small part of the robot. Raises
    BadFile naming the field.
    """
    if episode.joints is None:
        problem = f"episode {episode.name!r}, field 'joints': missing; a camera is found by where the robot's links are"
        raise BadFile(episode.source, problem)
    names, gripper = model.robot.joint_names, model.gripper
    arm = [number for number, name in enumerate(names) if gripper is None or name != gripper.joint]
    if episode.joints.shape[1] != len(arm):
        expected = f"{len(arm)} for {model.name}: {', '.join(names[number] for number in arm)}"
        given = f"{episode.joints.shape[1]} joints a frame, expected {expected}"
        raise BadFile(episode.source, f"episode {episode.name!r}, field 'joints': {given}")
    out = np.zeros((episode.length, len(names)))
    out[:, arm] = episode.joints
    if gripper is not None:
        position = np.zeros(episode.length) if episode.gripper is None else episode.gripper
        out[:, names.index(gripper.joint)] = gripper.to_joint(torch.as_tensor(position)).numpy()
    return out
