"""`vap-sim learn-action`: tokens of one action from one clip, by which CogVideoX is then told it by name (FlexiAct)."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from vap_sim.errors import InvalidInput

if TYPE_CHECKING:
    from vap_sim.models.cogvideox.world import CogVideoXWorld
    from vap_sim.models.conditioners.flexiact import FlexiAct
    from vap_sim.training.clips import DataSet
    from vap_sim.training.loop import LoopSettings, Outcome
    from vap_sim.training.parallel import Team

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class LearnAction:
    """Learn one action from one clip. Example: vap-sim learn-action a.mp4 --name wave --weights w --out b.safetensors

    Nothing of the model changes: what is learned are tokens for each of its blocks, which OUT then holds under the name
    and `load_flexiact` reads. By default all is as FlexiAct's authors do it. Training stops after --minutes with a
    checkpoint; the same command goes on from there, or from the last checkpoint before it was killed. Whenever it
    stops, what was learned so far is written. It runs in several processes under torchrun.

    Attributes:
        clip: Video of the action, a few seconds long.
        name: What the motion is called.
        weights: CogVideoX folder, its name on the hub, or a folder with world.json, whose conditioners are left aside.
        out: File to write, its name ends in .safetensors.
        caption: What is seen in the clip.
        steps: Length of the training.
        minutes: Stop after so long, with a checkpoint.
        learning_rate: Of AdamW.
        batch: Rows of a process.
        accumulate: Batches a step.
        crops: Windows of the clip to learn from.
        frames: Pixel frames of a window, as many as the model was trained with if not given.
        tokens: Learned for each block.
        mode: chunk, or history or forcing for worlds in stream mode.
        temporal: Weight of the loss's term for changes from frame to frame.
        alpha: Of the bias towards the tokens at high noise.
        caption_dropout: Share of rows that are told no words.
        precision: fp32 or bf16.
        checkpointing: Compute blocks twice, to save memory.
        seed: Of all draws.
        device: Where to compute: cpu, cuda.
        threads: Of torch, on the processor.
        run: Folder for checkpoints, log and model card; beside OUT if not given.
        cache: Folder for latents and text; RUN/cache if not given.
        preview_every: Steps between films for TensorBoard.
        preview_steps: Of denoising in these films.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between entries of the log.
    """

    clip: Positional[Path]
    name: str
    weights: str
    out: Path
    caption: str = ""
    steps: int = 3000
    minutes: float | None = None
    learning_rate: float = 3e-3
    batch: int = 1
    accumulate: int = 1
    crops: int = 12
    frames: int | None = None
    tokens: int = 226
    mode: str = "chunk"
    temporal: float = 1.0
    alpha: float = 1.0
    caption_dropout: float = 0.1
    precision: str = "fp32"
    checkpointing: bool = False
    seed: int = 0
    device: str = "cpu"
    threads: int = 2
    run: Path | None = None
    cache: Path | None = None
    preview_every: int = 500
    preview_steps: int = 10
    checkpoint_every: int = 250
    log_every: int = 10


def run(command: LearnAction) -> Path:
    """Train, write the motion and a model card of the run, and return the file.

    Every process of a team calls it. Raises BadFile, InvalidInput, UnknownName, Unsupported, MissingDependency,
    OSError.
    """
    import torch

    from vap_sim.models.conditioners.flexiact import check_name
    from vap_sim.training.parallel import join_team, leave_team

    check_name(command.name)
    if command.out.suffix != SUFFIX:
        raise InvalidInput("--out", command.out.name, f"a name that ends in {SUFFIX}")
    settings = _loop_settings(command)
    torch.set_num_threads(command.threads)
    team = join_team(command.device)
    try:
        return _learn(command, settings, team)
    finally:
        leave_team()


def _learn(command: LearnAction, settings: LoopSettings, team: Team) -> Path:
    from vap_sim.models.cogvideox.memory import checkpoint_blocks
    from vap_sim.models.cogvideox.text import UNCONDITIONAL, T5Text
    from vap_sim.models.cogvideox.text_cache import CachedText
    from vap_sim.models.conditioners.flexiact import FlexiAct
    from vap_sim.models.tensor_cache import TensorCache
    from vap_sim.training.flexiact import FlexiActRecipe, flexiact_preset
    from vap_sim.training.flexiact_clips import CropSettings, open_crops
    from vap_sim.training.loop import train

    world, cache = _world(command, team), TensorCache(command.cache or _folder(command) / "cache")
    parts, paper = world.parts, flexiact_preset("tokens")
    windows = CropSettings(
        frames=world.max_chunk if command.frames is None else command.frames,
        size=world.spec.size,
        frame_rate=world.spec.frame_rate,
        crops=command.crops,
        seed=command.seed,
    )
    told = (command.name,)
    data = open_crops([command.clip], [command.caption], windows, parts.codec, cache, motion=told, team=team)
    words = CachedText(parts.text, cache)
    words.encode([command.caption, UNCONDITIONAL])
    if isinstance(parts.text, T5Text):
        parts.text.unload()  # nothing else is asked of it, and it is large
    conditioner = FlexiAct(parts.backbone, {command.name: command.tokens}, alpha=command.alpha)
    if command.checkpointing:
        checkpoint_blocks(parts.backbone)
    recipe = FlexiActRecipe(
        parts.backbone,
        conditioner,
        parts.codec,
        words,
        parts.schedule,
        [data],
        replace(
            paper.training,
            seed=command.seed,
            batch=command.batch,
            mode=command.mode,
            caption=command.caption_dropout,
            precision=command.precision,
        ),
        temporal=command.temporal,
        shown=[data.clips[0].load()],
        preview_steps=command.preview_steps,
        team=team,
    )
    outcome = train(recipe, settings, team)
    if team.leads:
        _write(command, world, conditioner, data, outcome, settings, team)
    team.wait()
    return command.out


def _world(command: LearnAction, team: Team) -> CogVideoXWorld:
    """The model as a world, whose networks take no gradients."""
    import torch

    from vap_sim.models.cogvideox.world import CogVideoXWorld

    kind = torch.bfloat16 if command.precision == "bf16" else torch.float32
    world = CogVideoXWorld.load(
        command.weights, device=str(team.device), control=False, conditioners=False, dtype=kind, tiling=True
    )
    if command.frames is not None and command.frames > world.max_chunk:
        expected = f"at most {world.max_chunk}, as the model was trained with"
        raise InvalidInput("--frames", command.frames, expected)
    return world


def _folder(command: LearnAction) -> Path:
    return command.run or command.out.with_name(f"{command.out.stem}-run")


def _loop_settings(command: LearnAction) -> LoopSettings:
    from vap_sim.training.flexiact import flexiact_preset

    return flexiact_preset("tokens").loop_settings(
        _folder(command) / "training",
        command.steps,
        minutes=command.minutes,
        learning_rate=command.learning_rate,
        accumulate=command.accumulate,
        checkpoint_every=command.checkpoint_every,
        preview_every=command.preview_every,
        log_every=command.log_every,
    )


def _write(
    command: LearnAction,
    world: CogVideoXWorld,
    conditioner: FlexiAct,
    data: DataSet,
    outcome: Outcome,
    settings: LoopSettings,
    team: Team,
) -> None:
    from vap_sim.models.conditioners.flexiact_files import save_motions
    from vap_sim.models.tensor_cache import hash_file
    from vap_sim.training.card import Card, write_card

    (tokens,) = outcome.weights.values()
    clip = {"clip": command.clip.name, "sha256": hash_file(command.clip), "caption": command.caption}
    about: dict[str, Any] = {**clip, "steps": outcome.step, "seed": command.seed, "model": world.fingerprint}
    save_motions(command.out, {command.name: tokens}, {**about, **conditioner.settings})
    parts = {"command": asdict(command), "model": {"fingerprint": world.fingerprint}, "loop": asdict(settings)}
    told = {data.name: {**clip, "windows": len(data.clips)}}
    title = f"The motion {command.name!r} of {Path(command.weights).name}"
    card = Card(title, shlex.join(["vap-sim", *sys.argv[1:]]), parts, told, (command.out,))
    write_card(_folder(command), card, outcome, team)
