"""The twin's physics: an arm with a gripper, table, cabinets and loose objects in pybullet, driven along nominal paths.

The arm follows its path by position control; the gripper's fingers close symmetrically with bounded force, so that they
stop on what they hold. One client per world; the same scene and paths give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.envs.scenes import Scene
from vap_sim.envs.twin_drive import drive_of
from vap_sim.envs.twin_engine import pybullet
from vap_sim.envs.twin_renderer import Snapshot
from vap_sim.envs.twin_world import SUBSTEP, TwinWorld
from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.robots.library import RobotModel, load_robot

__all__ = ["SUBSTEP", "Physics", "Saved", "TwinPhysics"]

Saved = tuple[int, NDArray[np.float64]]
_ARM_FORCE = 400.0
"""Force [Nm or N] with which every joint but the gripper's keeps to its path."""


class Physics(Protocol):
    """A scene in motion, whatever moves in it. `follow` moves time on; everything else only looks or restores.

    A station names what it is built by; that is called with a scene, a robot model and joints (J,) [rad or m].
    """

    @property
    def world(self) -> TwinWorld:
        """The scene's own bodies."""
        ...

    def close(self) -> None:
        """Free the engine; harmless when called twice."""
        ...

    def follow(self, path: np.ndarray, duration: float) -> None:
        """Move time on by `duration` [s] along `path` (poses, J); raises InvalidInput where they do not divide it."""
        ...

    def snapshot(self) -> Snapshot:
        """Where everything is now."""
        ...

    def joints(self) -> np.ndarray:
        """Measured joints (J,)."""
        ...

    def tool_position(self) -> np.ndarray:
        """(3,) [m] the point with which things are gripped."""
        ...

    def held(self, index: int) -> bool:
        """Whether object `index` is gripped."""
        ...

    def touched(self, index: int) -> bool:
        """Whether the robot touches object `index`."""
        ...

    def save(self) -> Saved:
        """Keep the present state inside the engine."""
        ...

    def restore(self, saved: Saved) -> None:
        """Return to a state of `save`."""
        ...

    def forget(self, saved: Saved) -> None:
        """Free a state of `save`."""
        ...


