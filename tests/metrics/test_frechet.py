"""The Frechet distance against scipy's matrix root and closed forms, and by the laws of a distance."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from vap_sim.errors import InvalidInput
from vap_sim.metrics.frechet import frechet_distance, gaussian_distance, jackknife


def features(seed: int, n: int, d: int, shift: float = 0.0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.standard_normal((n, d)) @ rng.standard_normal((d, d)) + shift)


def by_matrix_root(a: torch.Tensor, b: torch.Tensor) -> float:
    covariances = [np.cov(x.numpy(), rowvar=False, ddof=0) for x in (a, b)]
    root = sqrtm(covariances[0] @ covariances[1])
    apart = np.square(a.numpy().mean(0) - b.numpy().mean(0)).sum()
    return float(apart + np.trace(covariances[0] + covariances[1] - 2 * np.real(root)))


@pytest.mark.parametrize(("n", "m", "d"), [(40, 60, 3), (200, 150, 24), (30, 25, 1)])
def test_it_is_what_the_matrix_root_gives(n: int, m: int, d: int) -> None:
    a, b = features(0, n, d), features(1, m, d, 0.7)
    found = frechet_distance(generated=a, truth=b)
    if d > 1:
        assert found.value == pytest.approx(by_matrix_root(a, b), rel=1e-9)
    else:
        expected = (a.mean() - b.mean()) ** 2 + (a.std(correction=0) - b.std(correction=0)) ** 2
        assert found.value == pytest.approx(float(expected), rel=1e-12)
    assert (found.generated, found.truth, found.dimension) == (n, m, d)
    assert found.means == pytest.approx(float((a.mean(0) - b.mean(0)).square().sum()))


def test_gaussians_that_commute_have_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    turn = torch.from_numpy(np.linalg.qr(rng.standard_normal((5, 5)))[0])
    s, t = torch.tensor([1.0, 2, 3, 0.5, 0]).double(), torch.tensor([2.0, 0.1, 3, 4, 1]).double()
    a, b = (turn @ torch.diag(x**2) @ turn.T for x in (s, t))
    mean = torch.arange(5).double()
    expected = float((s - t).square().sum() + mean.square().sum())
    assert gaussian_distance(mean, a, torch.zeros(5), b) == pytest.approx(expected, rel=1e-12)
    assert gaussian_distance(mean, a, mean, a) == pytest.approx(0, abs=1e-12)


def test_distance_of_features_is_that_of_their_gaussians() -> None:
    a, b = features(0, 50, 6), features(1, 70, 6)
    moments = [(x.mean(0), torch.cov(x.T, correction=0)) for x in (a, b)]
    assert gaussian_distance(*moments[0], *moments[1]) == pytest.approx(
        frechet_distance(generated=a, truth=b).value, rel=1e-9
    )


def test_it_is_zero_for_equal_sets_symmetric_and_blind_to_order_and_motions() -> None:
    a, b = features(0, 90, 12), features(1, 80, 12, 0.3)
    value = frechet_distance(generated=a, truth=b).value
    assert frechet_distance(generated=a, truth=a).value < 1e-10
    assert frechet_distance(generated=b, truth=a).value == pytest.approx(value, rel=1e-12)
    order = torch.randperm(90, generator=torch.Generator().manual_seed(0))
    assert frechet_distance(generated=a[order], truth=b).value == pytest.approx(value, rel=1e-12)
    turn = torch.from_numpy(np.linalg.qr(np.random.default_rng(2).standard_normal((12, 12)))[0])
    assert frechet_distance(generated=a @ turn + 5, truth=b @ turn + 5).value == pytest.approx(value, rel=1e-9)
    assert frechet_distance(generated=3 * a, truth=3 * b).value == pytest.approx(9 * value, rel=1e-12)
    moved = frechet_distance(generated=a + 2.0, truth=a).value
    assert moved == pytest.approx(4 * 12, rel=1e-12)


def test_features_without_full_rank_are_no_trouble() -> None:
    """The usual matrix root gives imaginary parts here; the closed form is that of the features that differ."""
    a, b = features(0, 60, 8), features(1, 60, 8)
    zeros = torch.zeros(60, 30)
    wide = frechet_distance(generated=torch.cat([a, a, zeros], 1), truth=torch.cat([b, b, zeros], 1))
    assert wide.value == pytest.approx(2 * frechet_distance(generated=a, truth=b).value, rel=1e-9)
    tiny = frechet_distance(generated=1e-6 * a, truth=1e-6 * b).value
    assert tiny == pytest.approx(1e-12 * frechet_distance(generated=a, truth=b).value, rel=1e-9)


def test_it_grows_with_noise_and_falls_with_the_number_of_clips() -> None:
    truth = features(0, 300, 10)
    unrest = torch.from_numpy(np.random.default_rng(3).standard_normal((300, 10)))
    values = [frechet_distance(generated=truth + level * unrest, truth=truth).value for level in (0.0, 0.5, 1, 2, 4)]
    assert values == sorted(values)
    base = np.random.default_rng(4)
    biases = [
        np.mean([
            frechet_distance(generated=torch.from_numpy(base.standard_normal((n, 10))),
                             truth=torch.from_numpy(base.standard_normal((n, 10)))).value for _ in range(5)
        ]) for n in (12, 50, 400)
    ]  # fmt: skip
    assert biases == sorted(biases, reverse=True)


def test_too_few_clips_are_refused_unless_asked_for() -> None:
    a, b = features(0, 12, 12), features(1, 90, 12)
    words = "clips: given 12 generated and 90 true, expected more than 12, the length of the features"
    with pytest.raises(InvalidInput, match=words):
        frechet_distance(generated=a, truth=b)
    found = frechet_distance(generated=a, truth=b, few=True)
    assert found.generated == 12
    assert found.value == pytest.approx(by_matrix_root(a, b), rel=1e-4)


def test_the_interval_holds_the_value_and_most_often_the_truth() -> None:
    rng = np.random.default_rng(7)
    held = []
    for _ in range(30):
        a, b = (torch.from_numpy(rng.standard_normal((400, 2)) + shift) for shift in (1.0, 0.0))
        interval = jackknife(generated=a, truth=b)
        assert interval is not None
        assert interval.low <= frechet_distance(generated=a, truth=b).value <= interval.high
        held.append(interval.low <= 2.0 <= interval.high)
    assert 0.8 <= np.mean(held) <= 1.0
    assert jackknife(generated=a[:19], truth=b) is None
    assert jackknife(generated=features(0, 30, 28), truth=features(1, 30, 28)) is None
    assert jackknife(generated=features(0, 30, 28), truth=features(1, 30, 28), few=True) is not None


def test_wrong_arguments_are_named() -> None:
    a = features(0, 20, 3)
    with pytest.raises(InvalidInput, match=r"truth features: given \(3,\), expected \(n, D\)"):
        frechet_distance(generated=a, truth=a[0])
    with pytest.raises(InvalidInput, match="features: given 3 and 2 long"):
        frechet_distance(generated=a, truth=a[:, :2])
    with pytest.raises(InvalidInput, match="generated features: given values that are not finite"):
        frechet_distance(generated=a * torch.nan, truth=a)
    eye = torch.eye(3)
    with pytest.raises(InvalidInput, match=r"means: given \(3,\) and \(2,\)"):
        gaussian_distance(torch.zeros(3), eye, torch.zeros(2), eye)
    with pytest.raises(InvalidInput, match=r"covariance: given \(2, 2\), expected a symmetric matrix \(3, 3\)"):
        gaussian_distance(torch.zeros(3), torch.eye(2), torch.zeros(3), eye)
    with pytest.raises(InvalidInput, match="covariance: given an eigenvalue of -1, expected none below 0"):
        gaussian_distance(torch.zeros(3), -eye, torch.zeros(3), eye)
