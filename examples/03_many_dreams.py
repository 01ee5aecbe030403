"""Eight dreams stepped together, each from its own start by its own expert. Writes out/03_many_dreams.png."""

import time
from pathlib import Path

import cv2
import gymnasium as gym
import numpy as np

import vap_sim
from vap_sim.policies.plan_policy import ScriptedPolicy
from vap_sim.policies.policy import brief

STEPS, SHOWN = 24, (0, 8, 16, 24)


def main() -> None:
    starts = list(vap_sim.shipped_starts("push"))
    envs = gym.make_vec("VAPWorld-DROID-v0", num_envs=8)
    observations, infos = envs.reset(seed=0, options={"start": starts})
    print(f"{envs.num_envs} dreams, pictures {observations['image'].shape}, actions {envs.action_space.shape}")

    # An expert looks at the scenes once, in the info of the reset; what it remembers is passed in and comes back.
    expert = brief(ScriptedPolicy("push"), infos)
    memory = expert.reset(envs.num_envs, seed=0)
    pictures, actions = [observations["image"]], []
    began = time.perf_counter()
    for _ in range(STEPS):
        action, memory = expert.act(observations, memory)
        observations, _, _, _, _ = envs.step(action)
        pictures.append(observations["image"])
        actions.append(action)
    seconds = time.perf_counter() - began
    envs.close()
    print(f"{STEPS * envs.num_envs} pictures in {seconds:.1f} s: {STEPS * envs.num_envs / seconds:.0f} a second")

    # Row i of a batch seeded with s is the single environment seeded with s + i, to the bit.
    row = 3
    single = gym.make("VAPWorld-DROID-v0")
    single.reset(seed=0 + row, options={"start": starts[row]})
    pairs = list(zip(actions, pictures[1:], strict=True))[:8]
    same = [np.array_equal(single.step(action[row])[0]["image"], shown[row]) for action, shown in pairs]
    print(f"row {row} equals a single environment in {sum(same)} of {len(same)} pictures")
    single.close()

    sheet = np.vstack([np.hstack([pictures[step][row] for row in range(8)]) for step in SHOWN])
    path = Path("out") / "03_many_dreams.png"
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), sheet[..., ::-1])
    print(f"written: {path} (a column each dream, steps {', '.join(map(str, SHOWN))})")


if __name__ == "__main__":
    main()
