"""Films for the comparison of demonstrations: eight actions in the twin, and clips of them with and without one.

A demonstration shows the action of its target in another scene and by another camera; of a seed that is kept for
evaluation where the target is.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vap_sim.envs.twin_actions import ActionSettings, action_names, record_action_files
from vap_sim.models.cogvideox.codec import Codec
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt
from vap_sim.training.clips import Clip, DataSet
from vap_sim.training.reference_clips import PairedClip, moving_region
from vap_sim.training.reference_footage import Footage, load_footage

ACTIONS = action_names()
HELD_OUT = 1_000_100  # those before it were looked at while settings were chosen
Held = TypeVar("Held", Clip, ReferenceClip)
REGION_REACH = 2
"""How far around what moves errors weigh more [px]."""


@dataclass(frozen=True)
class Kept(Generic[Held]):
    """A clip or a demonstration in memory; `load` as of those in a cache. key: its name in records of training."""

    value: Held
    key: str = ""

    def load(self) -> Held:
        return self.value


def recorded(
    count: int, folder: Path, settings: ActionSettings, *, held_out: bool = False, workers: int = 2
) -> tuple[Footage, ...]:
    """The films of all actions for so many seeds, recorded where they are not there yet. Raises BadFile, OSError."""
    first = HELD_OUT if held_out else 0
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(action, seed) for seed in range(first, first + count) for action in ACTIONS]
    one = partial(_record, folder=folder, settings=settings, held_out=held_out)
    name = "held-out films" if held_out else "films"
    bar = partial(tqdm, total=len(jobs), desc=name, unit="action", mininterval=5)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        paths = list(bar(pool.map(one, jobs)))
    return tuple(load_footage(path) for some in paths for path in some)


def _record(job: tuple[str, int], *, folder: Path, settings: ActionSettings, held_out: bool) -> tuple[Path, ...]:
    torch.set_num_threads(1)
    return record_action_files(job[0], job[1], folder, settings, held_out=held_out)


def labels_of(films: Sequence[Footage]) -> Tensor:
    """The number of each film's action (n,) int64."""
    return torch.tensor([ACTIONS.index(film.label) for film in films])


def told(film: Footage) -> str:
    """A caption that names the action."""
    return f"{film.label.replace('_', ' ')}; {film.caption}"


def clip_of(film: Footage, codec: Codec) -> Clip:
    """A film as a clip whose prompt is black: only a caption, and a demonstration, may tell the action."""
    frames = film.frames
    prompt = VisualPrompt(torch.zeros((), dtype=torch.uint8).expand(1, 1, *frames.shape), text=(film.caption,))
    return Clip(
        codec.encode(frames[None])[0],
        codec.encode(frames[None, :1])[0],
        moving_region(frames, REGION_REACH),
        prompt,
        film.caption,
    )


def encoded(films: Sequence[Footage], codec: Codec) -> tuple[Clip, ...]:
    """All films as clips."""
    return tuple(clip_of(film, codec) for film in tqdm(films, desc="encoding", unit="film", mininterval=5))


def plain_set(films: Sequence[Footage], clips: Sequence[Clip]) -> DataSet:
    """Every film twice, with a caption that names its action and with one that does not."""
    found = []
    for film, clip in zip(films, clips, strict=True):
        named = replace(clip, caption=told(film), prompt=replace(clip.prompt, text=(told(film),)))
        found += [Kept(named), Kept(clip)]
    return DataSet("films", tuple(found))


def paired_set(films: Sequence[Footage], clips: Sequence[Clip], references: int) -> DataSet:
    """Every film with so many demonstrations of its action of other scenes; no caption names it."""
    targets, shown = [Kept(clip) for clip in clips], [Kept(demonstration(film)) for film in films]
    chosen = partners(films, references)
    return DataSet(
        "pairs",
        tuple(PairedClip(targets[one], shown[other]) for one, others in enumerate(chosen) for other in others),
    )


def demonstration(film: Footage) -> ReferenceClip:
    """A film as a demonstration of one row."""
    return ReferenceClip(film.frames[None], (film.caption,))


def partners(films: Sequence[Footage], count: int, *, shift: int = 0) -> list[list[int]]:
    """For each film the numbers of so many others that show an action of another scene: its own action, or with a
    shift that which comes so many later."""
    by_action = [[k for k, film in enumerate(films) if film.label == action] for action in ACTIONS]
    found = []
    for number, film in enumerate(films):
        wanted = by_action[(ACTIONS.index(film.label) + shift) % len(ACTIONS)]
        others = [k for k in wanted if films[k].source != film.source]
        rng = np.random.default_rng([number, shift, 31])
        found.append([others[k] for k in rng.permutation(len(others))[:count].tolist()])
    return found
