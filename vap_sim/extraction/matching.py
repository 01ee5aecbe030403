"""Finding a drawn robot in pictures: what is drawn, what a match is, and what a matcher promises.

Matches are on the robot alone. Background that looks like background is the known trap of this step: it matches
perfectly and says nothing about the robot, so that what lies beside the drawn robot never becomes a match.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.extraction.silhouettes import draw_masks, pose_body, trace_contour
from vap_sim.prompts import render_robot
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel

Array = NDArray[np.float64]
SPACING = 3.0
"""Pixels between the points of an outline."""
_MARGIN = 2  # a match may lie this many pixels beside the drawn robot, where its edge is seen


@dataclass(frozen=True, eq=False)
class Matches:
    """M places where something drawn was found: drawn (M, 2) and seen (M, 2) [px], weight (M,) in [0, 1].

    normals (M, 2) of unit length: along an edge nothing tells how far it has slid, so that only the component of
    `seen - drawn` along the normal is known; None where all of it is.
    """

    drawn: Array
    seen: Array
    weight: Array
    normals: Array | None = None

    def __post_init__(self) -> None:
        count = len(self.weight)
        shapes = [self.drawn.shape, self.seen.shape, *(() if self.normals is None else (self.normals.shape,))]
        if self.weight.shape != (count,) or any(shape != (count, 2) for shape in shapes):
            raise InvalidInput("matches", f"shapes {shapes} and {self.weight.shape}", f"({count}, 2) and ({count},)")

    def __len__(self) -> int:
        return len(self.weight)


@dataclass(frozen=True, eq=False)
class Outline:
    """The outline of a drawn robot: points (N, 2) [px] inside the picture and outward normals (N, 2)."""

    points: Array
    normals: Array


@dataclass(frozen=True, eq=False)
class DrawnRobot:
    """A robot at T poses as one camera of the pictures' size would see it.

    joints (T, J) [rad or m]; outlines: one a frame; masks (T, H, W) bool.
    """

    model: RobotModel
    camera: Camera
    joints: Array
    outlines: tuple[Outline, ...]
    masks: NDArray[np.bool_]

    def picture(self, frame: int) -> NDArray[np.uint8]:
        """The robot alone before black in one frame, (H, W, 3) RGB."""
        pose = torch.from_numpy(self.joints[None, frame : frame + 1])
        return np.asarray(render_robot(self.model, pose, [self.camera], samples=1).rgb[0, 0, 0].numpy())


class ClipMatcher(Protocol):
    """A matcher that has seen all pictures of a clip."""

    def match(self, frame: int, homography: Array) -> Matches:
        """What is drawn in one frame and where the picture shows it, near to where `homography` (3, 3) takes it."""
        ...


class Matcher(Protocol):
    """A way to find a drawn robot in pictures."""

    @property
    def name(self) -> str:
        """What it is called in reports."""
        ...

    def begin(self, pictures: NDArray[np.uint8], robot: DrawnRobot) -> ClipMatcher:
        """Look at the pictures (T, H, W, 3) of one camera, in which the robot is expected as drawn."""
        ...


def draw_robot(model: RobotModel, joints: Array, camera: Camera) -> DrawnRobot:
    """The robot at poses joints (T, J) [rad or m] before one camera without batch axes. Raises InvalidInput."""
    if joints.ndim != 2 or joints.shape[1] != model.robot.num_joints or not np.isfinite(joints).all():
        expected = f"finite numbers (T, {model.robot.num_joints}): {', '.join(model.robot.joint_names)}"
        raise InvalidInput("joints of the drawn robot", f"shape {joints.shape}", expected)
    if camera.intrinsics.ndim != 2:
        raise InvalidInput(f"camera {camera.name!r}", f"axes {tuple(camera.intrinsics.shape[:-2])}", "no batch axes")
    body, matrices = pose_body(model, joints), projections(model, joints, camera)
    outlines, masks = [], []
    for frame in range(len(joints)):
        alone = body.at(np.array([frame]))
        contour = trace_contour(alone, matrices[frame], camera.size, spacing=SPACING)
        outlines.append(Outline(contour.pixels, contour.normals))
        masks.append(draw_masks(alone, matrices[frame], camera.size)[0] > 0)
    return DrawnRobot(model, camera, joints, tuple(outlines), np.stack(masks))


def projections(model: RobotModel, joints: Array, camera: Camera) -> Array:
    """The matrices (T, 3, 4) that take points in the base frame [m] to pixels times depth, a frame each."""
    exact = camera.to("cpu", torch.float64)
    with torch.no_grad():
        pose = exact.T_base_camera(model.robot.forward(torch.as_tensor(joints, dtype=torch.float64)), model.robot)
    poses = np.broadcast_to(pose.numpy(), (len(joints), 4, 4))
    return np.asarray(exact.intrinsics.numpy() @ np.linalg.inv(poses)[:, :3])


def on_robot(matches: Matches, mask: NDArray[np.bool_]) -> Matches:
    """Only those matches whose drawn place lies on the robot's mask (H, W), or at most two pixels beside it."""
    side = 2 * _MARGIN + 1
    near = cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    column, row = np.rint(matches.drawn).astype(np.intp).T
    inside = (column >= 0) & (row >= 0) & (column < mask.shape[1]) & (row < mask.shape[0])
    kept = np.zeros(len(matches), bool)
    kept[inside] = near[row[inside], column[inside]]
    normals = None if matches.normals is None else matches.normals[kept]
    return Matches(matches.drawn[kept], matches.seen[kept], matches.weight[kept], normals)


def move_points(points: Array, homography: Array) -> Array:
    """Points (N, 2) [px] moved by a homography (3, 3)."""
    rays = points @ homography[:, :2].T + homography[:, 2]
    return np.asarray(rays[:, :2] / rays[:, 2:])


def move_mask(mask: NDArray[np.bool_], homography: Array, size: tuple[int, int]) -> NDArray[np.uint8]:
    """How far a mask (h, w), moved by a homography into a picture of (width, height), covers each pixel, 0..255."""
    fine = cv2.warpPerspective(mask.astype(np.uint8) * 255, homography, size, flags=cv2.INTER_LINEAR)
    return np.asarray(fine)
