"""How a CogVideoX world dreams, apart from its weights: mode, window, steps and guidance as one checked record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from vap_sim.errors import InvalidInput, UnknownName
from vap_sim.models.cogvideox.codec import FRAMES
from vap_sim.models.cogvideox.config import ModelConfig
from vap_sim.models.cogvideox.guidance import Guidance
from vap_sim.models.cogvideox.sampler import SOLVERS

MODES = ("stream", "chunk")
_COUNTS = ("steps", "history", "chunk", "overlap", "rows_at_once")


@dataclass(frozen=True)
class Settings:
    """Raises InvalidInput or UnknownName for values that make no dream.

    mode: "stream" makes one latent frame (four pixel frames) a step and looks back at cached frames; "chunk" makes a
    whole clip a step, from the last frames of the one before. steps: denoising steps; solver: "ddim" or "dpm";
    guidance, control_guidance, reference_guidance, dynamic_guidance: see `Guidance`; rows_at_once: dreams computed in
    one pass. With 1 a row's bits do not depend on its batch; with more they may differ by rounding, to one grey level.

    Of streams: history: latent frames looked back at; keep_first: beside them the first frame, always; renew: where a
    model adds positions to its tokens, what is kept of frames is computed anew when they change places in the window.
    False leaves it as it was made: a pass over the window less at every step, and positions the model never met.
    Of chunks: chunk: pixel frames of a clip, 4 k + 1; overlap: how many of them are the last of the clip before,
    4 j + 1. A step makes chunk - overlap frames.
    """

    mode: str = "stream"
    steps: int = 4
    solver: str = "ddim"
    guidance: float = 1.0
    control_guidance: float = 1.0
    reference_guidance: float = 1.0
    dynamic_guidance: bool = False
    history: int = 3
    keep_first: bool = True
    renew: bool = True
    chunk: int = 17
    overlap: int = 1
    rows_at_once: int = 1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise UnknownName("mode of a CogVideoX world", self.mode, MODES)
        if self.solver not in SOLVERS:
            raise UnknownName("solver", self.solver, SOLVERS)
        for name in _COUNTS:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InvalidInput(f"{name} of a CogVideoX world", value, "a whole number of at least 1")
        for name in ("keep_first", "renew", "dynamic_guidance"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInput(f"{name} of a CogVideoX world", getattr(self, name), "True or False")
        if self.chunk % FRAMES != 1 or self.chunk == 1:
            raise InvalidInput("chunk", f"{self.chunk} frames", f"{FRAMES} k + 1 of them, 5 or more, like 25 or 49")
        if self.overlap % FRAMES != 1 or self.overlap >= self.chunk:
            expected = f"{FRAMES} j + 1 frames, fewer than the chunk's {self.chunk}"
            raise InvalidInput("overlap", f"{self.overlap} frames", expected)
        _ = self.guiding

    @property
    def guiding(self) -> Guidance:
        """The guidance."""
        return Guidance(self.guidance, self.control_guidance, self.dynamic_guidance, self.reference_guidance)

    @property
    def window(self) -> int:
        """Latent frames that a stream looks back at, the first one included."""
        return self.history + int(self.keep_first)

    def kept(self, frames: int) -> tuple[int, ...]:
        """Which of so many latent frames are in a stream's window, by number."""
        first = min(int(self.keep_first), frames)
        return (*range(first), *range(max(first, frames - self.history), frames))

    @property
    def frames_per_step(self) -> int:
        """Pixel frames that one step makes."""
        return FRAMES if self.mode == "stream" else self.chunk - self.overlap

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of all settings."""
        return tuple(item.name for item in fields(cls))


def defaults(mode: str, config: ModelConfig, scheduler: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for a model that says nothing itself: as long as it was trained, few steps only where it streams."""
    solver = next((name for name, kind in SOLVERS.items() if kind == scheduler.get("_class_name")), "ddim")
    streaming = mode == "stream"
    return {
        "mode": mode,
        "steps": 4 if streaming else 50,
        "guidance": 1.0 if streaming else 6.0,
        "solver": "ddim" if streaming else solver,
        "history": max(1, config.frames - 2),
        "chunk": longest_chunk(config),
    }


def longest_chunk(config: ModelConfig) -> int:
    """Pixel frames of the clips that a model was trained with."""
    return max(5, FRAMES * (config.frames - 1) + 1)
