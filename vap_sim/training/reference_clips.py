"""Pairs as clips for a video model: the target's latents, and the demonstration in its prompt; both kept in a cache.

Every film is encoded once, however many pairs it is in. A demonstration is kept as pictures of the model's size, since
each conditioner reads it in a way of its own; `CachedCodec` then keeps the latents that a conditioner asks for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.tensor_cache import TensorCache, fingerprint, key_of
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt
from vap_sim.training.clips import Clip, ClipSource, DataSet, noised_images
from vap_sim.training.parallel import ALONE, Team
from vap_sim.training.reference_footage import packed, unpacked
from vap_sim.training.reference_pairs import Film, Pair

if TYPE_CHECKING:
    from vap_sim.models.cogvideox.codec import Carry, Codec

_FORMAT = 1
_PACK, _CELL = 4, 8  # pixel frames and pixels a side in a latent pixel
MOVED = 24
"""Grey levels of 255 by which a pixel must differ from the first frame, in one colour, to count as moved."""


@dataclass(frozen=True)
class PairSettings:
    """How films become clips. Raises InvalidInput.

    frames: pixel frames of a clip, 1 + 4 k, taken evenly over the film; size: (width, height), multiples of 8; images:
    encodings of the first frame with fresh noise; dilate: how far around what moves its region reaches [px]; seed: of
    that noise.
    """

    frames: int = 49
    size: tuple[int, int] = (720, 480)
    images: int = 4
    dilate: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.frames < 5 or self.frames % _PACK != 1:
            raise InvalidInput("frames of a pair", self.frames, f"1 + {_PACK} k, at least 5")
        if len(self.size) != 2 or min(self.size) < _CELL or any(side % _CELL for side in self.size):
            raise InvalidInput("size of a pair", self.size, f"(width, height), multiples of {_CELL}")
        if self.images < 1 or self.dilate < 0:
            raise InvalidInput("images and dilate of a pair", (self.images, self.dilate), "1 or more, 0 or more")


class Demonstration(Protocol):
    """A demonstration of one row that is read when it is needed."""

    def load(self) -> ReferenceClip:
        """Read it. Raises BadFile."""
        ...


@dataclass(frozen=True)
class PairedClip:
    """A target whose prompt has a demonstration, for a `DataSet`."""

    target: ClipSource
    reference: Demonstration

    def load(self) -> Clip:
        """Both together. Raises BadFile."""
        clip = self.target.load()
        return replace(clip, prompt=replace(clip.prompt, reference=self.reference.load()))


@dataclass(frozen=True)
class StoredTarget:
    """A target in a cache; its prompt is black and names no joints: what to do is for the demonstration to say."""

    cache: TensorCache
    key: str
    caption: str
    settings: PairSettings

    def load(self) -> Clip:
        """See `ClipSource`."""
        tensors, (width, height) = self.cache.get(self.key), self.settings.size
        try:
            latents, images = tensors["latents"].float(), tensors["images"].float()
            region = tensors["region"].float()
        except KeyError as error:
            raise BadFile(self.cache.path(self.key), f"is not a target (no tensor {error})") from error
        black = torch.zeros((), dtype=torch.uint8).expand(1, 1, self.settings.frames, height, width, 3)
        return Clip(latents, images, region, VisualPrompt(black, text=(self.caption,)), self.caption)


@dataclass(frozen=True)
class StoredReference:
    """A demonstration in a cache."""

    cache: TensorCache
    key: str
    caption: str
    frames: int

    def load(self) -> ReferenceClip:
        """See `Demonstration`."""
        tensors = self.cache.get(self.key)
        try:
            return ReferenceClip(unpacked(tensors["film"], self.frames)[None], (self.caption,))
        except (KeyError, ValueError) as error:
            raise BadFile(self.cache.path(self.key), f"is not a demonstration ({error!r})") from error


class CachedCodec:
    """A codec that encodes the same frames once: for demonstrations, which conditioners read anew in every step.

    What a row of frames became is kept under the hash of its bytes and of the codec. Decoding is the codec's own.
    """

    def __init__(self, codec: Codec, cache: TensorCache) -> None:
        self.codec, self.cache, self._coder = codec, cache, fingerprint(codec)

    @property
    def latent_channels(self) -> int:
        return self.codec.latent_channels

    def encode(self, frames: Tensor) -> Tensor:
        """See the protocol. Raises BadFile, OSError."""
        return torch.cat([self._row(row) for row in frames]) if len(frames) else self.codec.encode(frames)

    def decode(self, latents: Tensor) -> Tensor:
        """See the protocol."""
        return self.codec.decode(latents)

    def decode_next(self, latents: Tensor, carry: Carry | None = None) -> tuple[Tensor, Carry]:
        """See the protocol."""
        return self.codec.decode_next(latents, carry)

    def _row(self, row: Tensor) -> Tensor:
        key = key_of(kind="encoded", format=_FORMAT, codec=self._coder, frames=fingerprint(_Held(row)))
        made = self.cache.made(key, lambda: {"latents": self.codec.encode(row[None])[0].float()})
        if "latents" not in made:
            raise BadFile(self.cache.path(key), "has no tensor 'latents'")
        return made["latents"][None].to(row.device)


class _Held:
    """Frames in an object, which `fingerprint` reads."""

    def __init__(self, frames: Tensor) -> None:
        self.frames = frames


def open_pairs(
    pairs: Sequence[Pair],
    settings: PairSettings,
    codec: Codec,
    cache: TensorCache,
    *,
    name: str = "pairs",
    team: Team = ALONE,
    progress: bool = True,
) -> DataSet:
    """Encode the films of pairs that the cache lacks, shared out over the team, and give the pairs as clips.

    A film is known again by its place, size and time of last change. Raises BadFile for a damaged film, InvalidInput
    for no pairs.
    """
    if not pairs:
        raise InvalidInput("pairs to train on", "none", "at least one")
    coder = fingerprint(codec)
    targets = {pair.target: _key("target", pair.target, settings, coder) for pair in pairs}
    references = {pair.reference: _key("reference", pair.reference, settings) for pair in pairs}
    films = list(dict.fromkeys([*targets, *references]))
    bar = tqdm(films, desc="encoding films", unit="film", disable=not (progress and team.leads), mininterval=5)
    for number, film in enumerate(bar):
        if number % team.size != team.rank:
            continue
        missing = {kind: keys[film] for kind, keys in (("target", targets), ("reference", references)) if film in keys}
        missing = {kind: key for kind, key in missing.items() if not cache.has(key)}
        if missing:
            _encode(film, missing, settings, codec, cache)
    team.wait()
    return DataSet(
        name,
        tuple(
            PairedClip(
                StoredTarget(cache, targets[pair.target], pair.target.caption, settings),
                StoredReference(cache, references[pair.reference], pair.reference.caption, settings.frames),
            )
            for pair in pairs
        ),
    )


def moving_region(frames: Tensor, dilate: int) -> Tensor:
    """Latent pixels (T, h, w) in which something is not as in the first of frames (F, H, W, 3) uint8, or near to it.

    1 or 0, float32; the first latent frame is 0.
    """
    apart = (frames.short() - frames[:1].short()).abs().amax(-1) > MOVED
    near = F.max_pool2d(apart.float()[:, None], 2 * dilate + 1, 1, dilate)
    cells = F.max_pool2d(near, _CELL)[:, 0]
    return torch.cat([cells[:1], cells[1:].reshape(-1, _PACK, *cells.shape[1:]).amax(1)])


def _key(kind: str, film: Film, settings: PairSettings, coder: str = "") -> str:
    told = asdict(settings) if kind == "target" else {"frames": settings.frames, "size": settings.size}
    return key_of(kind=f"pair {kind}", format=_FORMAT, film=film.stamp, codec=coder, settings=told)


def _encode(film: Film, missing: Mapping[str, str], settings: PairSettings, codec: Codec, cache: TensorCache) -> None:
    frames = film.read().shown(settings.frames, settings.size)
    if "reference" in missing:
        cache.put(missing["reference"], {"film": packed(frames)}, source=film.path.name)
    if "target" in missing:
        cache.put(missing["target"], _target(missing["target"], frames, settings, codec), source=film.path.name)


def _target(key: str, frames: Tensor, settings: PairSettings, codec: Codec) -> dict[str, Tensor]:
    firsts = torch.cat([frames[:1], noised_images(frames[0], settings.images, int(key[:15], 16) ^ settings.seed)])
    return {
        "latents": codec.encode(frames[None])[0].float(),
        "images": torch.cat([codec.encode(one[None, None])[0] for one in firsts]).float(),
        "region": moving_region(frames, settings.dilate),
    }
