"""`vap-sim adapt`: teach the embedded model a station or a body; resumable, on a CPU or a GPU."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from vap_sim.commands.outcome import Outcome
from vap_sim.errors import InvalidInput

if TYPE_CHECKING:
    from vap_sim.data.prepared import PreparedClip
    from vap_sim.models.compact.network import CompactNetwork
    from vap_sim.training.adapt import ShownFilm
    from vap_sim.training.adapt_films import StationFilm
    from vap_sim.training.films import PictureFilm

SHIPPED = "compact"


@dataclass(frozen=True)
class Adapt:
    """Teach the compact model your station. Example: vap-sim adapt data/prepared --out runs/station.safetensors

    The networks that read a scene and paint the robot are trained on all cameras that stand still; the one that moves
    objects stays as it is. Training stops after --minutes with a checkpoint in the folder OUT without its suffix; the
    same command goes on from there. Whenever it stops, the averaged weights are written to OUT, a world that goes
    wherever a weights file is taken, and beside them a detector that finds the robot in this station's pictures
    (NAME.detector.safetensors): `vap-sim replay` judges dreams with it. Recordings of the twin say what is robot, what
    is an object and what lies behind; of them nothing has to be told from pictures, and objects stay objects.

    Attributes:
        folder: What `vap-sim prepare` wrote, or recordings of `vap-sim record`.
        out: Weights file to write.
        weights: `compact`, the shipped weights, or the file to begin with.
        twin: Folder of `vap-sim record`, mixed in against forgetting what the twin taught.
        held_out: So many of the last recordings are only looked at in previews.
        steps: Length of the training.
        cooldown: Steps at its end over which the learning rate falls to zero.
        minutes: Stop after so long, with a checkpoint.
        learning_rate: Of AdamW.
        lora: Rank of the updates that are learned instead of the whole networks, 0 for the whole.
        scenes: Recordings a step, of each one frame read and others painted.
        margin: How far the robot may be from where geometry and camera put it, as a share of the picture's height; of
            clips.
        alignment: Homographies of the prompts of clips: each frame's own, the first, or none.
        detector_steps: Length of the detector's training, 0 for none.
        seed: Of all draws.
        device: Where to compute: cpu, cuda.
        threads: Of torch, on the processor.
    """

    folder: Positional[Path]
    out: Path
    weights: str = SHIPPED
    twin: Path | None = None
    held_out: int = 0
    steps: int = 3000
    cooldown: int = 1000
    minutes: float | None = None
    learning_rate: float = 5e-4
    lora: int = 0
    scenes: int = 2
    margin: float = 0.05
    alignment: str = "each"
    detector_steps: int = 300
    seed: int = 0
    device: str = "cpu"
    threads: int = 2


@dataclass(frozen=True, eq=False)
class _Station:
    """Films to learn from, films to show, the names of the clips of either, and films of the twin, which may be all."""

    films: tuple[StationFilm, ...]
    shown: tuple[ShownFilm, ...]
    learned: tuple[str, ...]
    held_out: tuple[str, ...]
    twin: tuple[PictureFilm, ...]

    @property
    def judged(self) -> tuple[ShownFilm, ...]:
        """Films that are looked at: those held out, or else those learned from."""
        return self.shown or self.films or self.twin


def run(command: Adapt) -> Outcome:
    """Train, write the weights and the detector, and say where. Raises InvalidInput, UnknownName, BadFile, OSError."""
    import torch

    _check(command)
    torch.set_num_threads(command.threads)
    torch.manual_seed(command.seed)
    began = time.monotonic()
    network, profile, start = _network(command.weights)
    station = _station(command, network.config.size, profile)
    if station.films:  # where their tables are is not known well enough to move things in space
        network = network.by_sight()
    lines = [] if not command.detector_steps else [_train_detector(command, station, began)]
    step = _train_network(command, network, station, profile, start, began)
    views, kind = len(station.films or station.twin), "clips" if station.films else "recordings"
    done = f"{views} views of {len(station.learned)} {kind}"
    lines.append(f"step {step} of {command.steps} on {done}, {len(station.held_out)} {kind} held out: {command.out}")
    told = {"step": step, "steps": command.steps, "views": views, "clips": station.learned}
    written = [command.out, *([detector_beside(command.out)] if command.detector_steps else [])]
    return Outcome("\n".join(lines), {**told, "held_out": station.held_out, "written": written})


def detector_beside(weights: Path) -> Path:
    """Where `vap-sim adapt` puts the detector of a weights file."""
    return weights.with_name(f"{weights.stem}.detector.safetensors")


def _train_network(
    command: Adapt, network: CompactNetwork, station: _Station, profile: str, start: str, began: float
) -> int:
    """Train in RUN/pictures, write the weights, and return the step at which training stands."""
    from vap_sim.models.checkpoint import save_tensors
    from vap_sim.training.adapt import AdaptRecipe, AdaptTraining
    from vap_sim.training.adapt_lora import merge_low_rank
    from vap_sim.training.loop import LoopSettings, train

    training = AdaptTraining(
        seed=command.seed, scenes=command.scenes, rank=command.lora, start=start, clips=station.learned
    )
    recipe = AdaptRecipe(network, station.films, station.judged, station.twin, training, command.device)
    outcome = train(
        recipe,
        LoopSettings(
            folder=_run_folder(command) / "pictures",
            steps=command.steps,
            minutes=_left(command, began),
            learning_rate=command.learning_rate,
            warmup=min(100, command.steps // 10),
            cooldown=min(command.cooldown, command.steps),
            average=0.99,
            checkpoint_every=50,
            preview_every=min(250, max(1, command.steps // 4)),
        ),
    )
    recipe.network.load_state_dict(outcome.weights)
    if command.lora:
        merge_low_rank(network)
    adapted = {"from": start, "step": outcome.step, "steps": outcome.steps, "lora": command.lora}
    adapted |= {"clips": list(station.learned), "held_out": list(station.held_out), "twin_views": len(station.twin)}
    description = {"name": "compact", "network": asdict(network.config), "profile": profile, "adapted": adapted}
    save_tensors(command.out, network.stored(), description)
    return outcome.step


def _train_detector(command: Adapt, station: _Station, began: float) -> str:
    """Train in RUN/detector from the shipped detector, write it beside the weights, and say how well it sees."""
    import torch

    from vap_sim.metrics.detector import Detector, describe
    from vap_sim.models.checkpoint import save_tensors
    from vap_sim.training.adapt import station_overlap, station_stills
    from vap_sim.training.detector import DetectorRecipe, DetectorTraining
    from vap_sim.training.loop import LoopSettings, train

    network = Detector.load().network.requires_grad_(True)
    shown = station.judged
    stills = station_stills(station.films or station.twin, every=2)
    outcome = train(
        DetectorRecipe(network, stills, station_stills(shown, every=10), DetectorTraining(seed=command.seed, batch=8)),
        LoopSettings(
            folder=_run_folder(command) / "detector",
            steps=command.detector_steps,
            minutes=_left(command, began),
            learning_rate=1e-3,
            warmup=min(30, command.detector_steps // 10),
            cooldown=command.detector_steps // 2,
            average=0.97,
            checkpoint_every=50,
            preview_every=min(100, command.detector_steps),
        ),
    )
    network.load_state_dict(outcome.weights)
    overlap = station_overlap(Detector(network), shown)
    told: Mapping[str, Any] = {"step": outcome.step, "station": list(station.learned), "overlap": overlap}
    path = detector_beside(command.out)
    tensors = {name: value.to(torch.bfloat16) for name, value in outcome.weights.items()}
    save_tensors(path, tensors, describe(network, **told))
    which = "what was held out" if station.shown else "what it learned from"
    return f"detector: step {outcome.step}, overlap {overlap:.3f} with the robot on {which}: {path}"


def _network(weights: str) -> tuple[CompactNetwork, str, str]:
    """The network of a weights file in full precision, its draw profile and its fingerprint. Raises BadFile."""
    from vap_sim.models.checkpoint import fill, load_tensors
    from vap_sim.models.compact.model import WEIGHTS, CompactWorld, read_config
    from vap_sim.models.compact.network import CompactNetwork

    path = WEIGHTS if weights == SHIPPED else Path(weights)
    fingerprint = CompactWorld.load(path).fingerprint  # and every check that a world's file has to pass
    tensors, description = load_tensors(path)
    network = CompactNetwork(read_config(description.get("network"), path))
    fill(network, tensors, path)
    return network, str(description.get("profile", "compact")), fingerprint


def _station(command: Adapt, size: int, profile: str) -> _Station:
    from vap_sim.data.prepared import INDEX, open_prepared
    from vap_sim.data.twin import episode_files
    from vap_sim.data.twin_dataset import recognises
    from vap_sim.training.adapt_films import station_films
    from vap_sim.training.films import load_films

    if not (command.folder / INDEX).exists() and recognises(command.folder):
        return _recorded(command, profile)
    clips = list(open_prepared(command.folder))
    learned, held = split_recordings(clips, command.held_out)
    films, shown = (
        station_films(some, size, profile, margin=command.margin, alignment=command.alignment)
        for some in (learned, held)
    )
    if not films:
        given = f"{len(learned)} clips in which no camera stands still for two kept frames"
        raise InvalidInput(f"clips of {command.folder}", given, "at least one to learn from")
    names = tuple(clip.name for clip in learned), tuple(clip.name for clip in held)
    twin = () if command.twin is None else load_films(episode_files(command.twin), profile, threads=command.threads)
    return _Station(films, shown, *names, twin)


def _recorded(command: Adapt, profile: str) -> _Station:
    """Recordings of the twin as a station whose layers are known; those of `--twin` are learned from as well."""
    from vap_sim.data.folders import relative_name
    from vap_sim.data.twin import SUFFIX, episode_files
    from vap_sim.training.films import load_films

    files = episode_files(command.folder)
    if not 0 <= command.held_out < len(files):
        raise InvalidInput("--held-out", command.held_out, f"0 or more, and fewer than the {len(files)} recordings")
    learned, held = files[: len(files) - command.held_out], files[len(files) - command.held_out :]
    others = [] if command.twin is None else episode_files(command.twin)
    films = load_films([*learned, *others], profile, threads=command.threads)
    if not films:
        raise InvalidInput(f"recordings of {command.folder}", "none with pictures", "at least one to learn from")
    shown = load_films(held, profile, threads=command.threads) if held else ()
    names = [relative_name(command.folder, file).removesuffix(SUFFIX) for file in files]
    return _Station((), shown, tuple(names[: len(learned)]), tuple(names[len(learned) :]), films)


def split_recordings(
    clips: Sequence[PreparedClip], held_out: int
) -> tuple[tuple[PreparedClip, ...], tuple[PreparedClip, ...]]:
    """Clips to learn from, and those of the last `held_out` recordings: clips of one recording stay together.

    Raises InvalidInput where nothing is left to learn from."""
    sources = list(dict.fromkeys(clip.source or clip.name for clip in clips))
    if not 0 <= held_out < len(sources):
        raise InvalidInput("--held-out", held_out, f"0 or more, and fewer than the {len(sources)} recordings")
    kept = set(sources[len(sources) - held_out :])
    held = tuple(clip for clip in clips if (clip.source or clip.name) in kept)
    return tuple(clip for clip in clips if (clip.source or clip.name) not in kept), held


def _run_folder(command: Adapt) -> Path:
    return command.out.with_suffix("")


def _left(command: Adapt, began: float) -> float | None:
    """The minutes that are left."""
    return None if command.minutes is None else max(0.0, command.minutes - (time.monotonic() - began) / 60)


def _check(command: Adapt) -> None:
    """Raise InvalidInput for what would only fail after the data has been read."""
    import torch

    from vap_sim.training.adapt_lora import MOST

    if command.out.suffix != ".safetensors":
        raise InvalidInput("--out", command.out.name, "a name that ends in .safetensors")
    for name, least in (("steps", 1), ("scenes", 1), ("threads", 1), ("cooldown", 0), ("detector_steps", 0)):
        if getattr(command, name) < least:
            raise InvalidInput(f"--{name.replace('_', '-')}", getattr(command, name), f"{least} or more")
    if not command.learning_rate > 0:
        raise InvalidInput("--learning-rate", command.learning_rate, "more than 0")
    if not 0 <= command.lora <= MOST:
        raise InvalidInput("--lora", command.lora, f"0 (train the whole networks) to {MOST}")
    try:
        torch.zeros(1, device=command.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        expected = f"one that torch can use here, such as cpu ({reason})"
        raise InvalidInput("--device", command.device, expected) from error
