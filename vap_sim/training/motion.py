"""The recipe of the compact model's motion network: objects followed for a while, most of them near the robot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from vap_sim.errors import InvalidInput
from vap_sim.models.compact.losses import unit
from vap_sim.models.compact.motion_losses import MotionWeights, Paths, motion_loss, roll_out
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.models.compact.packed import fast_cast
from vap_sim.models.compact.slots import PATCH, place
from vap_sim.training.films import check_films
from vap_sim.training.loop import plain
from vap_sim.training.motion_films import MotionFilm

_LEAST_PIXELS = 12  # of an object that is followed, in the first frame
_TRIES = 50


@dataclass(frozen=True)
class Stage:
    """From step `start` on: `batch` paths of `length` frames, objects `jitter` [px] off."""

    start: int
    length: int
    batch: int
    jitter: float


@dataclass(frozen=True)
class MotionTraining:
    """Settings of the recipe. Paths grow: short ones teach motion, long ones to forgive.

    moving, near: shares of the paths chosen because the object moves in them, or rests while the robot is close.
    turn [rad], zoom (log), mirror: by how much the pictures are changed, as spreads and as a share. views: cameras by
    which every episode is seen. `scale` multiplies every stage's batch, for devices that take more at once than a
    CPU."""

    seed: int = 0
    profile: str = "compact"
    stages: tuple[Stage, ...] = (Stage(0, 4, 32, 0.5), Stage(2000, 7, 16, 0.8), Stage(7000, 13, 8, 1.0))
    moving: float = 0.45
    near: float = 0.45
    turn: float = 0.1
    zoom: float = 0.1
    mirror: float = 0.5
    unknown_velocity: float = 0.2
    views: int = 4
    scale: int = 1
    weights: MotionWeights = MotionWeights()
    precision: str = "bf16"

    def stage(self, step: int) -> Stage:
        """The stage a step belongs to."""
        return [stage for stage in self.stages if stage.start <= step][-1]


class PathSource:
    """Draws paths from films: which ones follows from the generator alone."""

    def __init__(self, films: Sequence[MotionFilm], training: MotionTraining) -> None:
        """Raises InvalidInput where no film shows an object."""
        self.films, self.training = films, training
        kinds = (
            ([film.moving & _followed(film) for film in films], training.moving),
            ([film.near & ~film.moving & _followed(film) for film in films], training.near),
            ([_followed(film) for film in films], max(0.0, 1 - training.moving - training.near)),  # 1 - 0.9 - 0.1 < 0
        )
        events = [(_list(masks), share) for masks, share in kinds]
        self._events = [found for found, _ in events if len(found)]
        shares = np.array([share for found, share in events if len(found)])
        if not len(shares) or shares.sum() <= 0:
            raise InvalidInput("films for training", "no object in any of them", "at least one")
        self._shares = shares / shares.sum()

    def draw(self, rng: np.random.Generator, count: int, length: int) -> Paths:
        """A batch of `count` paths of `length` frames."""
        rows = [self._row(rng, length) for _ in range(count)]
        return Paths(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))

    def _row(self, rng: np.random.Generator, length: int) -> tuple[np.ndarray, ...]:
        for _ in range(_TRIES):
            events = self._events[int(rng.choice(len(self._events), p=self._shares))]
            which, frame, index = events[int(rng.integers(len(events)))].tolist()
            film = self.films[which]
            low, high = max(0, frame - length + 1), min(frame - 1, film.length - length)
            if low > high:
                continue
            start = int(rng.integers(low, high + 1))
            numbers, _ = film.objects(np.array([start]))
            if (numbers == index + 1).sum() >= _LEAST_PIXELS:
                return self.path(rng, film, slice(start, start + length), index)
        raise InvalidInput("films for training", f"no path of {length} frames in {_TRIES} tries", "longer films")

    def path(self, rng: np.random.Generator, film: MotionFilm, part: slice, index: int) -> tuple[np.ndarray, ...]:
        """Object `index` of a film followed through the frames `part`: a row of each field of `Paths`."""
        history = np.clip(np.arange(part.start - 2, part.stop), 0, None)
        numbers, alpha = film.objects(np.arange(part.start, part.stop))
        own = numbers == index + 1
        centre, patch = cut_alpha(alpha[0], own[0])
        if film.rides:
            numbers, alpha = film.objects(np.arange(part.start, part.stop), later=1)
            own = numbers == index + 1
        known = rng.uniform() >= self.training.unknown_velocity and film.moving[part.start, index]
        return (
            np.ascontiguousarray(np.moveaxis(film.skeletons(history), -1, 1)),
            (alpha * ~own)[:, None],
            patch[None],
            centre,
            film.steps[part.start, index, :2] * np.float32(known),
            film.centres[part, index],
            film.steps[part, index],
            self._frame(rng),
            film.carried[part, index],
            film.planes[part],
        )

    def _frame(self, rng: np.random.Generator) -> np.ndarray:
        """A random turn, zoom and mirror (2, 2), as `windows.offsets` takes it."""
        angle, zoom = rng.normal(0, self.training.turn), np.exp(rng.normal(0, self.training.zoom))
        frame = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        if rng.uniform() < self.training.mirror:
            frame[:, 0] *= -1
        return np.asarray(frame, np.float32)


def _list(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Where masks (T, S) of films are True, but in frame 0: (N, 3) film, frame, object."""
    found = [np.argwhere(mask[1:]) + np.array([1, 0]) for mask in masks]
    index = np.repeat(np.arange(len(masks)), [len(item) for item in found])
    return np.concatenate([index[:, None], np.concatenate(found)], axis=1)


