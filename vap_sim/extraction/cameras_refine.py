"""Moving a camera until the robot's outline lies where pixels turn from robot to scene: Gauss-Newton on contour points.

At every point of the drawn outline the odds of robot are read along the normal; where their sum from inside outwards is
highest is where the outline should lie. The camera takes the steps that bring all points there in least squares, and
the scene behind the robot is learned anew as the outline improves. (Tracking by contour points goes back to Harris and
Stennett's RAPID, 1990, and in this statistical form to the contracting curve density of Hanek and Beetz, 2004.)
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.extraction.cameras_prior import SIZE, projections
from vap_sim.extraction.motion_masks import Evidence
from vap_sim.extraction.motion_masks_scene import RobotOdds, learn_odds
from vap_sim.extraction.silhouettes import Body, Contour, draw_masks, trace_contour

Array = NDArray[np.float64]
_SMALL_STEP = 1e-5
_CLEAR = 24.0  # grey levels between the colours of robot and scene from which their mixture is told
_STATIC, _VAGUE = 0.05, 0.1  # what an edge counts whose scene behind is not known, or that is known to a pixel only
_FEWEST = 50  # clear edges from which the shift of the others is told
_SIDES = 16  # two of each link
_BELIEF = np.array([np.inf, np.inf, np.inf, np.inf, np.inf, 0.1, 0.5, 0.04])
"""Standard deviations of a soft prior: cameras hang level, lenses are wide rather than long, pixels are square."""
_BELIEVED = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, np.log(0.6), 0.0])


@dataclass(frozen=True, eq=False)
class Stage:
    """One part of a refinement: pictures at `share` of their size, scenes learned at more than `margin` pixels from the
    outline, points looked for within `reach` pixels, `rounds` of learning and `steps` in each; `exact` finds edges to
    parts of a pixel, from how pixels mix the colours of robot and scene."""

    share: float
    margin: int
    reach: int
    rounds: int
    steps: int
    exact: bool = False


STAGES = (Stage(0.25, 5, 6, 3, 3), Stage(0.5, 7, 8, 3, 3), Stage(1.0, 9, 7, 2, 2), Stage(1.0, 3, 5, 2, 3, exact=True))


@dataclass(frozen=True, eq=False)
class Refined:
    """A camera vector (8,), its covariance (8, 8), and how the outline fits: `residual`, the median distance [px of the
    evidence's frames] at which points found their edge, and `found`, the share of points that found one."""

    vector: Array
    covariance: Array
    residual: float
    found: float


def refine(evidence: Evidence, body: Body, start: Array, stages: tuple[Stage, ...] = STAGES) -> Refined:
    """The camera near `start` whose outline of the robot fits best. It may leave the prior: that is for the judge.

    The covariance is the sandwich estimate with frames as clusters: points of one frame err together.
    """
    vector, refined = start.copy(), None
    for stage in stages:
        frames = _shrunk(evidence.frames, stage.share)
        seen = frames.shape[2], frames.shape[1]
        for _ in range(stage.rounds):
            matrix = projections(vector[None], evidence.size, seen)[0]
            odds = learn_odds(frames, evidence.clip, draw_masks(body, matrix, seen), stage.margin)
            for _ in range(stage.steps):
                step = _step(evidence.size, seen, odds, body, vector, stage)
                if step is None:
                    break
                vector, refined = step
    if refined is None:
        return Refined(vector, np.full((SIZE, SIZE), np.inf), np.inf, 0.0)
    return refined


def _shrunk(frames: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    if share == 1.0:
        return frames
    size = round(frames.shape[2] * share), round(frames.shape[1] * share)
    return np.stack([np.asarray(cv2.resize(f, size, interpolation=cv2.INTER_AREA), np.uint8) for f in frames])


def _step(
    size: tuple[int, int], seen: tuple[int, int], odds: RobotOdds, body: Body, vector: Array, stage: Stage
) -> tuple[Array, Refined] | None:
    """One step of Gauss-Newton, or None where too little of the outline is in the pictures."""
    matrix = projections(vector[None], size, seen)[0]
    contour = trace_contour(body, matrix, seen, spacing=3.0)
    if len(contour.frame) < 10 * SIZE:
        return None
    offset, trust = find_edges(odds, contour, stage.reach)
    if stage.exact:
        offset, trust = mixed_edges(odds, contour, offset, trust)
    slope = _slopes(size, seen, contour, vector)
    solid = trust > 0
    if solid.sum() < 5 * SIZE:
        return None
    belief = 1 / _BELIEF**2
    # In units of pixels, an outline of hundreds of points that err together is worth about the number of frames.
    share = len(np.unique(contour.frame)) / len(contour.frame)
    move = np.zeros(SIZE)
    for _ in range(4):
        rest = offset - slope @ move
        scale = max(1.0, 1.48 * float(np.median(np.abs(rest[solid]))))
        weight = trust / (1 + (rest / (1.5 * scale)) ** 2) ** 2
        hessian = share * (slope.T * weight) @ slope + np.diag(belief + 1e-9)
        target = share * (slope.T * weight) @ offset - belief * (vector - _BELIEVED)
        move = np.linalg.solve(hessian, target)
    rest = offset - slope @ move
    residual = float(np.median(np.abs(rest[solid])))
    inverse = np.linalg.inv((slope.T * weight) @ slope + np.diag(belief + 1e-9))
    pull = slope * (weight * rest)[:, None]
    frames = np.unique(contour.frame, return_inverse=True)[1]
    by_frame = np.zeros((frames.max() + 1, SIZE))
    np.add.at(by_frame, frames, pull)
    covariance = inverse @ (by_frame.T @ by_frame) @ inverse
    # The robot is not quite as it is drawn: what a side of a link is off by, it is off by in every frame.
    covariance += inverse * (1.48 * residual) ** 2 * weight.sum() / _SIDES
    limit = np.array([0.15, 0.15, 0.15, 0.15, 0.15, 0.1, 0.2, 0.05])
    move = move / max(1.0, float(np.abs(move / limit).max()))
    return vector + move, Refined(vector + move, covariance, residual, float(solid.mean()))


def find_edges(odds: RobotOdds, contour: Contour, reach: int) -> tuple[Array, Array]:
    """How far each contour point should move along its normal [px], (M,), and how much that is to be trusted, (M,).

    The trust is 0 where the odds along the normal show no change from robot to scene within `reach` pixels.
    """
    height, width = odds.odds.shape[1:]
    along = np.arange(-reach - 2, reach + 3)
    places = contour.pixels[:, None] + along[:, None] * contour.normals[:, None]
    column = np.rint(places[..., 0]).astype(np.intp)
    row = np.rint(places[..., 1]).astype(np.intp)
    inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
    column, row = np.clip(column, 0, width - 1), np.clip(row, 0, height - 1)
    word = np.where(inside, odds.odds[contour.frame[:, None], row, column], 0)
    sums = np.cumsum(word, axis=1)
    # An outline between pixels k and k + 1 gains the words up to k and loses those after it.
    gain = sums[:, 1:-2] - 0.5 * sums[:, -1:]
    shift = along[1:-2] + 0.5
    # Several edges may be near; the nearest is the likeliest.
    gain = gain - 0.5 * (shift / reach) ** 2 * 4
    best = gain.max(1, keepdims=True)
    chance = np.exp(gain - best)
    chance /= chance.sum(1, keepdims=True)
    offset = chance @ shift
    blur = np.sqrt(np.maximum(chance @ shift**2 - offset**2, 0))
    contrast = best[:, 0] - np.maximum(gain[:, 0], gain[:, -1])
    trust = np.where(contrast > 2.0, 1 / (1 + blur**2), 0.0)
    # Beside parts that never move there are edges of other things, the same ones in every frame.
    near = reach + 2
    known = odds.known[contour.frame, row[:, near], column[:, near]]
    return offset, np.where(known, trust, _STATIC * trust)


def mixed_edges(odds: RobotOdds, contour: Contour, offset: Array, trust: Array) -> tuple[Array, Array]:
    """Edges near `offset` (M,) to parts of a pixel, and their trust: less where robot and scene look alike.

    A pixel on an edge shows a mixture of the scene behind and of the robot, whose colour is taken a few pixels further
    in; the shares of the robot along the normal add up to where the edge is. Beside parts that never move, where the
    scene behind is not known, its colour is taken a few pixels further out.
    """
    along = np.arange(-4, 5)
    places = contour.pixels[:, None] + (offset[:, None] + along)[..., None] * contour.normals[:, None]
    frame = np.broadcast_to(contour.frame[:, None], places.shape[:2])
    seen = _between(odds.frames, frame, places)
    empty = _between(odds.empty, odds.scene[frame], places)
    height, width = odds.odds.shape[1:]
    whole = ((places >= 0) & (places <= (width - 1, height - 1))).all((1, 2))
    column, row = np.clip(np.rint(places), 0, (width - 1, height - 1)).astype(np.intp).transpose(2, 0, 1)
    known = odds.known[frame, row, column].all(1)
    empty = np.where(known[:, None, None], empty, seen[:, -2:].mean(1, keepdims=True))
    robot = seen[:, :2].mean(1, keepdims=True)
    across = robot - empty
    length = (across**2).sum(-1)
    share = np.clip(((seen - empty) * across).sum(-1) / np.maximum(length, 1.0), 0, 1)
    clear = (length.min(1) > _CLEAR**2) & (share[:, 2] > 0.7) & (share[:, -1] < 0.3) & whole
    exact = offset + share.sum(1) - 4.5
    # A pixel with a little of the robot in it counted as robot, which shifted the other edges as it did the clear ones.
    sure = clear & (trust > 0)
    shifted = float(np.median((offset - exact)[sure])) if sure.sum() >= _FEWEST else 0.0
    return np.where(clear, exact, offset - shifted), np.where(clear, trust, _VAGUE * trust)


def _between(pictures: NDArray[np.generic], number: NDArray[np.intp], places: Array) -> Array:
    """Colours (M, K, 3) of pictures (F, h, w, 3) at places (M, K, 2) between their pixels."""
    height, width = pictures.shape[1:3]
    low = np.clip(np.floor(places), 0, (width - 2, height - 2)).astype(np.intp)
    u, v = np.moveaxis(np.clip(places - low, 0, 1), -1, 0)[..., None]
    x, y = low[..., 0], low[..., 1]
    upper = (1 - u) * pictures[number, y, x] + u * pictures[number, y, x + 1]
    lower = (1 - u) * pictures[number, y + 1, x] + u * pictures[number, y + 1, x + 1]
    return np.asarray((1 - v) * upper + v * lower)


def _slopes(size: tuple[int, int], seen: tuple[int, int], contour: Contour, vector: Array) -> Array:
    """How contour points move along their normals with each member of a camera vector, (M, 8) [px per unit]."""
    tried = vector + np.concatenate([np.eye(SIZE), -np.eye(SIZE)]) * _SMALL_STEP
    matrices = projections(tried, size, seen)
    rays = contour.points @ matrices[:, :, :3].swapaxes(-1, -2) + matrices[:, None, :, 3]
    pixels = rays[..., :2] / rays[..., 2:]
    change = (pixels[:SIZE] - pixels[SIZE:]) / (2 * _SMALL_STEP)
    return np.asarray((change * contour.normals).sum(-1).T)
