"""What became of each object: is it still there after it was hidden, and did contact bring it where it should be?

All of it is judged in the picture: by the centre of an object's visible pixels, against its own width in pixels, or,
for plates and drawers, against less. Cameras may move: every frame is judged as its own camera saw it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]

HIDDEN, UNCOVERED = 0.2, 0.5
"""An object is hidden below the one visible share of its pixels, and uncovered from the other on."""
SHORTEST, LONGEST = 2, 10
"""Frames that an object must be hidden to count."""
UNTOUCHED, MOVED, CARRIED = 0.005, 0.03, 0.04
"""Metres: an object is untouched below the first, moved above the second, and was carried if lifted above the third."""
LEAST_PIXELS = 12
"""With fewer pixels in the picture an object counts as out of it."""
LEAST_FOUND = 0.25
"""Less than this share of the pixels that the truth shows counts as a lost object."""
YARD = 0.06
"""Metres: about the width of what stands on a table. Plates and drawers are judged by it, because their own width is
more than they are moved by."""


@dataclass(frozen=True)
class Return:
    """Object `index` was hidden by the robot in frames `first` to `last` and uncovered, untouched, in frame `again`."""

    index: int
    first: int
    last: int
    again: int


@dataclass(frozen=True)
class Move:
    """Object `index` was moved by `distance` [m] until `frame`, the last in which it can be seen."""

    index: int
    frame: int
    distance: float
    carried: bool


def amodal_masks(*, labels: NDArray[np.uint8], layer: NDArray[np.uint8], count: int) -> Bools:
    """Where each object would be seen without the robot: bool (K, T + 1, H, W), K = `count`.

    labels: (T + 1, H, W), 2 + k where object k is seen; layer: (T + 1, H, W, 4) premultiplied rgba of the objects
    alone. What the robot hides goes to the object of the nearest hue: light changes the brightness of a face, not its
    hue. An object that is never seen keeps an empty mask. Raises InvalidInput for shapes that disagree.
    """
    if labels.ndim != 3 or layer.shape != (*labels.shape, 4):
        raise InvalidInput(
            "labels and layer", f"{labels.shape} and {layer.shape}", "(T + 1, H, W) and (T + 1, H, W, 4)"
        )
    masks: Bools = (
        np.stack([labels == 2 + k for k in range(count)]) if count else np.zeros((0, *labels.shape), np.bool_)
    )
    hues = {k: _hue(layer[mask][:, :3].astype(np.float64).sum(0)) for k, mask in enumerate(masks) if mask.any()}
    hidden = (layer[..., 3] >= 128) & (labels < 2)
    if hues and hidden.any():
        pixels = _hue(layer[hidden][:, :3].astype(np.float64))
        nearest = np.stack([np.square(pixels - hue).sum(-1) for hue in hues.values()]).argmin(0)
        for place, k in enumerate(hues):
            masks[k][hidden] = nearest == place
    return masks


def visible_shares(*, labels: NDArray[np.uint8], amodal: Bools) -> Floats:
    """Visible share (K, T + 1) of each object's pixels; NaN where fewer than LEAST_PIXELS are in the picture."""
    size = amodal.sum((-2, -1))
    seen = np.stack([(labels == 2 + k).sum((-2, -1)) for k in range(len(amodal))]) if len(amodal) else size
    return np.where(size >= LEAST_PIXELS, seen / np.maximum(size, 1), np.nan)


def returns(*, shares: Floats, positions: Floats) -> tuple[Return, ...]:
    """All times an object was hidden for 2 to 10 frames and came back, untouched.

    shares: (K, T + 1) of `visible_shares`; positions: (T + 1, K, 3) [m]. Only objects uncovered in frame 0 count,
    because nobody can remember what was never shown; so do only returns before the object is hidden again or leaves.
    """
    _check(shares, positions)
    found: list[Return] = []
    for k, row in enumerate(shares):
        if not row[0] >= UNCOVERED:
            continue
        first: int | None = None
        for frame in range(1, len(row)):
            if np.isnan(row[frame]):
                first = None
            elif row[frame] < HIDDEN:
                if row[frame - 1] >= HIDDEN:  # never true of one that comes back into the picture already hidden
                    first = frame
            elif first is not None and row[frame] >= UNCOVERED:
                last = first + int(np.argmax(row[first:] >= HIDDEN)) - 1
                path = positions[first - 1 : frame + 1, k] - positions[first - 1, k]
                if SHORTEST <= last - first + 1 <= LONGEST and np.linalg.norm(path, axis=-1).max() < UNTOUCHED:
                    found.append(Return(k, first, last, frame))
                first = None
    return tuple(found)


def moves(*, shares: Floats, positions: Floats) -> tuple[Move, ...]:
    """Objects that lie elsewhere, by more than MOVED, when they are last uncovered. Arguments as in `returns`."""
    _check(shares, positions)
    found: list[Move] = []
    for k, row in enumerate(shares):
        uncovered = np.flatnonzero(row >= UNCOVERED)
        if len(uncovered) == 0 or uncovered[0] != 0:
            continue
        frame = int(uncovered[-1])
        path = positions[: frame + 1, k]
        distance = float(np.linalg.norm(path[-1] - path[0]))
        if distance > MOVED:
            found.append(Move(k, frame, distance, bool((path[:, 2] - path[0, 2]).max() > CARRIED)))
    return tuple(found)


def yardsticks(scene: Mapping[str, Any]) -> tuple[float, ...]:
    """The share of its own width by which each thing of a scene's record is judged, objects first, then drawers: 1, but
    for plates and drawers that of YARD."""
    wide = [float(item["size"][0]) if item["shape"] == "plate" else None for item in scene["objects"]]
    wide += [float(cabinet["size"][1]) for cabinet in scene.get("cabinets", ())]
    return tuple(1.0 if width is None else min(1.0, YARD / width) for width in wide)


def offset_in_widths(*, generated: Bools, truth: Bools, amodal: Bools, yardstick: float = 1.0) -> float | None:
    """Distance between the centres of an object's pixels in two pictures (H, W), in widths of the object.

    The width is the number of columns that its `amodal` mask spans; `yardstick` is the share of it to measure in. None
    where the generated picture has lost it, that is, shows less than LEAST_FOUND of the pixels in truth. Raises
    InvalidInput where the truth does not show it, and for a yardstick that is not above 0.
    """
    if not yardstick > 0:
        raise InvalidInput("yardstick", yardstick, "a share above 0")
    if not truth.any() or not amodal.any():
        raise InvalidInput("truth", "an empty mask", "a frame in which the object can be seen")
    if generated.sum() < LEAST_FOUND * truth.sum():
        return None
    columns = np.flatnonzero(amodal.any(0))
    width = yardstick * float(columns[-1] - columns[0] + 1)
    return float(np.linalg.norm(_centre(generated) - _centre(truth))) / width


def _centre(mask: Bools) -> Floats:
    return np.asarray(np.argwhere(mask).mean(0))


def _hue(rgb: Floats) -> Floats:
    return np.asarray(rgb / np.maximum(rgb.sum(-1, keepdims=True), 1e-9))


def _check(shares: Floats, positions: Floats) -> None:
    if shares.ndim != 2 or positions.shape != (shares.shape[1], shares.shape[0], 3):
        given = f"{shares.shape} and {positions.shape}"
        raise InvalidInput("shares and positions", given, "(K, T + 1) and (T + 1, K, 3)")
