"""One run of the comparison of single and joint training: a contact network fed by one diet, then judged.

What is held equal: the number of updates, the first weights of a seed, and the things of a body: in every update a
joint model sees just those that the model of that body alone sees, and as many of each other kind of its diet. So it
costs more than a single one, by as many times as it has kinds. A run that was killed goes on from its checkpoint; one
that is finished is a JSON file beside its weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean
from time import process_time
from typing import Any

import numpy as np
import torch
from harness import read_record, write_json
from joint_training_diets import DIETS, TAUGHT
from joint_training_judge import Exam, grade, uncarried
from torch import Tensor, nn

from vap_sim.models.checkpoint import save_tensors
from vap_sim.models.compact.contact import ContactNet
from vap_sim.training.contact import ContactSource, ContactTraining, Touched, contact_loss
from vap_sim.training.contact_films import ContactFilm
from vap_sim.training.loop import LoopSettings, train

_LOGGED = 10  # losses whose mean a record keeps
_SECONDS_A_KIND, _SECONDS_A_THING = 0.003, 0.00018
"""[s] of one core of a free machine, for every frame in which a kind's things are followed, and for each of them."""


@dataclass(frozen=True)
class RunSettings:
    """What all runs share.

    recordings: of a kind to learn from; views: films of each at least; judged: recordings of a kind to be judged by, of
    the seeds of `block`; steps: updates; batch: things of each kind in an update; short, long: frames for which they
    are followed, and `grows` the update from which it is long; learning_rate, warmup, average: of the training, whose
    learning rate falls over the last `cooldown` updates.
    """

    recordings: int = 150
    views: int = 2
    judged: int = 30
    block: str = "test"
    steps: int = 1200
    batch: int = 32
    short: int = 4
    long: int = 8
    grows: int = 900
    learning_rate: float = 2e-3
    warmup: int = 100
    cooldown: int = 540
    average: float = 0.995


@dataclass(frozen=True)
class Run:
    """Which run of a comparison: a diet, and the seed of first weights and batches."""

    diet: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.diet}-{self.seed}"


class JointRecipe:
    """Feeds `loop.train` with things of several kinds at once; see `vap_sim.training.loop.Recipe`."""

    def __init__(self, films: Mapping[str, Sequence[ContactFilm]], settings: RunSettings, seed: int) -> None:
        """films: by kind, as the diet names them. Raises InvalidInput where those of a kind show no object."""
        self.network: nn.Module = first_network(seed)
        self.training = ContactTraining(seed=seed, batch=settings.batch)
        self.sources = {name: ContactSource(some, self.training) for name, some in films.items()}
        self.settings = settings

    def describe(self) -> Mapping[str, Any]:
        """See the protocol."""
        own = {"part": "contact", "kinds": list(self.sources), **asdict(self.training), **asdict(self.settings)}
        return dict(json.loads(json.dumps(own)))

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of an update: the mean over all kinds."""
        parts = [contact_loss(self.network, *batch) for batch in self.batches(step).values()]  # type: ignore[arg-type]
        terms = {name: torch.stack([own[name] for _, own in parts]).mean() for name in parts[0][1]}
        return torch.stack([total for total, _ in parts]).mean(), terms

    def batches(self, step: int) -> dict[str, tuple[Touched, Tensor]]:
        """The things of every kind in an update and by how much they start misplaced (b, 3) [m]; those of a kind are
        the same in all diets that have it."""
        length = self.settings.short if step < self.settings.grows else self.settings.long
        found = {}
        for name, source in self.sources.items():
            rng = np.random.default_rng([self.training.seed, list(TAUGHT).index(name), step])
            batch = uncarried(source.draw(rng, self.training.batch, length))
            jitter = rng.normal(0, self.training.jitter, (self.training.batch, 3)).astype(np.float32)
            found[name] = batch, torch.from_numpy(jitter)
        return found

    def preview(self, step: int) -> Mapping[str, Tensor]:
        """Nothing to look at."""
        return {}


def first_network(seed: int) -> ContactNet:
    """An untrained contact network; the same seed gives the same weights for every diet."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return ContactNet()


def run_one(
    run: Run,
    settings: RunSettings,
    films: Mapping[str, Sequence[ContactFilm]],
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
    """Where a finished run's contact network is."""
    return folder / "runs" / f"{run.name}.safetensors"


def read_run(folder: Path, run: Run, settings: RunSettings) -> dict[str, Any] | None:
    """The record of a finished run, or None. Raises BadFile for a damaged one or one of other settings."""
    return read_record(record_path(folder, run), run, asdict(settings))


def seconds_of(run: Run, settings: RunSettings) -> float:
    """About how long a run trains on one core of a free machine [s]."""
    early = min(settings.grows, settings.steps)
    frames = early * (settings.short - 1) + (settings.steps - early) * (settings.long - 1)
    return len(DIETS[run.diet]) * frames * (_SECONDS_A_KIND + settings.batch * _SECONDS_A_THING)
