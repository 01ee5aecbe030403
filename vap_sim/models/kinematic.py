"""The kinematic world: no network, the drawn arm over the first frame. Perfect obedience looks like this."""

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

# Brightest channel from which a drawn pixel hides what is behind it; profiles draw whole pixels brighter than this, so
# that only their soft edges let the picture through.
_OPAQUE = 128


@dataclass(frozen=True, eq=False)
class KinematicWorld:
    """Pastes every prompt over the first frame. The arm in that frame stays where it was; nothing else ever moves.

    It proves environments, planners and scores without a network, and is the oracle for "does it follow the arm". A
    state holds the first picture and its skeleton, which tells where the pictured arm, that never moves, stands.
    size: (width, height) [px]; views, frames_per_step, frame_rate [Hz], profile: as in `WorldModelSpec`.
    """

    size: tuple[int, int] = (128, 128)
    views: int = 1
    frames_per_step: int = 1
    frame_rate: float = 5.0
    profile: str = "compact"
    device: str = "cpu"
    spec: WorldModelSpec = field(init=False, repr=False)

    def __post_init__(self) -> None:
        shape = (*self.size, self.views, self.frames_per_step, self.frame_rate, self.profile)
        fingerprint = hashlib.sha256(f"kinematic 1 {shape}".encode()).hexdigest()[:16]
        settings = (self.size, self.views, self.frames_per_step, self.frame_rate, self.profile)
        object.__setattr__(self, "spec", WorldModelSpec("kinematic", *settings, fingerprint))

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
    ) -> KinematicWorld:
        """The world with these settings. It has no weights: raises InvalidInput where a path is given."""
        if path is not None:
            raise InvalidInput("weights of world 'kinematic'", path, "None: it has no network")
        return cls(size, views, frames_per_step, frame_rate, profile, device)

    def encode(self, frames: Tensor, prompt: VisualPrompt, seed: Sequence[int] | Tensor) -> WorldState:
        """Begin dreams from pictures (b, V, H, W, 3) uint8 and prompts of their poses (F = 1)."""
        check_frames(frames, self.spec)
        rows = len(frames)
        check_prompt(prompt, self.spec, rows=rows, pixel_frames=1)
        # Copies, so that a caller who reuses its picture buffers does not rewrite the past.
        context = {
            "frame": frames.to(self.device, copy=True),
            "skeleton": prompt.skeleton[:, :, 0].to(self.device, copy=True),
        }
        return WorldState(context, *start_keys(rows, seed, self.device), model=self.spec.fingerprint)

    def step(self, state: WorldState, prompt: VisualPrompt) -> tuple[WorldState, Tensor]:
        """The next state, and frames (b, V, F, H, W, 3) uint8."""
        check_state(state, self.spec)
        check_prompt(prompt, self.spec, rows=state.rows, pixel_frames=self.frames_per_step)
        return state.advanced(state.context), paste(prompt.skeleton.to(self.device), state.context["frame"][:, :, None])

    def imagine(self, state: WorldState, prompts: VisualPrompt, *, decode: bool = True) -> Rollout:
        """As many steps as the prompts hold; see `rollout.imagine`."""
        return imagine(self, state, prompts, decode=decode, advance=self._advance)

    def _advance(self, state: WorldState, _prompt: VisualPrompt) -> WorldState:
        return state.advanced(state.context)


def paste(skeleton: Tensor, picture: Tensor) -> Tensor:
    """A drawing on black over a picture, both uint8 (..., H, W, 3) or broadcastable: black shows the picture.

    Drawn colours are already weighted by how much of a pixel the drawing covers: they are added to what shines through.
    """
    brightest = torch.maximum(torch.maximum(skeleton[..., 0], skeleton[..., 1]), skeleton[..., 2])
    # Whole numbers, which round alike in every batch; 255 * _OPAQUE is the largest that 16 bits can hold.
    through = (_OPAQUE - brightest.clamp_max(_OPAQUE)).to(torch.int16)[..., None]
    seen = (picture * through).add_(_OPAQUE // 2).bitwise_right_shift_(_OPAQUE.bit_length() - 1)
    return seen.to(torch.uint8).add_(skeleton)
