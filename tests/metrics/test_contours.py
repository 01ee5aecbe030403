"""J and F of DAVIS: equal to the benchmark's own tool, known where overlap and contours are known, and by law."""

import math

import numpy as np
import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.metrics.contours import contour, contour_accuracy, empty_frames, j_and_f, region_similarity


def clip(*masks: np.ndarray | torch.Tensor) -> torch.Tensor:
    """A clip whose first mask, which is not judged, is empty."""
    each = [torch.as_tensor(mask) for mask in masks]
    return torch.stack([torch.zeros_like(each[0]), *each])


def box(top: int, left: int, height: int, width: int, size: tuple[int, int] = (60, 80)) -> torch.Tensor:
    mask = torch.zeros(size, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask


def blob(k: int) -> np.ndarray:
    y, x = np.mgrid[:60, :80]
    ellipse = (x - 30 - 3 * k) ** 2 * (2 + k) + (y - 25 + 2 * k) ** 2 * 3 < 900 + 200 * k
    return ellipse | ((x > 70 - k) & (y > 50 - 2 * k))


def wavy(k: int) -> np.ndarray:
    y, x = np.mgrid[:60, :80]
    return (y * 7 + x * x + k * 11) % 97 < 30


def one(measure, generated, truth, **more) -> float:
    return float(measure(generated=clip(generated), truth=clip(truth), **more).values)


# davis2017-evaluation at ac7c43f: db_eval_iou and db_eval_boundary, times 100, on these masks.
@pytest.mark.parametrize(
    ("make", "a", "b", "region", "near"),
    [
        (blob, 0, 1, 78.06955287437899, 41.066124745974676),
        (blob, 1, 3, 61.48193508879363, 12.065498419994253),
        (blob, 0, 5, 29.744346116027533, 5.168700646087581),
        (wavy, 0, 1, 46.31886884446612, 97.75593025956188),
        (wavy, 1, 3, 15.372670807453417, 93.66412154978715),
        (wavy, 0, 5, 0.0, 90.87340050766747),
    ],
)
def test_they_are_the_numbers_of_the_benchmark(make, a: int, b: int, region: float, near: float) -> None:
    generated, truth = make(a), make(b)
    assert one(region_similarity, generated, truth) == pytest.approx(region, abs=1e-10)
    assert one(contour_accuracy, generated, truth) == pytest.approx(near, abs=1e-10)
    assert one(j_and_f, generated, truth) == pytest.approx((region + near) / 2, abs=1e-10)


def test_equal_masks_score_a_hundred_and_order_is_of_no_matter() -> None:
    a, b = clip(*[blob(k) for k in range(3)]), clip(*[blob(k + 1) for k in range(3)])
    for measure in (region_similarity, contour_accuracy, j_and_f):
        assert measure(generated=a, truth=a).values.tolist() == [100, 100, 100]
        assert torch.equal(measure(generated=a, truth=b).values, measure(generated=b, truth=a).values)


@pytest.mark.parametrize("shift", [1, 2, 5, 10])
def test_shifted_boxes_have_the_overlap_of_shifted_boxes(shift: int) -> None:
    found = one(region_similarity, box(10, 10 + shift, 12, 10), box(10, 10, 12, 10))
    assert found == pytest.approx(100 * (10 - shift) / (10 + shift))


def test_contours_count_as_far_as_the_tolerance_reaches() -> None:
    """On 60 x 80 pixels the diagonal is 100 and the tolerance ceil(0.8) = 1 pixel."""
    a, b, c = box(20, 20, 20, 20), box(20, 21, 20, 20), box(20, 22, 20, 20)
    assert one(contour_accuracy, b, a) == 100
    # Contours are rings of 80 pixels. Two apart, one upright side of 21 and 17 pixels of the other find nothing near.
    assert one(contour_accuracy, c, a) == pytest.approx(100 * 42 / 80)
    assert one(contour_accuracy, c, a, tolerance=0.02) == 100
    wide = (600, 800)
    far = [box(200, 200 + shift, 200, 200, wide) for shift in (0, 8, 9)]
    assert one(contour_accuracy, far[1], far[0]) == 100
    assert one(contour_accuracy, far[2], far[0]) < 100


def test_thin_lines_are_found_by_their_contours_though_they_do_not_overlap() -> None:
    a, b = box(30, 10, 1, 50), box(31, 10, 1, 50)
    assert one(region_similarity, a, b) == 0
    assert one(contour_accuracy, a, b) == 100
    assert one(j_and_f, a, b) == 50
    assert one(contour_accuracy, box(40, 10, 1, 50), b) == 0


def test_the_edge_of_the_picture_is_no_contour() -> None:
    full = torch.ones(60, 80, dtype=torch.bool)
    assert not contour(full.numpy()).any()
    half = box(0, 0, 60, 40).numpy()
    assert contour(half).sum() == 60
    assert contour(box(10, 10, 1, 1).numpy()).sum() == 4


def test_a_lost_mask_scores_zero_and_two_empty_ones_a_hundred_and_are_counted() -> None:
    empty, there = box(0, 0, 0, 0), box(10, 10, 5, 5)
    for measure in (region_similarity, contour_accuracy, j_and_f):
        assert one(measure, empty, there) == one(measure, there, empty) == 0
        assert one(measure, empty, empty) == 100
    assert empty_frames(generated=clip(empty, empty, there), truth=clip(empty, there, there)) == 1


def test_an_object_alone_scores_as_among_others_and_the_given_mask_is_not_judged() -> None:
    a = torch.stack([clip(blob(0), blob(1)), clip(blob(2), wavy(0))])
    b = torch.stack([clip(blob(1), blob(1)), clip(wavy(2), wavy(1))])
    found = j_and_f(generated=a, truth=b)
    assert found.values.shape == (2, 2)
    assert found.undefined == 0
    for row in range(2):
        assert torch.equal(j_and_f(generated=a[row], truth=b[row]).values, found.values[row])
    a[:, 0] = True
    assert torch.equal(j_and_f(generated=a, truth=b).values, found.values)
    mirrored = j_and_f(generated=a.flip(0), truth=b.flip(0))
    assert torch.equal(mirrored.values.flip(0), found.values)
    assert j_and_f(generated=a[:0], truth=b[:0]).values.shape == (0, 2)


def test_they_fall_as_a_box_moves_away() -> None:
    truth = box(20, 10, 12, 12)
    values = [one(j_and_f, box(20, 10 + shift, 12, 12), truth) for shift in (0, 1, 2, 4, 8, 16)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 4
    assert math.isclose(values[-1], 0)


def test_wrong_masks_are_named() -> None:
    mask = clip(box(1, 1, 2, 2))
    with pytest.raises(InvalidInput, match=r"generated: given torch.uint8"):
        j_and_f(generated=mask.byte(), truth=mask)
    with pytest.raises(InvalidInput, match="tolerance: given 0, expected a share of the diagonal"):
        contour_accuracy(generated=mask, truth=mask, tolerance=0)
