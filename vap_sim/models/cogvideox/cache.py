"""Keys and values of frames already made, so that a new frame attends to them without computing them again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput


@dataclass(frozen=True, eq=False)
class KeyValueCache:
    """What every block's attention remembers of a text and of the latent frames that followed.

    keys, values: (b, N, heads, L + T P, head width), N blocks; first the L text tokens, then T frames of P tokens each.
    Keys are not rotated: where a frame stands in time is said when the cache is read, so that a sliding window can
    number its frames anew at every step. Rows lead, so the tensors can live in a `WorldState`. Raises InvalidInput.
    """

    keys: Tensor
    values: Tensor
    text: int
    patches: int

    def __post_init__(self) -> None:
        shape = tuple(self.keys.shape)
        if self.keys.ndim != 5 or self.values.shape != self.keys.shape:
            given = f"{shape} and {tuple(self.values.shape)}"
            raise InvalidInput("keys and values of a cache", given, "two of (b, blocks, heads, tokens, head width)")
        if self.patches < 1 or not 0 <= self.text <= shape[3] or (shape[3] - self.text) % self.patches:
            expected = f"{self.text} of text and a multiple of {self.patches}"
            raise InvalidInput("tokens of a cache", shape[3], expected)

    @property
    def frames(self) -> int:
        """Latent frames it holds, T."""
        return (self.keys.shape[3] - self.text) // self.patches

    @property
    def nbytes(self) -> int:
        """Bytes of its tensors."""
        return 2 * self.keys.numel() * self.keys.element_size()

    def append(self, new: KeyValueCache) -> KeyValueCache:
        """This cache, then the frames of `new`, which holds no text. Raises InvalidInput if they are unlike."""
        mine, theirs = self.keys.shape, new.keys.shape
        if new.text or new.patches != self.patches or mine[:3] != theirs[:3] or mine[4] != theirs[4]:
            given = f"{tuple(theirs)} with {new.text} text tokens, {new.patches} tokens a frame"
            expected = f"{(*mine[:3], 'n', mine[4])} without text, {self.patches} tokens a frame"
            raise InvalidInput("cache to append", given, expected)
        return replace(
            self, keys=torch.cat([self.keys, new.keys], dim=3), values=torch.cat([self.values, new.values], dim=3)
        )

    def recent(self, frames: int, first: int = 0) -> KeyValueCache:
        """The text, the `first` oldest frames and at most `frames` of the newest others. Raises InvalidInput."""
        if frames < 0 or first < 0:
            raise InvalidInput("frames of a cache to keep", (first, frames), "two numbers of at least 0")
        if first + frames >= self.frames:
            return self
        kept = self.text + first * self.patches
        newest = self.keys.shape[3] - frames * self.patches

        def cut(tensor: Tensor) -> Tensor:
            return torch.cat([tensor[:, :, :, :kept], tensor[:, :, :, newest:]], dim=3)

        return replace(self, keys=cut(self.keys), values=cut(self.values))

    def index(self, rows: Tensor) -> KeyValueCache:
        """The rows of these numbers (int64), in that order."""
        return replace(self, keys=self.keys.index_select(0, rows), values=self.values.index_select(0, rows))

    def tensors(self) -> dict[str, Tensor]:
        """The two tensors by name, rows leading, as a state keeps them; `of` is the way back."""
        return {"keys": self.keys, "values": self.values}

    @staticmethod
    def of(tensors: Mapping[str, Tensor], *, text: int, patches: int) -> KeyValueCache:
        """The cache that `tensors` took apart. text, patches: its L and P."""
        return KeyValueCache(tensors["keys"], tensors["values"], text, patches)


@dataclass(frozen=True, eq=False)
class Past:
    """A cache placed in time, ready to be attended to by any number of passes. `Backbone.past` makes it.

    keys: (b, N, heads, n, head width), rotated where the model rotates; values: as the cache's; visible: (b, n) bool,
    False where a row must not look, or None if every row may look at everything; text: how many of the n are text.
    """

    keys: Tensor
    values: Tensor
    visible: Tensor | None = None
    text: int = 0


def causal_mask(chunks: Sequence[int], patches: int, text: int, device: torch.device | str | None = None) -> Tensor:
    """Who may look at whom, (L + T P, L + T P) bool, rows looking at columns.

    chunks: latent frames of each chunk, T in all; patches: tokens a frame, P; text: text tokens, L. A frame looks at
    the text, at its own chunk and at earlier ones. Text looks at text alone, so that its keys never change and
    cached frames equal recomputed ones. Raises InvalidInput.
    """
    if not chunks or min(chunks) < 1 or patches < 1 or text < 0:
        raise InvalidInput("chunks, patches, text", (tuple(chunks), patches, text), "chunks and patches of at least 1")
    of_frame = torch.repeat_interleave(torch.arange(len(chunks)), torch.tensor(list(chunks)))
    chunk = torch.cat([torch.full((text,), -1), of_frame.repeat_interleave(patches)]).to(device)
    return chunk[:, None] >= chunk[None, :]
