"""The EgoVid station: a person's right hand at a table, seen from the person's moving head."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.envs.hand_tasks import LAYOUT, GraspLift, PushAway, Tilt
from vap_sim.envs.scenes import Scene
from vap_sim.envs.stations import Station
from vap_sim.robots.gaze import looking_at
from vap_sim.robots.library import RobotModel

_HAND = MappingProxyType(
    {"hand_x": (0.19, 0.26), "hand_y": (-0.19, -0.05), "hand_z": (0.245, 0.29), "hand_yaw": (0.25, 0.8),
     "hand_pitch": (0.15, 0.5), "hand_roll": (-0.4, 0.3)}
)  # fmt: skip
_THUMB = MappingProxyType({"thumb_cmc_sideways": 0.47, "thumb_cmc_bend": 0.42})
"""A thumb that stands opposite the fingers, ready to take something between them."""
_EYE = ((-0.06, -0.05, 0.48), (0.03, 0.06, 0.56))
_WORK = ((0.37, -0.06, 0.00), (0.45, 0.03, 0.06))
"""Corners (x, y, z) [m] of where the eyes are and of what they look at, at the beginning."""
_SPREAD = 0.04  # [rad] of the fingers' joints
_DRAWS, _APART = 30, 0.10  # [rad] between what the scene is about and the hand, as the eyes see them
_OPEN = 0.1  # share of its way by which a hand may be closed at the beginning


def start_joints(rng: np.random.Generator, model: RobotModel, scene: Scene) -> NDArray[np.float64]:
    """Where hand and head (J,) [rad, m] are at the beginning: the hand open over the table, the eyes on the work.

    Poses are drawn until the hand hides nothing that the scene is about; after a few draws the least bad is taken.
    """
    draws = []
    for _ in range(_DRAWS):
        joints = _drawn(rng, model)
        apart = _apart(model, scene, joints)
        draws.append((apart, joints))
        if apart > _APART:
            break
    return max(draws, key=lambda draw: draw[0])[1]


def _drawn(rng: np.random.Generator, model: RobotModel) -> NDArray[np.float64]:
    joints, gripper = model.home.double().numpy(), model.gripper
    names = model.robot.joint_names
    for index, name in enumerate(names):
        if name in _HAND:
            joints[index] = rng.uniform(*_HAND[name])
        elif not name.startswith("head_") and (gripper is None or name != gripper.joint):
            joints[index] = _THUMB.get(name, joints[index]) + rng.normal(0, _SPREAD)
    if gripper is not None:
        joints[names.index(gripper.joint)] = rng.uniform(0, _OPEN) * gripper.closed_value
    eye, work = rng.uniform(*_EYE), rng.uniform(*_WORK)
    joints = looking_at(model, joints, eye, work, roll=float(rng.normal(0, 0.04)))
    return np.clip(joints, model.robot.lower.double().numpy(), model.robot.upper.double().numpy())


def _apart(model: RobotModel, scene: Scene, joints: NDArray[np.float64]) -> float:
    """The least angle [rad] at which the eyes see object 0 or the goal beside a point of the hand."""
    poses = model.robot.forward(torch.from_numpy(joints))
    eye = poses[model.robot.link_index("head"), :3, 3].numpy()
    hand = model.skeleton.positions(model.robot, poses).numpy() - eye
    item = scene.objects[0]
    places = [(item.x, item.y, item.size[2] / 2), *([] if scene.goal is None else [(*scene.goal[:2], 0.0)])]
    things = np.array(places) - eye
    hand, things = (rays / np.linalg.norm(rays, axis=1, keepdims=True) for rays in (hand, things))
    return float(np.arccos(np.clip(things @ hand.T, -1, 1)).min())


EGOVID = Station(
    name="EgoVid",
    robot="human_hand",
    tasks=MappingProxyType({task.name: task for task in (GraspLift(), PushAway(), Tilt())}),
    task="grasp_lift",
    layout=LAYOUT,
    control="ee_head_delta",
    views=("head",),
    start_joints=start_joints,
    physics="vap_sim.envs.hand_physics:HandPhysics",
)
"""Five actions a second move the wrist, the head and all fingers together; the head sees what the hand does."""
