"""Pictures resized without distortion and padded with black, as openpi's policies were trained to see them."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from vap_sim.errors import InvalidInput


def resize_with_pad(images: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Pictures (b, H, W, 3) uint8 scaled to fit into (height, width), centred, the rest black: (b, height, width, 3).

    Sizes and offsets are rounded down, and scaling down is antialiased, as in tf.image.resize_with_pad and openpi's
    client (`image_tools.resize_with_pad`); grey levels differ from the latter's by at most one. Raises InvalidInput.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8 or min(images.shape[1:3]) < 1:
        raise InvalidInput("pictures to pad", f"{images.dtype} {images.shape}", "uint8 (b, H, W, 3)")
    if images.shape[1:3] == (height, width):
        return images.copy()
    ratio = max(images.shape[2] / width, images.shape[1] / height)
    size = int(images.shape[1] / ratio), int(images.shape[2] / ratio)
    out = np.zeros((len(images), height, width, 3), np.uint8)
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    out[:, top : top + size[0], left : left + size[1]] = resized(images, *size)
    return out


def resized(images: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Pictures (b, H, W, 3) uint8 at another size, bilinear, antialiased where they shrink."""
    if images.shape[1:3] == (height, width):
        return images.copy()
    # One by one, so that a picture comes out the same in any batch.
    rows = [torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() for image in images]
    scaled = [
        torch.nn.functional.interpolate(row, (height, width), mode="bilinear", align_corners=False, antialias=True)
        for row in rows
    ]
    stacked = torch.cat(scaled) if scaled else torch.zeros(0, 3, height, width)
    return stacked.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
