"""Where a token is: rotary tables and tables added to the tokens, for any size, length and numbering of frames.

diffusers' own patch embedding refuses a learned table at another size, and at another number of frames silently takes
sines instead of it. Here a learned table is cut for fewer frames, and for another size each of its frames is
interpolated bicubically: the published table is smooth, and the model is trained on before it is used at that size.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.config import ModelConfig
from vap_sim.models.cogvideox.stock import stock


def token_grid(config: ModelConfig, size: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of tokens of a latent frame of size (h, w). Raises InvalidInput unless patches tile it."""
    if min(size) < 1 or size[0] % config.patch or size[1] % config.patch:
        raise InvalidInput("latent size (h, w)", tuple(size), f"positive multiples of the patch size {config.patch}")
    return size[0] // config.patch, size[1] // config.patch


def frame_numbers(frames: int, positions: Sequence[int] | Tensor | None) -> tuple[int, ...]:
    """The time index of each of T latent frames: `positions`, T integers, or 0 .. T - 1. Raises InvalidInput."""
    if positions is None:
        return tuple(range(frames))
    given = positions.tolist() if isinstance(positions, Tensor) else list(positions)
    whole = isinstance(given, list) and all(isinstance(one, int) and not isinstance(one, bool) for one in given)
    if not whole or len(given) != frames:
        raise InvalidInput("positions", given, f"{frames} integers, the time index of each latent frame")
    return tuple(given)


def rotary_table(
    config: ModelConfig, size: tuple[int, int], positions: Sequence[int], device: torch.device | str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Cosines and sines (T P, head width) float32 for latent frames of size (h, w) at time indices `positions`.

    Time indices may be any integers, negative too. In space the native grid is stretched over the frame, its shape
    kept, as diffusers' pipelines do; so at the native size neighbours are 1 apart. Equal bits with diffusers' table
    for positions 0 .. T - 1. Do not write to the tables: they are kept for the next call. Raises InvalidInput.
    """
    grid = token_grid(config, size)
    return _rotary(config.head_width, config.grid, grid, tuple(positions), torch.device(device))


@lru_cache(maxsize=64)
def _rotary(
    width: int, native: tuple[int, int], grid: tuple[int, int], positions: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    one_axis = stock("diffusers.models.embeddings").get_1d_rotary_pos_embed
    rows, columns = grid
    (top, left), (bottom, right) = _crop(rows, columns, *native)
    # What is kept must serve training too, even if the first call came from inference.
    with torch.inference_mode(False), torch.no_grad():
        axes = (
            (width // 4, torch.tensor(positions, dtype=torch.float32, device=device)),
            (width // 8 * 3, torch.linspace(top, bottom * (rows - 1) / rows, rows, device=device)),
            (width // 8 * 3, torch.linspace(left, right * (columns - 1) / columns, columns, device=device)),
        )
        shape = (len(positions), rows, columns)
        parts: tuple[list[Tensor], list[Tensor]] = ([], [])
        for axis, (channels, where) in enumerate(axes):
            for part, table in zip(parts, one_axis(channels, where, use_real=True), strict=True):
                spread = [1, 1, 1, channels]
                spread[axis] = shape[axis]
                part.append(table.reshape(spread).expand(*shape, channels))
        cosines, sines = (torch.cat(part, dim=-1).flatten(0, 2) for part in parts)
    return cosines, sines


def rotate(values: Tensor, table: tuple[Tensor, Tensor]) -> Tensor:
    """Queries or keys (b, heads, n, head width), each turned to its position. table: cosines and sines (n, width)."""
    cosines, sines = table
    even, odd = values.reshape(*values.shape[:-1], values.shape[-1] // 2, 2).unbind(-1)
    turned = torch.stack([-odd, even], dim=-1).flatten(-2)
    return (values.float() * cosines + turned.float() * sines).to(values.dtype)


def adds_positions(config: ModelConfig) -> bool:
    """Whether a model adds positions to its tokens, sines or learned ones; else it only rotates queries and keys."""
    return config.learned or not config.rotary


def position_table(
    config: ModelConfig,
    learned: Tensor | None,
    size: tuple[int, int],
    positions: Sequence[int],
    text_length: int,
    device: torch.device | str = "cpu",
) -> tuple[Tensor, Tensor] | None:
    """What is added to text tokens (L, D) and to video tokens (T P, D); None for a model that adds nothing.

    learned: the model's buffer (1, L' + T' P', D), not looked at unless the model learns its positions. Sines exist for
    every size and every time index from 0 on; a learned table has the time indices 0 .. T' - 1 of the native clip.

    Raises InvalidInput for a time index the table does not have, or more text tokens than a learned one has.
    """
    grid = token_grid(config, size)
    if not adds_positions(config):
        return None
    most = config.frames - 1 if config.learned else None
    for position in positions:
        if position < 0 or (most is not None and position > most):
            kind, last = ("learned table", most) if config.learned else ("table of sines", "any")
            raise InvalidInput("positions", f"time index {position}", f"0 to {last}, those of the {kind}")
    if not config.learned:
        return torch.zeros(text_length, config.width, device=device), _sines(config, grid, positions, device)
    if learned is None:
        raise InvalidInput("learned positions", "none", "the model's buffer patch_embed.pos_embedding")
    if text_length > config.text_length:
        raise InvalidInput("text tokens", text_length, f"at most {config.text_length}, those of the learned table")
    learned = learned.to(device)
    video = learned[0, config.text_length :].reshape(config.frames, *config.grid, -1)[list(positions)]
    if grid != config.grid:
        planes = F.interpolate(video.permute(0, 3, 1, 2).float(), grid, mode="bicubic", align_corners=False)
        video = planes.permute(0, 2, 3, 1).to(learned.dtype)
    return learned[0, :text_length], video.flatten(0, 2)


def _sines(config: ModelConfig, grid: tuple[int, int], positions: Sequence[int], device: torch.device | str) -> Tensor:
    table: Tensor = stock("diffusers.models.embeddings").get_3d_sincos_pos_embed(
        config.width,
        (grid[1], grid[0]),
        max(positions, default=0) + 1,
        config.transformer["spatial_interpolation_scale"],
        config.transformer["temporal_interpolation_scale"],
        device=torch.device(device),
    )
    return table[list(positions)].flatten(0, 1)


def _crop(rows: int, columns: int, most_rows: int, most_columns: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Top left and bottom right of the largest centred part of the native grid that has this frame's shape."""
    if rows / columns > most_rows / most_columns:
        inner = most_rows, round(most_rows / rows * columns)
    else:
        inner = round(most_columns / columns * rows), most_columns
    top, left = round((most_rows - inner[0]) / 2.0), round((most_columns - inner[1]) / 2.0)
    return (top, left), (top + inner[0], left + inner[1])
