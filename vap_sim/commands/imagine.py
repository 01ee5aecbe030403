"""`vap-sim imagine`: what a demonstration shows, or a learned motion is, dreamt from a picture of another scene."""

from __future__ import annotations

import json
import os
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from tyro.conf import arg

from vap_sim.commands.outcome import Outcome
from vap_sim.errors import BadFile, InvalidInput, UnknownName

if TYPE_CHECKING:
    from torch import Tensor

    from vap_sim.models.cogvideox.world import CogVideoXWorld

SHOWN, NAMED = ("action_prism", "video_as_prompt"), ("flexiact",)
"""Systems that are told an action by a demonstration, and by the name of what was learned of it."""
_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff")
_PANEL = 256
"""Pixels that a picture in the film is high at least."""
_MOST = 4096


@dataclass(frozen=True)
class Imagine:
    """Dream a shown action. Example: vap-sim imagine --start a.png --demo b.mp4 --with action_prism --world DIR

    action_prism and video_as_prompt read a demonstration and its caption; flexiact is told the names of learned
    motions, for which `vap-sim learn-action` is there. The film shows the demonstration beside the dream, and a JSON
    file beside it says what was done. Nothing is drawn: a control that the world brings is left aside.

    Attributes:
        start: A picture, or the name of a shipped start.
        world: CogVideoX folder, which may bring the conditioner itself.
        with_: System: action_prism, video_as_prompt or flexiact.
        demo: Video of the action.
        demo_caption: What is seen in it.
        motion: Names of learned motions, for flexiact.
        weights: The conditioner's own: a file, or for flexiact files of learned motions.
        adapter: File of FlexiAct's RefAdapter.
        caption: What shall be seen; by default the start's task in words.
        frames: Pictures of the dream; as many as a clip of the world has if not given.
        scale: Strength of the conditioner.
        reference_guidance: Above 1 the demonstration is amplified, at the cost of one more pass a step.
        guidance: Over text, as the world has it if not given.
        steps: Of denoising, as the world has them if not given.
        mode: stream or chunk, as the world has it if not given.
        seed: Of the noise.
        device: Where to compute: cpu, cuda.
        offload: Device that waits with what is not in use, as the world has it if not given.
        threads: Of torch, on the processor.
        out: Film to write, its name ends in .mp4.
    """

    start: str
    world: str
    with_: Annotated[str, arg(name="with")]
    demo: Path | None = None
    demo_caption: str | None = None
    motion: tuple[str, ...] = ()
    weights: tuple[Path, ...] = ()
    adapter: Path | None = None
    caption: str | None = None
    frames: int | None = None
    scale: float | None = None
    reference_guidance: float | None = None
    guidance: float | None = None
    steps: int | None = None
    mode: str | None = None
    seed: int = 0
    device: str = "cpu"
    offload: str | None = None
    threads: int = 2
    out: Path = Path("out") / "imagine.mp4"


@dataclass(frozen=True, eq=False)
class _Film:
    """What was dreamt: pictures (T, H, W, 3) uint8 from the start on, remarks on the way, and how long it took [s]."""

    frames: Tensor
    notes: tuple[str, ...]
    seconds: float


def run(command: Imagine) -> Outcome:
    """Dream, write the film and what was done, and say so.

    Raises InvalidInput, UnknownName, BadFile, Unsupported, MissingDependency, OSError.
    """
    import torch

    from vap_sim.data.video_file import read_video

    _check(command)
    picture, told = _picture(command.start)
    caption = told if command.caption is None else command.caption
    demo = None if command.demo is None else read_video(command.demo)
    torch.set_num_threads(command.threads)
    world = _world(command)
    start = _fitted(picture, world.spec.size)
    film = _dream(command, world, start, demo, caption)
    from vap_sim.viewer.video import write_mp4

    write_mp4(command.out, _panels(command, film.frames, demo), world.spec.frame_rate)
    about = _about(command, world, film, picture, demo, caption)
    place = command.out.with_suffix(".json")
    _write(place, about)
    notes = [f"note: {note}" for note in film.notes]
    done = f"dreamt {len(film.frames)} pictures with {command.with_} in {film.seconds:.1f} s"
    told = "\n".join([done, *notes, f"written: {command.out}, {place}"])
    return Outcome(told, {**about, "written": [command.out, place]})


