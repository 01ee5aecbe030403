"""A scene's things among the robot's bones: moved by the contact network, which knows where both are in space.

A row is asked by itself, so that its bits do not depend on the batch it is in.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.compact.contact import Bones, ContactNet, Things
from vap_sim.models.compact.geometry import Floats, eyes_of
from vap_sim.models.compact.movers import Context, Moved
from vap_sim.models.compact.poses import Placed
from vap_sim.models.compact.slots import SLOTS
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState

MOVES_ABOVE = 0.0
"""The logit from which a thing moves."""
_SEEN = 0.5  # alpha from which a pixel of a cut-out counts
_THING, _NOTHING = 2, -1  # kinds, see `contact.Bones`
_TOLD = ("bones", "tool", "sizes", "away")


@dataclass(frozen=True)
class Elsewhere:
    """An echo's mistake: by how much its things stand nearer to the camera that first saw them, and more to its left,
    than they are taken to [m]."""

    nearer: float
    left: float


ECHOES = (Elsewhere(0.02, 0.0), Elsewhere(-0.02, 0.0), Elsewhere(0.0, 0.01), Elsewhere(0.0, -0.01))
"""As cameras may be wrong about where things are, along lines of sight twice as much. Chosen on development seeds."""


@dataclass(eq=False)
class ByTouch:
    """Things as the contact network moves them. Its echoes, by which a dream is doubted, are other dreams of the same
    things in space, that stand a little elsewhere: what is surely held or surely missed goes as far there.

    table: its height in the base frame [m]; doubted: the name of what remembers doubt."""

    network: ContactNet
    table: float
    doubted: str
    reads_tool = True
    reads_bones = True

    def __post_init__(self) -> None:
        self.network = copy.deepcopy(self.network).eval().requires_grad_(False)

    def begun(self, context: Context, prompt: VisualPrompt) -> dict[str, Tensor]:
        """See `Mover`."""
        looks = [self._looks(context, row) for row in range(len(prompt))]
        return {**_told(prompt), **{name: torch.cat([one[name] for one in looks]) for name in looks[0]}}

    def moved(self, now: Context, placed: Sequence[Placed], prompt: VisualPrompt, step: Tensor) -> Moved:
        """See `Mover`. Raises InvalidInput for a prompt of a robot with another number of bones."""
        told, seen = _told(prompt), now["projections"].cpu().double().numpy()
        if told["bones"].shape != now["bones"].shape:
            given, expected = (tuple(one["bones"].shape) for one in (told, now))
            raise InvalidInput("bones of the prompt", given, f"{expected}, those of the robot it began with")
        after, went = [], []
        for row, one in enumerate(placed):
            shift, turn, logit = self._foreseen(one, _row(now, row), _row(told, row))
            went.append(logit > MOVES_ABOVE)
            after.append(one.touched(seen[row], shift, turn, went[-1]))
        return Moved(after, np.stack(went), told)

    def begin_doubt(self, state: WorldState) -> WorldState:
        """See `Mover`. Echoes are kept as they would be shown: where their things are, but for the mistake."""
        echoes = {
            name: torch.stack([state.context[name].cpu()] * len(ECHOES), dim=1) for name in ("position", "stride")
        }
        return WorldState(echoes, state.step, state.key, self.doubted)

    def doubt(
        self, memory: WorldState, before: WorldState, after: WorldState, prompt: VisualPrompt
    ) -> tuple[WorldState, Tensor]:
        """See `Mover`. Raises InvalidInput for a memory of another maker or of another number of rows."""
        self._check_memory(memory, before.rows, after.rows)
        told, places, strides, partings = _told(prompt), [], [], []
        for row in range(before.rows):
            dream, old, now = Placed.of(before.context, row), _row(before.context, row), _row(told, row)
            position, stride = (memory.context[name][row].cpu().double().numpy() for name in ("position", "stride"))
            mistakes = _mistakes(old["away"].double().numpy())
            moved = [
                self._moves(replace(dream, position=own[0], stride=own[1]), old, now)
                for own in zip(position + mistakes, stride, strict=True)
            ]
            places.append(position + moved)
            strides.append(np.stack(moved))
            there = after.context["position"][row].cpu().double().numpy()
            far = np.linalg.norm(places[-1] - there, axis=-1).mean(0) / np.maximum(old["sizes"][:, 0].numpy(), 0.01)
            partings.append(float(np.where(dream.present.any(0), far, 0.0).max()))
        on = {"position": np.stack(places), "stride": np.stack(strides)}
        context = {name: torch.from_numpy(value.astype(np.float32)) for name, value in on.items()}
        return memory.advanced(context), torch.tensor(partings, dtype=torch.float64)

    def echoed(self, memory: WorldState, state: WorldState, row: int) -> Sequence[Placed]:
        """See `Mover`."""
        self._check_memory(memory, state.rows, state.rows)
        dream = Placed.of(state.context, row)
        return [replace(dream, position=own) for own in memory.context["position"][row].cpu().double().numpy()]

    def _check_memory(self, memory: WorldState, before: int, after: int) -> None:
        if memory.model != self.doubted or not len(memory) == before == after:
            given = f"{len(memory)} rows of {memory.model!r} for {before} and {after} rows"
            raise InvalidInput("memory of doubt", given, f"as many rows, of {self.doubted!r}")

    def _moves(self, echo: Placed, old: Context, now: Context) -> Floats:
        """How the things of an echo move in a step (S, 3) [m]."""
        shift, _, logit = self._foreseen(echo, old, now)
        return np.where((logit > MOVES_ABOVE)[:, None], shift, 0.0)

    def _looks(self, context: Context, row: int) -> dict[str, Tensor]:
        """What is remembered of a row's things as they were first seen, by the view that shows most of them: `sizes`
        (1, S, 2), width and height [m], and `away` (1, S, 3), the direction from which that was."""
        placed, eyes = Placed.of(context, row), eyes_of(context["projections"][row].cpu().double().numpy())
        alpha = context["patches"][row, :, :, 3].cpu().numpy() >= 255 * _SEEN
        sizes, away = np.zeros((SLOTS, 2), np.float32), np.zeros((SLOTS, 3), np.float32)
        for thing in np.flatnonzero(placed.present.any(axis=0)):
            view = int(np.where(placed.present[:, thing], alpha[:, thing].sum((1, 2)), -1).argmax())
            own, pitch = alpha[view, thing], np.linalg.norm(placed.grain[view, thing], axis=0)
            sizes[thing] = np.array([own.any(0).sum(), own.any(1).sum()]) * pitch
            line = eyes[view] - placed.position[thing]
            away[thing] = line / max(float(np.linalg.norm(line)), 1e-9)
        return {"sizes": torch.from_numpy(sizes)[None], "away": torch.from_numpy(away)[None]}

    @torch.no_grad()
    def _foreseen(self, placed: Placed, old: Context, now: Context) -> tuple[Floats, Floats, Floats]:
        """How the S things of a row will move: shift and turn (S, 3), as in `contact.Answer`, and logit (S,), minus
        infinity where there is none. old, now: what prompts tell of a row, a step ago and now."""
        here = np.flatnonzero(placed.present.any(axis=0))
        shift, turn, logit = np.zeros((SLOTS, 3)), np.zeros((SLOTS, 3)), np.full(SLOTS, -np.inf)
        if len(here):
            answer = self.network(*self._scene(placed, here, old, now))
            shift[here] = answer.shift.double().numpy()
            turn[here] = answer.turn.double().numpy()
            logit[here] = answer.logit.double().numpy()
        return shift, turn, logit

    def _scene(self, placed: Placed, here: NDArray[np.intp], old: Context, now: Context) -> tuple[Things, Bones]:
        """What the network is told of n things, those in the slots `here`, the table at height zero."""
        table, count = np.array([0.0, 0.0, self.table]), len(here)
        carry = now["tool"].double().numpy() @ np.linalg.inv(old["tool"].double().numpy())
        position = placed.position[here]
        taken = position @ carry[:3, :3].T + carry[:3, 3] - position
        turned = np.broadcast_to(Rotation.from_matrix(carry[:3, :3]).as_rotvec(), taken.shape)
        vectors = (position - table, placed.stride[here], taken, turned, old["away"][here].double().numpy())
        place, stride, carried, turn, away = (torch.from_numpy(one.astype(np.float32)) for one in vectors)
        sizes, limbs = old["sizes"][here], now["bones"][:, 6:].expand(count, -1, -1)
        ends = [one["bones"][:, :6].double().numpy().reshape(-1, 2, 3) - table for one in (old, now)]
        around = [torch.from_numpy(each.astype(np.float32)).expand(count, -1, -1, -1) for each in ends]
        # Every thing is among the others: those are listed for each, itself left out.
        beside = [torch.stack([at, at], dim=1).expand(count, -1, -1, -1) for at in (place, place + stride)]
        other = torch.where(torch.eye(count, dtype=torch.bool), _NOTHING, _THING)
        return Things(place, stride, sizes, away, carried, turn), Bones(
            before=torch.cat([around[0], beside[0]], dim=1),
            now=torch.cat([around[1], beside[1]], dim=1),
            thick=torch.cat([limbs[..., 0], (sizes.mean(1) / 2).expand(count, -1)], dim=1),
            kind=torch.cat([limbs[..., 1].long(), other], dim=1),
        )


def _mistakes(away: Floats) -> Floats:
    """By how much the echoes' things stand elsewhere (E, S, 3) [m]; away (S, 3): the direction from which each was
    first seen, zero where there is none."""
    left = np.cross(away, [0.0, 0.0, 1.0])
    left /= np.maximum(np.linalg.norm(left, axis=1, keepdims=True), 1e-9)
    return np.stack([echo.nearer * away + echo.left * left for echo in ECHOES])


def _told(prompt: VisualPrompt) -> dict[str, Tensor]:
    """What a prompt tells of its first frame, on the processor: `bones` (b, B, 8) and `tool` (b, 4, 4)."""
    assert prompt.bones is not None and prompt.tool is not None  # as `check_prompt` has seen
    return {"bones": prompt.bones[:, 0].cpu(), "tool": prompt.tool[:, 0].cpu()}


def _row(context: Context, row: int) -> dict[str, Tensor]:
    return {name: context[name][row].cpu() for name in _TOLD if name in context}
