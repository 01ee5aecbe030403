"""Does a clip move as another one does, wherever things are in it? Motion fidelity of point tracks.

Points are followed through both clips, and the directions of their steps are compared. FlexiAct's evaluation (arXiv
2505.03730, after space-time diffusion features) uses CoTracker for it; any tracker may be given here, and scores by
different trackers are not comparable. Without one, OpenCV's pyramidal Lucas-Kanade follows the points.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Protocol

import cv2
import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.masks import Scores, scores
from vap_sim.metrics.report import NetworkCard

STILL = 0.002
"""Steps shorter than this share of the picture's height have no direction."""
SEEN = 0.5
"""A track must be followed for this share of a clip to count."""


@dataclass(frozen=True, eq=False)
class Tracks:
    """N points over T frames. places: (N, T, 2) float64 [px], x first; followed: (N, T) bool, where a point is known.

    Raises InvalidInput.
    """

    places: Tensor
    followed: Tensor

    def __post_init__(self) -> None:
        places, followed = self.places, self.followed
        if places.ndim != 3 or places.shape[-1] != 2 or not places.is_floating_point():
            raise InvalidInput("places of tracks", f"{places.dtype} {tuple(places.shape)}", "floats (N, T, 2)")
        if followed.dtype != torch.bool or followed.shape != places.shape[:2]:
            given = f"{followed.dtype} {tuple(followed.shape)}"
            raise InvalidInput("followed of tracks", given, f"torch.bool {tuple(places.shape[:2])}")
        if not bool(torch.isfinite(places[followed]).all()):
            raise InvalidInput("places of tracks", "some that are not finite", "finite where they are followed")


class Tracker(Protocol):
    """Follows points of a clip's first frame."""

    @property
    def card(self) -> NetworkCard:
        """Which tracker this is."""
        ...

    def __call__(self, frames: Tensor, /) -> Tracks:
        """The tracks of a clip (T, H, W, 3) uint8."""
        ...


@dataclass(frozen=True)
class LucasKanade:
    """OpenCV's pyramidal Lucas-Kanade on a grid of points, each followed from frame to frame and back.

    grid: points along the longer side; window: side of the square that is compared [px]; levels: of the pyramid, each
    half as large; apart: how far the way back may miss where the point came from [px] before it counts as lost, for
    good. Raises InvalidInput.
    """

    grid: int = 32
    window: int = 15
    levels: int = 3
    apart: float = 1.0

    def __post_init__(self) -> None:
        if self.grid < 2 or self.window < 3 or self.levels < 0 or not self.apart > 0:
            expected = "2 points or more, 3 px or more, 0 levels or more, a distance above 0"
            raise InvalidInput("settings of Lucas-Kanade", tuple(asdict(self).values()), expected)

    @property
    def card(self) -> NetworkCard:
        """Its settings stand for weights."""
        told = json.dumps({"opencv": cv2.__version__, **asdict(self)}, sort_keys=True)
        digest = hashlib.sha256(told.encode()).hexdigest()
        return NetworkCard(f"pyramidal Lucas-Kanade, OpenCV {cv2.__version__}, {self}", digest, "grey, no resizing")

    def __call__(self, frames: Tensor, /) -> Tracks:
        """See `Tracker`. Raises InvalidInput for another type or shape, or less than two frames."""
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or len(frames) < 2:
            given = f"{frames.dtype} {tuple(frames.shape)}"
            raise InvalidInput("clip to track", given, "torch.uint8 (T, H, W, 3), two frames or more")
        grey = [cv2.cvtColor(np.ascontiguousarray(frame), cv2.COLOR_RGB2GRAY) for frame in frames.cpu().numpy()]
        places, followed = [self._grid(*grey[0].shape)], [np.ones(0, bool)]
        followed[0] = np.ones(len(places[0]), bool)
        for before, after in zip(grey[:-1], grey[1:], strict=True):
            there, found = self._step(before, after, places[-1])
            back, returned = self._step(after, before, there)
            near = np.linalg.norm(back - places[-1], axis=1) <= self.apart
            followed.append(followed[-1] & found & returned & near)
            places.append(there)
        where = torch.from_numpy(np.stack(places, axis=1).astype(np.float64))
        return Tracks(where, torch.from_numpy(np.stack(followed, axis=1)))

    def _step(self, before: np.ndarray, after: np.ndarray, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        there, found, _ = cv2.calcOpticalFlowPyrLK(
            before, after, places[:, None], None, winSize=(self.window, self.window), maxLevel=self.levels
        )  # type: ignore[call-overload, unused-ignore]
        return there[:, 0], found[:, 0] == 1

    def _grid(self, height: int, width: int) -> np.ndarray:
        """Centres of equal cells, (N, 2) float32."""
        cell = max(height, width) / self.grid
        rows, columns = (max(1, round(side / cell)) for side in (height, width))
        y, x = np.meshgrid(
            (np.arange(rows) + 0.5) * height / rows - 0.5, (np.arange(columns) + 0.5) * width / columns - 0.5,
            indexing="ij",
        )  # fmt: skip
        return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)


