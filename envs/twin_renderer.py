"""Pictures and exact masks of a twin scene, drawn by pybullet's software renderer in a client of its own.

A second client leaves the physics untouched and lets layers be drawn that no physical camera could see: the scene
without the robot, or the empty table. Every picture is drawn at twice its size and averaged, so edges are anti-aliased.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import trimesh

from vap_sim.colors import COLORS
from vap_sim.envs.scene_parts import Box, Cabinet, CameraPose, SceneObject
from vap_sim.envs.scenes import Scene
from vap_sim.envs.twin_engine import pybullet
from vap_sim.envs.twin_furniture import Pose, case_boards, draw_boards, drawer_boards, drawer_pose, handle_boards
from vap_sim.robots.camera import Camera

SUPERSAMPLING = 2
_NEAR, _FAR = 0.02, 6.0
_PLATE = ((0.0, -0.5), (0.33, -0.5), (0.5, 0.5), (0.44, 0.5), (0.37, 0.15), (0.0, 0.15))
"""A plate's section, radius and height: a rim around a shallow recess."""
_AWAY = (0.0, 0.0, -50.0)
_OTHER, _ROBOT = 0, 1  # segmentation labels; object k is 2 + k, drawer d comes after the objects
_HANDLE = (0.55, 0.56, 0.58)


@dataclass(frozen=True)
class Snapshot:
    """Where everything is: values of all movable robot joints by name, and (position, quaternion xyzw) per object and
    per drawer."""

    joints: dict[str, float]
    objects: tuple[Pose, ...]
    drawers: tuple[Pose, ...] = ()

    @property
    def bodies(self) -> tuple[Pose, ...]:
        """All that moves and is no robot, in the order of their labels: objects, then drawers."""
        return (*self.objects, *self.drawers)


@dataclass(frozen=True)
class Picture:
    """One drawn layer: rgb (H, W, 3) uint8; objects (H, W, 4) uint8, what moves and is no robot alone, as premultiplied
    rgba; coverage (2 + K + D, H, W) uint8 in 0..255, rows: other, robot, object k, drawer d; depth (2H, 2W) float32 [m]
    along the optical axis and labels (2H, 2W) uint8, both before averaging."""

    rgb: np.ndarray
    objects: np.ndarray
    coverage: np.ndarray
    depth: np.ndarray
    labels: np.ndarray

    @property
    def coarse_labels(self) -> np.ndarray:
        """(H, W) uint8: what fills most of each pixel."""
        return np.asarray(self.coverage.argmax(0), np.uint8)

    @property
    def robot_mask(self) -> np.ndarray:
        """(H, W) bool: at least half of the pixel shows the robot."""
        return np.asarray(self.coverage[_ROBOT] >= 128)

    @property
    def object_masks(self) -> np.ndarray:
        """(K + D, H, W) bool: objects, then drawers."""
        return np.asarray(self.coverage[2:] >= 128)


def object_mesh(item: SceneObject) -> trimesh.Trimesh:
    """The object's mesh, centred on its bounding box [m]: what is drawn, and whose convex hull collides. All but plates
    are convex."""
    if item.shape == "sphere":
        mesh = trimesh.creation.icosphere(subdivisions=2, radius=0.5)
    elif item.shape in ("cylinder", "hexagon"):
        mesh = trimesh.creation.cylinder(radius=0.5, height=1.0, sections=24 if item.shape == "cylinder" else 6)
    elif item.shape == "wedge":
        corners = [[x, y, z] for y in (-0.5, 0.5) for x, z in ((-0.5, -0.5), (0.5, -0.5), (0.0, 0.5))]
        mesh = trimesh.convex.convex_hull(np.asarray(corners))
    elif item.shape == "plate":
        mesh = trimesh.creation.revolve(_PLATE, sections=32)
    else:
        mesh = trimesh.creation.box((1.0, 1.0, 1.0))
    mesh = mesh.copy()
    mesh.apply_scale(np.asarray(item.size) / mesh.extents)
    return mesh


def mesh_arrays(item: SceneObject) -> dict[str, list[list[float]] | list[int]]:
    """Vertices, indices and normals of an object as pybullet's shape functions take them."""
    mesh = object_mesh(item)
    if item.shape == "sphere":
        normals = mesh.vertex_normals
    else:  # flat faces: one normal a face
        mesh.unmerge_vertices()
        normals = np.repeat(mesh.face_normals, 3, axis=0)
        if item.shape == "cylinder":  # round sides shade smoothly
            side = np.abs(normals[:, 2]) < 0.5
            radial = mesh.vertices * (1 / np.square(mesh.extents / 2)) * [1, 1, 0]
            normals[side] = radial[side] / np.linalg.norm(radial[side], axis=1, keepdims=True)
    return {
        "vertices": mesh.vertices.tolist(),
        "indices": mesh.faces.ravel().tolist(),
        "normals": np.asarray(normals).tolist(),
    }


