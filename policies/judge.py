"""Judges: is the task done? Yes, no, or cannot tell, from what every dream and every robot station can show.

A judge sees pictures, joints, cameras and the task in words, never the state of a simulator. It is batched and has no
memory. What cannot be judged is never a number: it is the verdict "cannot tell" with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vap_sim.errors import InvalidInput
from vap_sim.robots.camera import Camera

Pictures = NDArray[np.uint8]

LATEST_PICTURES = 2
"""How many of an episode's latest pictures are shown to its judge besides the first."""


@dataclass(frozen=True)
class Verdict:
    """One answer. `answer`: True (yes), False (no) or None (cannot tell); `probability` that the task is done, None
    where it was not computed; `reason`: why it cannot tell, or what the answer rests on. Raises InvalidInput."""

    answer: bool | None
    probability: float | None = None
    reason: str = ""

    def __post_init__(self) -> None:
        if self.answer is not None and not isinstance(self.answer, bool):
            raise InvalidInput("answer of a verdict", self.answer, "True, False or None")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise InvalidInput("probability of a verdict", self.probability, "a number from 0 to 1, or None")
        if self.answer is None and not self.reason:
            raise InvalidInput("verdict 'cannot tell'", "no reason", "a reason")

    def __bool__(self) -> bool:
        # `if verdict:` would quietly take "cannot tell" for "no".
        raise TypeError("a verdict has three values: ask for .yes, .no or .cannot_tell")

    @property
    def yes(self) -> bool:
        """The task is done."""
        return self.answer is True

    @property
    def no(self) -> bool:
        """The task is not done."""
        return self.answer is False

    @property
    def cannot_tell(self) -> bool:
        """Neither can be said."""
        return self.answer is None

    @property
    def word(self) -> str:
        """The answer in words: yes, no, cannot tell."""
        return {True: "yes", False: "no", None: "cannot tell"}[self.answer]


def likelier(before: Verdict, now: Verdict) -> Verdict:
    """What is known of an episode after another judgement. A task counts as done if it ever was, so short of a yes the
    moment counts at which it most likely was; the latest, where a judge gives no probabilities."""
    if now.yes or before.yes or before.probability is None or now.probability is None:
        return now
    return now if now.probability >= before.probability else before


@dataclass(frozen=True, eq=False)
class Evidence:
    """What b episodes show at one moment each.

    first: (b, H, W, 3) uint8 RGB, the picture in which each began; last: (b, n, H, W, 3) uint8, the latest n >= 1
    pictures, oldest first, one control interval (0.2 s) apart; joints: (b, J) [rad or m], nominal, gripper included;
    cameras: b of that size; tasks, instructions: b names ("push") and texts ("push the red cube onto the disc").
    Raises InvalidInput where parts disagree and for joints that are not finite.
    """

    first: Pictures
    last: Pictures
    joints: NDArray[np.floating]
    cameras: tuple[Camera, ...]
    tasks: tuple[str, ...]
    instructions: tuple[str, ...]

    def __post_init__(self) -> None:
        first, last, rows = self.first, self.last, len(self.tasks)
        for name, pictures, axes in (("first", first, 4), ("last", last, 5)):
            right = isinstance(pictures, np.ndarray) and pictures.dtype == np.uint8 and pictures.ndim == axes
            if not right or pictures.shape[-1] != 3 or 0 in pictures.shape[1:]:
                given = f"{getattr(pictures, 'dtype', type(pictures).__name__)} {np.shape(pictures)}"
                expected = "(b, H, W, 3)" if axes == 4 else "(b, n, H, W, 3), n at least 1"
                raise InvalidInput(f"pictures {name!r} for a judge", given, f"a numpy array of uint8 {expected}")
        if first.shape[1:] != last.shape[2:]:
            raise InvalidInput("last pictures for a judge", last.shape, f"pictures of {first.shape[1:]}, as the first")
        joints = np.asarray(self.joints)
        if joints.ndim != 2 or joints.dtype.kind != "f" or not np.isfinite(joints).all():
            raise InvalidInput(
                "joints for a judge", f"{joints.dtype} {joints.shape}", "finite floats (b, J) [rad or m]"
            )
        counts = (len(first), len(last), len(joints), len(self.cameras), rows, len(self.instructions))
        if set(counts) != {rows}:
            expected = f"{rows} each of first, last, joints, cameras, tasks and instructions"
            raise InvalidInput("rows for a judge", counts, expected)
        for camera in self.cameras:
            if tuple(camera.size) != first.shape[2:0:-1] or camera.intrinsics.ndim != 2:
                given = f"{camera.size}, axes {tuple(camera.intrinsics.shape[:-2])}"
                expected = f"a single camera of pictures {first.shape[2:0:-1]}"
                raise InvalidInput(f"size of camera {camera.name!r} for a judge", given, expected)

    def __len__(self) -> int:
        """The number of episodes b."""
        return len(self.tasks)

    def rows(self, rows: Sequence[int]) -> Evidence:
        """The chosen episodes, in the order given."""
        chosen = list(rows)
        return Evidence(
            self.first[chosen],
            self.last[chosen],
            self.joints[chosen],
            tuple(self.cameras[row] for row in chosen),
            tuple(self.tasks[row] for row in chosen),
            tuple(self.instructions[row] for row in chosen),
        )


