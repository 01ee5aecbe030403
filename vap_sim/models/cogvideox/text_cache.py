"""Embeddings of captions kept on disk, so that each caption is asked for once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vap_sim.errors import BadFile
from vap_sim.models.cogvideox.text import TextEncoder, check_captions
from vap_sim.models.tensor_cache import TensorCache, fingerprint, key_of


class CachedText:
    """A text encoder (`vap_sim.models.cogvideox.text.TextEncoder`) that asks another one once for each caption.

    Embeddings are kept in the cache and in memory. name: what tells encoders apart whose captions must not be mixed,
    the encoder's own `fingerprint` if not given, or else `fingerprint(encoder)`.
    """

    def __init__(self, encoder: TextEncoder, cache: TensorCache, name: str | None = None) -> None:
        self.encoder, self.cache = encoder, cache
        self.fingerprint: str = name or getattr(encoder, "fingerprint", None) or fingerprint(encoder)
        self._known: dict[str, Tensor] = {}

    @property
    def length(self) -> int:
        return self.encoder.length

    @property
    def width(self) -> int:
        return self.encoder.width

    def encode(self, captions: Sequence[str]) -> Tensor:
        """See the protocol. Raises BadFile, OSError."""
        check_captions(captions)
        for caption in dict.fromkeys(captions):
            if caption not in self._known:
                self._known[caption] = self._one(caption)
        rows = [self._known[caption] for caption in captions]
        return torch.stack(rows) if rows else torch.zeros(0, self.length, self.width)

    def _one(self, caption: str) -> Tensor:
        key = key_of(kind="text", encoder=self.fingerprint, length=self.length, width=self.width, caption=caption)
        tensors = self.cache.made(key, lambda: {"text": self.encoder.encode([caption])[0]}, caption=caption)
        text = tensors.get("text")
        if text is None or text.shape != (self.length, self.width):
            given = "missing" if text is None else tuple(text.shape)
            raise BadFile(self.cache.path(key), f"tensor 'text' is {given}, expected {(self.length, self.width)}")
        return text.float()
