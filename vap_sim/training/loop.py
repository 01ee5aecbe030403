"""One training loop for every model: resumes exactly, stops in time, averages the weights, logs to TensorBoard."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from tqdm import tqdm

from vap_sim.errors import BadFile, InvalidInput, MissingDependency
from vap_sim.models.checkpoint import fill, load_split, save_split
from vap_sim.training.animation import show
from vap_sim.training.parallel import ALONE, Team, part, whole

CHECKPOINT = "checkpoint"


class Recipe(Protocol):
    """What is trained. All that is random in it follows from the step's number: a resumed run sees the same batches."""

    @property
    def network(self) -> nn.Module:
        """The weights that are trained."""
        ...

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The loss of one step's batch, and its terms for the log.

        With gradients of several batches accumulated, `step` counts batches: a step of the optimizer takes as many.
        """
        ...

    def preview(self, step: int) -> Mapping[str, Tensor]:
        """Pictures (3, H, W) or films (T, 3, H, W), uint8, by name, made with the averaged weights."""
        ...

    def describe(self) -> Mapping[str, Any]:
        """Settings, as JSON values; a checkpoint of other settings is refused."""
        ...


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast to train. `minutes` stops this run early with a checkpoint; `steps` is where training ends.

    The learning rate rises over `warmup` steps, stays, and falls to zero over the last `cooldown` steps, in a straight
    line or along half a `cosine`. A step's gradient is the mean over `accumulate` batches, for batches larger than
    memory. weight_decay, betas: of AdamW.
    """

    folder: Path
    steps: int
    minutes: float | None = None
    learning_rate: float = 5e-4
    warmup: int = 200
    cooldown: int = 0
    cosine: bool = False
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float = 1.0
    average: float = 0.999
    checkpoint_every: int = 250
    log_every: int = 10
    preview_every: int = 500
    accumulate: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1 or self.cooldown > self.steps:
            raise InvalidInput(
                "training steps", f"{self.steps} with cooldown {self.cooldown}", "steps >= cooldown, >= 1"
            )
        if self.cooldown < 0 or min(self.checkpoint_every, self.log_every, self.preview_every) < 1:
            given = (self.cooldown, self.checkpoint_every, self.log_every, self.preview_every)
            raise InvalidInput(
                "cooldown and steps between checkpoints, logs, previews", given, "0 or more, then 1 or more"
            )
        if self.accumulate < 1:
            raise InvalidInput("batches to accumulate", self.accumulate, "1 or more")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise InvalidInput("betas", self.betas, "two numbers, 0 <= beta < 1")
        if not 0 <= self.average < 1:
            raise InvalidInput(
                "average", self.average, "the share of the old average that a step keeps, 0 <= share < 1"
            )


@dataclass(frozen=True)
class Outcome:
    """Where a run stopped: `step` of `steps`, and the averaged weights.

    losses: the loss at the steps that were logged, and seconds: of training, both from the run's beginning, whatever
    stopped it in between.
    """

    step: int
    steps: int
    weights: dict[str, Tensor]
    losses: dict[int, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass
class _Progress:
    """What a run carries from step to step beside the weights."""

    step: int = 0
    seconds: float = 0.0
    losses: dict[int, float] = field(default_factory=dict)


def train(recipe: Recipe, settings: LoopSettings, team: Team = ALONE) -> Outcome:
    """Run the recipe from its last checkpoint in `settings.folder`, if there is one, to the end or until time is up.

    team: of the processes that train together; each gives its own recipe, whose batches are its own. The one that leads
    writes; a run of any team can be gone on with by any other.

    Raises:
        BadFile: the checkpoint is damaged or belongs to a recipe of other settings.
        OSError: the disk refuses (full, read-only); the last whole checkpoint stays.
    """
    network = recipe.network
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, betas=settings.betas
    )
    average = {name: value.detach().clone() for name, value in network.state_dict().items()}
    progress = _resume(recipe, settings.folder, optimizer, average)
    team.wait()  # the next checkpoint replaces the files of the one that the others still read
    writer = _writer(settings.folder) if team.leads else None
    try:
        _run(recipe, settings, optimizer, average, progress, writer, team)
    finally:
        if writer is not None:
            writer.close()
    weights = {name: whole(value) for name, value in average.items()}
    return Outcome(progress.step, settings.steps, weights, progress.losses, progress.seconds)


def _run(
    recipe: Recipe,
    settings: LoopSettings,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    progress: _Progress,
    writer: Any,
    team: Team,
) -> None:
    """Train from where the progress stands on; it ends where the last checkpoint is."""
    network, step = recipe.network, progress.step
    deadline = None if settings.minutes is None else time.monotonic() + 60 * settings.minutes
    began = time.perf_counter() - progress.seconds
    network.train()
    bar = tqdm(
        total=settings.steps, initial=step, unit="step", dynamic_ncols=True, mininterval=5, disable=not team.leads
    )
    with bar:
        while step < settings.steps and not team.any(deadline is not None and time.monotonic() >= deadline):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, step)
            optimizer.zero_grad(set_to_none=True)
            loss, terms = _descend(recipe, step, settings.accumulate)
            norm = whole(nn.utils.clip_grad_norm_(network.parameters(), settings.clip))
            if torch.isfinite(norm):  # one broken batch must not break the weights
                optimizer.step()
            step += 1
            _follow(average, network, min(settings.average, (1 + step) / (10 + step)))
            bar.update()
            progress.step, progress.seconds = step, time.perf_counter() - began
            if step % settings.log_every == 0:
                loss, terms = team.mean(loss), {name: team.mean(value) for name, value in terms.items()}
                progress.losses[step] = float(loss)
                bar.set_postfix(loss=f"{float(loss):.3f}", refresh=False)
                _log(writer, step, {"loss": loss, "gradient_norm": norm} | {f"terms/{k}": v for k, v in terms.items()})
            if step % settings.preview_every == 0 and (team.leads or team.shard):
                _preview(recipe, average, writer, step)
            if step % settings.checkpoint_every == 0:
                _save(recipe, settings.folder, optimizer, average, progress, team)
    _save(recipe, settings.folder, optimizer, average, progress, team)


