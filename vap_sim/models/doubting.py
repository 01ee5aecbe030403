"""Worlds that can say how sure they are: the optional part of a world model that the trust meter asks."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState


@runtime_checkable
class DoubtingWorld(Protocol):
    """A world model that dreams beside a dream a little otherwise, and tells how far the two have come apart.

    What it remembers for that is a `WorldState` of its own with one row a dream, so that it is indexed, joined and
    forked with the dream; the dream itself is not changed by being doubted. A row alone doubts as it does in a batch.
    Of several views the first is doubted, which must stand still.
    """

    def begin_doubt(self, state: WorldState) -> WorldState:
        """The memory of doubt at the beginning of dreams, from what `encode` returned (b rows)."""
        ...

    def doubt(
        self, memory: WorldState, before: WorldState, after: WorldState, prompt: VisualPrompt
    ) -> tuple[WorldState, Tensor]:
        """One step of doubt: `step(before, prompt)` has returned `after`; all have b rows.

        Returns the memory one step on, and (b,) float64 doubts: how far the object of which the world is least sure
        may lie from where the dream shows it, in its own widths; 0 is no doubt. Raises InvalidInput for a memory or
        states of another world.
        """
        ...


@runtime_checkable
class EchoingWorld(DoubtingWorld, Protocol):
    """A doubting world that can show what it dreams beside a dream."""

    def echoes(self, memory: WorldState, state: WorldState, prompt: VisualPrompt) -> Tensor:
        """What is dreamt beside dreams, at the same moment.

        memory: of doubt, state: of the dream, both after the step to `prompt` (F = 1); all have b rows. Returns frames
        (b, E, V, 1, H, W, 3) uint8 of E echoes, E = 0 of a world whose echoes are no pictures. Raises InvalidInput for
        a memory or a state of another world."""
        ...
