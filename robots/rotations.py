"""Rotation matrices, roll-pitch-yaw angles (extrinsic xyz, as in URDF) and rotation vectors, batched."""

from __future__ import annotations

import torch
from torch import Tensor

# Closer to straight up or down than this cosine of pitch, roll and yaw turn about one axis and yaw is set to zero.
_GIMBAL = 1e-6
# Cosine of the angle beyond which a rotation's axis is read from its symmetric part.
_FAR = -0.9


def rpy_to_matrix(rpy: Tensor) -> Tensor:
    """Roll, pitch, yaw (*b, 3) [rad] -> (*b, 3, 3): first about x, then y, then z of the fixed frame."""
    (sr, sp, sy), (cr, cp, cy) = rpy.sin().unbind(-1), rpy.cos().unbind(-1)
    entries = [
        *(cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr),
        *(sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr),
        *(-sp, cp * sr, cp * cr),
    ]
    return torch.stack(entries, dim=-1).reshape(*rpy.shape[:-1], 3, 3)


def matrix_to_rpy(matrix: Tensor) -> Tensor:
    """Rotation (*b, 3, 3) -> roll, pitch, yaw (*b, 3) [rad], pitch in [-pi/2, pi/2]."""
    level = torch.hypot(matrix[..., 0, 0], matrix[..., 1, 0])
    upright = level < _GIMBAL
    pitch = torch.atan2(-matrix[..., 2, 0], level)
    roll = torch.where(
        upright, torch.atan2(-matrix[..., 1, 2], matrix[..., 1, 1]), torch.atan2(matrix[..., 2, 1], matrix[..., 2, 2])
    )
    yaw = torch.where(upright, torch.zeros_like(level), torch.atan2(matrix[..., 1, 0], matrix[..., 0, 0]))
    return torch.stack([roll, pitch, yaw], dim=-1)


def rotation_vector(matrix: Tensor) -> Tensor:
    """Rotation (*b, 3, 3) -> its axis times its angle in [0, pi], (*b, 3) [rad]."""
    # The sum of e_i x R e_i is twice the axis times the sine.
    eye = torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    turn = 0.5 * torch.linalg.cross(eye.expand_as(matrix), matrix.mT).sum(-2)
    sine = torch.linalg.vector_norm(turn, dim=-1, keepdim=True)
    cosine = 0.5 * ((matrix * eye).sum((-2, -1)).unsqueeze(-1) - 1)
    angle = torch.atan2(sine, cosine)
    # Below `least` the angle and its sine are equal to the last bit.
    least = torch.finfo(matrix.dtype).eps
    vector: Tensor = turn * ((angle + least) / (sine + least))
    far = cosine < _FAR
    if not bool(far.any()):
        return vector
    # Near half a turn the sine fades; the symmetric part of the matrix still holds the axis.
    return torch.where(far, _half_turn_axis(matrix, turn) * angle, vector)


def _half_turn_axis(matrix: Tensor, turn: Tensor) -> Tensor:
    symmetric = 0.5 * (matrix + matrix.transpose(-1, -2))
    cosine = 0.5 * (matrix.diagonal(dim1=-2, dim2=-1).sum(-1) - 1)
    outer = symmetric - cosine[..., None, None] * torch.eye(3, dtype=matrix.dtype, device=matrix.device)
    largest = outer.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None].expand(*outer.shape[:-1], 1)
    axis: Tensor = outer.gather(-1, largest).squeeze(-1)
    axis = axis / torch.linalg.vector_norm(axis, dim=-1, keepdim=True)
    return torch.where((axis * turn).sum(-1, keepdim=True) < 0, -axis, axis)