def _check(command: Imagine) -> None:
    """Raise before anything large is read where options cannot go together."""
    system = command.with_
    if system not in SHOWN + NAMED:
        raise UnknownName("system for --with", system, SHOWN + NAMED)
    if command.out.suffix.lower() != ".mp4":
        raise InvalidInput("--out", command.out.name, "a name that ends in .mp4")
    if command.frames is not None and not 2 <= command.frames <= _MOST:
        raise InvalidInput("--frames", command.frames, f"2 to {_MOST} pictures, the start among them")
    if system in SHOWN:
        if command.demo is None:
            raise InvalidInput("--demo", None, f"a video of the action: {system} is told by a demonstration")
        if command.demo_caption is None:
            raise InvalidInput("--demo-caption", None, f"what is seen in {command.demo}, in words: {system} reads both")
        if command.motion:
            raise InvalidInput("--motion", list(command.motion), f"none: {system} learns no motions, flexiact does")
    elif not command.motion:
        learn = "vap-sim learn-action CLIP --name NAME --weights WORLD --out FILE"
        raise InvalidInput("--motion", None, f"names of learned motions, see {learn}: {system} reads no demonstration")
    if command.adapter is not None and (system not in NAMED or not command.weights):
        raise InvalidInput("--adapter", command.adapter, "none but with flexiact and its --weights")


def _picture(start: str) -> tuple[np.ndarray, str]:
    """The first picture (H, W, 3) RGB and the task in words, from a file, a start's folder or a shipped start."""
    from vap_sim.envs.start import load_start

    path = Path(start)
    if path.suffix.lower() in _PICTURES or path.is_file():
        import cv2

        if not path.is_file():
            raise BadFile(path, "no such picture")
        pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if pixels is None:
            raise BadFile(path, f"is no picture that can be read; known are {', '.join(_PICTURES)}")
        return np.ascontiguousarray(pixels[..., ::-1]), ""
    found = load_start(path if path.is_dir() else start)
    return found.frames[0].numpy(), found.instruction


def _world(command: Imagine) -> CogVideoXWorld:
    """The world with this one conditioner and no other."""
    from vap_sim.models.cogvideox.loading import brings
    from vap_sim.models.cogvideox.world import CogVideoXWorld
    from vap_sim.models.conditioners.opening import ADAPTER, SCALE, WEIGHTS

    system = command.with_
    if not command.weights and system not in brings(command.world):
        raise InvalidInput("--weights", None, f"files of {system}: {command.world} brings none")
    told: dict[str, Any] = {}
    if command.weights:
        told[WEIGHTS] = list(command.weights)
    for name, value in ((ADAPTER, command.adapter), (SCALE, command.scale)):
        if value is not None:
            told[name] = value
    others = {name: False for name in SHOWN + NAMED if name != system}
    return CogVideoXWorld.load(
        command.world,
        device=command.device,
        control=False,
        conditioners={**others, system: told},
        reference_guidance=command.reference_guidance,
        guidance=command.guidance,
        steps=command.steps,
        mode=command.mode,
        offload=command.offload,
        tiling=True,
    )


def _fitted(picture: np.ndarray, size: tuple[int, int]) -> Tensor:
    """The middle of a picture, as much as has the shape that is wanted, at (width, height): (H, W, 3) uint8."""
    import torch

    from vap_sim.training.reference_footage import resized

    height, width = picture.shape[:2]
    scale = min(width / size[0], height / size[1])
    wide, high = max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
    left, top = (width - wide) // 2, (height - high) // 2
    return resized(torch.from_numpy(picture[None, top : top + high, left : left + wide].copy()), size)[0]


