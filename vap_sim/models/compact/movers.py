"""What moves a scene's things from step to step: a network that sees each of them in every view's picture, or one that
knows where the robot's bones are (see `touching`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.models.compact import carry, doubt, reach
from vap_sim.models.compact.fusing import Opinions
from vap_sim.models.compact.motion import Motion, move
from vap_sim.models.compact.network import MotionNet
from vap_sim.models.compact.pixels import unit
from vap_sim.models.compact.poses import Placed
from vap_sim.models.compact.slots import Slots
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState

if TYPE_CHECKING:
    from vap_sim.models.compact.demonstration import Demonstration

Context = Mapping[str, Tensor]
_POSES = ("centre", "turn", "velocity")


@dataclass(frozen=True, eq=False)
class Moved:
    """Things of b rows a step on: how they are placed, which of them went (b, S), and what else has changed."""

    placed: Sequence[Placed]
    went: NDArray[np.bool_]
    told: Mapping[str, Tensor] = field(default_factory=dict)


class Mover(Protocol):
    """What moves things."""

    @property
    def reads_tool(self) -> bool:
        """Whether prompts must tell where the tool is."""
        ...

    @property
    def reads_bones(self) -> bool:
        """Whether prompts must tell where the bones are."""
        ...

    def begun(self, context: Context, prompt: VisualPrompt) -> dict[str, Tensor]:
        """What it wants to be remembered of a dream's beginning."""
        ...

    def moved(self, now: Context, placed: Sequence[Placed], prompt: VisualPrompt, step: Tensor) -> Moved:
        """Things of b rows after a step (b,) to what the prompt, F = 1, tells."""
        ...

    def begin_doubt(self, state: WorldState) -> WorldState:
        """See `DoubtingWorld`."""
        ...

    def doubt(
        self, memory: WorldState, before: WorldState, after: WorldState, prompt: VisualPrompt
    ) -> tuple[WorldState, Tensor]:
        """See `DoubtingWorld`."""
        ...

    def echoed(self, memory: WorldState, state: WorldState, row: int) -> Sequence[Placed]:
        """Where a row's things are in each echo, none where echoes have no place in space. Raises InvalidInput for a
        memory of another maker or of another number of rows."""
        ...


