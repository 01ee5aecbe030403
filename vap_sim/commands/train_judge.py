"""`vap-sim train-judge`: record episodes for the judge where they are missing, train it, and calibrate it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vap_sim.errors import InvalidInput

if TYPE_CHECKING:
    from vap_sim.commands.judge_questions import Question
    from vap_sim.policies.judge_calibration import Calibration
    from vap_sim.policies.judge_network import JudgeNet
    from vap_sim.policies.judge_training import Questions

ACCURACY, ABSTENTION, LEAST = 0.97, 0.08, 0.06
"""Wanted of the moments by which it is calibrated: a little more than is asked of a judge elsewhere, and some doubt in
any case, because the moments of one episode err together."""


@dataclass(frozen=True)
class TrainJudge:
    """Train the learned judge. Example: vap-sim train-judge --data data/judge --run runs/judge

    Episodes that DATA lacks are recorded in the twin and dreamt by `world`: `episodes` to train on, from seed 0, and
    `dev` to calibrate by, from seed 800,000; about four seconds each on one core. Training stops after `minutes` with a
    checkpoint, and the same command goes on from there. The judge is written to RUN/judge.safetensors whenever it
    stops."""

    data: Path
    run: Path
    episodes: int = 300
    dev: int = 100
    world: str = "compact"
    weights: Path | None = None
    steps: int = 3000
    minutes: float | None = None
    learning_rate: float = 1.5e-3
    seed: int = 0
    threads: int = 1


def run(command: TrainJudge) -> Path:
    """Record what is missing, train, calibrate, and return the judge's file."""
    import torch

    from vap_sim.commands.judge_questions import load_questions
    from vap_sim.envs.scenes import COLORS
    from vap_sim.policies.judge_learned import LearnedJudge
    from vap_sim.policies.judge_network import JudgeConfig, JudgeNet
    from vap_sim.policies.judge_training import JudgeRecipe, JudgeTraining
    from vap_sim.training.loop import LoopSettings, train

    for name in ("episodes", "dev", "steps", "threads"):
        if getattr(command, name) < 1:
            raise InvalidInput(f"--{name}", getattr(command, name), "at least 1")
    torch.set_num_threads(command.threads)
    torch.manual_seed(command.seed)
    learned, kept = _recorded(command)
    questions, _ = load_questions(learned, every=True)
    asked, told = load_questions(kept, every=False)
    settings = LoopSettings(
        folder=command.run,
        steps=command.steps,
        minutes=command.minutes,
        learning_rate=command.learning_rate,
        warmup=100,
        cooldown=command.steps // 3,
        average=0.99,
        checkpoint_every=500,
        preview_every=command.steps,
    )
    network = JudgeNet(JudgeConfig())
    outcome = train(JudgeRecipe(network, questions, JudgeTraining(seed=command.seed)), settings)
    network.load_state_dict(outcome.weights)
    calibrations, dev = calibrated(network, asked, told)
    judge = LearnedJudge(network, calibrations, COLORS)
    facts = {"step": outcome.step, "seed": command.seed, "episodes": len(learned), "dev_episodes": len(kept)}
    return judge.save(command.run / "judge.safetensors", **facts, dev=dev)


def calibrated(
    network: JudgeNet, questions: Questions, told: list[Question]
) -> tuple[dict[str, Calibration], dict[str, Any]]:
    """A calibration for each task by clear moments of both sources, and how it does on them."""
    import numpy as np

    from vap_sim.policies.judge_calibration import calibrate
    from vap_sim.policies.judge_network import TASKS

    logits = scores(network, questions)
    out, report = {}, {}
    for task in TASKS:
        rows = np.array([row for row, item in enumerate(told) if item.task == task and item.clear])
        if not len(rows):
            raise InvalidInput(f"episodes to calibrate task {task!r} by", "none", "some; raise --dev")
        truth = np.array([told[row].truth for row in rows])
        own = calibrate(logits[rows], truth, accuracy=ACCURACY, abstention=ABSTENTION, least=LEAST)
        answers = [own.answer(float(value)) for value in own.probability(logits[rows])]
        given = [answer == true for answer, true in zip(answers, truth, strict=True) if answer is not None]
        report[task] = {"moments": len(rows), "answered": len(given), "accuracy": float(np.mean(given))}
        out[task] = own
    return out, {**report, "calibrations": {task: asdict(item) for task, item in out.items()}}


def scores(network: JudgeNet, questions: Questions) -> Any:
    """Scores (N,) float64 of all questions before calibration."""
    import numpy as np
    import torch

    from vap_sim.policies.judge_training import as_seen

    network.eval()
    with torch.inference_mode():
        parts = torch.arange(len(questions)).split(256)
        return np.concatenate([network(as_seen(questions.rows(part).asked)).logit.double().numpy() for part in parts])


def _recorded(command: TrainJudge) -> tuple[list[Path], list[Path]]:
    """The files to train on and those to calibrate by; what is missing is recorded."""
    from vap_sim.commands.judge_episodes import DEV_SEEDS, record_missing

    learned = range(command.episodes)
    kept = DEV_SEEDS[: command.dev]
    return tuple(  # type: ignore[return-value]
        record_missing(seeds, command.data, command.world, command.weights) for seeds in (learned, kept)
    )
