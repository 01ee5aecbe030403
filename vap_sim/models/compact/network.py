"""The three small convolutional networks of the compact world: what is there, what moves, and what the robot looks
like.

All are norm-free residual U-Nets that see a 128 x 128 picture as 64 x 64 blocks of 2 x 2 pixels (h = H / 2). Norm-free,
because a normalisation layer costs more than a convolution at these widths on a CPU and ties a pixel to the rest of its
picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class UNetConfig:
    """Channels and residual blocks of each level, from 64 x 64 downwards."""

    widths: tuple[int, ...]
    blocks: tuple[int, ...]


@dataclass(frozen=True)
class CompactConfig:
    """Everything that fixes the shape of the compact model's weights."""

    size: int = 128
    style: int = 24
    scene: UNetConfig = UNetConfig((32, 64, 96, 128), (1, 1, 2, 2))
    motion: UNetConfig = UNetConfig((32, 64, 96, 128), (1, 1, 2, 2))
    robot: UNetConfig = UNetConfig((32, 64, 96, 128), (1, 1, 2, 2))


def to_blocks(image: Tensor) -> Tensor:
    """(b, C, H, W) -> (b, 4 C, H/2, W/2): every 2 x 2 pixels become one position."""
    return F.pixel_unshuffle(image, 2)


def to_pixels(blocks: Tensor) -> Tensor:
    """(b, 4 C, h, w) -> (b, C, H, W), the inverse; every plane in one piece, as arithmetic on pictures likes it."""
    return F.pixel_shuffle(blocks.contiguous(), 2)


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))); the second convolution starts at zero, so a fresh block is the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.second(F.silu(self.first(F.silu(x))))
        return x + change


class UNet(nn.Module):
    """A residual U-Net whose skips are added, with an optional style vector added to every level.

    Input (b, inputs, h, w) -> output (b, outputs, h, w) and the lowest features (b, widths[-1], h/8, w/8).
    """

    def __init__(self, inputs: int, outputs: int, config: UNetConfig, style: int = 0) -> None:
        super().__init__()
        widths = config.widths
        self.stem = nn.Conv2d(inputs, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.before = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, config.blocks, strict=True))
        self.after = nn.ModuleList(_blocks(w, n) for w, n in zip(widths[:-1], config.blocks[:-1], strict=True))
        self.head = nn.Conv2d(widths[0], outputs, 3, padding=1)
        self.style = nn.ModuleList(nn.Linear(style, w) for w in widths) if style else None

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, and of inputs that need no conversion."""
        return self.stem.weight.dtype

    def forward(self, x: Tensor, style: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x = self.stem(x.to(self.dtype, memory_format=torch.channels_last))
        skips: list[Tensor] = []
        for level, blocks in enumerate(self.before):
            if level:
                x = self.down[level - 1](x)
            if self.style is not None and style is not None:
                x = x + self.style[level](style)[:, :, None, None]
            x = blocks(x)
            skips.append(x)
        lowest = x
        for level in reversed(range(len(self.after))):
            x = F.interpolate(self.up[level](x), scale_factor=2.0, mode="nearest") + skips[level]
            x = self.after[level](x)
        return self.head(F.silu(x)), lowest


def _blocks(width: int, count: int) -> nn.Sequential:
    return nn.Sequential(*(ResidualBlock(width) for _ in range(count)))


def _start_rare(head: nn.Conv2d, planes: dict[int, float], first: int = 0) -> None:
    """Bias the logits of planes (four channels each, from channel `first`) so that what they say starts out rare."""
    assert head.bias is not None
    with torch.no_grad():
        for plane, logit in planes.items():
            head.bias[first + 4 * plane : first + 4 * plane + 4] = logit


def position_planes(size: int) -> Tensor:
    """(1, 2, size, size) float32: horizontal and vertical position in [-1, 1]."""
    line = torch.linspace(-1, 1, size)
    return torch.stack([line[None, :].expand(size, size), line[:, None].expand(size, size)])[None]


def join(dtype: torch.dtype, parts: Sequence[Tensor], positions: Tensor) -> Tensor:
    """The input of a network: parts (b, *, h, w) and positions (1, 2, h, w) as one tensor, channels innermost."""
    every = (*parts, positions.expand(len(parts[0]), -1, -1, -1))
    return torch.cat([part.to(dtype).contiguous(memory_format=torch.channels_last) for part in every], dim=1)


class SceneNet(nn.Module):
    """Reads one picture: where loose objects are, what lies behind them and the robot, and in what light it is."""

    positions: Tensor
    OUTPUTS = 10  # object alpha, object unseen, object rgb, plate unseen, plate rgb, robot alpha

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.unet = UNet(2 * 12 + 2, 4 * self.OUTPUTS, config.scene)
        self.style = nn.Linear(config.scene.widths[-1], config.style)
        self.register_buffer("positions", position_planes(config.size // 2), persistent=False)
        _start_rare(self.unet.head, {0: -4.0, 1: -2.0, 5: -2.0, 9: -2.0})

    def forward(self, frame: Tensor, skeleton: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks of frame and skeleton, (b, 12, h, w) in [-1, 1] -> planes (b, 10, H, W) logits, style (b, S)."""
        planes, lowest = self.unet(join(self.unet.dtype, (frame, skeleton), self.positions))
        return to_pixels(planes), torch.tanh(self.style(lowest.mean(dim=(2, 3))))


class MotionNet(nn.Module):
    """Reads three skeletons, the object layer and its last motion; says of every block how what is there will move."""

    positions: Tensor
    OUTPUTS = 6  # x, y [8 px], turn [rad], log of growth, weight of this block's opinion, logit of moving at all

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.unet = UNet(3 * 12 + 16 + 2 + 2, self.OUTPUTS, config.motion)
        self.register_buffer("positions", position_planes(config.size // 2), persistent=False)
        nn.init.zeros_(self.unet.head.weight)
        nn.init.zeros_(self.unet.head.bias)  # type: ignore[arg-type]

    def forward(self, skeletons: Tensor, objects: Tensor, velocity: Tensor) -> Tensor:
        """Blocks of skeletons (b, 36, h, w) newest first in [-1, 1], of objects (b, 16, h, w) in [0, 1], velocity
        (b, 2, h, w) [8 px] -> (b, 6, h, w)."""
        out: Tensor = self.unet(join(self.unet.dtype, (skeletons, objects, velocity), self.positions))[0]
        return out


class RobotNet(nn.Module):
    """Paints the robot over a skeleton, leaving out what objects hide."""

    positions: Tensor

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.unet = UNet(12 + 16 + 2, 16, config.robot, style=config.style)
        self.register_buffer("positions", position_planes(config.size // 2), persistent=False)
        _start_rare(self.unet.head, {0: -2.0})

    def forward(self, skeleton: Tensor, objects: Tensor, style: Tensor) -> Tensor:
        """Blocks of the skeleton (b, 12, h, w) in [-1, 1] and of objects (b, 16, h, w) in [0, 1], style (b, S)
        -> alpha and rgb logits (b, 4, H, W)."""
        planes, _ = self.unet(join(self.unet.dtype, (skeleton, objects), self.positions), style)
        return to_pixels(planes)


class CompactNetwork(nn.Module):
    """The three networks under one roof, so that one file holds their weights."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        self.scene = SceneNet(config)
        self.motion = MotionNet(config)
        self.robot = RobotNet(config)
