"""A place to plan in: what would be seen, and where the robot would be, if it acted this way or that way.

It joins what an environment joins (controller, prompter, world model) without being one: no space, no reward, no
episode. A prompt depends on actions alone, so the prompts of all futures are drawn before the first is dreamt.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.protocol import WorldModel
from vap_sim.models.registry import load_world
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.robots.control import Controller, ControlState
from vap_sim.robots.library import RobotModel, load_robot
from vap_sim.state import WorldState

PICTURES = ("none", "last", "all")
_SLACK = 1e-6


@dataclass(frozen=True, eq=False)
class Dream:
    """b dreams between two model steps: the world's memory, the nominal joints, and V cameras with leading axis b."""

    world: WorldState
    control: ControlState
    cameras: tuple[Camera, ...]

    def __len__(self) -> int:
        """The number of dreams b."""
        return int(self.control.joints.shape[0])

    def index(self, rows: Sequence[int] | NDArray[np.intp]) -> Dream:
        """The chosen dreams, in the order given."""
        chosen = np.asarray(rows, dtype=np.intp)
        return self._rows(self.world.index(torch.from_numpy(chosen)), chosen)

    def repeat(self, n: int) -> Dream:
        """Every dream n times, keys included: row r becomes rows r n .. r n + n - 1. Raises InvalidInput for n < 1."""
        return self._rows(self.world.repeat(n), np.repeat(np.arange(len(self)), n))

    def _rows(self, world: WorldState, chosen: NDArray[np.intp]) -> Dream:
        places = torch.from_numpy(chosen)
        control = ControlState(self.control.target[chosen], self.control.joints[chosen])
        cameras = tuple(
            replace(c, intrinsics=c.intrinsics[places], T_parent_camera=c.T_parent_camera[places]) for c in self.cameras
        )
        return Dream(world, control, cameras)


@dataclass(frozen=True, eq=False)
class Imagined:
    """What b futures of T actions hold.

    joints: (b, T, J) float64, nominal, at the end of each action [rad or m]; tool: (b, T, 4, 4) float64, T_base_tool;
    frames: (b, V, k, H, W, 3) uint8 RGB, every picture of the T actions, the last alone (k = 1), or None; dream: from
    where the futures go on, None where the world was not asked.
    """

    joints: NDArray[np.float64]
    tool: NDArray[np.float64]
    frames: Tensor | None = None
    dream: Dream | None = None

    def __len__(self) -> int:
        """The number of futures b."""
        return len(self.joints)


