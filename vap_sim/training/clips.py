"""Twin episodes in memory and the clips drawn from them: which clip a step sees follows from (seed, step) alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.errors import BadFile, InvalidInput, VAPSimError
from vap_sim.models.compact.losses import Clip
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot
from vap_sim.training.tracks import follow

_MEMBERS = ("frames", "objects", "plate", "robot", "labels", "joints", "object_poses")


@dataclass(frozen=True, eq=False)
class Film:
    """One view of one episode, channels last, as it is kept in memory; `numbers`, `centres` and `steps` as in
    `tracks.Track`; `moving` (T,) bool: an object moved into frame t."""

    frames: np.ndarray
    skeletons: np.ndarray
    objects: np.ndarray
    plate: np.ndarray
    robot: np.ndarray
    seen: np.ndarray
    numbers: np.ndarray
    centres: np.ndarray
    steps: np.ndarray
    moving: np.ndarray


@dataclass(frozen=True, eq=False)
class ClipSource:
    """All films of a data set. `eventful` is the share of clips chosen because something moves in them."""

    films: tuple[Film, ...]
    eventful: float = 0.75

    def __post_init__(self) -> None:
        if not self.films:
            raise InvalidInput("films to draw clips from", "none", "at least one")
        sizes = sorted({film.frames.shape[1:3] for film in self.films})
        if len(sizes) > 1:
            raise InvalidInput("films to draw clips from", f"pictures (H, W) of {sizes}", "one size for all")

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of all films [px]."""
        height, width = self.films[0].frames.shape[1:3]
        return int(width), int(height)

    @property
    def shortest(self) -> int:
        """Frames of the shortest film."""
        return min(len(film.frames) for film in self.films)

    def draw(self, rng: np.random.Generator, count: int, length: int) -> Clip:
        """A batch of `count` clips of `length` frames, colors of a clip permuted half of the time."""
        rows = [self._row(rng, length) for _ in range(count)]
        return Clip(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))

    def _row(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, ...]:
        for _ in range(20):
            film = self.films[int(rng.integers(len(self.films)))]
            total = len(film.frames)
            if total < length:
                raise InvalidInput("clip length", length, f"at most {self.shortest} frames, as the shortest film has")
            start = int(rng.integers(total - length + 1))
            if rng.uniform() > self.eventful or film.moving[start + 1 : start + length].any():
                break
        part = slice(start, start + length)
        history = np.clip(np.arange(start - 2, start + length), 0, None)
        colors = rng.permutation(3) if rng.uniform() < 0.5 else np.arange(3)
        with_alpha = np.append(colors, 3)
        return (
            _first(film.frames[part][..., colors]),
            _first(film.skeletons[history]),
            _first(film.objects[part][..., with_alpha]),
            _first(film.plate[..., colors]),
            film.robot[part][:, None],
            film.seen[part][:, None],
            film.numbers[start],
            film.centres[part],
            film.steps[part],
        )


def _first(image: np.ndarray) -> np.ndarray:
    """(..., H, W, C) -> (..., C, H, W), contiguous."""
    return np.ascontiguousarray(np.moveaxis(image, -1, -3))


def load_films(
    files: Sequence[Path], profile_name: str, *, threads: int = 2, progress: bool = True
) -> tuple[Film, ...]:
    """Read episodes and draw the prompts of all their frames. Raises BadFile for the first file that is no good."""
    if not files:
        raise BadFile("the data set", "no episode files")
    with ThreadPoolExecutor(threads) as pool:
        jobs = pool.map(lambda path: _load(path, profile_name), files)
        bar = tqdm(jobs, total=len(files), desc="reading episodes", unit="episode", disable=not progress, mininterval=5)
        return tuple(film for films in bar for film in films)


def _load(path: Path, profile_name: str) -> list[Film]:
    episode = load_episode(path, _MEMBERS)
    try:
        return films_of(episode, profile_name)
    except (VAPSimError, KeyError, TypeError, ValueError, IndexError) as error:
        raise BadFile(path, f"meta.json: scene, robot or cameras cannot be used ({error!r})") from error


def films_of(episode: TwinEpisode, profile_name: str) -> list[Film]:
    """One film a view."""
    views = len(episode.frames)
    skeletons = draw_prompts(episode.meta, episode.joints, profile_name)
    tracks = [follow(episode, view) for view in range(views)]
    return [
        Film(
            frames=episode.frames[view],
            skeletons=skeletons[view].numpy(),
            objects=episode.objects[view],
            plate=episode.plate[view],
            robot=episode.robot[view],
            seen=np.where(episode.labels[view] >= 2, np.uint8(255), np.uint8(0)),
            numbers=tracks[view].numbers,
            centres=tracks[view].centres,
            steps=tracks[view].steps,
            moving=np.any(np.abs(tracks[view].steps[..., :2]) > 0.12, axis=(1, 2)),
        )
        for view in range(views)
    ]


def draw_prompts(meta: dict[str, Any], joints: np.ndarray, profile_name: str) -> Tensor:
    """Prompts of an episode's joints (T, 8) by its own cameras: (V, T, H, W, 3) uint8."""
    cameras = [Camera.from_dict(item) for item in meta["cameras"]]
    prompter = Prompter(load_robot(meta["robot"]), profile(profile_name), cameras[0].size)
    return prompter.draw(torch.as_tensor(joints)[None], cameras).skeleton[0]
