"""One recorded episode of any format: what cameras saw, how the robot stood, what it was told to do.

Readers fill in what their format states and leave the rest None: a field is never guessed, and what a reader had to
decide stands in `notes`. Pictures stay in their files until they are asked for, so that a dataset of any size takes the
memory of a few frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import BadFile, UnknownName
from vap_sim.robots.camera import Camera

Array = NDArray[np.float64]
_ROWS = {"joints": 2, "gripper": 1, "tool": 3, "joint_targets": 2, "actions": 2}
"""Axes of the members that have one row a frame."""


class Footage(Protocol):
    """What one camera saw, decoded when it is asked for."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) [px]."""
        ...

    @property
    def length(self) -> int:
        """Number of frames. Raises BadFile."""
        ...

    def frames(self, first: int = 0, last: int | None = None) -> Iterator[np.ndarray]:
        """Pictures (H, W, 3) uint8 RGB from `first` to before `last`, in order. Raises BadFile naming the frame."""
        ...


@dataclass(frozen=True, eq=False)
class Episode:
    """A recording of T frames; row t of every member belongs to frame t of every view.

    name: unique in its dataset; source: the file or folder it came from; frame_rate [Hz]; instruction: "" for none.
    robot: name of a ready robot where the format or the caller fixes it; joints (T, J) [rad or m]: measured, without
    the gripper; gripper (T,) in [0, 1], 0 open and 1 closed: measured; tool (T, 4, 4): pose of `tool_link` in the base
    frame as logged [m]; joint_targets (T, J): commanded after frame t; actions (T, A): as logged, in whatever units
    `action_names` and the notes state; cameras: by view, where known; success: as logged, None where not.

    Raises BadFile, naming the field, for members of other lengths or axes, numbers that are not finite and a gripper
    outside its range.
    """

    name: str
    source: Path
    views: Mapping[str, Footage]
    length: int
    frame_rate: float
    instruction: str = ""
    robot: str | None = None
    joints: Array | None = None
    gripper: Array | None = None
    tool: Array | None = None
    tool_link: str | None = None
    joint_targets: Array | None = None
    actions: Array | None = None
    action_names: tuple[str, ...] = ()
    cameras: Mapping[str, Camera] = field(default_factory=dict)
    success: bool | None = None
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.length < 1:
            raise BadFile(self.source, f"episode {self.name!r} has no frames")
        if not 0.01 <= self.frame_rate <= 1000:
            raise BadFile(self.source, f"episode {self.name!r}: frame rate {self.frame_rate}, expected 0.01 to 1000 Hz")
        for member, axes in _ROWS.items():
            self._check(member, axes)
        if self.tool is not None and self.tool.shape[1:] != (4, 4):
            self._refuse("tool", f"shape {self.tool.shape}, expected ({self.length}, 4, 4)")
        if self.gripper is not None and (self.gripper.min() < 0 or self.gripper.max() > 1):
            span = f"{self.gripper.min():.3g} to {self.gripper.max():.3g}"
            self._refuse("gripper", f"values {span}, expected 0 (open) to 1 (closed)")

    def _check(self, member: str, axes: int) -> None:
        values = getattr(self, member)
        if values is None:
            return
        if values.ndim != axes or len(values) != self.length:
            self._refuse(member, f"shape {values.shape}, expected {axes} axes and {self.length} rows")
        bad = np.flatnonzero(~np.isfinite(values.reshape(self.length, -1)).all(1))
        if len(bad):
            self._refuse(member, f"frame {bad[0]} holds a number that is not finite")

    def _refuse(self, member: str, problem: str) -> None:
        raise BadFile(self.source, f"episode {self.name!r}, field {member!r}: {problem}")

    def view(self, name: str) -> Footage:
        """One camera's pictures. Raises UnknownName."""
        if name not in self.views:
            raise UnknownName(f"view of episode {self.name!r}", name, self.views)
        return self.views[name]
