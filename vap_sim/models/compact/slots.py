"""Objects as slots: a small picture of each, and where it is now. Slots move as a whole, so they never smear or fade.

A slot's picture is cut out once. Its pose (centre, turn) places it: pixel u of the cut-out lies at turn * (u -
middle) + centre, with
image points as complex numbers, so `turn` is rotation and size in one. However long a dream, one look-up leads back
to the cut-out.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import permutations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

SLOTS = 6
"""Objects that one picture may hold; of more, the smallest are lost."""
PATCH = 48
_MIDDLE = PATCH // 2
_SMALLEST = 6  # pixels; less is noise of the reading
_NARROW = 0.6  # share of the width of what it may lie on
_SAME_HUE = 0.10  # distance of chromaticities of neighbouring pixels of one object


@dataclass(frozen=True)
class Slots:
    """The objects of b pictures, S = SLOTS of them.

    patches (b, S, 4, PATCH, PATCH) premultiplied rgba in [0, 1]; centre (b, S, 2) x, y [px]; turn (b, S, 2) real and
    imaginary part; velocity (b, S, 2) [px] of the last step; present (b, S) bool.
    """

    patches: Tensor
    centre: Tensor
    turn: Tensor
    velocity: Tensor
    present: Tensor

    def detach(self) -> Slots:
        """The same, without gradients."""
        return replace(self, centre=self.centre.detach(), turn=self.turn.detach(), velocity=self.velocity.detach())


def cut(objects: Tensor, numbers: Tensor) -> Slots:
    """Cut objects (b, 4, H, W) premultiplied rgba along numbers (b, H, W) uint8: 0 nothing, k slot k - 1."""
    batch = objects.shape[0]
    device = objects.device
    patches = torch.zeros(batch, SLOTS, 4, PATCH, PATCH, device=device)
    centre = torch.zeros(batch, SLOTS, 2, device=device)
    present = torch.zeros(batch, SLOTS, dtype=torch.bool, device=device)
    padded = F.pad(objects, (PATCH, PATCH, PATCH, PATCH))
    masks = F.pad(numbers, (PATCH, PATCH, PATCH, PATCH))
    for row, slot in torch.nonzero(_counts(numbers) >= _SMALLEST).tolist():
        ys, xs = torch.nonzero(numbers[row] == slot + 1, as_tuple=True)
        x, y = round(float(xs.float().mean())), round(float(ys.float().mean()))
        # Padded by PATCH: pixel (x, y) lies at (x + PATCH, y + PATCH), and its cut-out begins _MIDDLE before it.
        window = (
            slice(y + PATCH - _MIDDLE, y + 2 * PATCH - _MIDDLE),
            slice(x + PATCH - _MIDDLE, x + 2 * PATCH - _MIDDLE),
        )
        patches[row, slot] = padded[row][:, window[0], window[1]] * (masks[row][window] == slot + 1)
        centre[row, slot] = torch.tensor([x, y], dtype=torch.float32, device=device)
        present[row, slot] = True
    turn = torch.tensor([1.0, 0.0], device=device).expand(batch, SLOTS, 2).clone()
    return Slots(patches, centre, turn, torch.zeros_like(centre), present)


def _counts(numbers: Tensor) -> Tensor:
    """(b, SLOTS): pixels of each slot."""
    return torch.stack([(numbers == slot + 1).flatten(1).sum(1) for slot in range(SLOTS)], dim=1)


def number_objects(objects: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tell the objects of one layer (H, W, 4) apart: pieces of one hue that hang together, largest first: (H, W) uint8.

    Raises nothing: more than SLOTS objects leave the smallest unnumbered."""
    alpha = objects[..., 3] >= 128
    color = objects[..., :3].astype(np.float32)
    chroma = color / np.maximum(color.sum(-1, keepdims=True), 1.0)
    left = alpha.copy()
    pieces: list[NDArray[np.bool_]] = []
    while left.any() and len(pieces) < 4 * SLOTS:
        # Grow from the most saturated pixel left: the surest member of its object.
        strength = np.where(left, chroma.max(-1) - chroma.min(-1) + 0.01, 0)
        seed = np.unravel_index(int(strength.argmax()), strength.shape)
        near = left & (np.abs(chroma - chroma[seed]).sum(-1) < 2 * _SAME_HUE)
        _, marks = cv2.connectedComponents(near.astype(np.uint8), connectivity=8)
        piece = marks == marks[seed]
        pieces.append(piece)
        left &= ~piece
    pieces.sort(key=lambda piece: -int(piece.sum()))
    numbers = np.zeros(alpha.shape, np.uint8)
    for number, piece in enumerate([p for p in pieces if p.sum() >= _SMALLEST][:SLOTS], start=1):
        numbers[piece] = number
    return _with_edges(numbers, objects[..., 3] > 0)


