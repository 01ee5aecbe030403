"""What a clip of a static camera says about motion: which pixels changed between which frames, and the scene behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.robots.library import RobotModel

Array = NDArray[np.float64]
LEVELS = (5.0, 14.0, 32.0)
"""Differences of colour [grey levels] that part changes into none, faint, clear and strong."""
_LONGEST = 320  # pictures are looked at with at most this many pixels a side
_SEARCHED = 80


@dataclass(frozen=True, eq=False)
class Clip:
    """What one static camera saw of one recording: frames (T, H, W, 3) uint8 RGB and joints (T, J) [rad or m], in the
    order of the robot's own joints, the gripper's included. T frames taken from a longer recording will do."""

    name: str
    frames: NDArray[np.uint8]
    joints: Array

    def __post_init__(self) -> None:
        shape, joints = self.frames.shape, self.joints.shape
        if len(shape) != 4 or shape[3] != 3 or self.frames.dtype != np.uint8 or min(shape[:3]) < 1:
            given = f"{self.frames.dtype} of shape {shape}"
            raise InvalidInput(f"frames of clip {self.name!r}", given, "uint8 of shape (T, H, W, 3)")
        if len(joints) != 2 or joints[0] != shape[0]:
            raise InvalidInput(f"joints of clip {self.name!r}", f"shape {joints}", f"({shape[0]}, J): one row a frame")
        if not np.isfinite(self.joints).all():
            raise InvalidInput(f"joints of clip {self.name!r}", "a number that is not finite", "finite numbers")


@dataclass(frozen=True, eq=False)
class Evidence:
    """Chosen frames of the clips of one camera.

    size: (width, height) of the clips; frames (F, h, w, 3) uint8, at most 320 pixels a side; clip (F,) the clip of
    each; joints (F, J); searched: (width, height) in which searches look, at most 80 pixels a side.
    """

    size: tuple[int, int]
    frames: NDArray[np.uint8]
    clip: NDArray[np.intp]
    joints: Array

    def at(self, rows: NDArray[np.intp]) -> Evidence:
        """Some of the frames."""
        return Evidence(self.size, self.frames[rows], self.clip[rows], self.joints[rows])

    @property
    def seen(self) -> tuple[int, int]:
        """(width, height) of `frames`."""
        return self.frames.shape[2], self.frames.shape[1]

    @property
    def searched(self) -> tuple[int, int]:
        """(width, height) of pictures for searches."""
        return fitting_size(self.seen, _SEARCHED)


def gather_evidence(clips: Sequence[Clip], model: RobotModel, frames: int = 48) -> Evidence:
    """The frames of the clips in which the robot's poses differ most, and in which it moves slowly.

    Slow ones, since log and video are never read at the same instant. Raises InvalidInput for clips of different sizes
    and joints that are not the robot's.
    """
    if not clips:
        raise InvalidInput("clips of a camera", "none", "at least one")
    shape = clips[0].frames.shape[1:]
    for clip in clips:
        if clip.frames.shape[1:] != shape:
            given = f"{clip.frames.shape[1:]} after {shape}"
            raise InvalidInput(f"frames of clip {clip.name!r}", given, "pictures of one size")
        if clip.joints.shape[1] != model.robot.num_joints:
            expected = f"{model.robot.num_joints}: {', '.join(model.robot.joint_names)}"
            raise InvalidInput(f"joints of clip {clip.name!r}", f"{clip.joints.shape[1]} a frame", expected)
    places = [link_places(model, clip.joints) for clip in clips]
    speed = np.concatenate([_speed(place) for place in places])
    owner = np.repeat(np.arange(len(clips)), [len(clip.frames) for clip in clips])
    chosen = _spread(np.concatenate(places), speed, owner, frames)
    first = np.cumsum([0, *(len(clip.frames) for clip in clips)])
    pictures = np.stack([clips[owner[row]].frames[row - first[owner[row]]] for row in chosen])
    joints = np.concatenate([clip.joints for clip in clips])[chosen]
    size = int(shape[1]), int(shape[0])
    seen = fitting_size(size, _LONGEST)
    if seen != size:
        pictures = np.stack([cv2.resize(p, seen, interpolation=cv2.INTER_AREA) for p in pictures])
    return Evidence(size, pictures, owner[chosen], joints)


def fitting_size(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """A picture's size (width, height), made smaller where its longer side is longer than `longest`."""
    share = min(1.0, longest / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def link_places(model: RobotModel, joints: Array) -> Array:
    """Where the robot's key points are, (T, P, 3) [m, base frame], at poses (T, J). The plumb line is left out."""
    with torch.no_grad():
        T_base_link = model.robot.forward(torch.as_tensor(joints, dtype=torch.float64)).numpy()
    links = sorted({model.robot.link_index(point.link) for point in model.skeleton.points})
    return np.asarray(T_base_link[:, links][..., :3, 3])


def _speed(places: Array) -> Array:
    """How far the fastest key point moves between frame t and its neighbours [m], (T,)."""
    if len(places) < 2:
        return np.zeros(len(places))
    steps = np.linalg.norm(np.diff(places, axis=0), axis=-1).max(1)
    return np.asarray(np.maximum(np.concatenate([steps[:1], steps]), np.concatenate([steps, steps[-1:]])))


def _spread(places: Array, speed: Array, owner: NDArray[np.intp], count: int) -> NDArray[np.intp]:
    """Rows that are far from each other, one after the other, slow ones first; in order."""
    flat = places.reshape(len(places), -1) / np.sqrt(places.shape[1])
    # A moving robot is misplaced by about half of what it moves between two frames.
    worth = 1 / (1 + speed / 0.02)
    chosen = [int(np.argmax(worth))]
    far = np.full(len(flat), np.inf)
    for _ in range(min(count, len(flat)) - 1):
        distance = np.linalg.norm(flat - flat[chosen[-1]], axis=1)
        # Another clip has other things lying about, and so tells more than the distance between poses.
        far = np.minimum(far, np.where(owner == owner[chosen[-1]], distance, 2 * distance + 0.02))
        following = int(np.argmax(far * worth))
        if far[following] <= 0:
            break
        chosen.append(following)
    return np.sort(np.array(chosen, dtype=np.intp))


@dataclass(frozen=True, eq=False)
class Changes:
    """Pairs of frames (P, 2) of one clip each, and how much every pixel changed between them: levels (P, h', w')
    uint8, 0 (not) to 3 (strongly)."""

    pairs: NDArray[np.intp]
    levels: NDArray[np.uint8]


def find_changes(evidence: Evidence, places: Array, most: int = 40) -> Changes:
    """Pairs of frames of one clip between which the robot moved well, with few pairs a frame.

    `places`: `link_places` of the evidence's frames. No pair where no clip has two frames.
    """
    flat = places.reshape(len(places), -1) / np.sqrt(places.shape[1])
    apart = np.linalg.norm(flat[:, None] - flat[None], axis=-1)
    apart[evidence.clip[:, None] != evidence.clip[None]] = 0
    upper = np.triu(apart, 1)
    used = np.zeros(len(flat))
    pairs: list[tuple[int, int]] = []
    # Motion of 15 cm shows as well as more of it does.
    worth = np.minimum(upper, 0.15)
    for _ in range(most):
        value = worth / (1 + used[:, None] + used[None])
        a, b = np.unravel_index(int(value.argmax()), value.shape)
        if value[a, b] <= 0:
            break
        pairs.append((int(a), int(b)))
        worth[a, b] = 0
        used[[a, b]] += 1
    index = np.array(pairs, dtype=np.intp).reshape(-1, 2)
    return Changes(index, change_levels(evidence.frames, index, evidence.searched))


def change_levels(frames: NDArray[np.uint8], pairs: NDArray[np.intp], size: tuple[int, int]) -> NDArray[np.uint8]:
    """How much pixels changed between pairs (P, 2) of frames (F, H, W, 3): (P, h, w) levels 0 to 3 at a smaller size.

    What differs by less than a shift of one pixel explains, or by a change of exposure, has not changed.
    """
    box = np.ones((3, 3), np.uint8)
    used = np.unique(pairs)
    low = {int(row): cv2.erode(frames[row], box).astype(np.int16) for row in used}
    high = {int(row): cv2.dilate(frames[row], box).astype(np.int16) for row in used}
    levels = np.zeros((len(pairs), size[1], size[0]), np.uint8)
    for number, (a, b) in enumerate(pairs.tolist()):
        first, second = frames[a].astype(np.int16), frames[b].astype(np.int16)
        shift = np.median((second - first)[::3, ::3], axis=(0, 1)).astype(np.int16)
        above = np.maximum(first + shift - high[b], second - shift - high[a])
        below = np.maximum(low[b] - first - shift, low[a] - second + shift)
        change = np.maximum(np.maximum(above, below), 0).max(-1).astype(np.float32)
        small = cv2.resize(change, size, interpolation=cv2.INTER_AREA)
        levels[number] = np.digitize(small, LEVELS)
    return levels
