"""The three small convolutional networks of the compact world: what is there, what moves, and what the robot looks
like.

All are norm-free residual U-Nets that see a 128 x 128 picture as 64 x 64 blocks of 2 x 2 pixels (h = H / 2). Norm-free,
because a normalisation layer costs more than a convolution at these widths on a CPU and ties a pixel to the rest of its
picture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vap_sim.errors import InvalidInput
from vap_sim.models.compact.carry import CARRY, HOLD
from vap_sim.models.compact.contact import ContactNet
from vap_sim.models.compact.framing import frame_around
from vap_sim.models.compact.windows import OVERVIEW, WINDOW

Told = Callable[[Tensor], Tensor]
"""Shown the styles of n objects (n, hidden), gives what is added to them; see `demonstration`."""
NOWHERE = -20.0
"""The logit of what is not there: none of a robot is where its network has not looked."""
MOTION_UNIT = 8.0
"""The motion network speaks of motion in units of this many pixels."""


@dataclass(frozen=True)
class UNetConfig:
    """Channels and residual blocks of each level, from 64 x 64 downwards. Raises InvalidInput for impossible ones."""

    widths: tuple[int, ...]
    blocks: tuple[int, ...]

    def __post_init__(self) -> None:
        fits = 1 <= len(self.widths) == len(self.blocks) <= 8
        if not fits or not all(1 <= w <= 1024 for w in self.widths) or not all(0 <= n <= 16 for n in self.blocks):
            given = f"widths {self.widths}, blocks {self.blocks}"
            raise InvalidInput("levels of a U-Net", given, "1 to 8 levels of 1 to 1024 channels and 0 to 16 blocks")


@dataclass(frozen=True)
class CompactConfig:
    """Everything that fixes the shape of the compact model's weights. Raises InvalidInput for impossible shapes.

    carry: whether what moves objects is told by what the robot would carry them, see `carry`; contact: whether a
    network that knows bones in space moves them, see `contact`; near: how far from its skeleton the robot is painted
    [px], see `framing`, None for anywhere."""

    size: int = 128
    style: int = 24
    scene: UNetConfig = UNetConfig((32, 64, 96, 128), (1, 1, 2, 2))
    motion: UNetConfig = UNetConfig((32, 64, 96, 128), (1, 2, 2, 2))
    robot: UNetConfig = UNetConfig((48, 64, 96, 128), (1, 2, 2, 2))
    carry: bool = False
    contact: bool = False
    near: int | None = None

    def __post_init__(self) -> None:
        levels = max(len(net.widths) for net in (self.scene, self.motion, self.robot))
        least = max(16, 1 << levels)  # the lowest level sees at least one position
        if WINDOW >> len(self.motion.widths) < 1:
            raise InvalidInput("levels of the motion network", len(self.motion.widths), f"few enough to halve {WINDOW}")
        if not least <= self.size <= 1024 or self.size & (self.size - 1):
            raise InvalidInput("picture size of the compact model", self.size, f"a power of two from {least} to 1024")
        if not 1 <= self.style <= 1024:
            raise InvalidInput("style of the compact model", self.style, "1 to 1024 numbers")
        if self.near is not None and not 1 <= self.near <= self.size:
            raise InvalidInput("near of the compact model", self.near, f"None, or 1 to {self.size} pixels")


_PAIRS = {torch.bfloat16: torch.int32, torch.float32: torch.int64}
"""Types as wide as two neighbouring numbers: where no gradients are asked for, pairs are moved as one number."""


def to_blocks(image: Tensor) -> Tensor:
    """(b, C, H, W) -> (b, 4 C, H/2, W/2): every 2 x 2 pixels become one position."""
    if torch.is_grad_enabled() or image.dtype not in _PAIRS or image.shape[-1] % 2:
        return F.pixel_unshuffle(image, 2)
    batch, channels, height, width = image.shape
    pairs = image.contiguous().view(_PAIRS[image.dtype]).view(batch, channels, height // 2, 2, width // 2)
    blocks = pairs.permute(0, 2, 4, 1, 3).contiguous().view(image.dtype)
    return blocks.view(batch, height // 2, width // 2, 4 * channels).permute(0, 3, 1, 2)


def to_pixels(blocks: Tensor) -> Tensor:
    """(b, 4 C, h, w) -> (b, C, H, W), the inverse; every plane in one piece, as arithmetic on pictures likes it."""
    if torch.is_grad_enabled() or blocks.dtype not in _PAIRS:
        return F.pixel_shuffle(blocks.contiguous(), 2)
    batch, channels, height, width = blocks.shape
    pairs = blocks.permute(0, 2, 3, 1).contiguous().view(_PAIRS[blocks.dtype])
    planes = pairs.view(batch, height, width, channels // 4, 2).permute(0, 3, 1, 4, 2).contiguous()
    return planes.view(blocks.dtype).view(batch, channels // 4, 2 * height, 2 * width)


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))); the second convolution starts at zero, so a fresh block is the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """x (b, width, h, w) to the same shape."""
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
        """Output (b, outputs, h, w) and lowest features (b, widths[-1], h/8, w/8); style: (b, style) or None."""
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


def position_planes(x: Tensor) -> Tensor:
    """(b, 2, h, w) horizontal and vertical position in [-1, 1], like `x` (b, *, h, w) in dtype and device."""
    batch, _, height, width = x.shape
    return _positions(height, width, x.dtype, x.device).expand(batch, -1, -1, -1)


@lru_cache(maxsize=16)
def _positions(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    exact = torch.promote_types(dtype, torch.float32)
    across = torch.linspace(-1, 1, width, dtype=exact, device=device).expand(height, width)
    down = torch.linspace(-1, 1, height, dtype=exact, device=device)[:, None].expand(height, width)
    return torch.stack([across, down])[None].to(dtype).contiguous(memory_format=torch.channels_last)


def join(dtype: torch.dtype, *planes: Tensor, part: tuple[slice, slice] = (slice(None), slice(None))) -> Tensor:
    """The input of a network: planes (b, *, h, w) and their positions as one tensor, channels innermost; part: rows and
    columns of them that it is to be of."""
    every = [*planes, position_planes(planes[0].to(dtype))]
    cut = [one[:, :, part[0], part[1]].to(dtype).contiguous(memory_format=torch.channels_last) for one in every]
    return torch.cat(cut, dim=1)


class SceneNet(nn.Module):
    """Reads one picture: where loose objects are, what lies behind them and the robot, and in what light it is."""

    OUTPUTS = 10  # object alpha, object unseen, object rgb, plate unseen, plate rgb, robot alpha

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.unet = UNet(2 * 12 + 2, 4 * self.OUTPUTS, config.scene)
        self.style = nn.Linear(config.scene.widths[-1], config.style)
        _start_rare(self.unet.head, {0: -4.0, 1: -2.0, 5: -2.0, 9: -2.0})

    def forward(self, frame: Tensor, skeleton: Tensor) -> tuple[Tensor, Tensor]:
        """Blocks of frame and skeleton, (b, 12, h, w) in [-1, 1] -> planes (b, 10, H, W) logits, style (b, S)."""
        planes, lowest = self.unet(join(self.unet.dtype, frame, skeleton))
        return to_pixels(planes), torch.tanh(self.style(lowest.mean(dim=(2, 3))))


class MotionNet(nn.Module):
    """Looks at one object and what is around it in three skeletons; says how the object will move.

    One that is told by what the robot would carry the object says beside it whether that is what happens."""

    OUTPUTS = 5  # x, y [MOTION_UNIT px], turn [rad], log of growth, logit of moving at all
    CHANNELS = 3 * 3 + 2  # skeletons newest first, alpha of the object, alpha of all objects
    STATE = 5  # place in the picture x, y, last motion x, y [MOTION_UNIT px], log of size

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        widths, blocks = config.motion.widths, config.motion.blocks
        self.told_of_carrying = config.carry
        hidden = widths[-1]
        side = WINDOW >> len(widths)
        self.overview = nn.Linear(3 * OVERVIEW**2 + self.STATE + CARRY * config.carry, hidden)
        self.stem = nn.Conv2d(4 * self.CHANNELS, widths[0], 3, padding=1)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in zip(widths[:-1], widths[1:], strict=True))
        self.blocks = nn.ModuleList(_blocks(w, n) for w, n in zip(widths, blocks, strict=True))
        self.style = nn.ModuleList(nn.Linear(hidden, w) for w in widths)
        self.gather = nn.Linear(widths[-1] * side**2, hidden)
        self.head = nn.Linear(hidden, self.OUTPUTS + HOLD * config.carry)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, windows: Tensor, overview: Tensor, state: Tensor, told: Told | None = None) -> Tensor:
        """windows (n, 11, WINDOW, WINDOW) and overview (n, 3, OVERVIEW, OVERVIEW) of the newest skeleton, both in
        [0, 1], state (n, 5 or 9), told: what a demonstration adds -> (n, 5 or 8), as `CHANNELS`, `STATE`, `OUTPUTS`
        list them, and then `carry.CARRY`, `carry.HOLD`."""
        dtype = self.head.weight.dtype
        style = F.silu(self.overview(torch.cat([overview.flatten(1), state], dim=1).to(dtype)))
        style = style if told is None else style + told(style)
        x = self.stem(to_blocks(windows.to(dtype)).contiguous(memory_format=torch.channels_last))
        for level, blocks in enumerate(self.blocks):
            if level:
                x = self.down[level - 1](x)
            x = blocks(x + self.style[level](style)[:, :, None, None])
        out: Tensor = self.head(F.silu(self.gather(F.silu(x).flatten(1)) + style))
        return out


class RobotNet(nn.Module):
    """Paints the robot over a skeleton, leaving out what objects hide."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.unet = UNet(12 + 16 + 2, 16, config.robot, style=config.style)
        self.near, self._grid = config.near, 1 << (len(config.robot.widths) - 1)
        _start_rare(self.unet.head, {0: -2.0})

    def forward(self, skeleton: Tensor, objects: Tensor, style: Tensor) -> Tensor:
        """Blocks of the skeleton (b, 12, h, w) in [-1, 1] and of objects (b, 16, h, w) in [0, 1], style (b, S)
        -> alpha and rgb logits (b, 4, H, W), NOWHERE where nothing is painted."""
        if self.near is None:
            return to_pixels(self.unet(join(self.unet.dtype, skeleton, objects), style)[0])
        each = (slice(n, n + 1) for n in range(len(skeleton)))
        rows = [self._near(skeleton[n], objects[n], style[n]) for n in each]
        return rows[0] if len(rows) == 1 else torch.cat(rows)

    def _near(self, skeleton: Tensor, objects: Tensor, style: Tensor) -> Tensor:
        """Logits (1, 4, H, W) of one picture, looked at only near its skeleton."""
        assert self.near is not None
        frame, (height, width) = frame_around(skeleton[0], self.near, self._grid), skeleton.shape[2:]
        if frame is None:
            return skeleton.new_full((1, 4, 2 * height, 2 * width), NOWHERE)
        rows, columns = frame.rows, frame.columns
        told = join(self.unet.dtype, skeleton, objects, part=(rows, columns))
        around = (columns.start, width - columns.stop, rows.start, height - rows.stop)
        return F.pad(to_pixels(self.unet(told, style)[0]), [2 * side for side in around], value=NOWHERE)


class CompactNetwork(nn.Module):
    """The networks under one roof, so that one file holds their weights."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        self.scene = SceneNet(config)
        self.motion = MotionNet(config)
        self.robot = RobotNet(config)
        self.contact = ContactNet() if config.contact else None

    def cast(self, device: torch.device | str, dtype: torch.dtype) -> None:
        """Bring what reads pictures to a device and a type. What knows places in space stays in single precision on
        the processor: it needs a millimetre of a metre, and is too small for anything else."""
        for part in (self.scene, self.motion, self.robot):
            part.to(device=device, dtype=dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def by_sight(self) -> CompactNetwork:
        """The same network, from now on without what knows places in space."""
        self.config, self.contact = replace(self.config, contact=False), None
        return self

    def stored(self) -> dict[str, Tensor]:
        """The weights as files keep them: in half precision but for those of what knows places in space."""
        exact = "contact."
        return {k: v if k.startswith(exact) else v.to(torch.bfloat16) for k, v in self.state_dict().items()}


def told_of_carrying(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the motion network of a compact model with these weights is told of carrying."""
    return "motion.head.bias" in tensors and len(tensors["motion.head.bias"]) > MotionNet.OUTPUTS