class TwinPhysics:
    """Physics of an arm with a gripper, whose robot.json may say how it is driven (`twin_drive`)."""

    def __init__(self, scene: Scene, robot: RobotModel | Path, joints: Sequence[float] | np.ndarray) -> None:
        """Build the scene with a robot, known or in the folder of a URDF file, at `joints` (J,) [rad or m].

        Raises InvalidInput for another number of joints, Unsupported for a robot without a gripper.
        """
        model = robot if isinstance(robot, RobotModel) else load_robot(robot.parent)
        start = np.asarray(joints, np.float64)
        names = model.robot.joint_names
        if start.shape != (len(names),):
            given, expected = f"shape {start.shape}", f"({len(names)},): {', '.join(names)}"
            raise InvalidInput("joints of the twin", given, expected)
        drive = drive_of(model)
        if drive is None or model.gripper is None:
            raise Unsupported(f"the twin moves an arm with a gripper; robot {model.name!r} has none")
        self.scene, self.model, self._drive = scene, model, drive
        self._gripper = model.robot.joint_index(model.gripper.joint)
        self._arm = np.array([index for index in range(len(names)) if index != self._gripper])
        self.world = TwinWorld(scene)
        self._load(model.folder / "robot.urdf")
        self.world.furnish()
        self._arm_target = start[self._arm].copy()
        self._reset_joints(start)
        self._settle(float(start[self._gripper]))

    def _load(self, urdf: Path) -> None:
        client, drive = self.world.client, self._drive
        self._robot = pybullet.loadURDF(str(urdf), useFixedBase=True, physicsClientId=client)
        count = pybullet.getNumJoints(self._robot, physicsClientId=client)
        info = [pybullet.getJointInfo(self._robot, index, physicsClientId=client) for index in range(count)]
        joints = {item[1].decode(): item[0] for item in info}
        self._links = {item[12].decode(): item[0] for item in info}
        for index in range(-1, count):
            pybullet.changeDynamics(
                self._robot, index, lateralFriction=0.6, linearDamping=0, angularDamping=0, physicsClientId=client
            )
        for link in (link for finger in drive.fingers for link in finger.grips):
            pybullet.changeDynamics(
                self._robot,
                self._links[link],
                lateralFriction=drive.friction,
                spinningFriction=0.01,
                physicsClientId=client,
            )
        for index in (-1, 0):  # the foot stands in the table plane
            pybullet.setCollisionFilterPair(self._robot, self.world.table, index, -1, 0, physicsClientId=client)
        names = [self.model.robot.joint_names[index] for index in self._arm]
        followed = [(name, finger) for finger in drive.fingers for name in finger.followers]
        moving = [*names, *(finger.joint for finger in drive.fingers), *(name for name, _ in followed)]
        apart = sorted(self.model.robot.moving(self.model.home.double()).keys() - moving)
        if apart:
            raise Unsupported(f"joint {apart[0]!r} of robot {self.model.name!r} follows a joint that is no gripper's")
        self._names, self._order = moving, [joints[name] for name in moving]
        self._driven = slice(len(names), len(names) + len(drive.fingers))
        # A follower's value from its own finger's, by the ratio of both to the gripper's joint.
        ratios = drive.ratios
        self._shares = np.array([ratios[name].scale / ratios[finger.joint].scale for name, finger in followed])
        self._leaders = [drive.fingers.index(finger) for _, finger in followed]
        self._scales = np.array([ratios[finger.joint].scale for finger in drive.fingers])
        self._offsets = np.array([ratios[finger.joint].offset for finger in drive.fingers])
        self._rests = np.array([ratios[name].offset for name, _ in followed])
        self._forces = [_ARM_FORCE] * len(names) + [drive.force] * len(drive.fingers)
        self._forces += [finger.followers[name] for name, finger in followed]
        self._gains = [0.5] * len(names) + [drive.gain] * len(drive.fingers) + [0.8] * len(followed)

    def close(self) -> None:
        """Free the client; harmless when called twice."""
        self.world.close()

    def follow(self, path: np.ndarray, duration: float) -> None:
        """Move time on by `duration` [s] along `path` (poses, J) [rad or m].

        Poses are equally spaced; the last is where the interval ends. Raises InvalidInput where physics steps do not
        divide evenly among them.
        """
        path = np.asarray(path, np.float64)
        substeps, count = round(duration / SUBSTEP), self._arm.size + 1
        if path.ndim != 2 or path.shape[1] != count or not len(path) or substeps % len(path):
            expected = f"(n, {count}), n a divisor of {substeps} physics steps"
            raise InvalidInput("joint path", f"shape {path.shape}", expected)
        per_pose = substeps // len(path)
        previous = self._arm_target
        for pose in path:
            target = pose[self._arm]
            speed = (target - previous) / (per_pose * SUBSTEP)
            for part in range(per_pose):
                arm = previous + (target - previous) * ((part + 1) / per_pose)
                self._command(arm, speed, float(pose[self._gripper]))
                pybullet.stepSimulation(physicsClientId=self.world.client)
            previous = target
        self._arm_target = previous.copy()

    def snapshot(self) -> Snapshot:
        """Where everything is now."""
        return Snapshot(dict(zip(self._names, self._values(), strict=True)), self.world.poses(), self.world.drawers())

    def joints(self) -> np.ndarray:
        """Measured joints (J,), the gripper's being the mean over its fingers [rad or m]."""
        values = np.array(self._values())
        joints = np.zeros(self._arm.size + 1)
        joints[self._arm] = values[: self._arm.size]
        joints[self._gripper] = ((values[self._driven] - self._offsets) / self._scales).mean()
        return joints

    def tool_position(self) -> np.ndarray:
        """(3,) [m] the robot's tool point, between the fingers."""
        state = pybullet.getLinkState(
            self._robot,
            self._links[self.model.tool_link],
            computeForwardKinematics=True,
            physicsClientId=self.world.client,
        )
        return np.asarray(state[4])

    def held(self, index: int) -> bool:
        """Whether every finger touches object `index` with a link that grips."""
        touching = {
            contact[3]
            for contact in pybullet.getContactPoints(
                self._robot, self.world.objects[index], physicsClientId=self.world.client
            )
        }
        return all(touching & {self._links[link] for link in finger.grips} for finger in self._drive.fingers)

    def touched(self, index: int) -> bool:
        """Whether the robot touches object `index`."""
        return bool(
            pybullet.getContactPoints(self._robot, self.world.objects[index], physicsClientId=self.world.client)
        )

    def object_speed(self) -> float:
        """The fastest object's linear speed [m/s]; 0 without objects."""
        return self.world.speed()

    def save(self) -> Saved:
        """Keep the present state inside the engine; `restore` brings it back, `forget` frees it."""
        return pybullet.saveState(physicsClientId=self.world.client), self._arm_target.copy()

    def restore(self, saved: Saved) -> None:
        """Return to a state of `save`."""
        pybullet.restoreState(stateId=saved[0], physicsClientId=self.world.client)
        self._arm_target = saved[1].copy()

    def forget(self, saved: Saved) -> None:
        """Free a state of `save`."""
        pybullet.removeState(saved[0], physicsClientId=self.world.client)

    def _values(self) -> list[float]:
        states = pybullet.getJointStates(self._robot, self._order, physicsClientId=self.world.client)
        return [state[0] for state in states]

    def _command(self, arm: np.ndarray, speed: np.ndarray, finger: float) -> None:
        states = pybullet.getJointStates(self._robot, self._order[self._driven], physicsClientId=self.world.client)
        values = np.array([state[0] for state in states]) - self._offsets
        closed = values / self._scales
        target = min(max(finger, closed.max() - self._drive.lead), closed.min() + self._drive.lead)
        following = self._shares * values[self._leaders] + self._rests
        pybullet.setJointMotorControlArray(
            self._robot,
            self._order,
            pybullet.POSITION_CONTROL,
            targetPositions=[*arm, *(target * self._scales + self._offsets), *following],
            targetVelocities=[*speed, *([0.0] * (len(self._order) - arm.size))],
            positionGains=self._gains,
            velocityGains=[1.0] * len(self._order),
            forces=self._forces,
            physicsClientId=self.world.client,
        )

    def _reset_joints(self, joints: np.ndarray) -> None:
        values = self.model.robot.moving(torch.from_numpy(joints))
        for name, index in zip(self._names, self._order, strict=True):
            pybullet.resetJointState(self._robot, index, values[name], physicsClientId=self.world.client)

    def _settle(self, finger: float) -> None:
        for _ in range(60):
            self._command(self._arm_target, np.zeros(self._arm.size), finger)
            pybullet.stepSimulation(physicsClientId=self.world.client)
