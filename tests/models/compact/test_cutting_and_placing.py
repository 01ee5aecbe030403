"""Slots beyond the plain cases: pictures' edges, soft edges, which way is positive, gradients, long ways."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vap_sim.models.compact.slots import PATCH, SLOTS, Slots, advance, cut, number_objects, place, render

SIZE = 64
RED, GREEN, BLUE, YELLOW = (220, 30, 30), (20, 140, 50), (40, 60, 220), (240, 220, 30)


def paint(*shapes: tuple[tuple[int, int, int], slice, slice]) -> np.ndarray:
    """A layer (SIZE, SIZE, 4) of rectangles (color, rows, columns), shaded so that every pixel differs."""
    layer = np.zeros((SIZE, SIZE, 4), np.uint8)
    for color, rows, columns in shapes:
        shade = np.linspace(0.6, 1.0, SIZE)[:, None, None] * np.linspace(0.8, 1.0, SIZE)[None, :, None]
        layer[rows, columns, :3] = (np.array(color) * shade)[rows, columns]
        layer[rows, columns, 3] = 255
    return layer


def as_layers(*layers: np.ndarray) -> Tensor:
    return torch.from_numpy(np.stack(layers)).permute(0, 3, 1, 2).float() / 255


def snap(values: Tensor) -> Tensor:
    return (values * 255).round() / 255


LAYER = paint((RED, slice(20, 31), slice(12, 20)), (BLUE, slice(38, 47), slice(40, 54)))


def slots_of(*layers: np.ndarray) -> Slots:
    numbers = torch.from_numpy(np.stack([number_objects(layer) for layer in layers]))
    return cut(as_layers(*layers), numbers)


def step(shift: tuple[float, float] = (0, 0), twist: tuple[float, float] = (0, 0)) -> dict[str, Tensor]:
    """The same step for every slot."""
    return {
        "shift": torch.tensor(shift).float().expand(1, SLOTS, 2),
        "twist": torch.tensor(twist).float().expand(1, SLOTS, 2),
        "moves": torch.ones(1, SLOTS, dtype=torch.bool),
    }


def test_rows_are_cut_one_by_one() -> None:
    other = paint((GREEN, slice(5, 20), slice(30, 45)))
    slots = slots_of(LAYER, other)
    assert slots.present.sum(dim=1).tolist() == [2, 1]
    assert torch.equal(snap(render(slots, SIZE)), snap(as_layers(LAYER, other)))
    assert torch.equal(render(slots_of(other), SIZE)[0], render(slots, SIZE)[1])


def test_objects_at_the_edge_of_the_picture_are_cut_out_whole() -> None:
    layer = paint((RED, slice(0, 9), slice(0, 7)), (BLUE, slice(50, 64), slice(55, 64)))
    assert torch.equal(snap(render(slots_of(layer), SIZE)), snap(as_layers(layer)))


def test_shifts_are_right_and_down_in_pixels() -> None:
    slots = slots_of(LAYER)
    for dx, dy in ((3, 0), (0, -5), (-4, 7)):
        moved = snap(render(advance(slots, **step((dx, dy))), SIZE))
        assert torch.equal(moved, snap(as_layers(np.roll(LAYER, (dy, dx), axis=(0, 1)))))


def test_a_turn_is_from_right_to_down() -> None:
    layer = paint((RED, slice(20, 31), slice(25, 38)))
    slots = slots_of(layer)
    x, y = slots.centre[0, 0].int().tolist()
    expected = np.zeros_like(layer)
    expected[y - 12 : y + 13, x - 12 : x + 13] = np.rot90(layer[y - 12 : y + 13, x - 12 : x + 13], -1)
    turned = snap(render(advance(slots, **step(twist=(np.pi / 2, 0))), SIZE))
    assert torch.equal(turned, snap(as_layers(expected)))


def test_growth_scales_the_area() -> None:
    slots = slots_of(LAYER)
    before = render(slots, SIZE)[:, 3].sum()
    for growth in (-0.3, 0.2):
        after = render(advance(slots, **step(twist=(0.1, growth))), SIZE)[:, 3].sum()
        assert float(after / before) == pytest.approx(np.exp(2 * growth), rel=0.03)


def test_a_thousand_small_steps_blur_nothing() -> None:
    start = slots_of(LAYER)
    slots = start
    for sign in (1, -1):
        for _ in range(500):
            slots = advance(slots, **step((0.31 * sign, -0.17 * sign), (0.02 * sign, 0.001 * sign)))
    assert torch.allclose(slots.turn, start.turn, atol=1e-4) and torch.allclose(slots.centre, start.centre, atol=2e-2)
    assert float((render(slots, SIZE) - render(start, SIZE)).abs().mean()) < 1e-3


def test_slots_without_an_object_never_move() -> None:
    slots = slots_of(LAYER)
    after = advance(slots, **step((2.0, 1.0), (0.3, 0.1)))
    for name in ("centre", "turn", "velocity"):
        assert torch.equal(getattr(slots, name)[:, 2:], getattr(after, name)[:, 2:])
    assert torch.equal(after.velocity[0, :2], torch.tensor([[2.0, 1.0]]).expand(2, 2))
    rest = advance(after, **{**step((2.0, 1.0)), "moves": torch.zeros(1, SLOTS, dtype=torch.bool)})
    assert not rest.velocity.any() and torch.equal(rest.centre, after.centre)


@pytest.mark.parametrize("aside", [-2.0, 2.0])
def test_the_lower_of_two_objects_covers_the_upper(aside: float) -> None:
    layer = paint((RED, slice(10, 20), slice(20, 30)), (BLUE, slice(26, 36), slice(20, 30)))
    slots = slots_of(layer)
    shift = torch.zeros(1, SLOTS, 2)
    shift[0, int(slots.centre[0, :2, 1].argmin())] = torch.tensor([aside, 10.0])
    over = render(advance(slots, shift, torch.zeros(1, SLOTS, 2), torch.ones(1, SLOTS, dtype=torch.bool)), SIZE)
    assert torch.allclose(over[:, :, 26:36, 20:30], as_layers(layer)[:, :, 26:36, 20:30], atol=2e-5)


def test_gradients_reach_every_part_of_a_step() -> None:
    slots = slots_of(LAYER)
    shift, twist = (torch.full((1, SLOTS, 2), 0.1, requires_grad=True) for _ in range(2))
    weights = torch.linspace(0, 1, SIZE)[None, None, :, None] * torch.linspace(1, 3, SIZE)
    moved = advance(slots, shift, twist, torch.ones(1, SLOTS, dtype=torch.bool))
    (render(moved, SIZE) * weights).sum().backward()  # type: ignore[no-untyped-call]
    assert shift.grad is not None and twist.grad is not None
    assert shift.grad[0, :2].abs().min() > 0 and twist.grad[0, :2].abs().min() > 0
    assert not shift.grad[0, 2:].any()
    assert not moved.detach().centre.requires_grad and torch.equal(moved.detach().turn, moved.turn)


def test_nothing_is_placed_outside_the_cut_out() -> None:
    full = torch.ones(1, 4, PATCH, PATCH)
    picture = place(full, torch.tensor([[32.0, 32.0]]), torch.tensor([[1.0, 0.0]]), SIZE)
    assert float(picture.sum()) == pytest.approx(4 * PATCH**2, abs=4)
    assert not picture[:, :, :7].any() and torch.allclose(picture[:, :, 9:55, 9:55], torch.ones(()))


def test_crumbs_are_not_cut_out() -> None:
    numbers = torch.zeros(1, SIZE, SIZE, dtype=torch.uint8)
    numbers[0, 5, 5:10], numbers[0, 20, 5:11] = 1, 2
    slots = cut(torch.ones(1, 4, SIZE, SIZE), numbers)
    assert slots.present[0].tolist() == [False, True] + [False] * (SLOTS - 2)


def test_the_larger_object_comes_first() -> None:
    layer = paint((RED, slice(10, 20), slice(10, 18)), (GREEN, slice(10, 20), slice(18, 28)))
    numbers = number_objects(layer)
    assert numbers.dtype == np.uint8 and (numbers[layer[..., 3] == 0] == 0).all()
    assert (numbers[10:20, 10:18] == 2).all() and (numbers[10:20, 18:28] == 1).all()


def test_objects_of_one_hue_apart_are_two() -> None:
    layer = paint((YELLOW, slice(10, 20), slice(10, 20)), (YELLOW, slice(40, 52), slice(10, 20)))
    assert set(np.unique(number_objects(layer))) == {0, 1, 2}


def test_soft_edges_belong_to_their_object() -> None:
    layer = paint((RED, slice(10, 20), slice(10, 20)))
    layer[9, 10:20] = (50, 8, 8, 60)  # premultiplied
    assert (number_objects(layer)[9:20, 10:20] == 1).all()
    assert torch.equal(snap(render(slots_of(layer), SIZE)), snap(as_layers(layer)))
