"""`vap-sim improve`: clone what succeeded, in a dream or in its twin, round after round."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vap_sim.commands.outcome import Outcome
from vap_sim.errors import InvalidInput, UnknownName

if TYPE_CHECKING:
    from vap_sim.envs.start import Start
    from vap_sim.policies.evaluate import Arena
    from vap_sim.policies.judge import Judge

JUDGES = ("learned", "none")
_HELD_OUT = 1_000_000  # seeds from here on are kept for evaluation


@dataclass(frozen=True)
class Improve:
    """Learn from what succeeds. Example: vap-sim improve --task push --out runs/push.safetensors --rounds 2

    In each round episodes are played, and those that succeed are cloned. The first round is played by the teachers, in
    turns, who may fail most of the time; each later one by the policy of the round before, its actions varied. To
    improve a policy of yours, name it as the only teacher (bc@FILE+noise=0.02), and what it was trained on in --data.
    Everything finished is kept in OUT.run, and the same command goes on where it was stopped. The file is used as
    policy bc@OUT.

    Attributes:
        task: What is practised.
        out: File of the policy to write.
        teachers: Policies of the first round, by name.
        env: Gymnasium id of the environment to practise in.
        reference: Gymnasium id of what draws the starts; with None those that ship are used.
        judge: Who says what succeeded: learned in a dream; none in the twin, whose own truth does.
        rounds: Of practising and cloning.
        episodes: Of a round.
        explore: Variant that changes the actions of later rounds.
        data: Folder of demonstrations that are cloned as well.
        world: Name or weights file of the world that dreams.
        seed: The first one; seeds from 1,000,000 on are kept for evaluation.
        steps: Actions of an episode at most.
        updates: Of the network in a round.
        size: Side of the pictures that the policy sees [px]: 64, 96 or 128.
        chunk: Actions that it foretells at once.
        rows: Episodes at once in a dream.
        workers: Blocks of --rows episodes at once.
        threads: Of torch, on the processor.
    """

    task: str
    out: Path
    teachers: tuple[str, ...] = ("scripted+miss=0.02+noise=0.02", "scripted+miss=0.04+noise=0.02")
    env: str = "VAPWorld-DROID-v0"
    reference: str | None = "VAPTwin-DROID-v0"
    judge: str = "learned"
    rounds: int = 1
    episodes: int = 300
    explore: str = "noise=0.02"
    data: Path | None = None
    world: str | None = None
    seed: int = 0
    steps: int = 40
    updates: int = 4000
    size: int = 64
    chunk: int = 4
    rows: int = 16
    workers: int = 1
    threads: int = 2


def run(command: Improve) -> Outcome:
    """Practise and clone, and return what each round brought.

    Raises what `policies.improvement.improve` raises, InvalidInput and UnknownName for options, OSError.
    """
    import torch

    from vap_sim.policies.cloning import CloneTraining
    from vap_sim.policies.context import PolicyContext
    from vap_sim.policies.demonstrations import load_demonstrations
    from vap_sim.policies.improvement import improve
    from vap_sim.policies.practice import Practice
    from vap_sim.training.loop import LoopSettings

    last = command.seed + command.rounds * command.episodes
    if min(command.episodes, command.rounds, command.updates, command.threads) < 1 or command.seed < 0:
        given = (command.episodes, command.rounds, command.updates, command.threads, command.seed)
        raise InvalidInput(
            "--episodes, --rounds, --updates, --threads, --seed", given, "at least 1, the seed 0 or more"
        )
    if last > _HELD_OUT:
        raise InvalidInput("--seed", f"{command.seed}, up to {last - 1}", f"seeds below {_HELD_OUT:,} to train on")
    torch.set_num_threads(command.threads)
    judge, about = _judge(command.judge)
    practice = Practice(
        arena=_arena(command),
        task=command.task,
        teachers=command.teachers,
        seeds=range(command.seed, command.seed + command.episodes),
        reference=_reference(command),
        starts=_shipped(command.task) if command.reference is None and judge is not None else (),
        judge=judge,
        steps=command.steps,
        rows=command.rows,
        size=command.size,
        about=about,
    )
    context = PolicyContext(task=command.task)
    settings = LoopSettings(
        command.out.with_name(command.out.name + ".run"),
        command.updates,
        learning_rate=1e-3,
        warmup=min(100, command.updates),
        cooldown=command.updates // 2,
        average=0.995,
    )
    rounds = improve(
        practice,
        context,
        command.out,
        settings,
        rounds=command.rounds,
        explore=command.explore,
        data=None if command.data is None else load_demonstrations(command.data, context, command.size),
        training=CloneTraining(),
        workers=command.workers,
        chunk=command.chunk,
    )
    lines = [
        f"round {number}: {one.successes} of {one.episodes} episodes succeeded; cloned {one.steps} steps"
        for number, one in enumerate(rounds, 1)
    ]
    told = "\n".join([*lines, f"written: {command.out}"])
    return Outcome(told, {"rounds": rounds, "written": [command.out]})


def _arena(command: Improve) -> Arena:
    """The environment to practise in, and which weights it dreams with."""
    import gymnasium

    import vap_sim  # noqa: F401 - registers the environments
    from vap_sim.envs.view_choice import first_view
    from vap_sim.policies.evaluate import Arena

    options: dict[str, Any] = {**first_view(command.env), **({} if command.world is None else {"world": command.world})}
    env = gymnasium.make(command.env, **options)
    spec = getattr(env.unwrapped, "world_spec", None)
    env.close()
    about = {} if spec is None else {"world": spec.name, "fingerprint": spec.fingerprint}
    return Arena(command.env, options, about, at_starts=command.reference != command.env)


def _reference(command: Improve) -> Arena | None:
    """The environment that draws the starts."""
    from vap_sim.envs.view_choice import first_view
    from vap_sim.policies.evaluate import Arena

    if command.reference is None:
        return None
    return Arena(command.reference, first_view(command.reference), at_starts=False)


def _shipped(task: str) -> tuple[Start, ...]:
    """The starts that ship for a task."""
    from vap_sim.envs.start import load_start, shipped_starts

    return tuple(load_start(name) for name in shipped_starts(task))


def _judge(name: str) -> tuple[Judge | None, dict[str, str]]:
    """The judge, and what tells it from others."""
    if name not in JUDGES:
        raise UnknownName("judge", name, JUDGES)
    if name == "none":
        return None, {}
    from vap_sim.policies.judge_learned import WEIGHTS, LearnedJudge

    return LearnedJudge.load(), {"judge": hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()[:16]}
