"""What the models of the comparison of single and joint training are fed: kinds of recordings, and diets made of them.

A kind is a number of recordings of one body at one table; a diet is the kinds that a model learns from. Recordings hold
motion alone, which is all that the contact network learns from, and are made once, on demand, each from its seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from tqdm import tqdm

from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.envs.layouts import CameraSpread, Range
from vap_sim.envs.scenes import CameraPose, Scene
from vap_sim.envs.stations import Station, get_station
from vap_sim.envs.twin_recorder import RecorderSettings, record_file
from vap_sim.envs.twin_repertoires import Repertoire
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot
from vap_sim.training.contact_films import ContactFilm, load_contact_films
from vap_sim.training.tracks import of_frames, ridden

PROFILE = "limbs"
RECORDINGS = Path("out") / "joint_training" / "recordings"
"""Where recordings are kept, a folder a kind, whatever comparison asks for them."""
SHUT_BY = 0.01
"""[m] by which a drawer may go in where nobody is to be shown closing it; more, and the recording is left out."""
_CLOSING = ("close_drawer", "clumsy_close_drawer")
_DRAWERS = (*_CLOSING, "open_drawer", "clumsy_open_drawer", "push", "clumsy_push", "idle")


@dataclass(frozen=True)
class Kind:
    """Recordings of one sort.

    station: at whose table; first: the least of their seeds, or, where `judged`, what is added to the first seed of the
    block; robots: who plays, in turn, the station's own where none is named; tasks: whose scenes are drawn, all where
    none is named; behaviours: as in RecorderSettings; without: behaviours that are left out; views: cameras; steps:
    actions; novel: in a lab that no training has seen; share: of the number of recordings that is asked for.
    """

    station: str
    first: int
    robots: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    behaviours: tuple[str, ...] = ()
    without: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    steps: int = 50
    novel: bool = False
    share: float = 1.0

    def settings(self, seed: int, *, pictures: bool = False) -> RecorderSettings:
        """How the recording of a seed is made."""
        place = self.place()
        names = self.behaviours or tuple(Repertoire.of(place).shares) * bool(self.without)
        return RecorderSettings(
            robot=self.robots[seed % len(self.robots)] if self.robots else "",
            steps=self.steps,
            views=self.views,
            pictures=pictures,
            behaviours=tuple(name for name in names if name not in self.without),
            station=place,
        )

    def place(self) -> Station:
        """The station, its scenes restricted to some tasks', or moved to another lab."""
        station = get_station(self.station)
        if self.tasks:
            some = MappingProxyType({name: station.get_task(name) for name in self.tasks})
            station = replace(station, tasks=some, task=self.tasks[0], scenes=None)
        if not self.novel:
            return station
        spreads = tuple(beyond(spread) for spread in station.layout.cameras)
        return replace(station, scenes=lambda rng: moved_lab(station.sample_scene(rng), spreads, rng))


_HEADS = ("head", "exterior_1")
TAUGHT: Mapping[str, Kind] = MappingProxyType(
    {
        "droid": Kind("DROID", 700_000),
        "bridge": Kind("Bridge", 710_000),
        "rt1": Kind("RT1", 720_000, views=_HEADS),
        "egovid": Kind("EgoVid", 730_000),
        "rt1_unclosed": Kind("RT1", 740_000, views=_HEADS, without=_CLOSING),
        "guests": Kind(
            "RT1", 750_000, ("widowx", "panda_robotiq"), ("open_drawer", "close_drawer"), _DRAWERS,
            views=("exterior_1",),
        ),
    }
)  # fmt: skip
"""What is learned from. guests: two other arms push things and open and close the drawer at the Google robot's counter;
rt1_unclosed: the Google robot does all that it does but closing it."""
JUDGED: Mapping[str, Kind] = MappingProxyType(
    {
        "droid": Kind("DROID", 0),
        "bridge": Kind("Bridge", 0),
        "rt1": Kind("RT1", 0),
        "egovid": Kind("EgoVid", 0),
        "closing": Kind("RT1", 200, tasks=("close_drawer",), behaviours=("close_drawer", "idle"), steps=30, share=1.5),
        "droid_novel": Kind("DROID", 400, novel=True),
        "bridge_novel": Kind("Bridge", 400, novel=True),
    }
)
"""What is judged by: every body at its own table, the skill that was held out, and the labs that nobody has seen."""
DIETS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "joint": ("droid", "bridge", "rt1", "egovid", "guests"),
        "joint_unseen": ("droid", "bridge", "rt1_unclosed", "egovid", "guests"),
        "rt1_unseen": ("rt1_unclosed",),
        "rt1": ("rt1",),
        "droid": ("droid",),
        "bridge": ("bridge",),
        "egovid": ("egovid",),
        "joint_no_guests": ("droid", "bridge", "rt1_unclosed", "egovid"),
    }
)
"""Kinds that a model learns from, by the name of its diet, in the order in which runs are worth having."""
BLOCKS: Mapping[str, int] = MappingProxyType({"dev": 900_000, "test": 1_000_000})
"""First seed of the recordings that are judged by: for development, and those that nothing may be chosen by."""


def beyond(spread: CameraSpread) -> CameraSpread:
    """Where no camera of a spread stands: as wide a part of the sphere next to it, and farther away."""

    def next_to(span: Range) -> Range:
        width = span[1] - span[0]
        return span[1] + 0.1 * width, span[1] + 1.1 * width

    return replace(
        spread,
        azimuth=next_to(spread.azimuth),
        elevation=next_to(spread.elevation),
        distance=next_to(spread.distance),
    )


