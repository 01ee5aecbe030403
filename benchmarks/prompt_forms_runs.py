"""One run of the comparison of prompt forms: a tiny CogVideoX trained on clips of one form, then judged.

Every run has the same network, clips, order of clips, noise and number of steps, whatever its form; what tells the
network the action is all that differs. A run that was killed goes on from its checkpoint, and one that is finished is
a JSON file beside a few of its dreams.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from time import perf_counter
from typing import Any

import torch
from harness import read_record, write_json
from prompt_forms_films import Film, FilmSettings, data_set
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from vap_sim.errors import BadFile
from vap_sim.metrics.detector import Detector
from vap_sim.metrics.fidelity import copy_first_frame
from vap_sim.metrics.fixed_filters import FixedFilters
from vap_sim.metrics.masks import st_iou
from vap_sim.metrics.motion import motion_st_iou
from vap_sim.metrics.report import Clips
from vap_sim.metrics.video_distance import clip_features, video_distance
from vap_sim.models.checkpoint import save_tensors
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import SIDE, TinyCodec
from vap_sim.models.cogvideox.config import ModelConfig, build_transformer, parameter_count, tiny_config
from vap_sim.models.cogvideox.control_form import Control, control_for
from vap_sim.models.cogvideox.parts import Parts
from vap_sim.models.cogvideox.sampler import PUBLISHED, Schedule
from vap_sim.models.cogvideox.settings import Settings
from vap_sim.models.cogvideox.text import HashedWords
from vap_sim.models.cogvideox.world import CogVideoXWorld
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot
from vap_sim.training.diffusion import DiffusionRecipe, DiffusionTraining
from vap_sim.training.loop import LoopSettings, train
from vap_sim.training.parallel import ALONE, Team, settle

DETECTOR_SIDE = 128
"""The detector was trained on pictures of this side [px]; smaller ones are enlarged before it reads them."""
SHOWN = 6
"""Clips whose dreams are kept for the contact sheet."""
BASELINES, DREAMS = "baselines", "dreams"
LOGGED = 10
"""The loss of a record is the mean of so many of the last that were logged."""
ROWS = 25
"""Clips that are dreamt at once."""


@dataclass(frozen=True)
class RunSettings:
    """What all runs of a comparison share.

    films: sizes of clips; steps, batch, learning_rate, warmup, average, region: of the training (the learning
    rate falls over its second half); channels: of a latent frame; heads, head_width, blocks, patch, words: of the
    network. Its width must hold the numbers of a token, channels * patch^2, or it cannot tell noise from picture.
    reader: width of the encoder of drawn prompts; denoising: steps of a dream.
    """

    films: FilmSettings = field(default_factory=FilmSettings)
    steps: int = 2400
    batch: int = 8
    learning_rate: float = 2e-3
    warmup: int = 50
    average: float = 0.995
    region: float = 3.0
    channels: int = 24
    heads: int = 4
    head_width: int = 32
    blocks: int = 4
    patch: int = 2
    words: int = 12
    reader: int = 32
    denoising: int = 6

    @property
    def cooldown(self) -> int:
        """Steps over which the learning rate falls to zero at the end."""
        return self.steps // 2

    @property
    def config(self) -> ModelConfig:
        """Of the network."""
        side = self.films.side // SIDE
        tiny = tiny_config(
            latent_channels=self.channels, blocks=self.blocks, heads=self.heads, head_width=self.head_width,
            size=(side, side), frames=1 + self.films.frames // 4, text_length=self.words,
        )  # fmt: skip
        return ModelConfig({**tiny.transformer, "patch_size": self.patch}, vae=tiny.vae)


@dataclass(frozen=True)
class Run:
    """Which run of a comparison: the form of its prompts, its cameras, and the seed of its weights and batches."""

    form: str
    cameras: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.cameras}_{self.form}_{self.seed}"


@dataclass(frozen=True)
class Scores:
    """st_iou: mean over clips of the overlap of robot masks; motion: that of motion masks; distance: of video features
    of fixed random filters, smaller is better; undefined: clips without an st_iou."""

    st_iou: float
    motion: float
    distance: float
    undefined: int


class Judge:
    """Compares dreams of the clips of some films with the truth."""

    def __init__(self, films: Sequence[Film], settings: RunSettings, cameras: str) -> None:
        self.films = [part for film in films for part in film.clips(settings.films.frames)]
        self.truth = torch.stack([film.frames for film in self.films])
        self.robot = torch.stack([film.robot for film in self.films])
        self.cameras, self.settings = cameras, settings
        self.detector, self.filters = Detector.load(), FixedFilters()
        self._features = self._features_of(self.truth)

    def scores(self, frames: Tensor) -> Scores:
        """Of frames (n, T, H, W, 3) uint8, one film a clip. Frame 0 was given and is not judged."""
        overlap = st_iou(generated=self.read(frames), truth=self.robot)
        distance = video_distance(generated=self._features_of(frames), truth=self._features)
        motion = motion_st_iou(generated=frames, truth=self.truth)
        return Scores(overlap.mean(), motion.mean(), distance.value, overlap.undefined)

    def baselines(self) -> dict[str, Scores]:
        """What standing still earns, and what the codec and the detector alone would allow."""
        codec = TinyCodec(self.settings.channels)
        return {
            "copy": self.scores(copy_first_frame(self.truth).contiguous()),
            "codec": self.scores(codec.decode(codec.encode(self.truth))),
            "detector": self.scores(self.truth),
        }

    def keep_baselines(self, folder: Path) -> None:
        """Write the baselines and the true clips of the contact sheet, where they are not there yet. Raises OSError."""
        path = folder / f"{BASELINES}-{self.cameras}.json"
        if not path.is_file():
            save_tensors(folder / f"truth-{self.cameras}.safetensors", {DREAMS: shown(self.truth)}, {})
            write_json(path, {name: asdict(found) for name, found in self.baselines().items()})

    def read(self, frames: Tensor) -> Tensor:
        """Where the detector sees the robot: frames (n, T, H, W, 3) uint8 -> bool (n, T, H, W)."""
        side = self.settings.films.side
        scale = max(1, DETECTOR_SIDE // side)
        found = []
        for clip in frames:
            pictures = clip.permute(0, 3, 1, 2).float()
            large = F.interpolate(pictures, scale_factor=scale, mode="bicubic") if scale > 1 else pictures
            seen = self.detector.robot(large.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous())
            found.append(F.avg_pool2d(seen[:, None].float(), scale)[:, 0] >= 0.5)
        return torch.stack(found)

    def _features_of(self, frames: Tensor) -> Any:
        clips = Clips.of(
            frames,
            source="held-out twin episodes",
            camera=f"{self.cameras} cameras",
            frame_rate=5 / self.settings.films.stride,
            preprocessing="none",
            seeds=[0],
        )
        return clip_features(self.filters, frames, clips=clips)


def run_one(
    run: Run,
    settings: RunSettings,
    films: Sequence[Film],
    judge: Judge,
    folder: Path,
    *,
    minutes: float | None = None,
    device: str = "cpu",
) -> dict[str, Any] | None:
    """Train and judge a run; None where time was up before its training ended. Raises BadFile, InvalidInput, OSError.

    A run that is finished is read again. One that is not goes on from its last checkpoint.
    """
    done = read_run(folder, run, settings)
    if done is not None:
        return done
    codec, team = TinyCodec(settings.channels), Team(device=torch.device(device))
    backbone, control = networks(run, settings, films)
    recipe = recipe_of(run, settings, films, backbone, control, codec, team)
    own = folder / "training" / run.name
    outcome = train(
        recipe,
        LoopSettings(
            own, settings.steps, minutes, settings.learning_rate, settings.warmup, settings.cooldown,
            average=settings.average, checkpoint_every=100, log_every=min(20, settings.steps),
            preview_every=settings.steps + 1,
        ),
        team,
    )  # fmt: skip
    if outcome.step < settings.steps:
        return None
    settle(recipe.denoiser, outcome.weights)
    recipe.denoiser.to(team.device).eval().requires_grad_(False)
    parts = Parts(
        backbone,
        codec,
        recipe.text,
        recipe.schedule,
        Settings(mode="chunk", chunk=settings.films.frames, steps=settings.denoising, rows_at_once=ROWS),
        (settings.films.side, settings.films.side),
        () if control is None else (control,),
        team.device,
    )
    began = perf_counter()
    dreams = dream(CogVideoXWorld(parts, profile=run.form), judge.films, run.form, settings)
    found = judge.scores(dreams)
    save_tensors(folder / f"{run.name}.safetensors", {DREAMS: shown(dreams)}, {"run": asdict(run)})
    record = {
        "run": asdict(run),
        "settings": asdict(settings),
        "scores": asdict(found),
        "parameters": sum(parameter_count(one) for one in (backbone, control) if one is not None),
        "loss": mean(list(outcome.losses.values())[-LOGGED:]),
        "seconds": {"training": outcome.seconds, "judging": perf_counter() - began},
        "episodes": len(films),
        "clips": len(judge.films),
    }
    write_json(record_path(folder, run), record)
    shutil.rmtree(own)  # its checkpoint has served
    return record


def recipe_of(
    run: Run,
    settings: RunSettings,
    films: Sequence[Film],
    backbone: Backbone,
    control: Control | None,
    codec: TinyCodec,
    team: Team = ALONE,
) -> DiffusionRecipe:
    """What the run is trained by. Nothing is left out of a row, because dreams are not guided."""
    training = DiffusionTraining(
        seed=run.seed, batch=settings.batch, region=settings.region, caption=0, control=0, image=0, noisy_image=False
    )
    clips = data_set(films, run.cameras, run.form, settings.films, codec)
    text = HashedWords(settings.words, settings.config.text_width)
    return DiffusionRecipe(backbone, control, codec, text, Schedule.of(PUBLISHED), [clips], training, team=team)


def record_path(folder: Path, run: Run) -> Path:
    """Where a finished run's record is."""
    return folder / f"{run.name}.json"


