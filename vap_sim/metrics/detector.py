"""Finds the robot and the colored objects in a picture: an eye for generated frames, independent of any world.

Two weights files ship: one for DROID's arm, and one for all bodies, which also knows drawers. Each is a small
segmentation network trained on twin frames, blurred, noisy and compressed ones among them, so that it also reads what a
world dreamt. It errs a little even on true frames: report `score` on them beside every figure that rests on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
"""Those of DROID's arm, DROID_ROBOT."""
BODIES = WEIGHTS.with_name("bodies.safetensors")
"""Those of every shipped robot and of drawers."""
DROID_ROBOT = "panda_robotiq"
DETECTED_COLORS = ("blue", "brown", "cyan", "green", "lime", "orange", "pink", "purple", "red", "yellow")
"""The object colors of the twin's scenes, in name order."""
CLASSES = ("other", "robot", *DETECTED_COLORS)
"""What DROID's detector tells apart; the first two are the same for all."""
BODY_CLASSES = (*CLASSES, "drawer")
"""What the detector of all bodies tells apart."""
OTHER, ROBOT, FIRST_OBJECT = 0, 1, 2
_PICTURES_AT_ONCE = 16


@dataclass(frozen=True)
class DetectorConfig:
    """widths: channels of each level, from half the picture's size downwards; classes: what is told apart, other and
    robot first. Raises InvalidInput for other first ones, or one that is named twice."""

    widths: tuple[int, ...] = (16, 24, 40, 56)
    classes: tuple[str, ...] = CLASSES

    def __post_init__(self) -> None:
        if self.classes[:FIRST_OBJECT] != CLASSES[:FIRST_OBJECT] or len(set(self.classes)) < len(self.classes):
            raise InvalidInput("classes of a detector", self.classes, "other, robot, and different things to find")


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
        self.head = nn.Conv2d(widths[0], 4 * len(config.classes), 1)

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

    @property
    def classes(self) -> tuple[str, ...]:
        """What it tells apart, by the numbers of its labels."""
        return self.network.config.classes

    @classmethod
    def load(cls, path: Path | str | None = None, *, robot: str = DROID_ROBOT, device: str = "cpu") -> Detector:
        """The detector of a weights file, by default the one that ships for pictures of this robot. Raises BadFile."""
        path = (WEIGHTS if robot == DROID_ROBOT else BODIES) if path is None else Path(path)
        tensors, description = load_tensors(path)
        network = DetectorNet(_config(description, path))
        fill(network, {name: value.float() for name, value in tensors.items()}, path)
        return cls(network, device)

    @torch.inference_mode()
    def labels(self, frames: Tensor, things: Sequence[str] | None = None) -> Tensor:
        """What each pixel shows: frames (*b, H, W, 3) uint8 -> uint8 (*b, H, W), numbers into `classes`.

        things: colors of objects, and drawers, that the scene is known to hold; pixels are then never given another.
        Raises InvalidInput for pictures of another type or shape, UnknownName for a thing that the detector does not
        know.
        """
        _check(frames)
        handicap = torch.zeros(len(self.classes), device=self.device)
        if things is not None:
            handicap[FIRST_OBJECT:] = -torch.inf
            handicap[[class_number(thing, self.classes) for thing in things]] = 0.0
        flat = frames.reshape(-1, *frames.shape[-3:])
        found = [
            self._logits(flat[i : i + _PICTURES_AT_ONCE]).add_(handicap).argmax(-1).to(torch.uint8)
            for i in range(0, len(flat), _PICTURES_AT_ONCE)
        ]
        return torch.cat(found).to(frames.device).reshape(frames.shape[:-1])

    def robot(self, frames: Tensor) -> Tensor:
        """Where the robot is: frames (*b, H, W, 3) uint8 -> bool (*b, H, W)."""
        return self.labels(frames) == ROBOT

    def objects(self, frames: Tensor, things: Sequence[str]) -> Tensor:
        """Where K given things are, objects by their colors: frames (*b, H, W, 3) uint8 -> bool (*b, K, H, W)."""
        return object_masks(self.labels(frames, things), things, self.classes)

    def _logits(self, frames: Tensor) -> Tensor:
        """(n, H, W, classes), contiguous."""
        x = frames.to(self.device).permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
        logits: Tensor = self.network(x.contiguous(memory_format=torch.channels_last))
        return logits.permute(0, 2, 3, 1).contiguous()


