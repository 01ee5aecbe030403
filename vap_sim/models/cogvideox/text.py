"""Captions to embeddings: CogVideoX's own T5, and a tiny deterministic stand-in.

What an encoder said is kept on disk by `vap_sim.models.cogvideox.text_cache.CachedText`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.cogvideox.folder import CogVideoXFolder
from vap_sim.models.cogvideox.stock import stock
from vap_sim.noise import standard_normals

UNCONDITIONAL = ""
"""The caption of a pass without text."""


class TextEncoder(Protocol):
    """Captions to embeddings, padded to one length. The same caption gives the same bits."""

    @property
    def length(self) -> int:
        """Text tokens a caption is padded or cut to, L."""
        ...

    @property
    def width(self) -> int:
        """Channels of an embedding."""
        ...

    def encode(self, captions: Sequence[str]) -> Tensor:
        """One embedding (L, width) a caption: (b, L, width) float32. "" is the unconditional text."""
        ...


class HashedWords:
    """Every word has a fixed random vector that its letters decide; no vocabulary, no weights. Case does not count.

    length: L, words after it are dropped, missing ones are zeros; width: channels. Raises InvalidInput.
    """

    def __init__(self, length: int = 16, width: int = 32) -> None:
        if min(length, width) < 1:
            raise InvalidInput("length and width of HashedWords", (length, width), "at least 1 each")
        self._length, self._width = length, width

    @property
    def length(self) -> int:
        return self._length

    @property
    def width(self) -> int:
        return self._width

    def encode(self, captions: Sequence[str]) -> Tensor:
        check_captions(captions)
        embeddings = torch.zeros(len(captions), self._length, self._width)
        for row, caption in enumerate(captions):
            words = re.findall(r"\w+", caption.lower())[: self._length]
            if words:
                digests = [hashlib.sha256(word.encode()).digest()[:8] for word in words]
                keys = torch.tensor([int.from_bytes(digest, "big", signed=True) for digest in digests])
                embeddings[row, : len(words)] = standard_normals(keys, torch.zeros_like(keys), (self._width,))
        return embeddings


class T5Text:
    """The folder's own T5 encoder. It is loaded when the first caption is asked for, and can then be let go.

    folder: with `tokenizer` and `text_encoder` (safetensors); device, dtype: where and in what type the encoder runs;
    bf16 halves its 19 GB. `fingerprint` tells encoders apart whose embeddings must not be mixed: a hash of the
    encoder's files and of its type.
    """

    def __init__(
        self,
        folder: CogVideoXFolder,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
    ) -> None:
        self._folder, self._device, self._dtype = folder, device, dtype
        self._loaded: tuple[Any, Any] | None = None
        self.fingerprint = hashlib.sha256(f"{_fingerprint(folder.path)} {dtype}".encode()).hexdigest()[:16]

    @property
    def length(self) -> int:
        return self._folder.config.text_length

    @property
    def width(self) -> int:
        return self._folder.config.text_width

    @torch.no_grad()
    def encode(self, captions: Sequence[str]) -> Tensor:
        """See the protocol. Raises BadFile for an encoder that is damaged, MissingDependency."""
        check_captions(captions)
        if not captions:
            return torch.zeros(0, self.length, self.width)
        return torch.stack([self._one(caption) for caption in captions])

    def unload(self) -> None:
        """Let the encoder's memory go; it is loaded again when it is needed."""
        self._loaded = None

    def _one(self, caption: str) -> Tensor:
        tokenizer, encoder = self._network()
        words = tokenizer(
            [caption],
            padding="max_length",
            max_length=self.length,
            truncation=True,
            add_special_tokens=True,
            return_tensors="pt",
        )
        embedding: Tensor = encoder(words.input_ids.to(self._device))[0][0].to("cpu", torch.float32)
        if embedding.shape != (self.length, self.width):
            expected = f"{(self.length, self.width)}, as the transformer takes"
            raise BadFile(
                self._folder.path / "text_encoder", f"embedding is {tuple(embedding.shape)}, expected {expected}"
            )
        return embedding

    def _network(self) -> tuple[Any, Any]:
        if self._loaded is None:
            transformers, path = stock("transformers"), self._folder.path
            for part in ("tokenizer", "text_encoder"):
                if not (path / part).is_dir():
                    raise BadFile(path, f"has no folder {part!r}, which holds the text encoder")
            try:
                tokenizer = transformers.AutoTokenizer.from_pretrained(path / "tokenizer", local_files_only=True)
                encoder = transformers.T5EncoderModel.from_pretrained(
                    path / "text_encoder",
                    dtype=self._dtype or torch.float32,
                    use_safetensors=True,
                    local_files_only=True,
                )
            except (OSError, ValueError, RuntimeError) as error:
                raise BadFile(path, f"the text encoder cannot be loaded ({error})") from error
            self._loaded = tokenizer, encoder.eval().to(self._device)
        return self._loaded


def check_captions(captions: Sequence[str]) -> None:
    """Raise InvalidInput unless captions are a sequence of texts; one text alone is none."""
    if isinstance(captions, str) or not all(isinstance(caption, str) for caption in captions):
        raise InvalidInput("captions", captions, "a sequence of texts, one a row")


def _fingerprint(folder: Path) -> str:
    """Which encoder it is: hash of its small files and of names and sizes of the large ones."""
    digest = hashlib.sha256()
    for part in ("tokenizer", "text_encoder"):
        for path in sorted((folder / part).glob("*")):
            size = path.stat().st_size
            digest.update(f"{part}/{path.name} {size}\n".encode())
            if path.suffix == ".json" and size < 2**26:
                digest.update(path.read_bytes())
    return digest.hexdigest()
