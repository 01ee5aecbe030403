"""Train in the dream: teachers fail and succeed there, the successes are cloned; and PPO trains there by reward.

With more of both a policy comes out: python examples/12_train_in_the_dream.py EPISODES UPDATES.
Writes out/12_train_in_the_dream.png.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np

import vap_sim  # noqa: F401 - registers the environments
from vap_sim.envs.start import load_start, shipped_starts
from vap_sim.policies.cloning import CloneTraining
from vap_sim.policies.context import PolicyContext
from vap_sim.policies.evaluate import Arena
from vap_sim.policies.improvement import improve
from vap_sim.policies.judge_learned import LearnedJudge
from vap_sim.policies.judge_reward import JudgeReward
from vap_sim.policies.policy import Policy, as_batch, brief
from vap_sim.policies.practice import Practice
from vap_sim.policies.reach_reward import ReachReward
from vap_sim.policies.registry import load_policy
from vap_sim.training.loop import LoopSettings

TASK, DREAM = "reach", "VAPWorld-DROID-v0"
ONE_VIEW = {"views": ("exterior_1",)}  # neither policy looks at the wrist's picture
STARTS = tuple(load_start(name) for name in shipped_starts(TASK))


def clone_successes(folder: Path, episodes: int, updates: int) -> Policy:
    """Filtered behaviour cloning: every second block of episodes goes for the wrong object, and the judge sees it."""
    teachers = ("scripted+miss=0.01", "scripted+wrong_object")
    where = {"arena": Arena(DREAM, ONE_VIEW), "task": TASK, "starts": STARTS, "judge": LearnedJudge.load()}
    practice = Practice(teachers=teachers, seeds=range(episodes), steps=14, rows=4, **where)
    settings = LoopSettings(folder / "run", updates, learning_rate=1e-3, warmup=min(20, updates), average=0.98)
    out, context = folder / "reach.safetensors", PolicyContext(task=TASK)
    (played,) = improve(practice, context, out, settings, training=CloneTraining(batch=16), width=16)
    print(f"{played.successes} of {played.episodes} dreamt episodes succeeded; {played.steps} steps of them are cloned")
    return load_policy(f"bc@{out}", context)


def act(policy: Policy, steps: int) -> tuple[list[np.ndarray], float, float]:
    """One dream of the policy: its pictures, and how far the tool is from the object at first and at its nearest."""
    reward = ReachReward(JudgeReward(LearnedJudge.load(), TASK, every=steps))
    env: Any = gym.make(DREAM, task=TASK, judge=reward, start=STARTS[1], **ONE_VIEW)
    seen, info = env.reset(seed=0)
    told = brief(policy, info)
    carry, pictures, left = told.reset(1, seed=0), [seen["image"]], []
    for _ in range(steps):
        action, carry = told.act(as_batch(seen), carry)
        seen, _, _, _, info = env.step(action[0])
        pictures.append(seen["image"])
        left.append(info["distance_seen"])
    env.close()
    return pictures, left[0], min(left)


def train_by_reward(folder: Path, steps: int) -> Policy:
    """PPO in several dreams at once. It is paid for every centimetre nearer; the ZIP file can be evaluated."""
    from stable_baselines3 import PPO

    from vap_sim.policies.sb3_env import DreamVecEnv

    reward = ReachReward(JudgeReward(LearnedJudge.load(), TASK, every=2))
    keys = ("joint_position", "gripper_position")
    env = DreamVecEnv(DREAM, 4, keys=keys, task=TASK, reward=reward, max_episode_steps=8, **ONE_VIEW)
    model = PPO("MultiInputPolicy", env, n_steps=8, batch_size=32, seed=0, device="cpu").learn(steps)
    returns = [episode["r"] for episode in model.ep_info_buffer]
    print(f"PPO: {model.num_timesteps} dreamt steps, {len(returns)} episodes of mean return {np.mean(returns):.2f}")
    model.save(folder / "reach.zip")
    env.close()
    return load_policy(f"sb3@{folder / 'reach.zip'}", trust=True)  # such a file can run code: trust only your own


def main() -> None:
    episodes, updates = (int(value) for value in (sys.argv[1:3] or (16, 40)))
    with tempfile.TemporaryDirectory() as folder:
        films = []
        for name, policy in (
            ("clone", clone_successes(Path(folder), episodes, updates)),
            ("PPO", train_by_reward(Path(folder), 64)),
        ):
            pictures, begun, nearest = act(policy, 8)
            print(f"{name}: {100 * begun:.0f} cm from the place over the object, at its nearest {100 * nearest:.0f} cm")
            films.append(np.hstack(pictures[::2]))
    path = Path("out") / "12_train_in_the_dream.png"
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), np.vstack(films)[..., ::-1])
    print(f"written: {path} (the clone's dream above, PPO's below)")


if __name__ == "__main__":
    main()
