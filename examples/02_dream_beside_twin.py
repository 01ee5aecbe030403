"""A dream beside its ground truth: the same start, the same actions, in both. Writes out/02_dream_beside_twin.mp4."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

import vap_sim
from vap_sim.metrics.fidelity import copy_first_frame, psnr
from vap_sim.metrics.trust import PromptAgreement
from vap_sim.policies.plan_policy import ScriptedPolicy
from vap_sim.viewer.video import write_mp4

SEED = 1_000_003  # seeds from 1,000,000 on are kept for evaluation: no model was trained on them
STEPS = 40


def main() -> None:
    # Gymnasium's type of `unwrapped` knows neither `start` nor `get_state`.
    twin: Any = gym.make("VAPTwin-DROID-v0", task="pick_place").unwrapped
    truth_now, info = twin.reset(seed=SEED)
    start = twin.start()
    print(f"task: {info['instruction']}")

    dream: Any = gym.make("VAPWorld-DROID-v0", render_mode="rgb_array", render_views=("prompt", "image"))
    dreamt_now, told = dream.reset(seed=0, options={"start": start})
    truth, dreamt, shown, joints = [truth_now["image"]], [dreamt_now["image"]], [dream.render()], [told["joints"]]

    for action in ScriptedPolicy("pick_place").plan(start, STEPS):
        truth_now, _, done, _, info = twin.step(action)
        dreamt_now, _, _, _, told = dream.step(action)
        truth.append(truth_now["image"])
        dreamt.append(dreamt_now["image"])
        shown.append(dream.render())
        joints.append(told["joints"])
        if done:
            break
    twin.close()
    dream.close()

    true, imagined = torch.from_numpy(np.stack(truth)), torch.from_numpy(np.stack(dreamt))
    quality = psnr(generated=imagined, truth=true).values
    standing_still = psnr(generated=copy_first_frame(true), truth=true).values
    meter = PromptAgreement(vap_sim.load_robot("panda_robotiq"), size=start.size)
    poses = torch.from_numpy(np.stack(joints))
    obeys, ceiling = (meter.all(frames, poses, start.cameras[0]).values for frames in (imagined, true))

    print("step  PSNR dream  PSNR first frame  agreement dream  agreement twin")
    for step in sorted({1, *range(10, len(truth), 10), len(truth) - 1}):
        pixels = f"{quality[step - 1]:7.1f} dB  {standing_still[step - 1]:13.1f} dB"
        print(f"{step:4d}  {pixels}  {obeys[step]:15.2f}  {ceiling[step]:14.2f}")
    print(f"the twin says: {'the task is done' if info['success'] else 'the task is not done'}")

    rows = [np.hstack([true_picture, picture]) for true_picture, picture in zip(truth, shown, strict=True)]
    path = Path("out") / "02_dream_beside_twin.mp4"
    write_mp4(path, (row.repeat(3, axis=0).repeat(3, axis=1) for row in rows), frame_rate=5)
    print(f"written: {path} (twin, prompt, dream)")


if __name__ == "__main__":
    main()
