"""`vap-sim clone`: train a small policy by behaviour cloning, from recordings or from the scripted expert of a task."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vap_sim.errors import InvalidInput

if TYPE_CHECKING:
    from vap_sim.policies.context import PolicyContext
    from vap_sim.policies.demonstrations import Demonstrations


@dataclass(frozen=True)
class Clone:
    """Clone what was demonstrated. Example: vap-sim clone --data data/train --out runs/mine.safetensors

    Demonstrations are the recorded twin episodes of --data or, without it, those of the scripted expert of --task,
    shown in the twin with its actions disturbed, so that ways back are learned too. Training goes on from the
    checkpoints beside the file, in OUT.run. The file is used as policy bc@OUT.

    Attributes:
        out: File of the policy to write.
        data: Folder of `vap-sim record`.
        task: Task whose expert is to be cloned; either this or --data.
        episodes: How many the expert shows.
        noise: How much its actions are disturbed, as a share of half their range.
        steps: Length of the training.
        minutes: Stop after so long, with a checkpoint.
        size: Side of the pictures that the policy sees [px]: 64, 96 or 128.
        chunk: Actions that it foretells at once.
        seed: Of all draws.
        robot: Name of the robot that acts.
        control: What the numbers of an action mean, see environments.
        control_hz: Actions a second.
        threads: Of torch, on the processor.
    """

    out: Path
    data: Path | None = None
    task: str | None = None
    episodes: int = 300
    noise: float = 0.01
    steps: int = 4000
    minutes: float | None = None
    size: int = 64
    chunk: int = 4
    seed: int = 0
    robot: str = "panda_robotiq"
    control: str = "joint_velocity"
    control_hz: float = 5.0
    threads: int = 2


def run(command: Clone) -> Path:
    """Train, and return the policy's file."""
    import torch

    from vap_sim.policies.cloning import CloneTraining, clone
    from vap_sim.policies.context import PolicyContext
    from vap_sim.policies.demonstrations import load_demonstrations
    from vap_sim.training.loop import LoopSettings

    if (command.data is None) == (command.task is None):
        raise InvalidInput("--data and --task", (command.data, command.task), "one of the two")
    if command.threads < 1 or command.steps < 1:
        raise InvalidInput("--threads and --steps", (command.threads, command.steps), "1 or more of each")
    torch.set_num_threads(command.threads)
    context = PolicyContext(command.robot, command.control, command.control_hz, command.task)
    settings = LoopSettings(
        command.out.with_name(command.out.name + ".run"),
        command.steps,
        command.minutes,
        learning_rate=1e-3,
        warmup=min(100, command.steps),
        cooldown=command.steps // 2,
        average=0.995,
    )
    if command.data is not None:
        data = load_demonstrations(command.data, context, command.size)
    else:
        data = _shown(command, context)
    clone(data, context, command.out, settings, CloneTraining(command.seed), chunk=command.chunk)
    return command.out


def _shown(command: Clone, context: PolicyContext) -> Demonstrations:
    """The expert at work in the twin, from the seeds that recordings for training use."""
    from contextlib import closing

    from vap_sim.envs.stations import get_station
    from vap_sim.envs.twin_env import TwinEnv
    from vap_sim.policies.demonstrations import collect
    from vap_sim.policies.registry import load_policy

    assert command.task is not None, "run sees to it"
    expert = load_policy(f"scripted+noise={command.noise}", context)
    steps = round(12 * command.control_hz)  # [s] that the longest plan takes
    with closing(
        TwinEnv(
            command.robot, command.task, command.control, command.control_hz, video_hz=command.control_hz,
            views=get_station("DROID").views[:1],
        )
    ) as env:  # fmt: skip
        return collect(env, expert, command.episodes, seed=command.seed, steps=steps, size=command.size)
