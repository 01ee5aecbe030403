"""The recipe that teaches the compact model one station or body, from real clips, recordings of the twin, or both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from vap_sim.errors import InvalidInput
from vap_sim.metrics.detector import OTHER, ROBOT, Detector
from vap_sim.models.compact import layers
from vap_sim.models.compact.losses import PictureWeights, picture_loss, unit
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.models.compact.packed import fast_cast
from vap_sim.training.adapt_films import StationFilm
from vap_sim.training.adapt_lora import add_low_rank
from vap_sim.training.adapt_losses import StationPictures, StationWeights, station_loss
from vap_sim.training.detector import Stills
from vap_sim.training.films import PictureFilm, check_films
from vap_sim.training.loop import plain
from vap_sim.training.pictures import draw_pictures, to_device

ShownFilm = StationFilm | PictureFilm
"""What has frames, skeletons, and the robot's share of each pixel."""


@dataclass(frozen=True)
class AdaptTraining:
    """Settings of the recipe: `scenes` recordings a step, of each one frame read and `painted` others painted.

    twin_scenes: recordings of the twin a step, where there are any, and twin_share: how much their loss weighs beside
    the station's; without clips of a station there are `scenes` of them, and nothing else. light: spread by which a
    clip's brightness is varied, as a share. rank: of the updates that are trained instead of the whole networks, 0 for
    the whole. start: fingerprint of the weights that training began with, and clips: what is learned from, both for the
    record.
    """

    seed: int = 0
    scenes: int = 2
    painted: int = 3
    twin_scenes: int = 1
    twin_share: float = 0.3
    light: float = 0.04
    rank: int = 0
    weights: StationWeights = StationWeights()
    twin_weights: PictureWeights = PictureWeights()
    precision: str = "bf16"
    start: str = ""
    clips: tuple[str, ...] = ()


class AdaptRecipe:
    """Feeds `train` with a station's pictures, and the twin's; see `vap_sim.training.loop.Recipe`.

    What moves objects is not trained: a recording does not say which of its pixels are one object.
    """

    def __init__(
        self,
        network: CompactNetwork,
        films: Sequence[StationFilm],
        shown: Sequence[ShownFilm],
        twin: Sequence[PictureFilm],
        training: AdaptTraining,
        device: str = "cpu",
    ) -> None:
        """`shown`: films that are dreamt as previews, not trained on. `films` or `twin` may be empty, not both.

        Raises InvalidInput where there are no films, or of another size than the network's, or of too few frames.
        """
        if films or not twin:
            check_films(films, network.config.size, 1 + training.painted)
        check_films(shown, network.config.size, 2)
        if twin:
            check_films(twin, network.config.size, 1 + training.painted)
        self.whole = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        pictures = nn.ModuleDict({"scene": network.scene, "robot": network.robot})
        self.network: nn.Module = add_low_rank(pictures, training.rank, training.seed) if training.rank else pictures
        self.films, self.shown, self.twin, self.training, self.device = films, shown, twin, training, device

    def describe(self) -> Mapping[str, Any]:
        config = asdict(self.whole.config)
        return dict(plain({"part": "adapt", **asdict(self.training), "network": config, "twin": len(self.twin)}))

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        rng, told = np.random.default_rng([self.training.seed, step]), self.training
        with self._precision(), parametrize.cached():
            if not self.films:
                return self._twin_loss(rng, told.scenes)
            station = draw_station(self.films, rng, told.scenes, told.painted, told.light)
            total, terms = station_loss(self.whole, _elsewhere(station, self.device), told.weights)
            if self.twin and told.twin_scenes:
                known, twin_terms = self._twin_loss(rng, told.twin_scenes)
                total = total + told.twin_share * known
                terms = terms | {f"twin/{name}": value for name, value in twin_terms.items()}
        return total, terms

    def _twin_loss(self, rng: np.random.Generator, scenes: int) -> tuple[Tensor, dict[str, Tensor]]:
        pictures = to_device(draw_pictures(self.twin, rng, scenes, self.training.painted), self.device)
        return picture_loss(self.whole, pictures, self.training.twin_weights)

    def preview(self, step: int) -> Mapping[str, Tensor]:
        """Of up to four films five frames over what a dream from the first shows: (3, 2 H n, 5 W)."""
        sheets = []
        for film in self.shown[:4]:
            picks = np.linspace(0, film.length - 1, 5).round().astype(int).tolist()
            true = torch.from_numpy(film.frames[picks]).to(self.device).permute(0, 3, 1, 2)
            with self._precision(), parametrize.cached():
                dreamt = dream_stills(self.whole, film, picks, self.device)
            pair = torch.stack([unit(true), dreamt]).permute(2, 0, 3, 1, 4)  # 3, kind, H, frame, W
            sheets.append(pair.reshape(3, 2 * true.shape[2], -1))
        return {"dreamt": (torch.cat(sheets, dim=1) * 255).round().to(torch.uint8).cpu()}

    def _precision(self) -> torch.autocast:
        return fast_cast(self.device, self.training.precision)


