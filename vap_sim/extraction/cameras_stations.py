"""Which recordings were taken by one camera that did not move in between: told by the scene behind, not by names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_SIZE = (320, 192)  # backgrounds are compared at about this size
_BLOCK, _SLACK = 32, 10  # [px] side of a compared block, and how far it is looked for
_TEXTURE = 6.0  # grey levels by which a block must vary to be told from others
_LIKE = 0.75  # correlation from which a block is found again
_STILL = 1.0  # [px] by which a block of a camera that stands still may seem to move
_FEWEST = 5


@dataclass(frozen=True)
class SceneMatch:
    """How two scenes compare: blocks with texture, those found at the same place, those found elsewhere."""

    blocks: int
    still: int
    moved: int

    @property
    def same_camera(self) -> bool:
        """Whether a third of the blocks and at least five are where they were, and few have moved.

        Things on the table and the robot change; a camera that was pushed moves everything that can be found again.
        """
        return self.still >= max(_FEWEST, self.blocks / 3) and self.moved <= 0.35 * self.still


def empty_scene(frames: NDArray[np.uint8], most: int = 40) -> NDArray[np.uint8]:
    """The median picture (192, 320) in grey of frames (T, H, W, 3): a scene whose moving things have faded."""
    step = max(1, len(frames) // most)
    small = [
        cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), _SIZE, interpolation=cv2.INTER_AREA) for f in frames[::step]
    ]
    return np.asarray(np.median(np.stack(small), axis=0), np.uint8)


def match_scenes(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> SceneMatch:
    """Compare two pictures of `empty_scene` block by block."""
    height, width = a.shape
    blocks = still = moved = 0
    for y in range(_SLACK, height - _BLOCK - _SLACK + 1, _BLOCK // 2):
        for x in range(_SLACK, width - _BLOCK - _SLACK + 1, _BLOCK // 2):
            block = a[y : y + _BLOCK, x : x + _BLOCK]
            if not _tells_places(block):
                continue
            blocks += 1
            around = b[y - _SLACK : y + _BLOCK + _SLACK, x - _SLACK : x + _BLOCK + _SLACK]
            found = cv2.matchTemplate(around, block, cv2.TM_CCOEFF_NORMED)
            row, column = np.unravel_index(int(found.argmax()), found.shape)
            if found[row, column] < _LIKE:
                continue
            away = np.hypot(row - _SLACK, column - _SLACK)
            still += int(away <= _STILL * 1.5)
            moved += int(away > _STILL * 1.5)
    return SceneMatch(blocks, still, moved)


def _tells_places(block: NDArray[np.uint8]) -> bool:
    """Whether a block varies along both axes: one with a single edge slides along it."""
    level = block.astype(np.float32)
    gx, gy = np.gradient(level, axis=1), np.gradient(level, axis=0)
    tensor = np.array([[(gx * gx).mean(), (gx * gy).mean()], [(gx * gy).mean(), (gy * gy).mean()]])
    return bool(level.std() > _TEXTURE and np.linalg.eigvalsh(tensor)[0] > 0.1 * _TEXTURE**2)


def group_scenes(scenes: Sequence[NDArray[np.uint8]]) -> tuple[tuple[int, ...], ...]:
    """Rows of scenes that one unmoved camera saw, in order of their first rows.

    A scene joins the group with whose first member it agrees best.
    """
    groups: list[list[int]] = []
    for row, scene in enumerate(scenes):
        matches = [match_scenes(scenes[group[0]], scene) for group in groups]
        fitting = [(match.still / max(match.blocks, 1), k) for k, match in enumerate(matches) if match.same_camera]
        if fitting:
            groups[max(fitting)[1]].append(row)
        else:
            groups.append([row])
    return tuple(tuple(group) for group in groups)
