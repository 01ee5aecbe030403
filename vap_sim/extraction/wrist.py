"""Where a camera sits on the flange, from what it sees of a scene that stands still and the flange's logged poses.

Between two frames the flange moves as the log says. With a mount and a focal length, a point of one picture lies on a
line in the other (the epipolar line), whatever its depth: the mount is the one under which matched points lie nearest
to their lines. Turns of the flange fix the camera's own turn, turns and shifts together its place, in metres.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares  # type: ignore[import-untyped, unused-ignore]
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.extraction.cameras import REASONS, Calibration
from vap_sim.extraction.motion_masks import Clip
from vap_sim.extraction.wrist_matches import Matches, match_frames
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel

Array = NDArray[np.float64]
_LIKE = 1.5  # [px] distance from its line at which a match counts half
_FIT = 2.0  # [px] distance from its line up to which a match is taken to be right
_AT_ONCE = 64
_SCALE = np.array([0.05, 0.05, 0.05, 0.1, 0.1, 0.1, 0.1, 0.03])
"""How much of each member of a mount vector is about as much as another."""


@dataclass(frozen=True)
class MountSettings:
    """Where a mount is looked for and when it is taken.

    reach: distance [m] from the flange's origin; tilt: angle [rad] between the view and the flange's z axis; focal:
    range of fx over the picture's width. `least_matches` points must have been matched, the flange must turn by
    `least_turn` [rad] between some frames, `least_explained` of the matches must lie within 2 px of their lines, and
    standard deviations of place [m], turn [rad] and focal length (a share) must stay below the last three.
    """

    reach: float = 0.25
    tilt: float = 1.3
    focal: tuple[float, float] = (0.35, 1.5)
    candidates: int = 3000
    climbs: int = 6
    seed: int = 0
    least_matches: int = 150
    least_turn: float = 0.12
    least_explained: float = 0.5
    most_place: float = 0.05
    most_turn: float = 0.06
    most_focal: float = 0.1


def find_mount(clip: Clip, model: RobotModel, name: str, settings: MountSettings | None = None) -> Calibration:
    """The camera on the flange that took a clip, or why it is not given. The same seed, the same answer.

    The camera's `parent_link` is the robot's flange link. Figures: "matches", "explained" (a share of them), "residual"
    [px] in the middle of those explained. Raises InvalidInput for joints that are not the robot's.
    """
    settings = settings or MountSettings()
    with torch.no_grad():
        poses = model.robot.forward(torch.as_tensor(clip.joints, dtype=torch.float64)).numpy()
    flange = poses[:, model.robot.link_index(model.flange_link)]
    turn = _largest_turn(flange)
    if turn < settings.least_turn:
        detail = f"{REASONS['uncertain']}: the flange turns by {turn:.2f} rad, expected {settings.least_turn} or more"
        return Calibration(name, (clip.name,), None, "uncertain", detail)
    matches = match_frames(clip, flange)
    figures = {"matches": float(len(matches.frames))}
    if len(matches.frames) < settings.least_matches:
        detail = f"{REASONS['unexplained']}: {len(matches.frames)} matched points, expected {settings.least_matches}"
        return Calibration(name, (clip.name,), None, "unexplained", detail, figures=figures)
    size = clip.frames.shape[2], clip.frames.shape[1]
    return _judged(name, clip, model, matches, flange, size, settings)


def fit_mount(matches: Matches, flange: Array, size: tuple[int, int], settings: MountSettings) -> tuple[Array, Array]:
    """The mount vector (8,) under which matches lie nearest to their lines, and its covariance (8, 8).

    A mount vector is place [m] and rotation vector [rad] of the camera in the flange's frame, log of fx over the width,
    log of fy over fx. flange: (T, 4, 4), its poses in the base frame.
    """
    rng = np.random.default_rng(settings.seed)
    moves = np.linalg.inv(flange[matches.frames[:, 1]]) @ flange[matches.frames[:, 0]]
    few = rng.permutation(len(moves))[:800]
    vectors = _candidates(settings, rng)
    parts = np.array_split(vectors, -(-len(vectors) // _AT_ONCE))
    costs = np.concatenate([_cost(line_distances(part, matches.pixels[few], moves[few], size)) for part in parts])
    answers = []
    for start in vectors[np.argsort(costs, kind="stable")[: settings.climbs]]:
        rough = _solved(start, matches.pixels[few], moves[few], size, 40)
        answers.append((float(_cost(line_distances(rough[None], matches.pixels, moves, size))[0]), rough))
    best = _solved(min(answers, key=lambda answer: answer[0])[1], matches.pixels, moves, size, 60)
    for _ in range(2):
        # Wrong matches pull a little as long as they count at all.
        near = np.flatnonzero(np.abs(line_distances(best[None], matches.pixels, moves, size)[0]) < _FIT)
        if len(near) < 50:
            break
        best = _solved(best, matches.pixels[near], moves[near], size, 30)
    return best, _covariance(best, matches, moves, size)


def line_distances(vectors: Array, pixels: Array, moves: Array, size: tuple[int, int]) -> Array:
    """Signed distances (n, M) [px] of matches (M, 2, 2) from their epipolar lines, for mount vectors (n, 8).

    moves (M, 4, 4): from the flange at the first frame to the flange at the second. To first order, which is Sampson's
    distance (Hartley and Zisserman, Multiple View Geometry, 11.4.3).
    """
    width, height = size
    turn = Rotation.from_rotvec(vectors[:, 3:6]).as_matrix()
    place = vectors[:, None, :3]
    rotation = np.einsum("nji,mjk,nkl->nmil", turn, moves[:, :3, :3], turn, optimize=True)
    arm = np.einsum("mij,nj->nmi", moves[:, :3, :3], vectors[:, :3]) + moves[:, :3, 3] - place
    shift = np.einsum("nji,nmj->nmi", turn, arm)
    focal = width * np.exp(vectors[:, 6])
    focal = np.stack([focal, focal * np.exp(vectors[:, 7])], axis=-1)[:, None]
    middle = np.array([(width - 1) / 2, (height - 1) / 2])
    one = np.ones((len(vectors), len(pixels), 1))
    first, second = (np.concatenate([(pixels[:, k] - middle) / focal, one], axis=-1) for k in (0, 1))
    # Along and across a line: x2 . (t x R x1), with the slopes of that product in both pictures.
    turned = np.einsum("nmij,nmj->nmi", rotation, first)
    line = np.cross(shift, turned)
    back = np.einsum("nmji,nmj->nmi", rotation, np.cross(second, shift))
    slope = ((line[..., :2] / focal) ** 2).sum(-1) + ((back[..., :2] / focal) ** 2).sum(-1)
    return np.asarray((second * line).sum(-1) / np.sqrt(np.maximum(slope, 1e-18)))


def _cost(distance: Array) -> Array:
    """How far matches lie from their lines, in the mean, with those that do not fit counting alike."""
    square = (distance / _LIKE) ** 2
    return np.asarray((square / (1 + square)).mean(-1))


def _candidates(settings: MountSettings, rng: np.random.Generator) -> Array:
    count = settings.candidates
    place = rng.uniform(-0.6, 0.6, (count, 3)) * settings.reach
    angle, around = rng.uniform(0, 0.8 * settings.tilt, count), rng.uniform(-np.pi, np.pi, count)
    spin, zero = rng.uniform(-np.pi, np.pi, count), np.zeros(count)
    tilted = Rotation.from_rotvec(np.stack([angle * np.cos(around), angle * np.sin(around), zero], axis=-1))
    turn = (tilted * Rotation.from_rotvec(np.stack([zero, zero, spin], axis=-1))).as_rotvec()
    focal = rng.uniform(np.log(settings.focal[0]), np.log(settings.focal[1]), count)
    return np.concatenate([place, turn, focal[:, None], np.zeros((count, 1))], axis=1)


def _solved(start: Array, pixels: Array, moves: Array, size: tuple[int, int], steps: int) -> Array:
    def residuals(vector: Array) -> Array:
        belief = np.append(vector[:3] / 0.2, [(vector[6] - np.log(0.6)) / 0.5, vector[7] / 0.04])
        return np.concatenate([line_distances(vector[None], pixels, moves, size)[0], belief])

    found = least_squares(residuals, start, loss="cauchy", f_scale=_LIKE, max_nfev=steps, x_scale=_SCALE)
    return np.asarray(found.x)


def _covariance(vector: Array, matches: Matches, moves: Array, size: tuple[int, int]) -> Array:
    """The sandwich estimate with pairs of frames as clusters: their log and their matches err together."""
    step = 1e-5
    tried = np.concatenate([vector + step * np.eye(8), vector - step * np.eye(8), vector[None]])
    distance = line_distances(tried, matches.pixels, moves, size)
    slope = ((distance[:8] - distance[8:16]) / (2 * step)).T
    rest = distance[16]
    weight = 1 / (1 + (rest / _LIKE) ** 2) ** 2
    belief = np.array([25.0, 25.0, 25.0, 0.0, 0.0, 0.0, 4.0, 625.0])
    inverse = np.linalg.pinv((slope.T * weight) @ slope + np.diag(belief))
    _, pair = np.unique(matches.frames, axis=0, return_inverse=True)
    pull = np.zeros((int(pair.max()) + 1, 8))
    np.add.at(pull, pair.ravel(), slope * (weight * rest)[:, None])
    return np.asarray(inverse @ (pull.T @ pull) @ inverse)


def _largest_turn(flange: Array) -> float:
    """The largest angle [rad] between flange poses (T, 4, 4) and the first of them."""
    turn = flange[0, :3, :3].T @ flange[:, :3, :3]
    return float(np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1)).max())


def _judged(
    name: str,
    clip: Clip,
    model: RobotModel,
    matches: Matches,
    flange: Array,
    size: tuple[int, int],
    settings: MountSettings,
) -> Calibration:
    vector, covariance = fit_mount(matches, flange, size, settings)
    moves = np.linalg.inv(flange[matches.frames[:, 1]]) @ flange[matches.frames[:, 0]]
    distance = np.abs(line_distances(vector[None], matches.pixels, moves, size)[0])
    near = distance < _FIT
    figures = {
        "matches": float(len(distance)),
        "explained": float(near.mean()),
        "residual": float(np.median(distance[near])) if near.any() else float("inf"),
    }
    root = np.sqrt(np.maximum(np.diag(covariance), 0))
    std = {"place": float(np.linalg.norm(root[:3])), "turn": float(np.linalg.norm(root[3:6])), "focal": float(root[6])}
    reason, detail = _refusal(vector, figures, std, settings)
    camera = None if reason else _camera(vector, name, size, model.flange_link)
    return Calibration(name, (clip.name,), camera, reason, detail, std, figures)


def _refusal(
    vector: Array, figures: dict[str, float], std: dict[str, float], settings: MountSettings
) -> tuple[str | None, str]:
    if figures["explained"] < settings.least_explained:
        told = (
            f"{100 * figures['explained']:.0f} % of matched points fit, expected {100 * settings.least_explained:.0f} %"
        )
        return "unexplained", f"{REASONS['unexplained']}: {told}"
    away = float(np.linalg.norm(vector[:3]))
    tilt = float(np.arccos(np.clip(Rotation.from_rotvec(vector[3:6]).as_matrix()[2, 2], -1, 1)))
    low, high = np.log(settings.focal)
    for member, inside, value in (
        ("reach", away < 0.98 * settings.reach, away),
        ("tilt", tilt < 0.98 * settings.tilt, tilt),
        ("focal", low + 0.02 < vector[6] < high - 0.02, float(np.exp(vector[6]))),
        ("aspect", abs(vector[7]) < 0.15, float(np.exp(vector[7]))),
    ):
        if not inside:
            return "edge of prior", f"{REASONS['edge of prior']}: of {member}, {value:.3f}"
    most = {"place": settings.most_place, "turn": settings.most_turn, "focal": settings.most_focal}
    for member, limit in most.items():
        if not std[member] <= limit:
            return "uncertain", f"{REASONS['uncertain']}: {member} to {std[member]:.3f}, expected {limit} or less"
    return None, ""


def _camera(vector: Array, name: str, size: tuple[int, int], link: str) -> Camera:
    width, height = size
    focal = width * np.exp(vector[6])
    intrinsics = [[focal, 0, (width - 1) / 2], [0, focal * np.exp(vector[7]), (height - 1) / 2], [0, 0, 1]]
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = Rotation.from_rotvec(vector[3:6]).as_matrix(), vector[:3]
    return Camera(name, torch.tensor(intrinsics).float(), torch.from_numpy(pose).float(), link, size)
