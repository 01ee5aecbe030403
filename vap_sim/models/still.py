"""The still world: the first picture for ever, whatever it is told. What a dream that knows nothing scores."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.protocol import Rollout, WorldModelSpec
from vap_sim.models.rollout import check_frames, check_prompt, check_state, imagine, start_keys
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState


@dataclass(frozen=True, eq=False)
class StillWorld:
    """Shows the first picture in every frame; neither the arm nor anything else ever moves.

    It is the floor of every figure: static scenes make copies of the first frame look good, and a dream must beat them.
    Prompts are checked and then disregarded. size: (width, height) [px]; views, frames_per_step, frame_rate [Hz],
    profile: as in `WorldModelSpec`.
    """

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
        fingerprint = hashlib.sha256(f"still 1 {shape}".encode()).hexdigest()[:16]
        object.__setattr__(self, "spec", WorldModelSpec("still", *settings, fingerprint))

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
    ) -> StillWorld:
        """The world with these settings. It has no weights: raises InvalidInput where a path is given."""
        if path is not None:
            raise InvalidInput("weights of world 'still'", path, "None: it has no network")
        return cls(size, views, frames_per_step, frame_rate, profile, device)

    def encode(self, frames: Tensor, prompt: VisualPrompt, seed: Sequence[int] | Tensor) -> WorldState:
        """Begin dreams from pictures (b, V, H, W, 3) uint8 and prompts of their poses (F = 1)."""
        check_frames(frames, self.spec)
        check_prompt(prompt, self.spec, rows=len(frames), pixel_frames=1)
        # A copy, so that a caller who reuses its picture buffer does not rewrite the past.
        context = {"frame": frames.to(self.device, copy=True)}
        return WorldState(context, *start_keys(len(frames), seed, self.device), model=self.spec.fingerprint)

    def step(self, state: WorldState, prompt: VisualPrompt) -> tuple[WorldState, Tensor]:
        """The next state, and frames (b, V, F, H, W, 3) uint8."""
        check_state(state, self.spec)
        check_prompt(prompt, self.spec, rows=state.rows, pixel_frames=self.frames_per_step)
        frames = torch.repeat_interleave(state.context["frame"][:, :, None], self.frames_per_step, dim=2)
        return state.advanced(state.context), frames

    def imagine(self, state: WorldState, prompts: VisualPrompt, *, decode: bool = True) -> Rollout:
        """As many steps as the prompts hold; see `rollout.imagine`."""
        return imagine(self, state, prompts, decode=decode, advance=self._advance)

    def _advance(self, state: WorldState, _prompt: VisualPrompt) -> WorldState:
        return state.advanced(state.context)