class Judge(Protocol):
    """Who says whether a task is done. Row i of a batch is judged as it would be alone."""

    def judge(self, evidence: Evidence) -> tuple[Verdict, ...]:
        """One verdict an episode. Raises InvalidInput for evidence that the judge cannot read at all."""
        ...


@dataclass(frozen=True, eq=False)
class CallableJudge:
    """A judge made of your own function of (first (H, W, 3), last (n, H, W, 3), joints (J,), instruction).

    It returns a Verdict, a bool, or None for "cannot tell". Anything else, a number included, raises InvalidInput: what
    0.3 would mean nobody knows.
    """

    function: Callable[[Pictures, Pictures, NDArray[np.floating], str], Verdict | bool | None]

    def judge(self, evidence: Evidence) -> tuple[Verdict, ...]:
        """One verdict an episode; what the function raises is not caught."""
        rows = zip(evidence.first, evidence.last, evidence.joints, evidence.instructions, strict=True)
        return tuple(_as_verdict(self.function(*row)) for row in rows)


@dataclass(frozen=True, eq=False)
class GoalImageJudge:
    """Compares the latest picture with a picture of the goal (H, W, 3) uint8: done where they are alike.

    The distance is the mean over the picture of the largest colour difference in each pixel, 0 to 1, after a blur of
    `blur` pixels: yes below `near`, no above `far`, and between them it cannot tell. Raises InvalidInput.
    """

    goal: Pictures
    near: float = 0.01
    far: float = 0.02
    blur: float = 1.0

    def __post_init__(self) -> None:
        if self.goal.dtype != np.uint8 or self.goal.ndim != 3 or self.goal.shape[-1] != 3:
            raise InvalidInput("goal picture", f"{self.goal.dtype} {self.goal.shape}", "uint8 (H, W, 3)")
        if not 0 <= self.near <= self.far or not 0 < self.blur < 100:
            given = f"near {self.near}, far {self.far}, blur {self.blur}"
            raise InvalidInput("bounds of a goal picture", given, "0 <= near <= far, and a blur of more than 0")

    def distance(self, pictures: Pictures) -> NDArray[np.float64]:
        """How far pictures (b, H, W, 3) are from the goal, (b,) in [0, 1]."""
        import cv2

        if pictures.shape[1:] != self.goal.shape:
            raise InvalidInput("pictures for a goal picture", pictures.shape, f"(b, *{self.goal.shape})")
        soft = [cv2.GaussianBlur(picture.astype(np.float32), (0, 0), self.blur) for picture in (self.goal, *pictures)]
        return np.array([float(np.abs(picture - soft[0]).max(-1).mean()) / 255 for picture in soft[1:]])

    def judge(self, evidence: Evidence) -> tuple[Verdict, ...]:
        """Yes, no or cannot tell by the distance of the latest picture."""
        return tuple(self._verdict(float(value)) for value in self.distance(evidence.last[:, -1]))

    def _verdict(self, distance: float) -> Verdict:
        answer = True if distance < self.near else False if distance > self.far else None
        return Verdict(answer, None, f"distance {distance:.4f} from the goal picture; {self.near} near, {self.far} far")


def single(
    first: ArrayLike, last: ArrayLike, joints: ArrayLike, camera: Camera, task: str, instruction: str
) -> Evidence:
    """The evidence of one episode: first (H, W, 3), last (n, H, W, 3), joints (J,)."""
    return Evidence(
        np.asarray(first)[None],
        np.asarray(last)[None],
        np.asarray(joints, np.float64)[None],
        (camera,),
        (task,),
        (instruction,),
    )


def _as_verdict(value: object) -> Verdict:
    if isinstance(value, Verdict):
        return value
    if value is None:
        return Verdict(None, None, "the function returned None")
    if isinstance(value, bool | np.bool_):
        return Verdict(bool(value))
    raise InvalidInput("verdict of a judging function", repr(value), "a Verdict, True, False or None")
