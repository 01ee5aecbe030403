"""The compact networks with their weights laid out for dreaming: they say the same, up to rounding, only sooner.

oneDNN convolves with weights in an order of its own. Left to itself it puts them into that order again in every call,
which for small pictures costs as much as the convolution; here it happens once. Activations and sums overwrite what
nobody reads again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vap_sim.models.compact.network import CompactNetwork, MotionNet, ResidualBlock, Told, UNet, to_blocks
from vap_sim.models.compact.windows import WINDOW

Step = Callable[[Tensor], Tensor]
Blocks = list[tuple[Step, Step]]


def packed(network: CompactNetwork) -> CompactNetwork:
    """A copy of a network that is no longer trained, for rows one at a time; `network` itself stays as it is."""
    out = copy.deepcopy(network).eval().requires_grad_(False)
    for part in (out.scene, out.robot):
        part.unet = cast(UNet, PackedUNet(part.unet))
    out.motion = cast(MotionNet, PackedMotionNet(out.motion))
    return out


class PackedUNet(nn.Module):
    """What `UNet` computes, for inputs (1, inputs, h, w) without gradients.

    The best order of weights depends on the size of what they are convolved with: they are laid out anew for each size
    that is met, and kept."""

    def __init__(self, unet: UNet) -> None:
        super().__init__()
        self._made_of = (unet,)
        self._for: dict[tuple[int, int], _Packed] = {}
        self.dtype = unet.dtype
        self.style = unet.style

    def __reduce__(self) -> tuple[type[PackedUNet], tuple[UNet]]:
        return PackedUNet, self._made_of  # weights in oneDNN's order belong to this machine

    def forward(self, x: Tensor, style: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `UNet.forward`."""
        size = (x.shape[2], x.shape[3])
        if size not in self._for:
            self._for[size] = _Packed.of(self._made_of[0], size)
        net = self._for[size]
        x = net.stem(x.to(self.dtype, memory_format=torch.channels_last))
        skips: list[Tensor] = []
        for level, blocks in enumerate(net.before):
            if level:
                x = net.down[level - 1](x)
            if self.style is not None and style is not None:
                x.add_(self.style[level](style)[:, :, None, None])
            x = _through(blocks, x)
            skips.append(x)
        lowest = x
        for level in reversed(range(len(net.after))):
            x = F.interpolate(net.up[level](x), scale_factor=2.0, mode="nearest").add_(skips[level])
            x = _through(net.after[level], x)
        return net.head(F.silu(x)), lowest


@dataclass(frozen=True, eq=False)
class _Packed:
    """The convolutions of a `UNet` for one size of pictures, under its names."""

    stem: Step
    head: Step
    down: list[Step]
    up: list[Step]
    before: list[Blocks]
    after: list[Blocks]

    @classmethod
    def of(cls, unet: UNet, size: tuple[int, int]) -> _Packed:
        sizes = [(size[0] >> level, size[1] >> level) for level in range(len(unet.before))]
        return cls(
            stem=pack(unet.stem, size),
            head=pack(unet.head, size),
            down=[pack(down, before) for down, before in zip(unet.down, sizes, strict=False)],
            up=[pack(up, after) for up, after in zip(unet.up, sizes[1:], strict=True)],
            before=[_pack_blocks(blocks, at) for blocks, at in zip(unet.before, sizes, strict=True)],
            after=[_pack_blocks(blocks, at) for blocks, at in zip(unet.after, sizes, strict=False)],
        )


