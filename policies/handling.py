"""How each robot's tool goes about a table: at what height, turned which way, with fingers how far open."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.robots.library import RobotModel

Point2 = tuple[float, float]
Point3 = tuple[float, float, float]


@dataclass(frozen=True)
class Handling:
    """What plans must know of a robot's hand. Metres and radians in the base frame; the defaults are the Panda's.

    clear: height of the tool point at which it passes over whatever stands on the table; lowest: the least height of
    the tool point, so that no finger meets the table; yaw: of the tool where the hand is at ease; follows: whether that
    yaw turns with the direction in which the hand reaches out, as it does where a waist turns the whole arm; lean_from,
    lean_rate, lean_most: above `lean_from` the hand leans forward by `lean_rate` [rad/m], at most `lean_most`, which
    lets an arm that hangs low reach higher; open: gripper position with which things are approached (0 is widest);
    pace: share of the speeds that plans name; clumsy: least and largest spread [m] of a clumsy hand; sweep_low,
    sweep_high: corners (x, y) of low passes; wander_low, wander_high: corners (x, y, z) of free motion; start_spread,
    joint_spread: how far [rad or m] each joint strays from home at a start, and in motion from joint to joint; empty
    for the same of all.
    """

    clear: float = 0.20
    lowest: float = 0.024
    yaw: float = 0.0
    follows: bool = False
    lean_from: float = 0.0
    lean_rate: float = 0.0
    lean_most: float = 0.0
    open: float = 0.0
    pace: float = 1.0
    clumsy: Point2 = (0.005, 0.03)
    sweep_low: Point2 = (0.30, -0.30)
    sweep_high: Point2 = (0.66, 0.30)
    wander_low: Point3 = (0.28, -0.38, 0.10)
    wander_high: Point3 = (0.68, 0.38, 0.52)
    start_spread: tuple[float, ...] = ()
    joint_spread: tuple[float, ...] = ()

    def start_spread_of(self, joints: int) -> NDArray[np.float64]:
        """(J,) the spread of each of a robot's joints at a start."""
        return np.array(self.start_spread or (_LIKE_ANY[0],) * joints)

    def joint_spread_of(self, joints: int) -> NDArray[np.float64]:
        """(J,) the spread of each of a robot's joints in motion from joint to joint."""
        return np.array(self.joint_spread or (_LIKE_ANY[1],) * joints)

    def lean(self, height: float) -> float:
        """How far [rad] the hand leans forward at that height of the tool point [m]."""
        return min(max(0.0, (height - self.lean_from) * self.lean_rate), self.lean_most)

    def ease(self, x: float, y: float) -> float:
        """The tool's yaw [rad] that asks least of the wrist at table point (x, y) [m]."""
        return self.yaw + float(np.arctan2(y, x)) if self.follows else self.yaw

    def nearest(self, yaw: float, x: float, y: float, period: float) -> float:
        """The yaw [rad] among `yaw` plus multiples of `period` that is nearest to the one at ease at (x, y)."""
        ease = self.ease(x, y)
        return float((yaw - ease + period / 2) % period - period / 2) + ease


PANDA = Handling(
    start_spread=(0.12, 0.10, 0.12, 0.10, 0.12, 0.10, 0.15, 0.0),
    joint_spread=(0.6, 0.5, 0.6, 0.5, 0.9, 0.6, 1.0, 0.0),
)
_OFF = 0.006  # [m] between a finger and the table
_LIKE_ANY = 0.12, 0.4  # [rad] spreads of joints about which nothing is known, at a start and in motion
_KNOWN: Mapping[str, Handling] = MappingProxyType(
    {
        "panda_robotiq": PANDA,
        "widowx": Handling(
            clear=0.16,
            lowest=0.036,
            yaw=np.pi,
            follows=True,
            pace=0.8,
            clumsy=(0.003, 0.016),
            start_spread=(0.20, 0.12, 0.12, 0.10, 0.12, 0.20, 0.0),
            joint_spread=(0.6, 0.4, 0.4, 0.4, 0.5, 1.0, 0.0),
            sweep_low=(0.17, -0.17),
            sweep_high=(0.36, 0.17),
            wander_low=(0.16, -0.20, 0.08),
            wander_high=(0.36, 0.20, 0.28),
        ),
        "google_robot": Handling(
            clear=0.17,
            lowest=0.018,
            yaw=-np.pi / 2,
            lean_from=0.10,
            lean_rate=5.0,
            lean_most=0.7,
            open=0.4,
            pace=0.8,
            start_spread=(0.12, 0.08, 0.12, 0.10, 0.12, 0.12, 0.15, 0.0, 0.04, 0.04),
            joint_spread=(0.3, 0.3, 0.4, 0.4, 0.6, 0.5, 0.9, 0.0, 0.08, 0.08),
            sweep_low=(0.38, -0.30),
            sweep_high=(0.66, 0.18),
            wander_low=(0.36, -0.34, 0.08),
            wander_high=(0.68, 0.20, 0.30),
        ),
    }
)


def handling_of(model: RobotModel) -> Handling:
    """What is known of a shipped robot's hand; of any other, what its home pose tells.

    A robot of one's own is taken to hold its tool over the middle of its workspace when at home, with the tool's z axis
    along its fingers, and to keep its fingers off the table.
    """
    if model.name in _KNOWN:
        return _KNOWN[model.name]
    pose = model.robot.forward(model.home.double())[model.robot.link_index(model.tool_link)].numpy()
    x, y, z = (float(value) for value in pose[:3, 3])
    yaw = float(np.arctan2(pose[1, 0], pose[0, 0]))
    return replace(
        PANDA,
        start_spread=(),
        joint_spread=(),
        clear=min(PANDA.clear, max(z, 0.12)),
        lowest=_beyond_tool(model) + _OFF,
        yaw=yaw,
        sweep_low=(x - 0.12, y - 0.20),
        sweep_high=(x + 0.12, y + 0.20),
        wander_low=(x - 0.12, y - 0.22, 0.10),
        wander_high=(x + 0.12, y + 0.22, max(z + 0.10, 0.22)),
    )


def _beyond_tool(model: RobotModel) -> float:
    """How far the fingers reach beyond the tool point along its z axis [m], open or closed; 0 without a gripper."""
    if model.gripper is None:
        return 0.0
    robot, index = model.robot, model.robot.joint_index(model.gripper.joint)
    joints = model.home.double().repeat(2, 1)
    joints[0, index], joints[1, index] = model.gripper.open_value, model.gripper.closed_value
    poses = robot.forward(joints)
    from_tool = torch.linalg.inv(poses[:, [robot.link_index(model.tool_link)]]) @ poses
    fingers = ((from_tool[0] - from_tool[1]).abs().amax((1, 2)) > 1e-6).tolist()
    depths = [
        torch.from_numpy(shape.vertices).double() @ pose[shape.link, 2, :3] + pose[shape.link, 2, 3]
        for shape in robot.visuals
        for pose in from_tool
        if fingers[shape.link]
    ]
    return max((float(depth.max()) for depth in depths), default=0.0)
