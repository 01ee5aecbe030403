"""One run of the comparison of demonstrations: a tiny CogVideoX that is shown an action, or not, and then judged.

For every seed a model without demonstrations is trained first, on films of which half have a caption that names the
action. Each system then learns, on that model frozen, to tell it what a demonstration shows; no caption names it. A
run that was killed goes on from its checkpoint, and one that is finished is a JSON file beside a few of its dreams.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import mean
from time import monotonic, perf_counter
from types import MappingProxyType
from typing import Any

import torch
from harness import read_record, write_json
from reference_video_films import ACTIONS, demonstration, labels_of, paired_set, partners, plain_set, told
from reference_video_judge import Judge
from reference_video_settings import RunSettings
from reference_video_systems import BASE, LEARNED, lessons, system_for
from torch import Tensor

from vap_sim.models.checkpoint import fill, load_tensors, save_tensors
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.config import build_transformer, parameter_count
from vap_sim.models.cogvideox.parts import Parts
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
from vap_sim.models.cogvideox.settings import Settings
from vap_sim.models.cogvideox.world import CogVideoXWorld
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt
from vap_sim.training.clips import Clip
from vap_sim.training.diffusion import DiffusionRecipe
from vap_sim.training.flexiact import FlexiActRecipe
from vap_sim.training.loop import train
from vap_sim.training.motion_contrast import ContrastTraining, MotionContrast
from vap_sim.training.parallel import settle
from vap_sim.training.reference_footage import Footage
from vap_sim.training.reference_recipe import ReferenceRecipe

DREAMS = "dreams"
TEMPORAL = 1.0
"""Weight of the second term of FlexiAct's loss, as published."""
LOGGED = 10
"""The loss of a record is the mean of so many of the last that were logged."""
ROWS = 24
"""Clips that are dreamt at once."""
TRIALS: Mapping[str, tuple[int, bool]] = MappingProxyType(
    {"right": (0, False), "wrong": (3, False), "against": (3, True)}
)
"""How much later than the film's own the demonstrated action comes, and whether the caption names the film's own."""


@dataclass(frozen=True)
class Run:
    """Which run: its system, `BASE` for the model without demonstrations, and the seed of weights and batches."""

    system: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.system}_{self.seed}"


@dataclass(frozen=True, eq=False)
class Trained:
    """losses: by step, of a run's last training; seconds: of training, over all its parts."""

    backbone: Backbone
    system: Any
    losses: Mapping[int, float]
    seconds: float


@dataclass(frozen=True, eq=False)
class Stage:
    """What all runs stand on: films to learn from, the same as clips, held-out films, and the judge."""

    films: Sequence[Footage]
    clips: Sequence[Clip]
    held: Sequence[Footage]
    judge: Judge
    settings: RunSettings
    folder: Path


def run_one(run: Run, stage: Stage, *, minutes: float | None = None) -> dict[str, Any] | None:
    """Train and judge a run that is not finished; None where time was up before its training ended.

    Raises BadFile, InvalidInput, OSError.
    """
    done = read_run(stage.folder, run, stage.settings)
    if done is not None:
        return done
    trained = (_base if run.system == BASE else _system)(run, stage, minutes)
    if trained is None:
        return None
    began = perf_counter()
    labels = labels_of(stage.held)
    films: dict[str, Tensor] = {}
    found: dict[str, Any] = {}
    for name, (shift, named) in TRIALS.items():
        films[name] = dream(trained, run, stage, shift, named)
        seen, asked = stage.judge(films[name]), (labels + shift) % len(ACTIONS)
        found[name] = {
            "asked": seen.accuracy(asked),
            "own": seen.accuracy(labels),
            "confusion": seen.confusion(asked),
        }
    if trained.system is not None:
        save_tensors(_weights_file(stage.folder, run), trained.system.state_dict(), {"run": asdict(run)})
    kept = on_sheet(stage.held)
    save_tensors(stage.folder / f"{run.name}.safetensors", {name: film[kept] for name, film in films.items()}, {})
    record = {
        "run": asdict(run),
        "settings": stage.settings.of(run.system),
        "found": found,
        "parameters": {
            "model": parameter_count(trained.backbone),
            "system": 0 if trained.system is None else parameter_count(trained.system),
        },
        "loss": mean(list(trained.losses.values())[-LOGGED:]),
        "seconds": {"training": trained.seconds, "judging": perf_counter() - began},
        "films": len(stage.films),
        "held": len(stage.held),
    }
    write_json(stage.folder / f"{run.name}.json", record)
    shutil.rmtree(stage.folder / "training" / run.name)  # its checkpoints have served
    return record