def motion_fidelity(*, generated: Tensor, reference: Tensor, tracker: Tracker | None = None) -> Scores:
    """How well the points of a clip move like some point of the reference -> scores (b) in -1 .. 1.

    generated: uint8 (b, T, H, W, 3); reference: (b, T, H', W', 3), as many frames, of the same rows, of any size;
    tracker: `LucasKanade()` if none is given. See `track_likeness` for the definition. Undefined where nothing in the
    reference moves. Raises InvalidInput for other types or shapes.
    """
    for name, clip in (("generated", generated), ("reference", reference)):
        if clip.dtype != torch.uint8 or clip.ndim != 5 or clip.shape[-1] != 3 or clip.shape[1] < 2:
            expected = "torch.uint8 (b, T, H, W, 3), two frames or more"
            raise InvalidInput(name, f"{clip.dtype} {tuple(clip.shape)}", expected)
    if generated.shape[:2] != reference.shape[:2]:
        expected = f"{tuple(reference.shape[:2])}, as of the reference"
        raise InvalidInput("rows and frames of generated", tuple(generated.shape[:2]), expected)
    follow: Tracker = LucasKanade() if tracker is None else tracker
    found = []
    for ours, theirs in zip(generated, reference, strict=True):
        heights = (ours.shape[1], theirs.shape[1])
        found.append(track_likeness(follow(ours), follow(theirs), heights))
    values = torch.tensor([0.0 if value is None else value for value in found], dtype=torch.float64)
    return scores("motion_fidelity", values, torch.tensor([value is not None for value in found], dtype=torch.bool))


def track_likeness(generated: Tracks, reference: Tracks, heights: tuple[int, int]) -> float | None:
    """For each moving track its likeness to the most similar track of the reference; the mean of these.

    Two tracks are as alike as their steps point the same way: the mean cosine over the steps in which either moves,
    where a step of one beside a rest of the other counts 0. heights: of both pictures [px]; shorter steps than `STILL`
    of it are rests. Tracks that are lost for long, see `SEEN`, are left out. None where nothing in the reference moves,
    or could be followed; 0 where that is so of the generated clip alone.

    FlexiAct's evaluation takes the mean over all steps, rests being 0, and first subtracts 1 from the likeness of the
    tracks of one number, which no definition explains; both are left out here, so that a clip is as like itself as can
    be. Raises InvalidInput for tracks of different length.
    """
    if generated.places.shape[1] != reference.places.shape[1]:
        given = (generated.places.shape[1], reference.places.shape[1])
        raise InvalidInput("frames of tracks to compare", given, "two equal numbers")
    (ours, our_way, our_rest), (theirs, their_way, their_rest) = (
        _directions(tracks, STILL * height) for tracks, height in zip((generated, reference), heights, strict=True)
    )
    if not len(their_way):
        return None
    if not len(our_way):
        return 0.0
    cosines = our_way.flatten(1) @ their_way.flatten(1).T
    moves = ours @ theirs.T - our_rest @ their_rest.T
    alike = torch.where(moves > 0.5, cosines / moves.clamp_min(1), -1.0)
    return float(alike.amax(1).mean().clamp(-1, 1))


def _directions(tracks: Tracks, least: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of the tracks that are followed and move: which steps are known (N, T - 1), their directions (N, T - 1, 2) of
    length 1, or 0 at rest, and which known steps are rests (N, T - 1); all float64, unknown steps 0."""
    known = tracks.followed[:, 1:] & tracks.followed[:, :-1]
    steps = torch.where(known[..., None], tracks.places.double().diff(dim=1), 0.0)
    lengths = steps.norm(dim=-1)
    moving = known & (lengths >= least)
    chosen = (known.double().mean(1) >= SEEN) & moving.any(1)
    ways = torch.where(moving[..., None], steps / lengths.clamp_min(1e-12)[..., None], 0.0)
    return known[chosen].double(), ways[chosen], (known & ~moving)[chosen].double()
