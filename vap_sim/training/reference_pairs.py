"""Pairs of a demonstration and a target: films of the same action, taken where different things are seen.

Films come from the twin's actions (`*.footage.safetensors`), from recorded episodes (`*.vap.npz`) or from video files.
A folder says what they show either by the names of its subfolders, one an action, or by its file `labels.json`, an
object from file names to actions; footage of the twin says it itself. Films are read when they are needed, one by one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from vap_sim.data.twin import SUFFIX as EPISODE
from vap_sim.data.twin import load_episode
from vap_sim.data.video_file import read_video, video_frame_rate
from vap_sim.errors import BadFile, InvalidInput, UnknownName, VAPSimError
from vap_sim.models.checkpoint import read_description
from vap_sim.robots.camera import Camera
from vap_sim.training.clips import CAPTIONS, caption_of
from vap_sim.training.reference_footage import SUFFIX as FOOTAGE
from vap_sim.training.reference_footage import Footage, load_footage

LABELS = "labels.json"
VIDEOS = (".mp4", ".mov", ".mkv", ".webm", ".avi")


@dataclass(frozen=True)
class Film:
    """Where a film is, and what is known of it without reading its pictures; fields as of `Footage`.

    view: which camera of an episode.
    """

    path: Path
    label: str
    source: str
    caption: str
    view: int = 0

    def read(self) -> Footage:
        """The film itself. Raises BadFile where it is missing or damaged, InvalidInput where it is no film."""
        if self.path.name.endswith(FOOTAGE):
            return load_footage(self.path)
        if self.path.name.endswith(EPISODE):
            return _episode(self)
        frames = read_video(self.path)
        return Footage(frames, self.label, self.source, self.caption, video_frame_rate(self.path))

    @property
    def stamp(self) -> str:
        """What changes when the file does: its place, size and time of last change. Raises BadFile."""
        try:
            found = self.path.stat()
        except OSError as error:
            raise BadFile(self.path, f"cannot be read ({error.strerror})") from error
        return f"{self.path.resolve()} {found.st_size} {found.st_mtime_ns} {self.view}"


@dataclass(frozen=True)
class Pair:
    """A film to be made, and one that demonstrates its action."""

    target: Film
    reference: Film


def films_in(folder: Path) -> tuple[Film, ...]:
    """All films below a folder with their actions, in the order of their names; every camera of an episode is one.

    Captions are those of the folder's `captions.json`, as `clips.open_data_set` reads it, then what the film itself
    knows; for a video without either its action's name. Raises BadFile where there is no film, where a file says
    nothing of its action, and for damaged files.
    """
    folder = Path(folder)
    labels, captions = _told(folder / LABELS), _told(folder / CAPTIONS)
    found: list[Film] = []
    for path in sorted(folder.rglob("*")):
        name = _name(path)
        if name is None:
            continue
        label = labels.get(name) or (path.parent.name if path.parent != folder else None)
        found += _films(path, label, captions.get(name))
    if not found:
        raise BadFile(folder, f"no films (*{FOOTAGE}, *{EPISODE} or videos: {', '.join(VIDEOS)})")
    return tuple(found)


def pairs_of(films: Sequence[Film], *, references: int = 4, seed: int = 0) -> tuple[Pair, ...]:
    """Every film with up to so many demonstrations of its action, each taken of another source.

    Which, if there are more, is drawn by seed. Raises InvalidInput for an action that only one source shows.
    """
    if references < 1:
        raise InvalidInput("references of a target", references, "1 or more")
    by_label: dict[str, list[Film]] = {}
    for film in films:
        by_label.setdefault(film.label, []).append(film)
    pairs = []
    for number, film in enumerate(films):
        others = [one for one in by_label[film.label] if one.source != film.source]
        if not others:
            given = f"{film.label!r} of {film.source!r} alone"
            raise InvalidInput("films to pair", given, "every action in at least two sources")
        chosen = np.random.default_rng([seed, 7, number]).permutation(len(others))[:references]
        pairs += [Pair(film, others[index]) for index in chosen]
    return tuple(pairs)


def of_labels(films: Sequence[Film], labels: Sequence[str]) -> tuple[Film, ...]:
    """The films that show one of these actions. Raises UnknownName for an action that none shows."""
    known = dict.fromkeys(film.label for film in films)
    for label in labels:
        if label not in known:
            raise UnknownName("action of the films", label, known)
    return tuple(film for film in films if film.label in set(labels))


def _name(path: Path) -> str | None:
    """A film's name without its ending; None for a file that is no film."""
    ending = next((one for one in (FOOTAGE, EPISODE, *VIDEOS) if path.name.lower().endswith(one)), None)
    return None if ending is None or not path.is_file() else path.name[: -len(ending)]


def _films(path: Path, label: str | None, caption: str | None) -> Iterator[Film]:
    if path.name.endswith(FOOTAGE):
        about = read_description(path)
        try:
            yield Film(path, str(label or about["label"]), str(about["source"]), str(caption or about["caption"]))
        except KeyError as error:
            raise BadFile(path, f"is no whole footage (no field {error})") from error
        return
    if label is None:
        raise BadFile(path, f"nothing says which action it shows: neither a subfolder's name nor {LABELS}")
    if path.name.endswith(EPISODE):
        meta = load_episode(path, only=()).meta
        try:
            told, views = caption or caption_of(meta), len(meta["cameras"])
        except (KeyError, TypeError) as error:
            raise BadFile(path, f"meta.json: scene or cameras cannot be used ({error!r})") from error
        yield from (Film(path, label, str(path), told, view) for view in range(views))
        return
    yield Film(path, label, str(path), caption or label.replace("_", " "))


def _episode(film: Film) -> Footage:
    episode = load_episode(film.path, only=("frames", "joints"))
    try:
        camera = Camera.from_dict(episode.meta["cameras"][film.view])
        rate = 1 / float(episode.meta["control_dt"])
        frames = torch.from_numpy(np.ascontiguousarray(episode.frames[film.view]))
    except (VAPSimError, KeyError, IndexError, TypeError, ValueError, ZeroDivisionError) as error:
        raise BadFile(film.path, f"view {film.view} cannot be used ({error!r})") from error
    joints = torch.from_numpy(np.ascontiguousarray(episode.joints))
    return Footage(frames, film.label, film.source, film.caption, rate, joints, camera)


def _told(path: Path) -> Mapping[str, str]:
    """An object from names of films to texts; empty where there is no such file. Raises BadFile."""
    if not path.is_file():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadFile(path, f"is not JSON ({error})") from error
    if not isinstance(told, dict) or not all(isinstance(text, str) and text for text in told.values()):
        raise BadFile(path, "expected an object from names of films, without their endings, to texts")
    return told
