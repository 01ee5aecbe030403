"""Motion masks and their overlap: examples computed by hand from the Physics-IQ definition, and its laws."""

import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.metrics.motion import motion_masks, motion_st_iou

SIDE = 48


def squares(*lefts: int | None, level: int = 200, top: int = 16, size: int = 16) -> torch.Tensor:
    """Black frames with a grey square at the given columns, or without it."""
    clip = torch.zeros(len(lefts), SIDE, SIDE, 3, dtype=torch.uint8)
    for frame, left in zip(clip, lefts, strict=True):
        if left is not None:
            frame[top : top + size, left : left + size] = level
    return clip


def test_a_clip_at_rest_has_empty_masks_and_agrees_with_any_other_at_rest() -> None:
    assert not motion_masks(squares(8, 8, 8)).any()
    assert float(motion_st_iou(generated=squares(8, 8, 8), truth=squares(20, 20, 20)).values) == 1


def test_the_first_mask_is_empty() -> None:
    assert not motion_masks(squares(8, 20))[0].any()


def test_a_square_that_appears_is_seen_for_as_long_as_the_running_mean_lags() -> None:
    # An area that jumps by 100 differs from a mean of weight 0.3 by 100 * 0.7**n after n frames, which is more than 10
    # for n up to 6: 11.76 then 8.24.
    masks = motion_masks(squares(None, 16, 16, 16, 16, 16, 16, 16, 16, level=100))
    inside = [bool(mask[24, 24]) for mask in masks]
    assert inside == [False, True, True, True, True, True, True, False, False]


@pytest.mark.parametrize(("level", "seen"), [(14, False), (15, True)])
def test_the_threshold_lies_above_ten_levels(level: int, seen: bool) -> None:
    # After one frame the mean of a jump to 14 is 4.2, rounded 4; that of a jump to 15 is 4.5, rounded (to even) 4.
    masks = motion_masks(squares(None, 16, level=level))
    assert bool(masks[1, 24, 24]) is seen


def test_the_mask_of_an_appearing_square_is_the_square_grown_by_the_blur() -> None:
    mask = motion_masks(squares(None, 16, level=255))[1]
    # Five taps [1 4 6 4 1] / 16: one pixel outside the edge the blurred level is 255 * 5/16, two outside 255/16 = 16;
    # of each 0.7 remains: 56 and 11. Corners fall below the threshold and the opening.
    assert mask[24, 14:34].all()
    assert not mask[24, :14].any()
    assert not mask[24, 34:].any()
    assert not mask[14, 14]


def test_specks_smaller_than_the_opening_do_not_count() -> None:
    assert not motion_masks(squares(None, 20, level=255, size=1)).any()
    assert motion_masks(squares(None, 20, level=255, size=5)).any()


def test_grey_weighs_red_green_and_blue_in_that_order() -> None:
    clip = squares(None, 16, level=0)
    seen = []
    for channel in range(3):
        colored = clip.clone()
        colored[1, 16:32, 16:32, channel] = 100  # grey 30, 59, 11; of which 21, 41 and 8 differ from the mean
        seen.append(bool(motion_masks(colored)[1, 24, 24]))
    assert seen == [True, True, False]


def test_overlap_of_a_moving_clip_with_one_at_rest_counts_the_frames_in_which_both_rest() -> None:
    truth = squares(8, 8, 28, 28)
    still = squares(8, 8, 8, 8)
    assert float(motion_st_iou(generated=still, truth=truth).values) == pytest.approx(2 / 4)


def test_overlap_obeys_its_laws() -> None:
    a, b = squares(4, 8, 12, 16), squares(4, 10, 14, 20)
    score = float(motion_st_iou(generated=a, truth=b).values)
    assert 0 < score < 1
    assert float(motion_st_iou(generated=b, truth=a).values) == score
    assert float(motion_st_iou(generated=a, truth=a).values) == 1
    moved = [clip.roll((5, 3), (1, 2)) for clip in (a, b)]
    assert float(motion_st_iou(generated=moved[0], truth=moved[1]).values) == pytest.approx(score)
    pair = motion_st_iou(generated=torch.stack([a, b]), truth=torch.stack([b, b]))
    assert pair.values.tolist() == pytest.approx([score, 1])


def test_wrong_clips_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"frames: given torch.uint8 \(48, 48, 3\)"):
        motion_masks(squares(3)[0])
    with pytest.raises(InvalidInput, match="1 frames, expected at least two"):
        motion_st_iou(generated=squares(3), truth=squares(3))
