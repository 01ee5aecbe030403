"""Makes what docs/robots.md says of shipped robots, and a picture of each, from their folders and data sheets.

Run from the top of a checkout: python docs/make_robots_page.py
"""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import torch

from vap_sim.prompts import Prompter, profile, render_robot
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot, robot_names

DOCS = Path(__file__).parent
PAGE = DOCS / "robots.md"
BEGIN, END = "<!-- made by docs/make_robots_page.py: begin -->", "<!-- made by docs/make_robots_page.py: end -->"
SIDE = 144
BACKGROUND, DIMMED, FRAME = 96, 0.62, 225
AWAY = 3.2
"""How far the camera of the whole robot stands, in radii of the ball around it."""


def section() -> str:
    """Everything between the two marks of the page."""
    models = [load_robot(name) for name in robot_names()]
    lines = [
        BEGIN,
        "",
        "| robot | joints | gripper, open to closed | key points | cameras |",
        "| --- | --- | --- | --- | --- |",
        *map(_row, models),
        "",
        "Pictures: the whole robot, then with its skeleton (profile `compact`) it and its cameras; below, closed.",
        *(line for model in models for line in _entry(model)),
        "",
        END,
    ]
    return "\n".join(lines)


def _row(model: RobotModel) -> str:
    gripper = model.gripper
    closing = "-" if gripper is None else f"`{gripper.joint}` {gripper.open_value:g} to {gripper.closed_value:g}"
    cameras = ", ".join(
        f"`{c.name}` {c.size[0]} x {c.size[1]}" + (f" on `{c.parent_link}`" if c.parent_link else "")
        for c in model.cameras.values()
    )
    title = _title(model)
    anchor = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
    joints, points = model.robot.num_joints, len(model.skeleton.points)
    return f"| [{model.name}](#{anchor}) | {joints} | {closing} | {points} | {cameras} |"


def _sheet(model: RobotModel) -> str:
    return (model.folder / "README.md").read_text(encoding="utf-8")


def _title(model: RobotModel) -> str:
    return _sheet(model).splitlines()[0].removeprefix("# ")


def _entry(model: RobotModel) -> list[str]:
    """A robot's heading, the first paragraph of its data sheet, its picture, and where the sheet is."""
    lead = " ".join(_sheet(model).split("\n\n")[1].split())
    where = f"../robots/{model.folder.name}/README.md"
    return [
        "",
        f"### {_title(model)}",
        "",
        f"{lead} [Data sheet]({where}): joints, links, cameras, provenance.",
        "",
        f"![{model.name}: surface and skeleton](images/robot_{model.name}.png)",
    ]


def picture(model: RobotModel) -> np.ndarray:
    """(H, W, 3) uint8 RGB: the whole robot plain and with its skeleton, then each of its cameras; below, closed."""
    own = [c.resized((SIDE * c.size[0] // c.size[1], SIDE)) for c in model.cameras.values()]
    poses = [model.home]
    if model.gripper is not None:
        poses = [model.home.clone(), model.home.clone()]
        joint = model.robot.joint_index(model.gripper.joint)
        poses[0][joint], poses[1][joint] = model.gripper.open_value, model.gripper.closed_value
    rows = []
    for pose in poses:
        cells = [_drawn(model, pose, whole_view(model), skeleton=False)]
        cells += [_drawn(model, pose, camera, skeleton=True) for camera in (whole_view(model), *own)]
        rows.append(np.concatenate([_framed(cell) for cell in cells], axis=1))
    return np.concatenate(rows)


def whole_view(model: RobotModel) -> Camera:
    """A camera that sees all of the robot at home, from its front left; recorded hands from where they were seen."""
    poses = model.robot.forward(model.home).numpy()
    corners = np.concatenate(
        [v.vertices @ poses[v.link, :3, :3].T + poses[v.link, :3, 3] for v in model.robot.visuals]
    ).astype(np.float64)
    centre = (corners.min(axis=0) + corners.max(axis=0)) / 2
    radius = float(np.linalg.norm(corners - centre, axis=1).max())
    seen = "eyes" in model.cameras
    direction = np.array([0.0, 0.0, -1.0] if seen else [0.80, 0.52, 0.30])
    eye = centre + AWAY * radius * direction / np.linalg.norm(direction)
    up = (0.0, -1.0, 0.0) if seen else (0.0, 0.0, 1.0)
    return Camera.look_at("whole", eye.tolist(), centre.tolist(), size=(SIDE, SIDE), focal_px=0.46 * SIDE * AWAY, up=up)


def _drawn(model: RobotModel, pose: torch.Tensor, camera: Camera, skeleton: bool) -> np.ndarray:
    q = pose[None, None]
    robot = render_robot(model, q, [camera])
    shown = np.where(robot.mask[0, 0, 0].numpy()[..., None], robot.rgb[0, 0, 0].numpy(), BACKGROUND)
    if not skeleton:
        return shown.astype(np.uint8)
    lines = Prompter(model, profile("compact"), camera.size).draw(q, [camera]).skeleton[0, 0, 0].numpy()
    strength = lines.max(axis=-1, keepdims=True) / 255.0
    return np.clip(DIMMED * shown * (1 - strength) + lines, 0, 255).astype(np.uint8)


def _framed(cell: np.ndarray) -> np.ndarray:
    return np.pad(cell, ((1, 1), (1, 1), (0, 0)), constant_values=FRAME)


def main() -> None:
    for name in robot_names():
        target = DOCS / "images" / f"robot_{name}.png"
        cv2.imwrite(str(target), picture(load_robot(name))[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 9])
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    PAGE.write_text(before + section() + rest.partition(END)[2], encoding="utf-8")


if __name__ == "__main__":
    main()
