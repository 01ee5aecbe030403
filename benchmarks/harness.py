"""What the benchmarks of dreams share: held-out episodes, dreaming, resampling, tables, records and contact sheets."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from vap_sim.data.twin import TwinEpisode, load_episode
from vap_sim.errors import BadFile, InvalidInput, UnknownName, Unsupported
from vap_sim.models.protocol import WorldModel
from vap_sim.models.registry import load_world
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel, load_robot

HELD_OUT = range(1_000_000, 1_000_100)
"""Seeds of the evaluation episodes."""
RESAMPLES = 2000
Picture = NDArray[np.uint8]


def arguments(description: str | None, out: str) -> argparse.ArgumentParser:
    """The options that all benchmarks of dreams have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", default="compact", help="a world's name or a weights file")
    parser.add_argument(
        "--episodes", type=Path, help="folder of held-out episodes; recorded to out/episodes if left out"
    )
    parser.add_argument("--limit", type=int, help="use only so many episodes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("out") / out)
    parser.add_argument("--sheet", type=Path, help="write a contact sheet to this PNG file")
    return parser


def begin(options: argparse.Namespace) -> WorldModel:
    """Set the number of threads and load the world. Raises Unsupported for worlds of several views."""
    torch.set_num_threads(options.threads)
    world = load_world(options.world)
    if world.spec.views != 1:
        raise Unsupported(f"benchmarks dream one view; world {world.spec.name!r} has {world.spec.views}")
    return world


def held_out_files(folder: Path | None, limit: int | None, workers: int = 2) -> list[Path]:
    """Files of the held-out episodes, in the order of their seeds; those not yet in the cache folder are recorded.

    Raises InvalidInput where a given folder lacks them.
    """
    seeds = HELD_OUT if limit is None else HELD_OUT[:limit]
    return recorded_files(seeds, folder, Path("out") / "episodes", _record, workers)


def recorded_files(
    seeds: range, folder: Path | None, own: Path, record: Callable[[int, Path], Any], workers: int = 2
) -> list[Path]:
    """Episode files of seeds, in order: those of a given folder, or of one's own, where missing ones are recorded.

    record: writes the episode of a seed to a folder; it is sent to other processes. Raises InvalidInput where a given
    folder lacks some.
    """
    place = own if folder is None else folder
    files = [place / f"twin_{seed:08d}.vap.npz" for seed in seeds]
    missing = [seed for seed, file in zip(seeds, files, strict=True) if not file.exists()]
    if missing and folder is not None:
        raise InvalidInput("--episodes", f"{folder} without seeds {missing[:5]}...", f"seeds {seeds[0]} to {seeds[-1]}")
    if missing:
        place.mkdir(parents=True, exist_ok=True)
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            jobs = pool.map(record, missing, [place] * len(missing))
            list(tqdm(jobs, total=len(missing), unit="episode", desc="recording", mininterval=5))
    return files


def _record(seed: int, folder: Path) -> None:
    from vap_sim.envs.twin_recorder import RecorderSettings, record_file

    torch.set_num_threads(1)
    record_file(seed, folder, RecorderSettings(), held_out=True)


def episode_camera(episode: TwinEpisode) -> Camera:
    """The camera of an episode's first view."""
    return Camera.from_dict(episode.meta["cameras"][0])


def dream(world: WorldModel, starts: Tensor, joints: Tensor, cameras: Sequence[Camera]) -> Tensor:
    """As `dream_views`, of a Panda seen by one camera a row: starts (b, H, W, 3) -> frames (b, T + 1, H, W, 3)."""
    return dream_views(world, "panda_robotiq", starts[:, None], joints, [Camera.batch(list(cameras))])[:, 0]


def dream_views(world: WorldModel, robot: str, starts: Tensor, joints: Tensor, cameras: Sequence[Camera]) -> Tensor:
    """Dream open loop: starts (b, V, H, W, 3) uint8, joints (b, T + 1, J) [rad or m] -> (b, V, T + 1, H, W, 3) uint8.

    cameras: one a view, each a batch of b. Frame 0 is the start itself. T must be a multiple of the world's frames per
    step; rows are seeded 0, 1, ...
    """
    rows, poses = joints.shape[:2]
    prompter = Prompter(load_robot(robot), profile(world.spec.profile), world.spec.size)
    prompts = prompter.draw(joints, cameras)
    state = world.encode(starts, prompts.between(0, 1), list(range(rows)))
    frames = world.imagine(state, prompts.between(1, poses)).frames
    assert frames is not None
    return torch.cat([starts[:, :, None], frames.cpu()], dim=2)


def dreamt_episodes(world: WorldModel, files: Sequence[Path], batch: int = 10) -> Iterator[tuple[TwinEpisode, Tensor]]:
    """Each episode with its dream of its first view, (T + 1, H, W, 3), as `dreamt_views` makes it."""
    for episode, frames in dreamt_views(world, files, batch=batch):
        yield episode, frames[0]


def dreamt_views(
    world: WorldModel, files: Sequence[Path], views: Sequence[str] | None = None, batch: int = 10
) -> Iterator[tuple[TwinEpisode, Tensor]]:
    """Each episode with its dream (V, T + 1, H, W, 3), dreamt in batches from the first frames by the nominal joints.

    views: names of those to dream and to keep of the episode, in this order; its first one where None. All episodes are
    of one robot. Raises UnknownName for a view that an episode lacks.
    """
    for index in tqdm(range(0, len(files), batch), desc="dreaming", unit="batch", mininterval=5):
        episodes = [seen_by(load_episode(file), views) for file in files[index : index + batch]]
        starts = torch.from_numpy(np.stack([episode.frames[:, 0] for episode in episodes]))
        joints = torch.from_numpy(np.stack([episode.joints for episode in episodes]))
        each = [[Camera.from_dict(camera) for camera in episode.meta["cameras"]] for episode in episodes]
        cameras = [Camera.batch(list(view)) for view in zip(*each, strict=True)]
        frames = dream_views(world, episodes[0].meta["robot"], starts, joints, cameras)
        yield from zip(episodes, frames, strict=True)


def seen_by(episode: TwinEpisode, views: Sequence[str] | None) -> TwinEpisode:
    """The episode as cameras of these names saw it, in this order; as the first one did where None. Its `plates` are
    left out. Raises UnknownName."""
    names = [camera["name"] for camera in episode.meta["cameras"]]
    for view in views or ():
        if view not in names:
            raise UnknownName(f"view of episode {episode.meta['seed']}", view, names)
    places = [0] if views is None else [names.index(view) for view in views]
    pictures = {
        name: getattr(episode, name)[places] for name in ("frames", "objects", "plate", "robot", "labels", "flow")
    }
    cameras = [episode.meta["cameras"][place] for place in places]
    return replace(episode, **pictures, plates=episode.plates[:0], meta={**episode.meta, "cameras": cameras})


def joint_angles(model: RobotModel, q: NDArray[np.floating[Any]]) -> dict[str, float]:
    """Angles of all movable joints by name, followers included, at the independent joints q (J,) [rad]."""
    angles = dict(zip(model.robot.joint_names, (float(value) for value in q), strict=True))
    for joint in ElementTree.parse(model.folder / "robot.urdf").iterfind("joint"):
        mimic = joint.find("mimic")
        if mimic is not None:
            lead = angles[mimic.attrib["joint"]]
            angle = float(mimic.get("multiplier", 1)) * lead + float(mimic.get("offset", 0))
            angles[joint.attrib["name"]] = angle
    return angles


def twin_pictures(episode: TwinEpisode, joints: NDArray[np.floating[Any]]) -> Tensor:
    """The twin's picture of each pose (T, J) in an episode's scene, objects resting: (T, H, W, 3) uint8."""
    from vap_sim.envs.scenes import Scene
    from vap_sim.envs.twin_renderer import Snapshot, TwinRenderer

    model, camera = load_robot(episode.meta["robot"]), episode_camera(episode)
    poses = tuple((tuple(row[:3].tolist()), tuple(row[3:].tolist())) for row in episode.object_poses[0])
    renderer = TwinRenderer(Scene.from_dict(episode.meta["scene"]), model.folder / "robot.urdf")
    T_base_camera = np.asarray(camera.T_parent_camera, np.float64)
    try:
        pictures = [renderer.render(Snapshot(joint_angles(model, q), poses), camera, T_base_camera).rgb for q in joints]
    finally:
        renderer.close()
    return torch.from_numpy(np.stack(pictures))


# Statistics and records ------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Totals and counts, one pair an episode: the mean is sum / sum, resampled by episodes."""

    totals: list[float] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    undefined: int = 0

    def add(self, values: Sequence[float], undefined: int = 0) -> None:
        """The values of one episode; those that do not exist are only counted."""
        self.totals.append(float(np.sum(values)))
        self.counts.append(len(values))
        self.undefined += undefined

    def add_mean(self, values: Sequence[float], undefined: int = 0) -> None:
        """The values of one episode as one value, their mean."""
        self.add([float(np.mean(values))] if len(values) else [], undefined)

    def summary(self) -> Summary | None:
        """Mean and 95 % bootstrap interval over episodes; None where no value exists."""
        totals, counts = np.asarray(self.totals), np.asarray(self.counts, np.float64)
        if not counts.sum():
            return None
        rows = np.random.default_rng(0).integers(len(totals), size=(RESAMPLES, len(totals)))
        below = counts[rows].sum(1)
        means = totals[rows].sum(1)[below > 0] / below[below > 0]
        low, high = np.percentile(means, [2.5, 97.5])
        value = float(totals.sum() / counts.sum())
        return Summary(value, float(low), float(high), int(counts.sum()), self.undefined)


@dataclass(frozen=True)
class Summary:
    """A mean, its 95 % interval, how many values it rests on, and how many did not exist."""

    value: float
    low: float
    high: float
    number: int
    undefined: int


@dataclass(frozen=True)
class Row:
    """One line of a report. `bar` is the least value to reach; `beside` holds further figures by column name."""

    name: str
    summary: Summary | None
    unit: str = ""
    bar: float | None = None
    beside: Mapping[str, Summary | None] = field(default_factory=dict)

    @property
    def passed(self) -> bool | None:
        """Whether the bar is reached; None without a bar or a value."""
        return None if self.bar is None or self.summary is None else self.summary.value >= self.bar


def table(rows: Sequence[Row]) -> str:
    """Rows as aligned text."""
    columns = list(dict.fromkeys(name for row in rows for name in row.beside))
    cells = [["measure", "dream", "95 % interval", "bar", "", *columns, "n", "undefined"]]
    for row in rows:
        own, verdict = row.summary, {None: "", True: "pass", False: "FAIL"}[row.passed]
        middle = ["-", "-"] if own is None else [_text(own.value, row.unit), _interval(own, row.unit)]
        tail = ["0", "-"] if own is None else [str(own.number), str(own.undefined)]
        others = [row.beside.get(name) for name in columns]
        further = ["-" if other is None else _text(other.value, row.unit) for other in others]
        cells.append([row.name, *middle, "" if row.bar is None else _text(row.bar, row.unit), verdict, *further, *tail])
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def _text(value: float, unit: str) -> str:
    if unit == "%":
        return f"{100 * value:.1f} %"
    return f"{value:.2f} {unit}" if unit else f"{value:.3f}"


def _interval(own: Summary, unit: str) -> str:
    low, high = (_text(value, unit).removesuffix(unit).strip() for value in (own.low, own.high))
    return f"{low} .. {high}"


def about(world: WorldModel, options: argparse.Namespace) -> dict[str, Any]:
    """Where a record comes from: world, command and machine."""
    return {
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "world": asdict(world.spec),
        "threads": options.threads,
        "torch": torch.__version__,
        "opencv": cv2.__version__,
        "python": platform.python_version(),
        "processor": platform.processor() or platform.machine(),
        "load": os.getloadavg()[0],
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a record whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1), encoding="utf-8")
    partial.replace(path)


