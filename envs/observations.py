"""What an environment shows: the observation space of a robot and its cameras, and observations in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.robots.library import RobotModel

Observation = dict[str, NDArray[Any]]
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Layout:
    """How pictures and joints become an observation.

    space: of one environment; image_keys: one a view, the first is `image`, the others end in their camera's name;
    arm: (A,) places of the arm's joints among all; gripper: the place of the gripper's joint, or None. What is shown of
    the joints, those of the arm before the gripper: order, their places; shift, span: what is taken off, and what is
    divided by then; low, high: limits of the outcome.
    """

    space: spaces.Space[Observation]
    image_keys: tuple[str, ...]
    arm: NDArray[np.intp]
    gripper: int | None
    order: NDArray[np.intp]
    shift: Floats
    span: Floats
    low: Floats
    high: Floats

    def show(self, joints: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
        """What observations tell of joints (b, J), moved into the limits: the arm's, then the gripper's, in one array
        (b, n)."""
        share = (joints.take(self.order, axis=1) - self.shift) / self.span
        return np.minimum(np.maximum(share, self.low), self.high).astype(np.float32)

    def observe(self, frames: NDArray[np.uint8], shown: NDArray[np.float32]) -> Observation:
        """Observations of b environments in new arrays: frames (b, V, H, W, 3), and `shown` as `show` returned it."""
        out: Observation = {key: frames[:, view].copy() for view, key in enumerate(self.image_keys)}
        joints = shown.copy()
        out["joint_position"] = joints[:, : len(self.arm)]
        if self.gripper is not None:
            out["gripper_position"] = joints[:, len(self.arm) :]
        return out


def make_layout(model: RobotModel, views: Sequence[str], size: tuple[int, int]) -> Layout:
    """The layout for a robot seen by cameras of these names in pictures of `size` (width, height)."""
    if isinstance(views, str) or not views or len(set(views)) != len(views):
        raise InvalidInput("views", views, "a list of different camera names, at least one")
    robot, gripper = model.robot, model.gripper
    index = None if gripper is None else robot.joint_index(gripper.joint)
    arm = np.array([joint for joint in range(robot.num_joints) if joint != index], dtype=np.intp)
    lower, upper = robot.lower.numpy(), robot.upper.numpy()
    keys = ("image", *(f"image_{name}" for name in views[1:]))
    parts: dict[str, spaces.Space[Any]] = {key: spaces.Box(0, 255, (size[1], size[0], 3), np.uint8) for key in keys}
    parts["joint_position"] = spaces.Box(lower[arm], upper[arm], dtype=np.float32)
    if gripper is not None:
        parts["gripper_position"] = spaces.Box(0.0, 1.0, (1,), np.float32)
    low, high = lower[arm].astype(np.float64), upper[arm].astype(np.float64)
    shift, span, order = np.zeros(len(arm)), np.ones(len(arm)), arm
    if gripper is not None and index is not None:
        shift, span = np.append(shift, gripper.open_value), np.append(span, gripper.closed_value - gripper.open_value)
        low, high, order = np.append(low, 0.0), np.append(high, 1.0), np.append(arm, index)
    space = cast("spaces.Space[Observation]", spaces.Dict(parts))
    return Layout(space, keys, arm, index, order.astype(np.intp), shift, span, low, high)


def first_row(batched: Observation) -> Observation:
    """The observation of the first environment of a batch, without its leading axis."""
    return {key: value[0] for key, value in batched.items()}
