"""The recipe of the contact network: things carried on in space, step by step, as they really went.

Things are moved by the network itself from frame to frame and pulled towards the truth, so that it meets its own
errors; no gradient flows from one step into another. Nothing is drawn, so that a step takes a hundredth of the time of
one of the network that looks at pictures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor, nn
from torch.nn import functional as F

from vap_sim.errors import InvalidInput
from vap_sim.models.compact.contact import Answer, Bones, ContactNet, Things
from vap_sim.models.compact.network import CompactNetwork
from vap_sim.training.contact_films import ContactFilm
from vap_sim.training.loop import plain

Floats = NDArray[np.float32]
Index = NDArray[np.intp]
_STACKED = (
    "bones",
    "carry",
    "places",
    "turns",
    "guesses",
    "sizes",
    "away",
    "shown",
    "moving",
    "near",
)
_LOST = 0.05  # [m]
_PULL, _LARGEST_PULL = 0.3, 0.008  # share, and most [m], of a misplacement to mend in one step
_STEP = 0.01  # [m] in which losses are counted
_SHOWN, _PIXEL = 128, 0.004  # size of previews [px], and of their pixels [m]


@dataclass(frozen=True)
class ContactTraining:
    """Settings of the recipe.

    batch things are followed for `length` frames, `jitter` [m] off where they are taken to be; from step `grow` on, for
    `late` frames. moving, near: shares of those that move, or rest while the robot is close. resized: by how
    much sizes are misjudged (log). unknown: share whose last displacement is not told."""

    seed: int = 0
    batch: int = 192
    length: int = 4
    late: int = 8
    grow: int = 16500
    jitter: float = 0.004
    moving: float = 0.5
    near: float = 0.4
    resized: float = 0.1
    unknown: float = 0.1


@dataclass(frozen=True)
class Touched:
    """A batch of b things followed for T frames among B bones and O others, in the base frame [m].

    bones (b, T + 1, B, 2, 3), one older frame first; thick, kind (b, B); others (b, T + 1, O, 3), all things of the
    film, with kinds (b, O) and radii (b, O); place (b, T, 3), where it is taken to be if nothing errs; shift, turn (b,
    T, 3), how it went into each frame; stride (b, 3), how it went into the first; size (b, 2), away (b, 3); moves (b,
    T); carry (b, T, 4, 4), how the tool went into each frame."""

    bones: Tensor
    thick: Tensor
    kind: Tensor
    others: Tensor
    other_kind: Tensor
    other_thick: Tensor
    place: Tensor
    shift: Tensor
    turn: Tensor
    stride: Tensor
    size: Tensor
    away: Tensor
    moves: Tensor
    carry: Tensor

    def to(self, device: str) -> Touched:
        """The same on a device."""
        return Touched(**{name: value.to(device) for name, value in vars(self).items()})


class ContactSource:
    """Draws things from films: which ones follows from the generator alone."""

    def __init__(self, films: Sequence[ContactFilm], training: ContactTraining) -> None:
        """Raises InvalidInput where no film shows a thing."""
        if not films:
            raise InvalidInput("films for training", "none", "at least one")
        self.training = training
        self._of = {name: _stacked([getattr(film, name) for film in films]) for name in _STACKED}
        self.lengths = np.array([film.length for film in films])
        self._bones = np.array([film.bones.shape[1] for film in films])
        shown = self._of["shown"].any(1, keepdims=True)
        there = (np.arange(self.lengths.max()) < self.lengths[:, None])[..., None] & shown
        masks = (self._of["moving"] & there, self._of["near"] & ~self._of["moving"] & there, there)
        shares = (training.moving, training.near, max(0.0, 1 - training.moving - training.near))
        events = [(np.argwhere(mask[:, 1:]), share) for mask, share in zip(masks, shares, strict=True)]
        self._events = [found for found, _ in events if len(found)]
        chances = np.array([share for found, share in events if len(found)])
        if not len(chances) or chances.sum() <= 0:
            raise InvalidInput("films for training", "no object in any of them", "at least one")
        self._chances = chances / chances.sum()

    def draw(self, rng: np.random.Generator, count: int, length: int) -> Touched:
        """A batch of `count` things followed for `length` frames, in a mirror and turned, by chance."""
        which = rng.choice(len(self._events), size=count, p=self._chances)
        sizes = np.array([len(found) for found in self._events])[which]
        places = (rng.uniform(size=count) * sizes).astype(np.int64)
        film, frame, thing = np.stack([self._events[kind][at] for kind, at in zip(which, places, strict=True)], axis=1)
        frame = frame + 1  # no thing has moved into the first one
        low = np.maximum(0, frame - length + 1)
        high = np.maximum(low, np.minimum(frame - 1, self.lengths[film] - length))
        start = low + (rng.uniform(size=count) * (high - low + 1)).astype(np.int64)
        seen = self._of["shown"][film, :, thing]
        camera = np.where(seen, rng.uniform(size=seen.shape), -1.0).argmax(1)
        batch = self.followed(film, thing, camera, start, length)
        unknown = torch.from_numpy(rng.uniform(size=(count, 1)) < self.training.unknown)
        resized = torch.from_numpy(np.exp(rng.normal(0, self.training.resized, (count, 1))).astype(np.float32))
        stride = torch.where(unknown, 0.0, batch.stride)
        return _turned(replace(batch, stride=stride, size=batch.size * resized), rng)

    def followed(self, film: Index, thing: Index, camera: Index, start: Index, length: int) -> Touched:
        """Things (b,) of films followed from frames `start` on, as cameras misjudge them."""
        rows, of = film[:, None], self._of
        now = np.minimum(start[:, None] + np.arange(length), self.lengths[rows] - 1)
        history = np.concatenate([np.maximum(start[:, None] - 1, 0), now], axis=1)
        over = start[:, None] + np.arange(length) >= self.lengths[rows]
        guess, shown = of["guesses"][film, camera], of["shown"][film, camera].copy()
        own = np.arange(len(film)), thing
        shown[own] = False
        every = of["places"][rows, history] + guess[:, None]
        place = every[own[0], :, thing]
        shift = np.diff(place, axis=1)
        bones = of["bones"][rows, history]
        columns = (
            bones[..., :6].reshape(*bones.shape[:3], 2, 3),
            bones[:, 0, :, 6],
            np.where(np.arange(bones.shape[2]) < self._bones[rows], bones[:, 0, :, 7], -1).astype(np.int64),
            every,
            np.where(shown, 2, -1),
            of["sizes"][film, camera].mean(2) / 2,
            place[:, 1:],
            shift,
            np.where(over[..., None], 0, of["turns"][rows, now, thing[:, None]]),
            shift[:, 0],
            of["sizes"][film, camera, thing],
            of["away"][film, camera, thing],
            of["moving"][rows, now, thing[:, None]] & ~over,
            np.where(over[..., None, None], np.eye(4, dtype=np.float32), of["carry"][rows, now]),
        )
        return Touched(*(torch.from_numpy(np.ascontiguousarray(column)) for column in columns))


def _stacked(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Arrays of several films as one, (N, ...), zero where one is smaller than the largest."""
    widest = np.array([array.shape for array in arrays]).max(0)
    out = np.zeros((len(arrays), *widest), arrays[0].dtype)
    for row, array in enumerate(arrays):
        part: tuple[int | slice, ...] = (row, *(slice(0, size) for size in array.shape))
        out[part] = array
    return out