def read_record(path: Path, run: Any, settings: Mapping[str, Any]) -> dict[str, Any] | None:
    """The record of a finished run, or None where it has none yet.

    run: a dataclass, and settings: what it depends on; the record must have both, under "run" and "settings". Raises
    BadFile for a damaged record and for one of another run or of other settings.
    """
    if not path.is_file():
        return None
    told = json.loads(json.dumps({"run": asdict(run), "settings": settings}))
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        same = {name: record[name] for name in told} == told
    except (ValueError, KeyError, TypeError) as error:
        raise BadFile(path, f"is not the record of a run ({error!r})") from error
    if not same:
        raise BadFile(path, "is of a run with other settings; give another folder by --out")
    return dict(record)


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as JSON values."""
    return [{**asdict(row), "passed": row.passed} for row in rows]


def write_sheet(path: Path, lines: Sequence[tuple[str, Sequence[Picture]]], scale: int = 2) -> None:
    """A PNG of rows of pictures (H, W, 3) uint8, each row under its caption."""
    strips = []
    for caption, pictures in lines:
        strip = np.concatenate([np.asarray(picture) for picture in pictures], axis=1)
        strip = cv2.resize(strip, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        head = np.full((18, strip.shape[1], 3), 255, np.uint8)
        cv2.putText(head, caption, (4, 13), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
        strips += [head, strip]
    width = max(strip.shape[1] for strip in strips)
    strips = [np.pad(s, ((0, 0), (0, width - s.shape[1]), (0, 0)), constant_values=255) for s in strips]
    written, content = cv2.imencode(".png", np.concatenate(strips)[..., ::-1])
    assert written
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.tobytes())
