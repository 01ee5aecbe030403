"""`vap-sim replay`: recorded actions dreamt beside the recording, as videos and figures."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm
from tyro.conf import Positional

from vap_sim.errors import InvalidInput, UnknownName

if TYPE_CHECKING:
    from vap_sim.data.fitted_view import FittedView
    from vap_sim.data.prepared import PreparedSet
    from vap_sim.metrics.detector import Detector
    from vap_sim.metrics.replay import ReplayFigures
    from vap_sim.models.protocol import WorldModel

RECORD = "replay.json"


@dataclass(frozen=True)
class Replay:
    """Dream what was recorded. Example: vap-sim replay data/prepared --weights station.safetensors --out out/replay

    `folder` is what `vap-sim prepare` wrote. From a clip's first picture on, the world is told the recorded joints and
    nothing else; OUT gets a video of each clip and camera (recorded, recorded with the drawn skeleton, dream) and
    replay.json with every figure. PSNR on moving pixels stands beside what repeating the first picture earns.

    weights: a weights file or the name of a world; clips, views: only these, by name; held_out: only clips that the
    weights were not trained on; seconds: at most so much of each clip; alignment: the homographies that skeletons are
    drawn through, the `first` frame's, which is known before a dream begins, `each` frame's own, or `none`; detector:
    finds the robot, by default what `vap-sim adapt` left beside the weights, and without one agreement is not told;
    sheet: also a picture of steps 1, 10, 25 and 50 of each."""

    folder: Positional[Path]
    weights: str
    out: Path
    clips: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    held_out: bool = False
    seconds: float | None = None
    alignment: str = "first"
    detector: Path | None = None
    sheet: bool = False
    seed: int = 0
    device: str = "cpu"
    threads: int = 2


SHEET_STEPS = (1, 10, 25, 50)


def run(command: Replay) -> str:
    """Dream, write videos and figures, and say the means.

    Raises InvalidInput, UnknownName, BadFile, Unsupported, OSError."""
    import torch

    from vap_sim.data.prepared import open_prepared
    from vap_sim.models.registry import load_world

    if command.seconds is not None and not command.seconds > 0:
        raise InvalidInput("--seconds", command.seconds, "more than 0")
    torch.set_num_threads(command.threads)
    prepared = open_prepared(command.folder)
    world = load_world(command.weights, device=command.device)
    learned = learned_clips(command.weights)
    names = _chosen(command, prepared, learned)
    eye = _detector(command)
    command.out.mkdir(parents=True, exist_ok=True)
    every, rows = [], []
    for view, size in tqdm(list(_views(command, prepared, names, world)), desc="replaying", unit="view", mininterval=5):
        figures = _one(command, world, view, size, None if eye is None else eye[1])
        every.append(figures)
        rows.append(
            {
                "clip": view.clip,
                "view": view.view,
                "trained_on": view.clip in learned,
                "frame_rate": view.frame_rate,
                "mean": figures.means(),
                "steps": figures.steps(),
            }
        )
    _write(command.out / RECORD, {**_about(command, world, eye), "mean": mean_of(every), "replays": rows})
    return "\n".join([*_lines(rows, mean_of(every)), f"written: {command.out / RECORD}"])


def learned_clips(weights: str) -> tuple[str, ...]:
    """The clips that a weights file says it was adapted to; none for a world's name and other files. Raises BadFile."""
    from vap_sim.models.checkpoint import read_description
    from vap_sim.models.registry import is_path

    if not is_path(weights) or not Path(weights).is_file():
        return ()
    adapted = read_description(Path(weights)).get("adapted")
    named = adapted.get("clips") if isinstance(adapted, dict) else None
    return tuple(str(name) for name in named) if isinstance(named, list) else ()


def mean_of(every: list[ReplayFigures]) -> dict[str, float | None]:
    """The mean over replays of each replay's mean over its steps; None where no replay has one."""
    import numpy as np

    from vap_sim.metrics.replay import pooled

    if not every:
        return {}
    found = {name: pooled(every, name) for name in vars(every[0])}
    return {name: float(np.mean(values)) if len(values) else None for name, values in found.items()}


