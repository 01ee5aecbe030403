"""Overlap of masks in space and time, by law and by hand; undefined scores stay out of means."""

import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.metrics.masks import mean_frame_iou, scores, st_iou


def box(frames: int, *places: tuple[int, int, int, int, int]) -> torch.Tensor:
    """A clip of empty 12 x 12 masks with boxes (frame, top, left, height, width) set."""
    masks = torch.zeros(frames, 12, 12, dtype=torch.bool)
    for frame, top, left, height, width in places:
        masks[frame, top : top + height, left : left + width] = True
    return masks


def random_masks(seed: int, *shape: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) < 0.4


@pytest.mark.parametrize("measure", [st_iou, mean_frame_iou])
def test_overlap_obeys_its_laws(measure) -> None:
    a, b = random_masks(0, 3, 4, 8, 8), random_masks(1, 3, 4, 8, 8)
    assert measure(generated=a, truth=a).values.tolist() == [1, 1, 1]
    assert torch.equal(measure(generated=a, truth=b).values, measure(generated=b, truth=a).values)
    assert measure(generated=a, truth=~a).values.tolist() == [0, 0, 0]
    assert measure(generated=torch.zeros_like(a), truth=a).values.tolist() == [0, 0, 0]  # lost is not undefined
    rolled = [mask.roll((2, 3), (-2, -1)) for mask in (a, b)]
    torch.testing.assert_close(
        measure(generated=rolled[0], truth=rolled[1]).values, measure(generated=a, truth=b).values
    )
    alone = torch.stack([measure(generated=a[i], truth=b[i]).values for i in range(3)])
    assert torch.equal(alone, measure(generated=a, truth=b).values)


def test_space_time_overlap_weighs_pixels_and_frame_overlap_weighs_frames() -> None:
    truth = box(3, (1, 0, 0, 4, 4), (2, 0, 0, 2, 2))
    generated = box(3, (1, 0, 0, 4, 4), (2, 0, 1, 2, 2))
    assert float(st_iou(generated=generated, truth=truth).values) == pytest.approx(18 / 22)
    assert float(mean_frame_iou(generated=generated, truth=truth).values) == pytest.approx((1 + 2 / 6) / 2)


def test_the_given_frame_is_not_judged() -> None:
    truth = box(2, (0, 0, 0, 9, 9), (1, 0, 0, 2, 2))
    generated = box(2, (1, 0, 0, 2, 2))
    for measure in (st_iou, mean_frame_iou):
        assert float(measure(generated=generated, truth=truth).values) == 1


def test_frames_without_a_mask_do_not_dilute_the_frame_mean() -> None:
    truth = box(4, (1, 0, 0, 2, 2))
    generated = box(4, (1, 0, 1, 2, 2))
    assert float(mean_frame_iou(generated=generated, truth=truth).values) == pytest.approx(1 / 3)


def test_nothing_against_nothing_is_undefined_and_counted() -> None:
    truth = torch.stack([box(2, (0, 0, 0, 3, 3)), box(2, (1, 0, 0, 2, 2))])
    for measure in (st_iou, mean_frame_iou):
        found = measure(generated=truth, truth=truth)
        assert found.undefined == 1
        assert found.values[0].isnan()
        assert found.mean() == 1
        assert found.existing() == [1.0]


def test_values_that_do_not_exist_cannot_be_mistaken_for_values() -> None:
    found = scores("any", torch.tensor([5, 6]), torch.tensor([False, True]))
    assert found.values.isnan().tolist() == [True, False]


def test_a_mean_of_nothing_raises() -> None:
    empty = scores("st_iou", torch.zeros(3), torch.zeros(3, dtype=torch.bool))
    with pytest.raises(InvalidInput, match="3 scores, none defined"):
        empty.mean()


def test_wrong_clips_are_named() -> None:
    masks = box(2)
    with pytest.raises(InvalidInput, match=r"generated: given torch.uint8 \(2, 12, 12\), expected torch.bool"):
        st_iou(generated=masks.byte(), truth=masks)
    with pytest.raises(InvalidInput, match="the shape of truth"):
        st_iou(generated=box(3), truth=masks)
    with pytest.raises(InvalidInput, match="1 frames, expected at least two"):
        mean_frame_iou(generated=masks[:1], truth=masks[:1])
