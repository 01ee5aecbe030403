"""The software renderer: triangles into a z-buffer of fine samples, many pictures at once, in numpy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vap_sim.prompts.projection import Bools, Floats
from vap_sim.prompts.surface import Doubles, SeenSurface, Surface

_SAMPLES_AT_ONCE = 1 << 20
_FRAGMENTS_AT_ONCE = 1 << 19
_NONE = np.uint64(0)


@dataclass(frozen=True, eq=False)
class _Spans:
    """R runs of samples along lines, each of one triangle."""

    lengths: NDArray[np.intp]
    begin: NDArray[np.intp]  # the column of the first sample
    near: Floats  # 1 / z at the first sample
    slope: Floats  # what 1 / z grows by from sample to sample
    place: NDArray[np.intp]  # what picture and line add to a sample's place
    label: NDArray[np.uint64]

    def part(self, rows: slice) -> _Spans:
        """Some of the runs."""
        first, second = (self.lengths[rows], self.begin[rows]), (self.near[rows], self.slope[rows])
        return _Spans(*first, *second, self.place[rows], self.label[rows])


def rasterize(
    surface: Surface, seen: SeenSurface, size: tuple[int, int], samples: int, z_near: float
) -> tuple[NDArray[np.uint8], Floats]:
    """Colours (n, H, W, 3) averaged over samples x samples a pixel, and depth (n, H, W) [m] at the pixels' centres.

    `samples` is odd. The depth is infinite where nothing is seen; surfaces nearer than `z_near` metres are cut off.
    """
    width, height = size
    count = len(seen.rays)
    rgb = np.zeros((count, height, width, 3), dtype=np.uint8)
    depth = np.full((count, height, width), np.inf, dtype=np.float32)
    step = max(1, _SAMPLES_AT_ONCE // (width * height * samples * samples))
    for first in range(0, count, step):
        rows = slice(first, first + step)
        corners, owner, label = _triangles(surface, seen.rays[rows], seen.facing[rows], z_near)
        corners[..., :2] = corners[..., :2] * samples + 0.5 * (samples - 1)
        keys = _nearest(corners, owner, label, len(seen.rays[rows]), size, samples)
        _resolve(keys, seen.colors[rows], rgb[rows].reshape(-1, 3), depth[rows].reshape(-1))
    return rgb, depth


def _triangles(
    surface: Surface, rays: Floats, facing: Bools, z_near: float
) -> tuple[Doubles, NDArray[np.intp], NDArray[np.int64]]:
    """What can be seen: corners (M, 3, 3) as x, y [px] and 1 / z [1/m], the picture and the triangle of each."""
    behind = rays[..., 2] < z_near
    cut_parts = np.logical_or.reduceat(behind, surface.first_corners, axis=1)
    # Where the near plane opens a closed part, its inside comes into view.
    keep = facing | ~surface.closed | cut_parts[:, surface.part]
    picture, triangle = np.nonzero(keep)
    corners = rays[picture[:, None], surface.triangles[triangle]].astype(np.float64)
    if not behind.any():
        return _divided(corners), picture, triangle
    inside = corners[..., 2] >= z_near
    whole, some = inside.all(-1), inside.any(-1)
    partly = some & ~whole
    pieces, source = _cut(corners[partly], inside[partly], z_near)
    chosen = np.concatenate([np.flatnonzero(whole), np.flatnonzero(partly)[source]])
    return _divided(np.concatenate([corners[whole], pieces])), picture[chosen], triangle[chosen]


def _divided(rays: Doubles) -> Doubles:
    near = 1 / rays[..., 2:]
    return np.concatenate([rays[..., :2] * near, near], axis=-1)


def _cut(corners: Doubles, inside: Bools, z_near: float) -> tuple[Doubles, NDArray[np.intp]]:
    """What is in front of the near plane of triangles (M, 3, 3) that cross it, and which triangle each piece is of.

    A triangle is turned until its lonely corner, the only one before or behind the plane, comes first.
    """
    single = inside.sum(-1) == 1
    lonely = np.where(single, inside.argmax(-1), (~inside).argmax(-1))
    order = (lonely[:, None] + np.arange(3)) % 3
    a, b, c = np.moveaxis(np.take_along_axis(corners, order[..., None], axis=1), 1, 0)
    on_ab, on_ac = (a + (z_near - a[:, 2:]) / (other[:, 2:] - a[:, 2:]) * (other - a) for other in (b, c))
    on_ab[:, 2], on_ac[:, 2] = z_near, z_near
    tip = np.stack([a, on_ab, on_ac], axis=1)[single]
    rest = [np.stack(piece, axis=1)[~single] for piece in ((on_ab, b, c), (on_ab, c, on_ac))]
    one, two = np.flatnonzero(single), np.flatnonzero(~single)
    return np.concatenate([tip, *rest]), np.concatenate([one, two, two])


def _nearest(
    corners: Doubles,
    owner: NDArray[np.intp],
    label: NDArray[np.int64],
    count: int,
    size: tuple[int, int],
    samples: int,
) -> NDArray[np.uint64]:
    """Keys (count * H * W, samples ** 2) of the nearest triangle at every sample, 0 for none.

    A key holds 1 / z as float bits above and the triangle's number plus one below: bits of positive floats are ordered
    like the floats, so the largest key is the nearest triangle, and equally near ones are decided by their number.
    """
    width, height = size
    fine_width, fine_height, per_pixel = width * samples, height * samples, samples * samples
    # Samples of one pixel lie next to each other in memory: a column and a row each say their share of the place.
    x, y = np.arange(fine_width), np.arange(fine_height)
    column_place = x // samples * per_pixel + x % samples
    row_place = y // samples * (width * per_pixel) + y % samples * samples
    keys = np.zeros(count * height * width * per_pixel, dtype=np.uint64)

    order = corners[..., 1].argsort(axis=1)
    top, middle, bottom = np.moveaxis(np.take_along_axis(corners, order[..., None], axis=1), 1, 0)
    first, last = (np.clip(np.ceil(end[:, 1]), 0, fine_height).astype(np.intp) for end in (top, bottom))
    rows = last - first
    seen = (rows > 0) & (corners[..., 0].max(-1) > 0) & (corners[..., 0].min(-1) < fine_width)
    chosen = np.flatnonzero(seen)
    rows, first = rows[chosen], first[chosen]
    span = np.repeat(chosen, rows)
    line = np.arange(len(span)) - np.repeat(np.cumsum(rows) - rows - first, rows)
    # Where a line crosses an edge is always reckoned from its upper to its lower end, so that two triangles with a
    # common edge agree on it to the last bit: no sample is lost and none is counted twice.
    upper = line < middle[span, 1]
    start = np.where(upper[:, None], top[span], middle[span])
    end = np.where(upper[:, None], middle[span], bottom[span])
    short, long = _crossing(start, end, line), _crossing(top[span], bottom[span], line)
    swap = (short[:, 0] > long[:, 0])[:, None]
    left, right = np.where(swap, long, short), np.where(swap, short, long)
    begin, stop = (np.clip(np.ceil(side[:, 0]), 0, fine_width).astype(np.intp) for side in (left, right))
    lengths = stop - begin
    slope = (right[:, 1] - left[:, 1]) / np.where(lengths > 0, right[:, 0] - left[:, 0], 1)
    near = left[:, 1] + (begin - left[:, 0]) * slope
    place = owner[span] * (height * width * per_pixel) + row_place[line]
    number = label[span].astype(np.uint64) + np.uint64(1)
    spans = _Spans(lengths, begin, near.astype(np.float32), slope.astype(np.float32), place, number)
    for rows_at_once in _slices(lengths):
        _fill(keys, column_place, spans.part(rows_at_once))
    return keys.reshape(-1, per_pixel)


def _crossing(start: Doubles, end: Doubles, line: NDArray[np.intp]) -> Doubles:
    """x and 1 / z (R, 2) where edges (R, 3) from upper to lower ends cross lines (R,)."""
    drop = end[:, 1] - start[:, 1]
    share = (line - start[:, 1]) / np.where(drop > 0, drop, 1)
    crossing: Doubles = start[:, ::2] + share[:, None] * (end[:, ::2] - start[:, ::2])
    return crossing


def _slices(lengths: NDArray[np.intp]) -> list[slice]:
    """Cuts of the list of spans with about as many fragments each."""
    total = np.cumsum(lengths)
    if len(total) == 0 or total[-1] == 0:
        return []
    cuts = np.searchsorted(total, np.arange(_FRAGMENTS_AT_ONCE, int(total[-1]), _FRAGMENTS_AT_ONCE)).tolist()
    ends = [0, *cuts, len(lengths)]
    return [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True) if b > a]


def _fill(keys: NDArray[np.uint64], column_place: NDArray[np.intp], spans: _Spans) -> None:
    """Put samples into `keys` where they are nearer than what is there."""
    lengths = spans.lengths
    along = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    where = column_place[np.repeat(spans.begin, lengths) + along] + np.repeat(spans.place, lengths)
    near = np.repeat(spans.near, lengths) + np.repeat(spans.slope, lengths) * along.astype(np.float32)
    bits = near.view(np.uint32).astype(np.uint64)
    np.maximum.at(keys, where, (bits << np.uint64(32)) | np.repeat(spans.label, lengths))


def _resolve(keys: NDArray[np.uint64], colors: NDArray[np.uint8], rgb: NDArray[np.uint8], depth: Floats) -> None:
    """Write colours and depth of the pixels that show something."""
    per_pixel = keys.shape[1]
    shown = np.flatnonzero(keys.max(axis=1))
    found = keys[shown]
    centre = found[:, per_pixel // 2]
    hit = centre != _NONE
    depth[shown[hit]] = 1 / (centre[hit] >> np.uint64(32)).astype(np.uint32).view(np.float32)
    pictures, triangles = colors.shape[:2]
    # Number 0 of each picture's palette is the black behind the robot.
    palette = np.zeros((pictures, triangles + 1, 3), dtype=np.uint16)
    palette[:, 1:] = colors
    number = (found & np.uint64(0xFFFFFFFF)).astype(np.intp)
    number += (shown // (len(keys) // pictures) * (triangles + 1))[:, None]
    total = palette.reshape(-1, 3)[number].sum(axis=1, dtype=np.uint32)
    rgb[shown] = (total + per_pixel // 2) // per_pixel