def _chosen(command: Replay, prepared: PreparedSet, learned: tuple[str, ...]) -> tuple[str, ...]:
    for name in command.clips:
        if name not in prepared.names:
            raise UnknownName(f"clip of {command.folder}", name, prepared.names)
    names = tuple(name for name in prepared.names if not command.clips or name in command.clips)
    if command.held_out:
        names = tuple(name for name in names if name not in learned)
    if not names:
        given = f"none of {len(prepared.names)}" + (", all others were trained on" if command.held_out else "")
        raise InvalidInput(f"clips of {command.folder} to replay", given, "at least one")
    return names


def _views(
    command: Replay, prepared: PreparedSet, names: tuple[str, ...], world: WorldModel
) -> Iterator[tuple[FittedView, tuple[int, int]]]:
    """The views to dream, and the size of their recordings; cameras that ride on the robot are left out."""
    from vap_sim.data.fitted_view import fit_view, standing_views
    from vap_sim.metrics.replay import stride_of

    known: set[str] = set()
    for name in names:
        clip = prepared.read(name)
        stride = stride_of(clip.frame_rate, world.spec.frame_rate)
        for number in standing_views(clip):
            camera = clip.cameras[number]
            known.add(camera.name)
            if (not command.views or camera.name in command.views) and clip.kept[number].any():
                fitted = fit_view(
                    clip, number, world.spec.size, world.spec.profile, alignment=command.alignment, stride=stride
                )
                yield fitted, clip.size
    for name in command.views:
        if name not in known:
            raise UnknownName(f"standing camera of {command.folder}", name, sorted(known))


def _one(
    command: Replay, world: WorldModel, view: FittedView, size: tuple[int, int], detector: Detector | None
) -> ReplayFigures:
    """Dream one view, write its video, and return its figures."""
    from vap_sim.metrics.replay import judge, replay
    from vap_sim.viewer.replay import replay_pictures, replay_sheet, write_picture
    from vap_sim.viewer.video import write_mp4

    steps = None if command.seconds is None else max(1, round(command.seconds * view.frame_rate))
    replayed = replay(world, view, steps=steps, seed=command.seed)
    figures = judge(replayed, detector)
    name = f"{view.clip}.{view.view}"
    pictures = replay_pictures(replayed, figures, size, f"{view.clip}, {view.view}")
    write_mp4(command.out / f"{name}.mp4", pictures, view.frame_rate)
    if command.sheet:
        write_picture(command.out / f"{name}.png", replay_sheet(replayed, size, SHEET_STEPS))
    return figures


def _detector(command: Replay) -> tuple[Path, Detector] | None:
    """The detector and its file: the one that was named, else the one beside the weights, if there is one."""
    from vap_sim.commands.adapt import detector_beside
    from vap_sim.metrics.detector import Detector
    from vap_sim.models.registry import is_path

    path = command.detector
    if path is None and is_path(command.weights):
        beside = detector_beside(Path(command.weights))
        path = beside if beside.is_file() else None
    return None if path is None else (path, Detector.load(path, device=command.device))


def _about(command: Replay, world: WorldModel, eye: tuple[Path, Detector] | None) -> dict[str, Any]:
    return {
        "folder": str(command.folder),
        "world": {"given": command.weights, **asdict(world.spec)},
        "alignment": command.alignment,
        "seed": command.seed,
        "detector": None if eye is None else str(eye[0]),
        "judged": f"at {world.spec.size[0]} x {world.spec.size[1]} pixels, the world's, frame 0 given and not judged",
    }


def _lines(rows: list[dict[str, Any]], mean: dict[str, float | None]) -> list[str]:
    lines = []
    for row in [*rows, {"clip": "mean", "view": "", "mean": mean}]:
        told = row["mean"]
        figures = [f"moving {_text(told['moving'])} dB", f"copy {_text(told['copy'])} dB"]
        figures += [f"gain {_text(told['gain'])} dB", f"whole {_text(told['psnr'])} dB"]
        if told["agreement_recorded"] is not None:
            most = f"recording {_text(told['agreement_recorded'])}, copy {_text(told['agreement_copy'])}"
            figures.append(f"agreement {_text(told['agreement'])} ({most})")
        lines.append(f"{row['clip']} {row['view']}: ".replace(" :", ":") + ", ".join(figures))
    return lines


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.2f}"


def _write(path: Path, record: dict[str, Any]) -> None:
    """Whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
