"""A hand as the physics engine moves it: one body whose joints are those that can be felt.

The hand's URDF bends a finger at each place by two joints about one axis, its own and the one that closes the hand; the
body has one joint there, which turns by their sum. What has no shape, as the head that looks on, is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.envs.twin_engine import pybullet
from vap_sim.errors import Unsupported
from vap_sim.robots.library import RobotModel
from vap_sim.robots.urdf import JointRecord, UrdfTree, read_urdf

Array = NDArray[np.float64]
_LEAST_MASS, _LEAST_INERTIA = 0.03, 2e-5
"""Of a link [kg, kg m2]: what is lighter shakes when it is held fast."""


@dataclass(frozen=True, eq=False)
class HandBody:
    """The body and how its N joints follow from the robot's J.

    body: its id in the engine; joints (N,): the engine's indices of the joints; links: the engine's index of every link
    by name; own (N,): the robot's joint that turns here; closing (N,): how much of the closing joint's value is added;
    parts (N,): the first word of what a joint moves, as "hand" or "thumb".
    """

    body: int
    joints: tuple[int, ...]
    links: dict[str, int]
    own: NDArray[np.intp]
    closing: Array
    parts: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Link:
    """One link as the engine takes it; `own` is the robot's joint that moves it, -1 where it is fixed."""

    name: str
    parent: int
    origin: Array
    axis: Array
    kind: int
    own: int = -1
    closing: float = 0.0
    shape: int = -1


def build_hand(model: RobotModel, client: int) -> HandBody:
    """Build the body of a hand in a pybullet client. Raises Unsupported for a robot that is not built like a hand."""
    links = _links(model, client)
    count = len(links)
    body = int(
        pybullet.createMultiBody(
            baseMass=0,
            linkMasses=[_LEAST_MASS] * count,
            linkCollisionShapeIndices=[link.shape for link in links],
            linkVisualShapeIndices=[-1] * count,
            linkPositions=[link.origin[:3, 3].tolist() for link in links],
            linkOrientations=[Rotation.from_matrix(link.origin[:3, :3]).as_quat().tolist() for link in links],
            linkInertialFramePositions=[[0, 0, 0]] * count,
            linkInertialFrameOrientations=[[0, 0, 0, 1]] * count,
            linkParentIndices=[link.parent + 1 for link in links],
            linkJointTypes=[link.kind for link in links],
            linkJointAxis=[link.axis.tolist() for link in links],
            physicsClientId=client,
        )
    )
    for index in range(count):
        inertia = np.maximum(pybullet.getDynamicsInfo(body, index, physicsClientId=client)[2], _LEAST_INERTIA)
        pybullet.changeDynamics(body, index, localInertiaDiagonal=inertia.tolist(), physicsClientId=client)
    joints = tuple(index for index, link in enumerate(links) if link.own >= 0)
    return HandBody(
        body,
        joints,
        {link.name: index for index, link in enumerate(links)},
        np.array([links[index].own for index in joints], np.intp),
        np.array([links[index].closing for index in joints]),
        tuple(links[index].name.split("_")[0] for index in joints),
    )


def _links(model: RobotModel, client: int) -> list[_Link]:
    """All links that are felt or that lead to one, parents first; a second shape of a link is a link fixed to it."""
    gripper, tree = model.gripper, read_urdf(model.folder / "robot.urdf")
    if gripper is None:
        raise Unsupported(f"a hand closes, and robot {model.name!r} has nothing that does")
    felt = _felt(tree)
    places, out = {0: -1}, list[_Link]()
    for joint in tree.joints:
        if joint.child not in felt:
            continue
        parent, share = places[joint.parent], _share(joint, gripper.joint)
        if share is not None:
            _check_coaxial(model, joint, out[parent] if parent >= 0 else None)
            out[parent] = replace(out[parent], name=tree.links[joint.child], closing=share)
            places[joint.child] = parent
            continue
        if joint.mimic is not None:
            raise Unsupported(f"joint {joint.name!r} of robot {model.name!r} follows {joint.mimic[0]!r}, not its grasp")
        kinds = {"fixed": pybullet.JOINT_FIXED, "prismatic": pybullet.JOINT_PRISMATIC}
        kind = kinds.get(joint.kind, pybullet.JOINT_REVOLUTE)
        own = -1 if joint.kind == "fixed" else model.robot.joint_index(joint.name)
        places[joint.child] = len(out)
        out.append(_Link(tree.links[joint.child], parent, joint.origin, joint.axis, kind, own))
    if not any(link.closing for link in out):
        raise Unsupported(f"nothing of robot {model.name!r} closes that has a shape")
    for visual in model.robot.visuals:
        if visual.link == 0:
            raise Unsupported(f"the base of robot {model.name!r} has a shape; a hand's is the world")
        place, vertices = places[visual.link], visual.vertices.tolist()
        shape = pybullet.createCollisionShape(pybullet.GEOM_MESH, vertices=vertices, physicsClientId=client)
        if out[place].shape < 0:
            out[place] = replace(out[place], shape=shape)
        else:
            name = f"{out[place].name}_{len(out)}"
            out.append(_Link(name, place, np.eye(4), np.array([0.0, 0, 1]), pybullet.JOINT_FIXED, shape=shape))
    return out


def _felt(tree: UrdfTree) -> set[int]:
    """Links with a shape, and those between them and the base."""
    above = {joint.child: joint.parent for joint in tree.joints}
    felt: set[int] = set()
    for shape in tree.shapes:
        link: int | None = shape.link
        while link is not None and link not in felt:
            felt.add(link)
            link = above.get(link)
    return felt


def _share(joint: JointRecord, closing: str) -> float | None:
    """How much of the closing joint's value this joint turns by; None where it does not follow it."""
    if joint.name == closing:
        return 1.0
    follows = joint.mimic is not None and joint.mimic[0] == closing and joint.mimic[2] == 0.0
    return joint.mimic[1] if follows and joint.mimic is not None else None


def _check_coaxial(model: RobotModel, joint: JointRecord, before: _Link | None) -> None:
    if (
        before is None
        or before.own < 0
        or not np.allclose(joint.origin, np.eye(4))
        or not np.allclose(joint.axis, before.axis)
    ):
        raise Unsupported(f"joint {joint.name!r} of robot {model.name!r} does not turn about the axis before it")
