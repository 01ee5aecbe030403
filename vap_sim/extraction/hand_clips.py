"""Hands as prepared clips, as a robot's recordings are (vap_sim/data/prepared.py): prompts are drawn of both alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.data.episode import Footage
from vap_sim.data.prepared import LeftOut, PreparedClip
from vap_sim.errors import InvalidInput
from vap_sim.extraction.hand_space import ROBOT
from vap_sim.extraction.hands import HandMotion
from vap_sim.robots.camera import Camera

_FINER = 4  # a silhouette is drawn so many times finer than its pixels
_THICK = 0.018  # metres: a finger
_PALM = (0, 1, 5, 9, 13, 17)
_BONES = tuple((0 if at % 4 == 1 else at - 1, at) for at in range(1, 21))


@dataclass(frozen=True)
class ClipSettings:
    """The form of clips. size: (width, height) [px] that pictures are stretched to; frame_rate [Hz]: None for the
    video's own; shortest, longest: frames of a clip, at its rate."""

    size: tuple[int, int] = (320, 192)
    frame_rate: float | None = None
    shortest: int = 8
    longest: int = 300

    def __post_init__(self) -> None:
        if len(self.size) != 2 or not all(8 <= length <= 4096 for length in self.size):
            raise InvalidInput("size of clips", self.size, "(width, height) of 8 to 4096 pixels each")
        if self.frame_rate is not None and not 0.01 <= self.frame_rate <= 1000:
            raise InvalidInput("frame rate of clips", self.frame_rate, "0.01 to 1000 Hz")
        if not 1 <= self.shortest <= self.longest:
            raise InvalidInput("length of clips", (self.shortest, self.longest), "1 <= shortest <= longest")


def hand_clips(
    footage: Footage, motion: HandMotion, rate: float, name: str, source: str, settings: ClipSettings
) -> Iterator[PreparedClip]:
    """Clips of the frames of a video, at `rate` [Hz], in which a hand is; read one after another. See `left_out`."""
    numbers, clip_rate = _numbers(len(motion.joints), rate, settings)
    camera = motion.camera.resized(settings.size)
    for first, last in _ranges(motion.there[numbers], settings):
        chosen = numbers[first:last]
        pictures = footage.frames(int(chosen[0]), int(chosen[-1]) + 1)
        wanted = set(chosen.tolist())
        frames = [
            np.asarray(cv2.resize(picture, settings.size, interpolation=cv2.INTER_AREA), np.uint8)
            for number, picture in enumerate(pictures, start=int(chosen[0]))
            if number in wanted
        ]
        joints = motion.joints[chosen]
        yield PreparedClip(
            name=f"{name}_{first:05d}",
            frames=np.stack(frames)[None],
            joints=joints,
            cameras=(camera,),
            homographies=np.broadcast_to(np.eye(3, dtype=np.float32), (1, len(chosen), 3, 3)).copy(),
            robot=np.stack([hand_silhouette(pose, camera) for pose in joints])[None],
            kept=motion.there[chosen][None],
            frame_rate=clip_rate,
            robot_name=ROBOT,
            state_source="logged",
            source=source,
            notes=motion.notes,
        )


def left_out(motion: HandMotion, rate: float, name: str, settings: ClipSettings) -> tuple[LeftOut, ...]:
    """The frames that no clip has, at the clips' rate, and the commonest reason in each run of them."""
    numbers, _ = _numbers(len(motion.joints), rate, settings)
    there = motion.there[numbers]
    covered = np.zeros(len(numbers), bool)
    for first, last in _ranges(there, settings):
        covered[first:last] = True
    runs = []
    for missing, group in groupby(range(len(numbers)), key=lambda at: not covered[at]):
        ats = list(group)
        if missing:
            runs.append(LeftOut(name, ats[0], ats[-1] + 1, _reason(motion, numbers[ats], there[ats], settings)))
    return tuple(runs)


def hand_silhouette(joints: NDArray[np.float32], camera: Camera) -> NDArray[np.uint8]:
    """How far hands at joint values (126,) cover each pixel (H, W), 0..255: palms, and bones as thick as a finger."""
    k = camera.intrinsics.double().numpy()
    width, height = camera.size
    canvas = np.zeros((height * _FINER, width * _FINER), np.uint8)
    for hand in joints.reshape(2, -1, 3).astype(np.float64):
        if hand[:, 2].min() <= 0:
            continue
        seen = hand @ k.T
        points = ((seen[:, :2] / seen[:, 2:]) + 0.5) * _FINER - 0.5
        limit = 16 * max(canvas.shape)
        corners = np.clip(np.rint(points), -limit, limit).astype(np.int32)
        thick = np.clip(np.rint(k[1, 1] * _FINER * _THICK / hand[:, 2]), 1, max(canvas.shape)).astype(int)
        cv2.fillPoly(canvas, [corners[list(_PALM)]], 255)
        for start, end in _BONES:
            cv2.line(canvas, corners[start].tolist(), corners[end].tolist(), 255, int(thick[end]))
    return np.asarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA), np.uint8)


def _numbers(length: int, rate: float, settings: ClipSettings) -> tuple[NDArray[np.intp], float]:
    """The frames that clips are made of, and their rate [Hz]: those nearest to the ticks of a slower clock, or all."""
    wanted = settings.frame_rate
    if wanted is None or wanted >= rate:
        if wanted is not None and wanted > rate * 1.01:
            raise InvalidInput("frame rate of clips", wanted, f"at most the video's own {rate:g} Hz")
        return np.arange(length), rate
    ticks = np.arange(int(np.floor((length - 1) * wanted / rate)) + 1)
    return np.rint(ticks * rate / wanted).astype(np.intp), wanted


def _ranges(there: NDArray[np.bool_], settings: ClipSettings) -> list[tuple[int, int]]:
    """First and one past the last frame of each clip: runs with a hand, cut where they are too long."""
    ranges: list[tuple[int, int]] = []
    for hand, group in groupby(range(len(there)), key=lambda at: bool(there[at])):
        ats = list(group)
        starts = range(ats[0], ats[-1] + 1, settings.longest)
        parts = [(start, min(start + settings.longest, ats[-1] + 1)) for start in starts] if hand else []
        ranges += [(first, last) for first, last in parts if last - first >= settings.shortest]
    return ranges


def _reason(motion: HandMotion, numbers: NDArray[np.intp], there: NDArray[np.bool_], settings: ClipSettings) -> str:
    if there.all():
        return f"a run of {len(numbers)} frames with a hand is shorter than {settings.shortest}"
    told: Sequence[str] = [
        f"{side.side} hand {side.fates[t].state}: {side.fates[t].reason}" for t in numbers for side in motion.sides
    ]
    common = Counter(told).most_common(2)
    return "; ".join(reason for reason, _ in common)
