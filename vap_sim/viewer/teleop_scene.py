"""The 3-D part of the page: the robot's own shapes, the cameras with what they show, and the gizmo on the tool."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel
from vap_sim.viewer.teleop_history import Picture, Seen

Array = NDArray[np.float64]
_FRUSTUM = 0.12


class RobotScene:
    """Shows one robot in a viser server; `show` moves it. All pages see the same."""

    def __init__(self, server: Any, model: RobotModel) -> None:
        self.model, self._server = model, server
        self._links: dict[int, Any] = {}
        self._frustums: dict[str, tuple[Any, Camera]] = {}
        scene = server.scene
        scene.set_up_direction("+z")
        scene.add_grid("/table", width=2.0, height=2.0, cell_size=0.1, cell_color=(210, 210, 210))
        for number, (link, color, triangles) in enumerate(surfaces(model)):
            if link not in self._links:
                name = model.robot.link_names[link]
                self._links[link] = scene.add_frame(f"/robot/{name}", show_axes=False)
            name = f"/robot/{model.robot.link_names[link]}/shape_{number}"
            corners = np.asarray(triangles, np.float32).reshape(-1, 3)
            faces = np.arange(len(corners), dtype=np.uint32).reshape(-1, 3)
            tint = tuple(round(255 * part) for part in color[:3])
            scene.add_mesh_simple(name, corners, faces, color=tint, flat_shading=True, cast_shadow=False)
        reach = model.robot.reach(model.flange_link)
        place, aim = (1.15 * reach, 0.75 * reach, 0.8 * reach), (0.35 * reach, 0.0, 0.2 * reach)
        # The first for pages to come, the others for those that are here already.
        for camera in (server.initial_camera, *(client.camera for client in server.get_clients().values())):
            camera.position, camera.look_at = place, aim

    def set_cameras(self, cameras: Mapping[str, Camera]) -> None:
        """The cameras to draw, in place of those before."""
        for handle, _ in self._frustums.values():
            handle.remove()
        self._frustums = {}
        for name, camera in cameras.items():
            fov = 2 * float(np.arctan2(camera.size[1] / 2, float(camera.intrinsics[1, 1])))
            aspect = camera.size[0] / camera.size[1]
            handle = self._server.scene.add_camera_frustum(
                f"/cameras/{name}", fov, aspect, scale=_FRUSTUM, thickness=0.004, cast_shadow=False
            )
            self._frustums[name] = (handle, camera)

    def show(self, seen: Seen) -> None:
        """The robot at the joints seen, and in the frustums what their cameras show."""
        joints = torch.from_numpy(np.asarray(seen.joints, np.float64))
        poses = self.model.robot.forward(joints)
        placed = poses.numpy()
        for link, frame in self._links.items():
            _place(frame, placed[link])
        for name, (handle, camera) in self._frustums.items():
            if handle.image is None or camera.parent_link is not None:
                at = camera.to("cpu", torch.float64).T_base_camera(poses, self.model.robot)
                _place(handle, np.asarray(at, np.float64))
            if name in seen.pictures:
                handle.image = seen.pictures[name]


class Gizmo:
    """A handle on the tool in one page; `on_goal(pose)` hears where it is dragged, (4, 4) in the base frame [m]."""

    def __init__(self, client: Any, pose: Array, on_goal: Callable[[Array], None]) -> None:
        self._handle = client.scene.add_transform_controls("/tool", scale=0.2, line_width=3.0, depth_test=False)
        self._dragged = False
        _place(self._handle, pose)

        def dragged(event: Any) -> None:
            self._dragged = event.phase != "end"
            on_goal(pose_of(self._handle.wxyz, self._handle.position))

        self._handle.on_update(dragged)

    def follow(self, pose: Array) -> None:
        """Sit on the tool, unless it is being dragged."""
        if not self._dragged:
            _place(self._handle, pose)

    def remove(self) -> None:
        """Take the handle away."""
        self._handle.remove()


def surfaces(model: RobotModel) -> list[tuple[int, tuple[float, float, float, float], NDArray[np.float32]]]:
    """The robot's shapes as (link, rgba, triangles (T, 3, 3) in the link's frame), joined where both agree."""
    joined: dict[tuple[int, tuple[float, float, float, float]], list[NDArray[np.float32]]] = {}
    for visual in model.robot.visuals:
        if len(visual.triangles):
            joined.setdefault((visual.link, visual.color), []).append(visual.triangles)
    return [(link, color, np.concatenate(parts)) for (link, color), parts in joined.items()]


def quaternion(turn: Array) -> tuple[float, float, float, float]:
    """The unit quaternion (w, x, y, z) of a rotation matrix (3, 3)."""
    (a, b, c), (d, e, f), (g, h, i) = (tuple(float(value) for value in row) for row in turn)
    # Its outer product with itself, times four: the column of the largest part loses no digits.
    outer = np.array(
        [
            [1 + a + e + i, h - f, c - g, d - b],
            [h - f, 1 + a - e - i, b + d, c + g],
            [c - g, b + d, 1 - a + e - i, f + h],
            [d - b, c + g, f + h, 1 - a - e + i],
        ]
    )
    column = outer[:, int(np.argmax(np.diag(outer)))]
    w, x, y, z = (float(value) for value in column / np.linalg.norm(column))
    return w, x, y, z


def pose_of(wxyz: Any, position: Any) -> Array:
    """The pose (4, 4) of a quaternion (w, x, y, z), of any length but zero, and a position [m]."""
    parts = np.asarray(wxyz, np.float64)
    w, x, y, z = parts / np.linalg.norm(parts)
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = np.asarray(position, np.float64)
    return pose


def panels(pictures: Mapping[str, Picture], side: int = 256) -> Picture:
    """All pictures in one, two a row, each `side` pixels high at least, with its name in a bar above it."""
    import cv2

    tiles = []
    for name, picture in pictures.items():
        times = max(1.0, side / picture.shape[0])
        size = (round(picture.shape[1] * times), round(picture.shape[0] * times))
        large = cv2.resize(picture, size, interpolation=cv2.INTER_CUBIC)
        head = np.full((22, size[0], 3), 32, np.uint8)
        cv2.putText(head, name, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (225, 225, 225), 1, cv2.LINE_AA)
        tiles.append(np.concatenate([head, large]))
    width, height = max(tile.shape[1] for tile in tiles), max(tile.shape[0] for tile in tiles)
    padded = [np.zeros((height, width, 3), np.uint8) for _ in range(len(tiles) + len(tiles) % 2)]
    for place, tile in zip(padded, tiles, strict=False):
        place[: tile.shape[0], : tile.shape[1]] = tile
    rows = [np.concatenate(padded[at : at + 2], axis=1) for at in range(0, len(padded), 2)]
    return np.concatenate(rows)


def _place(handle: Any, pose: Array) -> None:
    handle.position = tuple(float(value) for value in pose[:3, 3])
    handle.wxyz = quaternion(pose[:3, :3])
