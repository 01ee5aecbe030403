"""The twin's physics of a hand: its wrist is led along nominal paths, its fingers close until they are stopped.

Every joint is driven with bounded force: the wrist's strongly, so that it keeps to its path, the fingers' weakly, so
that each stops where it meets something. The head has no body; it is where its nominal joints put it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.envs.hand_body import HandBody, build_hand
from vap_sim.envs.scenes import Scene
from vap_sim.envs.twin_engine import pybullet
from vap_sim.envs.twin_renderer import Snapshot
from vap_sim.envs.twin_world import SUBSTEP, TwinWorld
from vap_sim.errors import InvalidInput
from vap_sim.robots.library import RobotModel

Array = NDArray[np.float64]
Saved = tuple[int, Array]
_SLIDE_FORCE, _TURN_TORQUE, _SIDE_TORQUE = 200.0, 30.0, 1.5
"""Most force [N] and torque [Nm] at the wrist's joints, and torque at those that move a finger sideways."""
_FINGER_TORQUE = (0.6, 0.35, 0.2)
"""Most torque [Nm] at a finger's joints from the root on."""
_GAIN, _FINGER_GAIN = 0.5, 0.25
_FRICTION = 1.2
_SETTLING = 60
"""Physics steps before an episode begins, in which objects come to rest."""
_AGAINST, _SQUEEZE = 0.003, 0.15
"""A thing this near [m] to thumb and finger at the beginning is held, by closing on it by this share meanwhile."""


