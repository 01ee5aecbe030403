"""Whether a clip keeps looking like itself, and shows what a text says, as CLIP sees it.

The three figures of FlexiAct's evaluation (arXiv 2505.03730, table 1) and of many others. They tell nothing of motion:
a clip that stands still keeps its looks best.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.metrics.clip_network import ClipNetwork
from vap_sim.metrics.masks import Scores, scores


def appearance_consistency(frames: Tensor, clip: ClipNetwork) -> Scores:
    """The mean cosine of the first frame with each later one: uint8 (b, T, H, W, 3) -> scores (b). Always defined.

    Raises InvalidInput for another type or shape, or less than two frames.
    """
    seen = _seen(frames, clip)
    return _always("appearance_consistency", (seen[:, 1:] @ seen[:, 0, :, None])[..., 0].mean(1))


def temporal_consistency(frames: Tensor, clip: ClipNetwork) -> Scores:
    """The mean cosine of all pairs of frames: uint8 (b, T, H, W, 3) -> scores (b). Always defined.

    Raises InvalidInput for another type or shape, or less than two frames.
    """
    seen = _seen(frames, clip)
    count = seen.shape[1]
    first, second = torch.triu_indices(count, count, offset=1)
    return _always("temporal_consistency", (seen[:, first] * seen[:, second]).sum(-1).mean(1))


def text_similarity(frames: Tensor, texts: Sequence[str], clip: ClipNetwork) -> Scores:
    """The mean cosine of frames with the clip's text: uint8 (b, T, H, W, 3), b texts -> scores (b). Always defined.

    Long texts are cut to what CLIP reads, 77 tokens as a rule; FlexiAct's code cuts them to 77 letters. Raises
    InvalidInput for another type or shape, less than two frames, or another number of texts.
    """
    seen = _seen(frames, clip)
    if isinstance(texts, str) or len(texts) != len(frames):
        given = repr(texts) if isinstance(texts, str) else f"{len(texts)} texts"
        raise InvalidInput("texts of clips", given, f"{len(frames)}, one a clip")
    return _always("text_similarity", (seen @ clip.texts(texts)[:, :, None])[..., 0].mean(1))


def _seen(frames: Tensor, clip: ClipNetwork) -> Tensor:
    """Directions (b, T, D) of all frames."""
    if frames.dtype != torch.uint8 or frames.ndim != 5 or frames.shape[-1] != 3 or frames.shape[1] < 2:
        expected = "torch.uint8 (b, T, H, W, 3), two frames or more"
        raise InvalidInput("clips", f"{frames.dtype} {tuple(frames.shape)}", expected)
    return clip.pictures(frames.flatten(0, 1)).reshape(*frames.shape[:2], -1)


def _always(what: str, values: Tensor) -> Scores:
    return scores(what, values, torch.ones_like(values, dtype=torch.bool))
