"""Slots by law: cutting and placing are inverse, poses compose, numbering tells hues apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from vap_sim.models.compact.slots import (
    PATCH,
    SLOTS,
    Slots,
    advance,
    cut,
    drawing_order,
    number_objects,
    place,
    render,
)

SIZE = 64


def picture(*squares: tuple[int, int, int, tuple[int, int, int]]) -> np.ndarray:
    """Squares (x, y, side, rgb) on an empty layer: (SIZE, SIZE, 4) uint8."""
    layer = np.zeros((SIZE, SIZE, 4), np.uint8)
    for x, y, side, color in squares:
        layer[y : y + side, x : x + side] = (*color, 255)
    return layer


def slots_of(layer: np.ndarray) -> Slots:
    objects = torch.from_numpy(layer).permute(2, 0, 1)[None].float() / 255
    return cut(objects, torch.from_numpy(number_objects(layer))[None])


def still(slots: Slots) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    shape = (*slots.present.shape, 2)
    return torch.zeros(shape), torch.zeros(shape), torch.ones(slots.present.shape, dtype=torch.bool)


def test_placing_what_was_cut_gives_the_layer_back_exactly() -> None:
    layer = picture((5, 8, 9, (200, 10, 10)), (30, 40, 6, (10, 10, 220)), (58, 20, 6, (240, 230, 20)))
    slots = slots_of(layer)
    assert int(slots.present.sum()) == 3
    assert torch.allclose(render(slots, SIZE), torch.from_numpy(layer).permute(2, 0, 1)[None] / 255, atol=1e-6)


def test_a_whole_pixel_shift_moves_every_pixel() -> None:
    slots = slots_of(picture((20, 20, 8, (200, 10, 10))))
    shift, twist, moves = still(slots)
    shift[:, 0] = torch.tensor([5.0, -3.0])
    moved = render(advance(slots, shift, twist, moves), SIZE)
    assert torch.allclose(moved, torch.roll(render(slots, SIZE), (-3, 5), dims=(2, 3)), atol=1e-5)


def test_steps_that_undo_each_other_leave_no_trace() -> None:
    slots = slots_of(picture((20, 20, 8, (200, 10, 10)), (40, 12, 10, (20, 200, 20))))
    shift, twist, moves = still(slots)
    shift += torch.tensor([0.37, -1.21])
    twist += torch.tensor([0.3, 0.1])
    there = advance(slots, shift, twist, moves)
    back = advance(there, -shift, -twist, moves)
    assert not torch.allclose(render(there, SIZE), render(slots, SIZE), atol=0.1)
    assert torch.allclose(render(back, SIZE), render(slots, SIZE), atol=1e-3)


def test_a_quarter_turn_in_many_small_ones_is_exact() -> None:
    layer = picture((20, 20, 9, (200, 10, 10)))
    layer[20:24, 24:29] = 0  # an L, so that a mirror image would be seen
    slots = slots_of(layer)
    shift, twist, moves = still(slots)
    twist[..., 0] = np.pi / 2 / 30
    turned = slots
    for _ in range(30):
        turned = advance(turned, shift, twist, moves)
    x, y = (int(v) for v in slots.centre[0, 0])
    around = render(slots, SIZE)[0, :, y - 12 : y + 13, x - 12 : x + 13]
    # Image rows point down, so turning from x towards y is clockwise to the eye.
    expected = torch.rot90(around, -1, dims=(1, 2))
    assert torch.allclose(render(turned, SIZE)[0, :, y - 12 : y + 13, x - 12 : x + 13], expected, atol=1e-3)


def test_what_does_not_move_keeps_its_bits() -> None:
    slots = slots_of(picture((20, 20, 8, (200, 10, 10)), (40, 40, 8, (20, 200, 20))))
    shift, twist, moves = still(slots)
    shift += 1.7
    twist += 0.2
    moves[:, 1] = False
    moved = advance(slots, shift, twist, moves)
    assert torch.equal(moved.centre[:, 1], slots.centre[:, 1]) and torch.equal(moved.turn[:, 1], slots.turn[:, 1])
    assert float(moved.velocity[:, 1].abs().max()) == 0
    assert not torch.equal(moved.centre[:, 0], slots.centre[:, 0])


def test_lower_objects_are_drawn_over_higher_ones() -> None:
    slots = slots_of(picture((20, 20, 8, (200, 10, 10)), (20, 36, 8, (20, 200, 20))))
    shift, twist, moves = still(slots)
    red = int(slots.centre[0, :2, 1].argmin())
    shift[0, red] = torch.tensor([0.0, 12.0])
    over = render(advance(slots, shift, twist, moves), SIZE)[0, :, 37, 24]
    assert over[1] > 0.7 and over[0] < 0.2


def test_numbers_tell_hues_apart_where_objects_touch_and_ignore_shading() -> None:
    layer = picture((10, 10, 8, (200, 20, 20)), (18, 10, 8, (20, 20, 200)))
    layer[10:14, 10:18, :3] //= 2  # a darker face of the same object
    numbers = number_objects(layer)
    assert numbers.max() == 2
    assert len(np.unique(numbers[10:18, 10:18])) == 1 and numbers[12, 12] != numbers[12, 20]


def test_more_objects_than_slots_drop_the_smallest() -> None:
    colors = [
        (220, 20, 20),
        (20, 220, 20),
        (20, 20, 220),
        (220, 220, 20),
        (220, 20, 220),
        (20, 220, 220),
        (120, 70, 20),
    ]
    layer = picture(*[(2 + 9 * (k % 4), 5 + 20 * (k // 4), 4 + (k < 6), color) for k, color in enumerate(colors)])
    numbers = number_objects(layer)
    assert numbers.max() == SLOTS
    assert not numbers[25:29, 20:24].any()


def test_an_empty_layer_has_no_slots() -> None:
    slots = slots_of(picture())
    assert not slots.present.any() and float(render(slots, SIZE).abs().max()) == 0


def test_growth_widens_the_placed_picture() -> None:
    slots = slots_of(picture((28, 28, 9, (200, 10, 10))))
    patch = slots.patches[0, :1]
    assert patch.shape[-1] == PATCH
    small = place(patch, slots.centre[0, :1], torch.tensor([[1.0, 0.0]]), SIZE)[:, 3].sum()
    large = place(patch, slots.centre[0, :1], torch.tensor([[2.0, 0.0]]), SIZE)[:, 3].sum()
    assert 3.5 < float(large / small) < 4.5


# What hides what ---------------------------------------------------------------------------------------------------


def squares(*things: tuple[float, float, int]) -> Slots:
    """Slots of squares: their middles x, y [px] and sides [px]."""
    slots = cut(torch.zeros(1, 4, SIZE, SIZE), torch.zeros(1, SIZE, SIZE, dtype=torch.uint8))
    patches, centre, present = slots.patches.clone(), slots.centre.clone(), slots.present.clone()
    for slot, (x, y, side) in enumerate(things):
        low = PATCH // 2 - side // 2
        patches[0, slot, :, low : low + side, low : low + side] = 1
        centre[0, slot], present[0, slot] = torch.tensor([x, y]), True
    return replace(slots, patches=patches, centre=centre, present=present)


def order(slots: Slots, near: Tensor | None = None) -> list[int]:
    """The slots that are there, the hindmost first."""
    ranks: list[int] = drawing_order(slots, near)[0].tolist()
    return [slot for slot in ranks if bool(slots.present[0, slot])]


def test_lower_ones_hide_higher_ones_and_nearer_ones_farther_ones() -> None:
    slots = squares((20, 30, 10), (26, 22, 10), (24, 26, 10))
    assert order(slots) == [1, 2, 0]
    assert order(slots, torch.tensor([[1.0, 3.0, 2.0, 0, 0, 0]])) == [0, 2, 1]


def test_what_lies_on_something_wider_is_drawn_over_it() -> None:
    """A cube on the far half of a plate, whose middle is lower in the picture."""
    plate, cube = (30, 32, 24), (32, 24, 8)
    assert order(squares(plate, cube)) == [0, 1] and order(squares(cube, plate)) == [1, 0]
    assert order(squares(plate, cube), torch.tensor([[2.0, 1.0, 0, 0, 0, 0]])) == [0, 1]
    behind = (32, 14, 8)  # its middle is not on the plate
    assert order(squares(plate, behind)) == [1, 0]
    as_wide = (32, 24, 18)  # too wide to lie on it
    assert order(squares(plate, as_wide)) == [1, 0]


def test_a_stack_is_drawn_from_below() -> None:
    for wide, middle, small in (
        ((30, 34, 40), (30, 30, 20), (30, 26, 8)),
        ((20, 40, 40), (38, 30, 20), (46, 26, 8)),  # the small one lies on the middle one alone
    ):
        for things in ((wide, middle, small), (small, middle, wide), (middle, small, wide)):
            assert [things[slot][2] for slot in order(squares(*things))] == [40, 20, 8]


def test_sizes_in_the_picture_count_and_absent_slots_do_not() -> None:
    slots = squares((30, 32, 24), (32, 24, 20))
    assert order(slots) == [1, 0]
    turn = slots.turn.clone()
    turn[0, 1] = torch.tensor([0.0, 0.4])  # turned a quarter, and farther away
    assert order(replace(slots, turn=turn)) == [0, 1]
    absent = replace(squares((30, 32, 24), (32, 24, 8)), present=torch.zeros(1, SLOTS, dtype=torch.bool))
    assert drawing_order(absent)[0].tolist().index(1) < drawing_order(absent)[0].tolist().index(0)
