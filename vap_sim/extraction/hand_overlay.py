"""Pictures to judge hands by: the skeletons over the video with what became of each hand, and a sheet of frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput
from vap_sim.extraction.hand_cleaning import HandFate
from vap_sim.extraction.hand_detection import Picture
from vap_sim.extraction.hand_space import ROBOT
from vap_sim.extraction.hands import HandMotion
from vap_sim.robots.library import load_robot

_STATE_COLORS = {"kept": (90, 220, 90), "filled": (255, 200, 60), "dropped": (255, 90, 70), "absent": (150, 150, 150)}
_WIDEST = 960
_TEXT = cv2.FONT_HERSHEY_SIMPLEX
_SUBPIXEL = 4


def overlay_size(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of overlays of a video of `size`: at most 960 wide, even."""
    share = min(_WIDEST / size[0], 1.0)
    width, height = (max(2 * round(length * share / 2), 2) for length in size)
    return width, height


def overlays(frames: Iterable[Picture], motion: HandMotion) -> Iterator[Picture]:
    """Each frame at `overlay_size` with the skeletons that were kept or filled, and a line a hand that says why."""
    points = motion.points()
    for number, picture in enumerate(frames):
        if number >= len(points):
            raise InvalidInput("frames of an overlay", f"more than {len(points)}", f"the {len(points)} of the motion")
        fates = [side.fates[number] for side in motion.sides]
        yield draw_overlay(picture, points[number], fates, number)


def draw_overlay(picture: Picture, points: NDArray[np.float64], fates: Sequence[HandFate], number: int) -> Picture:
    """One frame (H, W, 3) with hands at points (2, 21, 2) [px], not a number where there is none."""
    size = overlay_size((picture.shape[1], picture.shape[0]))
    shown = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    scale = np.array(size) / (picture.shape[1], picture.shape[0])
    bones = load_robot(ROBOT).skeleton
    places = ((points + 0.5) * scale - 0.5).reshape(-1, 2)
    index = {point.name: at for at, point in enumerate(bones.points)}
    for bone in bones.bones:
        ends = places[[index[bone.start], index[bone.end]]]
        if np.isfinite(ends).all() and np.abs(ends).max() < 8 * max(size):
            start, end = np.rint(ends * (1 << _SUBPIXEL)).astype(int).tolist()
            cv2.line(shown, start, end, bone.color, max(size[1] // 270, 1), cv2.LINE_AA, _SUBPIXEL)
            cv2.circle(shown, end, round(size[1] / 240 * (1 << _SUBPIXEL)), (255, 255, 255), -1, cv2.LINE_AA, _SUBPIXEL)
    _write(shown, f"frame {number}", 0, (255, 255, 255))
    for line, (side, fate) in enumerate(zip(("left", "right"), fates, strict=True), start=1):
        _write(shown, f"{side} {fate.state}: {fate.reason}", line, _STATE_COLORS[fate.state])
    return shown


def _write(picture: Picture, text: str, line: int, color: tuple[int, int, int]) -> None:
    scale = picture.shape[1] / 1600
    top, height = round(40 * line * scale), round(40 * scale)
    (width, _), _ = cv2.getTextSize(text, _TEXT, scale, 1)
    # Darkened rather than outlined: a video is as likely to be bright as dark.
    picture[top : top + height, : width + round(24 * scale)] //= 3
    cv2.putText(picture, text, (round(12 * scale), top + round(29 * scale)), _TEXT, scale, color, 1, cv2.LINE_AA)


def sheet_frames(length: int, count: int = 20) -> list[int]:
    """Numbers of the frames that a sheet shows: at most `count`, evenly from the first to the last."""
    return sorted({round(number) for number in np.linspace(0, length - 1, min(count, length))})


def contact_sheet(pictures: Sequence[Picture], columns: int = 4, width: int = 480) -> Picture:
    """Pictures of one size in rows (H, W, 3), each `width` pixels wide."""
    if not pictures:
        raise InvalidInput("contact sheet", "no pictures", "at least one")
    height = round(pictures[0].shape[0] * width / pictures[0].shape[1])
    tiles = [cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA) for picture in pictures]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % columns)
    rows = [np.concatenate(tiles[at : at + columns], axis=1) for at in range(0, len(tiles), columns)]
    return np.concatenate(rows)