def moved_lab(scene: Scene, spreads: Sequence[CameraSpread], rng: np.random.Generator) -> Scene:
    """The same things in another lab: cameras by other spreads, and a table and a wall of colours instead of greys."""
    return replace(
        scene,
        cameras=tuple(_stood(rng, spread) for spread in spreads),
        table_color=_vivid(rng),
        wall_color=_vivid(rng),
    )


def _vivid(rng: np.random.Generator) -> tuple[float, float, float]:
    """A colour whose channels lie farther apart than those of any table or wall that is drawn."""
    low, middle, high = rng.uniform(0.1, 0.35), rng.uniform(0.35, 0.6), rng.uniform(0.6, 0.9)
    first, second, third = rng.permutation([low, middle, high])
    return float(first), float(second), float(third)


def _stood(rng: np.random.Generator, spread: CameraSpread) -> CameraPose:
    side = -1.0 if spread.mirrored else 1.0
    azimuth, elevation = side * rng.uniform(*spread.azimuth), rng.uniform(*spread.elevation)
    out = np.array([np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)])
    target = np.array(spread.target) + rng.uniform(-spread.jitter, spread.jitter, 3)
    eye = target + rng.uniform(*spread.distance) * out
    fov = float(rng.uniform(*spread.vertical_fov))
    return CameraPose(spread.name, tuple(map(float, eye)), tuple(map(float, target)), fov)  # type: ignore[arg-type]


# Recordings ------------------------------------------------------------------------------------------------------


def seeds_of(kind: Kind, count: int, block: str | None = None) -> range:
    """The seeds of a kind, of so many recordings a kind; block: for what is judged."""
    first = kind.first + (0 if block is None else BLOCKS[block])
    return range(first, first + max(1, round(kind.share * count)))


def record_kind(
    kind: Kind, seeds: range, folder: Path, *, pictures: bool = False, workers: int = 1, name: str = "recording"
) -> list[Path]:
    """The recordings of seeds, in order; those that are missing are made. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    one = partial(_record, kind=kind, folder=folder, pictures=pictures)
    idle = len(list(folder.iterdir())) >= len(seeds)
    bar = partial(tqdm, total=len(seeds), desc=f"recording {name}", unit="episode", mininterval=5, disable=idle)
    if workers > 1 and not idle:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            return list(bar(pool.map(one, seeds)))
    return list(bar(map(one, seeds)))


def _record(seed: int, *, kind: Kind, folder: Path, pictures: bool) -> Path:
    torch.set_num_threads(1)
    return record_file(seed, folder, kind.settings(seed, pictures=pictures), held_out=seed >= BLOCKS["test"])


def openings(episode: TwinEpisode) -> np.ndarray:
    """How far the first cabinet's drawer is out in every frame (T,) [m]; nothing moves where there is none."""
    scene = episode.meta["scene"]
    if not scene.get("cabinets"):
        return np.zeros(episode.length)
    cabinet, place = scene["cabinets"][0], episode.object_poses[:, len(scene["objects"]), :2].astype(np.float64)
    ahead = np.array([np.cos(cabinet["yaw"]), np.sin(cabinet["yaw"])])
    return np.asarray((place - [cabinet["x"], cabinet["y"]]) @ ahead)


def shut_by(episode: TwinEpisode) -> float:
    """How far [m] the drawer went in, at most, from where it was before."""
    opening = openings(episode)
    return float((np.maximum.accumulate(opening) - opening).max())


# Films -----------------------------------------------------------------------------------------------------------


def films_of(name: str, files: Sequence[Path], views: int) -> tuple[ContactFilm, ...]:
    """The films of a kind that is learned from, as `views` cameras see each recording at least. Raises BadFile.

    Guests are seen by the camera of their recording and from where the Google robot's head would be."""
    if TAUGHT[name].without:
        files = [path for path in files if shut_by(load_episode(path, ("object_poses", "joints"))) <= SHUT_BY]
    if not TAUGHT[name].robots:
        return load_contact_films(files, views=views, progress=False)
    return tuple(_guest_film(path, TAUGHT[name]) for path in files)


def _guest_film(path: Path, kind: Kind) -> ContactFilm:
    episode, own = load_motion(path)
    cameras = [*own, head_of_host(kind.station, episode, own[0].size)]
    return ContactFilm.of(episode, load_robot(episode.meta["robot"]), cameras)


def load_motion(path: Path) -> tuple[TwinEpisode, list[Camera]]:
    """The motion of a recording, and its cameras. Raises BadFile."""
    episode = load_episode(path, ("joints", "object_poses"))
    return episode, [Camera.from_dict(item) for item in episode.meta["cameras"]]


def head_of_host(name: str, episode: TwinEpisode, size: tuple[int, int]) -> Camera:
    """The camera in the head of a station's own robot, if it stood there and did not move; pictures of `size`."""
    station, seed = get_station(name), int(episode.meta["seed"])
    model = load_robot(station.robot)
    scene = Scene.from_dict(episode.meta["scene"])
    joints = station.draw_joints(np.random.default_rng([seed, 71]), model, scene)
    seen = ridden(model.cameras["head"].resized(size), model, joints.astype(np.float32)[None])
    one = of_frames(seen, slice(0, 1))
    return replace(one, intrinsics=one.intrinsics[0], T_parent_camera=one.T_parent_camera[0])
