"""Which pieces of several pictures are one object, and where it is: by hue, and by whether lines of sight meet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch

from vap_sim.models.compact.geometry import Floats, meet, on_level, rays_of, see
from vap_sim.models.compact.slots import PATCH, SLOTS, Slots

HUE, GAP = 0.05, 0.015
"""By how much pieces of one object usually differ in chromaticity, and their lines of sight miss each other [m]."""
MOST = 16.0
"""Pieces that are farther apart, in squares of these, are not one object."""
LOW, HIGH = -0.04, 0.6
"""[m] above the table: lines of sight of one object meet there."""
_UNSEEN_HEIGHT = 0.03  # [m] of an object's middle where its foot is out of sight


@dataclass(frozen=True, eq=False)
class Piece:
    """One slot of one view: centre (2,) of its pixels and foot (2,), the middle of their lowest row [px]; width [px];
    hue (3,), its chromaticity; pixels, how many it has."""

    view: int
    slot: int
    centre: Floats
    foot: Floats
    width: float
    hue: Floats
    pixels: float


@dataclass(frozen=True, eq=False)
class Thing:
    """An object: its slot in each view that shows it, and its middle (3,) in the base frame [m]."""

    slots: dict[int, int]
    position: Floats


def pieces_of(slots: Slots, view: int) -> list[Piece]:
    """The pieces of one picture, row 0 of slots."""
    found = []
    for slot in torch.nonzero(slots.present[0])[:, 0].tolist():
        patch = slots.patches[0, slot].double().cpu().numpy()
        alpha, middle = patch[3], slots.centre[0, slot].double().cpu().numpy() - PATCH // 2
        total = max(float(alpha.sum()), 1e-6)
        across, down = alpha.sum(0), alpha.sum(1)
        along = np.arange(PATCH)
        centre = middle + np.array([across @ along, down @ along]) / total
        columns, rows = np.flatnonzero(across > 0.5), np.flatnonzero(down > 0.5)
        if not len(columns) or not len(rows):
            continue
        bottom = middle[1] + rows[-1] + 0.5
        color = patch[:3].sum((1, 2))
        found.append(
            Piece(
                view=view,
                slot=slot,
                centre=centre,
                foot=np.array([centre[0], bottom]),
                width=float(columns[-1] - columns[0] + 1),
                hue=color / max(float(color.sum()), 1e-6),
                pixels=total,
            )
        )
    return found


def match(pieces: Sequence[Piece], projections: Floats, table: float) -> list[Thing]:
    """Objects of pieces seen under projections (V, 3, 4), largest first, at most SLOTS; table: its height [m].

    The nearest two are joined first, then the next, as long as no view is in one object twice; what is left alone is an
    object that one view sees, standing on the table."""
    groups: list[tuple[Piece, ...]] = [(piece,) for piece in pieces]
    costs = {
        (a, b): _apart(pieces[a], pieces[b], projections, table)
        for a, b in combinations(range(len(pieces)), 2)
        if pieces[a].view != pieces[b].view
    }
    place = {id(piece): number for number, piece in enumerate(pieces)}

    def between(first: tuple[Piece, ...], second: tuple[Piece, ...]) -> float:
        if {piece.view for piece in first} & {piece.view for piece in second}:
            return np.inf
        pairs = [tuple(sorted((place[id(a)], place[id(b)]))) for a in first for b in second]
        return max(costs[pair] for pair in pairs)  # type: ignore[index]

    while len(groups) > 1:
        cost, one, other = min((between(groups[a], groups[b]), a, b) for a, b in combinations(range(len(groups)), 2))
        if cost > MOST:
            break
        joined = groups[one] + groups[other]
        groups = [group for number, group in enumerate(groups) if number not in (one, other)] + [joined]
    groups.sort(key=lambda group: -max(piece.pixels for piece in group))
    things = [Thing({p.view: p.slot for p in group}, _position(group, projections, table)) for group in groups]
    return things[:SLOTS]


def _apart(a: Piece, b: Piece, projections: Floats, table: float) -> float:
    """How far two pieces are from being one object, in squares; infinite where they cannot be."""
    hue = float(np.abs(a.hue - b.hue).sum()) / HUE
    point, gap = _meeting((a, b), projections)
    if not _can_be(point, (a, b), projections, table):
        return np.inf
    return hue**2 + (2 * gap / GAP) ** 2  # two lines: each misses the middle by half of the gap


def _meeting(group: Sequence[Piece], projections: Floats) -> tuple[Floats, float]:
    order = sorted(group, key=lambda piece: piece.centre.tolist())  # sums do not depend on the order of views
    eyes, along = rays_of(projections[[piece.view for piece in order]], np.stack([piece.centre for piece in order]))
    return meet(eyes, along)


def _can_be(point: Floats, group: Sequence[Piece], projections: Floats, table: float) -> bool:
    _, depth = see(projections[[piece.view for piece in group]], point)
    return bool(LOW <= point[2] - table <= HIGH and (depth > 0.05).all())


def _position(group: Sequence[Piece], projections: Floats, table: float) -> Floats:
    if len(group) > 1:
        return _meeting(group, projections)[0]
    return stand(group[0], projections[group[0].view], table)


def stand(piece: Piece, projection: Floats, table: float) -> Floats:
    """Where an object stands that one view sees, if it stands on the table: (3,) [m].

    Its foot shows where its near edge is; its middle lies half a width behind, above the table on its line of sight.
    An object whose line of sight never comes down to the table floats a metre away."""
    eyes, along = rays_of(projection, piece.centre)
    foot = on_level(projection, piece.foot, table)
    if foot is None:
        low = on_level(projection, piece.centre, table + _UNSEEN_HEIGHT)
        return np.asarray(eyes + along) if low is None else low
    _, depth = see(projection, foot)
    focal = float(np.linalg.norm(np.cross(projection[0, :3], projection[2, :3])))  # rows are K R: f is what is across
    level = along * np.array([1.0, 1.0, 0.0])
    behind = foot + 0.5 * piece.width * float(depth) / focal * level / max(float(np.linalg.norm(level)), 1e-6)
    return meet(np.stack([eyes, behind]), np.stack([along, np.array([0.0, 0.0, 1.0])]))[0]
