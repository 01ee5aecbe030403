"""Recorded twin episodes in memory, one film a view, each kind holding what one part of the training looks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.errors import BadFile, InvalidInput, VAPSimError
from vap_sim.models.compact.motion_losses import is_moving
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot
from vap_sim.training.tracks import follow

_MEMBERS = ("frames", "objects", "plate", "robot", "labels", "joints", "object_poses")
_NEAR = 20  # [px] from an object's centre


class Film(Protocol):
    """A view of an episode; skeletons (T, H, W, 3) uint8 are the prompts of all its frames."""

    @property
    def skeletons(self) -> np.ndarray: ...


F = TypeVar("F", bound=Film)


@dataclass(frozen=True, eq=False)
class PictureFilm:
    """For the picture networks, channels last, uint8: what every frame shows and of what layers it is made.

    frames and skeletons (T, H, W, 3), objects (T, H, W, 4) premultiplied, plate (H, W, 3); robot and seen (T, H, W),
    the visible share of robot and objects."""

    frames: np.ndarray
    skeletons: np.ndarray
    objects: np.ndarray
    plate: np.ndarray
    robot: np.ndarray
    seen: np.ndarray

    @classmethod
    def of(cls, episode: TwinEpisode, view: int, skeletons: np.ndarray) -> PictureFilm:
        """The film of one view."""
        return cls(
            frames=episode.frames[view],
            skeletons=skeletons,
            objects=episode.objects[view],
            plate=episode.plate[view],
            robot=episode.robot[view],
            seen=np.where(episode.labels[view] >= 2, np.uint8(255), np.uint8(0)),
        )


@dataclass(frozen=True, eq=False)
class MotionFilm:
    """For the motion network: skeletons (T, H, W, 3) and alpha (T, H, W) of the objects, uint8; numbers, centres and
    steps as in `tracks.Track`; moving (T, S): the object moved into frame t; near (T, S): the skeleton is close."""

    skeletons: np.ndarray
    alpha: np.ndarray
    numbers: np.ndarray
    centres: np.ndarray
    steps: np.ndarray
    moving: np.ndarray
    near: np.ndarray

    @classmethod
    def of(cls, episode: TwinEpisode, view: int, skeletons: np.ndarray) -> MotionFilm:
        """The film of one view."""
        track = follow(episode, view)
        return cls(
            skeletons=skeletons,
            alpha=np.ascontiguousarray(episode.objects[view, ..., 3]),
            numbers=track.numbers,
            centres=track.centres,
            steps=track.steps,
            moving=is_moving(torch.from_numpy(track.steps)).numpy(),
            near=_near(skeletons, track.centres),
        )


def _near(skeletons: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Bool (T, S): whether anything of the skeleton (T, H, W, 3) is drawn within _NEAR of centres (T, S, 2) [px]."""
    height, width = skeletons.shape[1:3]
    found = np.zeros(centres.shape[:2], bool)
    for frame, picture in enumerate(skeletons):
        drawn = cv2.integral(picture.any(-1).astype(np.uint8))
        x, y = np.round(centres[frame]).astype(int).T
        left, right = (np.clip(x + side, 0, width) for side in (-_NEAR, _NEAR + 1))
        top, bottom = (np.clip(y + side, 0, height) for side in (-_NEAR, _NEAR + 1))
        found[frame] = drawn[bottom, right] - drawn[top, right] - drawn[bottom, left] + drawn[top, left] > 0
    return found


def load_films(
    files: Sequence[Path],
    profile_name: str,
    make: Callable[[TwinEpisode, int, np.ndarray], F],
    *,
    threads: int = 2,
    progress: bool = True,
) -> tuple[F, ...]:
    """Read episodes, draw the prompts of all their frames and `make` a film of each view.

    Raises BadFile for the first file that is no good."""
    if not files:
        raise BadFile("the data set", "no episode files")
    with ThreadPoolExecutor(threads) as pool:
        jobs = pool.map(lambda path: _load(path, profile_name, make), files)
        bar = tqdm(jobs, total=len(files), desc="reading episodes", unit="episode", disable=not progress, mininterval=5)
        return tuple(film for films in bar for film in films)


def _load(path: Path, profile_name: str, make: Callable[[TwinEpisode, int, np.ndarray], F]) -> list[F]:
    episode = load_episode(path, _MEMBERS)
    try:
        return films_of(episode, profile_name, make)
    except (VAPSimError, KeyError, TypeError, ValueError, IndexError) as error:
        raise BadFile(path, f"meta.json: scene, robot or cameras cannot be used ({error!r})") from error


def films_of(episode: TwinEpisode, profile_name: str, make: Callable[[TwinEpisode, int, np.ndarray], F]) -> list[F]:
    """One film a view."""
    skeletons = draw_prompts(episode.meta, episode.joints, profile_name).numpy()
    return [make(episode, view, skeletons[view]) for view in range(len(episode.frames))]


def draw_prompts(meta: dict[str, Any], joints: np.ndarray, profile_name: str) -> Tensor:
    """Prompts of an episode's joints (T, 8) by its own cameras: (V, T, H, W, 3) uint8."""
    cameras = [Camera.from_dict(item) for item in meta["cameras"]]
    prompter = Prompter(load_robot(meta["robot"]), profile(profile_name), cameras[0].size)
    return prompter.draw(torch.as_tensor(joints)[None], cameras).skeleton[0]


def check_films(films: Sequence[Film], size: int, frames: int) -> None:
    """Raise InvalidInput unless there are films, all of size x size pixels and at least so many frames long."""
    if not films:
        raise InvalidInput("films for training", "none", "at least one")
    sizes = sorted({film.skeletons.shape[1:3] for film in films})
    if sizes != [(size, size)]:
        raise InvalidInput("films for training", f"pictures (H, W) of {sizes}", f"{(size, size)}, as the network's")
    shortest = min(len(film.skeletons) for film in films)
    if shortest < frames:
        raise InvalidInput("films for training", f"{shortest} frames in the shortest", f"at least {frames}")
