"""How far a motion network can be trusted with objects that it has not seen: follow them for a while, and look.

An object is followed by the network alone from where it is in one frame, with the skeletons of all that come; nothing
is painted, and no world is asked. What became of it is held against the recording.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from joint_training_diets import films_by, load_motion
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.objects import MOVED, YARD
from vap_sim.models.compact.motion_losses import Paths, roll_out
from vap_sim.models.compact.network import MotionNet
from vap_sim.models.compact.packed import fast_cast
from vap_sim.models.compact.slots import SLOTS
from vap_sim.training.motion import MotionTraining, PathSource
from vap_sim.training.motion_films import MotionFilm
from vap_sim.training.tracks import of_frames

SPAN = 16
"""Frames for which an object is followed."""
STILL = 0.003
"""[m] up to which an object has rested; MOVED is that from which it has been moved."""
CLOSED = 0.25
"""Share of the drawer's way by which it may end away from where the twin's ended."""
_SHUT_WAY = 0.06  # [m] by which a drawer goes at least that is closed
_LEAST_PIXELS = 30
_ROWS = 48
_PLAIN = MotionTraining(turn=0.0, zoom=0.0, mirror=0.0, unknown_velocity=0.0)


@dataclass(frozen=True, eq=False)
class Exam:
    """Objects to be followed. paths: of the same number of frames; seeds: the recording of each; yards (n,) [px]: its
    width in its last picture; way (n, 2) [px]: from where it was at first to where it is at last, as its last camera
    sees both; moved: bool (n,), whether it was moved; if not, it rested."""

    paths: Paths
    seeds: tuple[int, ...]
    yards: Tensor
    way: Tensor
    moved: Tensor

    def __len__(self) -> int:
        return len(self.seeds)


def exam_of(files: Sequence[Path], *, drawers: bool = False) -> Exam:
    """What a kind of recordings asks: every object in spans of SPAN frames, if it is moved or rests near the robot.

    drawers: instead, every drawer that the twin closes, from the first frame to the last. Seen by the first camera of
    each recording. Raises BadFile, and InvalidInput where nothing is to be asked.
    """
    rows, yards, ways, kinds, seeds = [], [], [], [], []
    episodes = [load_motion(path) for path in files]
    films = [films_by(episode, cameras[:1])[0] for episode, cameras in episodes]
    source = PathSource(films, _PLAIN)
    for (episode, _), film in zip(episodes, films, strict=True):
        shapes = [item["shape"] for item in episode.meta["scene"]["objects"]]
        for part, index, moved in _closed_drawer(film, len(shapes)) if drawers else _spans(film):
            way, yard = _way(film, part, index, broad=shapes[index : index + 1] in ([], ["plate"]))
            rows.append(source.path(np.random.default_rng(0), film, part, index))
            ways.append(way)
            yards.append(yard)
            kinds.append(moved)
            seeds.append(int(episode.meta["seed"]))
    if not rows:
        raise InvalidInput(
            "recordings to be judged by", f"{len(files)} in which nothing is asked", "longer ones, or more"
        )
    paths = Paths(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))
    return Exam(paths, tuple(seeds), torch.tensor(yards), torch.tensor(np.stack(ways)), torch.tensor(kinds))


def _spans(film: MotionFilm) -> Iterator[tuple[slice, int, bool]]:
    """Spans of a film, an object near which the robot is, and whether it is moved; one that is moved a little is not
    asked for."""
    for start in range(0, film.length - SPAN + 1, SPAN - 1):
        part = slice(start, start + SPAN)
        for index in range(min(len(film.bodies.outlines), SLOTS)):
            if not _seen(film, start, index) or not film.near[part, index].any():
                continue
            way = film.bodies.boxes[start : start + SPAN - 1, index].mean(1)
            far = float(np.linalg.norm(way - way[0], axis=1).max())
            if far > MOVED or far < STILL:
                yield part, index, far > MOVED


def _closed_drawer(film: MotionFilm, index: int) -> Iterator[tuple[slice, int, bool]]:
    """The first drawer, which follows the loose objects, where it is closed in a film: from beginning to end."""
    boxes = film.bodies.boxes[:, index].mean(1)
    if np.linalg.norm(boxes[-2] - boxes[0]) > _SHUT_WAY and _seen(film, 0, index):
        yield slice(0, film.length), index, True


def _seen(film: MotionFilm, frame: int, index: int) -> bool:
    numbers, _ = film.objects(np.array([frame]))
    return bool((numbers == index + 1).sum() >= _LEAST_PIXELS)


def _way(film: MotionFilm, part: slice, index: int, *, broad: bool) -> tuple[NDArray[np.float32], float]:
    """Where an object went (2,) and how wide it is at the end [px]: from the first frame to the last but one, up to
    which roll-outs tell where things are, and that as the camera of the last sees it. broad: a plate or a drawer, which
    is wider than it is moved, and judged by YARD instead."""
    last = part.stop - 1
    camera = of_frames(film.seen, slice(last, last + 1))
    boxes = film.bodies.boxes[[part.start, last - 1], index]
    xy, depth = camera.project(torch.from_numpy(boxes))
    yard = YARD if broad else float(np.ptp(boxes[1], axis=0)[:2].max())
    focal = float(camera.intrinsics[..., 0, 0].reshape(-1)[0])
    centres = xy.mean(1).float().numpy()
    return centres[1] - centres[0], yard * focal / float(depth[1].mean())


def grade(network: MotionNet, exam: Exam) -> dict[str, Any]:
    """What became of every object of an exam: lists of one entry an object.

    moved: whether it was moved; end: how far from the truth it ended [its widths]; still: the same had it not moved;
    path: the mean of `end` over all frames; closed: the share of its way that it went, along it; off: how far from the
    truth it ended, as a share of its way."""
    misses = torch.cat([_misses(network, exam, slice(k, k + _ROWS)) for k in range(0, len(exam), _ROWS)])
    away = misses.norm(dim=-1) / exam.yards[:, None]
    length = exam.way.norm(dim=1).clamp_min(1e-3)
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


@torch.no_grad()
def _misses(network: MotionNet, exam: Exam, rows: slice) -> Tensor:
    """How far objects lie from the truth before every step (n, T - 1, 2) [px]."""
    paths = Paths(*(getattr(exam.paths, field.name)[rows] for field in fields(Paths)))
    with fast_cast("cpu", "bf16"):
        return torch.stack(roll_out(network, paths, jitter=torch.zeros_like(paths.start))[2], 1).float()


def _rounded(values: Tensor) -> list[float]:
    return [round(float(value), 4) for value in values]
