"""Stills and judged episodes as lessons for the judge's eyes, and as evidence with the truth for the judge itself."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from vap_sim.commands.judge_episodes import JudgedEpisode, load_judged
from vap_sim.commands.judge_oracle import Label, Shown, label, shown_in_dream, shown_in_twin
from vap_sim.commands.judge_stills import camera_of, load_stills
from vap_sim.errors import BadFile
from vap_sim.models.checkpoint import load_tensors, save_tensors
from vap_sim.policies import judge_finding, judge_looking
from vap_sim.policies.judge import Evidence
from vap_sim.policies.judge_looking import goal_views, object_views, seen
from vap_sim.policies.judge_network import Views
from vap_sim.policies.judge_training import WIDE, Lessons
from vap_sim.robots.camera import Camera

SOURCES = ("twin", "dream")
_EVERY = 3  # pictures of a dream from one that is learned from to the next


@dataclass(frozen=True)
class Thing:
    """Something to measure in a picture: `row` of the pictures, its colour, place and size [m]."""

    row: int
    color: tuple[float, float, float]
    place: tuple[float, float]
    size: float


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of an episode in one source: after which steps, what a judge sees, and what is true."""

    steps: NDArray[np.int64]
    evidence: Evidence
    labels: tuple[Label, ...]


def moments_in(episode: JudgedEpisode, source: str, steps: NDArray[np.int64] | None = None) -> Moments:
    """An episode's moments in the twin's pictures or in the dream's, of which `steps` may name others."""
    from vap_sim.envs.tasks import get_task

    at = episode.steps if steps is None or source == "twin" else steps
    if source == "twin":
        shown: Shown = shown_in_twin(episode)
        pictures, joints, rows = episode.twin, episode.measured, np.arange(len(at))
    else:
        shown = shown_in_dream(episode)
        pictures = np.stack([episode.dream[at - 1], episode.dream[at]], axis=1)
        joints, rows = episode.joints[at], at
    task = get_task(episode.task)
    evidence = Evidence(
        first=np.repeat(episode.dream[:1], len(at), axis=0),
        last=pictures,
        joints=joints,
        cameras=(episode.camera,) * len(at),
        tasks=(episode.task,) * len(at),
        instructions=(str(episode.meta["instruction"]),) * len(at),
    )
    return Moments(at, evidence, tuple(label(shown, int(row), task) for row in rows))


def lessons_of_stills(paths: Sequence[Path], cache: Path) -> tuple[Lessons, Lessons]:
    """Lessons about objects and about goals; kept in the folder `cache` for the next time."""
    parts = list(_kept(paths, cache / "stills.safetensors", _still_lessons, ("objects", "goals")))
    return parts[0], parts[1]


def lessons_of_episodes(paths: Sequence[Path], cache: Path) -> Lessons:
    """Lessons about all objects in dreamt pictures, and in the twin's; kept in the folder `cache`."""
    return next(iter(_kept(paths, cache / "episodes.safetensors", _episode_lessons, ("objects",))))


def _still_lessons(path: Path) -> tuple[Lessons, ...]:
    from vap_sim.envs.scenes import COLORS

    stills = load_stills(path)
    cameras = [camera_of(record) for record in stills.shown]
    objects = [
        Thing(row, COLORS[item["color"]], (item["x"], item["y"]), item["height"])
        for row, record in enumerate(stills.shown)
        for item in record["objects"]
    ]
    goals = [
        Thing(row, (1.0, 1.0, 1.0), (record["goal"][0], record["goal"][1]), record["goal"][2])
        for row, record in enumerate(stills.shown)
        if record["goal"] is not None
    ]
    return _lessons(stills.pictures, cameras, objects), _lessons(stills.pictures, cameras, goals, flat=True)


def _episode_lessons(path: Path) -> tuple[Lessons, ...]:
    from vap_sim.envs.scenes import COLORS

    episode = load_judged(path)
    dream, twin = shown_in_dream(episode), shown_in_twin(episode)
    steps = np.arange(0, len(episode.dream), _EVERY)
    pictures = np.concatenate([episode.dream[steps], episode.twin[:, 1]])
    places = np.concatenate([dream.places[steps], twin.places])
    # A dream's objects are cut-outs, which keep the height that they began with.
    things = [
        Thing(row, COLORS[item["color"]], (float(x), float(y)), float(item["size"][2]))
        for row, those in enumerate(places)
        for item, (x, y) in zip(episode.meta["scene"]["objects"], those, strict=True)
    ]
    return (_lessons(pictures, [episode.camera] * len(pictures), things),)


def _lessons(
    pictures: NDArray[np.uint8], cameras: Sequence[Camera], things: Sequence[Thing], *, flat: bool = False
) -> Lessons:
    rows = [thing.row for thing in things]
    rgb, camera = seen(pictures[rows], [cameras[row] for row in rows])
    colors = torch.tensor([thing.color for thing in things])
    views: Views = goal_views(rgb, camera, WIDE) if flat else object_views(rgb, camera, colors, WIDE)
    return Lessons(
        wide=(views.windows[:, :3] * 255).round().to(torch.uint8),
        middles=views.middles,
        strength=views.strength,
        intrinsics=views.intrinsics,
        poses=views.poses,
        colors=colors,
        places=torch.tensor([thing.place for thing in things]),
        size=torch.tensor([thing.size for thing in things]),
    )


def _kept(paths: Sequence[Path], cache: Path, read: Any, names: tuple[str, ...]) -> Iterator[Lessons]:
    """Lessons of all files, by name: from the cache, or read and put there."""
    stamp = _stamp(paths)
    try:
        tensors, about = load_tensors(cache)
    except BadFile:
        tensors, about = {}, {}
    if about.get("stamp") != stamp:
        parts = [read(path) for path in tqdm(paths, desc="reading", unit="file", mininterval=5)]
        whole = {name: Lessons.cat(part[index] for part in parts) for index, name in enumerate(names)}
        tensors = {f"{name}/{key}": value for name, own in whole.items() for key, value in vars(own).items()}
        cache.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(cache, tensors, {"stamp": stamp})
    for name in names:
        yield Lessons(**{item.name: tensors[f"{name}/{item.name}"] for item in fields(Lessons)})


def _stamp(paths: Sequence[Path]) -> str:
    """Changes with the files and with how proposals are made in them."""
    how = [Path(str(module.__file__)).read_bytes() for module in (judge_finding, judge_looking)]
    files = [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode() for path in paths]
    return hashlib.sha256(b"\n".join([*how, *files, str(WIDE).encode()])).hexdigest()
