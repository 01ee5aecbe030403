"""CLIP from a folder of the user's: pictures and texts to directions in one space.

The folder is one that `transformers` writes: `config.json`, `model.safetensors`, `tokenizer.json` or `vocab.json` and
`merges.txt`. Published figures mostly rest on `openai/clip-vit-base-patch32`; another CLIP gives other numbers, so its
hash is part of every figure. Nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput, MissingDependency
from vap_sim.metrics.local_files import read_local
from vap_sim.metrics.report import NetworkCard

WEIGHTS = "model.safetensors"
_MEAN, _SPREAD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_PREPROCESSING = "bicubic so that the shorter side fits, middle square, CLIP's mean and spread"


class ClipNetwork:
    """A CLIP; see the module's text for its files."""

    def __init__(self, model: Any, tokenizer: Any, card: NetworkCard, device: str) -> None:
        """Use `load`."""
        self._model, self._tokenizer, self._card, self._device = model, tokenizer, card, device

    @classmethod
    def load(cls, folder: Path | str, *, sha256: str | None = None, device: str = "cpu") -> ClipNetwork:
        """The CLIP in a folder; sha256, if given, is the hash that its weights must have.

        Raises BadFile where the folder or a file in it is missing, damaged, of another network or has another hash,
        MissingDependency without transformers.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise BadFile(folder, "no such folder, expected one with a CLIP; nothing is ever downloaded")
        found = read_local(folder / WEIGHTS, sha256=sha256).sha256
        transformers = _transformers()
        kind = _named(transformers, folder)
        try:
            model, report = transformers.CLIPModel.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, dtype=torch.float32, output_loading_info=True
            )
            tokenizer = transformers.CLIPTokenizerFast.from_pretrained(folder, local_files_only=True)
        except Exception as error:  # transformers raises what its parsers do
            raise BadFile(folder, f"no CLIP can be loaded from it ({_first_line(error)})") from error
        lacking = sorted(report["missing_keys"])
        if lacking or kind != "clip":
            raise BadFile(folder / WEIGHTS, f"lacks tensors of a CLIP, {lacking[0]!r} for one")
        name = f"CLIP {folder.name}"
        return cls(
            model.eval().requires_grad_(False).to(device), tokenizer, NetworkCard(name, found, _PREPROCESSING), device
        )

    @property
    def card(self) -> NetworkCard:
        """Which network this is."""
        return self._card

    @torch.inference_mode()
    def pictures(self, frames: Tensor, at_once: int = 32) -> Tensor:
        """Directions (n, D) float64 of length 1 of pictures (n, H, W, 3) uint8. Raises InvalidInput."""
        if frames.dtype != torch.uint8 or frames.ndim != 4 or frames.shape[-1] != 3 or not frames.numel():
            given = f"{frames.dtype} {tuple(frames.shape)}"
            raise InvalidInput("pictures for CLIP", given, "torch.uint8 (n, H, W, 3), not empty")
        vision = self._model.vision_model
        found = [
            self._model.visual_projection(vision(pixel_values=self._fitted(some)).pooler_output)
            for some in torch.split(frames, at_once)
        ]
        return _unit(torch.cat(found))

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> Tensor:
        """Directions (n, D) float64 of length 1 of texts, cut to the tokens that the network reads.

        Raises InvalidInput for no texts or an empty one.
        """
        if isinstance(texts, str) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
            raise InvalidInput("texts for CLIP", texts, "a sequence of texts, one or more, none of them empty")
        words = self._tokenizer(
            list(texts),
            padding=True,
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self._device)
        seen = self._model.text_model(input_ids=words.input_ids, attention_mask=words.attention_mask)
        return _unit(self._model.text_projection(seen.pooler_output))

    def _fitted(self, frames: Tensor) -> Tensor:
        side = int(self._model.config.vision_config.image_size)
        height, width = frames.shape[1:3]
        scale = side / min(height, width)
        size = (max(side, round(height * scale)), max(side, round(width * scale)))
        planes = frames.to(self._device).permute(0, 3, 1, 2).float()
        if (height, width) != size:
            planes = F.interpolate(planes, size, mode="bicubic", antialias=True).round().clamp(0, 255)
        top, left = (size[0] - side) // 2, (size[1] - side) // 2
        square = planes[:, :, top : top + side, left : left + side] / 255
        mean, spread = (square.new_tensor(values).view(1, 3, 1, 1) for values in (_MEAN, _SPREAD))
        return (square - mean) / spread


def _transformers() -> Any:
    try:
        return import_module("transformers")
    except ModuleNotFoundError as error:
        raise MissingDependency("transformers", "diffusion", "CLIP needs it.") from error


def _named(transformers: Any, folder: Path) -> str:
    """The kind of model that a folder's config names."""
    try:
        return str(transformers.AutoConfig.from_pretrained(folder, local_files_only=True).model_type)
    except Exception as error:
        raise BadFile(folder / "config.json", f"is no config of a CLIP ({_first_line(error)})") from error


def _unit(features: Tensor) -> Tensor:
    features = features.double().cpu()
    lengths = features.norm(dim=1, keepdim=True)
    if not bool(torch.isfinite(features).all()) or not bool((lengths > 0).all()):
        raise InvalidInput("features of CLIP", "some that are not finite or all zero", "directions")
    directions: Tensor = features / lengths
    return directions


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
