"""`vap-sim train-conditioner`: what lets a frozen CogVideoX be shown an action, from films of labelled actions."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from vap_sim.errors import InvalidInput, UnknownName

if TYPE_CHECKING:
    from vap_sim.models.cogvideox.world import CogVideoXWorld
    from vap_sim.training.clips import DataSet
    from vap_sim.training.loop import LoopSettings, Outcome
    from vap_sim.training.parallel import Team
    from vap_sim.training.reference_pairs import Pair

SUFFIX = ".safetensors"
ADAPTER = "flexiact_adapter"
SYSTEMS: Mapping[str, str] = MappingProxyType(
    {"action_prism": "an action prism", "video_as_prompt": "an expert of Video-As-Prompt", ADAPTER: "a RefAdapter"}
)


@dataclass(frozen=True)
class TrainConditioner:
    """Train what is shown actions. Example: vap-sim train-conditioner films --with action_prism --weights w --out p

    Each film is dreamt after another that shows the same; flexiact_adapter learns from every film alone. Nothing of the
    model changes. What is not given is as the system's authors have it, where they say. Training stops after --minutes
    with a checkpoint; the same command goes on from there, or from the last checkpoint before it was killed. Whenever
    it stops, what was learned so far is written. It runs in several processes under torchrun.

    Attributes:
        data: Folder of films, whose subfolders are named by actions or whose labels.json tells them, or a table in the
            layout of VAP-Data.
        with_: System: action_prism, video_as_prompt or flexiact_adapter.
        weights: CogVideoX folder, its name on the hub, or a folder with world.json.
        out: File to write, its name ends in .safetensors.
        steps: Length of the training.
        minutes: Stop after so long, with a checkpoint.
        learning_rate: Of AdamW.
        batch: Rows of a process.
        accumulate: Batches a step.
        frames: Pixel frames of a clip, as many as the model was trained with if not given.
        references: Demonstrations of each film.
        split: Of the table.
        blocks: Of the expert: released, first_and_last, all, and others.
        one_way: An expert for dreams in stream mode.
        prism: Sizes of the prism: standard, tiny.
        pretrain: Steps in which a prism's encoder first learns which films show the same; only what listens to it is
            trained then (ours, not the authors').
        rank: Of the adapter.
        mode: chunk, or history or forcing for worlds in stream mode.
        dropout: Share of rows that are shown nothing.
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

    data: Positional[Path]
    with_: Annotated[str, arg(name="with")]
    weights: str
    out: Path
    steps: int | None = None
    minutes: float | None = None
    learning_rate: float | None = None
    batch: int = 1
    accumulate: int | None = None
    frames: int | None = None
    references: int | None = None
    split: str = "train"
    blocks: str = "released"
    one_way: bool = False
    prism: str = "standard"
    pretrain: int = 0
    rank: int = 64
    mode: str = "chunk"
    dropout: float = 0.0
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


@dataclass(frozen=True, eq=False)
class _Lesson:
    """What is trained. recipe: for the loop; save: writes what was learned; given what it is to say about itself."""

    recipe: Any
    data: DataSet
    save: Callable[[Mapping[str, Any]], None]


def run(command: TrainConditioner) -> Path:
    """Train, write the weights and a model card of the run, and return the file.

    Every process of a team calls it. Raises BadFile, InvalidInput, UnknownName, Unsupported, MissingDependency,
    OSError.
    """
    import torch

    from vap_sim.training.parallel import join_team, leave_team

    if command.with_ not in SYSTEMS:
        raise UnknownName("system for --with", command.with_, SYSTEMS)
    if command.out.suffix != SUFFIX:
        raise InvalidInput("--out", command.out.name, f"a name that ends in {SUFFIX}")
    if command.pretrain < 0 or (command.pretrain and command.with_ != "action_prism"):
        raise InvalidInput("--pretrain", command.pretrain, "0 or more steps, and none but with action_prism")
    torch.set_num_threads(command.threads)
    team = join_team(command.device)
    try:
        return _train(command, _loop_settings(command, team), team)
    finally:
        leave_team()


def _train(command: TrainConditioner, settings: LoopSettings, team: Team) -> Path:
    from vap_sim.models.cogvideox.memory import checkpoint_blocks
    from vap_sim.training.loop import train
    from vap_sim.training.parallel import settle

    world = _world(command, team)
    lesson = (_adapter if command.with_ == ADAPTER else _demonstrated)(command, world, team)
    if command.checkpointing:
        checkpoint_blocks(world.parts.backbone)
    outcome = train(lesson.recipe, settings, team)
    if team.leads:
        settle(lesson.recipe.denoiser, outcome.weights)
        lesson.save({"steps": outcome.step, "seed": command.seed, "model": world.fingerprint})
        _write_card(command, world, lesson.data, outcome, settings, team)
    team.wait()
    return command.out


def _demonstrated(command: TrainConditioner, world: CogVideoXWorld, team: Team) -> _Lesson:
    """An action prism, or an expert, from pairs of films."""
    from vap_sim.models.conditioners.action_prism import ActionPrism
    from vap_sim.models.conditioners.action_prism_file import save_action_prism
    from vap_sim.models.conditioners.video_as_prompt import VideoAsPrompt
    from vap_sim.models.conditioners.video_as_prompt_file import save_video_as_prompt
    from vap_sim.training.motion_contrast import ContrastTraining, MotionContrast, pretrain
    from vap_sim.training.reference_clips import CachedCodec, open_pairs
    from vap_sim.training.reference_recipe import ReferenceRecipe, reference_preset

    paper, parts, cache = reference_preset(command.with_), world.parts, _cache(command)
    pairs = _pairs(command)
    clips = replace(paper.pairs, frames=_frames(command, world), size=world.spec.size)
    data = open_pairs(pairs, clips, parts.codec, cache, team=team)
    system: Any
    if command.with_ == "action_prism":
        system = ActionPrism(parts.backbone, preset=command.prism, seed=command.seed)
        save = partial(save_action_prism, command.out, system)
    else:
        system = VideoAsPrompt(parts.backbone, blocks=command.blocks, one_way=command.one_way)
        save = partial(save_video_as_prompt, command.out, system)
    system.float()  # averages and small steps need all their digits
    captions = [film.caption for pair in pairs for film in (pair.target, pair.reference)]
    codec, words = CachedCodec(parts.codec, cache), _words(world, captions, cache)
    if command.pretrain:
        contrast = MotionContrast(system, codec, words, data, ContrastTraining(seed=command.seed))
        often = {"checkpoint_every": command.checkpoint_every, "log_every": command.log_every}
        pretrain(contrast, _folder(command) / "pretraining", command.pretrain, **often, team=team)
    recipe = ReferenceRecipe(
        parts.backbone,
        system,
        codec,
        words,
        parts.schedule,
        [data],
        _training(command, paper.training),
        together=paper.together,
        shown=[data.clips[0].load()],
        preview_steps=command.preview_steps,
        team=team,
    )
    return _Lesson(recipe, data, save)


def _adapter(command: TrainConditioner, world: CogVideoXWorld, team: Team) -> _Lesson:
    """FlexiAct's RefAdapter, from the videos of the same films: any frame of one may be its first picture."""
    from vap_sim.models.conditioners.flexiact_adapter import RefAdapter, adapter_weights
    from vap_sim.models.conditioners.flexiact_files import save_adapter
    from vap_sim.training.flexiact import FlexiActRecipe, flexiact_preset
    from vap_sim.training.flexiact_clips import CropSettings, open_crops

    paper, parts, cache = flexiact_preset("adapter"), world.parts, _cache(command)
    films = {pair.target.path: pair.target.caption for pair in _pairs(command)}
    windows = CropSettings(
        _frames(command, world),
        world.spec.size,
        world.spec.frame_rate,
        paper.crops,
        pictures=paper.pictures,
        seed=command.seed,
    )
    data = open_crops(list(films), list(films.values()), windows, parts.codec, cache, team=team)
    adapter = RefAdapter(rank=command.rank, weight=paper.weight, seed=command.seed)
    adapter.install(parts.backbone)
    recipe = FlexiActRecipe(
        parts.backbone,
        adapter,
        parts.codec,
        _words(world, list(films.values()), cache),
        parts.schedule,
        [data],
        _training(command, paper.training),
        temporal=paper.temporal,
        any_frame=paper.any_frame,
        shown=[data.clips[0].load()],
        preview_steps=command.preview_steps,
        team=team,
    )

    def save(about: Mapping[str, Any]) -> None:
        save_adapter(command.out, replace(adapter, weights=adapter_weights(parts.backbone)), about)

    return _Lesson(recipe, data, save)


def _world(command: TrainConditioner, team: Team) -> CogVideoXWorld:
    """The model as a world, whose networks take no gradients."""
    import torch

    from vap_sim.models.cogvideox.world import CogVideoXWorld

    kind = torch.bfloat16 if command.precision == "bf16" else torch.float32
    return CogVideoXWorld.load(
        command.weights, device=str(team.device), control=False, conditioners=False, dtype=kind, tiling=True
    )


def _pairs(command: TrainConditioner) -> tuple[Pair, ...]:
    from vap_sim.training.reference_pairs import films_in, pairs_of
    from vap_sim.training.reference_recipe import reference_preset
    from vap_sim.training.reference_vap_data import vap_data_pairs

    count = reference_preset(command.with_).references if command.references is None else command.references
    if command.data.suffix.lower() == ".csv":
        return vap_data_pairs(command.data, split=command.split, references=count, seed=command.seed)
    return pairs_of(films_in(command.data), references=count, seed=command.seed)


def _words(world: CogVideoXWorld, captions: list[str], cache: Any) -> Any:
    """What reads captions, each of them once."""
    from vap_sim.models.cogvideox.text import UNCONDITIONAL, T5Text
    from vap_sim.models.cogvideox.text_cache import CachedText

    words = CachedText(world.parts.text, cache)
    words.encode([*dict.fromkeys(captions), UNCONDITIONAL])
    if isinstance(world.parts.text, T5Text):
        world.parts.text.unload()  # nothing else is asked of it, and it is large
    return words


def _frames(command: TrainConditioner, world: CogVideoXWorld) -> int:
    if command.frames is not None and command.frames > world.max_chunk:
        expected = f"at most {world.max_chunk}, as the model was trained with"
        raise InvalidInput("--frames", command.frames, expected)
    return world.max_chunk if command.frames is None else command.frames


def _training(command: TrainConditioner, published: Any) -> Any:
    """A `DiffusionTraining` with the published shares of what is left out of a row."""
    own = {"seed": command.seed, "batch": command.batch, "mode": command.mode, "precision": command.precision}
    return replace(published, **own, control=command.dropout)


def _loop_settings(command: TrainConditioner, team: Team) -> LoopSettings:
    """As published, with as many rows of a step, shared out over the processes."""
    from vap_sim.training.flexiact import flexiact_preset
    from vap_sim.training.reference_recipe import reference_preset

    paper: Any = flexiact_preset("adapter") if command.with_ == ADAPTER else reference_preset(command.with_)
    rows = max(1, round(paper.rows / (command.batch * team.size)))
    changes: dict[str, Any] = {"accumulate": rows if command.accumulate is None else command.accumulate}
    if command.learning_rate is not None:
        changes["learning_rate"] = command.learning_rate
    names = ("minutes", "checkpoint_every", "preview_every", "log_every")
    changes |= {name: getattr(command, name) for name in names}
    return paper.loop_settings(_folder(command) / "training", command.steps, **changes)  # type: ignore[no-any-return]


def _folder(command: TrainConditioner) -> Path:
    return command.run or command.out.with_name(f"{command.out.stem}-run")


def _cache(command: TrainConditioner) -> Any:
    from vap_sim.models.tensor_cache import TensorCache

    return TensorCache(command.cache or _folder(command) / "cache")


def _write_card(
    command: TrainConditioner,
    world: CogVideoXWorld,
    data: DataSet,
    outcome: Outcome,
    settings: LoopSettings,
    team: Team,
) -> None:
    from vap_sim.training.card import Card, write_card

    parts = {"command": asdict(command), "model": {"fingerprint": world.fingerprint}, "loop": asdict(settings)}
    told = {data.name: {"folder": command.data.name, "clips": len(data.clips)}}
    title = f"{SYSTEMS[command.with_]} for {Path(command.weights).name}"
    card = Card(title[0].upper() + title[1:], shlex.join(["vap-sim", *sys.argv[1:]]), parts, told, (command.out,))
    write_card(_folder(command), card, outcome, team)
