"""Where a static camera stands and how long its lens is, from its clips and the joint log: no marker, no first guess.

Candidates are drawn from a broad prior and judged by which pixels changed (`cameras_search`), the best are moved until
the robot's outline fits (`cameras_refine`), and the answer is refused where the evidence does not bear it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.extraction.cameras_prior import NAMES, CameraPrior, projections, to_camera
from vap_sim.extraction.cameras_refine import STAGES, Refined, refine
from vap_sim.extraction.cameras_search import Judge, SearchEffort, search
from vap_sim.extraction.motion_masks import Clip, Evidence, change_levels, find_changes, gather_evidence, link_places
from vap_sim.extraction.motion_masks_scene import learn_odds
from vap_sim.extraction.silhouettes import Body, draw_masks, pose_body, pose_cloud
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import RobotModel

Array = NDArray[np.float64]
REASONS = {
    "too short": "fewer than {least} frames with a joint pose",
    "still robot": "no key point of the robot moves by more than {least} m",
    "moving camera": "nearly the whole picture changes",
    "no motion": "the pictures hardly change while the robot moves",
    "unexplained": "no camera of the prior explains where the pictures change",
    "edge of prior": "the answer lies at the edge of what is believed of cameras",
    "ambiguous": "two different cameras explain the pictures equally well",
    "uncertain": "the motion does not fix the camera",
}
"""Why a camera is not given, by short name."""
_RIVAL = 0.85
"""What a second answer must tell of what the first does, before both are refined, to be looked at further."""


@dataclass(frozen=True)
class CalibrationSettings:
    """How a camera is looked for and when an answer is taken.

    frames: how many are looked at; spacings [m] of the points that stand for the robot in the first and in the last
    part of the search. An answer is taken when at least `least_overlap` of the pixels that are seen to change or are
    covered by the robot's silhouette are both, at least `least_shown` of the silhouette differs from the empty scene,
    at least `least_found` of the outline finds an edge, within `most_residual` pixels in the middle (of pictures 320
    pixels wide), and the standard deviations of where the robot is drawn [px], of place [m], turn [rad] and focal
    length (a share) stay below `most_pixels`, `most_place`, `most_turn` and `most_focal`. The overlap may be small,
    since what the robot moves moves too. Of two cameras that draw the robot further apart than `apart` pixels, one
    must tell a twentieth more than the other.
    """

    prior: CameraPrior = CameraPrior()
    effort: SearchEffort = SearchEffort()
    frames: int = 40
    spacings: tuple[float, float] = (0.06, 0.03)
    seed: int = 0
    fewest_frames: int = 8
    least_motion: float = 0.05
    least_overlap: float = 0.2
    least_shown: float = 0.6
    least_found: float = 0.35
    most_residual: float = 4.0
    most_pixels: float = 5.0
    most_place: float = 0.25
    most_turn: float = 0.15
    most_focal: float = 0.3
    apart: float = 10.0

    def __post_init__(self) -> None:
        if self.frames < 4 or self.fewest_frames < 2:
            given = f"frames {self.frames}, fewest_frames {self.fewest_frames}"
            raise InvalidInput("calibration settings", given, "at least 4 frames, and 2 as the fewest")


@dataclass(frozen=True, eq=False)
class Calibration:
    """What is known of one camera after looking.

    name: of the camera; clips: the names of those it took; camera: fixed in the base frame, or None where refused.
    reason: a key of REASONS and detail: a sentence with the numbers, where refused. std: standard deviations of
    "pixels" (where the robot is drawn), "place" [m], "turn" [rad] and "focal" (a share of it). figures: "information"
    [bits a pixel], "overlap" of silhouette and motion and "shown", the share of the silhouette that differs from the
    empty scene, "found" and "residual" [px] of the outline, "frames". vector: the camera vector, also of a refused
    answer. looked: how often it was looked for.
    """

    name: str
    clips: tuple[str, ...]
    camera: Camera | None
    reason: str | None = None
    detail: str = ""
    std: Mapping[str, float] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    vector: Array | None = None
    looked: int = 1


def calibrate(
    clips: Sequence[Clip],
    model: RobotModel,
    name: str,
    settings: CalibrationSettings | None = None,
    *,
    starts: Sequence[Array] = (),
) -> Calibration:
    """The camera that took all of the clips without moving, or why it is not given. The same seed, the same answer.

    starts: camera vectors (8,) to try beside the candidates from the prior, as of a camera that stood nearly here.

    Raises InvalidInput for clips of different sizes, for joints that are not the robot's, and without clips.
    """
    settings = settings or CalibrationSettings()
    evidence = gather_evidence(clips, model, settings.frames)
    names = tuple(clip.name for clip in clips)
    total = sum(len(clip.frames) for clip in clips)
    if total < settings.fewest_frames:
        text = REASONS["too short"].format(least=settings.fewest_frames)
        return Calibration(name, names, None, "too short", f"{text}: {total}")
    places = link_places(model, evidence.joints)
    motion = _motion(places, evidence.clip)
    if motion < settings.least_motion:
        text = REASONS["still robot"].format(least=settings.least_motion)
        return Calibration(name, names, None, "still robot", f"{text}: {motion:.3f} m")
    changes = find_changes(evidence, places, settings.effort.fine_pairs)
    changed = float((changes.levels >= 2).mean())
    if not 0.002 <= changed <= 0.7:
        reason = "no motion" if changed < 0.002 else "moving camera"
        share = f"{100 * changed:.1f} % of the pixels between poses far apart"
        return Calibration(name, names, None, reason, f"{REASONS[reason]}: {share}")
    coarse, fine = _judges(evidence, changes.pairs, changes.levels, model, settings, places)
    found = search(coarse, fine, places, settings.effort, np.random.default_rng(settings.seed), starts)
    body = pose_body(model, evidence.joints)
    answers = _refined(evidence, body, found, fine, settings)
    return _judged(name, names, evidence, body, places, answers, settings, fine)


@dataclass(frozen=True, eq=False)
class _Answer:
    score: float
    refined: Refined


def _motion(places: Array, clip: NDArray[np.intp]) -> float:
    """How far the key point that moves most gets from where it is at another time of the same clip [m]."""
    spans = [np.ptp(places[clip == number], axis=0) for number in np.unique(clip)]
    return max(float(np.linalg.norm(span, axis=-1).max()) for span in spans)


def _judges(
    evidence: Evidence,
    pairs: NDArray[np.intp],
    levels: NDArray[np.uint8],
    model: RobotModel,
    settings: CalibrationSettings,
    places: Array,
) -> tuple[Judge, Judge]:
    weight = np.linalg.norm(places - places.mean(0), axis=-1)
    middle = (places * weight[..., None]).sum((0, 1)) / weight.sum()
    width, height = evidence.searched
    few = pairs[: settings.effort.coarse_pairs]
    rough = change_levels(evidence.frames, few, (max(1, width // 2), max(1, height // 2)))
    clouds = [pose_cloud(model, evidence.joints, spacing) for spacing in settings.spacings]
    least = 0.015
    return (
        Judge(evidence.size, rough, clouds[0].pairs(few, least), settings.prior, middle),
        Judge(evidence.size, levels, clouds[1].pairs(pairs, least), settings.prior, middle),
    )


def _refined(
    evidence: Evidence, body: Body, found: Sequence[Array], judge: Judge, settings: CalibrationSettings
) -> list[_Answer]:
    """Answers of different cameras, the one that tells most first."""
    half = np.arange(0, len(evidence.frames), 2) if len(evidence.frames) >= 24 else np.arange(len(evidence.frames))
    fewer = evidence.at(half)
    rough = [refine(fewer, body.at(half), start, STAGES[:2]).vector for start in found]
    scores = judge.scores(np.stack(rough))
    chosen: list[int] = []
    for row in np.argsort(-scores):
        if all(_apart(evidence, body, rough[row], rough[k]) > settings.apart for k in chosen):
            chosen.append(int(row))
    # A second answer matters where it may tell as much as the first once both are refined.
    chosen = chosen[:1] + [row for row in chosen[1:2] if scores[row] > _RIVAL * scores[chosen[0]]]
    answers = []
    for row in chosen:
        refined = refine(evidence, body, rough[row], STAGES[1:])
        answers.append(_Answer(float(judge.scores(refined.vector[None])[0]), refined))
    return sorted(answers, key=lambda answer: -answer.score)


def _apart(evidence: Evidence, body: Body, a: Array, b: Array) -> float:
    """Median distance [px] between where two cameras see the robot."""
    seen = []
    for matrix in projections(np.stack([a, b]), evidence.size, evidence.seen):
        rays = body.points[:, ::7] @ matrix[:, :3].T + matrix[:, 3]
        seen.append(rays[..., :2] / np.maximum(rays[..., 2:], 1e-3))
    return float(np.median(np.linalg.norm(seen[0] - seen[1], axis=-1)))


def _pixel_std(evidence: Evidence, body: Body, vector: Array, covariance: Array) -> float:
    """Standard deviation [px] of where a camera (8,) with a covariance (8, 8) sees the robot, in the middle over what
    lies in its pictures; infinite where nothing does."""
    if not np.isfinite(covariance).all():
        return float("inf")
    step = 1e-5
    seen = []
    tried = np.concatenate([vector + step * np.eye(8), vector - step * np.eye(8)])
    for matrix in projections(tried, evidence.size, evidence.seen):
        rays = body.points[:, ::7].reshape(-1, 3) @ matrix[:, :3].T + matrix[:, 3]
        seen.append(rays[:, :2] / np.maximum(rays[:, 2:], 1e-3))
    inside = ((seen[0] >= 0) & (seen[0] < np.array(evidence.seen))).all(axis=1)
    if not inside.any():
        return float("inf")
    slope = np.moveaxis((np.stack(seen[:8]) - np.stack(seen[8:])) / (2 * step), 0, -1)[inside]
    variance = np.einsum("nai,ij,naj->n", slope, covariance, slope)
    return float(np.sqrt(max(float(np.median(variance)), 0.0)))


def silhouette_overlap(evidence: Evidence, body: Body, vector: Array) -> tuple[float, float]:
    """How a camera's silhouettes of the robot agree with the pixels that differ from the empty scene.

    Returns their intersection over union, and the share of the silhouette that differs: the first is small also where
    other things move, the second is not. Over all frames, and over the pixels whose empty scene is seen; 0 where the
    camera vector (8,) sees no robot.
    """
    matrix = projections(vector[None], evidence.size, evidence.seen)[0]
    masks = draw_masks(body, matrix, evidence.seen)
    odds = learn_odds(evidence.frames, evidence.clip, masks, margin=5)
    # Noise differs from pixel to pixel, the robot does not; and what is thinner than five pixels is a cable.
    box = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (5, 5))
    robot = [(cv2.blur(picture, (5, 5)) > 0).astype(np.uint8) for picture in odds.odds]
    moved = (np.stack([cv2.morphologyEx(picture, cv2.MORPH_OPEN, box) for picture in robot]) > 0) & odds.known
    covered = (masks > 0) & odds.known
    both = float((moved & covered).sum())
    return both / max(int((moved | covered).sum()), 1), both / max(int(covered.sum()), 1)


def _judged(
    name: str,
    clips: tuple[str, ...],
    evidence: Evidence,
    body: Body,
    places: Array,
    answers: list[_Answer],
    settings: CalibrationSettings,
    judge: Judge,
) -> Calibration:
    best = answers[0]
    vector, root = best.refined.vector, np.sqrt(np.maximum(np.diag(best.refined.covariance), 0))
    std = {
        "pixels": _pixel_std(evidence, body, vector, best.refined.covariance),
        "place": float(np.linalg.norm(root[:3])),
        "turn": float(np.linalg.norm(root[3:6])),
        "focal": float(root[6]),
    }
    overlap, shown = silhouette_overlap(evidence, body, vector)
    figures = {
        "information": best.score,
        "overlap": overlap,
        "shown": shown,
        "found": best.refined.found,
        "residual": best.refined.residual,
        "frames": float(len(evidence.frames)),
    }
    camera = to_camera(vector, name, evidence.size)
    reason, detail = _refusal(vector, std, figures, answers, settings, judge, _apart_answers(evidence, body, answers))
    return Calibration(name, clips, None if reason else camera, reason, detail, std, figures, vector)


def _apart_answers(evidence: Evidence, body: Body, answers: list[_Answer]) -> float:
    if len(answers) < 2:
        return 0.0
    return _apart(evidence, body, answers[0].refined.vector, answers[1].refined.vector)


def _refusal(
    vector: Array,
    std: Mapping[str, float],
    figures: Mapping[str, float],
    answers: list[_Answer],
    settings: CalibrationSettings,
    judge: Judge,
    apart: float,
) -> tuple[str | None, str]:
    """The first thing that speaks against an answer, and its numbers."""
    least = {"overlap": settings.least_overlap, "shown": settings.least_shown, "found": settings.least_found}
    if (
        any(not figures[key] >= limit for key, limit in least.items())
        or not figures["residual"] <= settings.most_residual
    ):
        numbers = ", ".join(f"{key} {figures[key]:.2f}" for key in (*least, "residual"))
        return "unexplained", f"{REASONS['unexplained']}: {numbers}"
    edge = settings.prior.edge(vector, judge.middle)
    if edge is not None:
        value = f", {edge} {vector[NAMES.index(edge)]:.3f}" if edge in NAMES else ""
        return "edge of prior", f"{REASONS['edge of prior']}: of {edge}{value}"
    if len(answers) > 1 and apart > settings.apart and answers[1].score > 0.95 * answers[0].score:
        scores = f"{answers[0].score:.3f} and {answers[1].score:.3f} bits a pixel, {apart:.0f} px apart"
        return "ambiguous", f"{REASONS['ambiguous']}: {scores}"
    for key in ("pixels", "place", "turn", "focal"):
        limit = float(getattr(settings, f"most_{key}"))
        if not std[key] <= limit:
            return "uncertain", f"{REASONS['uncertain']}: {key} to {std[key]:.3f}, expected {limit} or less"
    return None, ""
