"""PSNR by hand, moving pixels, and the baseline that nothing moves."""

import math

import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.metrics.fidelity import copy_first_frame, moving_gain, moving_pixels, psnr


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def ramp(levels: list[int]) -> torch.Tensor:
    """A clip of even grey 4 x 4 frames."""
    return torch.tensor(levels, dtype=torch.uint8)[:, None, None, None].expand(-1, 4, 4, 3).clone()


def test_psnr_of_an_even_error_is_the_textbook_value() -> None:
    found = psnr(generated=ramp([9, 13, 19]), truth=ramp([0, 10, 10]))
    assert found.values.tolist() == pytest.approx([20 * math.log10(255 / 3), 20 * math.log10(255 / 9)])


def test_psnr_is_symmetric_and_a_clip_alone_scores_as_in_a_batch() -> None:
    a, b = noise(0, 2, 3, 8, 8, 3), noise(1, 2, 3, 8, 8, 3)
    both = psnr(generated=a, truth=b)
    assert both.values.shape == (2, 2)
    torch.testing.assert_close(both.values, psnr(generated=b, truth=a).values)
    torch.testing.assert_close(both.values[1], psnr(generated=a[1], truth=b[1]).values)


def test_equal_frames_have_no_psnr_and_are_counted_apart() -> None:
    truth = ramp([0, 10, 10])
    found = psnr(generated=ramp([0, 10, 11]), truth=truth)
    assert found.defined.tolist() == [False, True]
    assert found.mean() == pytest.approx(20 * math.log10(255))


def test_psnr_looks_only_where_it_is_told() -> None:
    truth, generated = ramp([0, 100, 100]), ramp([0, 100, 100])
    generated[1, 0, 0] = 90
    generated[1, 3, 3] = 0
    where = torch.zeros(3, 4, 4, dtype=torch.bool)
    where[1, 0, :2] = True
    found = psnr(generated=generated, truth=truth, where=where)
    assert found.defined.tolist() == [True, False]
    assert float(found.values[0]) == pytest.approx(10 * math.log10(255**2 / 50))


def test_a_pixel_moves_when_one_channel_differs_by_more_than_ten() -> None:
    clip = ramp([100, 100, 100])
    clip[1, 0, 0, 2] = 110
    clip[1, 0, 1, 1] = 89
    clip[2, 2, 2] = 111
    moved = moving_pixels(clip)
    assert moved.nonzero().tolist() == [[1, 0, 1], [2, 2, 2]]


def test_moving_pixels_do_not_wrap_around_in_eight_bits() -> None:
    assert bool(moving_pixels(ramp([255, 0]))[1].all())
    assert bool(moving_pixels(ramp([0, 255]))[1].all())


def test_gain_over_copying_is_zero_for_the_copy_and_grows_with_the_prediction() -> None:
    truth = ramp([50, 100, 150])
    still = moving_gain(generated=copy_first_frame(truth), truth=truth)
    assert still.values.tolist() == [0, 0]
    better = moving_gain(generated=ramp([50, 95, 140]), truth=truth)
    assert better.values.tolist() == pytest.approx([20.0, 20.0])


def test_gain_is_undefined_until_something_moves() -> None:
    found = moving_gain(generated=ramp([50, 51, 90]), truth=ramp([50, 55, 100]))
    assert found.defined.tolist() == [False, True]


def test_wrong_clips_are_named() -> None:
    clip = ramp([0, 1])
    with pytest.raises(InvalidInput, match=r"generated: given torch.float32 \(2, 4, 4, 3\), expected torch.uint8"):
        psnr(generated=clip.float(), truth=clip)
    with pytest.raises(InvalidInput, match=r"where: given torch.bool \(2, 4\), expected torch.bool \(2, 4, 4\)"):
        psnr(generated=clip, truth=clip, where=torch.ones(2, 4, dtype=torch.bool))
    with pytest.raises(InvalidInput, match=r"truth: given torch\.float32"):
        moving_pixels(clip.float())
    with pytest.raises(InvalidInput, match=r"truth: given torch.uint8 \(4, 4, 3\)"):
        copy_first_frame(clip[0])
