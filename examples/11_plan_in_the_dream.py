"""Plan in the dream, act in the twin: pushes are tried in imagination and the best is carried out.

Writes out/11_plan_in_the_dream.png.
"""

from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.imagination import Imagination
from vap_sim.policies.plan_tasks import ActionSequence, PushOntoGoal, reach_object
from vap_sim.policies.planners import CEM, ICEM
from vap_sim.policies.planning_policy import PlanningPolicy
from vap_sim.policies.policy import as_batch, brief

SEED = 1_000_003  # seeds from 1,000,000 on are kept for evaluation: no model was trained on them


def act(env: Any, policy: PlanningPolicy, seed: int, longest: int) -> tuple[list[np.ndarray], dict[str, Any]]:
    """One episode: its pictures and the last info."""
    observation, info = env.reset(seed=seed)
    told = brief(policy, info)
    carry, pictures = told.reset(1, seed=0), [observation["image"]]
    for _ in range(longest):
        action, carry = told.act(as_batch(observation), carry)
        if carry["step"][0] == 1 and policy.replan_every is None:
            promise = float(carry["cost"][0])
            print(f"a plan of {carry['length'][0]} actions; imagined, it ends {100 * promise:.1f} cm from the goal")
        observation, _, done, _, info = env.step(action[0])
        pictures.append(observation["image"])
        if done:
            break
    return pictures, info


def main() -> None:
    imagination = Imagination()  # the compact world behind the robot, control and rates that environments have

    # A push is three numbers: direction, how far beside the object's middle, how far through. CEM tries a few in the
    # dream of the picture that the twin shows, and looks where the object ends, in the imagined picture.
    twin: Any = gym.make("VAPTwin-DROID-v0", task="push").unwrapped
    planner = CEM(candidates=8, elites=2, iterations=2, enough=0.02)
    pictures, info = act(twin, PlanningPolicy(PushOntoGoal(), planner, imagination), SEED, longest=60)
    outcome = "done" if info["success"] else "not done"
    print(
        f"{info['instruction']}: {outcome} after {info['steps']} actions, {100 * info['distance']:.1f} cm from the goal"
    )
    twin.close()

    # Action sequences as they are can be searched too. This goal is about the tool alone, so no picture is imagined;
    # a new plan is made every second action, from what is left of the old one.
    twin = gym.make("VAPTwin-DROID-v0", task="reach").unwrapped
    reach = ActionSequence(8, reach_object(), steps=4, hold=2, gripper=0.0, spread=0.15)
    search = ICEM(candidates=96, elites=10, iterations=7, color=1.0, decay=1.1)
    _, info = act(twin, PlanningPolicy(reach, search, imagination, replan_every=2), SEED, longest=40)
    outcome = "done" if info["success"] else "not done"
    print(f"{info['instruction']}: {outcome} after {info['steps']} actions, {100 * info['distance']:.1f} cm away")
    twin.close()

    path = Path("out") / "11_plan_in_the_dream.png"
    path.parent.mkdir(exist_ok=True)
    shown = [pictures[index] for index in np.linspace(0, len(pictures) - 1, 6).astype(int)]
    cv2.imwrite(str(path), np.hstack(shown)[..., ::-1])
    print(f"written: {path} (the twin, from first to last)")


if __name__ == "__main__":
    main()