class Imagination:
    """Futures of a robot under given actions, dreamt by a world model.

    robot, world, weights, control, control_hz, clip_actions, device mean what they mean for the environment
    `VAPWorld-DROID-v0`, and equal ones dream the same pictures, bit for bit. One model step takes `intervals` actions.
    """

    def __init__(
        self,
        robot: str | Path | RobotModel = "panda_robotiq",
        world: str | Path | WorldModel = "compact",
        *,
        weights: str | Path | None = None,
        control: str = "joint_velocity",
        control_hz: float = 5.0,
        clip_actions: bool = True,
        device: str = "cpu",
        rows_at_once: int = 128,
    ) -> None:
        """rows_at_once: futures whose prompts are held in memory together; it changes no result.

        Raises UnknownName or InvalidInput, the latter also where `control_hz` does not fit the world's frame rate.
        """
        self.model = robot if isinstance(robot, RobotModel) else load_robot(robot)
        self.world = load_world(world, weights=weights, device=device) if isinstance(world, str | Path) else world
        if rows_at_once < 1:
            raise InvalidInput("rows_at_once", rows_at_once, "at least 1")
        self.control_hz, self._at_once = float(control_hz), rows_at_once
        spec = self.world.spec
        self.intervals = _intervals(self.control_hz, spec.frame_rate, spec.frames_per_step)
        self.controller = Controller(self.model, control, 1 / self.control_hz, clip=clip_actions)
        self.prompter = Prompter(self.model, profile(spec.profile), spec.size)

    def begin(
        self,
        frames: Tensor | ArrayLike,
        control: ControlState | ArrayLike,
        cameras: Sequence[Camera],
        keys: Sequence[int],
    ) -> Dream:
        """Dreams that begin with what is seen now.

        Args:
            frames: (b, V, H, W, 3) uint8 RGB. control: joints (b, J) [rad or m] at rest, or a controller's state on the
                move. cameras: V, each without leading axis (for all rows) or with one of length b. keys: b integers,
                the seeds of the worlds' randomness.

        Raises InvalidInput for what does not fit.
        """
        pictures = torch.as_tensor(frames)
        state = control if isinstance(control, ControlState) else self.controller.initial(control)
        rows = len(state.joints)
        if pictures.ndim != 5 or pictures.shape[:2] != (rows, len(cameras)):
            given = f"frames {tuple(pictures.shape)}, joints of {rows} rows, {len(cameras)} cameras"
            raise InvalidInput("start of an imagination", given, "frames (b, V, H, W, 3), joints (b, J), V cameras")
        views = tuple(c if c.intrinsics.ndim == 3 else Camera.batch([c] * rows) for c in cameras)
        poses = torch.from_numpy(state.joints.astype(np.float32))[:, None]
        world = self.world.encode(pictures, self.prompter.draw(poses, views), list(keys))
        return Dream(world, state, views)

    def imagine(self, dream: Dream, actions: ArrayLike, pictures: str = "last") -> Imagined:
        """The futures of b dreams under actions (b, T, A), T a multiple of `intervals`; `dream.repeat(n)` gives n each.

        pictures: "all", "last", or "none", which spares the world what only pictures need. Raises InvalidInput for
        other shapes, UnknownName for other pictures.
        """
        if pictures not in PICTURES:
            raise UnknownName("pictures to imagine", pictures, PICTURES)
        control, joints, poses = self._moved(dream.control, actions)
        worlds, films = [], []
        for first in range(0, len(dream), self._at_once):
            rows = np.arange(first, min(first + self._at_once, len(dream)))
            part = dream if len(rows) == len(dream) else dream.index(rows)
            prompts = self.prompter.draw(torch.from_numpy(poses[rows]), part.cameras)
            world, film = self._dreamt(part.world, prompts, pictures)
            worlds.append(world)
            films += [] if film is None else [film]
        world = worlds[0] if len(worlds) == 1 else WorldState.cat(worlds)
        frames = None if not films else films[0] if len(films) == 1 else torch.cat(films)
        return Imagined(joints, self._tool(joints), frames, Dream(world, control, dream.cameras))

    def trace(self, control: ControlState, actions: ArrayLike) -> Imagined:
        """The robot's part of b futures, joints and tool alone, without the world; actions as in `imagine`."""
        _, joints, _ = self._moved(control, actions)
        return Imagined(joints, self._tool(joints))

    @torch.no_grad()
    def _tool(self, joints: NDArray[np.float64]) -> NDArray[np.float64]:
        robot = self.model.robot
        poses = robot.forward(torch.from_numpy(joints))[..., robot.link_index(self.model.tool_link), :, :]
        return np.array(poses.numpy())

    def _moved(
        self, state: ControlState, actions: ArrayLike
    ) -> tuple[ControlState, NDArray[np.float64], NDArray[np.float32]]:
        """The controller's state after actions (b, T, A), joints (b, T, J) and the poses (b, k, J) of the pictures."""
        values, rows = np.asarray(actions), len(state.joints)
        if values.ndim != 3 or len(values) != rows or not values.shape[1] or values.shape[1] % self.intervals:
            expected = f"({rows}, T, {self.controller.spec.size}), T a positive multiple of {self.intervals}"
            raise InvalidInput("actions to imagine", f"shape {values.shape}", expected)
        frames = self.world.spec.frames_per_step
        each, stride = max(1, frames // self.intervals), max(1, self.intervals // frames)
        joints, poses = [], []
        for step in range(values.shape[1]):
            state, path = self.controller.step(state, values[:, step], each)
            joints.append(state.joints)
            if (step + 1) % stride == 0:
                poses.append(path)
        return state, np.stack(joints, axis=1), np.concatenate(poses, axis=1)

    def _dreamt(self, world: WorldState, prompts: VisualPrompt, pictures: str) -> tuple[WorldState, Tensor | None]:
        each, total = self.world.spec.frames_per_step, prompts.pixel_frames
        if pictures != "last":
            made = self.world.imagine(world, prompts, decode=pictures == "all")
            return made.state, None if made.frames is None else made.frames.cpu()
        if total > each:
            world = self.world.imagine(world, prompts.between(0, total - each), decode=False).state
        world, frames = self.world.step(world, prompts.between(total - each, total))
        return world, frames[:, :, -1:].cpu()


def _intervals(control_hz: float, frame_rate: float, frames: int) -> int:
    """Control intervals a model step. Raises InvalidInput unless they and its pictures divide evenly."""
    ratio = control_hz * frames / frame_rate if 0 < control_hz < np.inf else 0.0
    intervals = round(ratio)
    if intervals < 1 or abs(ratio - intervals) > _SLACK * intervals or (intervals % frames and frames % intervals):
        expected = f"an integer multiple of the world's frame rate {frame_rate:g}, or a part that divides its pictures"
        raise InvalidInput("control_hz", control_hz, expected)
    return intervals