class PackedMotionNet(nn.Module):
    """What `MotionNet` computes, without gradients; of one object alone, to the bit, what it computes of it among
    others."""

    def __init__(self, network: MotionNet) -> None:
        super().__init__()
        self._made_of = (network,)
        self.overview, self.style, self.gather, self.head = (
            network.overview, network.style, network.gather, network.head
        )  # fmt: skip
        sizes = [(WINDOW >> (level + 1),) * 2 for level in range(len(network.blocks))]
        self._stem = pack(network.stem, sizes[0])
        self._down = [pack(down, before) for down, before in zip(network.down, sizes, strict=False)]
        self._blocks = [_pack_blocks(blocks, at) for blocks, at in zip(network.blocks, sizes, strict=True)]

    def __reduce__(self) -> tuple[type[PackedMotionNet], tuple[MotionNet]]:
        return PackedMotionNet, self._made_of  # weights in oneDNN's order belong to this machine

    def forward(self, windows: Tensor, overview: Tensor, state: Tensor, told: Told | None = None) -> Tensor:
        """As `MotionNet.forward`."""
        dtype = self.head.weight.dtype
        style = F.silu(_linear(self.overview, torch.cat([overview.flatten(1), state], dim=1).to(dtype)))
        style = style if told is None else style + told(style)
        x = self._stem(to_blocks(windows.to(dtype)).contiguous(memory_format=torch.channels_last))
        for level, blocks in enumerate(self._blocks):
            if level:
                x = self._down[level - 1](x)
            x = _through(blocks, x + _linear(self.style[level], style)[:, :, None, None])
        return _linear(self.head, F.silu(_linear(self.gather, F.silu(x).flatten(1)) + style))


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    """layer(x) for x (n, k). In which order libraries sum a product of float32 depends on the number of its rows, so
    there each row goes alone; sums of bfloat16 are the same."""
    together = len(x) == 1 or x.dtype == torch.bfloat16
    out: Tensor = layer(x) if together else torch.cat([layer(x[n : n + 1]) for n in range(len(x))])
    return out


def _through(blocks: Blocks, x: Tensor) -> Tensor:
    for first, second in blocks:
        x = second(F.silu(first(F.silu(x)), inplace=True)).add_(x)
    return x


def _pack_blocks(blocks: nn.Module, size: tuple[int, int]) -> Blocks:
    pairs = []
    for block in blocks.children():
        assert isinstance(block, ResidualBlock)
        pairs.append((pack(block.first, size), pack(block.second, size)))
    return pairs


def pack(layer: nn.Module, size: tuple[int, int]) -> Step:
    """A convolution of (1, C, *size), its weights in oneDNN's order, or the layer itself where that is missing."""
    assert isinstance(layer, nn.Conv2d) and isinstance(layer.padding, tuple)
    weight, bias = layer.weight, layer.bias
    if not _can_pack(weight):
        return layer
    padding, stride, dilation = list(layer.padding), list(layer.stride), list(layer.dilation)
    shape = [1, layer.in_channels, *size]
    # These two operators are what torch's own compiler calls; they have no public name.
    order, convolve = torch.ops.mkldnn._reorder_convolution_weight, torch.ops.mkldnn._convolution_pointwise
    ordered = order(weight, padding, stride, dilation, layer.groups, shape)

    def convolution(x: Tensor) -> Tensor:
        out: Tensor = convolve(x, ordered, bias, padding, stride, dilation, layer.groups, "none", [], "")
        return out

    return convolution


def _can_pack(weight: Tensor) -> bool:
    names = ("_reorder_convolution_weight", "_convolution_pointwise")
    can = _has_mkldnn() and all(hasattr(torch.ops.mkldnn, name) for name in names)
    return can and weight.device.type == "cpu" and (weight.dtype == torch.float32 or weight.dtype == fast_dtype())


def fast_dtype(device: torch.device | str = "cpu") -> torch.dtype:
    """The type in which a device convolves fastest: bfloat16 unless it is a processor that can only pretend to."""
    if torch.device(device).type != "cpu":
        return torch.bfloat16
    native = _has_mkldnn() and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if native else torch.float32


def fast_cast(device: str, precision: str) -> torch.autocast:
    """The context in which training computes: where `precision` is "bf16" and the device multiplies bfloat16 natively,
    in that. A processor that pretends to takes ten times as long, and trains in float32 instead."""
    fast = precision == "bf16" and fast_dtype(device) is torch.bfloat16
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=fast)


def _has_mkldnn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
