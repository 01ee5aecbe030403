"""Finds the robot and the colored objects in a picture: an eye for generated frames, independent of any world.

A small segmentation network trained on twin frames, blurred, noisy and compressed ones among them, so that it also
reads what a world dreamt. It errs a little even on true frames: report `score` on them beside every figure that rests
on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from vap_sim.errors import BadFile, InvalidInput, UnknownName
from vap_sim.models.checkpoint import fill, load_tensors

WEIGHTS = Path(__file__).parent / "weights" / "detector.safetensors"
DETECTED_COLORS = ("blue", "brown", "cyan", "green", "lime", "orange", "pink", "purple", "red", "yellow")
"""The object colors of the twin's scenes, in name order."""
CLASSES = ("other", "robot", *DETECTED_COLORS)
OTHER, ROBOT, FIRST_OBJECT = 0, 1, 2
_PICTURES_AT_ONCE = 16


@dataclass(frozen=True)
class DetectorConfig:
    """Channels of each level, from half the picture's size downwards."""

    widths: tuple[int, ...] = (16, 24, 40, 56)


class _Block(nn.Module):
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


class DetectorNet(nn.Module):
    """A U-Net over blocks of 2 x 2 pixels: (b, 3, H, W) in [-1, 1] -> logits (b, classes, H, W)."""

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        widths = config.widths
        pairs = list(zip(widths[:-1], widths[1:], strict=True))
        self.stem = nn.Conv2d(12, widths[0], 3, padding=1)
        self.before = nn.ModuleList(_Block(w) for w in widths)
        self.down = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in pairs)
        self.up = nn.ModuleList(nn.Conv2d(b, a, 1) for a, b in pairs)
        self.after = nn.ModuleList(_Block(a) for a, _ in pairs)
        self.head = nn.Conv2d(widths[0], 4 * len(CLASSES), 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Scores (b, classes, H, W) of frames (b, 3, H, W), float."""
        x = self.before[0](self.stem(F.pixel_unshuffle(frames, 2)))
        skips = [x]
        for down, block in zip(self.down, self.before[1:], strict=True):
            x = block(down(x))
            skips.append(x)
        for level in reversed(range(len(self.after))):
            x = F.interpolate(self.up[level](x), scale_factor=2.0, mode="nearest") + skips[level]
            x = self.after[level](x)
        return F.pixel_shuffle(self.head(F.silu(x)), 2)


class Detector:
    """Reads pictures whose sides are multiples of 16 pixels; trained on 128 x 128 pictures of the twin."""

    def __init__(self, network: DetectorNet, device: str = "cpu") -> None:
        """`network` is used as it is from now on, never trained again."""
        self.network = network.eval().requires_grad_(False)
        self.network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = torch.device(device)

    @classmethod
    def load(cls, path: Path | str | None = None, *, device: str = "cpu") -> Detector:
        """The detector of a weights file, by default the one that ships with the package. Raises BadFile."""
        path = WEIGHTS if path is None else Path(path)
        tensors, description = load_tensors(path)
        network = DetectorNet(_config(description, path))
        fill(network, {name: value.float() for name, value in tensors.items()}, path)
        return cls(network, device)

    @torch.inference_mode()
    def labels(self, frames: Tensor, colors: Sequence[str] | None = None) -> Tensor:
        """What each pixel shows: frames (*b, H, W, 3) uint8 -> uint8 (*b, H, W), numbers into CLASSES.

        colors: the colors that the scene is known to hold; pixels are then never given another. Raises InvalidInput
        for pictures of another type or shape, UnknownName for a color that the detector does not know.
        """
        _check(frames)
        handicap = torch.zeros(len(CLASSES), device=self.device)
        if colors is not None:
            handicap[FIRST_OBJECT:] = -torch.inf
            handicap[[color_class(color) for color in colors]] = 0.0
        flat = frames.reshape(-1, *frames.shape[-3:])
        found = [
            self._logits(flat[i : i + _PICTURES_AT_ONCE]).add_(handicap).argmax(-1).to(torch.uint8)
            for i in range(0, len(flat), _PICTURES_AT_ONCE)
        ]
        return torch.cat(found).to(frames.device).reshape(frames.shape[:-1])

    def robot(self, frames: Tensor) -> Tensor:
        """Where the robot is: frames (*b, H, W, 3) uint8 -> bool (*b, H, W)."""
        return self.labels(frames) == ROBOT

    def objects(self, frames: Tensor, colors: Sequence[str]) -> Tensor:
        """Where the objects of K given colors are: frames (*b, H, W, 3) uint8 -> bool (*b, K, H, W)."""
        return object_masks(self.labels(frames, colors), colors)

    def _logits(self, frames: Tensor) -> Tensor:
        """(n, H, W, classes), contiguous."""
        x = frames.to(self.device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        logits: Tensor = self.network(x.contiguous(memory_format=torch.channels_last))
        return logits.permute(0, 2, 3, 1).contiguous()


def color_class(color: str) -> int:
    """The number of a color in CLASSES. Raises UnknownName."""
    if color not in DETECTED_COLORS:
        raise UnknownName("detected color", color, DETECTED_COLORS)
    return CLASSES.index(color)


def object_masks(labels: Tensor, colors: Sequence[str]) -> Tensor:
    """Masks bool (*b, K, H, W) of K colors from labels (*b, H, W) that number CLASSES."""
    numbers = torch.tensor([color_class(color) for color in colors], dtype=torch.uint8, device=labels.device)
    return labels[..., None, :, :] == numbers[:, None, None]


def class_labels(labels: NDArray[np.uint8], colors: Sequence[str]) -> NDArray[np.uint8]:
    """A twin episode's labels (0 other, 1 robot, 2 + k object k) as numbers into CLASSES; `colors` are the objects'."""
    if labels.size and int(labels.max()) >= FIRST_OBJECT + len(colors):
        raise InvalidInput("labels", f"an object number {int(labels.max()) - FIRST_OBJECT}", f"{len(colors)} objects")
    table = np.array([OTHER, ROBOT, *(color_class(color) for color in colors)], dtype=np.uint8)
    return np.asarray(table[labels])


@dataclass(frozen=True)
class DetectorScore:
    """How well pictures were read, over all of them together.

    robot_iou, object_iou: pixels in both over pixels in either (object_iou: the mean over objects of each one's own,
    over its frames); missed: share of visible objects of which less than a tenth was found; visible: their number.
    """

    robot_iou: float
    object_iou: float
    missed: float
    visible: int


def score(
    found: Sequence[Tensor], truth: Sequence[Tensor], colors: Sequence[Sequence[str]], least: int = 12
) -> DetectorScore:
    """Compare detected with true labels, both of n clips (T, H, W) uint8 that number CLASSES.

    colors: of the objects of each clip; an object is visible in a frame where it fills `least` pixels. Raises
    InvalidInput where lengths differ or where there is no robot or no object at all.
    """
    if not len(found) == len(truth) == len(colors):
        raise InvalidInput(
            "clips", f"{len(found)} found, {len(truth)} true, {len(colors)} color lists", "equal numbers"
        )
    both = either = missed = visible = 0
    objects: list[float] = []
    for seen, true, names in zip(found, truth, colors, strict=True):
        both += int(((seen == ROBOT) & (true == ROBOT)).sum())
        either += int(((seen == ROBOT) | (true == ROBOT)).sum())
        for color in names:
            here, there = seen == color_class(color), true == color_class(color)
            shared, size = (here & there).sum((-2, -1)), there.sum((-2, -1))
            if int((here | there).sum()):
                objects.append(int(shared.sum()) / int((here | there).sum()))
            shown = size >= least
            visible += int(shown.sum())
            missed += int((shown & (shared < 0.1 * size)).sum())
    if not either or not visible:
        raise InvalidInput("clips", f"{either} robot pixels, {visible} visible objects", "at least one of each")
    return DetectorScore(both / either, float(np.mean(objects)), missed / visible, visible)


def describe(network: DetectorNet, **more: Any) -> dict[str, Any]:
    """What a weights file says about itself."""
    return {"name": "detector", "classes": list(CLASSES), "network": asdict(network.config), **more}


def _config(description: dict[str, Any], source: object) -> DetectorConfig:
    if description.get("classes") != list(CLASSES):
        raise BadFile(source, f"field 'classes' is {description.get('classes')}, expected {list(CLASSES)}")
    try:
        return DetectorConfig(tuple(int(width) for width in description["network"]["widths"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadFile(source, f"field 'network' of its description: {error!r}") from error


def _check(frames: Tensor) -> None:
    good = frames.dtype == torch.uint8 and frames.ndim >= 3 and frames.shape[-1] == 3 and frames.numel()
    if not good or frames.shape[-3] % 16 or frames.shape[-2] % 16:
        given = f"{frames.dtype} {tuple(frames.shape)}"
        raise InvalidInput("frames", given, "torch.uint8 (*b, H, W, 3), height and width multiples of 16")
