"""`vap-sim distill`: of a CogVideoX world in stream mode, one that needs 1 to 4 denoising steps a latent frame."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from vap_sim.commands.recordings import picture_size, split_episodes
from vap_sim.errors import BadFile, InvalidInput

if TYPE_CHECKING:
    from vap_sim.models.cogvideox.lora import Lora
    from vap_sim.models.cogvideox.world import CogVideoXWorld
    from vap_sim.training.clips import ClipSettings, DataSet
    from vap_sim.training.diffusion import Denoiser
    from vap_sim.training.distillation import DistillationTraining
    from vap_sim.training.loop import LoopSettings, Outcome
    from vap_sim.training.parallel import Team

WORLD, CONTROL = "world", "control"
MOST = 4
_SHARED = {"vae": "tiny_codec", "text_encoder": "hashed_words", "tokenizer": "hashed_words"}


@dataclass(frozen=True)
class Distill:
    """Make a few-step student of a trained world. Example: vap-sim distill runs/a/world --data data/train --run runs/b

    The teacher is a CogVideoX in stream mode. The student begins as the teacher and is written to RUN/world. Training
    stops after --minutes with a checkpoint; the same command goes on from there. It runs in several processes under
    torchrun.

    Attributes:
        teacher: Folder with world.json of the teacher.
        data: Folder of episodes to learn from.
        run: Folder for checkpoints and the student.
        steps_per_frame: Denoising steps of the student, 1 to 4.
        teacher_steps: Of the teacher, a multiple of the student's.
        control: Folder of a control branch that training left for the teacher.
        guidance: Of the teacher over text, as it has it if not given; the student then has it in one pass.
        control_guidance: The same over the control.
        self_forcing: Share of batches whose history the student dreamed itself.
        steps: Length of the training.
        cooldown: Steps at its end over which the learning rate falls to zero.
        minutes: Stop after so long, with a checkpoint.
        learning_rate: Of AdamW.
        batch: Rows of a process.
        accumulate: Batches a step.
        region: Weight of the error near the robot.
        caption_dropout: Share of rows that are told no words.
        frames: Pixel frames of a clip; all that the teacher's stream looks back at if not given.
        spacing: Frames between the beginnings of clips.
        lora: Rank of the updates on the backbone, 0 to train all of it.
        precision: fp32 or bf16.
        checkpointing: Compute blocks twice, to save memory.
        seed: Of all draws.
        device: Where to compute: cpu, cuda.
        threads: Of torch, on the processor.
        validation: Episodes that are kept to be shown.
        cache: Folder for latents and text; RUN/cache if not given.
        preview_every: Steps between films for TensorBoard.
        checkpoint_every: Steps between checkpoints.
        log_every: Steps between entries of the log.
    """

    teacher: Positional[Path]
    data: Path
    run: Path
    steps_per_frame: int = 2
    teacher_steps: int = 24
    control: Path | None = None
    guidance: float | None = None
    control_guidance: float | None = None
    self_forcing: float = 0.25
    steps: int = 4000
    cooldown: int = 400
    minutes: float | None = None
    learning_rate: float = 1e-4
    batch: int = 4
    accumulate: int = 1
    region: float = 3.0
    caption_dropout: float = 0.1
    frames: int | None = None
    spacing: int = 8
    lora: int = 0
    precision: str = "fp32"
    checkpointing: bool = False
    seed: int = 0
    device: str = "cpu"
    threads: int = 2
    validation: int = 8
    cache: Path | None = None
    preview_every: int = 500
    checkpoint_every: int = 250
    log_every: int = 10


def run(command: Distill) -> Path:
    """Distill, write the student with a model card, and return its folder.

    Every process of a team calls it. Raises BadFile, InvalidInput, UnknownName, Unsupported, MissingDependency,
    OSError.
    """
    import torch

    from vap_sim.training.parallel import join_team, leave_team

    if not 1 <= command.steps_per_frame <= MOST:
        raise InvalidInput("--steps-per-frame", command.steps_per_frame, f"1 to {MOST}")
    settings = _loop_settings(command)
    torch.set_num_threads(command.threads)
    team = join_team(command.device)
    try:
        return _distill(command, settings, team)
    finally:
        leave_team()


def _distill(command: Distill, settings: LoopSettings, team: Team) -> Path:
    from vap_sim.models.cogvideox.text_cache import CachedText
    from vap_sim.models.tensor_cache import TensorCache
    from vap_sim.training.clips import open_data_set
    from vap_sim.training.consistency import Segments
    from vap_sim.training.distillation import DistillationRecipe
    from vap_sim.training.loop import train

    halves = split_episodes(command.data, command.validation)
    world = _teacher(command, team)
    training, clips = _training(command, world), _clips(command, world, halves[0][0])
    segments = Segments.of(world.parts.schedule, training.steps, training.teacher_steps)
    cache, codec = TensorCache(command.cache or command.run / "cache"), world.parts.codec
    data, held = (open_data_set(command.data, clips, codec, cache, files=half, team=team) for half in halves)
    denoiser, lora = _student(command, world)
    recipe = DistillationRecipe(
        denoiser,
        codec,
        CachedText(world.parts.text, cache),
        segments,
        [data],
        training,
        window=world.settings.window,
        teacher=world.fingerprint,
        shown=[clip.load() for clip in held.clips[:: max(1, len(held.clips) // 2)][:2]],
        team=team,
    )
    outcome = train(recipe, settings, team)
    if team.leads:
        _write(command, world, recipe, lora, data, outcome, settings)
    team.wait()
    return command.run / WORLD


def _teacher(command: Distill, team: Team) -> CogVideoXWorld:
    """The world to learn from, with no LoRA left to be seen on it. Raises InvalidInput for one in chunk mode."""
    import torch

    from vap_sim.models.cogvideox.world import CogVideoXWorld

    kind = torch.bfloat16 if command.precision == "bf16" else torch.float32
    place = str(team.device)
    world = CogVideoXWorld.load(command.teacher, device=place, control=command.control, conditioners=False, dtype=kind)
    if world.settings.mode != "stream":
        expected = "'stream': train it with --cogvideox.mode history or forcing"
        raise InvalidInput(f"mode of the teacher {command.teacher}", world.settings.mode, expected)
    transformer = world.parts.backbone.transformer
    if any("lora_" in name for name, _ in transformer.named_parameters()):
        transformer.unload_lora()  # its updates are in the weights already
    return world


def _student(command: Distill, world: CogVideoXWorld) -> tuple[Denoiser, Lora | None]:
    """The teacher's networks in one, with what shall be trained taking gradients, in full precision."""
    from vap_sim.models.cogvideox.lora import Lora
    from vap_sim.models.cogvideox.memory import checkpoint_blocks
    from vap_sim.training.diffusion import Denoiser

    backbone, conditioners = world.parts.backbone, world.parts.conditioners
    control: Any = conditioners[0] if conditioners else None
    backbone.requires_grad_(True)
    if control is not None:
        control.requires_grad_(True)
    lora = None
    if command.lora:
        lora = Lora(rank=command.lora, alpha=float(command.lora), name="few_steps", seed=command.seed)
        lora.install(backbone)
    denoiser = Denoiser(backbone, control, world.parts.codec)
    for value in denoiser.parameters():
        value.data = value.data.float() if value.requires_grad else value.data
    if command.checkpointing:
        checkpoint_blocks(backbone)
        if getattr(control, "branch", None) is not None:
            checkpoint_blocks(control.branch)
    return denoiser, lora


