"""The recipe that makes a few-step student of a CogVideoX teacher in stream mode: consistency, some of it in dreams.

The arithmetic and its sources stand in `consistency.py`. A stream makes each frame after clean ones, so that is how
the student learns: of every clip one frame is noisy, and those before it are given clean. In some batches they are
not the recorded ones but the student's own dream of them, made as a stream makes it: what it will look back at in use
is what it looked back at in training (Huang, Li, He, Zhou, Shechtman 2025, "Self Forcing"). There the whole dream is
judged by how its distribution differs from the data's; here the teacher, shown the same dream, leads the next frame
back towards the recorded one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.models.cogvideox.guidance import Branch, Guidance
from vap_sim.models.cogvideox.sampler import noised
from vap_sim.models.cogvideox.text import UNCONDITIONAL, TextEncoder
from vap_sim.noise import standard_normals
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.training.clips import Clip, DataSet
from vap_sim.training.consistency import Segments, jump, target_velocity
from vap_sim.training.diffusion import PRECISIONS, Denoiser
from vap_sim.training.loop import plain
from vap_sim.training.mixing import TEMPER, Mixture
from vap_sim.training.noising import velocity_loss
from vap_sim.training.parallel import ALONE, Team, Trainable

if TYPE_CHECKING:
    from vap_sim.models.cogvideox.codec import Codec

Weights = Mapping[str, Tensor]
_FULL = Branch(text=True, control=True)


@dataclass(frozen=True)
class DistillationTraining:
    """Settings of the recipe. Raises InvalidInput, UnknownName.

    steps: of the student for a latent frame; teacher_steps: a multiple, the quality to reach; seed: of everything
    random; batch: rows of a process; guidance: of the teacher, which the student has in its single pass; self_forcing:
    share of batches whose history the student dreamed; keep: share of the target's old weights that a batch leaves;
    caption: share of rows without one; power, region, precision: as in `DiffusionTraining`.
    """

    steps: int = 2
    teacher_steps: int = 24
    seed: int = 0
    batch: int = 4
    guidance: Guidance = Guidance()
    self_forcing: float = 0.25
    keep: float = 0.95
    power: float = TEMPER
    region: float = 3.0
    caption: float = 0.1
    precision: str = "fp32"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise UnknownName("precision of training", self.precision, PRECISIONS)
        if self.batch < 1 or not self.region >= 1:
            given = (self.batch, self.region)
            raise InvalidInput("batch and weight of the region", given, "1 row or more, 1 or more (2 to 5 is usual)")
        if not (0 <= self.self_forcing <= 1 and 0 <= self.keep < 1):
            shares = (self.self_forcing, self.keep)
            raise InvalidInput("share of dreamed histories, share kept", shares, "0 <= share <= 1, 0 <= share < 1")
        if not 0 <= self.caption <= 1:
            raise InvalidInput("share of rows without caption", self.caption, "a number from 0 to 1")
        if self.guidance.dynamic:
            raise Unsupported("dynamic guidance in distillation: it follows the sampler's steps, which become fewer")


@dataclass(frozen=True, eq=False)
class FrameBatch:
    """b clips up to the frame to learn, F frames in all. clean (b, F, C, h, w), the history dreamed or recorded; noise
    (b, F, C, h, w); text, plain (b, L, width): captions and empty ones; weight (b, 1, h, w); prompt of 4 F - 3 pixel
    frames; levels (b, 3) int64: where the row learns, the teacher's next point, the segment's end."""

    clean: Tensor
    noise: Tensor
    text: Tensor
    plain: Tensor
    weight: Tensor
    prompt: VisualPrompt
    levels: Tensor

    @property
    def history(self) -> Tensor:
        """The frames before the one to learn (b, F - 1, C, h, w)."""
        return self.clean[:, :-1]


class Pupil(nn.Module):
    """What the loop keeps: the student's parameters, and the slow copy of them that targets are made with, as buffers.

    student: named as in the denoiser; the copy is part of the state, so a resumed run has the same targets.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        super().__init__()
        self.student = Trainable(denoiser)
        self.target = nn.Module()
        for name, value in self.student.named_parameters():
            self.target.register_buffer(name.replace(".", "/"), value.detach().clone())

    def slow(self) -> Weights:
        """The target's weights by the student's names."""
        return {name.replace("/", "."): value for name, value in self.target.named_buffers()}

    def follow(self, keep: float) -> None:
        """Move the target towards the student, leaving so large a share of the old."""
        with torch.no_grad():
            for name, value in self.student.named_parameters():
                self.target.get_buffer(name.replace(".", "/")).lerp_(value, 1 - keep)


