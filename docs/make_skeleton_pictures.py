"""Makes docs/images/skeleton_panda_robotiq.png: both draw profiles, three cameras, gripper open and closed.

Run from the top of a checkout: python docs/make_skeleton_pictures.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch

from vap_sim.prompts import Prompter, profile, profile_names, silhouettes
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

SIZE = (128, 128)
SCALE = 2
GREY = 58


def main() -> None:
    model = load_robot("panda_robotiq")
    whole = Camera.look_at("whole arm", (1.5, 1.25, 0.85), (0.28, 0.0, 0.36), size=SIZE, focal_px=165.0)
    cameras = (whole, model.camera("exterior_1"), model.camera("wrist"))
    q = model.home.repeat(2, 1, 1)
    if model.gripper is not None:
        joint = model.robot.joint_index(model.gripper.joint)
        q[:, 0, joint] = torch.tensor([model.gripper.open_value, model.gripper.closed_value])
    # The first column of a pair is the prompt as a model sees it; in the second the robot's outline lies behind it.
    outlines = silhouettes(model, q, cameras)[:, :, 0].numpy()
    rows = []
    for name in profile_names():
        pictures = Prompter(model, profile(name), SIZE).draw(q, cameras).skeleton[:, :, 0].numpy()
        for picture, outline in zip(pictures, outlines, strict=True):
            cells = []
            for drawn, robot in zip(picture, outline, strict=True):
                strength = drawn.max(axis=-1, keepdims=True) / 255.0
                behind = np.where(robot[..., None], GREY, 0) * (1 - strength)
                cells += [drawn, np.clip(drawn + behind, 0, 255).astype(np.uint8)]
            rows.append(
                np.concatenate([np.pad(cell, ((1, 1), (1, 1), (0, 0)), constant_values=90) for cell in cells], 1)
            )
    sheet = cv2.resize(np.concatenate(rows), None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_NEAREST)
    target = Path(__file__).parent / "images" / "skeleton_panda_robotiq.png"
    target.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(target), sheet[..., ::-1])


if __name__ == "__main__":
    main()