def _followed(film: MotionFilm) -> np.ndarray:
    """Bool (T, S): slots that hold an object whose centre lies in the picture."""
    width, height = film.size
    x, y = film.centres[..., 0], film.centres[..., 1]
    return np.asarray((film.centres != 0).any(-1) & (x >= 0) & (y >= 0) & (x < width) & (y < height))


def cut_alpha(alpha: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The centre (2,) [px] and cut-out (PATCH, PATCH) uint8 of one object, as `slots.cut` makes them."""
    ys, xs = np.nonzero(mask)
    x, y = round(float(xs.mean())), round(float(ys.mean()))
    shift = np.array([[1, 0, PATCH // 2 - x], [0, 1, PATCH // 2 - y]], np.float32)
    patch = cv2.warpAffine(np.where(mask, alpha, np.uint8(0)), shift, (PATCH, PATCH), flags=cv2.INTER_NEAREST)
    return np.array([x, y], np.float32), patch


class MotionRecipe:
    """Feeds `train` with paths for the motion network; see `vap_sim.training.loop.Recipe`."""

    def __init__(
        self,
        network: CompactNetwork,
        films: Sequence[MotionFilm],
        shown: Sequence[MotionFilm],
        training: MotionTraining,
        device: str = "cpu",
    ) -> None:
        """`shown`: films whose objects are followed as previews (not trained on).

        Raises InvalidInput where there are none, or of another size than the network's pictures, or of too few frames.
        """
        longest = max(stage.length for stage in training.stages)
        check_films(films, network.config.size, longest)
        check_films(shown, network.config.size, 2)
        self.network = nn.ModuleDict({"motion": network.motion}).to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.source, self.shown, self.config = PathSource(films, training), shown, network.config
        self.training, self.device = training, device

    def describe(self) -> Mapping[str, Any]:
        return dict(plain({"part": "motion", **asdict(self.training), "network": asdict(self.config)}))

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        stage = self.training.stage(step)
        rng = np.random.default_rng([self.training.seed, step])
        batch = stage.batch * self.training.scale
        paths = self.source.draw(rng, batch, stage.length)
        jitter = torch.from_numpy(rng.normal(0, stage.jitter, (batch, 2)).astype(np.float32)).to(self.device)
        with fast_cast(self.device, self.training.precision):
            return motion_loss(self._net, _to(paths, self.device), self.training.weights, jitter=jitter)

    @property
    def _net(self) -> Any:
        return self.network["motion"]

    def preview(self, step: int) -> Mapping[str, Tensor]:
        """Four paths of up to 13 frames: skeletons, in green where the object went, in red where it was dreamt."""
        length = min(13, min(film.length for film in self.shown))
        rng = np.random.default_rng([self.training.seed, 99])
        still = MotionTraining(moving=0.98, near=0.01, turn=0.0, zoom=0.0, mirror=0.0)  # what moves, if anything does
        paths = _to(PathSource(self.shown, still).draw(rng, 4, length), self.device)
        with fast_cast(self.device, self.training.precision):
            misses = roll_out(self._net, paths, jitter=torch.zeros_like(paths.start))[2]
        size, upright = paths.skeletons.shape[-1], paths.start.new_tensor([[1.0, 0.0]]).expand(len(paths.start), 2)
        columns = []
        for step_before in range(0, length - 1, 3):
            # Misses are seen by the camera of the next frame.
            carried = paths.carried[:, step_before + 1, :2]
            true = paths.centres[:, step_before] + carried + paths.start - paths.centres[:, 0]
            picture = unit(paths.skeletons[:, step_before + 2]) * 0.6
            for channel, centre in ((0, true - misses[step_before]), (1, true)):
                shown = place(unit(paths.patches), centre, upright, size)[:, 0]
                picture[:, channel] = torch.maximum(picture[:, channel], shown)
            columns.append(torch.cat(list(picture), dim=1))
        return {"followed": (torch.cat(columns, dim=2) * 255).round().to(torch.uint8).cpu()}


def _to(paths: Paths, device: str) -> Paths:
    return Paths(**{name: value.to(device) for name, value in vars(paths).items()})
