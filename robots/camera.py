"""Pinhole cameras, fixed in the base frame or mounted on a link: points in metres to pixels and depth."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.robots.kinematics import Robot

# Nearer points (and those behind the camera) are divided by this depth [m], so that pixels stay finite.
NEAREST_DEPTH = 1e-4


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole camera; x right, y down, z forward; the centre of the top-left pixel is (0, 0).

    `intrinsics` (*c, 3, 3) [px], `T_parent_camera` (*c, 4, 4) [m], `size` (width, height) [px]. `parent_link` names the
    link it is mounted on; None fixes it in the robot's base frame. The axes *c hold one camera per row of a batch.
    """

    name: str
    intrinsics: Tensor
    T_parent_camera: Tensor
    parent_link: str | None
    size: tuple[int, int]

    def __post_init__(self) -> None:
        k, t = self.intrinsics, self.T_parent_camera
        if k.shape[-2:] != (3, 3) or t.shape[-2:] != (4, 4) or k.shape[:-2] != t.shape[:-2]:
            given = f"intrinsics {tuple(k.shape)} and pose {tuple(t.shape)}"
            raise InvalidInput(f"camera {self.name!r}", given, "(*c, 3, 3) and (*c, 4, 4)")
        if not bool((k[..., 2, :] == k.new_tensor([0.0, 0.0, 1.0])).all()):
            raise InvalidInput(f"intrinsics of camera {self.name!r}", k[..., 2, :].tolist(), "a last row of 0, 0, 1")
        if len(self.size) != 2 or min(self.size) < 1:
            raise InvalidInput(f"size of camera {self.name!r}", self.size, "(width, height) of at least one pixel")

    @staticmethod
    def look_at(
        name: str,
        eye: Sequence[float],
        target: Sequence[float],
        *,
        size: tuple[int, int],
        focal_px: float | None = None,
        vertical_fov: float | None = None,
        up: Sequence[float] = (0.0, 0.0, 1.0),
        parent_link: str | None = None,
    ) -> Camera:
        """A camera at `eye` with `target` in the middle of its picture and `up` pointing up in it.

        Points are in metres in the parent's frame. Give `focal_px` [px] or `vertical_fov` [rad], not both.
        Raises InvalidInput when the two points coincide or `up` lies along the view.
        """
        focal = _focal(name, size, focal_px, vertical_fov)
        position = torch.tensor(eye, dtype=torch.float64)
        forward = torch.tensor(target, dtype=torch.float64) - position
        right = torch.linalg.cross(forward, torch.tensor(up, dtype=torch.float64))
        if not float(right.norm()) > 1e-9 * float(forward.norm()):
            raise InvalidInput(f"camera {name!r}", f"eye {eye}, target {target}, up {up}", "up not along the view")
        forward, right = forward / forward.norm(), right / right.norm()
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3] = torch.stack([right, torch.linalg.cross(forward, right), forward, position], dim=1)
        width, height = size
        intrinsics = torch.tensor(
            [[focal, 0.0, (width - 1) / 2], [0.0, focal, (height - 1) / 2], [0.0, 0.0, 1.0]], dtype=torch.float32
        )
        return Camera(name, intrinsics, pose.float(), parent_link, (int(width), int(height)))

    @staticmethod
    def batch(cameras: Sequence[Camera]) -> Camera:
        """One camera with a new leading axis from cameras of equal size and parent. Undone by `row`."""
        if not cameras:
            raise InvalidInput("cameras to batch", "none", "at least one")
        first = cameras[0]
        if any((c.size, c.parent_link) != (first.size, first.parent_link) for c in cameras):
            given = ", ".join(f"{c.name} {c.size} on {c.parent_link}" for c in cameras)
            raise InvalidInput("cameras to batch", given, "equal sizes and parents")
        intrinsics = torch.stack([c.intrinsics for c in cameras])
        poses = torch.stack([c.T_parent_camera for c in cameras])
        return Camera(
            "+".join(dict.fromkeys(c.name for c in cameras)), intrinsics, poses, first.parent_link, first.size
        )

    def row(self, index: int) -> Camera:
        """Camera `index` of the first leading axis. Raises InvalidInput where there is none."""
        count = self.intrinsics.shape[0] if self.intrinsics.ndim > 2 else 0
        if not -count <= index < count:
            raise InvalidInput(f"row of camera {self.name!r}", index, f"one of {count} rows")
        return replace(self, intrinsics=self.intrinsics[index], T_parent_camera=self.T_parent_camera[index])

    def resized(self, size: tuple[int, int]) -> Camera:
        """The same view sampled at another size (width, height)."""
        sx, sy = size[0] / self.size[0], size[1] / self.size[1]
        # The half pixel keeps picture edges, rather than pixel centres, in place.
        rows = [[sx, 0.0, (sx - 1) / 2], [0.0, sy, (sy - 1) / 2], [0.0, 0.0, 1.0]]
        return replace(self, intrinsics=self.intrinsics.new_tensor(rows) @ self.intrinsics, size=size)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Camera:
        """The same camera with its tensors on another device or of another type."""
        intrinsics, pose = (t.to(device, dtype or t.dtype) for t in (self.intrinsics, self.T_parent_camera))
        return replace(self, intrinsics=intrinsics, T_parent_camera=pose)

    def T_base_camera(self, T_base_link: Tensor | None = None, robot: Robot | None = None) -> Tensor:
        """Pose in the base frame: (*c, 4, 4) when fixed, (*b, 4, 4) for T_base_link (*b, L, 4, 4) when mounted.

        Raises InvalidInput when a mounted camera is asked without link poses, UnknownName for a foreign link.
        """
        if self.parent_link is None:
            return self.T_parent_camera
        parent = self._parent_pose(T_base_link, robot)
        mount = _aligned(self.T_parent_camera, parent.ndim - 2)
        out = parent[..., :, 0:1] * mount[..., 0:1, :]
        for k in (1, 2, 3):
            out = torch.addcmul(out, parent[..., :, k : k + 1], mount[..., k : k + 1, :])
        return out

    def project(
        self, points: Tensor, T_base_link: Tensor | None = None, robot: Robot | None = None
    ) -> tuple[Tensor, Tensor]:
        """Pixels and depth of points (*b, P, 3) [m, base frame] -> xy (*b, P, 2) [px], depth (*b, P) [m].

        The camera's axes *c align with the first axes of *b; a mounted camera reads T_base_link (*b, L, 4, 4). Points
        behind the camera keep their depth <= 0; their pixels are finite and mean nothing.
        """
        lead = points.ndim - 2
        if points.shape[-1] != 3 or lead < self.intrinsics.ndim - 2:
            given = f"points {tuple(points.shape)} for camera axes {tuple(self.intrinsics.shape[:-2])}"
            raise InvalidInput(f"projection by camera {self.name!r}", given, "(*b, P, 3) with the camera's axes first")
        matrix = _aligned(self._matrix(T_base_link, robot), lead)[..., None, :, :]
        image = torch.addcmul(matrix[..., 3], points[..., 0:1], matrix[..., 0])
        image = torch.addcmul(image, points[..., 1:2], matrix[..., 1])
        image = torch.addcmul(image, points[..., 2:3], matrix[..., 2])
        depth = image[..., 2]
        return image[..., :2] / depth.clamp_min(NEAREST_DEPTH)[..., None], depth

    def _matrix(self, T_base_link: Tensor | None, robot: Robot | None) -> Tensor:
        """Base frame to pixels times depth, (*c or *b, 3, 4)."""
        fresh = self.T_parent_camera.requires_grad or self.intrinsics.requires_grad
        matrix = self._from_parent() if fresh else self._from_parent_once
        if self.parent_link is None:
            return matrix
        parent = self._parent_pose(T_base_link, robot)
        return _after_inverse(_aligned(matrix, parent.ndim - 2), parent)

    def _parent_pose(self, T_base_link: Tensor | None, robot: Robot | None) -> Tensor:
        if T_base_link is None or robot is None or self.parent_link is None:
            expected = f"T_base_link and robot, to follow {self.parent_link!r}"
            raise InvalidInput(f"camera {self.name!r}", "no link poses", expected)
        return T_base_link[..., robot.link_index(self.parent_link), :, :]

    def _from_parent(self) -> Tensor:
        """The parent's frame to pixels times depth, (*c, 3, 4)."""
        flat = torch.cat([self.intrinsics, torch.zeros_like(self.intrinsics[..., :1])], dim=-1)
        return _after_inverse(flat, self.T_parent_camera)

    @cached_property
    def _from_parent_once(self) -> Tensor:
        # A tensor born in inference mode could never take part in a gradient later.
        with torch.inference_mode(False):
            return self._from_parent()

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` gives the same camera back."""
        return {
            "name": self.name,
            "size": list(self.size),
            "parent_link": self.parent_link,
            "intrinsics": self.intrinsics.tolist(),
            "T_parent_camera": self.T_parent_camera.tolist(),
        }

    @staticmethod
    def from_dict(values: Mapping[str, Any], *, name: str | None = None) -> Camera:
        """A camera from JSON values: matrices as `to_dict` writes them, or `eye`, `target` and a focal length.

        Raises InvalidInput naming the camera and the missing or malformed field.
        """
        name = str(values.get("name", "")) if name is None else name
        try:
            width, height = (int(v) for v in values["size"])
            parent = values.get("parent_link")
            if "eye" in values:
                names = ("focal_px", "vertical_fov", "up")
                options = {n: values[n] for n in names if n in values}
                size = (width, height)
                return Camera.look_at(name, values["eye"], values["target"], size=size, parent_link=parent, **options)
            matrices = [torch.tensor(values[n], dtype=torch.float32) for n in ("intrinsics", "T_parent_camera")]
            return Camera(name, matrices[0], matrices[1], parent, (width, height))
        except InvalidInput:
            raise
        except KeyError as error:
            expected = "size, and eye, target, focal_px or intrinsics, T_parent_camera"
            raise InvalidInput(f"camera {name!r}", f"no field {error}", expected) from error
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            raise InvalidInput(f"camera {name!r}", f"values that cannot be read ({error})", "numbers") from error


def _focal(name: str, size: tuple[int, int], focal_px: float | None, vertical_fov: float | None) -> float:
    if (focal_px is None) == (vertical_fov is None):
        given = f"focal_px {focal_px}, vertical_fov {vertical_fov}"
        raise InvalidInput(f"camera {name!r}", given, "exactly one of the two")
    if vertical_fov is not None:
        focal_px = size[1] / 2 / math.tan(vertical_fov / 2) if 0 < vertical_fov < math.pi else 0.0
    if focal_px is None or not 0 < focal_px < math.inf:
        given = f"focal_px {focal_px}, vertical_fov {vertical_fov}"
        raise InvalidInput(f"camera {name!r}", given, "a positive focal length, a field of view in (0, pi)")
    return float(focal_px)


def _aligned(matrix: Tensor, lead: int) -> Tensor:
    """Matrices (*c, m, n) with axes of length one inserted so that *c stand first among `lead` axes."""
    missing = lead - (matrix.ndim - 2)
    if missing <= 0 or matrix.ndim == 2:
        return matrix
    return matrix.reshape(*matrix.shape[:-2], *([1] * missing), *matrix.shape[-2:])


def _after_inverse(matrix: Tensor, pose: Tensor) -> Tensor:
    """Affine maps (*b, 3, 4) after the inverses of rigid poses (*b, 4, 4) -> (*b, 3, 4)."""
    turn, position = pose[..., :3, :3], pose[..., None, :3, 3]
    out = matrix[..., 0:1] * turn[..., None, :, 0]
    out = torch.addcmul(out, matrix[..., 1:2], turn[..., None, :, 1])
    out = torch.addcmul(out, matrix[..., 2:3], turn[..., None, :, 2])
    return torch.cat([out, matrix[..., 3:] - (out * position).sum(-1, keepdim=True)], dim=-1)
