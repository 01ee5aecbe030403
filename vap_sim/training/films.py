"""Recorded pictures in memory, one film a view, holding what the picture networks look at."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.errors import BadFile, InvalidInput, VAPSimError
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

_MEMBERS = ("frames", "objects", "plate", "plates", "robot", "labels", "joints")


class Film(Protocol):
    """A view of an episode."""

    @property
    def length(self) -> int:
        """The number of frames T."""
        ...

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures [px]."""
        ...


@dataclass(frozen=True, eq=False)
class PictureFilm:
    """For the picture networks, channels last, uint8: what every frame shows and of what layers it is made.

    frames and skeletons (T, H, W, 3), objects (T, H, W, 4) premultiplied, plate (H, W, 3), or (T, H, W, 3) of a camera
    that moves; robot and seen (T, H, W), the visible share of robot and objects."""

    frames: np.ndarray
    skeletons: np.ndarray
    objects: np.ndarray
    plate: np.ndarray
    robot: np.ndarray
    seen: np.ndarray

    @classmethod
    def of(cls, episode: TwinEpisode, view: int, skeletons: np.ndarray) -> PictureFilm:
        """The film of one view."""
        riding = [n for n, camera in enumerate(episode.meta["cameras"]) if camera.get("parent_link") is not None]
        return cls(
            frames=episode.frames[view],
            skeletons=skeletons,
            objects=episode.objects[view],
            plate=episode.plates[riding.index(view)] if view in riding else episode.plate[view],
            robot=episode.robot[view],
            seen=np.where(episode.labels[view] >= 2, np.uint8(255), np.uint8(0)),
        )

    @property
    def length(self) -> int:
        """The number of frames T."""
        return len(self.frames)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the pictures [px]."""
        return self.frames.shape[2], self.frames.shape[1]


def load_films(
    files: Sequence[Path], profile_name: str, *, threads: int = 2, progress: bool = True
) -> tuple[PictureFilm, ...]:
    """Read episodes and draw the prompts of all their frames, a film a view; recordings without pictures give none.

    Raises BadFile for the first file that is no good."""
    if not files:
        raise BadFile("the data set", "no episode files")
    with ThreadPoolExecutor(threads) as pool:
        jobs = pool.map(lambda path: _load(path, profile_name), files)
        bar = tqdm(jobs, total=len(files), desc="reading episodes", unit="episode", disable=not progress, mininterval=5)
        return tuple(film for films in bar for film in films)


def _load(path: Path, profile_name: str) -> list[PictureFilm]:
    episode = load_episode(path, _MEMBERS)
    try:
        return films_of(episode, profile_name)
    except (VAPSimError, KeyError, TypeError, ValueError, IndexError) as error:
        raise BadFile(path, f"meta.json: robot or cameras cannot be used ({error!r})") from error


def films_of(episode: TwinEpisode, profile_name: str) -> list[PictureFilm]:
    """One film a view."""
    views = range(len(episode.frames))
    skeletons = draw_prompts(episode.meta, episode.joints, profile_name).numpy() if views else ()
    return [PictureFilm.of(episode, view, skeletons[view]) for view in views]


def draw_prompts(meta: dict[str, Any], joints: np.ndarray, profile_name: str) -> Tensor:
    """Prompts of an episode's joints (T, 8) by its own cameras: (V, T, H, W, 3) uint8."""
    cameras = [Camera.from_dict(item) for item in meta["cameras"]]
    prompter = Prompter(load_robot(meta["robot"]), profile(profile_name), cameras[0].size)
    return prompter.draw(torch.as_tensor(joints)[None], cameras).skeleton[0]


def check_films(films: Sequence[Film], size: int, frames: int) -> None:
    """Raise InvalidInput unless there are films, all of size x size pixels and at least so many frames long."""
    if not films:
        raise InvalidInput("films for training", "none", "at least one")
    sizes = sorted({film.size for film in films})
    if sizes != [(size, size)]:
        raise InvalidInput(
            "films for training", f"pictures (width, height) of {sizes}", f"{(size, size)}, as the network's"
        )
    shortest = min(film.length for film in films)
    if shortest < frames:
        raise InvalidInput("films for training", f"{shortest} frames in the shortest", f"at least {frames}")