def dream_stills(network: CompactNetwork, film: ShownFilm, picks: Sequence[int], device: str = "cpu") -> Tensor:
    """Frames (n, 3, H, W) in [0, 1] as a dream from the film's first frame shows them if no object moves."""
    first = torch.from_numpy(film.frames[:1]).to(device).permute(0, 3, 1, 2)
    drawn = torch.from_numpy(film.skeletons[[0, *picks]]).to(device).permute(0, 3, 1, 2)
    skeletons = layers.skeleton_blocks(unit(drawn))
    reading, count = layers.read(network, unit(first), skeletons[:1]), len(picks)
    plate, objects = reading.plate.expand(count, -1, -1, -1), reading.objects.expand(count, -1, -1, -1)
    return layers.paint(network, skeletons[1:], objects, reading.style.expand(count, -1), plate).frame.clamp(0, 1)


def draw_station(
    films: Sequence[StationFilm], rng: np.random.Generator, scenes: int, painted: int, light: float
) -> StationPictures:
    """A batch: of each recording 1 + `painted` different frames in one light."""
    rows = []
    for _ in range(scenes):
        film = films[int(rng.integers(len(films)))]
        picks = rng.choice(film.length, 1 + painted, replace=False).tolist()
        gain = np.exp(rng.normal(0, light) + rng.normal(0, light / 2, 3))
        plates, known = film.plates(picks)
        rows.append(
            (
                _first(_lit(film.frames[picks], gain)),
                _first(film.skeletons[picks]),
                _first(_lit(plates, gain)),
                film.robot[picks][:, None],
                film.sure[picks][:, None],
                known[:, None] * np.uint8(255),
            )
        )
    return StationPictures(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))


def station_stills(films: Sequence[ShownFilm], every: int) -> Stills:
    """Every so many frames of all films, and where the robot is in them, for a detector to learn from.

    Pixels of which the recording does not say are told by the robot's geometry and the picture, as for the dream.
    """
    frames = np.concatenate([film.frames[::every] for film in films])
    robot = np.concatenate([film.robot[::every] for film in films]) >= 128
    return Stills(frames, np.where(robot, np.uint8(ROBOT), np.uint8(OTHER)))


def station_overlap(detector: Detector, films: Sequence[ShownFilm], every: int = 3) -> float:
    """How well a detector finds the robot in recordings: pixels in both masks over pixels in either, of all frames.

    Raises InvalidInput where there is no robot in any frame, neither found nor told."""
    stills = station_stills(films, every)
    found = detector.labels(torch.from_numpy(stills.frames)).numpy() == ROBOT
    true = stills.labels == ROBOT
    either = int((found | true).sum())
    if not either:
        raise InvalidInput("films to judge a detector by", "no robot in any frame", "a robot in some")
    return int((found & true).sum()) / either


def _lit(pictures: NDArray[np.uint8], gain: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.asarray((pictures * gain).round().clip(0, 255), np.uint8)


def _first(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(..., H, W, C) -> (..., C, H, W), contiguous."""
    return np.ascontiguousarray(np.moveaxis(image, -1, -3))


def _elsewhere(pictures: StationPictures, device: str) -> StationPictures:
    return StationPictures(**{name: value.to(device) for name, value in vars(pictures).items()})