def read_run(folder: Path, run: Run, settings: RunSettings) -> dict[str, Any] | None:
    """The record of a finished run, or None. Raises BadFile for a damaged one or one of other settings."""
    return read_record(folder / f"{run.name}.json", run, settings.of(run.system))


def base_file(folder: Path, seed: int) -> Path:
    """Where the weights of the model without demonstrations are."""
    return _weights_file(folder, Run(BASE, seed))


def _weights_file(folder: Path, run: Run) -> Path:
    return folder / f"{run.name}-weights.safetensors"


def dream(trained: Trained, run: Run, stage: Stage, shift: int = 0, named: bool = False) -> Tensor:
    """A dream of every held-out film from its first frame: (n, T, H, W, 3) uint8, of which frame 0 is given.

    shift: how much later the demonstrated action comes than the film's own; named: the caption names the film's own.
    """
    settings, held, system = stage.settings, stage.held, trained.system
    parts = Parts(
        trained.backbone,
        TinyCodec(settings.channels),
        settings.text,
        Schedule.of(PUBLISHED),
        Settings(
            mode="chunk", chunk=settings.frames, steps=settings.denoising, rows_at_once=ROWS,
            control_guidance=1.0 if system is None else settings.guidance,
        ),
        (settings.side, settings.side),
        () if system is None else (system,),
    )  # fmt: skip
    world = CogVideoXWorld(parts, profile="text")
    shown = [some[0] for some in partners(held, 1, shift=shift)]
    made: dict[int, Tensor] = {}
    for rows in _groups(run, held, shown):
        starts = torch.stack([held[row].frames[0] for row in rows])
        prompt = _prompt([held[row] for row in rows], [held[shown[row]] for row in rows], run, named)
        state = world.encode(starts[:, None], prompt.between(0, 1), rows)
        frames = world.step(state, prompt.between(1, settings.frames))[1][:, 0]
        made |= {row: torch.cat([starts[k : k + 1], frames[k]]) for k, row in enumerate(rows)}
    world.release()
    return torch.stack([made[row] for row in range(len(held))])


def _groups(run: Run, held: Sequence[Footage], shown: Sequence[int]) -> list[list[int]]:
    """Rows that are dreamt together: learned actions are named for all rows of a prompt."""
    keys = [held[row].label if run.system in LEARNED else "" for row in shown]
    found = []
    for key in dict.fromkeys(keys):
        rows = [row for row, own in enumerate(keys) if own == key]
        found += [rows[first : first + ROWS] for first in range(0, len(rows), ROWS)]
    return found


def _prompt(films: Sequence[Footage], shown: Sequence[Footage], run: Run, named: bool) -> VisualPrompt:
    black = torch.zeros(len(films), 1, *films[0].frames.shape, dtype=torch.uint8)
    prompt = VisualPrompt(black, text=tuple(told(film) if named else film.caption for film in films))
    if run.system == BASE:
        return prompt
    if run.system in LEARNED:
        return replace(prompt, motion=(shown[0].label,))
    clips = [demonstration(film) for film in shown]
    captions = tuple(text for clip in clips for text in clip.text or ())
    return replace(prompt, reference=ReferenceClip(torch.cat([clip.frames for clip in clips]), captions))