def _training(command: Distill, world: CogVideoXWorld) -> DistillationTraining:
    from vap_sim.training.distillation import DistillationTraining

    guiding = world.settings.guiding
    text = guiding.text if command.guidance is None else command.guidance
    control = guiding.control if command.control_guidance is None else command.control_guidance
    return DistillationTraining(
        steps=command.steps_per_frame,
        teacher_steps=command.teacher_steps,
        seed=command.seed,
        batch=command.batch,
        guidance=replace(guiding, text=text, control=control),
        self_forcing=command.self_forcing,
        region=command.region,
        caption=command.caption_dropout,
        precision=command.precision,
    )


def _clips(command: Distill, world: CogVideoXWorld, first: Path) -> ClipSettings:
    """How to cut clips of the teacher's size, rate and length. Raises InvalidInput for recordings that do not fit."""
    from vap_sim.data.twin import load_episode
    from vap_sim.training.clips import ClipSettings

    size = picture_size(first)
    try:
        seconds = float(load_episode(first, only=()).meta["control_dt"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadFile(first, f"meta.json: control_dt cannot be used ({error!r})") from error
    if tuple(size) != world.spec.size:
        raise InvalidInput(f"size of the pictures in {command.data}", size, f"{world.spec.size}, as the teacher makes")
    stride = 1 / (seconds * world.spec.frame_rate)
    if round(stride) < 1 or abs(stride - round(stride)) > 1e-3:
        expected = f"{world.spec.frame_rate:g} Hz, as the teacher makes, or a multiple"
        raise InvalidInput(f"rate of the recordings in {command.data}", f"{1 / seconds:g} Hz", expected)
    most = min(1 + 4 * world.settings.window, world.max_chunk)
    if command.frames is not None and command.frames > most:
        expected = f"at most {most}, which the teacher's stream looks back at and was trained with"
        raise InvalidInput("--frames", command.frames, expected)
    return ClipSettings(
        form=world.spec.profile,
        frames=most if command.frames is None else command.frames,
        video_stride=round(stride),
        spacing=command.spacing,
        images=1,
        seed=command.seed,
    )


def _loop_settings(command: Distill) -> LoopSettings:
    from vap_sim.training.loop import LoopSettings

    return LoopSettings(
        folder=command.run / "training",
        steps=command.steps,
        minutes=command.minutes,
        learning_rate=command.learning_rate,
        cooldown=command.cooldown,
        accumulate=command.accumulate,
        checkpoint_every=command.checkpoint_every,
        preview_every=command.preview_every,
        log_every=command.log_every,
    )


def _write(
    command: Distill,
    world: CogVideoXWorld,
    recipe: Any,
    lora: Lora | None,
    data: DataSet,
    outcome: Outcome,
    settings: LoopSettings,
) -> None:
    from vap_sim.models.cogvideox.control_form import FILE, save_control
    from vap_sim.models.cogvideox.folder import open_folder
    from vap_sim.models.cogvideox.loading import read_header, save_world
    from vap_sim.models.cogvideox.lora import merge_lora
    from vap_sim.training.card import Card, ranges, write_card
    from vap_sim.training.distillation import student_weights
    from vap_sim.training.parallel import settle

    denoiser, folder = recipe.denoiser.cpu(), command.run / WORLD
    settle(denoiser, student_weights(outcome.weights))
    if lora is not None:
        merge_lora(denoiser.backbone)
        denoiser.backbone.transformer.unload_lora()
    told = {name: getattr(world.settings, name) for name in ("mode", "history", "keep_first")}
    source = open_folder(str(command.teacher)).path
    header = replace(
        read_header(source),
        size=world.spec.size,
        frame_rate=world.spec.frame_rate,
        profile=world.spec.profile,
        control=None if denoiser.control is None else CONTROL,
        settings={**told, "steps": command.steps_per_frame, "solver": "ddim"},
    )
    weights: list[Path] = []
    if denoiser.control is not None:
        about = {"steps": outcome.step, "seed": command.seed, "steps_per_frame": command.steps_per_frame}
        kept = folder / CONTROL
        save_control(kept, denoiser.backbone, denoiser.control, profile=world.spec.profile, description=about)
        weights.append(kept / FILE)
    for part, own in _SHARED.items():
        if not getattr(header, own) and (source / part).is_dir():
            shutil.copytree(source / part, folder / part, dirs_exist_ok=True)
    save_world(folder, denoiser.backbone, header)
    weights += sorted((folder / "transformer").glob("*.safetensors"))
    episodes = {"episodes": len(data.seeds), "clips": len(data.clips), "seeds": ranges(data.seeds)}
    parts = {"command": asdict(command), "teacher": {"fingerprint": world.fingerprint}, "loop": asdict(settings)}
    title = f"CogVideoX in {command.steps_per_frame} steps a frame, told by {world.spec.profile}"
    card = Card(title, shlex.join(["vap-sim", *sys.argv[1:]]), parts, {data.name: episodes}, tuple(weights))
    write_card(folder, card, outcome, recipe.team)
