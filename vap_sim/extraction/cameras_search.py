"""Finding the neighbourhood of a camera: candidates by the thousand, judged by which pixels changed between frames.

Where the robot's silhouette covers a pixel in one frame of a pair and not in the other, the pixel should change; where
it covers neither, it should not; where it covers both, either may happen. How much these three kinds tell of how
strongly pixels changed is a likelihood that needs neither a threshold nor a picture of the empty scene.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.extraction.cameras_prior import SIZE, CameraPrior, angles, projections
from vap_sim.extraction.motion_masks import LEVELS
from vap_sim.extraction.silhouettes import Cloud, splat_masks

Array = NDArray[np.float64]
_KINDS, _STRENGTHS = 3, len(LEVELS) + 1
_AT_ONCE = 128
_PSEUDO = 5.0  # pixels of each kind and strength that are counted without having been seen


SPREAD = np.array([0.15, 0.15, 0.12, 0.15, 0.12, 0.06, 0.2, 0.03])
"""How far apart camera vectors (8,) are whose silhouettes differ well."""


@dataclass(frozen=True)
class SearchEffort:
    """How much is tried: candidates from the prior, judged by `screen_pairs` pairs of frames, the best tenth by
    `coarse_pairs`; `climbs` of them are climbed from, and the best `kept` again by `fine_pairs` in larger pictures."""

    candidates: int = 12000
    screen_pairs: int = 6
    coarse_pairs: int = 20
    fine_pairs: int = 32
    climbs: int = 20
    coarse_generations: int = 14
    kept: int = 8
    fine_generations: int = 6

    def __post_init__(self) -> None:
        numbers = asdict(self)
        if min(numbers.values()) < 1:
            raise InvalidInput("effort of a search", numbers, "at least one of each")


@dataclass(frozen=True, eq=False)
class Judge:
    """Tells how well a camera explains the changes between pairs of frames.

    size: (width, height) of the clips; levels (P, h, w) uint8: changes, at any smaller size; cloud: of the pairs, two
    poses each; middle (3,): of the robot's motion [m].
    """

    size: tuple[int, int]
    levels: NDArray[np.uint8]
    cloud: Cloud
    prior: CameraPrior
    middle: Array

    def scores(self, vectors: Array) -> Array:
        """What the silhouettes of cameras (n, 8) tell of the changes [bits a pixel], less their cost by the prior."""
        parts = np.array_split(vectors, -(-len(vectors) // _AT_ONCE))
        told = np.concatenate([information(self.tables(part).sum(1)) for part in parts])
        return np.asarray(told - 1e-3 * self.prior.cost(vectors, self.middle))

    def tables(self, vectors: Array) -> Array:
        """Counts (n, P, 3, 4) of pixels by kind and strength of change in every pair, for cameras (n, 8)."""
        small = self.levels.shape[2], self.levels.shape[1]
        masks = splat_masks(self.cloud, projections(vectors, self.size, small), small)
        # 0 where it covers neither, 1 where one of both, 2 where both.
        cell = (masks[:, ::2] + masks[:, 1::2]) * np.uint8(_STRENGTHS) + self.levels
        each = cell.reshape(len(vectors) * len(self.levels), -1).astype(np.int32)
        each += np.arange(len(each), dtype=np.int32)[:, None] * (_KINDS * _STRENGTHS)
        counts = np.bincount(each.ravel(), minlength=len(each) * _KINDS * _STRENGTHS)
        return counts.reshape(len(vectors), -1, _KINDS, _STRENGTHS).astype(float)

    def at(self, pairs: NDArray[np.intp] | slice) -> Judge:
        """The same judge of some of its pairs."""
        shape = self.cloud.points.shape
        points = self.cloud.points.reshape(-1, 2, *shape[1:])[pairs].reshape(-1, *shape[1:])
        shown = self.cloud.shown.reshape(-1, 2, shape[1])[pairs].reshape(-1, shape[1])
        return replace(self, levels=self.levels[pairs], cloud=Cloud(points, shown))


def information(tables: Array) -> Array:
    """How much kinds tell of strengths in tables (*n, 3, 4) [bits a pixel]; 0 where changes are against sense.

    It is the gain in likelihood over not knowing the kind. Strengths where one silhouette covers a pixel and where none
    does follow their counts; where both do, moving surface has come in place of moving surface, which may look alike or
    not, and their strengths are an even mixture of the two.
    """
    counts = tables + _PSEUDO
    shares = counts / counts.sum(-1, keepdims=True)
    shares[..., 2, :] = 0.5 * (shares[..., 0, :] + shares[..., 1, :])
    overall = counts.sum(-2, keepdims=True)
    overall /= overall.sum(-1, keepdims=True)
    bits = (counts * np.log2(shares / overall)).sum((-1, -2)) / counts.sum((-1, -2))
    mean = (shares * np.arange(_STRENGTHS)).sum(-1)
    return np.where(mean[..., 1] > mean[..., 0], bits, 0.0)


def draw_candidates(judge: Judge, places: Array, count: int, rng: np.random.Generator) -> Array:
    """Camera vectors (count, 8) from the prior that look to where things changed.

    places (F, P, 3): the robot's key points. A candidate's direction is such that a place of the robot which moves
    appears where pixels changed; its distance, focal length and height are drawn from the prior.
    """
    width, height = judge.size
    prior = judge.prior
    moving = places - places.mean(0)
    weight = np.linalg.norm(moving, axis=-1).ravel()
    points = places.reshape(-1, 3)
    changed = (judge.levels >= 2).mean(0)
    heat = changed.ravel() ** 2 + 1e-9
    pixel = rng.choice(heat.size, count, p=heat / heat.sum())
    small_height, small_width = judge.levels.shape[1:]
    u = (pixel % small_width + rng.uniform(0, 1, count)) / small_width - 0.5
    v = ((pixel // small_width + rng.uniform(0, 1, count)) / small_height - 0.5) * height / width
    target = points[rng.choice(len(points), count, p=weight / weight.sum())]

    near, far = max(prior.reach[0], 0.35), min(prior.reach[1], 1.7)
    reach = np.exp(rng.uniform(np.log(near), np.log(far), count))
    azimuth = rng.uniform(-np.pi, np.pi, count)
    up = np.clip((rng.uniform(0.02, 1.1, count) - judge.middle[2]) / reach, -0.95, 0.95)
    flat = np.sqrt(1 - up**2)
    offset = np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), up], axis=-1) * reach[:, None]
    eye = judge.middle + offset
    # Most cameras see an angle of 55 to 105 degrees; a longer lens is found by climbing to it.
    longest = max(min(prior.focal[1], 0.95), 1.05 * prior.focal[0])
    focal = rng.uniform(np.log(prior.focal[0]), np.log(longest), count)
    low, high = np.log(prior.aspect)
    aspect = np.clip(rng.normal(0, 0.05, count), low, high)
    roll = np.clip(rng.normal(0, 0.08, count), *prior.roll)

    # The ray of the pixel in the camera, and the turn that brings it to the target with the horizon near to level.
    ray = np.stack([u / np.exp(focal), v / np.exp(focal + aspect), np.ones(count)], axis=-1)
    ray /= np.linalg.norm(ray, axis=-1, keepdims=True)
    towards = target - eye
    towards /= np.linalg.norm(towards, axis=-1, keepdims=True)
    vectors = np.zeros((count, SIZE))
    for row in range(count):
        vectors[row, 3:6] = angles(_turn(ray[row], towards[row], roll[row]))
    vectors[:, :3], vectors[:, 6], vectors[:, 7] = eye, focal, aspect
    return vectors


def _turn(ray: Array, towards: Array, roll: float) -> Array:
    """The turn (3, 3) of a camera that sees direction `towards` along its `ray`, its x axis level but for `roll`."""
    cos, sin = np.cos(roll), np.sin(roll)
    # An upright camera would see `towards` along (x, y, z); pitch follows from its height, then yaw.
    x, y, z = cos * ray[0] - sin * ray[1], sin * ray[0] + cos * ray[1], ray[2]
    radius = np.hypot(y, z)
    pitch = np.arcsin(np.clip(towards[2] / max(radius, 1e-9), -1, 1)) + np.arctan2(y, z)
    ahead = z * np.cos(pitch) + y * np.sin(pitch)
    yaw = np.arctan2(towards[1], towards[0]) + np.arctan2(x, ahead)
    forward = np.array([np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), np.sin(pitch)])
    level = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
    down = np.cross(forward, level)
    return np.stack([cos * level + sin * down, cos * down - sin * level, forward], axis=-1)


def search(
    coarse: Judge,
    fine: Judge,
    places: Array,
    effort: SearchEffort,
    rng: np.random.Generator,
    starts: Sequence[Array] = (),
) -> list[Array]:
    """Camera vectors (8,) of different neighbourhoods, the one that tells most of the changes first.

    coarse, fine: judges of small pictures and few pairs, and of larger ones and all pairs; places (F, P, 3): the
    robot's key points [m]; starts: vectors that are climbed from whatever their score.
    """
    vectors = draw_candidates(coarse, places, effort.candidates, rng)
    first = coarse.at(slice(effort.screen_pairs)).scores(vectors)
    vectors = vectors[np.argsort(-first, kind="stable")[: max(effort.climbs, effort.candidates // 10)]]
    scores = coarse.scores(vectors)
    begun = list(starts)
    for row in np.argsort(-scores, kind="stable"):
        if len(begun) >= effort.climbs + len(starts):
            break
        if all(np.abs((vectors[row] - other) / SPREAD).max() > 1.5 for other in begun):
            begun.append(vectors[row])
    climbed = [climb(coarse.scores, start, SPREAD, rng, generations=effort.coarse_generations) for start in begun]
    order = sorted(range(len(begun)), key=lambda k: -climbed[k][1])
    # Starts that were given are looked at closely even where others tell more in small pictures.
    chosen = order[: effort.kept] + [k for k in order[effort.kept :] if k < len(starts)]
    finer = [climb(fine.scores, climbed[k][0], 0.5 * SPREAD, rng, generations=effort.fine_generations) for k in chosen]
    finer.sort(key=lambda result: -result[1])
    return [vector for vector, _ in finer]


def climb(
    scores: Callable[[Array], Array],
    start: Array,
    spread: Array,
    rng: np.random.Generator,
    *,
    generations: int = 14,
    population: int = 16,
) -> tuple[Array, float]:
    """The best vector near `start` and its score, by an evolution strategy that learns the shape of the hill.

    spread (8,): standard deviations of the first generation. It is CMA-ES (Hansen, The CMA Evolution Strategy: A
    Tutorial, 2016) with rank-mu updates and a step that shrinks by schedule.
    """
    dim, parents = len(start), population // 2
    weight = np.log(parents + 0.5) - np.log(np.arange(1, parents + 1))
    weight /= weight.sum()
    mean, shape, step = start.copy(), np.eye(dim), 1.0
    best, best_score = start, float(scores(start[None])[0])
    rate = 0.25
    for _ in range(generations):
        factor = np.linalg.cholesky(shape + 1e-9 * np.eye(dim))
        moves = rng.normal(size=(population, dim)) @ factor.T * step
        vectors = mean + moves * spread
        values = scores(vectors)
        order = np.argsort(-values)[:parents]
        if values[order[0]] > best_score:
            best, best_score = vectors[order[0]], float(values[order[0]])
        shift = weight @ moves[order]
        mean = mean + shift * spread
        chosen = moves[order] / step
        shape = (1 - rate) * shape + rate * (chosen.T * weight) @ chosen
        step *= 0.86
    return best, best_score
