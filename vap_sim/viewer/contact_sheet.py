"""A sheet of small pictures of recordings: a row an episode, and for every view its first, middle and last frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from vap_sim.data.episode import Episode, Footage
from vap_sim.errors import BadFile

TILE = 160
"""Width of a picture on the sheet [px]."""
_HEAD, _GAP = 18, 4
_COLUMN = 3 * TILE + 4 * _GAP
_INK, _PAPER = (230, 230, 230), (24, 24, 24)


@dataclass
class ContactSheet:
    """Rows of a sheet; `add` draws one more. Pictures are kept small, so that a sheet has the size of its rows."""

    rows: list[tuple[str, dict[str, tuple[np.ndarray, ...]]]] = field(default_factory=list)

    def add(self, episode: Episode) -> None:
        """One episode; a view that cannot be read stays empty."""
        tiles = {}
        for name, footage in episode.views.items():
            try:
                tiles[name] = tuple(_tile(picture) for picture in three_frames(footage))
            except BadFile:
                continue
        self.rows.append((f"{episode.name}: {episode.length} frames. {episode.instruction}", tiles))

    def draw(self) -> np.ndarray:
        """The sheet (H, W, 3) uint8 RGB; one dark pixel where it has no picture."""
        views = list(dict.fromkeys(view for _, tiles in self.rows for view in tiles))
        if not views:
            return np.full((1, 1, 3), _PAPER, np.uint8)
        width = len(views) * _COLUMN
        strips = [np.concatenate([_words(f"{view}: first, middle, last", _COLUMN) for view in views], axis=1)]
        for label, tiles in self.rows:
            strips += [_words(label, width), _row(tiles, views)]
        return np.concatenate(strips)


def three_frames(footage: Footage) -> tuple[np.ndarray, ...]:
    """First, middle and last picture. Raises BadFile."""
    numbers = (0, footage.length // 2, footage.length - 1)
    return tuple(next(iter(footage.frames(number, number + 1))) for number in numbers if number >= 0)


def _tile(picture: np.ndarray) -> np.ndarray:
    height = max(1, round(TILE * picture.shape[0] / picture.shape[1]))
    small = cv2.resize(picture, (TILE, min(height, 4 * TILE)), interpolation=cv2.INTER_AREA)
    return np.asarray(small)


def _row(tiles: Mapping[str, tuple[np.ndarray, ...]], views: Sequence[str]) -> np.ndarray:
    height = max((tile.shape[0] for three in tiles.values() for tile in three), default=_HEAD)
    row = np.full((height + _GAP, len(views) * _COLUMN, 3), _PAPER, np.uint8)
    for column, view in enumerate(views):
        for place, tile in enumerate(tiles.get(view, ())):
            left = column * _COLUMN + _GAP + place * (TILE + _GAP)
            row[: tile.shape[0], left : left + TILE] = tile
    return row


def _words(text: str, width: int) -> np.ndarray:
    strip = np.full((_HEAD, width, 3), _PAPER, np.uint8)
    # The font knows ASCII only.
    shown = text.encode("ascii", "replace").decode()
    cv2.putText(strip, shown, (_GAP, _HEAD - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.4, _INK, 1, cv2.LINE_AA)
    return strip
