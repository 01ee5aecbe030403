"""What a scene is in the engine besides the robot: table, cabinets and loose objects, and what can be asked of them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vap_sim.envs.scenes import Scene, SceneObject
from vap_sim.envs.twin_engine import pybullet
from vap_sim.envs.twin_furniture import Pose, add_cabinet, drawer_pose
from vap_sim.envs.twin_renderer import object_mesh

SUBSTEP = 1 / 240
"""Physics time step [s]."""
_MASS, _FULL = 0.12, 1e-4
"""An object weighs this much [kg], and less in proportion where its bounding box is smaller than this [m^3]."""


class TwinWorld:
    """A scene in an engine of its own; the robot is added by whoever drives it, between table and objects."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.client = client = pybullet.connect(pybullet.DIRECT)
        pybullet.setGravity(0, 0, -9.81, physicsClientId=client)
        pybullet.setPhysicsEngineParameter(
            fixedTimeStep=SUBSTEP, numSolverIterations=80, deterministicOverlappingPairs=1, physicsClientId=client
        )
        box = scene.room.table
        shape = pybullet.createCollisionShape(pybullet.GEOM_BOX, halfExtents=box.half, physicsClientId=client)
        self.table = int(pybullet.createMultiBody(0, shape, -1, box.centre, physicsClientId=client))
        pybullet.changeDynamics(self.table, -1, lateralFriction=0.8, physicsClientId=client)
        self.objects: list[int] = []
        self.cabinets: list[int] = []

    def furnish(self) -> None:
        """Add cabinets and objects."""
        self.cabinets = [add_cabinet(cabinet, self.client) for cabinet in self.scene.cabinets]
        self.objects = [_add(item, self.client) for item in self.scene.objects]

    def close(self) -> None:
        """Free the engine; harmless when called twice."""
        if self.client >= 0:
            pybullet.disconnect(physicsClientId=self.client)
            self.client = -1

    def poses(self) -> tuple[Pose, ...]:
        """Where each object is."""
        return tuple(pybullet.getBasePositionAndOrientation(body, physicsClientId=self.client) for body in self.objects)

    def openings(self) -> NDArray[np.float64]:
        """(D,) how far each drawer is out [m]."""
        return np.array(
            [pybullet.getJointState(body, 0, physicsClientId=self.client)[0] for body in self.cabinets], np.float64
        )

    def drawers(self) -> tuple[Pose, ...]:
        """Where each drawer is."""
        openings = self.openings()
        return tuple(
            drawer_pose(cabinet, float(opening)) for cabinet, opening in zip(self.scene.cabinets, openings, strict=True)
        )

    def speed(self) -> float:
        """The fastest object's linear speed [m/s]; 0 without objects."""
        speeds = [pybullet.getBaseVelocity(body, physicsClientId=self.client)[0] for body in self.objects]
        return max((float(np.linalg.norm(speed)) for speed in speeds), default=0.0)

    def contacts(self) -> NDArray[np.bool_]:
        """(K, K) which objects touch each other."""
        count = len(self.objects)
        touch = np.zeros((count, count), bool)
        for first in range(count):
            for second in range(first + 1, count):
                touch[first, second] = touch[second, first] = self._touch(self.objects[first], self.objects[second])
        return touch

    def grounded(self) -> NDArray[np.bool_]:
        """(K,) which objects touch the table or a cabinet."""
        fixed = (self.table, *self.cabinets)
        return np.array([any(self._touch(body, other) for other in fixed) for body in self.objects], bool)

    def _touch(self, one: int, other: int) -> bool:
        return bool(pybullet.getContactPoints(one, other, physicsClientId=self.client))


def _add(item: SceneObject, client: int) -> int:
    if item.shape == "sphere":
        shape = pybullet.createCollisionShape(pybullet.GEOM_SPHERE, radius=item.size[0] / 2, physicsClientId=client)
    else:
        vertices = object_mesh(item).vertices.tolist()
        shape = pybullet.createCollisionShape(pybullet.GEOM_MESH, vertices=vertices, physicsClientId=client)
    turn = pybullet.getQuaternionFromEuler((0, 0, item.yaw)) if item.turn is None else item.turn
    position = (item.x, item.y, (item.size[2] / 2 if item.z is None else item.z) + 0.001)
    mass = _MASS * min(1.0, float(np.prod(item.size)) / _FULL)
    body = pybullet.createMultiBody(mass, shape, -1, position, turn, physicsClientId=client)
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
