"""`vap-sim train-judge`: draw stills and record episodes where they are missing, train the judge, and calibrate it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vap_sim.errors import InvalidInput

if TYPE_CHECKING:
    from vap_sim.policies.judge_calibration import Calibration
    from vap_sim.policies.judge_learned import LearnedJudge

ACCURACY, ABSTENTION, LEAST = 0.99, 0.08, 0.02
"""Wanted of the moments by which it is calibrated: more than is asked of a judge elsewhere, and some doubt in any case,
because the moments of one episode err together."""


@dataclass(frozen=True)
class TrainJudge:
    """Train the learned judge. Example: vap-sim train-judge --data data/judge --run runs/judge

    What DATA lacks is made first: labelled pictures, and episodes of graded policies, played in the twin and dreamt. A
    file of stills takes about four seconds on one core, an episode two. Training stops after --minutes with a
    checkpoint, and the same command goes on from there. The judge is written to RUN/judge.safetensors whenever it
    stops.

    Attributes:
        data: Folder for pictures and episodes.
        run: Folder for checkpoints and the judge.
        stills: Files of 125 labelled pictures.
        episodes: To learn from, from seed 0 on.
        dev: Episodes to calibrate by, from seed 900,000 on.
        eyes: File of a judge that is calibrated anew and not trained: for another world, or by more episodes.
        world: World that dreams the episodes.
        weights: Other weights for a named world.
        steps: Length of the training.
        minutes: Stop after so long, with a checkpoint.
        learning_rate: Of AdamW.
        seed: Of all draws.
        threads: Of torch, on the processor.
    """

    data: Path
    run: Path
    stills: int = 60
    episodes: int = 60
    dev: int = 330
    eyes: Path | None = None
    world: str = "compact"
    weights: Path | None = None
    steps: int = 3000
    minutes: float | None = None
    learning_rate: float = 1.5e-3
    seed: int = 0
    threads: int = 1


def run(command: TrainJudge) -> Path:
    """Make what is missing, train, calibrate, and return the judge's file."""
    import torch

    from vap_sim.commands.judge_episodes import DEV_SEEDS, record_missing
    from vap_sim.policies.judge_learned import LearnedJudge

    for name in ("stills", "episodes", "dev", "steps", "threads"):
        if getattr(command, name) < 1:
            raise InvalidInput(f"--{name}", getattr(command, name), "at least 1")
    torch.set_num_threads(command.threads)
    torch.manual_seed(command.seed)
    blank, facts = _trained(command) if command.eyes is None else _given(command.eyes)
    kept = record_missing(DEV_SEEDS[: command.dev], command.data, command.world, command.weights)
    calibrations, dev = calibrated(blank, kept)
    judge = LearnedJudge(blank.network, calibrations, blank.colors, blank.model.name)
    command.run.mkdir(parents=True, exist_ok=True)
    return judge.save(command.run / "judge.safetensors", **facts, dev_episodes=len(kept), dev=dev)


def _given(eyes: Path) -> tuple[LearnedJudge, dict[str, Any]]:
    """A judge of a file, and what the training of its eyes was, as far as the file tells."""
    from vap_sim.models.checkpoint import load_tensors
    from vap_sim.policies.judge_learned import LearnedJudge

    judge, told = LearnedJudge.load(eyes), load_tensors(eyes)[1]
    return judge, {name: told[name] for name in ("step", "seed", "stills", "episodes") if name in told}


def _trained(command: TrainJudge) -> tuple[LearnedJudge, dict[str, Any]]:
    """A judge that is not calibrated yet, and what its training was."""
    from vap_sim.commands.judge_episodes import record_missing
    from vap_sim.commands.judge_questions import lessons_of_episodes, lessons_of_stills
    from vap_sim.commands.judge_stills import stills_missing
    from vap_sim.envs.scenes import COLORS
    from vap_sim.policies.judge_calibration import Calibration
    from vap_sim.policies.judge_learned import LearnedJudge
    from vap_sim.policies.judge_margins import TASKS
    from vap_sim.policies.judge_network import JudgeConfig, JudgeNet
    from vap_sim.policies.judge_training import JudgeRecipe, JudgeTraining
    from vap_sim.training.loop import LoopSettings, train

    objects, goals = lessons_of_stills(stills_missing(command.stills, command.data), command.run)
    learned = record_missing(range(command.episodes), command.data, command.world, command.weights)
    dreamt = lessons_of_episodes(learned, command.run)
    settings = LoopSettings(
        folder=command.run,
        steps=command.steps,
        minutes=command.minutes,
        learning_rate=command.learning_rate,
        warmup=100,
        cooldown=command.steps // 2,
        average=0.99,
        checkpoint_every=500,
        preview_every=command.steps,
    )
    network = JudgeNet(JudgeConfig())
    outcome = train(JudgeRecipe(network, [objects, dreamt], goals, JudgeTraining(seed=command.seed)), settings)
    network.load_state_dict(outcome.weights)
    facts = {"step": outcome.step, "seed": command.seed, "stills": command.stills, "episodes": len(learned)}
    return LearnedJudge(network, dict.fromkeys(TASKS, Calibration()), COLORS), facts


def calibrated(judge: LearnedJudge, paths: list[Path]) -> tuple[dict[str, Calibration], dict[str, Any]]:
    """A calibration for each task by the clear moments of both sources of episodes, and how it does on them."""
    import numpy as np

    from vap_sim.commands.judge_episodes import load_judged
    from vap_sim.commands.judge_questions import SOURCES, moments_in
    from vap_sim.policies.judge_calibration import calibrate
    from vap_sim.policies.judge_margins import TASKS

    scores: dict[str, list[tuple[float, bool]]] = {task: [] for task in TASKS}
    for path in paths:
        episode = load_judged(path)
        for source in SOURCES:
            here = moments_in(episode, source)
            rows = zip(judge.scores(here.evidence), here.labels, strict=True)
            scores[episode.task] += [(float(score), own.success) for score, own in rows if own.clear]
    out, report = {}, {}
    for task, pairs in scores.items():
        if not pairs:
            raise InvalidInput(f"episodes to calibrate task {task!r} by", "none", "some; raise --dev")
        logits, truth = np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs])
        own = calibrate(logits, truth, accuracy=ACCURACY, abstention=ABSTENTION, least=LEAST)
        answers = [own.answer(float(value)) for value in own.probability(logits)]
        given = [answer == true for answer, true in zip(answers, truth, strict=True) if answer is not None]
        report[task] = {"moments": len(pairs), "answered": len(given), "accuracy": float(np.mean(given))}
        out[task] = own
    return out, {**report, "calibrations": {task: asdict(item) for task, item in out.items()}}