@dataclass(eq=False)
class BySight:
    """Things as the motion network sees them in every view that may speak, the views' words made one displacement in
    space (see `fusing`). Doubt is that of the first view.

    size: of the pictures [px]; told_of_carrying: whether the network is; hears_moving: whether it was trained on
    cameras that move; doubted: the name of what remembers doubt."""

    network: MotionNet
    size: int
    table: float
    told_of_carrying: bool
    hears_moving: bool
    demonstration: Demonstration | None
    doubted: str
    reads_bones = False

    @property
    def reads_tool(self) -> bool:
        """Whether prompts must tell where the tool is."""
        return self.told_of_carrying

    def begun(self, context: Context, prompt: VisualPrompt) -> dict[str, Tensor]:
        """See `Mover`: `skeletons` (b, V, 6, H, W) uint8, of this and the frame before, newest first, and what
        `reach` keeps."""
        drawn = _drawn(prompt)
        kept = reach.begun(prompt, context["present"].any(1), context["centre"][:, 0], self.table)
        return {"skeletons": torch.cat([drawn, drawn], dim=2), **kept}

    def moved(self, now: Context, placed: Sequence[Placed], prompt: VisualPrompt, step: Tensor) -> Moved:
        """See `Mover`."""
        tool, heard = reach.told(now, prompt), self._heard(now)
        history = torch.cat([_drawn(prompt).to(now["skeletons"].device), now["skeletons"]], dim=2)
        told = {**tool, "skeletons": history[:, :, :6]}
        if not heard.any():
            return Moved(placed, np.zeros((len(placed), heard.shape[2]), np.bool_), told)
        taken = None
        if self.told_of_carrying:
            taken = carry.planes(now["projections"], now["tool"][:, None], tool["tool"][:, None])
        motion = self._foreseen(now, history, torch.from_numpy(heard).to(history.device), step, taken)
        shift, twist, logit = (value.double().cpu().numpy() for value in vars(motion).values())
        free = heard & ~self._beyond(now, prompt)[:, None].cpu().numpy()
        seen = now["projections"].cpu().double().numpy()
        steps = [
            one.moved(seen[row], Opinions(shift[row], twist[row], logit[row]), free[row])
            for row, one in enumerate(placed)
        ]
        went = np.stack([which for _, which in steps])
        if "lies" in now:
            told["lies"] = now["lies"] & ~torch.from_numpy(went).to(history.device)
        return Moved([one for one, _ in steps], went, told)

    def begin_doubt(self, state: WorldState) -> WorldState:
        """See `Mover`."""
        return doubt.begin_rows(state, _first_views(state), self.doubted)

    def doubt(
        self, memory: WorldState, before: WorldState, after: WorldState, prompt: VisualPrompt
    ) -> tuple[WorldState, Tensor]:
        """See `Mover`."""
        told = doubt.told_echoes(self.demonstration, before)
        seen, planes = (_first_views(before), _first_views(after)), None
        if self.told_of_carrying:
            now = after.context
            planes = carry.planes(now["projections"][:, 0], before.context["tool"], now["tool"])
        away = self._beyond(before.context, prompt)
        return doubt.advance_rows(self.network, memory, *seen, told, self.doubted, planes, away)

    def echoed(self, memory: WorldState, state: WorldState, row: int) -> Sequence[Placed]:
        """See `Mover`. Echoes are places in the first view's picture alone."""
        return ()

    def _beyond(self, now: Context, prompt: VisualPrompt) -> Tensor:
        """What of the objects (b, S) the robot does not reach, by the first view; see `reach`."""
        if self.demonstration is not None:
            return torch.zeros_like(now["present"][:, 0])
        first = {name: now[name][:, 0] for name in ("centre", "velocity", "present")}
        kept = {name: now[name] for name in ("lies", "tool") if name in now}
        return reach.beyond({**first, **kept}, prompt, self.table)

    def _heard(self, now: Context) -> NDArray[np.bool_]:
        """Whose word on which object counts, (b, V, S): of views that show it inside of their picture."""
        centre = now["centre"]
        inside = ((centre >= 0) & (centre <= self.size - 1)).all(dim=3)
        speaks, roams = inside & now["present"], now["roams"][:, :, None]
        steady = speaks & ~roams
        # Seen from a hand, what the hand carries stands still: of an object that a steady view shows too, only that
        # view is asked.
        speaks = steady | (speaks & ~steady.any(dim=1, keepdim=True)) if self.hears_moving else steady
        return np.asarray(speaks.cpu().numpy())

    def _foreseen(self, now: Context, history: Tensor, heard: Tensor, step: Tensor, taken: Tensor | None) -> Motion:
        """How objects will move in each view, (b, V, S, ...), where it is heard; taken (b, V, 3, 3): by what the tool
        would carry them, for a network that is told."""
        flat = {name: now[name].flatten(0, 1) for name in (*_POSES, "objects")}
        poses = {name: flat[name] for name in _POSES}
        slots = Slots(unit(now["patches"].flatten(0, 1)), **poses, present=heard.flatten(0, 1))
        told = () if self.demonstration is None else self.demonstration.told(now, step)
        each = [one for one in told for _ in range(heard.shape[1])]
        flat_planes = None if taken is None else taken.flatten(0, 1)
        objects = flat["objects"].float()
        motion = move(self.network, unit(history.flatten(0, 1)), objects, slots, each, flat_planes)
        lead = heard.shape[:2]
        return Motion(*(value.reshape(*lead, *value.shape[1:]) for value in vars(motion).values()))


def _drawn(prompt: VisualPrompt) -> Tensor:
    """The skeletons of a prompt's first frame, (b, V, 3, H, W) uint8, every plane in one piece."""
    return prompt.skeleton[:, :, 0].permute(0, 1, 4, 2, 3).contiguous()


def _first_views(state: WorldState) -> list[dict[str, Tensor]]:
    """Each row's context in its first view, as echoes want it."""
    shown = {name: state.context[name][:, 0] for name in (*_POSES, "objects", "patches", "present", "skeletons")}
    return [{name: value[row : row + 1] for name, value in shown.items()} for row in range(state.rows)]
