"""Cabinets of a scene as boards: what the engine collides with and what the renderer draws, from the same boxes.

A cabinet is a case, open in front, and a drawer that slides out of it along the cabinet's x axis.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from vap_sim.envs.scene_parts import HANDLE_THICKNESS, HANDLE_WIDTH, Box, Cabinet
from vap_sim.envs.twin_engine import pybullet

Pose = tuple[tuple[float, ...], tuple[float, ...]]
"""Position (x, y, z) [m] and quaternion xyzw."""

_BOARD = 0.012
_PLAY = 0.002  # [m] between the drawer and the case on every side
_DRAWER_MASS = 0.8
_RUNNER_FRICTION = 2.0
"""Force [N] that keeps a drawer where it was left."""


def case_boards(cabinet: Cabinet) -> tuple[Box, ...]:
    """Bottom, top, both sides and back, in the cabinet's frame."""
    depth, width, height = cabinet.size
    half = _BOARD / 2
    return (
        Box((-depth / 2, 0.0, half), (depth / 2, width / 2, half)),
        Box((-depth / 2, 0.0, height - half), (depth / 2, width / 2, half)),
        Box((-depth / 2, width / 2 - half, height / 2), (depth / 2, half, height / 2 - _BOARD)),
        Box((-depth / 2, half - width / 2, height / 2), (depth / 2, half, height / 2 - _BOARD)),
        Box((half - depth, 0.0, height / 2), (half, width / 2 - _BOARD, height / 2 - _BOARD)),
    )


def drawer_boards(cabinet: Cabinet) -> tuple[Box, ...]:
    """Front, floor, both sides and back, and no handle, in the cabinet's frame with the drawer shut."""
    depth, width, height = cabinet.size
    half, inner = _BOARD / 2, depth - _BOARD - _PLAY
    wide, low, high = width / 2 - _BOARD - _PLAY, _BOARD + _PLAY, height - _BOARD - _PLAY
    side = 0.6 * (high - low)
    middle = -(inner + _BOARD) / 2
    return (
        Box((-half, 0.0, (low + high) / 2), (half, wide, (high - low) / 2)),
        Box((middle, 0.0, low + half), ((inner - _BOARD) / 2, wide, half)),
        Box((middle, wide - half, low + side / 2), ((inner - _BOARD) / 2, half, side / 2)),
        Box((middle, half - wide, low + side / 2), ((inner - _BOARD) / 2, half, side / 2)),
        Box((half - inner, 0.0, low + side / 2), (half, wide, side / 2)),
    )


def handle_boards(cabinet: Cabinet) -> tuple[Box, ...]:
    """The bar and its two posts, in the cabinet's frame with the drawer shut."""
    half, height = HANDLE_THICKNESS / 2, cabinet.handle_height
    reach = (cabinet.handle_reach - half) / 2
    bar = Box((cabinet.handle_reach, 0.0, height), (half, HANDLE_WIDTH / 2, half))
    posts = (Box((reach, side * (HANDLE_WIDTH / 2 - half), height), (reach, half, half)) for side in (1.0, -1.0))
    return (bar, *posts)


def drawer_corners(cabinet: Cabinet) -> NDArray[np.float64]:
    """(n, 3) [m] corners of the drawer and its handle, in the drawer's frame."""
    boards = (*drawer_boards(cabinet), *handle_boards(cabinet))
    signs = np.stack(np.meshgrid(*[(-1.0, 1.0)] * 3), axis=-1).reshape(8, 3)
    return np.concatenate([np.asarray(box.centre) + signs * box.half for box in boards])


def drawer_pose(cabinet: Cabinet, opening: float) -> Pose:
    """Where the drawer's frame is when it is out by `opening` [m]; shut, it is the cabinet's."""
    ahead = (opening * float(np.cos(cabinet.yaw)), opening * float(np.sin(cabinet.yaw)))
    turn = (0.0, 0.0, float(np.sin(cabinet.yaw / 2)), float(np.cos(cabinet.yaw / 2)))
    return (cabinet.x + ahead[0], cabinet.y + ahead[1], 0.0), turn


def add_cabinet(cabinet: Cabinet, client: int) -> int:
    """A cabinet that collides, its drawer out as its record says; returns the body, whose joint 0 is the drawer's."""
    position, turn = drawer_pose(cabinet, 0.0)
    # The engine honours a joint's limits only where it has read them from a file.
    with TemporaryDirectory() as folder:
        path = Path(folder) / "cabinet.urdf"
        path.write_text(_as_urdf(cabinet), encoding="utf-8")
        body = int(pybullet.loadURDF(str(path), position, turn, useFixedBase=True, physicsClientId=client))
    pybullet.changeDynamics(body, -1, lateralFriction=0.6, physicsClientId=client)
    pybullet.changeDynamics(body, 0, lateralFriction=0.8, linearDamping=0, angularDamping=0, physicsClientId=client)
    pybullet.resetJointState(body, 0, cabinet.opening, physicsClientId=client)
    pybullet.setJointMotorControl2(
        body, 0, pybullet.VELOCITY_CONTROL, targetVelocity=0, force=_RUNNER_FRICTION, physicsClientId=client
    )
    return body


def _as_urdf(cabinet: Cabinet) -> str:
    drawer = (*drawer_boards(cabinet), *handle_boards(cabinet))
    return f"""<robot name="cabinet">
  <link name="case">
    <inertial><mass value="5"/><inertia ixx="1" ixy="0" ixz="0" iyy="1" iyz="0" izz="1"/></inertial>
    {_collisions(case_boards(cabinet))}
  </link>
  <link name="drawer">
    <inertial>
      <origin xyz="{-cabinet.size[0] / 2} 0 {cabinet.handle_height}"/>
      <mass value="{_DRAWER_MASS}"/><inertia ixx="0.01" ixy="0" ixz="0" iyy="0.01" iyz="0" izz="0.01"/>
    </inertial>{_collisions(drawer)}
  </link>
  <joint name="slide" type="prismatic">
    <parent link="case"/><child link="drawer"/><axis xyz="1 0 0"/>
    <limit lower="0" upper="{cabinet.travel}" effort="100" velocity="2"/>
  </joint>
</robot>"""


def _collisions(boards: Sequence[Box]) -> str:
    def told(values: Sequence[float]) -> str:
        return " ".join(str(value) for value in values)

    return "".join(
        f'<collision><origin xyz="{told(box.centre)}"/>'
        f'<geometry><box size="{told([2 * half for half in box.half])}"/></geometry></collision>'
        for box in boards
    )


def draw_boards(
    boards: Sequence[Box], colors: Sequence[tuple[float, ...]], client: int, position: Sequence[float]
) -> int:
    """A body of coloured boxes that is only drawn."""
    shape = pybullet.createVisualShapeArray(
        [pybullet.GEOM_BOX] * len(boards),
        halfExtents=[box.half for box in boards],
        visualFramePositions=[box.centre for box in boards],
        rgbaColors=[(*color, 1.0) for color in colors],
        physicsClientId=client,
    )
    return int(pybullet.createMultiBody(0, -1, shape, position, physicsClientId=client))