def _with_edges(numbers: NDArray[np.uint8], covered: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Give soft edge pixels and crumbs to the object they touch."""
    for _ in range(3):
        grown = cv2.dilate(numbers, np.ones((3, 3), np.uint8))
        numbers = np.where((numbers == 0) & covered, grown, numbers)
    return numbers


def drawing_order(slots: Slots, near: Tensor | None = None) -> Tensor:
    """In which order slots hide each other, (b, S) numbers, the hindmost first.

    near: (b, S), more for objects nearer to the camera, where that is known; else lower ones are nearer, because a
    camera looks down. But what has its middle on something much wider lies on it, however far away: a cube on a plate
    is farther from the camera than the plate's rim."""
    order = (slots.centre[:, :, 1] if near is None else near).argsort(dim=1).tolist()
    for row, one, under in _lying(slots):
        ranks = order[row]
        if ranks.index(one) < ranks.index(under):
            ranks.remove(one)
            ranks.insert(ranks.index(under) + 1, one)
    return torch.tensor(order, device=slots.centre.device)


def _lying(slots: Slots) -> list[tuple[int, int, int]]:
    """In which row which slot lies on which, the widest first: what others lie on finds its place before them."""
    centres, lengths = slots.centre.tolist(), slots.turn.norm(dim=-1).tolist()
    found = []
    for row, present in enumerate(slots.present.tolist()):
        for one, under in permutations([slot for slot in range(SLOTS) if present[slot]], 2):
            (x, y), (u, v) = centres[row][one], centres[row][under]
            across, down = 2 * abs(x - u), 2 * abs(y - v)
            if max(across, down) > PATCH * lengths[row][under]:
                continue  # most are farther apart than any cut-out reaches
            wide, high = _extent(slots.patches[row, under, 3], lengths[row][under])
            own, _ = _extent(slots.patches[row, one, 3], lengths[row][one])
            if across <= wide and down <= high and own < _NARROW * wide:
                found.append((own, (row, one, under)))
    return [who for _, who in sorted(found, reverse=True)]


def _extent(alpha: Tensor, length: float) -> tuple[float, float]:
    """Columns and rows [px] that a cut-out's alpha (PATCH, PATCH) spans, so many times enlarged."""
    seen = alpha >= 0.5
    return length * float(seen.any(0).sum()), length * float(seen.any(1).sum())


def render(slots: Slots, size: int) -> Tensor:
    """Place all slots in `drawing_order`: (b, 4, size, size)."""
    batch = slots.centre.shape[0]
    layers = place(slots.patches.flatten(0, 1), slots.centre.flatten(0, 1), slots.turn.flatten(0, 1), size)
    layers = layers.reshape(batch, SLOTS, 4, size, size) * slots.present[:, :, None, None, None]
    order = drawing_order(slots)
    layers = torch.gather(layers, 1, order[:, :, None, None, None].expand_as(layers))
    canvas = layers[:, 0]
    for slot in range(1, SLOTS):
        canvas = layers[:, slot] + canvas * (1 - layers[:, slot, 3:4])
    return canvas


def place(patches: Tensor, centre: Tensor, turn: Tensor, size: int) -> Tensor:
    """Draw cut-outs (n, 4, PATCH, PATCH) at their poses (n, 2), (n, 2) on empty pictures: (n, 4, size, size)."""
    grid = torch.arange(size, dtype=torch.float32, device=patches.device)
    x = grid[None, None, :] - centre[:, 0, None, None]
    y = grid[None, :, None] - centre[:, 1, None, None]
    length = turn.square().sum(1)[:, None, None]
    real, imaginary = turn[:, 0, None, None] / length, turn[:, 1, None, None] / length
    u = x * real + y * imaginary + _MIDDLE  # (x + iy) / turn
    v = y * real - x * imaginary + _MIDDLE
    look = torch.stack([u, v], dim=-1) * (2 / (PATCH - 1)) - 1
    return F.grid_sample(patches, look, mode="bilinear", padding_mode="zeros", align_corners=True)


def advance(slots: Slots, shift: Tensor, twist: Tensor, moves: Tensor) -> Slots:
    """Move slots: shift (b, S, 2) [px], twist (b, S, 2) turn [rad] and log of growth, where moves (b, S) is True."""
    factor = torch.exp(twist[..., 1])
    cos, sin = torch.cos(twist[..., 0]) * factor, torch.sin(twist[..., 0]) * factor
    real, imaginary = slots.turn.unbind(-1)
    turned = torch.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], dim=-1)
    go = (moves & slots.present)[..., None]
    return replace(
        slots,
        centre=torch.where(go, slots.centre + shift, slots.centre),
        turn=torch.where(go, turned, slots.turn),
        velocity=torch.where(go, shift, torch.zeros_like(shift)),
    )