def _turned(batch: Touched, rng: np.random.Generator) -> Touched:
    """The batch with every row turned about the vertical, half of them mirrored."""
    count = len(batch.place)
    angle = torch.from_numpy(rng.uniform(0, 2 * np.pi, count).astype(np.float32))
    hand = torch.from_numpy(np.where(rng.uniform(size=count) < 0.5, -1.0, 1.0).astype(np.float32))
    world = torch.zeros(count, 4, 4)
    world[:, 0, 0], world[:, 0, 1] = angle.cos(), -angle.sin() * hand
    world[:, 1, 0], world[:, 1, 1] = angle.sin(), angle.cos() * hand
    world[:, 2, 2] = world[:, 3, 3] = 1
    across = world[:, :3, :3].mT

    def of(values: Tensor) -> Tensor:
        return (values.flatten(1, -2) @ across).reshape(values.shape)

    shown = {name: of(getattr(batch, name)) for name in ("bones", "others", "place", "shift", "turn")}
    single = {name: of(getattr(batch, name)[:, None])[:, 0] for name in ("stride", "away")}
    shown["turn"] = shown["turn"] * hand[:, None, None]
    wide = world[:, None]
    return replace(batch, **shown, **single, carry=wide @ batch.carry @ wide.mT)


def contact_loss(network: ContactNet, batch: Touched, jitter: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The loss of a batch whose things start `jitter` (b, 3) [m] off, and its terms (detached)."""
    answers, misses = roll_out(network, batch, jitter)
    shift = torch.stack([one.shift for one in answers], 1)
    turn, logit = (torch.stack([getattr(one, name) for one in answers], 1) for name in ("turn", "logit"))
    missed, moving = torch.stack(misses, 1), batch.moves[:, 1:].float()
    known = (missed.norm(dim=2) < _LOST).float()
    pulled = batch.shift[:, 1:] + (_PULL * missed).clamp(-_LARGEST_PULL, _LARGEST_PULL)
    goal = pulled * moving[..., None]
    count, active = known.sum() + 1, (known * moving).sum() + 1
    terms = {
        "moving": (F.binary_cross_entropy_with_logits(logit, moving, reduction="none") * known).sum() / count,
        "shift": ((shift - goal).abs().sum(-1) / _STEP * known).sum() / count,
        "turn": ((turn - batch.turn[:, 1:]).abs().sum(-1) * known * moving).sum() / active,
    }
    return terms["moving"] + terms["shift"] + terms["turn"], {name: value.detach() for name, value in terms.items()}


def roll_out(network: ContactNet, batch: Touched, jitter: Tensor) -> tuple[list[Answer], list[Tensor]]:
    """Each step as foreseen, and by how much the thing lay wrong before it (b, 3) [m]."""
    place, stride = batch.place[:, 0] + jitter, batch.stride
    answers, misses = [], []
    for step in range(1, batch.place.shape[1]):
        things, bones = told(batch, step, place, stride)
        answer = network(things, bones)
        answers.append(answer)
        misses.append(batch.place[:, step - 1] - place)
        stride = torch.where(answer.logit[:, None] > 0, answer.shift, 0.0).detach()
        place = place + stride
    return answers, misses


def told(batch: Touched, step: int, place: Tensor, stride: Tensor) -> tuple[Things, Bones]:
    """What the network is told of step `step` of things that are at `place` and went by `stride` before."""
    carry = batch.carry[:, step]
    taken = (carry[:, :3, :3] * place[:, None]).sum(2) + carry[:, :3, 3] - place
    things = Things(place, stride, batch.size, batch.away, taken, rotation_vectors(carry[:, :3, :3]))
    # In `bones` and `others` an older frame comes first: frame `step` is at `step + 1`.
    older, last = batch.others[:, step - 1], batch.others[:, step]
    before = torch.cat([batch.bones[:, step], last[:, :, None].expand(-1, -1, 2, -1)], 1)
    now = torch.cat([batch.bones[:, step + 1], (2 * last - older)[:, :, None].expand(-1, -1, 2, -1)], 1)
    thick = torch.cat([batch.thick, batch.other_thick], 1)
    return things, Bones(before, now, thick, torch.cat([batch.kind, batch.other_kind], 1))


def rotation_vectors(matrices: Tensor) -> Tensor:
    """(n, 3) [rad] of rotations (n, 3, 3)."""
    turned = Rotation.from_matrix(matrices.detach().cpu().double().numpy()).as_rotvec()
    return torch.from_numpy(turned.astype(np.float32)).to(matrices.device)


class ContactRecipe:
    """Feeds `train` with things for the contact network; see `vap_sim.training.loop.Recipe`."""

    def __init__(
        self,
        network: CompactNetwork,
        films: Sequence[ContactFilm],
        shown: Sequence[ContactFilm],
        training: ContactTraining,
        device: str = "cpu",
    ) -> None:
        """`shown`: films whose things are followed as previews (not trained on).

        Raises InvalidInput where there are none, where all frames of one are too few, or for a network without what
        is trained."""
        if network.contact is None:
            raise InvalidInput("network for the contact recipe", "one without a contact network", "one that has one")
        self._net = network.contact
        self.network = nn.ModuleDict({"contact": network.contact}).to(device)
        self.source, self.shown = (
            ContactSource(films, training),
            ContactSource(shown, replace(training, moving=0.98, near=0.01)),
        )
        self.training, self.device, self.config = training, device, network.config

    def describe(self) -> Mapping[str, Any]:
        return dict(plain({"part": "contact", **asdict(self.training), "network": asdict(self.config)}))

    def loss(self, step: int) -> tuple[Tensor, Mapping[str, Tensor]]:
        training = self.training
        rng = np.random.default_rng([training.seed, step])
        length = training.length if step < training.grow else training.late
        batch = self.source.draw(rng, training.batch, length).to(self.device)
        jitter = torch.from_numpy(rng.normal(0, training.jitter, (training.batch, 3)).astype(np.float32))
        return contact_loss(self._net, batch, jitter.to(self.device))

    def preview(self, step: int) -> Mapping[str, Tensor]:
        """Four things of up to 13 frames, from above: bones grey, in green where the thing went, in red where it was
        dreamt."""
        length = min(13, int(self.shown.lengths.min()))
        batch = self.shown.draw(np.random.default_rng([self.training.seed, 99]), 4, length).to(self.device)
        _, misses = roll_out(self._net, batch, torch.zeros_like(batch.stride))
        pictures = []
        for row in range(4):
            picture = np.zeros((_SHOWN, _SHOWN, 3), np.uint8)
            true = batch.place[row, :-1]
            dreamt = true - torch.stack([miss[row] for miss in misses])
            for bone, kind in zip(batch.bones[row, -1], batch.kind[row], strict=True):
                if kind >= 0:
                    cv2.polylines(picture, [_above(bone, true)], False, (120, 120, 120))
            cv2.polylines(picture, [_above(true, true)], False, (0, 255, 0))
            cv2.polylines(picture, [_above(dreamt, true)], False, (255, 0, 0))
            pictures.append(torch.from_numpy(picture).permute(2, 0, 1))
        return {"followed": torch.cat(pictures, dim=2)}


def _above(points: Tensor, path: Tensor) -> NDArray[np.int32]:
    """Points (n, 3) [m] as pixels (n, 1, 2) of a picture of what lies around a path (m, 3), seen from above."""
    beside = (points - path.mean(0))[:, :2].cpu().numpy() / _PIXEL + _SHOWN / 2
    return np.asarray(np.clip(np.round(beside), -_SHOWN, 2 * _SHOWN), np.int32)[:, None]
