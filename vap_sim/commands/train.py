"""`vap-sim train`: train a model from recorded twin episodes, resumable, on a CPU or a GPU; else compact."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context, parent_process
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

from vap_sim.commands import train_cogvideox
from vap_sim.commands.recordings import split_episodes
from vap_sim.commands.train_cogvideox import CogVideoX
from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.workers import lost_workers_named

if TYPE_CHECKING:
    from vap_sim.models.compact.network import CompactNetwork
    from vap_sim.training.loop import LoopSettings, Recipe

Halves = tuple[list[Path], list[Path]]
"""Files of episodes: to learn from, and to be shown."""
PARTS = ("pictures", "motion", "contact")
WORLDS = ("compact", "cogvideox")
_FASTER = 2.5
"""How many times faster the contact network learns: it is small, and convolves nothing."""
_GROWN = 0.55
"""Share of the contact network's training after which things are followed for longer."""
_GO_ON = "Checkpoints are kept: the same command goes on from them, one part at a time with --parts if memory is short."


@dataclass(frozen=True)
class Train:
    """Train the compact model. Example: vap-sim train --data data/train --run runs/compact --minutes 60

    The networks that read and paint pictures, the one that moves objects by what it sees and the one that moves them by
    where bones are in space learn nothing from each other: these parts are trained side by side, each with its share of
    the threads. Training stops after --minutes with checkpoints; the same command goes on from there. Whenever it
    stops, the averaged weights are written to RUN/compact.safetensors.

    --world cogvideox trains that model instead, by the options that name it; of the others it takes data, run, steps,
    cooldown, minutes, seed, device, threads and validation. It runs in several processes under torchrun or accelerate
    launch.

    Attributes:
        data: Folder of `vap-sim record`.
        run: Folder for checkpoints and weights.
        steps: Length of the training of what reads and paints pictures.
        motion_steps: Length of the training of what moves objects by pictures, needed where clips are shown.
        contact_steps: Length of the training of what moves objects in space.
        cooldown: Steps at their ends over which the learning rate falls to zero.
        minutes: Stop after so long, with checkpoints.
        learning_rate: Of AdamW.
        batch_scale: Factor of the batches' sizes.
        seed: Of all draws.
        device: Where to compute: cpu, cuda.
        threads: Of torch, on the processor, for all parts together.
        validation: Episodes that are kept to be shown.
        weights: File to start a new run from.
        parts: Only these: pictures, motion, contact.
        profile: How the robot is drawn to the compact world: compact or limbs.
        recolored: Share of scenes whose colors are permuted for what reads and paints pictures, 0 to 1.
        reading: Whether what reads pictures is trained beside what paints them; else it stays as in --weights.
        carry: Whether what moves objects is told by what the robot's tool would carry them.
        world: What to train: compact or cogvideox.
        cogvideox: Options of that world.
    """

    data: Path
    run: Path
    steps: int = 20000
    motion_steps: int = 20000
    contact_steps: int = 30000
    cooldown: int = 2000
    minutes: float | None = None
    learning_rate: float = 8e-4
    batch_scale: int = 1
    seed: int = 0
    device: str = "cpu"
    threads: int = 2
    validation: int = 8
    weights: Path | None = None
    parts: tuple[str, ...] = PARTS
    profile: str = "compact"
    recolored: float = 0.5
    reading: bool = True
    carry: bool = True
    world: str = "compact"
    cogvideox: CogVideoX = CogVideoX()


