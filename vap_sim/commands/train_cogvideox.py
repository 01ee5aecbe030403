"""`vap-sim train --world cogvideox`: control branch and LoRA on a frozen CogVideoX, or a tiny one as a whole."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vap_sim.commands.recordings import picture_size, split_episodes
from vap_sim.errors import InvalidInput

if TYPE_CHECKING:
    from vap_sim.commands.train import Train
    from vap_sim.models.cogvideox.backbone import Backbone
    from vap_sim.models.cogvideox.codec import Codec
    from vap_sim.models.cogvideox.config import ModelConfig
    from vap_sim.models.cogvideox.control_form import Control
    from vap_sim.models.cogvideox.lora import Lora
    from vap_sim.models.cogvideox.text import TextEncoder
    from vap_sim.models.tensor_cache import TensorCache
    from vap_sim.training.clips import Clip, ClipSettings, DataSet
    from vap_sim.training.loop import LoopSettings, Outcome
    from vap_sim.training.parallel import Team

CONTROL, WORLD = "control", "world"


@dataclass(frozen=True)
class Sizes:
    """Of a model that is trained as a whole, with the codec and the words that need no weights. channels: of a latent
    frame; heads, head_width, blocks, patch: of the network; encoder: width of what reads drawn prompts."""

    channels: int
    heads: int
    head_width: int
    blocks: int
    patch: int
    encoder: int


OWN = {"tiny": Sizes(16, 4, 16, 6, 2, 128), "small": Sizes(24, 4, 32, 4, 2, 32)}
"""What can be trained as a whole: `tiny` to try things out, `small` to see a robot follow its prompts on a CPU."""
OWN_STEPS = 10
"""Denoising steps of a clip of a model that was trained as a whole; guidance only helps one that knows many words."""


@dataclass(frozen=True)
class CogVideoX:
    """Options of `--world cogvideox`.

    Attributes:
        model: CogVideoX folder, its name on the hub, or "tiny" or "small" for one that is trained as a whole.
        form: Of the prompt: skeleton, raw_action or text, and others by their names.
        frames: Pixel frames of a clip.
        video_stride: Recorded frames a frame of a clip.
        control_stride: Only every so many poses of a clip are told; those between lie on straight lines.
        spacing: Frames between the beginnings of clips.
        also: Folders of more data, mixed by the cube root of their sizes.
        batch: Rows of a process.
        accumulate: Batches a step.
        mode: chunk, or history or forcing for stream mode.
        learning_rate: Of AdamW.
        region: Weight of the error near the robot.
        caption_dropout: Share of rows that are told no words.
        control_dropout: Share of rows that are drawn no prompt.
        blocks: Copied for the control, a third if not given.
        lora: Rank of the updates on a published backbone, 0 for none.
        precision: fp32 or bf16.
        checkpointing: Compute blocks twice, to save memory.
        shard: Split the weights over the processes.
        cache: Folder for latents and text; RUN/cache if not given.
        preview_every: Steps between films for TensorBoard.
        preview_steps: Of denoising in these films.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between entries of the log.
    """

    model: str = "tiny"
    form: str = "skeleton"
    frames: int = 17
    video_stride: int = 1
    control_stride: int = 1
    spacing: int = 8
    also: tuple[Path, ...] = ()
    batch: int = 1
    accumulate: int = 1
    mode: str = "chunk"
    learning_rate: float = 1e-4
    region: float = 3.0
    caption_dropout: float = 0.1
    control_dropout: float = 0.1
    blocks: int | None = None
    lora: int = 64
    precision: str = "fp32"
    checkpointing: bool = False
    shard: bool = False
    cache: Path | None = None
    preview_every: int = 500
    preview_steps: int = 10
    checkpoint_every: int = 250
    log_every: int = 10


@dataclass(frozen=True, eq=False)
class _Model:
    """What is trained and what it needs; `schedule` is a `sampler.Schedule`."""

    backbone: Backbone
    control: Control | None
    lora: Lora | None
    codec: Codec
    text: TextEncoder
    schedule: Any


def run(command: Train) -> Path:
    """Train, write weights and a model card, and return the folder to load: RUN/world if tiny, else RUN/control.

    Every process of a team calls it. Raises BadFile, InvalidInput, UnknownName, MissingDependency, OSError.
    """
    import torch

    from vap_sim.training.parallel import join_team, leave_team

    options = command.cogvideox
    settings, clips = _loop_settings(command), _clip_settings(command)
    halves = split_episodes(command.data, command.validation)
    torch.set_num_threads(command.threads)
    team = join_team(command.device, shard=True if options.shard else None)
    try:
        return _train(command, settings, clips, halves, team)
    finally:
        leave_team()


def _train(
    command: Train, settings: LoopSettings, clips: ClipSettings, halves: tuple[list[Path], list[Path]], team: Team
) -> Path:
    from vap_sim.models.cogvideox.memory import checkpoint_blocks
    from vap_sim.models.cogvideox.text_cache import CachedText
    from vap_sim.models.tensor_cache import TensorCache
    from vap_sim.training.clips import open_data_set
    from vap_sim.training.diffusion import DiffusionRecipe, DiffusionTraining
    from vap_sim.training.loop import train

    options = command.cogvideox
    cache = TensorCache(options.cache or command.run / "cache")
    first, held = halves
    size, frame_rate = picture_size(held[0]), _frame_rate(command)  # before hours are spent
    model = _model(command, size, _joints(held[0]), cache, team)
    data = [open_data_set(command.data, clips, model.codec, cache, files=first, team=team)]
    data += [open_data_set(folder, clips, model.codec, cache, team=team) for folder in options.also]
    held_clips = open_data_set(command.data, clips, model.codec, cache, files=held, team=team, progress=False).clips
    shown: list[Clip] = [clip.load() for clip in held_clips[:: max(1, len(held_clips) // 2)][:2]]
    if options.checkpointing:
        checkpoint_blocks(model.backbone)
        if getattr(model.control, "branch", None) is not None:
            checkpoint_blocks(model.control.branch)  # type: ignore[union-attr, arg-type]
    recipe = DiffusionRecipe(
        model.backbone,
        model.control,
        model.codec,
        CachedText(model.text, cache),
        model.schedule,
        data,
        DiffusionTraining(
            seed=command.seed,
            batch=options.batch,
            mode=options.mode,
            region=options.region,
            caption=options.caption_dropout,
            control=options.control_dropout,
            precision=options.precision,
        ),
        shown=shown,
        preview_steps=options.preview_steps,
        team=team,
    )
    outcome = train(recipe, settings, team)
    if team.leads:
        _write(command, model, recipe.denoiser, data, outcome, settings, size, frame_rate, team)
    team.wait()
    return command.run / (WORLD if options.model in OWN else CONTROL)


def _model(command: Train, size: tuple[int, int], joints: int, cache: TensorCache, team: Team) -> _Model:
    """Networks of the model that is named, on the CPU; what is not trained takes no gradients."""
    import torch

    from vap_sim.models.cogvideox.backbone import Backbone
    from vap_sim.models.cogvideox.codec import TinyCodec
    from vap_sim.models.cogvideox.config import build_transformer
    from vap_sim.models.cogvideox.control_form import DRAWN, control_for
    from vap_sim.models.cogvideox.folder import open_folder
    from vap_sim.models.cogvideox.lora import Lora, freeze_backbone
    from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
    from vap_sim.models.cogvideox.text import HashedWords, T5Text
    from vap_sim.models.cogvideox.video_codec import VideoCodec
    from vap_sim.prompts.profiles import profile

    options = command.cogvideox
    kind = torch.bfloat16 if options.precision == "bf16" else torch.float32
    codec: Codec
    text: TextEncoder
    own = OWN.get(options.model)
    if own is not None:
        config = _own_config(own, size, options.frames)
        backbone = Backbone(build_transformer(config, seed=command.seed).train())
        codec, text = TinyCodec(config.latent_channels), HashedWords(config.text_length, config.text_width)
        schedule = Schedule.of(PUBLISHED)
    else:
        folder = open_folder(options.model)
        backbone = Backbone(folder.transformer(kind))
        codec = VideoCodec.open(folder, device=team.device, dtype=kind, tiling=True, slicing=True)
        text = T5Text(folder, device=team.device, dtype=kind)
        schedule = Schedule.of(folder.config.scheduler or PUBLISHED)
    form = profile(options.form).form
    told: dict[str, Any] = {} if form == "text" else {"seed": command.seed}
    if own is not None and form in DRAWN:
        told["width"] = own.encoder
    if options.blocks is not None:
        told["blocks"] = options.blocks
    control = control_for(options.form, backbone, joints=joints, **told)
    if control is not None:
        control.float()  # averages and small steps need all their digits
    lora = None
    if own is None:
        freeze_backbone(backbone)
        if options.lora:
            lora = Lora(rank=options.lora, alpha=float(options.lora), seed=command.seed)
            lora.install(backbone)
            for value in backbone.parameters():
                value.data = value.data.float() if value.requires_grad else value.data
    return _Model(backbone, control, lora, codec, text, schedule)


def _own_config(own: Sizes, size: tuple[int, int], pixel_frames: int) -> ModelConfig:
    from vap_sim.models.cogvideox.codec import SIDE
    from vap_sim.models.cogvideox.config import ModelConfig, tiny_config

    config = tiny_config(
        latent_channels=own.channels,
        blocks=own.blocks,
        heads=own.heads,
        head_width=own.head_width,
        size=(size[1] // SIDE, size[0] // SIDE),
        frames=1 + pixel_frames // 4,
    )
    return ModelConfig({**config.transformer, "patch_size": own.patch}, vae=config.vae)


def _write(
    command: Train,
    model: _Model,
    denoiser: Any,
    data: list[DataSet],
    outcome: Outcome,
    settings: LoopSettings,
    size: tuple[int, int],
    frame_rate: float,
    team: Team,
) -> None:
    from vap_sim.models.cogvideox.control_form import FILE, save_control
    from vap_sim.models.cogvideox.loading import Header, save_world
    from vap_sim.training.card import Card, ranges, write_card
    from vap_sim.training.parallel import settle

    options = command.cogvideox
    settle(denoiser, outcome.weights)
    own = options.model in OWN
    folder = command.run / WORLD if own else command.run
    about = {"steps": outcome.step, "seed": command.seed, "frames": options.frames, "mode": options.mode}
    control = folder / CONTROL
    save_control(control, model.backbone, model.control, profile=options.form, lora=model.lora, description=about)
    weights = [control / FILE]
    if own:
        mode = "chunk" if options.mode == "chunk" else "stream"
        values: dict[str, Any] = {"mode": mode}
        if mode == "chunk":
            values |= {"chunk": options.frames, "steps": OWN_STEPS, "guidance": 1.0}
        header = Header(
            size=size,
            frame_rate=frame_rate,
            profile=options.form,
            max_chunk=options.frames,
            tiny_codec=model.backbone.config.latent_channels,
            hashed_words=True,
            control=CONTROL,
            settings=values,
        )
        save_world(folder, model.backbone, header)
        weights += sorted((folder / "transformer").glob("*.safetensors"))
    told = {one.name: {"episodes": len(one.seeds), "clips": len(one.clips), "seeds": ranges(one.seeds)} for one in data}
    parts = {"command": asdict(command), "loop": asdict(settings)}
    title = f"CogVideoX ({Path(options.model).name}) told by {options.form}"
    card = Card(title, shlex.join(["vap-sim", *sys.argv[1:]]), parts, told, tuple(weights))
    write_card(folder, card, outcome, team)


def _frame_rate(command: Train) -> float:
    """Of the clips [Hz]. Raises InvalidInput where the recordings of two folders differ."""
    from vap_sim.data.twin import episode_files, load_episode

    folders = (command.data, *command.cogvideox.also)
    seconds = {float(load_episode(episode_files(one)[0], ("joints",)).meta["control_dt"]) for one in folders}
    if len(seconds) > 1:
        raise InvalidInput("recordings to train on", f"steps of {sorted(seconds)} s", "steps of equal length")
    return 1 / (seconds.pop() * command.cogvideox.video_stride)


def _loop_settings(command: Train) -> LoopSettings:
    from vap_sim.training.loop import LoopSettings

    options = command.cogvideox
    return LoopSettings(
        folder=command.run / "training",
        steps=command.steps,
        minutes=command.minutes,
        learning_rate=options.learning_rate,
        cooldown=command.cooldown,
        accumulate=options.accumulate,
        checkpoint_every=options.checkpoint_every,
        preview_every=options.preview_every,
        log_every=options.log_every,
    )


def _clip_settings(command: Train) -> ClipSettings:
    from vap_sim.training.clips import ClipSettings

    options = command.cogvideox
    names = ("form", "frames", "video_stride", "control_stride", "spacing")
    return replace(ClipSettings(), **{name: getattr(options, name) for name in names}, seed=command.seed)


def _joints(path: Path) -> int:
    from vap_sim.data.twin import load_episode

    return int(load_episode(path, only=("joints",)).joints.shape[1])
