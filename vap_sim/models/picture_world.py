"""What worlds without a network share: a dream whose whole memory is how it began."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.protocol import Rollout, WorldModelSpec
from vap_sim.models.rollout import check_frames, check_prompt, check_state, imagine, start_keys
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState


@dataclass(frozen=True, eq=False)
class PictureWorld(ABC):
    """A world that shows, in every frame, something made of its first picture and that frame's own prompt.

    A variant gives its `name`, what `begun` keeps and what is `shown`; a dream's state changes in its step alone.
    size: (width, height) [px]; views, frames_per_step, frame_rate [Hz], profile: as in `WorldModelSpec`.
    """

    name: ClassVar[str]
    size: tuple[int, int] = (128, 128)
    views: int = 1
    frames_per_step: int = 1
    frame_rate: float = 5.0
    profile: str = "compact"
    device: str = "cpu"
    spec: WorldModelSpec = field(init=False, repr=False)

    def __post_init__(self) -> None:
        settings = (self.size, self.views, self.frames_per_step, self.frame_rate, self.profile)
        shape = (*self.size, *settings[1:])
        fingerprint = hashlib.sha256(f"{self.name} 1 {shape}".encode()).hexdigest()[:16]
        object.__setattr__(self, "spec", WorldModelSpec(self.name, *settings, fingerprint))

    @classmethod
    def load(
        cls,
        path: object = None,
        *,
        device: str = "cpu",
        size: tuple[int, int] = (128, 128),
        views: int = 1,
        frames_per_step: int = 1,
        frame_rate: float = 5.0,
        profile: str = "compact",
    ) -> Self:
        """The world with these settings. It has no weights: raises InvalidInput where a path is given."""
        if path is not None:
            raise InvalidInput(f"weights of world {cls.name!r}", path, "None: it has no network")
        return cls(size, views, frames_per_step, frame_rate, profile, device)

    @abstractmethod
    def begun(self, frames: Tensor, skeleton: Tensor) -> dict[str, Tensor]:
        """What a dream remembers of its first pictures and their skeletons, both (b, V, H, W, 3) uint8."""

    @abstractmethod
    def shown(self, context: Mapping[str, Tensor], skeleton: Tensor) -> Tensor:
        """New frames for drawings on black (b, V, F, H, W, 3), shaped as they are; all uint8."""

    def encode(self, frames: Tensor, prompt: VisualPrompt, seed: Sequence[int] | Tensor) -> WorldState:
        """Begin dreams from pictures (b, V, H, W, 3) uint8 and prompts of their poses (F = 1)."""
        check_frames(frames, self.spec)
        check_prompt(prompt, self.spec, rows=len(frames), pixel_frames=1)
        # Copies, so that a caller who reuses its picture buffers does not rewrite the past.
        begun = self.begun(frames, prompt.skeleton[:, :, 0])
        context = {name: value.to(self.device, copy=True) for name, value in begun.items()}
        return WorldState(context, *start_keys(len(frames), seed, self.device), model=self.spec.fingerprint)

    def step(self, state: WorldState, prompt: VisualPrompt) -> tuple[WorldState, Tensor]:
        """The next state, and frames (b, V, F, H, W, 3) uint8."""
        check_state(state, self.spec)
        check_prompt(prompt, self.spec, rows=state.rows, pixel_frames=self.frames_per_step)
        return state.advanced(state.context), self.shown(state.context, prompt.skeleton.to(self.device))

    def imagine(self, state: WorldState, prompts: VisualPrompt, *, decode: bool = True) -> Rollout:
        """As many steps as the prompts hold; see `rollout.imagine`."""
        return imagine(self, state, prompts, decode=decode, advance=self._advance)

    def _advance(self, state: WorldState, _prompt: VisualPrompt) -> WorldState:
        return state.advanced(state.context)
