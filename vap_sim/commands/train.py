"""`vap-sim train`: train the compact model from recorded twin episodes, resumable, on a CPU or a GPU."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from vap_sim.errors import InvalidInput


@dataclass(frozen=True)
class Train:
    """Train the compact model. Example: vap-sim train --data data/train --run runs/compact --minutes 60

    Stops after `minutes` with a checkpoint; the same command goes on from there. Whenever it stops, the averaged
    weights are written to RUN/compact.safetensors. `weights` starts a new run from existing weights."""

    data: Path
    run: Path
    steps: int = 20000
    cooldown: int = 2000
    minutes: float | None = None
    learning_rate: float = 8e-4
    batch_scale: int = 1
    seed: int = 0
    device: str = "cpu"
    threads: int = 2
    validation: int = 8
    weights: Path | None = None


def run(command: Train) -> Path:
    """Train, write the averaged weights and a record of the run, and return the weights file."""
    import torch

    from vap_sim.data.twin import episode_files
    from vap_sim.models.checkpoint import fill, load_tensors, save_tensors
    from vap_sim.models.compact.network import CompactConfig, CompactNetwork
    from vap_sim.training.clips import ClipSource, load_films
    from vap_sim.training.compact import CompactRecipe, CompactTraining
    from vap_sim.training.loop import LoopSettings, train

    _check(command)
    settings = LoopSettings(
        folder=command.run,
        steps=command.steps,
        minutes=command.minutes,
        learning_rate=command.learning_rate,
        cooldown=command.cooldown,
    )
    files = episode_files(command.data)
    if not 0 < command.validation < len(files):
        raise InvalidInput("--validation", command.validation, f"at least 1 and fewer than the {len(files)} episodes")
    torch.set_num_threads(command.threads)
    torch.manual_seed(command.seed)
    training = CompactTraining(seed=command.seed, scale=command.batch_scale)
    # Split by file: the views of one episode are either all learned from or all kept.
    source, shown = (
        load_films(part, training.profile, threads=command.threads)
        for part in (files[: -command.validation], files[-command.validation :])
    )
    network = CompactNetwork(CompactConfig())
    if command.weights is not None:
        fill(network, load_tensors(command.weights)[0], command.weights)
    clips = ClipSource(source), ClipSource(shown, eventful=1.0)
    recipe = CompactRecipe(network, *clips, training, command.device)
    began = time.time()
    outcome = train(recipe, settings)
    description = {
        "name": "compact",
        "network": recipe.describe()["network"],
        "profile": training.profile,
        "step": outcome.step,
        "seed": command.seed,
        "episodes": len(files) - command.validation,
    }
    path = command.run / "compact.safetensors"
    save_tensors(path, {name: value.to(torch.bfloat16) for name, value in outcome.weights.items()}, description)
    record = {**description, "command": {k: str(v) for k, v in asdict(command).items()}, "seconds": time.time() - began}
    (command.run / "run.json").write_text(json.dumps(record, indent=1))
    return path


def _check(command: Train) -> None:
    """Raise InvalidInput for what would only fail after the data has been read."""
    import torch

    for name in ("threads", "batch_scale", "learning_rate"):
        value = getattr(command, name)
        if not value > 0:
            raise InvalidInput(f"--{name.replace('_', '-')}", value, "more than 0")
    try:
        torch.zeros(1, device=command.device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InvalidInput(
            "--device", command.device, f"one that torch can use here, such as cpu ({reason})"
        ) from error
