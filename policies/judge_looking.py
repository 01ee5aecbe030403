"""From evidence to what the judge's network is asked: table maps, proposals on them, and windows around those."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.policies.judge import Evidence
from vap_sim.policies.judge_finding import Found, color_likeness, crop, find_object, find_ring
from vap_sim.policies.judge_network import TASKS, WINDOW, Asked
from vap_sim.policies.judge_table import TableGrid, parallax, table_maps
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel

Color = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Seen:
    """Table maps of b moments: first, before, now (b, 3, R, C) in [0, 1]; robot (b, R, C), its silhouette now; lean
    (b, 2, R, C), the parallax; tool (b, 3) [m]; gripper (b,); goal: the ring found in the first picture."""

    first: Tensor
    before: Tensor
    now: Tensor
    robot: Tensor
    lean: Tensor
    tool: Tensor
    gripper: Tensor
    goal: Found

    def __len__(self) -> int:
        return len(self.gripper)

    def rows(self, rows: Sequence[int]) -> Seen:
        """The chosen moments."""
        chosen = list(rows)
        plain = {name: getattr(self, name)[chosen] for name in self.__dataclass_fields__ if name != "goal"}
        return Seen(**plain, goal=Found(self.goal.cell[chosen], self.goal.strength[chosen]))


def named_color(instruction: str, colors: Mapping[str, Color]) -> str | None:
    """The one colour that an instruction names, None where it names none or several."""
    words = set(re.findall(r"[a-z]+", instruction.lower()))
    found = [name for name in colors if name in words]
    return found[0] if len(found) == 1 else None


def look(evidence: Evidence, model: RobotModel, grid: TableGrid) -> Seen:
    """The table as b moments show it. Raises InvalidInput for another robot's joints, Unsupported for moving cameras.

    With a single last picture, the moment before is taken to have looked the same.
    """
    if model.gripper is None or evidence.joints.shape[1] != model.robot.num_joints:
        raise InvalidInput(
            "joints for a judge", evidence.joints.shape, f"(b, {model.robot.num_joints}) of {model.name}"
        )
    joints = torch.from_numpy(np.ascontiguousarray(evidence.joints)).double()
    links = model.robot.forward(joints)
    closed = model.gripper.to_position(joints[:, model.robot.joint_index(model.gripper.joint)]).clamp(0, 1)
    covered = silhouettes(model, joints[:, None], [Camera.batch(list(evidence.cameras))])[:, 0].float()
    pictures = [evidence.first, evidence.last[:, -min(2, evidence.last.shape[1])], evidence.last[:, -1]]
    stack = torch.cat([_unit(picture) for picture in pictures] + [covered], dim=1)
    maps = table_maps(stack, evidence.cameras, grid)
    first, before, now, robot = maps[:, :3], maps[:, 3:6], maps[:, 6:9], maps[:, 9]
    return Seen(
        first=first,
        before=before,
        now=now,
        robot=robot,
        lean=parallax(evidence.cameras, grid),
        tool=links[:, model.robot.link_index(model.tool_link), :3, 3].float(),
        gripper=closed.float(),
        goal=find_ring(first),
    )


def ask(seen: Seen, colors: Tensor, tasks: Sequence[str], grid: TableGrid) -> Asked:
    """The network's questions about b moments: colors (b, 3) of the objects meant, and b tasks among TASKS."""
    likenesses = [color_likeness(rgb, colors) for rgb in (seen.first, seen.before, seen.now)]
    found = [*(find_object(likeness) for likeness in likenesses), seen.goal]
    nothing = torch.zeros_like(seen.robot)
    pictures = [
        torch.cat([rgb, likeness[:, None], robot[:, None]], dim=1)
        for rgb, likeness, robot in zip(
            (seen.first, seen.before, seen.now, seen.first),
            (*likenesses, likenesses[0]),
            (nothing, nothing, seen.robot, nothing),
            strict=True,
        )
    ]
    windows = [crop(planes, place.cell, WINDOW) for planes, place in zip(pictures, found, strict=True)]
    cells = torch.stack([place.cell for place in found], dim=1)
    points, batch = grid.points(), torch.arange(len(seen))[:, None]
    return Asked(
        windows=torch.stack(windows, dim=1),
        middles=points[cells[..., 0], cells[..., 1]],
        strength=torch.stack([place.strength for place in found], dim=1),
        lean=seen.lean.permute(0, 2, 3, 1)[batch, cells[..., 0], cells[..., 1]],
        tool=seen.tool,
        gripper=seen.gripper,
        task=torch.tensor([TASKS.index(task) for task in tasks]),
    )


def _unit(pictures: np.ndarray) -> Tensor:
    """(b, H, W, 3) uint8 -> (b, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).float() / 255