def class_number(thing: str, classes: Sequence[str] = CLASSES) -> int:
    """The number of a thing to be found, such as an object's color, in a detector's classes. Raises UnknownName."""
    if thing not in classes[FIRST_OBJECT:]:
        raise UnknownName("thing to detect", thing, classes[FIRST_OBJECT:])
    return classes.index(thing)


def scene_things(scene: Mapping[str, Any]) -> tuple[str, ...]:
    """What a scene's record holds to be found, in the order of a twin episode's labels: the colors of the objects, and
    a drawer for a cabinet. Raises InvalidInput for several cabinets, whose drawers no detector tells apart."""
    cabinets = len(scene.get("cabinets", ()))
    if cabinets > 1:
        raise InvalidInput("cabinets of a scene to be read", cabinets, "one at most: drawers look alike")
    return (*(str(item["color"]) for item in scene["objects"]), *(["drawer"] * cabinets))


def object_masks(labels: Tensor, things: Sequence[str], classes: Sequence[str] = CLASSES) -> Tensor:
    """Masks bool (*b, K, H, W) of K things from labels (*b, H, W) that number a detector's classes."""
    numbers = [class_number(thing, classes) for thing in things]
    return labels[..., None, :, :] == torch.tensor(numbers, dtype=torch.uint8, device=labels.device)[:, None, None]


def class_labels(
    labels: NDArray[np.uint8], things: Sequence[str], classes: Sequence[str] = CLASSES
) -> NDArray[np.uint8]:
    """A twin episode's labels (0 other, 1 robot, 2 + k thing k) as numbers into a detector's classes."""
    if labels.size and int(labels.max()) >= FIRST_OBJECT + len(things):
        raise InvalidInput("labels", f"an object number {int(labels.max()) - FIRST_OBJECT}", f"{len(things)} objects")
    table = np.array([OTHER, ROBOT, *(class_number(thing, classes) for thing in things)], dtype=np.uint8)
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
    found: Sequence[Tensor],
    truth: Sequence[Tensor],
    things: Sequence[Sequence[str]],
    least: int = 12,
    classes: Sequence[str] = CLASSES,
) -> DetectorScore:
    """Compare detected with true labels, both of n clips (T, H, W) uint8 that number a detector's classes.

    things: what each clip's scene holds, objects by their colors; an object is visible in a frame where it fills
    `least` pixels. Raises InvalidInput where lengths differ or where there is no robot or no object at all.
    """
    if not len(found) == len(truth) == len(things):
        given = f"{len(found)} found, {len(truth)} true, {len(things)} lists of things"
        raise InvalidInput("clips", given, "equal numbers")
    both = either = missed = visible = 0
    objects: list[float] = []
    for seen, true, names in zip(found, truth, things, strict=True):
        both += int(((seen == ROBOT) & (true == ROBOT)).sum())
        either += int(((seen == ROBOT) | (true == ROBOT)).sum())
        for name in names:
            number = class_number(name, classes)
            here, there = seen == number, true == number
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
    config = network.config
    return {"name": "detector", "classes": list(config.classes), "network": {"widths": list(config.widths)}, **more}


def _config(description: dict[str, Any], source: object) -> DetectorConfig:
    classes = description.get("classes")
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise BadFile(source, f"field 'classes' is {classes!r}, expected names")
    try:
        return DetectorConfig(tuple(int(width) for width in description["network"]["widths"]), tuple(classes))
    except InvalidInput as error:
        raise BadFile(source, f"field 'classes': {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise BadFile(source, f"field 'network' of its description: {error!r}") from error


def _check(frames: Tensor) -> None:
    good = frames.dtype == torch.uint8 and frames.ndim >= 3 and frames.shape[-1] == 3 and frames.numel()
    if not good or frames.shape[-3] % 16 or frames.shape[-2] % 16:
        given = f"{frames.dtype} {tuple(frames.shape)}"
        raise InvalidInput("frames", given, "torch.uint8 (*b, H, W, 3), height and width multiples of 16")