class HandPhysics:
    """A scene in motion under a hand. `follow` moves time on; everything else only looks or restores.

    hand: the hand's body in the engine; world: everything else of the scene.
    """

    def __init__(self, scene: Scene, model: RobotModel, joints: Sequence[float] | Array) -> None:
        """Build the scene with the hand and the head at `joints` (J,) [rad, m].

        Raises InvalidInput for another number of joints, Unsupported for a robot that is not built like a hand.
        """
        start = np.asarray(joints, np.float64)
        if start.shape != (model.robot.num_joints,):
            expected = f"({model.robot.num_joints},): {', '.join(model.robot.joint_names)}"
            raise InvalidInput("joints of the twin", f"shape {start.shape}", expected)
        self.scene, self.model = scene, model
        self.world = TwinWorld(scene)
        try:
            self.hand = hand = build_hand(model, self.world.client)
        except BaseException:
            self.world.close()
            raise
        assert model.gripper is not None, "build_hand has refused a robot without"
        self._grasp = model.robot.joint_index(model.gripper.joint)
        client = self.world.client
        for index in hand.links.values():
            pybullet.changeDynamics(
                hand.body,
                index,
                lateralFriction=_FRICTION,
                spinningFriction=0.01,
                linearDamping=0,
                angularDamping=0,
                physicsClientId=client,
            )
        self._parts = {place: name.split("_")[0] for name, place in hand.links.items()}
        self._forces, self._gains = _drives(hand)
        self.world.furnish()
        self._nominal = start.copy()
        for index, angle in zip(hand.joints, self._angles(start), strict=True):
            pybullet.resetJointState(hand.body, index, angle, physicsClientId=client)
        firm = start.copy()
        if any(_holds(self._near(index)) for index in range(len(scene.objects))):
            firm[self._grasp] += _SQUEEZE * (model.gripper.closed_value - model.gripper.open_value)
        for _ in range(_SETTLING):
            self._drive(self._angles(firm), np.zeros(len(hand.joints)))

    def close(self) -> None:
        """Free the client; harmless when called twice."""
        self.world.close()

    def follow(self, path: np.ndarray, duration: float) -> None:
        """Move time on by `duration` [s] along `path` (poses, J) [rad, m].

        Poses are equally spaced; the last is where the interval ends. Raises InvalidInput where physics steps do not
        divide evenly among them.
        """
        path = np.asarray(path, np.float64)
        substeps, count = round(duration / SUBSTEP), self._nominal.size
        if path.ndim != 2 or path.shape[1] != count or not len(path) or substeps % len(path):
            expected = f"(n, {count}), n a divisor of {substeps} physics steps"
            raise InvalidInput("joint path", f"shape {path.shape}", expected)
        per_pose = substeps // len(path)
        before = self._angles(self._nominal)
        for pose in path:
            after = self._angles(pose)
            speed = (after - before) / (per_pose * SUBSTEP)
            for part in range(per_pose):
                self._drive(before + (after - before) * ((part + 1) / per_pose), speed)
            before = after
        self._nominal = path[-1].copy()

    def joints(self) -> Array:
        """Measured joints (J,) [rad, m]: they put every bone where it is.

        How far the hand has closed is the mean over all fingers, or as near to it as the limits of their bends allow;
        what a single joint is beyond or behind that, because something stopped it, is told by the joint's own bend.
        """
        hand, joints = self.hand, self._nominal.copy()
        states = pybullet.getJointStates(hand.body, hand.joints, physicsClientId=self.world.client)
        angles = np.array([state[0] for state in states])
        closes = hand.closing > 0
        own, shares, bent = hand.own[closes], hand.closing[closes], angles[closes]
        robot = self.model.robot
        least = float(((bent - robot.upper.numpy()[own]) / shares).max())
        most = float(((bent - robot.lower.numpy()[own]) / shares).min())
        closed = float(((bent - joints[own]) / shares).mean())
        joints[self._grasp] = min(max(closed, least), most) if least <= most else closed
        joints[hand.own] = angles - hand.closing * joints[self._grasp]
        return joints

    def snapshot(self) -> Snapshot:
        """Where everything is now."""
        joints = self.model.robot.moving(torch.from_numpy(self.joints()))
        return Snapshot(joints, self.world.poses(), self.world.drawers())

    def tool_position(self) -> Array:
        """(3,) [m] where the tips of thumb and index finger meet when the hand closes."""
        robot = self.model.robot
        poses = robot.forward(torch.from_numpy(self.joints()))
        return np.asarray(poses[robot.link_index(self.model.tool_link), :3, 3])

    def held(self, index: int) -> bool:
        """Whether the thumb and another finger touch object `index`."""
        return _holds(self._touching(index))

    def touched(self, index: int) -> bool:
        """Whether the hand touches object `index`."""
        return bool(self._touching(index))

    def save(self) -> Saved:
        """Keep the present state inside the engine; `restore` brings it back, `forget` frees it."""
        return pybullet.saveState(physicsClientId=self.world.client), self._nominal.copy()

    def restore(self, saved: Saved) -> None:
        """Return to a state of `save`."""
        pybullet.restoreState(stateId=saved[0], physicsClientId=self.world.client)
        self._nominal = saved[1].copy()

    def forget(self, saved: Saved) -> None:
        """Free a state of `save`."""
        pybullet.removeState(saved[0], physicsClientId=self.world.client)

    def _touching(self, index: int) -> set[str]:
        """Which parts of the hand press on object `index`."""
        body, client = self.world.objects[index], self.world.client
        contacts = pybullet.getContactPoints(self.hand.body, body, physicsClientId=client)
        return {self._parts[contact[3]] for contact in contacts if contact[9] > 0}

    def _near(self, index: int) -> set[str]:
        """Which parts of the hand object `index` lies against."""
        body, client = self.world.objects[index], self.world.client
        points = pybullet.getClosestPoints(self.hand.body, body, _AGAINST, physicsClientId=client)
        return {self._parts[point[3]] for point in points}

    def _angles(self, joints: Array) -> Array:
        """Joint values of the body (N,) from those of the robot (J,)."""
        angles: Array = joints[self.hand.own] + self.hand.closing * joints[self._grasp]
        return angles

    def _drive(self, angles: Array, speed: Array) -> None:
        client, hand = self.world.client, self.hand
        pybullet.setJointMotorControlArray(
            hand.body,
            hand.joints,
            pybullet.POSITION_CONTROL,
            targetPositions=angles.tolist(),
            targetVelocities=speed.tolist(),
            positionGains=self._gains,
            velocityGains=[1.0] * len(self._gains),
            forces=self._forces,
            physicsClientId=client,
        )
        pybullet.stepSimulation(physicsClientId=client)


def _holds(parts: set[str]) -> bool:
    """Whether the thumb and another finger are among the parts."""
    return "thumb" in parts and len(parts - {"wrist"}) > 1


def _drives(hand: HandBody) -> tuple[list[float], list[float]]:
    """Force [N or Nm] and gain of every joint of the body."""
    forces, gains, bends = [], [], dict[str, int]()
    for place, (part, closing) in enumerate(zip(hand.parts, hand.closing, strict=True)):
        if closing > 0:
            forces.append(_FINGER_TORQUE[bends.setdefault(part, 0)])
            gains.append(_FINGER_GAIN)
            bends[part] += 1
        else:
            forces.append(_SLIDE_FORCE if place < 3 else _TURN_TORQUE if part in ("hand", "wrist") else _SIDE_TORQUE)
            gains.append(_GAIN)
    return forces, gains
