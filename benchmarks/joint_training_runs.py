"""One run of the comparison of single and joint training: a motion network fed by one diet, then judged.

What is held equal: the number of updates, the first weights of a seed, and the paths of a body: in every update a joint
model sees just those that the model of that body alone sees, and as many of each other kind of its diet. So it costs
more than a single one, by as many times as it has kinds. A run that was killed goes on from its checkpoint; one that is
finished is a JSON file beside its weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import mean
from time import process_time
from typing import Any

import numpy as np
import torch
from harness import read_record, write_json
from joint_training_diets import DIETS, TAUGHT
from joint_training_judge import Exam, grade
from torch import Tensor, nn

from vap_sim.models.checkpoint import save_tensors
from vap_sim.models.compact.motion_losses import Paths, motion_loss
from vap_sim.models.compact.network import CompactConfig, MotionNet
from vap_sim.models.compact.packed import fast_cast
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.motion import MotionTraining, PathSource, Stage
from vap_sim.training.motion_films import MotionFilm

_LOGGED = 10  # losses whose mean a record keeps
_SECONDS_AN_UPDATE, _SECONDS_A_FRAME = 0.010, 0.0042
"""[s] of one core of a free machine, for each update and for each frame of a path; measured."""


@dataclass(frozen=True)
class RunSettings:
    """What all runs share.

    recordings: of a kind to learn from; views: films of each at least; judged: recordings of a kind to be judged by, of
    the seeds of `block`; steps: updates; batch: paths of each kind in an update; short, long: frames of a path, and
    `grows` the update from which they are long; learning_rate, warmup, average: of the training, whose learning rate
    falls over the last `cooldown` updates.
    """

    recordings: int = 300
    views: int = 2
    judged: int = 40
    block: str = "test"
    steps: int = 1800
    batch: int = 8
    short: int = 4
    long: int = 7
    grows: int = 1200
    learning_rate: float = 5e-4
    warmup: int = 100
    cooldown: int = 700
    average: float = 0.995

    @property
    def training(self) -> MotionTraining:
        """The recipe of one kind, but for its seed."""
        stages = (Stage(0, self.short, self.batch, 0.5), Stage(self.grows, self.long, self.batch, 0.8))
        return MotionTraining(stages=stages if self.grows else stages[1:], views=self.views)


@dataclass(frozen=True)
class Run:
    """Which run of a comparison: a diet, and the seed of first weights and batches."""

    diet: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.diet}-{self.seed}"


class JointRecipe:
    """Feeds `loop.train` with paths of several kinds at once; see `vap_sim.training.loop.Recipe`."""

    def __init__(self, films: Mapping[str, Sequence[MotionFilm]], settings: RunSettings, seed: int) -> None:
        """films: by kind, as the diet names them. Raises InvalidInput where those of a kind show no object."""
        self.network: nn.Module = first_network(seed)
        self.sources = {name: PathSource(some, settings.training) for name, some in films.items()}
        self.settings, self.training, self.seed = settings, settings.training, seed

    def describe(self) -> Mapping[str, Any]:
        """See the protocol."""
        about = {"part": "motion", "seed": self.seed, "kinds": list(self.sources), **asdict(self.settings)}
        return dict(json.loads(json.dumps(about)))

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of an update: the mean over all paths of all kinds."""
        paths, jitter = self.batch(step)
        with fast_cast("cpu", "bf16"):
            return motion_loss(self.network, paths, self.training.weights, jitter=jitter)  # type: ignore[arg-type]

    def batch(self, step: int) -> tuple[Paths, Tensor]:
        """The paths of an update and by how much they start misplaced (b, 2) [px]; those of a kind are the same in all
        diets that have it."""
        stage, parts, jitters = self.training.stage(step), [], []
        for name, source in self.sources.items():
            rng = np.random.default_rng([self.seed, list(TAUGHT).index(name), step])
            parts.append(source.draw(rng, stage.batch, stage.length))
            jitters.append(torch.from_numpy(rng.normal(0, stage.jitter, (stage.batch, 2)).astype(np.float32)))
        names = [field.name for field in fields(Paths)]
        return Paths(*(torch.cat([getattr(part, name) for part in parts]) for name in names)), torch.cat(jitters)

    def preview(self, step: int) -> Mapping[str, Tensor]:
        """Nothing to look at."""
        return {}


def first_network(seed: int) -> MotionNet:
    """An untrained motion network; the same seed gives the same weights for every diet.

    It is told by skeletons alone, as the paper's model: of what the tool would carry, a skill needs no showing."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network = MotionNet(CompactConfig())
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def run_one(
    run: Run,
    settings: RunSettings,
    films: Mapping[str, Sequence[MotionFilm]],
    exams: Mapping[str, Exam],
    folder: Path,
    *,
    minutes: float | None = None,
) -> dict[str, Any] | None:
    """Train and judge a run; None where time was up before its training ended. Raises BadFile, InvalidInput, OSError.

    films: by kind, those of its diet at least. A run that is finished is read again. One that is not goes on from its
    last checkpoint.
    """
    done = read_run(folder, run, settings)
    if done is not None:
        return done
    recipe = JointRecipe({name: films[name] for name in DIETS[run.diet]}, settings, run.seed)
    own, began = folder / "training" / run.name, process_time()
    outcome = train(
        recipe,
        LoopSettings(
            own, settings.steps, minutes, settings.learning_rate, min(settings.warmup, settings.steps),
            min(settings.cooldown, settings.steps), average=settings.average, checkpoint_every=100,
            log_every=min(20, settings.steps), preview_every=settings.steps + 1,
        ),
    )  # fmt: skip
    if outcome.step < settings.steps:
        return None
    trained, began = process_time() - began, process_time()
    recipe.network.load_state_dict(outcome.weights)
    marks = {name: grade(recipe.network.eval(), exam) for name, exam in exams.items()}  # type: ignore[arg-type]
    save_tensors(weights_path(folder, run), outcome.weights, {"run": asdict(run)})
    record = {
        "run": asdict(run),
        "settings": asdict(settings),
        "marks": marks,
        "loss": mean(list(outcome.losses.values())[-_LOGGED:]),
        "seconds": {"training": outcome.seconds, "judging": process_time() - began, "cpu_of_last_call": trained},
        "films": {name: len(films[name]) for name in DIETS[run.diet]},
    }
    write_json(record_path(folder, run), record)
    shutil.rmtree(own)  # its checkpoint has served
    return record


def record_path(folder: Path, run: Run) -> Path:
    """Where a finished run's record is."""
    return folder / "runs" / f"{run.name}.json"


def weights_path(folder: Path, run: Run) -> Path:
    """Where a finished run's motion network is."""
    return folder / "runs" / f"{run.name}.safetensors"


def read_run(folder: Path, run: Run, settings: RunSettings) -> dict[str, Any] | None:
    """The record of a finished run, or None. Raises BadFile for a damaged one or one of other settings."""
    return read_record(record_path(folder, run), run, asdict(settings))


def seconds_of(run: Run, settings: RunSettings) -> float:
    """About how long a run trains on one core of a free machine [s]."""
    early = min(settings.grows, settings.steps)
    frames = early * settings.short + (settings.steps - early) * settings.long
    paths = settings.batch * len(DIETS[run.diet])
    return settings.steps * _SECONDS_AN_UPDATE + paths * frames * _SECONDS_A_FRAME