def _descend(recipe: Recipe, step: int, accumulate: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Gradients of a step's batches; their mean loss and terms."""
    losses, terms = [], []
    for index in range(accumulate):
        loss, parts = recipe.loss(step * accumulate + index)
        (loss / accumulate).backward()  # type: ignore[no-untyped-call]
        losses.append(loss.detach())
        terms.append(parts)
    if accumulate == 1:
        return losses[0], dict(terms[0])
    mean = {name: torch.stack([parts[name] for parts in terms]).mean() for name in terms[0]}
    return torch.stack(losses).mean(), mean


def _log(writer: Any, step: int, values: Mapping[str, Tensor]) -> None:
    if writer is not None:
        for name, value in values.items():
            writer.add_scalar(name, float(value), step)


def plain(value: Any) -> Any:
    """Tuples to lists all the way down, as JSON gives them back."""
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def learning_rate(settings: LoopSettings, step: int) -> float:
    """The learning rate at a step."""
    rise = min(1.0, (step + 1) / max(1, settings.warmup))
    fall = min(1.0, (settings.steps - step) / settings.cooldown) if settings.cooldown else 1.0
    fall = 0.5 * (1 - math.cos(math.pi * fall)) if settings.cosine else fall
    return settings.learning_rate * rise * fall


def _follow(average: dict[str, Tensor], network: nn.Module, keep: float) -> None:
    with torch.no_grad():
        for name, value in network.state_dict().items():
            average[name].lerp_(value, 1 - keep)


def _preview(recipe: Recipe, average: dict[str, Tensor], writer: Any, step: int) -> None:
    network = recipe.network
    current = {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(average)
    network.eval()
    with torch.no_grad():
        for name, picture in recipe.preview(step).items():
            if writer is not None:
                show(writer, name, picture, step)
    network.load_state_dict(current)
    network.train()


def _save(
    recipe: Recipe,
    folder: Path,
    optimizer: torch.optim.Optimizer,
    average: dict[str, Tensor],
    progress: _Progress,
    team: Team,
) -> None:
    tensors = {f"network/{name}": value for name, value in recipe.network.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": value for name, value in state.items()}
    tensors = {name: whole(value) for name, value in tensors.items()}
    description = {
        "step": progress.step,
        "recipe": dict(recipe.describe()),
        "seconds": progress.seconds,
        "losses": [[step, loss] for step, loss in progress.losses.items()],
    }
    if team.leads:
        save_split(folder, CHECKPOINT, tensors, description)
    team.wait()


def _resume(recipe: Recipe, folder: Path, optimizer: torch.optim.Optimizer, average: dict[str, Tensor]) -> _Progress:
    found = load_split(folder, CHECKPOINT)
    if found is None:
        return _Progress()
    tensors, description = found
    index = folder / f"{CHECKPOINT}.json"
    if description.get("recipe") != dict(recipe.describe()):
        raise BadFile(index, f"a checkpoint of {description.get('recipe')}, this recipe is {dict(recipe.describe())}")
    step = description.get("step")
    if not isinstance(step, int) or step < 0:
        raise BadFile(index, f"field 'step' is {step!r}, expected a number of steps")
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimizer": {}}
    for key, value in tensors.items():
        kind, _, name = key.partition("/")
        if kind not in parts:
            raise BadFile(index, f"tensor {key!r} is neither of {', '.join(parts)}")
        parts[kind][name] = value
    own = recipe.network.state_dict()
    fill(
        recipe.network,
        {name: part(value, own[name]) if name in own else value for name, value in parts["network"].items()},
        index,
    )
    _fill_average(average, parts["average"], index)
    _fill_optimizer(optimizer, parts["optimizer"], index)
    return _Progress(step, *_history(index, description))


def _history(index: Path, description: Mapping[str, Any]) -> tuple[float, dict[int, float]]:
    """Seconds and losses so far; checkpoints of earlier versions do not know them."""
    try:
        losses = {int(step): float(loss) for step, loss in description.get("losses", [])}
        return float(description.get("seconds", 0.0)), losses
    except (TypeError, ValueError) as error:
        raise BadFile(index, f"fields 'seconds' and 'losses' are no numbers ({error})") from error


def _fill_average(average: dict[str, Tensor], saved: Mapping[str, Tensor], index: Path) -> None:
    for name, value in average.items():
        if name not in saved or saved[name].shape != value.shape:
            raise BadFile(index, f"the average of {name!r} is missing or of another shape")
        value.copy_(part(saved[name], value))


def _fill_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Tensor], index: Path) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in saved.items():
        number, _, name = key.partition("/")
        known = number.isdecimal() and int(number) < len(parameters)
        if not known or value.shape not in ((), parameters[int(number)].shape):
            raise BadFile(index, f"the optimizer's tensor {key!r} belongs to no weight of this shape")
        state.setdefault(int(number), {})[name] = part(value, parameters[int(number)])
    if state and any(set(values) != {"step", "exp_avg", "exp_avg_sq"} for values in state.values()):
        raise BadFile(index, "the optimizer's memory of a weight is not whole")
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _writer(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise MissingDependency("tensorboard", "train") from error
    return SummaryWriter(str(folder / "tensorboard"))
