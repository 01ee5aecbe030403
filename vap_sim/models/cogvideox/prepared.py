"""What a conditioner made of a prompt: rows that shall go without it, and what the next part of the clip needs.

A row is dropped by adding nothing to it, not by showing it a black prompt: black means that the robot is out of the
picture, which is news. So a dropped row learns what the model does untold, and where guidance needs that answer, the
pass is made without the conditioner and costs none of its time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.codec import FRAMES, Carry
from vap_sim.models.cogvideox.injection import Prepared
from vap_sim.prompts.visual_prompt import VisualPrompt

KEEP = "keep"
_CARRY, _LASTING = "carry.", "lasting."


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


def goes_on(prompt: VisualPrompt, carry: Carry | None) -> bool:
    """Whether a prompt goes on with the clip before it; else it begins one, see `Conditioner.prepare`."""
    return carry is not None and prompt.pixel_frames % FRAMES != 1


def with_carry(prepared: Prepared, carry: Carry, lasting: Carry | None = None) -> Prepared:
    """The same with what is to be handed out: carry, for the frames just after these; lasting, for the whole dream.

    All tensors lead with rows and have the same shape at every step, since they are kept in a state; so they should be
    small. `inject` finds what lasts by `lasting_of`.
    """
    marked = {_CARRY + name: value for name, value in carry.items()}
    return {**prepared, **marked, **{_LASTING + name: value for name, value in (lasting or {}).items()}}


def carry_of(prepared: Prepared) -> Carry:
    """What `prepare` must be given for the frames after these: what is carried on and what lasts, by plain names."""
    return {**_below(prepared, _CARRY), **lasting_of(prepared)}


def lasting_of(prepared: Prepared) -> Carry:
    """What `prepare` must be given for another clip of the same dream, by plain names."""
    return _below(prepared, _LASTING)


def frames_of(prepared: Prepared) -> Prepared:
    """What belongs to latent frames, each tensor (b, T, ...): all that is not marked otherwise."""
    marks = (_CARRY, _LASTING)
    return {name: value for name, value in prepared.items() if name != KEEP and not name.startswith(marks)}


def _below(prepared: Prepared, mark: str) -> Carry:
    return {name.removeprefix(mark): value for name, value in prepared.items() if name.startswith(mark)}
