"""How several first pictures become one scene: read apart view by view, then objects found again across the views."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vap_sim.models.compact.geometry import Floats, facing, see
from vap_sim.models.compact.layers import Reading, share
from vap_sim.models.compact.matching import Thing, match, pieces_of
from vap_sim.models.compact.placing import lay
from vap_sim.models.compact.poses import Placed
from vap_sim.models.compact.slots import PATCH, SLOTS, Slots

_HIDDEN = 0.5
"""From this share of its pixels on, an object is hidden by robot and objects, and no surprise if it is not seen."""


def begin(
    readings: Sequence[Reading], slots: Sequence[Slots], projections: Floats, table: float
) -> tuple[Placed, Tensor]:
    """Objects of V views, one reading and one row of slots each, under projections (V, 3, 4): how they are placed, and
    their cut-outs (V, S, 4, PATCH, PATCH) in [0, 1]. table: its height [m].

    An object that a view does not show because something hides it there, or because it is out of the picture, gets the
    cut-out of a view that does; where nothing hides it, the view is believed and never shows it."""
    views = len(readings)
    pieces = [piece for view in range(views) for piece in pieces_of(slots[view], view)]
    things = match(pieces, projections, table)
    patches = torch.zeros(views, SLOTS, 4, PATCH, PATCH, device=slots[0].patches.device)
    position, present = np.zeros((SLOTS, 3)), np.zeros((views, SLOTS), np.bool_)
    grain, offset = np.zeros((views, SLOTS, 3, 2)), np.zeros((views, SLOTS, 2))
    for number, thing in enumerate(things):
        position[number] = thing.position
        for view, slot in thing.slots.items():
            present[view, number] = True
            patches[view, number] = slots[view].patches[0, slot]
            grain[view, number] = facing(projections[view], thing.position)
            middle = slots[view].centre[0, slot].double().cpu().numpy()
            offset[view, number] = middle - see(projections[view], thing.position)[0]
    placed = Placed(position, np.zeros_like(position), present, grain, offset, np.zeros((views, SLOTS)))
    for number, thing in enumerate(things):
        for view in sorted(set(range(views)) - set(thing.slots)):
            placed, patches = _lent(placed, patches, number, thing, view, readings[view], projections)
    return placed, patches


def _lent(
    placed: Placed, patches: Tensor, number: int, thing: Thing, view: int, reading: Reading, projections: Floats
) -> tuple[Placed, Tensor]:
    """With the cut-out of a view that shows object `number` lent to `view`, where it may be there unseen."""
    owner = max(thing.slots, key=lambda other: float(patches[other, number, 3].sum()))
    with_it = {name: value.copy() for name, value in vars(placed).items()}
    for name in ("grain", "offset"):
        with_it[name][view, number] = with_it[name][owner, number]
    with_it["present"][view, number] = True
    lent, cut_outs = Placed(**with_it), patches.clone()
    cut_outs[view, number] = patches[owner, number]
    centre, turn, depth = lent.poses(projections)
    if depth[view, number] <= 0:
        return lent, cut_outs
    shown = torch.zeros(1, SLOTS, dtype=torch.bool, device=patches.device)
    shown[0, number] = True
    middle, turned = (torch.from_numpy(v[view].astype(np.float32))[None].to(patches.device) for v in (centre, turn))
    slots = Slots(cut_outs[view][None], middle, turned, torch.zeros_like(middle), shown)
    alpha = lay(slots, reading.plate.shape[-1])[0, 3]
    if float(alpha.sum()) < 1.0:  # out of the picture
        return lent, cut_outs
    covers = torch.maximum(share(reading.planes[0, 9]), reading.objects[0, 3])
    hidden = float((alpha * covers).sum() / alpha.sum())
    return (lent, cut_outs) if hidden >= _HIDDEN else (placed, patches)
