"""Drawn prompt videos to latent resolution: a small causal convolutional network that can go on where it stopped."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.codec import FRAMES, SIDE, Carry

_REACH = 3
"""Frames that one convolution looks at: its own and those just before."""
_PIXELS = 3 * SIDE * SIDE
_MOST = 1024
"""Largest width that is believed: a hostile file shall not make us fill the memory."""
HISTORY = 6
"""Latent frames before a latent frame that it still depends on. A window that begins as many before gives its bits but
for rounding: the layers look back 22 pixel frames, of which four are its own."""


class ControlEncoder(nn.Module):
    """A prompt video, packed in time and space as a codec packs pictures: the first frame alone, then four to one.

    No layer looks ahead, and before the first frame stands that frame again, so a clip may come in parts: what a part
    needs of those before it is a few frames of features, the carry. Rows and, for norms, places do not touch.

    channels: C of what comes out; width: channels in between; seed: decides the first weights, the global generator
    is left as it was. Raises InvalidInput.
    """

    def __init__(self, channels: int = 48, width: int = 128, *, seed: int = 0) -> None:
        super().__init__()
        if not (1 <= channels <= _MOST and 1 <= width <= _MOST):
            raise InvalidInput("channels and width of a control encoder", (channels, width), f"two of 1 .. {_MOST}")
        self.channels, self.width = channels, width
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.layers = nn.ModuleDict(
                {
                    "enter": _CausalConv(_PIXELS, width),
                    "drawing": _Residual(width),
                    "pairs": _CausalConv(width, width, pace=2),
                    "motion": _Residual(width),
                    "fours": _CausalConv(width, width, pace=2),
                    "whole": _Residual(width),
                }
            )
            self.norm = _Norm(width)
            self.leave = nn.Conv3d(width, channels, 1)

    def forward(self, frames: Tensor, carry: Carry | None = None) -> tuple[Tensor, Carry]:
        """Latents (b, T, C, H/8, W/8) of drawn frames, and what the call for the frames after them must be given.

        frames: (b, F, H, W, 3) uint8 RGB; F is 1 + 4 k at the clip's start, where `carry` is None, and 4 k later.
        Raises InvalidInput.
        """
        check_drawn(frames, started=carry is not None)
        # Black is 0, so that where nothing is drawn nothing comes in, at the border as in the middle.
        weight = self.leave.weight
        values = _cells(frames.to(weight.device)).to(weight.dtype) / 255
        kept: dict[str, Tensor] = {}
        for name, layer in self.layers.items():
            assert isinstance(layer, _CausalConv | _Residual)
            past = None if carry is None else _kept(carry, name, layer.keeps, values)
            values, kept[name] = layer(values, past)
        out: Tensor = self.leave(F.silu(self.norm(values)))
        return out.transpose(1, 2), kept


class _CausalConv(nn.Module):
    """Values (b, c, n, h, w), past (b, c, reach - pace, h, w) or None, to (b, c', n / pace, h, w) and the next past."""

    def __init__(self, channels: int, out: int, pace: int = 1) -> None:
        super().__init__()
        self.pace, self.keeps = pace, (channels, _REACH - pace)
        self.conv = nn.Conv3d(channels, out, _REACH, stride=(pace, 1, 1), padding=(0, 1, 1))

    def forward(self, values: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        if past is None:
            past = values[:, :, :1].expand(-1, -1, _REACH - 1, -1, -1)
        values = torch.cat([past, values], dim=2)
        return self.conv(values), values[:, :, self.pace - _REACH :].contiguous()


class _Residual(nn.Module):
    """Values, and added to them a causal convolution of their norm."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _Norm(width)
        self.inner = _CausalConv(width, width)
        self.keeps = self.inner.keeps

    def forward(self, values: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        update, past = self.inner(F.silu(self.norm(values)), past)
        return values + update, past


class _Norm(nn.Module):
    """Every place of every frame by itself (b, c, n, h, w), over channels: a norm over time would look ahead."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, values: Tensor) -> Tensor:
        normal = F.layer_norm(values.movedim(1, -1), self.weight.shape, self.weight, self.bias)
        return normal.movedim(-1, 1)


def check_drawn(frames: Tensor, *, started: bool) -> None:
    """Raise InvalidInput unless frames are (b, F, H, W, 3) uint8, H and W multiples of 8, and F fits.

    started: whether earlier frames of the clip were given before; then F is 4 k, else 1 + 4 k.
    """
    shape = tuple(frames.shape)
    if frames.dtype != torch.uint8 or frames.ndim != 5 or shape[4] != 3:
        raise InvalidInput("drawn frames", f"{frames.dtype} {shape}", "torch.uint8 (b, F, H, W, 3)")
    if shape[2] % SIDE or shape[3] % SIDE or not min(shape[2:4]):
        raise InvalidInput("size (H, W) of drawn frames", shape[2:4], f"multiples of {SIDE} pixels")
    check_count(shape[1], started=started)


def check_count(pixel_frames: int, *, started: bool) -> None:
    """Raise InvalidInput unless so many pixel frames make whole latent frames; started: as in `check_drawn`."""
    if started and (pixel_frames < 1 or pixel_frames % FRAMES):
        raise InvalidInput("pixel frames that go on from a carry", pixel_frames, f"{FRAMES} k, k at least 1")
    if not started and pixel_frames % FRAMES != 1:
        raise InvalidInput("pixel frames at the start of a clip", pixel_frames, f"1 + {FRAMES} k, the first alone")


def _cells(frames: Tensor) -> Tensor:
    """(b, F, H, W, 3) to (b, 192, F, H/8, W/8): each square of 8 by 8 pixels as channels."""
    b, count, height, width, _ = frames.shape
    split = frames.reshape(b, count, height // SIDE, SIDE, width // SIDE, SIDE, 3)
    return split.permute(0, 6, 3, 5, 1, 2, 4).flatten(1, 3)


def _kept(carry: Mapping[str, Tensor], name: str, keeps: tuple[int, int], values: Tensor) -> Tensor:
    expected = (len(values), *keeps, *values.shape[3:])
    found = carry.get(name)
    if found is None or tuple(found.shape) != expected:
        given = "missing" if found is None else tuple(found.shape)
        raise InvalidInput(f"{name!r} of a control encoder's carry", given, expected)
    return found.to(values)