def scene_camera(pose: CameraPose, size: tuple[int, int] = (128, 128)) -> Camera:
    """The Camera record of a scene's camera pose at `size` (width, height) pixels."""
    focal = size[1] / 2 / np.tan(pose.vertical_fov / 2)
    return Camera.look_at(pose.name, pose.eye, pose.target, focal_px=float(focal), size=size)


def view_matrix(T_base_camera: np.ndarray) -> list[float]:
    """OpenGL view matrix (column-major list of 16) of a camera whose axes are x right, y down, z forward."""
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    return (flip @ np.linalg.inv(T_base_camera)).T.ravel().tolist()


def projection_matrix(intrinsics: np.ndarray, size: tuple[int, int]) -> list[float]:
    """OpenGL projection (column-major list of 16); pixel centres lie at whole numbers.

    TinyRenderer samples column i at i, not at i + 1/2 as OpenGL does, and row j of its picture, which it turns over, at
    j + 1; measured against the projected robot to 0.02 fine pixels.
    """
    width, height = size
    fx, fy, cx, cy = intrinsics[0, 0], intrinsics[1, 1], intrinsics[0, 2], intrinsics[1, 2]
    matrix = np.zeros((4, 4))
    matrix[0, 0], matrix[0, 2] = 2 * fx / width, 1 - 2 * cx / width
    matrix[1, 1], matrix[1, 2] = 2 * fy / height, 2 * (cy + 1) / height - 1
    matrix[2, 2], matrix[2, 3] = -(_FAR + _NEAR) / (_FAR - _NEAR), -2 * _FAR * _NEAR / (_FAR - _NEAR)
    matrix[3, 2] = -1
    return matrix.T.ravel().tolist()


