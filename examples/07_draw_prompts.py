"""Draw visual prompts for a batch of poses, by two cameras, in both draw profiles. Writes out/07_draw_prompts.png."""

import time
from pathlib import Path

import cv2
import numpy as np
import torch

import vap_sim
from vap_sim.prompts import Prompter, profile, silhouettes

SIZE = (160, 160)


def main() -> None:
    model = vap_sim.load_robot("panda_robotiq")
    cameras = [model.camera(name).resized(SIZE) for name in ("exterior_1", "wrist")]
    print(f"{model.name}: {model.robot.num_joints} joints, {len(model.skeleton.points)} key points, "
          f"{len(model.skeleton.bones)} bones")  # fmt: skip

    # Two motions of five poses: turning at the base, and closing the gripper while reaching down. (b, F, J) in radians.
    share = torch.linspace(0, 1, 5)
    motions = model.home.repeat(2, 5, 1)
    motions[0, :, 0] += 1.2 * share - 0.6
    motions[1, :, 1] += 0.45 * share
    motions[1, :, 7] = 0.8 * share

    columns = []
    for name in ("compact", "vap"):
        prompt = Prompter(model, profile(name), SIZE).draw(motions, cameras)
        print(f"profile {name}: skeleton {tuple(prompt.skeleton.shape)} {prompt.skeleton.dtype}")
        shown = [prompt.skeleton[motion, view].numpy() for motion, view in ((0, 0), (1, 0), (1, 1))]
        columns.append(np.vstack([np.hstack(list(pictures)) for pictures in shown]))
    sheet = np.hstack(columns)
    # Where the whole robot would be seen: (b, V, F, H, W) bool.
    masks = silhouettes(model, motions, cameras)
    filled = np.hstack([*masks[0, 0].numpy(), *masks[1, 0].numpy()])[..., None].repeat(3, axis=-1)
    print(f"the silhouette of the first pose covers {masks[0, 0, 0].float().mean():.0%} of the picture")

    # A planner draws all candidates and all their steps at once.
    many = model.home + 0.3 * torch.randn(64, 10, 8, generator=torch.Generator().manual_seed(0))
    small = Prompter(model, profile("compact"), (128, 128))
    began = time.perf_counter()
    small.draw(many, [model.camera("exterior_1")])
    print(f"{64 * 10} prompts of 128 x 128 drawn at {640 / (time.perf_counter() - began):.0f} a second")

    path = Path("out") / "07_draw_prompts.png"
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.vstack([sheet, filled * np.uint8(255)])[..., ::-1])
    print(f"written: {path} (left compact, right vap; two motions, the second by the wrist camera too; silhouettes)")


if __name__ == "__main__":
    main()