class DistillationRecipe:
    """Feeds `loop.train`; see `loop.Recipe`. The weights that take gradients are the student's, and as they are when
    this is made they are the teacher's: frozen ones are shared, so a student by LoRA costs no second backbone.

    denoiser: of the teacher; window: latent frames that its stream looks back at, all that a clip may have before its
    last; teacher: by what it is known, so that no run goes on with another; shown: clips for the preview, not trained
    on; team: of processes that copy the weights.

    Row n of the run shows clip `Mixture.pick(n)`; its noise and levels follow from (seed, n), which frame a batch
    learns and whether it dreams from (seed, step): a kill changes nothing. Raises InvalidInput for clips that do not
    fit the model, Unsupported for weights split over processes.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        codec: Codec,
        text: TextEncoder,
        segments: Segments,
        data: Sequence[DataSet],
        training: DistillationTraining,
        *,
        window: int,
        teacher: str = "",
        shown: Sequence[Clip] = (),
        team: Team = ALONE,
    ) -> None:
        if (segments.student, segments.teacher) != (training.steps, training.teacher_steps):
            given = (segments.student, segments.teacher)
            raise InvalidInput("steps of the segments", given, (training.steps, training.teacher_steps))
        if team.shard:
            raise Unsupported("distillation with weights split over processes: its teacher needs them whole; copy them")
        if training.guidance.control != 1 and denoiser.control is None:
            raise InvalidInput("guidance of control", training.guidance.control, "1, because nothing controls")
        self.config = denoiser.backbone.config
        _check(data[0].clips[0].load(), self.config.latent_channels, window)
        self.mixture = Mixture(tuple(len(one.clips) for one in data), training.power, training.seed)
        self.data, self.training, self.segments, self.team = tuple(data), training, segments, team
        self.codec, self.text, self.shown, self.known = codec, text, tuple(shown), teacher
        self.denoiser = denoiser.to(team.device)
        self.network = Pupil(self.denoiser)
        self.teacher: Weights = {
            name: value.detach().clone() for name, value in self.network.student.named_parameters()
        }
        self._run = team.wrap(self.denoiser, self.denoiser.units)

    def describe(self) -> Mapping[str, Any]:
        settings = {name: value for name, value in asdict(self.training).items() if name != "batch"}
        return dict(
            plain(
                {
                    "part": "distillation",
                    **settings,
                    "teacher": self.known,
                    "rows": self.training.batch * self.team.size,
                    "data": {one.name: len(one.clips) for one in self.data},
                    "trained": sum(value.numel() for value in self.network.parameters()),
                }
            )
        )

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See the protocol; before it, the target follows the student. Raises BadFile where a cached clip is gone."""
        if step:
            self.network.follow(self.training.keep)
        batch = self.batch(step)
        alpha, _, goal = self.segments.schedule.alpha(batch.levels).unbind(1)
        sample = noised(batch.clean[:, -1:], batch.noise[:, -1:], alpha)
        with torch.no_grad():
            target = self.target(batch, sample)
        prediction = self._ask(None, batch, sample, batch.levels[:, 0])
        learned = torch.ones(sample.shape[:2], dtype=torch.bool, device=sample.device)
        rows = velocity_loss(prediction, target, learned, batch.weight)
        with torch.no_grad():
            short = jump(prediction, sample, alpha, goal) - jump(target, sample, alpha, goal)
        return rows.mean(), {
            "unweighted": velocity_loss(prediction.detach(), target, learned).mean(),
            "short_of_target": short.square().mean(),
        }

    def target(self, batch: FrameBatch, sample: Tensor) -> Tensor:
        """The velocity to learn (b, 1, C, h, w): one step of the teacher, then the target network to the end."""
        start, level, _ = batch.levels.unbind(1)
        alpha, after, goal = self.segments.schedule.alpha(batch.levels).unbind(1)
        ahead = jump(self.guided(batch, sample, start), sample, alpha, after)
        # A row that has arrived is at its goal already: what the network says of it does not count.
        said = self._ask(self.network.slow(), batch, ahead, level.clamp_min(0))
        return target_velocity(ahead, said, sample, alpha, after, goal)

    def guided(self, batch: FrameBatch, sample: Tensor, level: Tensor) -> Tensor:
        """The teacher's velocity with its guidance."""
        guiding = self.training.guidance
        return guiding.mix([self._ask(self.teacher, batch, sample, level, one) for one in guiding.branches])

    def batch(self, step: int) -> FrameBatch:
        """What a step sees, on the team's device; the student dreams the history where the step's lot says so."""
        first = (step * self.team.size + self.team.rank) * self.training.batch
        numbers = range(first, first + self.training.batch)
        picks = [self.mixture.pick(row) for row in numbers]
        clips = [self.data[which].clips[index].load() for which, index in picks]
        lot = np.random.default_rng([self.training.seed, 4, step])
        dreams = bool(lot.uniform() < self.training.self_forcing)
        last = int(lot.integers(2 if dreams and len(clips[0].latents) > 2 else 1, len(clips[0].latents)))
        own = [np.random.default_rng([self.training.seed, 5, row]) for row in numbers]
        levels = [self.segments.draw(rng) for rng in own]
        told = [rng.uniform() >= self.training.caption for rng in own]
        clips = [clip if kept else replace(clip, caption=UNCONDITIONAL) for clip, kept in zip(clips, told, strict=True)]
        batch = self.frames(clips, last, list(numbers), levels)
        return self.dreamed(batch) if dreams else batch

    def frames(
        self, clips: Sequence[Clip], last: int, rows: Sequence[int], levels: Sequence[tuple[int, int, int]]
    ) -> FrameBatch:
        """The clips up to latent frame `last`, with the noise of rows of these numbers."""
        device, count = self.team.device, last + 1
        captions = [clip.caption for clip in clips]
        shape = tuple(clips[0].latents.shape)
        noise = standard_normals(torch.full((len(rows),), self.training.seed), torch.tensor(list(rows)), shape)
        prompt = VisualPrompt.cat([clip.prompt for clip in clips])
        weight = torch.stack([clip.region[last : last + 1] for clip in clips])
        return FrameBatch(
            clean=torch.stack([clip.latents[:count] for clip in clips]).to(device),
            noise=noise[:, :count].to(device),
            text=self.text.encode(captions).to(device),
            plain=self.text.encode([UNCONDITIONAL] * len(clips)).to(device),
            weight=(1 + (self.training.region - 1) * weight).to(device),
            prompt=_until(prompt, count).to(device),
            levels=torch.tensor(list(levels), device=device),
        )

    def dreamed(self, batch: FrameBatch, *, teacher: bool = False, whole: bool = False) -> FrameBatch:
        """The batch with a history that the student, or the teacher, dreams from the first frame; `whole`: its last
        frame too. Without gradients, as `Stream` would make it, from the batch's noise."""
        done = batch.clean[:, :1]
        for frame in range(1, batch.clean.shape[1] - (0 if whole else 1)):
            part = replace(
                batch,
                clean=torch.cat([done, done[:, :1]], dim=1),  # the last is not looked at
                prompt=_until(batch.prompt, frame + 1),
            )
            with torch.no_grad():
                made = self.sampled(part, batch.noise[:, frame : frame + 1], teacher=teacher)
            done = torch.cat([done, made], dim=1)
        return replace(batch, clean=torch.cat([done, batch.clean[:, done.shape[1] :]], dim=1))

    def sampled(self, batch: FrameBatch, sample: Tensor, *, teacher: bool = False, steps: Any = None) -> Tensor:
        """The frame after a batch's history (b, 1, C, h, w), from noise: by the student's steps or the teacher's.

        steps: other pairs of timesteps to go, for comparison."""
        for level, goal in steps or (self.segments.path if teacher else self.segments.jumps):
            at = torch.full((len(sample),), level, device=sample.device)
            said = self.guided(batch, sample, at) if teacher else self._ask(None, batch, sample, at)
            sample = jump(said, sample, self.segments.schedule.alpha(level), self.segments.schedule.alpha(goal))
        return sample

    def preview(self, step: int) -> Mapping[str, Tensor]:
        """For each shown clip a film: recorded, prompt, what the teacher dreams in its steps, the student in its."""
        films = {}
        for number, clip in enumerate(self.shown):
            batch = self.frames([clip], len(clip.latents) - 1, [-1 - number], [(0, 0, 0)])
            taught = self.dreamed(batch, teacher=True, whole=True).clean
            learned = self.dreamed(batch, whole=True).clean
            pictures = [self.codec.decode(one)[0].cpu() for one in (batch.clean, taught, learned)]
            pictures.insert(1, clip.prompt.skeleton[0, 0])
            films[f"clips/{number}"] = torch.cat(pictures, dim=2).permute(0, 3, 1, 2)
        return films

    def _ask(
        self, weights: Weights | None, batch: FrameBatch, sample: Tensor, level: Tensor, branch: Branch = _FULL
    ) -> Tensor:
        """The velocity (b, 1, C, h, w) of the frame after the batch's history. weights: None for the student's own,
        with gradients where they are on; level: (b,)."""
        latents = torch.cat([batch.history, sample], dim=1)
        levels = torch.zeros(latents.shape[:2], dtype=torch.int64, device=latents.device)
        levels[:, -1] = level
        alone = torch.full((len(latents),), not (branch.control and branch.reference), device=latents.device)
        images = batch.clean[:, :1] if self.config.condition_channels else None
        told = batch.text if branch.text else batch.plain
        given = (latents, levels, told, images, batch.prompt, alone, True)
        with self._precision():
            if weights is None:
                run = self._run if torch.is_grad_enabled() else self.denoiser
                said: Tensor = run(*given)
            else:
                said = functional_call(self.denoiser, dict(weights), given)
        return said[:, -1:]

    def _precision(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.team.device.type, torch.bfloat16, enabled=self.training.precision == "bf16")


def student_weights(weights: Weights) -> dict[str, Tensor]:
    """Of the weights that a run ends with, the student's, named as in its denoiser."""
    mark = "student."
    return {name.removeprefix(mark): value for name, value in weights.items() if name.startswith(mark)}


def _until(prompt: VisualPrompt, frames: int) -> VisualPrompt:
    """The prompt of the first so many latent frames."""
    return prompt.between(0, 4 * (frames - 1) + 1)


def _check(clip: Clip, channels: int, window: int) -> None:
    count = len(clip.latents)
    if clip.latents.shape[1] != channels:
        raise InvalidInput("latent channels of the clips", clip.latents.shape[1], f"{channels}, as the model has")
    if not 2 <= count <= window + 1:
        expected = f"2 .. {window + 1}: the stream looks back at {window}"
        raise InvalidInput("latent frames of the clips", count, expected)
