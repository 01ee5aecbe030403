"""Pictures between bytes and numbers, as the compact worlds keep and as their networks read them."""

from __future__ import annotations

import cv2
import torch
from torch import Tensor


def levels(values: Tensor) -> Tensor:
    """[0, 1] -> uint8: what is carried on is what a picture could have shown."""
    return (values * 255).round_().to(torch.uint8)


def unit(values: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return values.float() / 255


def planes(image: Tensor, device: torch.device) -> Tensor:
    """(H, W, 3) uint8 -> (1, 3, H, W) uint8, every plane in one piece."""
    return image.to(device).permute(2, 0, 1)[None].contiguous()


def unit_planes(image: Tensor, device: torch.device) -> Tensor:
    """(H, W, C) uint8 -> (1, C, H, W) float32 in [0, 1]."""
    return unit(image.to(device).permute(2, 0, 1)[None])


def drawn_blocks(skeleton: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A drawn skeleton (H, W, 3) uint8 as `layers.skeleton_blocks` gives it."""
    height, width, _ = skeleton.shape
    pairs = skeleton.cpu().contiguous().numpy().reshape(height, width // 2, 6)
    parts = cv2.split(pairs)  # the left pixels' colors, then the right ones'
    order = [parts[3 * right + color][low::2] for color in range(3) for low in range(2) for right in range(2)]
    blocks = torch.from_numpy(cv2.merge(order)).to(device).permute(2, 0, 1)[None]
    return unit(blocks).mul_(2).sub_(1).to(dtype)
