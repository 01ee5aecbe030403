"""What the trust meter trusts: a dream, a liar, and the oracle world. Writes out/08_kinematic_world.png.

The kinematic world has no network: it pastes the drawn skeleton over the first picture. It obeys to the pixel and
imagines nothing, which is enough to test environments, planners and scores, and costs next to no time.
"""

import time
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np

from vap_sim import load_robot, load_start
from vap_sim.metrics.trust import PromptAgreement
from vap_sim.policies.plan_policy import ScriptedPolicy

START, STEPS = "reach_00", 12


def dream(world: str, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Pictures (T + 1, H, W, 3), nominal joints (T + 1, J) and steps a second of one world."""
    env = gym.make("VAPWorld-DROID-v0", world=world)
    observation, info = env.reset(seed=0, options={"start": START})
    pictures, joints = [observation["image"]], [info["joints"]]
    began = time.perf_counter()
    for action in actions:
        observation, _, _, _, info = env.step(action)
        pictures.append(observation["image"])
        joints.append(info["joints"])
    seconds = time.perf_counter() - began
    env.close()
    return np.stack(pictures), np.stack(joints), len(actions) / seconds


def main() -> None:
    start = load_start(START)
    actions = ScriptedPolicy("reach").plan(start, STEPS)
    meter = PromptAgreement(load_robot("panda_robotiq"), size=start.size)
    dreamt, joints, speed = dream("compact", actions)
    oracle, same_joints, oracle_speed = dream("kinematic", actions)
    print(f"compact {speed:.0f} steps a second, kinematic {oracle_speed:.0f}")
    print(f"both move the robot alike: {np.array_equal(joints, same_joints)}")

    # The meter looks for the robot in a picture and compares it with the pose that was asked for.
    liar = np.repeat(dreamt[:1], len(dreamt), axis=0)
    rows = {"dream": dreamt, "liar, whose picture never moves": liar, "kinematic, a drawing is no robot": oracle}
    for name, pictures in rows.items():
        scores = [meter(picture, pose, start.cameras[0]) for picture, pose in zip(pictures, joints, strict=True)]
        print(f"agreement at the start {scores[0]:.2f}, after {STEPS} steps {scores[-1]:.2f}: {name}")

    # A judge may end an episode where the picture can no longer be trusted.
    def distrust(_observation: Any, told: dict[str, Any]) -> tuple[float, bool]:
        return 0.0, told.get("prompt_agreement", 1.0) < 0.6

    env = gym.make("VAPWorld-DROID-v0", world="kinematic", trust=True, judge=distrust)
    env.reset(seed=0, options={"start": START})
    for action in actions:
        _, _, terminated, _, info = env.step(action)
        if terminated:
            break
    print(f"the kinematic dream, judged by the meter, ends after {info['steps']} of {STEPS} steps")
    env.close()

    path = Path("out") / "08_kinematic_world.png"
    path.parent.mkdir(exist_ok=True)
    sheet = np.vstack([np.hstack(list(pictures[::3])) for pictures in rows.values()])
    cv2.imwrite(str(path), sheet[..., ::-1])
    print(f"written: {path} (dream, liar, kinematic; every third step)")


if __name__ == "__main__":
    main()
