"""What a world model is: pictures and prompts in, pictures and a state out. It sees no robot and no joint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState


@dataclass(frozen=True)
class WorldModelSpec:
    """What a caller must know to feed a model and to read its frames.

    size: (width, height) of frames and prompts [px]; views: cameras seen at once, V; frames_per_step: pixel frames made
    by one step, F; frame_rate: pixel frames a second of dreamt time [Hz]; profile: name of the draw profile its prompts
    must be drawn with; fingerprint: hash of weights and settings, by which its states know it; reads_text: whether the
    captions of prompts (`VisualPrompt.text`) move its dreams; a caller may leave them out for a world that does not
    read; reads_reference: whether dreams may be shown a demonstration (`VisualPrompt.reference`) at their start;
    motions: names of learned motions that dreams may be told at their start (`VisualPrompt.motion`); reads_cameras:
    whether every prompt must say where its cameras are (`VisualPrompt.projections`); reads_tool: and where the robot's
    tool is (`VisualPrompt.tool`); reads_bones: and where its bones are (`VisualPrompt.bones`). Raises InvalidInput.
    """

    name: str
    size: tuple[int, int]
    views: int
    frames_per_step: int
    frame_rate: float
    profile: str
    fingerprint: str
    reads_text: bool = False
    reads_reference: bool = False
    motions: tuple[str, ...] = ()
    reads_cameras: bool = False
    reads_tool: bool = False
    reads_bones: bool = False

    def __post_init__(self) -> None:
        if len(self.size) != 2 or min(self.size) < 1:
            raise InvalidInput(f"size of world {self.name!r}", self.size, "(width, height) of at least 1 pixel each")
        for field in ("views", "frames_per_step"):
            if getattr(self, field) < 1:
                raise InvalidInput(f"{field} of world {self.name!r}", getattr(self, field), "at least 1")
        if not 0 < self.frame_rate < math.inf:
            raise InvalidInput(f"frame_rate of world {self.name!r}", self.frame_rate, "a positive number [Hz]")

    @property
    def step_seconds(self) -> float:
        """Dreamt time that one step takes [s]."""
        return self.frames_per_step / self.frame_rate


@dataclass(frozen=True, eq=False)
class Rollout:
    """Several steps at once: the state after the last; frames (b, V, k F, H, W, 3) uint8 RGB, None if not decoded."""

    state: WorldState
    frames: Tensor | None


class WorldModel(Protocol):
    """A learned or drawn world. `tests/contracts/world_model.py` says by tests what every world must obey.

    Methods have no memory: all of it is in the state, which they never write to. They raise InvalidInput for pictures,
    prompts, seeds and states that do not fit the spec.
    """

    @property
    def spec(self) -> WorldModelSpec:
        """What the model takes and makes."""
        ...

    def encode(self, frames: Tensor, prompt: VisualPrompt, seed: Sequence[int] | Tensor) -> WorldState:
        """Begin b dreams.

        frames: (b, V, H, W, 3) uint8 RGB, what the cameras see at the start; prompt: F = 1, the pose in those frames;
        seed: b integers, the keys of the rows' randomness. The state's step counters are 0. The prompt's captions, for
        a world that reads them, hold for the whole dream: steps need not repeat them.
        """
        ...

    def step(self, state: WorldState, prompt: VisualPrompt) -> tuple[WorldState, Tensor]:
        """One step of every row. prompt: b rows, F = frames_per_step. Frames: (b, V, F, H, W, 3) uint8 RGB."""
        ...

    def imagine(self, state: WorldState, prompts: VisualPrompt, *, decode: bool = True) -> Rollout:
        """k steps at once, equal to k calls of `step`. prompts: b rows, k frames_per_step pixel frames, k >= 1.

        decode: False leaves out the frames, which a model may then spare itself.
        """
        ...
