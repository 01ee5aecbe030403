"""The prism: a demonstration to a few motion tokens a latent frame. It knows nothing of the model that listens."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.conditioners.action_prism_layers import Attention, GatedFeed, RelativeTime

PRESETS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        "paper": {"width": 640, "heads": 8, "layers": 18, "words": 768, "motion": 4096, "tokens": 1},
        "standard": {"width": 640, "heads": 8, "layers": 12, "words": 768, "motion": 1024, "tokens": 1},
        "tiny": {"width": 32, "heads": 2, "layers": 1, "words": 32, "motion": 32, "tokens": 2},
    }
)
"""Sizes by name: those of the released code of AICL, a prism for CogVideoX-5B, and one that a laptop trains."""
_MOST = {"width": 8192, "heads": 256, "layers": 128, "words": 8192, "motion": 65536, "tokens": 1024, "frames": 4096,
         "channels": 4096, "text": 65536, "patch": 64}  # fmt: skip
"""The largest sizes that are believed: a hostile file shall not make us build for hours."""


@dataclass(frozen=True)
class PrismSizes:
    """Everything that fixes the shape of a prism's weights. Raises InvalidInput for impossible ones.

    channels: of a latent frame; frames: latent frames of a demonstration, T; text: width of embedded words, 0 for a
    prism that reads none; patch: side of the square of latent pixels in a token; width, heads, layers: of the
    transformer; words: width that embedded words are brought to first; motion: width of a motion token; tokens: how
    many of them a latent frame becomes, Q.
    """

    channels: int
    frames: int
    text: int
    patch: int = 2
    width: int = 640
    heads: int = 8
    layers: int = 12
    words: int = 768
    motion: int = 1024
    tokens: int = 1

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            least = {"text": 0, "frames": 2}.get(name, 1)
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _MOST[name]:
                raise InvalidInput(f"{name} of a prism", value, f"a whole number from {least} to {_MOST[name]}")
        if self.width % self.heads or self.width % 4:
            given = f"{self.width} for {self.heads} heads"
            raise InvalidInput("width of a prism", given, "a multiple of the heads and of 4")

    @staticmethod
    def preset(name: str, *, channels: int, frames: int, text: int, **changes: int) -> PrismSizes:
        """The sizes of that name in `PRESETS` for a host's latents, some of them changed. Raises UnknownName."""
        if name not in PRESETS:
            raise UnknownName("preset of a prism", name, PRESETS)
        values: dict[str, Any] = {"channels": channels, "frames": frames, "text": text, **PRESETS[name]}
        for change in changes:
            if change not in _MOST:
                raise UnknownName("size of a prism", change, _MOST)
        return PrismSizes(**{**values, **changes})


class Stage(nn.Module):
    """Attention and a gated feed-forward; norms come before each, and what comes out is added."""

    def __init__(self, width: int, heads: int, *, context: int | None = None, reach: int | None = None) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, context=context)
        self.time = None if reach is None else RelativeTime(heads, reach)
        self.feed_norm = nn.LayerNorm(width)
        self.feed = GatedFeed(width, 4 * width)

    def forward(self, tokens: Tensor, context: Tensor | None = None, distance: Tensor | None = None) -> Tensor:
        """tokens (n, L, width), context as in `Attention`, distance (1, L, L) where time counts -> (n, L, width)."""
        bias = None if self.time is None or distance is None else self.time(distance)
        tokens = tokens + self.attention(self.norm(tokens), context, bias)
        out: Tensor = tokens + self.feed(self.feed_norm(tokens))
        return out


class PrismLayer(nn.Module):
    """One layer in the order of AICL's: space, time, words, time again. Without words that stage is missing."""

    def __init__(self, sizes: PrismSizes) -> None:
        super().__init__()
        width, heads, reach = sizes.width, sizes.heads, sizes.frames - 1
        self.space = Stage(width, heads)
        self.time = Stage(width, heads, reach=reach)
        self.words = Stage(width, heads, context=sizes.words) if sizes.text else None
        self.again = Stage(width, heads, reach=reach)

    def forward(self, tokens: Tensor, words: Tensor | None, distance: Tensor) -> Tensor:
        """tokens (b, T, P, width), words (b, L, their width) or None, distance (1, T, T) -> (b, T, P, width)."""
        rows, frames, places, width = tokens.shape
        tokens = self.space(tokens.flatten(0, 1)).reshape(rows, frames, places, width)
        tokens = tokens.transpose(1, 2).reshape(rows * places, frames, width)
        tokens = self.time(tokens, distance=distance)
        if self.words is not None:
            tokens = self.words(tokens.reshape(rows, places * frames, width), words)
        tokens = self.again(tokens.reshape(rows * places, frames, width), distance=distance)
        return tokens.reshape(rows, places, frames, width).transpose(1, 2)


