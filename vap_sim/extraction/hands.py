"""Hands in a video, stage by stage as the paper takes them: found frame by frame, joined into tracks, followed where
they were lost, told left from right, rejected, filled and split, smoothed, and put where a robot's joints would be.

Visual Action Prompts (ICCV 2025) reconstructs hands with WiLoR, tracks them with SAMURAI and smooths with the One-Euro
filter. Detector and tracker are pluggable here; thresholds and rules for gaps are ours, since the paper states none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vap_sim.data.episode import Footage
from vap_sim.extraction.hand_cleaning import Cleaning, HandSeries, clean
from vap_sim.extraction.hand_detection import HandDetection, HandDetector
from vap_sim.extraction.hand_following import Following, follow
from vap_sim.extraction.hand_smoothing import OneEuro
from vap_sim.extraction.hand_space import assumed_focal, hand_camera, hand_joints, in_space
from vap_sim.extraction.hand_tracks import HandTracker, OverlapTracker
from vap_sim.robots.camera import Camera


@dataclass(frozen=True)
class HandSettings:
    """Everything that decides what becomes of finds. focal: of the camera [px], None to assume one and say so;
    second_look: whether lost hands are looked for again."""

    tracker: HandTracker = field(default_factory=OverlapTracker)
    following: Following = field(default_factory=Following)
    cleaning: Cleaning = field(default_factory=Cleaning)
    smoothing: OneEuro = field(default_factory=OneEuro)
    focal: float | None = None
    second_look: bool = True


@dataclass(frozen=True, eq=False)
class HandMotion:
    """The hands of T frames. left, right: what was kept of each, and why; joints (T, 126) float32 [m]: of the machine
    `human_hands`; camera: what sees these joints as the video does; notes: what was assumed."""

    left: HandSeries
    right: HandSeries
    joints: np.ndarray
    camera: Camera
    notes: tuple[str, ...]

    @property
    def sides(self) -> tuple[HandSeries, HandSeries]:
        """Both hands."""
        return self.left, self.right

    @property
    def there(self) -> np.ndarray:
        """(T,) bool: at least one hand is kept or filled."""
        return np.asarray(self.left.there | self.right.there)

    def points(self) -> np.ndarray:
        """Smoothed points (T, 2, 21, 2) [px], left before right; not a number where there is no hand."""
        places = self.joints.reshape(len(self.joints), 2, -1, 3).astype(np.float64)
        k = self.camera.intrinsics.double().numpy()
        seen = places @ k.T
        pixels = seen[..., :2] / np.where(seen[..., 2:] > 0, seen[..., 2:], np.nan)
        there = np.stack([series.there for series in self.sides], axis=1)
        return np.where(there[..., None, None], pixels, np.nan)

    def told(self) -> dict[str, object]:
        """Plain values that say of every frame and side what became of it and why, with counts."""
        frames = [
            {side.side: {"state": side.fates[t].state, "reason": side.fates[t].reason} for side in self.sides}
            for t in range(len(self.joints))
        ]
        counts = {side.side: dict(Counter(fate.state for fate in side.fates)) for side in self.sides}
        pieces = {side.side: [list(piece) for piece in side.pieces] for side in self.sides}
        return {
            "frames_with_a_hand": int(self.there.sum()), "counts": counts, "pieces": pieces, "notes": list(self.notes),
            "frames": frames,
        }  # fmt: skip


def find_hands(footage: Footage, detector: HandDetector) -> list[tuple[HandDetection, ...]]:
    """The finds of every frame, in order. Raises what footage and detector raise."""
    return [detector.detect(frame, picture) for frame, picture in enumerate(footage.frames())]


def join_hands(
    found: Sequence[Sequence[HandDetection]],
    footage: Footage,
    rate: float,
    settings: HandSettings | None = None,
    detector: HandDetector | None = None,
) -> HandMotion:
    """The motion of a left and a right hand through T frames, from what was found in each.

    rate: of the frames [Hz]; detector: looks again for hands that were lost, where the settings ask for it.
    """
    settings = HandSettings() if settings is None else settings
    tracks, again = settings.tracker.join(found, footage), frozenset[tuple[int, int]]()
    if detector is not None and settings.second_look:
        tracks, again = follow(tracks, footage, detector, settings.following)
    left, right = clean(tracks, len(found), footage.size, settings.cleaning, again)
    notes = []
    focal = settings.focal
    if focal is None:
        focal = assumed_focal(footage.size[0])
        notes.append(
            f"focal length assumed: {focal:.0f} px; the distance of hands follows from it, their pixels do not"
        )
    camera = hand_camera(footage.size, focal)
    places = [in_space(side, camera, rate, settings.smoothing) for side in (left, right)]
    return HandMotion(left, right, hand_joints(*places), camera, tuple(notes))
