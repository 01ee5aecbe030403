"""Windows of one film as clips for a video model: cut from it in space and time, resampled, and encoded once.

An action is learned from one recording by looking at it through many windows: what they have in common is the motion,
not the place in the picture.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from vap_sim.data.video_file import read_video, video_frame_rate
from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.tensor_cache import TensorCache, fingerprint, hash_file, key_of
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.training.clips import Clip, DataSet
from vap_sim.training.parallel import ALONE, Team
from vap_sim.training.reference_footage import evenly, resized

if TYPE_CHECKING:
    from vap_sim.models.cogvideox.codec import Codec

CROPS = 12
"""Windows of one clip, as FlexiAct (arXiv 2505.03730) has them."""
_FORMAT = 1
_PACK, _CELL = 4, 8  # pixel frames and pixels a side in a latent pixel


@dataclass(frozen=True)
class CropSettings:
    """How windows are cut from a film. Raises InvalidInput.

    frames: pixel frames of a window, 1 + 4 k; size: (width, height) it is resampled to, multiples of 8; frame_rate: it
    is read at [Hz]; crops: windows of a film, of which the first is as large as fits and in the middle; smallest: side
    of the smallest window as a share of the largest; pictures: single frames of the whole film, seen through the same
    window, beside the window's own first one; seed: of what is drawn.
    """

    frames: int = 49
    size: tuple[int, int] = (720, 480)
    frame_rate: float = 8.0
    crops: int = CROPS
    smallest: float = 0.75
    pictures: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < 5 or self.frames % _PACK != 1:
            raise InvalidInput("frames of a window", self.frames, f"1 + {_PACK} k, at least 5")
        if len(self.size) != 2 or min(self.size) < _CELL or any(side % _CELL for side in self.size):
            raise InvalidInput("size of a window", self.size, f"(width, height), multiples of {_CELL}")
        if self.crops < 1 or self.pictures < 0 or not 0 < self.smallest <= 1:
            given = (self.crops, self.pictures, self.smallest)
            raise InvalidInput("crops, pictures and smallest window", given, "1 or more, 0 or more, above 0 up to 1")


@dataclass(frozen=True)
class Window:
    """Where a window lies: frames of the film it shows, and its corner and size (x, y, width, height) in pixels;
    pictures: single frames of the film."""

    frames: tuple[int, ...]
    box: tuple[int, int, int, int]
    pictures: tuple[int, ...] = ()


@dataclass(frozen=True)
class StoredCrop:
    """A window in a cache, for a `DataSet`; motion: the names it is told by."""

    cache: TensorCache
    key: str
    size: tuple[int, int]
    caption: str
    motion: tuple[str, ...] = ()

    def load(self) -> Clip:
        """Read it. Its prompt is black; no place counts more than others. Raises BadFile."""
        tensors = self.cache.get(self.key)
        try:
            latents, images = tensors["latents"].float(), tensors["images"].float()
            frames, (width, height) = 1 + _PACK * (len(latents) - 1), self.size
            black = torch.zeros(1, 1, 1, 1, 1, 3, dtype=torch.uint8).expand(1, 1, frames, height, width, 3)
            prompt = VisualPrompt(black, motion=self.motion, text=(self.caption,))
            return Clip(latents, images, torch.zeros_like(latents[:, 0]), prompt, self.caption)
        except (KeyError, ValueError, RuntimeError) as error:
            raise BadFile(self.cache.path(self.key), f"is not a window of a film ({error!r})") from error


def open_crops(
    paths: Sequence[Path],
    captions: Sequence[str],
    settings: CropSettings,
    codec: Codec,
    cache: TensorCache,
    *,
    motion: tuple[str, ...] = (),
    team: Team = ALONE,
    progress: bool = True,
) -> DataSet:
    """Windows of video files, one caption each, of which those are encoded that the cache lacks, shared out over the
    team. motion: names that tell them.

    A film of other size, rate or length is resampled, bilinear in space and evenly in time, with a warning that says
    from what to what. Raises InvalidInput for a film of one frame, BadFile for a damaged one.
    """
    if not paths or len(captions) != len(paths):
        raise InvalidInput("captions of films", len(captions), f"{len(paths)}, one a film, of 1 film or more")
    coder, found = fingerprint(codec), []
    bar = tqdm(paths, desc="encoding films", unit="film", disable=not (progress and team.leads), mininterval=5)
    for number, path in enumerate(bar):
        source = hash_file(path)
        plain = asdict(settings)
        keys = [
            key_of(kind="window", format=_FORMAT, source=source, codec=coder, settings=plain, number=crop)
            for crop in range(settings.crops)
        ]
        crops = [StoredCrop(cache, key, settings.size, captions[number], motion) for key in keys]
        missing = [crop for crop, one in enumerate(crops) if not cache.has(one.key)]
        if missing and number % team.size == team.rank:
            film = _film(path, settings)
            planned = windows(len(film), (film.shape[2], film.shape[1]), settings)
            for crop in missing:
                cache.put(keys[crop], _encoded(film, planned[crop], settings.size, codec), source=Path(path).name)
        found += crops
    team.wait()
    return DataSet(Path(paths[0]).stem if len(paths) == 1 else "films", tuple(found))


def windows(frames: int, size: tuple[int, int], settings: CropSettings) -> list[Window]:
    """The windows of a film of so many frames of (width, height); each follows from the seed and its number.

    A film that is longer than a window is shown in a stretch of its own frames, a shorter one as a whole, some frames
    more than once.
    """
    width, height = settings.size
    largest = min(size[0] / width, size[1] / height)
    found = []
    for crop in range(settings.crops):
        rng = np.random.default_rng([settings.seed, 17, crop])
        share, across, down, late = rng.uniform(size=4)
        scale = largest * (1 if not crop else settings.smallest + (1 - settings.smallest) * share)
        wide, high = max(1, int(width * scale + 1e-6)), max(1, int(height * scale + 1e-6))
        spare = (size[0] - wide, size[1] - high)
        corner = (spare[0] // 2, spare[1] // 2) if not crop else (_at(across, spare[0]), _at(down, spare[1]))
        if frames > settings.frames:
            start = 0 if not crop else _at(late, frames - settings.frames)
            shown = range(start, start + settings.frames)
        else:
            shown = evenly(frames, settings.frames).tolist()
        pictures = rng.integers(frames, size=settings.pictures).tolist()
        found.append(Window(tuple(shown), (*corner, wide, high), tuple(pictures)))
    return found


def _at(share: float, spare: int) -> int:
    return min(int(share * (spare + 1)), spare)


def _film(path: Path, settings: CropSettings) -> Tensor:
    """All frames (T, H, W, 3) uint8 at the rate that is wanted, with a note where they are not as wanted."""
    own, film = video_frame_rate(path), read_video(path, settings.frame_rate)
    if len(film) < 2:
        raise InvalidInput(
            f"frames of {path} at {settings.frame_rate:g} Hz", len(film), "2 or more: one shows no action"
        )
    size = (film.shape[2], film.shape[1])
    changes = []
    if abs(own - settings.frame_rate) > 0.01:
        changes.append(f"from {own:g} to {settings.frame_rate:g} frames a second")
    if len(film) < settings.frames:
        changes.append(f"from {len(film)} to {settings.frames} frames, evenly")
    if size != tuple(settings.size):
        changes.append(f"from windows of {size[0]} x {size[1]} to {settings.size[0]} x {settings.size[1]} pixels")
    if changes:
        warnings.warn(f"{path} is resampled: {'; '.join(changes)}", stacklevel=3)
    return film


def _encoded(film: Tensor, window: Window, size: tuple[int, int], codec: Codec) -> dict[str, Tensor]:
    x, y, wide, high = window.box

    def seen(numbers: Sequence[int]) -> Tensor:
        return resized(film[list(numbers), y : y + high, x : x + wide].contiguous(), size)

    shown = seen(window.frames)
    singles = torch.cat([shown[:1], seen(window.pictures)]) if window.pictures else shown[:1]
    return {
        "latents": codec.encode(shown[None])[0].to(torch.float32),
        "images": torch.cat([codec.encode(one[None, None])[0] for one in singles]).to(torch.float32),
    }
