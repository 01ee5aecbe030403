"""Rotations: each conversion undoes the other, everywhere."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vap_sim.robots.rotations import matrix_to_rpy, rotation_vector, rpy_to_matrix


def turned(vector: Tensor) -> Tensor:
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).reshape(*vector.shape[:-1], 3, 3)
    return torch.matrix_exp(cross)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4, 0.5, 2.0, 2.8, 3.1, math.pi - 1e-7])
def test_rotation_vector_undoes_the_exponential(angle: float) -> None:
    axis = torch.randn(500, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vector = angle * axis / axis.norm(dim=-1, keepdim=True)
    torch.testing.assert_close(rotation_vector(turned(vector)), vector, atol=1e-7, rtol=0)


def test_half_turn_has_one_of_its_two_vectors() -> None:
    vector = rotation_vector(turned(torch.tensor([0.0, math.pi, 0.0], dtype=torch.float64)))
    torch.testing.assert_close(vector.abs(), torch.tensor([0.0, math.pi, 0.0], dtype=torch.float64), atol=1e-6, rtol=0)


def test_rpy_round_trip_also_when_upright() -> None:
    rpy = (torch.rand(1000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5) * 2 * math.pi
    rpy[:200, 1] = math.pi / 2
    rpy[200:400, 1] = -math.pi / 2
    matrix = rpy_to_matrix(rpy)
    matrix[matrix.abs() < 1e-12] = 0
    torch.testing.assert_close(rpy_to_matrix(matrix_to_rpy(matrix)), matrix, atol=3e-6, rtol=0)
    torch.testing.assert_close(matrix_to_rpy(matrix[400:500]).sin()[:, 1], rpy[400:500].sin()[:, 1])


def test_rpy_is_extrinsic_xyz() -> None:
    one = torch.eye(3, dtype=torch.float64)
    roll, pitch, yaw = (turned(one[i] * a) for i, a in enumerate((0.3, -0.4, 0.5)))
    torch.testing.assert_close(rpy_to_matrix(torch.tensor([0.3, -0.4, 0.5], dtype=torch.float64)), yaw @ pitch @ roll)
