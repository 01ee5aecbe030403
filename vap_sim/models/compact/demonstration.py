"""Demonstrations for the compact world, after AICL: how objects move is told by a clip beside what the skeleton says.

The prism is the one that CogVideoX listens to (`vap_sim.models.conditioners`), small and without words. Each object's
view listens to the clip's motion tokens, and what it hears, nothing at first, is added to its style vector. Weights
are apart from those of the networks; a world without them, and a dream without a clip, is what it was to the bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vap_sim.errors import BadFile, InvalidInput, UnknownName, VAPSimError
from vap_sim.models.checkpoint import fill, load_tensors, read_description, save_tensors
from vap_sim.models.compact.network import CompactConfig, Told
from vap_sim.models.conditioners.action_prism_encoder import PrismEncoder, PrismSizes, moments
from vap_sim.models.conditioners.action_prism_layers import FrameListener
from vap_sim.models.conditioners.action_prism_reference import resampled
from vap_sim.models.conditioners.file_header import check_system
from vap_sim.prompts.visual_prompt import ReferenceClip

SYSTEM = "compact_demonstration"
_FORMAT = 1
_COARSE = 4
"""Pixels a side of the squares whose mean the prism sees."""
_SIZES: Mapping[str, int] = {"frames": 16, "width": 64, "heads": 4, "layers": 2, "motion": 64, "tokens": 2}
MOTION, PACE = "demonstrated", "pace"


class Demonstration(nn.Module):
    """Watches clips for a compact model of this configuration. sizes: changes of the prism's; seed: of the first
    weights. Raises InvalidInput, UnknownName."""

    def __init__(self, config: CompactConfig, *, seed: int = 0, **sizes: int) -> None:
        super().__init__()
        for name in sizes:
            if name not in _SIZES:
                raise UnknownName("size of a demonstration", name, _SIZES)
        self.size, self.style = config.size, config.motion.widths[-1]
        self.sizes = PrismSizes(channels=6, text=0, patch=_patch(config.size), **{**_SIZES, **sizes})
        self.encoder = PrismEncoder(self.sizes, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.listener = FrameListener(
                self.style,
                self.sizes.motion,
                heads=self.sizes.heads,
                reach=self.sizes.frames - 1,
                inner=self.sizes.width,
            )

    @property
    def settings(self) -> dict[str, int]:
        """Its sizes: `Demonstration(config, **settings)` has the same tensors' shapes."""
        return {name: getattr(self.sizes, name) for name in _SIZES}

    @property
    def fingerprint(self) -> str:
        """A hash of its weights."""
        digest = hashlib.sha256(repr(asdict(self.sizes)).encode())
        for name, value in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def motion(self, frames: Tensor) -> Tensor:
        """Motion tokens (b, M, their width) of frames (b, T, H, W, 3) uint8 as many and as large as its sizes say."""
        kind = self.encoder.queries
        planes = (frames.to(kind.device).to(kind.dtype) / 127.5 - 1).permute(0, 1, 4, 2, 3)
        coarse = F.avg_pool2d(planes.flatten(0, 1), _COARSE)
        coarse = coarse.reshape(*planes.shape[:2], *coarse.shape[1:])
        change = torch.cat([torch.zeros_like(coarse[:, :1]), coarse[:, 1:] - coarse[:, :-1]], dim=1)
        out: Tensor = self.encoder(torch.cat([coarse, change], dim=2))
        return out

    def watch(self, clip: ReferenceClip | None) -> dict[str, Tensor]:
        """What a state keeps of one row's clip: its motion (1, 2, M, d), also in a mirror, as an echo sees it, and the
        pace (1,), moments of the clip in a step of the dream, 0 where there is no clip.

        A step of the dream is as long as a frame of the clip. Raises InvalidInput.
        """
        if clip is None:
            count, kind = self.sizes.frames * self.sizes.tokens, self.encoder.queries
            return {MOTION: kind.new_zeros(1, 2, count, self.sizes.motion), PACE: kind.new_zeros(1)}
        if clip.more:
            raise InvalidInput("demonstrations of a compact world", len(clip.each), "one")
        with torch.no_grad():
            frames = resampled(clip.frames, self.sizes.frames, (self.size, self.size))
            both = torch.stack([self.motion(frames), self.motion(frames.flip(3))], dim=1)
        pace = (self.sizes.frames - 1) / (clip.frames.shape[1] - 1)
        return {MOTION: both, PACE: both.new_full((1,), pace)}

    def told(self, watched: Mapping[str, Tensor], step: Tensor, *, mirrored: bool = False) -> list[Told | None]:
        """What each row's objects hear in a step: watched holds what `watch` gives, step (b,) int64; None for a row
        without a clip. After the clip's end they stay at its last moment."""
        motion, pace = watched[MOTION], watched[PACE]
        return [
            self._ear(motion[row : row + 1, int(mirrored)], float(pace[row]) * int(step[row])) if pace[row] else None
            for row in range(len(pace))
        ]

    def _ear(self, motion: Tensor, place: float) -> Told:
        now = min(round(place), self.sizes.frames - 1)
        distance = (now - moments(self.sizes, motion.shape[1], motion.device))[None, None]

        def hear(style: Tensor) -> Tensor:
            kind = motion.dtype
            # One object after the other: the order of a product's sums depends on how many rows it has.
            each = [self.listener(one[None, None].to(kind), motion, distance)[0] for one in style]
            return torch.cat(each).to(style.dtype)

        return hear


def save_demonstration(
    path: Path | str, demonstration: Demonstration, description: Mapping[str, Any] | None = None
) -> None:
    """Write its weights, whole or not at all. description: plain data about the run. Raises OSError."""
    header = {
        "system": SYSTEM,
        "format": _FORMAT,
        "size": demonstration.size,
        "style": demonstration.style,
        "settings": demonstration.settings,
        "description": dict(description or {}),
    }
    save_tensors(Path(path), demonstration.state_dict(), header)


def load_demonstration(path: Path | str, config: CompactConfig) -> Demonstration:
    """Make what `save_demonstration` wrote again. Raises BadFile for a file that is damaged or of another system, which
    it names, and InvalidInput for a compact model of other sizes."""
    path = Path(path)
    header = read_description(path)
    check_system(path, header, SYSTEM, _FORMAT)
    for name, own in (("size", config.size), ("style", config.motion.widths[-1])):
        if header.get(name) != own:
            raise InvalidInput(f"{name} of the compact model for {path}", own, f"{header.get(name)}, as it was trained")
    try:
        with torch.device("meta"):
            made = Demonstration(config, **header["settings"])
    except (KeyError, TypeError, VAPSimError) as error:
        raise BadFile(path, f"field 'settings' of its header describes no demonstration ({error!r})") from error
    tensors, _ = load_tensors(path)
    fill(made, tensors, path)  # compares shapes: a file that lies about its own takes no memory
    made.to_empty(device="cpu")
    fill(made, tensors, path)
    return made


def _patch(size: int) -> int:
    """Coarse pixels a side of a token: eight tokens across the picture, or one a coarse pixel of a small one."""
    return max(1, size // _COARSE // 8)