def run(command: Train) -> Path:
    """Train, write the averaged weights and a record of the run, and return the weights file."""
    if command.world not in WORLDS:
        raise UnknownName("world to train", command.world, WORLDS)
    if command.world == "cogvideox":
        return train_cogvideox.run(command)
    _check(command)
    halves = split_episodes(command.data, command.validation)
    began = time.time()
    if len(command.parts) == 1:
        steps = [_train_part(command, command.parts[0], command.threads, halves)]
    else:
        share = max(1, command.threads // len(command.parts))
        pool = ProcessPoolExecutor(len(command.parts), mp_context=get_context("spawn"))
        with lost_workers_named(f"training of {' and '.join(command.parts)}", _GO_ON), pool:
            jobs = [pool.submit(_train_beside, command, part, share, halves) for part in command.parts]
            steps = [job.result() for job in jobs]
    record = {
        "step": dict(zip(command.parts, steps, strict=True)),
        "seed": command.seed,
        "episodes": len(halves[0]),
    }
    path = _join(command, {**record, **_learned(command, halves[0])})
    record |= {"command": {k: str(v) for k, v in asdict(command).items()}, "seconds": time.time() - began}
    (command.run / "run.json").write_text(json.dumps(record, indent=1))
    return path


def _train_beside(command: Train, part: str, threads: int, halves: Halves) -> int:
    """`_train_part` in a process of its own, which ends when the one that began it was killed."""
    parent = parent_process()
    assert parent is not None
    Thread(target=_end_with, args=(parent,), daemon=True).start()
    return _train_part(command, part, threads, halves)


def _end_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _train_part(command: Train, part: str, threads: int, halves: Halves) -> int:
    """Train one part in RUN/PART, write its averaged weights to RUN/PART.safetensors, and return where it stopped."""
    import torch

    from vap_sim.models.checkpoint import save_tensors
    from vap_sim.training.loop import train

    torch.set_num_threads(threads)
    torch.manual_seed(command.seed)
    outcome = train(_recipe(command, part, threads, halves), _settings(command, part))
    save_tensors(command.run / f"{part}.safetensors", outcome.weights, {"part": part, "step": outcome.step})
    return outcome.step


def _settings(command: Train, part: str) -> LoopSettings:
    from vap_sim.training.loop import LoopSettings

    steps = {"pictures": command.steps, "motion": command.motion_steps, "contact": command.contact_steps}
    return LoopSettings(
        folder=command.run / part,
        steps=steps[part],
        learning_rate=command.learning_rate * (_FASTER if part == "contact" else 1),
        minutes=command.minutes,
        cooldown=command.cooldown,
    )


def _recipe(command: Train, part: str, threads: int, halves: Halves) -> Recipe:
    from vap_sim.training.contact import ContactRecipe, ContactTraining
    from vap_sim.training.contact_films import load_contact_films
    from vap_sim.training.films import load_films
    from vap_sim.training.motion import MotionRecipe, MotionTraining
    from vap_sim.training.motion_films import load_motion_films
    from vap_sim.training.pictures import PictureRecipe, PictureTraining

    if part == "pictures":
        pictures = PictureTraining(
            command.seed,
            command.profile,
            recolored=command.recolored,
            reading=command.reading,
            scale=command.batch_scale,
        )
        films, shown = (load_films(half, pictures.profile, threads=threads) for half in halves)
        return PictureRecipe(_network(command, part), films, shown, pictures, command.device)
    if part == "contact":
        contact = ContactTraining(seed=command.seed, grow=int(_GROWN * command.contact_steps))
        contact = replace(contact, batch=contact.batch * command.batch_scale)
        things, touched = (
            load_contact_films(half, views=views, seed=command.seed) for half, views in zip(halves, (4, 1), strict=True)
        )
        return ContactRecipe(_network(command, part), things, touched, contact, command.device)
    motion = MotionTraining(seed=command.seed, profile=command.profile, scale=command.batch_scale)
    paths, followed = (
        load_motion_films(half, motion.profile, views=views, seed=command.seed)
        for half, views in zip(halves, (motion.views, 1), strict=True)
    )
    return MotionRecipe(_network(command, part), paths, followed, motion, command.device)


def _network(command: Train, part: str | None = None) -> CompactNetwork:
    """What to train a part of, or what the parts of a run are of."""
    from vap_sim.models.checkpoint import fill, load_tensors
    from vap_sim.models.compact.carry import widened
    from vap_sim.models.compact.framing import NEAR
    from vap_sim.models.compact.network import CompactConfig, CompactNetwork, told_of_carrying

    contact = "contact" in command.parts
    painted = part == "pictures" or (part is None and (command.run / "pictures.safetensors").exists())
    if command.weights is None:
        return CompactNetwork(CompactConfig(carry=command.carry, contact=contact, near=NEAR if painted else None))
    tensors, description = load_tensors(command.weights)
    told = told_of_carrying(tensors)
    if told and not command.carry:
        raise InvalidInput("--no-carry", command.weights, "weights that were trained without what the tool would carry")
    carry = told or (command.carry and "motion" in command.parts)
    knows = any(name.startswith("contact.") for name in tensors)
    near = NEAR if painted else (description.get("network") or {}).get("near")
    network = CompactNetwork(CompactConfig(carry=carry, contact=contact or knows, near=near))
    tensors = widened(tensors) if carry and not told else tensors
    fresh = {} if knows else {k: v for k, v in network.state_dict().items() if k.startswith("contact.")}
    fill(network, {**tensors, **fresh}, command.weights)
    return network


def _join(command: Train, record: dict[str, Any]) -> Path:
    """Write RUN/compact.safetensors from the parts trained in RUN, and from `--weights` for a part that never was.

    Raises BadFile where a part in RUN belongs to another network."""
    from torch import nn

    from vap_sim.models.checkpoint import fill, load_tensors, save_tensors

    network = _network(command)
    parts: dict[str, dict[str, nn.Module]] = {
        "pictures": {"scene": network.scene, "robot": network.robot},
        "motion": {"motion": network.motion},
        "contact": {} if network.contact is None else {"contact": network.contact},
    }
    for part, nets in parts.items():
        file = command.run / f"{part}.safetensors"
        if nets and file.exists():
            values, _ = load_tensors(file)
            if command.weights is not None and not any(name.startswith("scene.") for name in values):
                nets.pop("scene", None)  # which was not trained, see `reading`
            fill(nn.ModuleDict(nets), values, file)
    path = command.run / "compact.safetensors"
    description = {"name": "compact", "network": asdict(network.config), "profile": command.profile, **record}
    save_tensors(path, network.stored(), description)
    return path


def _learned(command: Train, files: Sequence[Path]) -> dict[str, Any]:
    """What the motion network of the weights has seen: these files, or what the weights that it keeps say."""
    from vap_sim.models.checkpoint import read_description
    from vap_sim.training.learned_from import learned_from

    if {"motion", "contact"} & set(command.parts):
        return learned_from(files)
    before = {} if command.weights is None else read_description(command.weights)
    return {name: before[name] for name in ("frame_rates", "moving_views") if name in before}


def _check(command: Train) -> None:
    """Raise InvalidInput or UnknownName for what would only fail after the data has been read."""
    import torch

    from vap_sim.prompts.profiles import profile

    for part in command.parts:
        if part not in PARTS:
            raise UnknownName("part to train", part, PARTS)
    if not command.parts or len(set(command.parts)) < len(command.parts):
        raise InvalidInput("--parts", command.parts, f"some of {PARTS}, each once")
    if (form := profile(command.profile).form) != "skeleton":
        raise InvalidInput("--profile", command.profile, f"one that draws a skeleton, not {form}")
    if not 0 <= command.recolored <= 1:
        raise InvalidInput("--recolored", command.recolored, "a share from 0 to 1")
    if not command.reading and command.weights is None:
        raise InvalidInput("--no-reading", "no --weights", "those that read pictures")
    needed = [part for part in PARTS if part not in command.parts and part != "contact"]
    left = [part for part in needed if not (command.run / f"{part}.safetensors").exists()]
    if left and command.weights is None:
        raise InvalidInput("--parts", command.parts, f"also {left[0]}, or --weights to take it from")
    for name in ("threads", "batch_scale", "learning_rate"):
        value = getattr(command, name)
        if not value > 0:
            raise InvalidInput(f"--{name.replace('_', '-')}", value, "more than 0")
    for part in command.parts:
        _settings(command, part)
    if command.weights is not None:
        _network(command)
    try:
        torch.zeros(1, device=command.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInput(
            "--device", command.device, f"one that torch can use here, such as cpu ({reason})"
        ) from error
