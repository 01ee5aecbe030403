"""Pixels to latents and back: the protocol of all codecs, and a fixed transform for machines without a GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput

FRAMES = 4
"""Pixel frames in a latent frame, except the first, which holds one."""
SIDE = 8
"""Side of the square of pixels in one latent pixel."""
Carry = Mapping[str, Tensor]
"""What a streaming decoder must remember between calls; every tensor leads with the row axis b. May be empty."""

# How alike neighbouring pixels are in space and time, and how loud each colour axis is: round numbers that hold for
# filmed scenes in general. They order and scale the coefficients; they were fitted to no data set.
_SPACE, _TIME = 0.95, 0.95
_LOUDNESS = (1.0, 0.1, 0.05)


class Codec(Protocol):
    """Packs 1 + 4 k pixel frames into 1 + k latent frames, each pixel of which covers 8 by 8 pixels.

    The first frame is packed alone and each later latent frame depends on no later pixel frame.
    """

    @property
    def latent_channels(self) -> int:
        """Channels of a latent frame, C."""
        ...

    def encode(self, frames: Tensor) -> Tensor:
        """frames: (b, 1 + 4 k, H, W, 3) uint8 RGB, to latents (b, 1 + k, C, H/8, W/8) of spread near 1."""
        ...

    def decode(self, latents: Tensor) -> Tensor:
        """The inverse: latents (b, 1 + k, C, h, w) to frames (b, 1 + 4 k, 8 h, 8 w, 3) uint8 RGB."""
        ...

    def decode_next(self, latents: Tensor, carry: Carry | None = None) -> tuple[Tensor, Carry]:
        """The clip's next latent frames (b, n, C, h, w) alone, and what the call after it must be given.

        carry: of the call before; None at the clip's start, whose first latent frame is a single frame. Frames:
        (b, 4 n, 8 h, 8 w, 3) uint8 RGB, and 4 n - 3 of them at the start.
        """
        ...


class TinyCodec:
    """A codec without learned weights: the strongest C numbers of an orthonormal cosine transform of each cell.

    A cell is 4 frames by 8 by 8 pixels by 3 colours, 768 numbers, or 192 in the first frame. Which are strong is
    computed from a model of filmed scenes, not from data; each is divided by the spread that the model expects. Cells
    are independent, so a frame is decoded without its neighbours, rows do not touch, and the carry is empty. A clip
    standing still has, in the channels that are constant over time, the latents of its first frame.

    channels: C, 1 .. 192. Runs on the device of what it is given. Raises InvalidInput.
    """

    def __init__(self, channels: int = 48) -> None:
        most = SIDE * SIDE * 3
        if isinstance(channels, bool) or not isinstance(channels, int) or not 1 <= channels <= most:
            raise InvalidInput("channels of TinyCodec", channels, f"a whole number from 1 to {most}")
        self._clip, self._clip_spread, self._still, self._still_spread = _bases(channels)
        self._channels = channels

    @property
    def latent_channels(self) -> int:
        return self._channels

    @property
    def basis(self) -> Tensor:
        """The orthonormal rows (C, 768) that latent frames after the first are made of; pixels as (4, 8, 8, 3)."""
        return self._clip

    @property
    def still_basis(self) -> Tensor:
        """The orthonormal rows (C, 192) of the first latent frame; pixels as (8, 8, 3)."""
        return self._still

    def encode(self, frames: Tensor) -> Tensor:
        check_frames(frames)
        pixels = frames.to(torch.float32) / 127.5 - 1
        first = _cells(pixels[:, :1], 1) @ _scaled(self._still, 1 / self._still_spread, frames).T
        rest = _cells(pixels[:, 1:], FRAMES) @ _scaled(self._clip, 1 / self._clip_spread, frames).T
        return torch.cat([first, rest], dim=1).permute(0, 1, 4, 2, 3)

    def decode(self, latents: Tensor) -> Tensor:
        return self.decode_next(latents)[0]

    def decode_next(self, latents: Tensor, carry: Carry | None = None) -> tuple[Tensor, Carry]:
        check_latents(latents, self._channels)
        values = latents.to(torch.float32).permute(0, 1, 3, 4, 2)
        start = 1 if carry is None else 0
        first = _pixels(values[:, :start] @ _scaled(self._still, self._still_spread, latents), 1)
        rest = _pixels(values[:, start:] @ _scaled(self._clip, self._clip_spread, latents), FRAMES)
        return to_bytes(torch.cat([first, rest], dim=1)), {}


def check_frames(frames: Tensor) -> None:
    """Raise InvalidInput unless frames are (b, 1 + 4 k, H, W, 3) uint8 with H and W multiples of 8."""
    shape = tuple(frames.shape)
    fits = frames.ndim == 5 and shape[4] == 3 and shape[1] % FRAMES == 1
    if not fits or frames.dtype != torch.uint8 or shape[2] % SIDE or shape[3] % SIDE or not min(shape[2:4]):
        expected = f"torch.uint8 (b, 1 + {FRAMES} k, H, W, 3), H and W multiples of {SIDE}"
        raise InvalidInput("frames to encode", f"{frames.dtype} {shape}", expected)


def check_latents(latents: Tensor, channels: int) -> None:
    """Raise InvalidInput unless latents are (b, n, channels, h, w), n at least 1, of a floating type."""
    shape = tuple(latents.shape)
    if latents.ndim != 5 or shape[2] != channels or not shape[1] or not latents.is_floating_point():
        raise InvalidInput("latents to decode", f"{latents.dtype} {shape}", f"floats (b, n, {channels}, h, w)")


def to_bytes(pixels: Tensor) -> Tensor:
    """Pixels in [-1, 1], cut to it, on the 8-bit grid."""
    return ((pixels.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def _cells(pixels: Tensor, frames: int) -> Tensor:
    """(b, n frames, H, W, 3) to (b, n, H/8, W/8, frames * 8 * 8 * 3)."""
    b, count, height, width, _ = pixels.shape
    split = pixels.reshape(b, count // frames, frames, height // SIDE, SIDE, width // SIDE, SIDE, 3)
    return split.permute(0, 1, 3, 5, 2, 4, 6, 7).flatten(4)


def _pixels(cells: Tensor, frames: int) -> Tensor:
    """The inverse of `_cells`."""
    b, count, rows, columns, _ = cells.shape
    split = cells.reshape(b, count, rows, columns, frames, SIDE, SIDE, 3).permute(0, 1, 4, 2, 5, 3, 6, 7)
    return split.reshape(b, count * frames, rows * SIDE, columns * SIDE, 3)


def _scaled(basis: Tensor, spread: Tensor, like: Tensor) -> Tensor:
    return (basis * spread[:, None]).to(like.device)


def _cosines(n: int) -> Tensor:
    """The orthonormal cosine transform (n, n) float64, rows by rising frequency."""
    k, x = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)[None]
    table = torch.cos(math.pi * (x + 0.5) * k / n) * math.sqrt(2 / n)
    table[0] /= math.sqrt(2)
    return table


def _power(n: int, likeness: float) -> Tensor:
    """Expected squares (n,) of the cosine numbers of a row whose neighbours are alike to this degree."""
    steps = (torch.arange(n)[:, None] - torch.arange(n)[None]).abs()
    table = _cosines(n)
    return (table @ likeness ** steps.to(torch.float64) @ table.T).diagonal()


def _bases(channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Basis and spreads of a clip's cell (C, 768), (C,) and of a still's (C, 192), (C,)."""
    colours = torch.tensor([[1.0, 1, 1], [1, 0, -1], [1, -2, 1]], dtype=torch.float64)
    colours = colours / colours.norm(dim=1, keepdim=True)
    space, side = _cosines(SIDE), _power(SIDE, _SPACE)
    still = torch.einsum("ux,vy,cz->uvcxyz", space, space, colours).reshape(-1, SIDE * SIDE * 3)
    power = torch.einsum("u,v,c->uvc", side, side, torch.tensor(_LOUDNESS, dtype=torch.float64)).flatten()
    clip = torch.einsum("tf,ap->tafp", _cosines(FRAMES), still).reshape(len(power) * FRAMES, -1)
    clip_power = torch.outer(_power(FRAMES, _TIME), power).flatten()
    # Stable, so that coefficients of equal power keep one order on every machine.
    strongest = clip_power.argsort(descending=True, stable=True)[:channels]

    # A frame standing still for a cell's length has `loud` times the numbers of one frame, in the constant channels.
    loud = math.sqrt(FRAMES)
    constant = strongest < len(power)
    others = [
        int(one) for one in power.argsort(descending=True, stable=True) if int(one) not in set(strongest.tolist())
    ]
    chosen = strongest.clone()
    chosen[~constant] = torch.tensor(others[: int((~constant).sum())], dtype=torch.int64)
    spread = clip_power[strongest].sqrt()
    still_spread = torch.where(constant, spread / loud, power[chosen].sqrt())
    tables = (clip[strongest], spread, still[chosen], still_spread)
    # The model's spreads are relative; pixels in [-1, 1] have about this one.
    scale = 0.5
    return tables[0].float(), (tables[1] * scale).float(), tables[2].float(), (tables[3] * scale).float()
