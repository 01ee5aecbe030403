"""The recipe of the compact model's picture networks: scenes read from one frame, and painted in others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vap_sim.models.compact import layers
from vap_sim.models.compact.losses import Pictures, PictureWeights, picture_loss, unit
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.models.compact.packed import fast_cast
from vap_sim.training.films import PictureFilm, check_films
from vap_sim.training.loop import plain


@dataclass(frozen=True)
class PictureTraining:
    """Settings of the recipe: `scenes` a step, of each one frame read and `painted` others painted.

    `recolored`: the share of scenes whose colors are permuted, so that colors are read and not remembered; `reading`:
    whether the scene network is trained too; `scale` multiplies the scenes, for devices that take more at once than a
    CPU."""

    seed: int = 0
    profile: str = "compact"
    scenes: int = 4
    painted: int = 4
    recolored: float = 0.5
    reading: bool = True
    scale: int = 1
    weights: PictureWeights = PictureWeights()
    precision: str = "bf16"


class PictureRecipe:
    """Feeds `train` with pictures for the scene and the robot network; see `vap_sim.training.loop.Recipe`."""

    def __init__(
        self,
        network: CompactNetwork,
        films: Sequence[PictureFilm],
        shown: Sequence[PictureFilm],
        training: PictureTraining,
        device: str = "cpu",
    ) -> None:
        """`shown`: films whose frames are painted as previews (not trained on).

        Raises InvalidInput where there are none, or of another size than the network's pictures, or of too few frames.
        """
        check_films(films, network.config.size, 1 + training.painted)
        check_films(shown, network.config.size, 2)
        self._whole = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        network.scene.requires_grad_(training.reading)
        read = {"scene": network.scene} if training.reading else {}
        self.network = nn.ModuleDict({**read, "robot": network.robot})
        self.films, self.shown, self.training, self.device = films, shown, training, device

    def describe(self) -> Mapping[str, Any]:
        return dict(plain({"part": "pictures", **asdict(self.training), "network": asdict(self._whole.config)}))

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        rng = np.random.default_rng([self.training.seed, step])
        scenes = self.training.scenes * self.training.scale
        pictures = draw_pictures(self.films, rng, scenes, self.training.painted, self.training.recolored)
        with fast_cast(self.device, self.training.precision):
            return picture_loss(self._whole, to_device(pictures, self.device), self.training.weights)

    def preview(self, step: int) -> Mapping[str, Tensor]:
        """Four frames of four scenes over the same painted from true objects and what frame 0 was read as."""
        columns = []
        for film in self.shown[:4]:
            picks = [0, *np.linspace(1, len(film.frames) - 1, 4).round().astype(int).tolist()]
            pictures = to_device(_stack([_row(film, picks, np.arange(3))]), self.device)
            with fast_cast(self.device, self.training.precision):
                columns.append(_paint_all(self._whole, pictures))
        return {"painted": torch.cat(columns, dim=1)}


def draw_pictures(
    films: Sequence[PictureFilm], rng: np.random.Generator, scenes: int, painted: int, recolored: float = 0.5
) -> Pictures:
    """A batch: of each scene 1 + `painted` different frames, the colors of a share of scenes permuted."""
    rows = []
    for _ in range(scenes):
        film = films[int(rng.integers(len(films)))]
        picks = rng.choice(len(film.frames), 1 + painted, replace=False).tolist()
        colors = rng.permutation(3) if rng.uniform() < recolored else np.arange(3)
        rows.append(_row(film, picks, colors))
    return _stack(rows)


def _row(film: PictureFilm, picks: list[int], colors: np.ndarray) -> tuple[np.ndarray, ...]:
    shape = (len(picks), *film.frames.shape[1:])
    return (
        _first(film.frames[picks][..., colors]),
        _first(film.skeletons[picks]),
        _first(film.objects[picks][..., np.append(colors, 3)]),
        _first(np.broadcast_to(film.plate[picks] if film.plate.ndim == 4 else film.plate, shape)[..., colors]),
        film.robot[picks][:, None],
        film.seen[picks][:, None],
    )


def _stack(rows: Sequence[tuple[np.ndarray, ...]]) -> Pictures:
    return Pictures(*(torch.from_numpy(np.stack(column)) for column in zip(*rows, strict=True)))


def _first(image: np.ndarray) -> np.ndarray:
    """(..., H, W, C) -> (..., C, H, W), contiguous."""
    return np.ascontiguousarray(np.moveaxis(image, -1, -3))


def to_device(pictures: Pictures, device: str) -> Pictures:
    """The same batch elsewhere."""
    return Pictures(**{name: value.to(device) for name, value in vars(pictures).items()})


def _paint_all(network: CompactNetwork, pictures: Pictures) -> Tensor:
    """(3, 2 H, 4 W) uint8 of the first scene: true frames, and these painted from what frame 0 was read as."""
    skeletons = layers.skeleton_blocks(unit(pictures.skeletons[0]))
    reading = layers.read(network, unit(pictures.frames[:, 0]), skeletons[:1])
    count = len(skeletons) - 1
    style, plate = reading.style.expand(count, -1), reading.plate.expand(count, -1, -1, -1)
    if not torch.equal(pictures.plate[0, 1:], pictures.plate[0, :1].expand_as(pictures.plate[0, 1:])):
        plate = unit(pictures.plate[0, 1:])  # a camera that moves: where to is not for these networks to say
    painted = layers.paint(network, skeletons[1:], unit(pictures.objects[0, 1:]), style, plate).frame
    pair = torch.stack([unit(pictures.frames[0, 1:]), painted.clamp(0, 1)])  # kind, frame, 3, H, W
    sheet = pair.permute(2, 0, 3, 1, 4).reshape(3, 2 * pair.shape[-2], count * pair.shape[-1])
    return (sheet * 255).round().to(torch.uint8).cpu()