def _dream(command: Imagine, world: CogVideoXWorld, start: Tensor, demo: Tensor | None, caption: str) -> _Film:
    import torch
    from tqdm import tqdm

    from vap_sim.models.conditioners.action_prism_reference import Resampled
    from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt

    count, each = command.frames or world.max_chunk, world.spec.frames_per_step
    black = torch.zeros((), dtype=torch.uint8)
    reference = None
    if command.with_ in SHOWN and demo is not None:
        reference = ReferenceClip(demo[None], (str(command.demo_caption),))
    first = VisualPrompt(black.expand(1, 1, 1, *start.shape), None, reference, command.motion, (caption,))
    later = VisualPrompt(black.expand(1, 1, each, *start.shape))
    began = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", Resampled)
        state = world.encode(start[None, None], first, [command.seed])
        film = [start[None]]
        for _ in tqdm(range(-(-(count - 1) // each)), desc="dreaming", unit="step", dynamic_ncols=True):
            state, frames = world.step(state, later)
            film.append(frames[0, 0].cpu())
    seconds = time.perf_counter() - began
    for one in caught:
        if not issubclass(one.category, Resampled):
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)
    notes = dict.fromkeys(str(one.message) for one in caught if issubclass(one.category, Resampled))
    return _Film(torch.cat(film)[:count], tuple(notes), seconds)


def _panels(command: Imagine, dream: Tensor, demo: Tensor | None) -> Iterator[np.ndarray]:
    """Frames of the film: the demonstration, evenly over its length and as the model sees it, beside the dream."""
    import cv2
    import torch

    from vap_sim.training.reference_footage import evenly, resized

    height, width = dream.shape[1:3]
    columns = [("dream", dream)]
    if demo is not None:
        chosen = evenly(max(2, len(demo)), len(dream)).clip(max=len(demo) - 1)
        columns.insert(0, ("demonstration", resized(demo[torch.from_numpy(chosen)], (width, height))))
    times = -(-_PANEL // height)
    for number in range(len(dream)):
        row = np.hstack([film[number].numpy() for _, film in columns]).repeat(times, 0).repeat(times, 1)
        head = np.full((32, row.shape[1], 3), 24, np.uint8)
        for column, (name, _) in enumerate(columns):
            at = (8 + column * width * times, 21)
            cv2.putText(head, name, at, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (150, 190, 255), 1, cv2.LINE_AA)
        yield np.vstack([head, row])


def _about(
    command: Imagine, world: CogVideoXWorld, film: _Film, picture: np.ndarray, demo: Tensor | None, caption: str
) -> dict[str, Any]:
    """What was done, as plain data."""
    from vap_sim.models.tensor_cache import hash_file

    (conditioner,) = world.parts.conditioners
    told: dict[str, Any] | None = None
    if command.demo is not None and demo is not None:
        told = {"video": str(command.demo), "sha256": hash_file(command.demo), "caption": command.demo_caption}
        told |= {"frames": len(demo), "size": _size(demo.shape[1:3]), "read": command.with_ in SHOWN}
    return {
        "with": command.with_,
        "conditioner": getattr(conditioner, "settings", {}),
        "weights": [str(path) for path in command.weights] or "the world's own",
        "adapter": None if command.adapter is None else str(command.adapter),
        "world": {"folder": command.world, "fingerprint": world.fingerprint, "settings": world.settings.to_dict()},
        "start": {"given": command.start, "size": _size(picture.shape[:2]), "fitted_to": list(world.spec.size)},
        "caption": caption,
        "demonstration": told,
        "motion": list(command.motion),
        "prompt": "black: nothing is drawn, and no control is told",
        "seed": command.seed,
        "frames": len(film.frames),
        "frame_rate": world.spec.frame_rate,
        "seconds": round(film.seconds, 3),
        "notes": list(film.notes),
    }


def _size(shape: Sequence[int]) -> list[int]:
    return [int(shape[1]), int(shape[0])]


def _write(path: Path, about: dict[str, Any]) -> None:
    """Whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(about, indent=1), encoding="utf-8")
    os.replace(partial, path)