class PrismEncoder(nn.Module):
    """Motion tokens of a demonstration: layers over its latent frames and its words, then a few queries that gather
    each frame.

    Gathering by attention stands where AICL joins the numbers of all places in one vector, so that any picture size
    fits. Places are told to the tokens by sines of where they are in the picture, from edge to edge; time is told by
    distances alone. seed: of the first weights; the global generator is left as it was.
    """

    def __init__(self, sizes: PrismSizes, *, seed: int = 0) -> None:
        super().__init__()
        self.sizes = sizes
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.enter = nn.Linear(sizes.channels * sizes.patch**2, sizes.width)
            self.enter_words = nn.Linear(sizes.text, sizes.words) if sizes.text else None
            self.layers = nn.ModuleList(PrismLayer(sizes) for _ in range(sizes.layers))
            self.norm = nn.LayerNorm(sizes.width)
            self.queries = nn.Parameter(torch.empty(sizes.tokens, sizes.motion))
            self.gather = Attention(sizes.motion, sizes.heads, context=sizes.width, inner=sizes.width)
            self.motion_norm = nn.LayerNorm(sizes.motion)
            nn.init.normal_(self.queries)

    def forward(self, latents: Tensor, words: Tensor | None = None) -> Tensor:
        """latents (b, T, C, h, w), words (b, L, their width) or None -> motion tokens (b, T Q, motion), frame by frame.

        Raises InvalidInput for other latent frames or channels than its sizes say, or words missing or of other width.
        """
        self._check(latents, words)
        kind = self.enter.weight
        patches = _patches(latents.to(kind), self.sizes.patch)
        rows, frames, down, across, _ = patches.shape
        tokens = (self.enter(patches) + place_table(down, across, self.sizes.width).to(kind)).flatten(2, 3)
        told = None if self.enter_words is None or words is None else self.enter_words(words.to(kind))
        moment = torch.arange(frames, device=kind.device)
        distance = (moment[:, None] - moment)[None]
        for layer in self.layers:
            tokens = layer(tokens, told, distance)
        seen = self.norm(tokens).flatten(0, 1)
        motion: Tensor = self.motion_norm(self.gather(self.queries.expand(rows * frames, -1, -1), seen))
        return motion.reshape(rows, frames * self.sizes.tokens, -1)

    def _check(self, latents: Tensor, words: Tensor | None) -> None:
        sizes, shape = self.sizes, tuple(latents.shape)
        fits = latents.ndim == 5 and shape[1:3] == (sizes.frames, sizes.channels)
        if not fits or shape[3] % sizes.patch or shape[4] % sizes.patch:
            expected = f"(b, {sizes.frames}, {sizes.channels}, h, w), h and w multiples of {sizes.patch}"
            raise InvalidInput("latents of a demonstration", shape, expected)
        if sizes.text:
            given = None if words is None else tuple(words.shape)
            if words is None or words.ndim != 3 or (len(words), words.shape[2]) != (len(latents), sizes.text):
                raise InvalidInput("words of a demonstration", given, f"({len(latents)}, L, {sizes.text})")


def moments(sizes: PrismSizes, count: int, device: torch.device | str = "cpu") -> Tensor:
    """The latent frame (count,) int64 that each of so many motion tokens is of; each demonstration begins anew."""
    every = torch.arange(count, device=device) // sizes.tokens
    return every % sizes.frames


def place_table(rows: int, columns: int, width: int) -> Tensor:
    """Sines and cosines (rows, columns, width) float32 of places from 0 to 1, at rising frequencies: of half a wave
    over the picture up to 32. A width of 4 k: k sines and k cosines down, then across."""
    waves = math.pi * 2 ** torch.linspace(0, 6, width // 4)
    sides = []
    for count in (rows, columns):
        angle = (torch.arange(count) + 0.5)[:, None] / count * waves
        sides.append(torch.cat([angle.sin(), angle.cos()], dim=1))
    down, across = sides
    return torch.cat([down[:, None].expand(-1, columns, -1), across[None].expand(rows, -1, -1)], dim=2)


def _patches(latents: Tensor, side: int) -> Tensor:
    """(b, T, C, h, w) -> (b, T, h / side, w / side, C side side)."""
    rows, frames, channels, height, width = latents.shape
    split = latents.reshape(rows, frames, channels, height // side, side, width // side, side)
    return split.permute(0, 1, 3, 5, 2, 4, 6).flatten(4)
