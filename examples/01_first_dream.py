"""A first dream: a few actions from a shipped start, watched and judged. Writes out/01_first_dream.mp4."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import vap_sim
from vap_sim.viewer.video import write_mp4

# Speeds of the hand along x y z and about them, 1 is 1.125 m/s or 2.25 rad/s, then the gripper, 1 is closed.
DOWN, FORWARD = (np.array([*speed, 0, 0, 0, 1], np.float32) for speed in ((0, 0, -0.19), (0.15, 0, 0)))

env = gym.make(
    "VAPWorld-DROID-v0", control="ee_delta", trust=True, render_mode="rgb_array", render_views=("image", "prompt")
)
observation, info = env.reset(seed=0)
print(f"{len(vap_sim.shipped_starts())} starts are shipped; this dream begins at {info['start']}")
print(f"pictures {observation['image'].shape}; the task in words: {info['instruction']}")

pictures: list[Any] = [env.render()]
for action in [DOWN] * 8 + [FORWARD] * 10:
    observation, reward, terminated, truncated, info = env.step(action)
    pictures.append(env.render())
    if info["steps"] % 6 == 0:
        print(
            f"after step {info['steps']:2d} the robot in the picture obeys its prompt by {info['prompt_agreement']:.2f}"
        )
env.close()

path = Path("out") / "01_first_dream.mp4"
large = [picture.repeat(3, axis=0).repeat(3, axis=1) for picture in pictures]
print(f"written: {path}, {write_mp4(path, large, frame_rate=5)} frames (left the dream, right its prompt)")
