"""Noise by key: what is drawn for a row depends on its seed and the number of its draw, on nothing else.

Every row has a stream of its own in the counter-based Philox generator, whose 128-bit key is exactly (seed, draw). So
rows share no generator that would tie a row to its place in a batch, and randomness is two integers in a state.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput

_WORD = 2**64


def row_keys(seed: Sequence[int] | Tensor, rows: int, device: torch.device | str = "cpu") -> Tensor:
    """Keys (rows,) int64 from one seed a row: integers in [-2**63, 2**63). Raises InvalidInput."""
    expected = f"{rows} integers of at most 64 bits, one a row"
    if isinstance(seed, Tensor):
        if seed.shape != (rows,) or seed.dtype.is_floating_point or seed.dtype.is_complex or seed.dtype == torch.bool:
            raise InvalidInput("seed", f"{seed.dtype} {tuple(seed.shape)}", expected)
        return seed.to(device, torch.int64, copy=True)
    if isinstance(seed, str) or not isinstance(seed, Sequence | np.ndarray) or len(seed) != rows:
        raise InvalidInput("seed", seed, expected)
    for value in seed:
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or not -(2**63) <= int(value) < 2**63:
            raise InvalidInput("seed", value, expected)
    return torch.tensor([int(value) for value in seed], dtype=torch.int64, device=device)


def standard_normals(key: Tensor, draw: Tensor, shape: Sequence[int], *, stream: int = 0) -> Tensor:
    """Standard normal numbers (b, *shape) float32 on the key's device.

    key, draw: (b,) int64, for example the key and step of a state; stream: tells several draws of one step apart. A row
    gets the same bits alone and in any batch, at any place in it, on any device. Raises InvalidInput.
    """
    if key.dtype != torch.int64 or key.ndim != 1:
        raise InvalidInput("key", f"{key.dtype} {tuple(key.shape)}", "torch.int64 (b,)")
    if draw.dtype != torch.int64 or draw.shape != key.shape:
        raise InvalidInput("draw", f"{draw.dtype} {tuple(draw.shape)}", f"torch.int64 {tuple(key.shape)}")
    if not 0 <= stream < _WORD:
        raise InvalidInput("stream", stream, "an integer in [0, 2**64)")
    noise = np.empty((len(key), *shape), dtype=np.float32)
    for row, (seed, number) in enumerate(zip(key.tolist(), draw.tolist(), strict=True)):
        # Draws count up in the key and streams in the counter's last word, far above what one draw can use up.
        philox = np.random.Philox(key=(seed % _WORD) << 64 | number % _WORD, counter=stream << 192)
        np.random.Generator(philox).standard_normal(out=noise[row], dtype=np.float32)
    return torch.from_numpy(noise).to(key.device)
