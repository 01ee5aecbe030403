"""Rewind a dream, live the same moment again, and fork it into several futures. Writes out/04_fork_and_rewind.png."""

from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np

import vap_sim

# Speeds of the hand along x y z and about them (1 is 1.125 m/s or 2.25 rad/s), then the gripper (1 is closed).
DOWN, FORWARD, LEFT, REST = (
    np.array([*speed, 0, 0, 0, 1], np.float32) for speed in ((0, 0, -0.19), (0.15, 0, 0), (0, 0.17, 0), (0, 0, 0))
)
STEPS = 8


def play(env: Any, action: np.ndarray) -> np.ndarray:
    """The pictures (STEPS, H, W, 3) of one action repeated."""
    return np.stack([env.step(action)[0]["image"] for _ in range(STEPS)])


def main() -> None:
    # Gymnasium's type of `unwrapped` does not know get_state and set_state.
    env: Any = gym.make("VAPWorld-DROID-v0", control="ee_delta").unwrapped
    env.reset(seed=0)
    play(env, DOWN)
    state = env.get_state()
    print(f"the whole dream after {state.steps[0]} steps is one frozen record of {state.nbytes / 1e6:.2f} MB")

    first = play(env, FORWARD)
    env.set_state(state)
    again = play(env, FORWARD)
    print(f"the same future twice, bits equal: {np.array_equal(first, again)}")
    env.set_state(state)
    other = play(env, LEFT)
    apart = np.abs(first[-1].astype(int) - other[-1]).max(axis=-1) > 10
    print(f"another future: {apart.mean():.0%} of the pixels differ after {STEPS} steps")
    env.close()

    # A state is not tied to the environment that it came from: here three futures of it are dreamt in one batch.
    envs: Any = gym.make_vec("VAPWorld-DROID-v0", num_envs=3, control="ee_delta").unwrapped
    envs.set_state(state.index([0, 0, 0]))
    together = play(envs, np.stack([FORWARD, LEFT, REST]))
    equal = [np.array_equal(together[:, row], alone) for row, alone in enumerate((first, other))]
    print(f"the same futures in a batch, bits equal: {all(equal)}")
    envs.close()

    # The model's part of a state goes to disk as it is. It says who wrote it; no other model goes on from it.
    folder = Path("out")
    state.world.save(folder / "04_state.safetensors")
    loaded = vap_sim.WorldState.load(folder / "04_state.safetensors")
    print(f"saved and loaded: {loaded.rows} row at step {int(loaded.step[0])}, written by model {loaded.model}")

    rows = [np.hstack([state.frames[0, 0], *together[1::2, future]]) for future in range(3)]
    cv2.imwrite(str(folder / "04_fork_and_rewind.png"), np.vstack(rows)[..., ::-1])
    print(f"written: {folder / '04_fork_and_rewind.png'} (rows from one picture: forward, left, at rest)")


if __name__ == "__main__":
    main()
