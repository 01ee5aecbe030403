"""The twin's physics: robot, table and loose objects in pybullet, driven along nominal joint paths.

The arm follows its path by position control; the gripper's fingers close symmetrically with bounded force, so that they
stop on what they hold. One client per world; the same scene and paths give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vap_sim.envs.scenes import Scene
from vap_sim.envs.twin_engine import pybullet
from vap_sim.envs.twin_renderer import Snapshot, object_mesh
from vap_sim.errors import InvalidInput

SUBSTEP = 1 / 240
"""Physics time step [s]."""
_FINGER_FORCE = 6.0
_FINGER_LEAD = 0.12  # [rad] how far a finger's target may run ahead of the slower finger

_ARM = tuple(f"panda_joint{index}" for index in range(1, 8))
_OUTER = ("finger_joint", "right_outer_knuckle_joint")
_INNER = ("left_inner_finger_joint", "right_inner_finger_joint")
_KNUCKLE = ("left_inner_knuckle_joint", "right_inner_knuckle_joint")


class TwinPhysics:
    """A scene in motion. `follow` moves time on; everything else only looks or restores."""

    def __init__(self, scene: Scene, urdf: Path, joints: Sequence[float] | np.ndarray) -> None:
        """Build the scene with the robot at `joints` (8,): seven arm angles and the finger angle [rad].

        Raises InvalidInput for another number of joints.
        """
        start = np.asarray(joints, np.float64)
        if start.shape != (8,):
            raise InvalidInput("joints of the twin", f"shape {start.shape}", "(8,): seven arm angles and the finger's")
        self.scene = scene
        self._client = client = pybullet.connect(pybullet.DIRECT)
        pybullet.setGravity(0, 0, -9.81, physicsClientId=client)
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=SUBSTEP, numSolverIterations=80, deterministicOverlappingPairs=1, physicsClientId=client
        )
        half = (0.62, 0.85, 0.03)
        table = pybullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=half, physicsClientId=client)
        self._table = pybullet.createMultiBody(0, table, -1, (0.45, 0, -half[2]), physicsClientId=client)
        pybullet.changeDynamics(self._table, -1, lateralFriction=0.8, physicsClientId=client)
        self._robot = pybullet.loadURDF(str(urdf), useFixedBase=True, physicsClientId=client)
        count = pybullet.getNumJoints(self._robot, physicsClientId=client)
        info = [pybullet.getJointInfo(self._robot, index, physicsClientId=client) for index in range(count)]
        self._joints = {item[1].decode(): item[0] for item in info}
        self._links = {item[12].decode(): item[0] for item in info}
        for index in range(-1, count):
            pybullet.changeDynamics(
                self._robot, index, lateralFriction=0.6, linearDamping=0, angularDamping=0, physicsClientId=client
            )
        for link in ("left_pad", "right_pad", "left_inner_finger", "right_inner_finger"):
            pybullet.changeDynamics(
                self._robot, self._links[link], lateralFriction=1.6, spinningFriction=0.01, physicsClientId=client
            )
        for index in (-1, 0):  # the foot stands in the table plane
            pybullet.setCollisionFilterPair(self._robot, self._table, index, -1, 0, physicsClientId=client)
        self._objects = [self._add(index) for index in range(len(scene.objects))]
        self._order = [self._joints[name] for name in (*_ARM, *_OUTER, *_INNER, *_KNUCKLE)]
        self._arm_target = start[:7].copy()
        self._reset_joints(start)
        self._settle(float(start[7]))

    def close(self) -> None:
        """Free the client; harmless when called twice."""
        if self._client >= 0:
            pybullet.disconnect(physicsClientId=self._client)
            self._client = -1

    def follow(self, path: np.ndarray, duration: float) -> None:
        """Move time on by `duration` [s] along `path` (poses, 8) [rad].

        Poses are equally spaced; the last is where the interval ends. Raises InvalidInput where physics steps do not
        divide evenly among them.
        """
        path = np.asarray(path, np.float64)
        substeps = round(duration / SUBSTEP)
        if path.ndim != 2 or path.shape[1] != 8 or not len(path) or substeps % len(path):
            raise InvalidInput("joint path", f"shape {path.shape}", f"(n, 8), n a divisor of {substeps} physics steps")
        per_pose = substeps // len(path)
        previous = self._arm_target
        for pose in path:
            speed = (pose[:7] - previous) / (per_pose * SUBSTEP)
            for part in range(per_pose):
                arm = previous + (pose[:7] - previous) * ((part + 1) / per_pose)
                self._command(arm, speed, float(pose[7]))
                pybullet.stepSimulation(physicsClientId=self._client)
            previous = pose[:7]
        self._arm_target = previous.copy()

    def snapshot(self) -> Snapshot:
        """Where everything is now."""
        states = pybullet.getJointStates(self._robot, self._order, physicsClientId=self._client)
        names = (*_ARM, *_OUTER, *_INNER, *_KNUCKLE)
        poses = tuple(
            pybullet.getBasePositionAndOrientation(body, physicsClientId=self._client) for body in self._objects
        )
        return Snapshot({name: state[0] for name, state in zip(names, states, strict=True)}, poses)

    def joints(self) -> np.ndarray:
        """Measured joints (8,): arm angles and the mean finger angle [rad]."""
        states = pybullet.getJointStates(self._robot, self._order[:9], physicsClientId=self._client)
        angles = np.array([state[0] for state in states])
        return np.append(angles[:7], angles[7:9].mean())

    def tool_position(self) -> np.ndarray:
        """(3,) [m] the point between the pads."""
        state = pybullet.getLinkState(
            self._robot, self._links["tool"], computeForwardKinematics=True, physicsClientId=self._client
        )
        return np.asarray(state[4])

    def object_speed(self) -> float:
        """The fastest object's linear speed [m/s]; 0 without objects."""
        speeds = [pybullet.getBaseVelocity(body, physicsClientId=self._client)[0] for body in self._objects]
        return max((float(np.linalg.norm(speed)) for speed in speeds), default=0.0)

    def held(self, index: int) -> bool:
        """Whether both fingers touch object `index`."""
        touching = {
            contact[3]
            for contact in pybullet.getContactPoints(self._robot, self._objects[index], physicsClientId=self._client)
        }
        sides = [{self._links[f"{side}_{part}"] for part in ("pad", "inner_finger")} for side in ("left", "right")]
        return all(touching & side for side in sides)

    def touched(self, index: int) -> bool:
        """Whether the robot touches object `index`."""
        return bool(pybullet.getContactPoints(self._robot, self._objects[index], physicsClientId=self._client))

    def save(self) -> tuple[int, np.ndarray]:
        """Keep the present state inside the engine; `restore` brings it back, `forget` frees it."""
        return pybullet.saveState(physicsClientId=self._client), self._arm_target.copy()

    def restore(self, saved: tuple[int, np.ndarray]) -> None:
        """Return to a state of `save`."""
        pybullet.restoreState(stateId=saved[0], physicsClientId=self._client)
        self._arm_target = saved[1].copy()

    def forget(self, saved: tuple[int, np.ndarray]) -> None:
        """Free a state of `save`."""
        pybullet.removeState(saved[0], physicsClientId=self._client)

    def _command(self, arm: np.ndarray, speed: np.ndarray, finger: float) -> None:
        states = pybullet.getJointStates(self._robot, self._order[7:9], physicsClientId=self._client)
        left, right = states[0][0], states[1][0]
        low, high = max(left, right) - _FINGER_LEAD, min(left, right) + _FINGER_LEAD
        target = min(max(finger, low), high)
        pybullet.setJointMotorControlArray(
            self._robot,
            self._order,
            pybullet.POSITION_CONTROL,
            targetPositions=[*arm, target, target, -left, -right, left, right],
            targetVelocities=[*speed, 0, 0, 0, 0, 0, 0],
            positionGains=[0.5] * 7 + [0.25] * 2 + [0.8] * 4,
            velocityGains=[1.0] * 13,
            forces=[400.0] * 7 + [_FINGER_FORCE] * 2 + [40.0] * 2 + [2.0] * 2,
            physicsClientId=self._client,
        )

    def _reset_joints(self, joints: np.ndarray) -> None:
        finger = joints[7]
        angles = [*joints[:7], finger, finger, -finger, -finger, finger, finger]
        for index, angle in zip(self._order, angles, strict=True):
            pybullet.resetJointState(self._robot, index, angle, physicsClientId=self._client)

    def _settle(self, finger: float) -> None:
        for _ in range(60):
            self._command(self._arm_target, np.zeros(7), finger)
            pybullet.stepSimulation(physicsClientId=self._client)

    def _add(self, index: int) -> int:
        item, client = self.scene.objects[index], self._client
        if item.shape == "sphere":
            shape = pybullet.createCollisionShape(pybullet.GEOM_SPHERE, radius=item.size[0] / 2, physicsClientId=client)
        else:
            vertices = object_mesh(item).vertices.tolist()
            shape = pybullet.createCollisionShape(pybullet.GEOM_MESH, vertices=vertices, physicsClientId=client)
        turn = pybullet.getQuaternionFromEuler((0, 0, item.yaw))
        position = (item.x, item.y, item.size[2] / 2 + 0.001)
        body = pybullet.createMultiBody(0.12, shape, -1, position, turn, physicsClientId=client)
        pybullet.changeDynamics(
            body,
            -1,
            lateralFriction=0.7,
            spinningFriction=0.004,
            rollingFriction=0.004 if item.shape == "sphere" else 0.0005,
            linearDamping=0.1,
            angularDamping=0.4,
            physicsClientId=client,
        )
        return int(body)
