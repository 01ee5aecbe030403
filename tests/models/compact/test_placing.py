"""Slots placed only where they are look as if placed everywhere; blocks and pixels are each other's inverse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.models.compact.network import to_blocks, to_pixels
from vap_sim.models.compact.placing import lay
from vap_sim.models.compact.slots import PATCH, SLOTS, Slots, render

SIZE = 64


def scattered(seed: int, rows: int = 3, span: float = 1.3) -> Slots:
    """Slots with full cut-outs, turned and resized, in and around the picture; some absent."""
    source = torch.Generator().manual_seed(seed)
    alpha = torch.rand(rows, SLOTS, 1, PATCH, PATCH, generator=source)
    color = torch.rand(rows, SLOTS, 3, PATCH, PATCH, generator=source) * alpha
    angle = torch.rand(rows, SLOTS, generator=source) * 6.3
    length = 0.3 + 1.2 * torch.rand(rows, SLOTS, generator=source)
    return Slots(
        patches=torch.cat([color, alpha], dim=2),
        centre=(torch.rand(rows, SLOTS, 2, generator=source) - 0.5) * span * 2 * SIZE + SIZE / 2,
        turn=torch.stack([length * angle.cos(), length * angle.sin()], dim=-1),
        velocity=torch.zeros(rows, SLOTS, 2),
        present=torch.rand(rows, SLOTS, generator=source) > 0.3,
    )


@pytest.mark.parametrize("seed", range(12))
def test_windows_hold_all_that_can_be_seen(seed: int) -> None:
    slots = scattered(seed, span=0.6 if seed % 2 else 1.3)
    objects = lay(slots, SIZE)
    assert objects.any()
    torch.testing.assert_close(objects, render(slots, SIZE), rtol=0, atol=1e-6)


def test_slots_that_are_absent_or_nowhere_leave_no_trace() -> None:
    slots = scattered(0, rows=1)
    absent = Slots(slots.patches, slots.centre, slots.turn, slots.velocity, torch.zeros_like(slots.present))
    lost = Slots(
        slots.patches, torch.full_like(slots.centre, torch.nan), slots.turn, slots.velocity, slots.present | True
    )
    far = Slots(slots.patches, slots.centre + 500, slots.turn, slots.velocity, slots.present | True)
    for case in (absent, lost, far):
        assert not lay(case, SIZE).any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_blocks_and_pixels_are_the_same_with_and_without_gradients(
    dtype: torch.dtype, layout: torch.memory_format
) -> None:
    image = torch.randn(2, 3, 8, 12, generator=torch.Generator().manual_seed(0)).to(dtype, memory_format=layout)
    expected = F.pixel_unshuffle(image, 2)
    with torch.no_grad():
        blocks = to_blocks(image)
        pixels = to_pixels(expected.contiguous(memory_format=layout))
    assert torch.equal(blocks, expected) and torch.equal(to_blocks(image), expected)
    assert torch.equal(pixels, image) and torch.equal(to_pixels(expected), image)
    assert pixels.is_contiguous() and to_pixels(expected).is_contiguous()


def test_gradients_pass_through_blocks() -> None:
    image = torch.randn(1, 2, 4, 4, requires_grad=True)
    weight: Tensor = torch.arange(32.0).view(1, 8, 2, 2)
    (to_blocks(image) * weight).sum().backward()  # type: ignore[no-untyped-call]
    assert image.grad is not None and torch.equal(image.grad, F.pixel_shuffle(weight, 2))
