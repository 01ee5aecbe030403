"""Numbers as files log them, made into members of an episode: tables of a settled width, poses, gripper openings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]

from vap_sim.data.episode import Array, Footage
from vap_sim.errors import BadFile

SLACK = 0.05
"""How far a gripper's position may lie outside of 0 to 1: its sensor's zero and full are set by hand."""


@dataclass(frozen=True)
class Log:
    """Where numbers were read from, for errors: the file, and the episode's name."""

    path: Path
    episode: str

    def refuse(self, field: str, problem: str) -> NoReturn:
        """Raise BadFile naming file, episode and field."""
        raise BadFile(self.path, f"episode {self.episode!r}, field {field!r}: {problem}")

    def table(self, values: Any, field: str, width: int, rows: int | None = None) -> Array:
        """Numbers as an array (T, width) float64; a list of T numbers is a table of width 1.

        Raises BadFile for what is no table of finite numbers of that width and, where `rows` is given, of T rows.
        """
        try:
            array = np.asarray(values)
        except (TypeError, ValueError) as error:
            self.refuse(field, f"is no table of numbers ({error})")
        if array.dtype.kind not in "fiu":
            self.refuse(field, f"holds {array.dtype}, expected numbers")
        array = array.astype(np.float64)
        if array.ndim == 1 and width == 1:
            array = array[:, None]
        expected = f"({'T' if rows is None else rows}, {width})"
        if array.ndim != 2 or array.shape[1] != width or (rows is not None and len(array) != rows):
            self.refuse(field, f"has shape {array.shape}, expected {expected}")
        bad = np.flatnonzero(~np.isfinite(array).all(1))
        if len(bad):
            self.refuse(field, f"row {bad[0]} holds a number that is not finite")
        return array

    def gripper(self, values: Array, field: str, slack: float = SLACK) -> tuple[Array, tuple[str, ...]]:
        """Positions (T,), 0 open and 1 closed, within 0 and 1; and a note where they had to be moved there.

        Raises BadFile for positions further than `slack` outside.
        """
        low, high = float(values.min()), float(values.max())
        if low < -slack or high > 1 + slack:
            self.refuse(field, f"has values {low:.3g} to {high:.3g}, expected 0 (open) to 1 (closed)")
        inside = np.clip(values, 0.0, 1.0)
        note = "gripper positions below 0 or above 1 were moved to it"
        return inside, (note,) if low < 0 or high > 1 else ()

    def same_length(self, views: Mapping[str, Footage], rows: int) -> None:
        """Raise BadFile for the first view that has not as many frames as the log has rows."""
        for name, footage in views.items():
            if footage.length != rows:
                self.refuse(name, f"its video has {footage.length} frames, the log {rows} rows")


def poses_from_euler(rows: Array) -> Array:
    """Poses (T, 4, 4) from rows x y z [m], roll pitch yaw [rad, extrinsic x y z]: turned about x first, z last."""
    poses = np.tile(np.eye(4), (len(rows), 1, 1))
    poses[:, :3, :3] = Rotation.from_euler("xyz", rows[:, 3:6]).as_matrix()
    poses[:, :3, 3] = rows[:, :3]
    return poses
