"""What a conditioner made of a prompt: rows that shall go without it, and what the next part of the clip needs.

A row is dropped by adding nothing to it, not by showing it a black prompt: black means that the robot is out of the
picture, which is news. So a dropped row learns what the model does untold, and where guidance needs that answer, the
pass is made without the conditioner and costs none of its time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.codec import Carry
from vap_sim.models.cogvideox.injection import Prepared

KEEP = "keep"
_CARRY = "carry."


def drop_rows(prepared: Prepared, rows: Tensor) -> Prepared:
    """The same, but nothing will be added to the given rows. rows: (b,) bool, True to drop. Raises InvalidInput."""
    count = len(next(iter(prepared.values()))) if prepared else len(rows)
    if rows.dtype != torch.bool or tuple(rows.shape) != (count,):
        raise InvalidInput("rows to drop", f"{rows.dtype} {tuple(rows.shape)}", f"torch.bool ({count},)")
    kept = prepared.get(KEEP)
    return {**prepared, KEEP: ~rows if kept is None else kept & ~rows.to(kept.device)}


def strength(prepared: Prepared, scale: float, like: Tensor) -> Tensor | None:
    """What additions are multiplied with, (b, 1, 1) or one number of the type of `like`; None for 1."""
    kept = prepared.get(KEEP)
    if kept is not None:
        return kept.to(like)[:, None, None] * scale
    return None if scale == 1 else like.new_tensor(scale)


def carry_of(prepared: Prepared) -> Carry:
    """What `prepare` must be given for the frames after these; small, rows leading, to be kept in a state."""
    return {name.removeprefix(_CARRY): value for name, value in prepared.items() if name.startswith(_CARRY)}


def with_carry(prepared: Prepared, carry: Carry) -> Prepared:
    """The way back: `carry_of` finds the carry in the result."""
    return {**prepared, **{_CARRY + name: value for name, value in carry.items()}}