def _base(run: Run, stage: Stage, minutes: float | None) -> Trained | None:
    """The model without demonstrations, trained as a whole."""
    settings, codec = stage.settings, TinyCodec(stage.settings.channels)
    backbone = Backbone(build_transformer(settings.config, seed=run.seed).train())
    recipe = DiffusionRecipe(
        backbone,
        None,
        codec,
        settings.text,
        Schedule.of(PUBLISHED),
        [plain_set(stage.films, stage.clips)],
        settings.training(run.seed),
    )
    own = stage.folder / "training" / run.name
    outcome = train(recipe, settings.loop(own, settings.steps, minutes))
    if outcome.step < settings.steps:
        return None
    settle(recipe.denoiser, outcome.weights)
    save_tensors(base_file(stage.folder, run.seed), backbone.transformer.state_dict(), {"run": asdict(run)})
    return Trained(_still(backbone), None, outcome.losses, outcome.seconds)


def _system(run: Run, stage: Stage, minutes: float | None) -> Trained | None:
    """A system on the frozen model of the same seed."""
    settings, codec = stage.settings, TinyCodec(stage.settings.channels)
    path = base_file(stage.folder, run.seed)
    backbone = Backbone(build_transformer(settings.config, seed=run.seed))
    fill(backbone.transformer, load_tensors(path)[0], path)
    system = system_for(run.system, _still(backbone), seed=run.seed, tokens=settings.words)
    own = stage.folder / "training" / run.name
    ends = None if minutes is None else monotonic() + 60 * minutes
    losses: dict[int, float] = {}
    seconds = 0.0
    if run.system == "action_prism":
        seconds += _pretrained(system, run, stage)
    kind = partial(FlexiActRecipe, temporal=TEMPORAL) if run.system in LEARNED else ReferenceRecipe
    steps = settings.steps_of(run.system)
    rate = settings.token_rate if run.system in LEARNED else settings.learning_rate
    for lesson in lessons(
        run.system, system, stage.films, stage.clips, codec, seed=run.seed, references=settings.references
    ):
        system.requires_grad_(False)
        for weight in lesson.weights:
            weight.requires_grad_(True)
        recipe = kind(
            backbone,
            system,
            codec,
            settings.text,
            Schedule.of(PUBLISHED),
            [lesson.data],
            settings.training(run.seed),
        )
        left = None if ends is None else max(0.0, (ends - monotonic()) / 60)
        outcome = train(recipe, settings.loop(own / lesson.name, steps, left, rate))
        if outcome.step < steps:
            return None
        settle(recipe.denoiser, outcome.weights)
        losses |= outcome.losses
        seconds += outcome.seconds
    return Trained(_still(backbone), system.eval().requires_grad_(False), losses, seconds)


def _pretrained(system: Any, run: Run, stage: Stage) -> float:
    """A prism first learns from pairs alone which films show the same; the seconds that took."""
    settings = stage.settings
    data = paired_set(stage.films, stage.clips, settings.references)
    contrast = MotionContrast(
        system, TinyCodec(settings.channels), settings.text, data, ContrastTraining(seed=run.seed)
    )
    own = stage.folder / "training" / run.name / "pretraining"
    outcome = train(contrast, settings.loop(own, settings.prism_pretraining, None))
    system.encoder.load_state_dict(outcome.weights)
    return outcome.seconds


def _still(backbone: Backbone) -> Backbone:
    backbone.transformer.eval().requires_grad_(False)
    return backbone


def on_sheet(held: Sequence[Footage]) -> list[int]:
    """Numbers of the films on the contact sheet: one of each action, not all of the same scene."""
    found = []
    for number, action in enumerate(ACTIONS):
        own = [k for k, film in enumerate(held) if film.label == action]
        found.append(own[number % len(own)])
    return found
