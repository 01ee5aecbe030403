"""SSIM: equal to scikit-image, symmetric, falling under noise and blur, one frame as in a batch."""

import numpy as np
import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.metrics.similarity import ssim, ssim_channels


def rough(k: int) -> torch.Tensor:
    y, x, c = np.mgrid[:20, :24, :3].astype(np.int64)
    return torch.from_numpy(((3 * y * y + 5 * x * (k + 1) + 40 * c + x * y * (k + 2)) % 256).astype(np.uint8))


def smooth(k: int) -> torch.Tensor:
    y, x, c = np.mgrid[:20, :24, :3].astype(np.int64)
    return torch.from_numpy((60 + 5 * y + 2 * x * (1 + k) + 10 * c).clip(0, 255).astype(np.uint8))


def clip(*frames: torch.Tensor) -> torch.Tensor:
    """A clip whose first frame, which is not judged, is black."""
    return torch.stack([torch.zeros_like(frames[0]), *frames])


def noise(seed: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


# scikit-image 0.26.0: structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
# data_range=255), of each channel, and with channel_axis=-1.
GOLDEN = [
    (rough(0), rough(1), [-0.09769345522951477, -0.1177645935121705, -0.11526040252935163], -0.11023948375701231),
    (smooth(0), smooth(1), [0.9451928122338602, 0.946844374219738, 0.9482012189484442], 0.9467461351340142),
    (smooth(0), rough(0), [0.007392656934089389, 0.008114556120733559, 0.01164663525709048], 0.00905128277063781),
    (smooth(1), smooth(1) // 2, [0.6923722775970998, 0.6924554531210033, 0.6925288776264601], 0.6924522027815211),
]


@pytest.mark.parametrize(("a", "b", "channels", "mean"), GOLDEN)
def test_it_is_the_number_of_scikit_image(a: torch.Tensor, b: torch.Tensor, channels: list[float], mean: float) -> None:
    each = ssim_channels(generated=clip(a), truth=clip(b))
    assert each.values.shape == (1, 3)
    assert each.values[0].tolist() == pytest.approx(channels, abs=1e-12)
    assert ssim(generated=clip(a), truth=clip(b)).values.tolist() == pytest.approx([mean], abs=1e-12)


def test_equal_frames_have_one_and_the_order_of_clips_is_of_no_matter() -> None:
    a, b = noise(0, 3, 16, 16, 3), noise(1, 3, 16, 16, 3)
    assert ssim(generated=a, truth=a).values.tolist() == pytest.approx([1, 1])
    assert torch.equal(ssim(generated=a, truth=b).values, ssim(generated=b, truth=a).values)


def test_a_frame_alone_scores_as_in_a_batch_and_given_frames_are_not_judged() -> None:
    a, b = noise(0, 2, 4, 16, 18, 3), noise(1, 2, 4, 16, 18, 3)
    found = ssim(generated=a, truth=b)
    assert found.values.shape == (2, 3)
    assert found.undefined == 0
    for row in range(2):
        for t in range(3):
            alone = ssim(generated=clip(a[row, t + 1]), truth=clip(b[row, t + 1]))
            assert float(alone.values) == pytest.approx(float(found.values[row, t]), abs=1e-12)
    changed = a.clone()
    changed[:, 0] = 0
    assert torch.equal(ssim(generated=changed, truth=b).values, found.values)


def test_it_is_blind_to_mirrors_and_quarter_turns_of_both() -> None:
    a, b = noise(0, 2, 16, 16, 3), noise(1, 2, 16, 16, 3)
    found = ssim(generated=a, truth=b).values
    for change in (lambda x: x.flip(1), lambda x: x.flip(2), lambda x: x.transpose(1, 2), lambda x: x.flip(3)):
        torch.testing.assert_close(ssim(generated=change(a), truth=change(b)).values, found)


def test_it_falls_with_noise_and_with_blur() -> None:
    truth = clip(*[noise(k, 6, 6, 3).repeat_interleave(4, 0).repeat_interleave(4, 1) for k in range(3)])
    unrest = torch.randn(truth.shape, generator=torch.Generator().manual_seed(5))
    noisy = [(truth + level * unrest).clamp(0, 255).to(torch.uint8) for level in (0, 5, 15, 40, 90)]
    values = [ssim(generated=one, truth=truth).mean() for one in noisy]
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.7 < values[1]
    blurred = [truth]
    for _ in range(3):
        now = blurred[-1].float()
        blurred.append(((now + now.roll(1, 1) + now.roll(1, 2) + now.roll((1, 1), (1, 2))) / 4).to(torch.uint8))
    values = [ssim(generated=one, truth=truth).mean() for one in blurred]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 4


def test_no_clips_have_no_scores() -> None:
    empty = torch.zeros(0, 3, 16, 16, 3, dtype=torch.uint8)
    assert ssim(generated=empty, truth=empty).values.shape == (0, 2)


def test_wrong_clips_are_named() -> None:
    with pytest.raises(InvalidInput, match="pictures: given 16 x 10 px, expected sides of at least 11 px"):
        ssim(generated=noise(0, 2, 10, 16, 3), truth=noise(0, 2, 10, 16, 3))
    with pytest.raises(InvalidInput, match=r"generated: given torch.float32"):
        ssim(generated=torch.zeros(2, 16, 16, 3), truth=noise(0, 2, 16, 16, 3))
