"""The Frechet distance of two sets of features, as of Gaussians with their means and covariances.

d^2 = |m1 - m2|^2 + tr C1 + tr C2 - 2 tr sqrt(C1 C2). With C1 = R1' R1 and C2 = R2' R2 the last trace is the sum of the
singular values of R1 R2', so no product of covariances is formed and no square root of a matrix without symmetry is
taken: both lose half of the digits, and the usual root fails for covariances without full rank. R is found from the
features by an orthogonal factorisation. Covariances are divided by the number of clips, as StyleGAN-V does.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.report import Interval

GROUPS = 10
_T_9 = 2.262157
"""97.5 % quantile of Student's t with GROUPS - 1 degrees of freedom."""


@dataclass(frozen=True)
class FrechetDistance:
    """The squared distance, the clips it rests on, and the length of their features; `means` is |m1 - m2|^2 alone."""

    value: float
    generated: int
    truth: int
    dimension: int
    means: float


def frechet_distance(*, generated: Tensor, truth: Tensor, few: bool = False) -> FrechetDistance:
    """The squared distance between two sets of features (n, D) and (m, D), in float64; 0 for equal sets.

    It is biased upwards where clips are few: with n or m of at most D a covariance has no full rank, and the figure
    mostly tells how many clips there were. That is refused unless `few` is said. Raises InvalidInput for it, for other
    shapes, for less than two clips, and for values that are not finite.
    """
    ours, theirs = _checked("generated", generated), _checked("truth", truth)
    if ours.shape[1] != theirs.shape[1]:
        raise InvalidInput("features", f"{ours.shape[1]} and {theirs.shape[1]} long", "equal lengths")
    dimension, least = ours.shape[1], min(len(ours), len(theirs))
    if least <= dimension and not few:
        expected = f"more than {dimension}, the length of the features (few=True takes what there is)"
        raise InvalidInput("clips", f"{len(ours)} generated and {len(theirs)} true", expected)
    mean_a, root_a = _moments(ours)
    mean_b, root_b = _moments(theirs)
    value = _distance(mean_a, root_a, mean_b, root_b)
    means = float((mean_a - mean_b).square().sum())
    return FrechetDistance(value, len(ours), len(theirs), dimension, means)


def gaussian_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """The squared Frechet distance of two Gaussians: means (D), covariances (D, D).

    Raises InvalidInput for other shapes and for covariances that are not symmetric or have negative eigenvalues.
    """
    if mean_a.ndim != 1 or mean_b.shape != mean_a.shape:
        raise InvalidInput("means", f"{tuple(mean_a.shape)} and {tuple(mean_b.shape)}", "two of shape (D)")
    roots = [_root(covariance, len(mean_a)) for covariance in (covariance_a, covariance_b)]
    return _distance(mean_a.double(), roots[0], mean_b.double(), roots[1])


def jackknife(*, generated: Tensor, truth: Tensor, few: bool = False) -> Interval | None:
    """A 95 % interval around `frechet_distance` by leaving out a tenth of the clips at a time, every tenth one.

    It tells the scatter by the choice of clips, not the bias of few clips. None where nine tenths are too few clips.
    """
    least = min(len(generated), len(truth))
    if least < 2 * GROUPS or (least - -(-least // GROUPS) <= generated.shape[1] and not few):
        return None
    value = frechet_distance(generated=generated, truth=truth, few=few).value
    left = torch.tensor([
        frechet_distance(generated=_without(generated, group), truth=_without(truth, group), few=True).value
        for group in range(GROUPS)
    ], dtype=torch.float64)  # fmt: skip
    error = float(((GROUPS - 1) / GROUPS * (left - left.mean()).square().sum()).sqrt())
    method = f"delete-a-group jackknife over clips, {GROUPS} groups; the bias of few clips is not in it"
    return Interval(max(value - _T_9 * error, 0.0), value + _T_9 * error, 0.95, method)


def _without(features: Tensor, group: int) -> Tensor:
    return features[torch.arange(len(features), device=features.device) % GROUPS != group]


def _checked(name: str, features: Tensor) -> Tensor:
    if features.ndim != 2 or len(features) < 2 or not features.shape[1]:
        raise InvalidInput(f"{name} features", tuple(features.shape), "(n, D) of at least two clips")
    if not bool(torch.isfinite(features).all()):
        raise InvalidInput(f"{name} features", "values that are not finite", "finite values")
    return features.detach().double().cpu()


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D) and R with R' R = the population covariance."""
    mean = features.mean(0)
    root = torch.linalg.qr((features - mean) / len(features) ** 0.5, mode="r").R
    return mean, root


def _root(covariance: Tensor, dimension: int) -> Tensor:
    """R with R' R = covariance."""
    value = covariance.double()
    if value.shape != (dimension, dimension) or not torch.allclose(value, value.T, rtol=1e-9, atol=1e-12):
        raise InvalidInput("covariance", tuple(value.shape), f"a symmetric matrix ({dimension}, {dimension})")
    levels, axes = torch.linalg.eigh(value)
    if float(levels[0]) < -1e-9 * max(float(levels[-1]), 0.0) - 1e-300:
        raise InvalidInput("covariance", f"an eigenvalue of {float(levels[0]):.3g}", "none below 0")
    root: Tensor = levels.clamp_min(0).sqrt()[:, None] * axes.T
    return root


def _distance(mean_a: Tensor, root_a: Tensor, mean_b: Tensor, root_b: Tensor) -> float:
    shared = torch.linalg.svdvals(root_a @ root_b.T).sum()
    apart = (mean_a - mean_b).square().sum() + root_a.square().sum() + root_b.square().sum() - 2 * shared
    return max(float(apart), 0.0)  # rounding may take equal sets below 0