class TwinRenderer:
    """Draws one scene; `close` frees its pybullet client."""

    def __init__(self, scene: Scene, urdf: Path) -> None:
        self.scene = scene
        self._client = pybullet.connect(pybullet.DIRECT)
        self._robot = pybullet.loadURDF(str(urdf), useFixedBase=True, physicsClientId=self._client)
        # The engine places a body's centre of mass, which need not be where the base frame is.
        self._foot = pybullet.getBasePositionAndOrientation(self._robot, physicsClientId=self._client)
        self._joints = {
            pybullet.getJointInfo(self._robot, index, physicsClientId=self._client)[1].decode(): index
            for index in range(pybullet.getNumJoints(self._robot, physicsClientId=self._client))
        }
        room = scene.room
        self._box(room.table, scene.table_color)
        for wall in room.walls:
            self._box(wall, scene.wall_color)
        self._box(room.floor, tuple(0.6 * c for c in scene.wall_color))
        if scene.goal is not None:
            x, y, radius = scene.goal
            self._disc((x, y, 0.0006), radius, (0.97, 0.97, 0.97))
            self._disc((x, y, 0.0012), radius * 0.72, scene.table_color)
        self._objects = [self._visual(item) for item in scene.objects]
        self._drawers = [self._cabinet(cabinet) for cabinet in scene.cabinets]
        self._labels = np.full(1024, _OTHER, np.uint8)
        self._labels[self._robot] = _ROBOT
        for index, body in enumerate(self._bodies):
            self._labels[body] = 2 + index

    @property
    def _bodies(self) -> list[int]:
        return [*self._objects, *self._drawers]

    def close(self) -> None:
        """Free the client; harmless when called twice."""
        if self._client >= 0:
            pybullet.disconnect(physicsClientId=self._client)
            self._client = -1

    def render(
        self, snapshot: Snapshot, camera: Camera, T_base_camera: np.ndarray, *, robot: bool = True, objects: bool = True
    ) -> Picture:
        """Draw one layer.

        Args:
            snapshot: where everything is.
            camera: intrinsics and size; `T_base_camera` (4, 4) is its pose now.
            robot: False leaves the robot out. objects: False leaves the loose objects and the drawers out.
        """
        self._place(snapshot, robot, objects)
        size = (camera.size[0] * SUPERSAMPLING, camera.size[1] * SUPERSAMPLING)
        intrinsics = np.asarray(camera.intrinsics, np.float64) * SUPERSAMPLING
        intrinsics[:2, 2] += (SUPERSAMPLING - 1) / 2  # centre of a block of fine pixels
        light = self.scene.light
        width, height, rgba, depth, segments = pybullet.getCameraImage(
            size[0],
            size[1],
            viewMatrix=view_matrix(np.asarray(T_base_camera, np.float64)),
            projectionMatrix=projection_matrix(intrinsics, size),
            lightDirection=light.direction,
            lightColor=light.color,
            lightAmbientCoeff=light.ambient,
            lightDiffuseCoeff=light.diffuse,
            lightSpecularCoeff=0.05,
            shadow=0,
            renderer=pybullet.ER_TINY_RENDERER,
            physicsClientId=self._client,
        )
        fine = np.asarray(rgba, np.uint8).reshape(height, width, 4)[..., :3]
        ids = np.asarray(segments, np.int32).reshape(height, width)
        labels = self._labels[np.where(ids < 0, 1023, ids & 1023)]
        z = np.asarray(depth, np.float32).reshape(height, width)
        loose = (labels >= 2)[..., None]
        layer = np.concatenate([fine * loose, loose * np.uint8(255)], axis=-1)
        return Picture(
            rgb=_average(fine.astype(np.uint16)),
            objects=_average(layer.astype(np.uint16)),
            coverage=np.stack([_average((labels == label) * np.uint16(255)) for label in range(2 + len(self._bodies))]),
            depth=_FAR * _NEAR / (_FAR - (_FAR - _NEAR) * z),
            labels=labels,
        )

    def _place(self, snapshot: Snapshot, robot: bool, objects: bool) -> None:
        client = self._client
        if robot:
            for name, angle in snapshot.joints.items():
                pybullet.resetJointState(self._robot, self._joints[name], angle, physicsClientId=client)
        foot, turn = self._foot
        pybullet.resetBasePositionAndOrientation(self._robot, foot if robot else _AWAY, turn, physicsClientId=client)
        for body, (position, quaternion) in zip(self._bodies, snapshot.bodies, strict=True):
            where = position if objects else _AWAY
            pybullet.resetBasePositionAndOrientation(body, where, quaternion, physicsClientId=client)

    def _box(self, box: Box, color: tuple[float, ...]) -> int:
        shape = pybullet.createVisualShape(
            pybullet.GEOM_BOX, halfExtents=box.half, rgbaColor=(*color, 1), physicsClientId=self._client
        )
        return self._body(shape, box.centre)

    def _cabinet(self, cabinet: Cabinet) -> int:
        """Draws the case where it stands; returns the drawer's body, which `render` places."""
        boards, client = case_boards(cabinet), self._client
        position, turn = drawer_pose(cabinet, 0.0)
        dark, light = (tuple(share * c for c in cabinet.color) for share in (0.72, 1.0))
        case = draw_boards(boards, [dark] * len(boards), client, position)
        pybullet.resetBasePositionAndOrientation(case, position, turn, physicsClientId=client)
        front, handle = drawer_boards(cabinet), handle_boards(cabinet)
        colors = [light] * len(front) + [_HANDLE] * len(handle)
        return draw_boards((*front, *handle), colors, client, _AWAY)

    def _disc(self, centre: tuple[float, ...], radius: float, color: tuple[float, ...]) -> int:
        mesh = trimesh.creation.cylinder(radius=radius, height=0.0004, sections=32)
        shape = pybullet.createVisualShape(
            pybullet.GEOM_MESH,
            vertices=mesh.vertices.tolist(),
            indices=mesh.faces.ravel().tolist(),
            normals=[[0.0, 0.0, 1.0]] * len(mesh.vertices),
            rgbaColor=(*color, 1),
            physicsClientId=self._client,
        )
        return self._body(shape, centre)

    def _visual(self, item: SceneObject) -> int:
        shape = pybullet.createVisualShape(
            pybullet.GEOM_MESH, **mesh_arrays(item), rgbaColor=(*COLORS[item.color], 1), physicsClientId=self._client
        )
        return self._body(shape, _AWAY)

    def _body(self, shape: int, centre: tuple[float, ...]) -> int:
        return int(pybullet.createMultiBody(0, -1, shape, centre, physicsClientId=self._client))


def _average(fine: np.ndarray) -> np.ndarray:
    """Mean of every 2 x 2 block, rounded; uint16 (2H, 2W, ...) -> uint8 (H, W, ...)."""
    total = fine[0::2, 0::2] + fine[0::2, 1::2] + fine[1::2, 0::2] + fine[1::2, 1::2]
    return np.asarray((total + 2) // 4, np.uint8)
