"""Makes the shipped starts from the twin, eight scenes a task seen by exterior_1; for a checkout with pybullet."""

from __future__ import annotations

from pathlib import Path

from vap_sim.envs.twin_env import TwinEnv

FIRST_SEED = 2_000_000
"""Beyond the seeds of recordings for training and for evaluation."""
STARTS_PER_TASK = 8
TASKS = ("reach", "push", "pick_place")


def main() -> None:
    """Write one folder a start, `<task>_<number>`, beside this file."""
    for place, task in enumerate(TASKS):
        env = TwinEnv(task=task)
        for number in range(STARTS_PER_TASK):
            env.reset(seed=FIRST_SEED + place * STARTS_PER_TASK + number)
            name = f"{task}_{number:02d}"
            env.start(name).save(Path(__file__).parent / name)
        env.close()


if __name__ == "__main__":
    main()