def read_run(folder: Path, run: Run, settings: RunSettings) -> dict[str, Any] | None:
    """The record of a finished run, or None. Raises BadFile for a damaged one or one of other settings."""
    return read_record(record_path(folder, run), run, asdict(settings))


def shown(clips: Tensor) -> Tensor:
    """The clips (n, ...) of the contact sheet: a few, spread over all."""
    return clips[:: max(1, len(clips) // SHOWN)][:SHOWN]


def checked_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write what a folder of runs is about, once; from then on it must be the same. Raises BadFile, OSError."""
    if path.is_file():
        if json.loads(path.read_text(encoding="utf-8")) != json.loads(json.dumps(content)):
            raise BadFile(path, "is of a comparison with other settings or data; give another folder by --out")
    else:
        write_json(path, content)


def networks(run: Run, settings: RunSettings, films: Sequence[Film]) -> tuple[Backbone, Control | None]:
    """The untrained network and what tells it the action. The same seed gives the same backbone for every form."""
    backbone = Backbone(build_transformer(settings.config, seed=run.seed).train())
    form = profile(run.form).form
    told: dict[str, Any] = {} if form == "text" else {"seed": run.seed}
    if form == "raw_action":
        joints = torch.cat([film.joints for film in films])
        told |= {"mean": joints.mean(0), "spread": joints.std(0)}
    elif form != "text":
        told |= {"width": settings.reader, "channels": settings.reader}
    control = control_for(run.form, backbone, joints=films[0].joints.shape[1], **told)
    return backbone, None if control is None else control.train()


def dream(world: CogVideoXWorld, films: Sequence[Film], form: str, settings: RunSettings) -> Tensor:
    """Each clip from its first frame by its prompt alone: frames (n, T, H, W, 3) uint8, of which frame 0 is given."""
    prompter = Prompter(load_robot("panda_robotiq"), profile(form), (settings.films.side, settings.films.side))
    made = []
    for first in tqdm(range(0, len(films), ROWS), desc=f"dreaming by {form}", unit="batch", mininterval=5):
        some = films[first : first + ROWS]
        drawn = prompter.draw(torch.stack([one.joints for one in some]), [Camera.batch([one.camera for one in some])])
        prompt: VisualPrompt = replace(drawn, text=tuple(one.caption for one in some))
        starts = torch.stack([one.frames[0] for one in some])
        state = world.encode(starts[:, None], prompt.between(0, 1), list(range(first, first + len(some))))
        frames = world.step(state, prompt.between(1, settings.films.frames))[1]
        made.append(torch.cat([starts[:, None], frames[:, 0].cpu()], dim=1))
    return torch.cat(made)
