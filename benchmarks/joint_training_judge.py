"""How far a contact network can be trusted with objects that it has not seen: follow them for a while, and look.

An object is followed in space by the network alone from where a camera takes it to be in one frame, among the bones of
the robot as they come; nothing is painted, and no world is asked. What became of it is held against the recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joint_training_diets import load_motion
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.objects import MOVED, YARD
from vap_sim.models.compact.contact import ContactNet
from vap_sim.robots.library import load_robot
from vap_sim.training.contact import ContactSource, ContactTraining, Touched, roll_out
from vap_sim.training.contact_films import ContactFilm

SPAN = 16
"""Frames for which an object is followed."""
STILL = 0.003
"""[m] up to which an object has rested; MOVED is that from which it has been moved."""
CLOSED = 0.25
"""Share of the drawer's way by which it may end away from where the twin's ended."""
_SHUT_WAY = 0.06  # [m] by which a drawer goes at least that is closed


@dataclass(frozen=True, eq=False)
class Exam:
    """n objects to be followed. batch: of the same number of frames; seeds: the recording of each; yards (n,) [m]: its
    width as it was first seen; moved: bool (n,), whether it was moved; if not, it rested."""

    batch: Touched
    seeds: tuple[int, ...]
    yards: Tensor
    moved: Tensor

    def __len__(self) -> int:
        return len(self.seeds)

    @property
    def way(self) -> Tensor:
        """From where each object is at first to where it is in the last frame but one (n, 3) [m]: so far go misses."""
        return self.batch.place[:, -2] - self.batch.place[:, 0]


def exam_of(files: Sequence[Path], *, drawers: bool = False) -> Exam:
    """What a kind of recordings asks: every object in spans of SPAN frames, if it is moved or rests near the robot.

    drawers: instead, every drawer that the twin closes, from the first frame to the last. Seen by the first camera of
    each recording. Raises BadFile, and InvalidInput where nothing is to be asked.
    """
    films: list[ContactFilm] = []
    asked, yards, seeds = [], [], []
    for episode, cameras in map(load_motion, files):
        film = ContactFilm.of(episode, load_robot(episode.meta["robot"]), cameras[:1])
        shapes = [item["shape"] for item in episode.meta["scene"]["objects"]]
        for span, thing, moved in _closed_drawer(film, len(shapes)) if drawers else _spans(film):
            asked.append((len(films), thing, span.start, span.stop - span.start, moved))
            yards.append(YARD if shapes[thing : thing + 1] in ([], ["plate"]) else float(film.sizes[0, thing, 0]))
            seeds.append(int(episode.meta["seed"]))
        films.append(film)
    if not asked:
        given = f"{len(files)} in which nothing is asked"
        raise InvalidInput("recordings to be judged by", given, "longer ones, or more")
    which, things, starts, lengths, moves = (np.array(column) for column in zip(*asked, strict=True))
    source = ContactSource(films, ContactTraining())
    batch = uncarried(source.followed(which, things, np.zeros_like(which), starts, int(lengths[0])))
    return Exam(batch, tuple(seeds), torch.tensor(yards), torch.from_numpy(moves))


def uncarried(batch: Touched) -> Touched:
    """The same without what the tool would carry: models here are told by bones alone, as the paper's by skeletons;
    what a tool would carry, a skill needs no showing of."""
    return replace(batch, carry=torch.eye(4).expand_as(batch.carry))


def _spans(film: ContactFilm) -> Iterator[tuple[slice, int, bool]]:
    """Spans of a film, an object near which the robot is, and whether it is moved; one that is moved a little is not
    asked for."""
    for start in range(0, film.length - SPAN + 1, SPAN - 1):
        part = slice(start, start + SPAN)
        for thing in np.flatnonzero(film.shown[0]):
            if not film.near[part, thing].any():
                continue
            way = film.places[start : start + SPAN - 1, thing]
            far = float(np.linalg.norm(way - way[0], axis=1).max())
            if far > MOVED or far < STILL:
                yield part, int(thing), far > MOVED


def _closed_drawer(film: ContactFilm, thing: int) -> Iterator[tuple[slice, int, bool]]:
    """The first drawer, which follows the loose objects, where it is closed in a film: from beginning to end."""
    if np.linalg.norm(film.places[-2, thing] - film.places[0, thing]) > _SHUT_WAY and film.shown[0, thing]:
        yield slice(0, film.length), thing, True


def grade(network: ContactNet, exam: Exam) -> dict[str, Any]:
    """What became of every object of an exam: lists of one entry an object.

    moved: whether it was moved; end: how far from the truth it ended [its widths]; still: the same had it not moved;
    path: the mean of `end` over all frames; closed: the share of its way that it went, along it; off: how far from the
    truth it ended, as a share of its way."""
    with torch.no_grad():
        misses = torch.stack(roll_out(network, exam.batch, torch.zeros_like(exam.batch.stride))[1], 1)
    away = misses.norm(dim=-1) / exam.yards[:, None]
    length = exam.way.norm(dim=1).clamp_min(1e-4)
    along = (misses[:, -1] * exam.way).sum(1) / length.square()
    return {
        "seeds": list(exam.seeds),
        "moved": exam.moved.tolist(),
        "end": _rounded(away[:, -1]),
        "still": _rounded(exam.way.norm(dim=1) / exam.yards),
        "path": _rounded(away.mean(1)),
        "closed": _rounded(1 - along),
        "off": _rounded(misses[:, -1].norm(dim=1) / length),
    }


def _rounded(values: Tensor) -> list[float]:
    return [round(float(value), 4) for value in values]
