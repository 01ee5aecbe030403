"""The compact world of several cameras: what each shows is made of one scene, whose objects have a place in space.

Every view has its own plate, style and cut-outs; where an object is, is known once. In each step a mover says where it
goes in space (see `movers`), and every view shows the object where that puts it. Cameras may move: prompts say where
they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.compact import layers
from vap_sim.models.compact.beginning import begin
from vap_sim.models.compact.geometry import Floats
from vap_sim.models.compact.ground import plate_now
from vap_sim.models.compact.model import FRAME_RATE, fingerprint_of
from vap_sim.models.compact.movers import BySight, Mover
from vap_sim.models.compact.network import CompactNetwork, to_blocks
from vap_sim.models.compact.packed import fast_dtype, packed
from vap_sim.models.compact.pixels import drawn_blocks, levels, unit, unit_planes
from vap_sim.models.compact.placing import lay
from vap_sim.models.compact.poses import Placed
from vap_sim.models.compact.slots import Slots
from vap_sim.models.compact.touching import ByTouch
from vap_sim.models.protocol import Rollout, WorldModelSpec
from vap_sim.models.rollout import check_frames, check_prompt, check_state, imagine, start_keys
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState

if TYPE_CHECKING:
    from vap_sim.models.compact.demonstration import Demonstration

MOST_VIEWS = 4
_POSES = ("centre", "turn", "velocity")
_PLACED = ("position", "stride", "spin")
_PICTURES_AT_ONCE = 24  # as in the world of one view

Context = Mapping[str, Tensor]


class CompactViews:
    """A dream in layers (see `layers`) seen by 1 to MOST_VIEWS cameras that stand still or move.

    Deterministic; a row's bits do not depend on the batch it is in, and the order of views matters only to rounding.
    Prompts must hold `projections`, and what `mover` must be told.
    """

    def __init__(
        self,
        network: CompactNetwork,
        profile: str = "compact",
        device: str = "cpu",
        *,
        views: int = 2,
        table_height: float = 0.0,
        frame_rate: float = FRAME_RATE,
        hears_moving: bool = False,
        dtype: torch.dtype | None = None,
        demonstration: Demonstration | None = None,
    ) -> None:
        """Arguments as of `CompactWorld`, and besides:

        views: how many. table_height: of the table in the base frame [m]. hears_moving: whether the motion network was
        trained on cameras that move; if so, such a view is asked about objects that no other one shows, if not, it only
        shows what the others say. Raises InvalidInput.
        """
        if not 1 <= views <= MOST_VIEWS:
            raise InvalidInput("views of the compact world", views, f"1 to {MOST_VIEWS}")
        if not np.isfinite(table_height):
            raise InvalidInput("table_height of the compact world", table_height, "a finite number [m]")
        self.views, self.table = views, float(table_height)
        settings = f"{views} views, table {self.table!r}, moving {hears_moving}, rate {frame_rate!r}"
        weights = fingerprint_of(network, demonstration)
        self.fingerprint = hashlib.sha256(f"{weights} {settings}".encode()).hexdigest()[:16]
        self.demonstration = demonstration
        if demonstration is not None:
            demonstration.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
        self._dtype = fast_dtype(device) if dtype is None else dtype
        network.cast(device, self._dtype)
        self.network = packed(network)
        self.device = torch.device(device)
        self.size = network.config.size
        doubted = f"{self.fingerprint} doubt"
        # What a demonstration says is said to the network that looks at pictures.
        self.mover: Mover
        if network.contact is not None and demonstration is None:
            self.mover = ByTouch(network.contact, self.table, doubted)
        else:
            self.mover = BySight(
                self.network.motion,
                self.size,
                self.table,
                told_of_carrying=network.config.carry,
                hears_moving=hears_moving,
                demonstration=demonstration,
                doubted=doubted,
            )
        self.spec = WorldModelSpec(
            name="compact",
            size=(self.size, self.size),
            views=views,
            frames_per_step=1,
            frame_rate=frame_rate,
            profile=profile,
            fingerprint=self.fingerprint,
            reads_reference=demonstration is not None,
            reads_cameras=True,
            reads_tool=self.mover.reads_tool,
            reads_bones=self.mover.reads_bones,
        )

    def encode(self, frames: Tensor, prompt: VisualPrompt, seed: Sequence[int] | Tensor) -> WorldState:
        """Begin dreams from pictures (b, V, H, W, 3) uint8 and prompts of their poses (F = 1)."""
        check_frames(frames, self.spec)
        check_prompt(prompt, self.spec, rows=frames.shape[0], pixel_frames=1)
        seen = _projections(prompt)
        parts = [self._encode_row(frames[row], prompt.skeleton[row, :, 0], seen[row]) for row in range(len(frames))]
        if self.demonstration is not None:
            clips = [None if prompt.reference is None else prompt.reference.index([row]) for row in range(len(parts))]
            parts = [{**part, **self.demonstration.watch(clip)} for part, clip in zip(parts, clips, strict=True)]
        context = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        begun = self.mover.begun(context, prompt)
        context |= {name: value.to(self.device) for name, value in begun.items()}
        return WorldState(context, *start_keys(frames.shape[0], seed, self.device), model=self.fingerprint)

    def step(self, state: WorldState, prompt: VisualPrompt) -> tuple[WorldState, Tensor]:
        """Dream one frame of every view: the next state, and frames (b, V, 1, H, W, 3) uint8."""
        check_state(state, self.spec)
        check_prompt(prompt, self.spec, rows=state.rows, pixel_frames=1)
        after = self._advance(state, prompt)
        rows = [self._paint_row(after.context, row, prompt.skeleton[row, :, 0]) for row in range(state.rows)]
        return after, torch.stack(rows)[:, :, None]

    def imagine(self, state: WorldState, prompts: VisualPrompt, *, decode: bool = True) -> Rollout:
        """Dream as many frames as the prompts hold; see `rollout.imagine`. Not decoded, they are not painted either."""
        return imagine(self, state, prompts, decode=decode, advance=self._advance)

    def begin_doubt(self, state: WorldState) -> WorldState:
        """Echoes of dreams at their start; see `DoubtingWorld` and `doubt`."""
        check_state(state, self.spec)
        return self.mover.begin_doubt(state)

    def doubt(
        self, memory: WorldState, before: WorldState, after: WorldState, prompt: VisualPrompt
    ) -> tuple[WorldState, Tensor]:
        """Echoes a step on, and how far they are from the dream (b,); see `DoubtingWorld`."""
        check_state(before, self.spec)
        check_state(after, self.spec)
        return self.mover.doubt(memory, before, after, prompt)

    def echoes(self, memory: WorldState, state: WorldState, prompt: VisualPrompt) -> Tensor:
        """What is dreamt beside dreams; see `EchoingWorld`."""
        check_state(state, self.spec)
        check_prompt(prompt, self.spec, rows=state.rows, pixel_frames=1)
        rows = [self._echoes_of(memory, state, prompt, row) for row in range(state.rows)]
        return torch.stack(rows)[:, :, :, None]

    def _echoes_of(self, memory: WorldState, state: WorldState, prompt: VisualPrompt, row: int) -> Tensor:
        """The frames (E, V, H, W, 3) uint8 of one row's echoes."""
        own = {name: value[row : row + 1] for name, value in state.context.items()}
        seen, skeletons = _projections(prompt)[row : row + 1], prompt.skeleton[row, :, 0]
        frames = [
            self._paint_row(self._posed(own, [placed], seen, own["present"]), 0, skeletons)
            for placed in self.mover.echoed(memory, state, row)
        ]
        return torch.stack(frames) if frames else torch.zeros_like(skeletons[None], device=self.device)[:0]

    def _advance(self, state: WorldState, prompt: VisualPrompt) -> WorldState:
        seen, each = _projections(prompt), max(1, _PICTURES_AT_ONCE // self.views)
        moved = []
        for first in range(0, state.rows, each):
            rows = slice(first, first + each)
            old = {name: value[rows] for name, value in state.context.items()}
            moved.append(self._move(old, prompt.index(rows), seen[rows], state.step[rows]))
        return state.advanced({name: torch.cat([one[name] for one in moved]) for name in moved[0]})

    @torch.no_grad()
    def _encode_row(self, frames: Tensor, skeletons: Tensor, seen: Floats) -> dict[str, Tensor]:
        """A row's context; frames and skeletons (V, H, W, 3) uint8, seen (V, 3, 4)."""
        readings, found = [], []
        for frame, skeleton in zip(frames, skeletons, strict=True):
            blocks = drawn_blocks(skeleton, self.device, self._dtype)
            reading = layers.read(self.network, unit_planes(frame, self.device), blocks)
            readings.append(reading)
            found.append(layers.find_slots(unit(levels(reading.objects))))
        placed, patches = begin(readings, found, seen, self.table)
        placed = placed.kept()
        projections = torch.from_numpy(seen.astype(np.float32))[None].to(self.device)
        context = {
            "plate": levels(torch.stack([reading.plate for reading in readings], dim=1)),
            "bare": levels(torch.stack([layers.bare(reading) for reading in readings], dim=1)),
            "style": torch.stack([reading.style for reading in readings], dim=1).to(self._dtype),
            "patches": levels(patches)[None],
            "first": projections,
            "projections": projections,
            "roams": torch.zeros(1, self.views, dtype=torch.bool, device=self.device),
            **{name: value.to(self.device) for name, value in placed.context().items()},
        }
        centre, turn, depth = placed.poses(seen)
        posed = {"centre": centre, "turn": turn, "velocity": np.zeros_like(centre)}
        context |= {name: self._numbers(value)[None] for name, value in posed.items()}
        laid = [self._laid(context, 0, view, depth[view]) for view in range(self.views)]
        return {**context, "objects": torch.cat(laid)[None]}

    @torch.no_grad()
    def _move(self, old: Context, prompt: VisualPrompt, seen: Floats, step: Tensor) -> Context:
        """The context of b rows after a step (b,) to what the prompt, F = 1, tells; seen (b, V, 3, 4)."""
        placed = [Placed.of(old, row) for row in range(len(seen))]
        now = self._followed(old, placed, seen)
        moved = self.mover.moved(now, placed, prompt, step)
        now = self._gone(now, [one.kept() for one in moved.placed], moved.went, seen)
        told = {name: value.to(self.device) for name, value in moved.told.items()}
        return {**now, **told}

    def _followed(self, old: Context, placed: Sequence[Placed], seen: Floats) -> Context:
        """The context seen from where cameras are now, nothing having moved but they."""
        projections = torch.from_numpy(seen.astype(np.float32)).to(self.device)
        moved = (projections != old["projections"]).flatten(2).any(dim=2)
        if not bool(moved.any()):
            return old
        roams = old["roams"] | (projections != old["first"]).flatten(2).any(dim=2)
        now = {**old, "projections": projections, "roams": roams}
        drift = np.stack([one.drift(row) for one, row in zip(placed, seen, strict=True)])
        now["velocity"] = torch.where(moved[:, :, None, None], self._numbers(drift), old["velocity"])
        return self._posed(now, placed, seen, moved[:, :, None] & old["present"])

    def _gone(self, now: Context, placed: Sequence[Placed], went: NDArray[np.bool_], seen: Floats) -> Context:
        """The context with objects where they went, (b, S) bool."""
        gone = torch.from_numpy(went).to(self.device)[:, None] & now["present"]
        after = self._posed(now, placed, seen, gone)
        kept = {name: torch.cat([one.context()[name] for one in placed]).to(self.device) for name in _PLACED}
        return {**after, **kept, "velocity": after["centre"] - now["centre"]}

    def _posed(self, old: Context, placed: Sequence[Placed], seen: Floats, which: Tensor) -> dict[str, Tensor]:
        """The context with the objects that `which` (b, V, S) names where they are in views seen by (b, V, 3, 4)."""
        now = dict(old)
        if not bool(which.any()):
            return now
        every = [one.poses(row) for one, row in zip(placed, seen, strict=True)]
        for place, name in enumerate(("centre", "turn")):
            fresh = self._numbers(np.stack([one[place] for one in every]))
            now[name] = torch.where(which[..., None], fresh, old[name])
        now["objects"] = old["objects"].clone()
        for row, view in torch.nonzero(which.any(dim=2)).tolist():
            now["objects"][row, view] = self._laid(now, row, view, every[row][2][view])[0]
        return now

    def _laid(self, context: Context, row: int, view: int, depth: Floats) -> Tensor:
        """One view's objects rendered (1, 4, H, W), nearer ones over farther ones by their depth (S,).

        In half precision, a tenth of a level of a picture, so that a state of two views stays below 1 MB."""
        slots = Slots(
            unit(context["patches"][row, view])[None],
            *(context[name][row, view][None] for name in (*_POSES, "present")),
        )
        return lay(slots, self.size, self._numbers(-depth)[None]).half()

    def _numbers(self, values: Floats) -> Tensor:
        return torch.from_numpy(values.astype(np.float32)).to(self.device)

    @torch.no_grad()
    def _paint_row(self, context: Context, row: int, skeletons: Tensor) -> Tensor:
        """The frames (V, H, W, 3) uint8 of one row; skeletons (V, H, W, 3) uint8."""
        frames = []
        for view, skeleton in enumerate(skeletons):
            objects = context["objects"][row, view][None]
            painting = layers.paint(
                self.network,
                drawn_blocks(skeleton, self.device, self._dtype),
                objects,
                context["style"][row, view][None],
                self._plate(context, row, view),
                object_blocks=to_blocks(objects.to(self._dtype)),
            )
            frames.append(levels(painting.frame).permute(0, 2, 3, 1).contiguous())
        return torch.cat(frames)

    def _plate(self, context: Context, row: int, view: int) -> Tensor:
        """The plate (1, 3, H, W) in [0, 1] as a view's camera sees it now."""
        plates = context["plate"][row]
        if not bool(context["roams"][row, view]):
            return unit(plates[view : view + 1])
        first, now = (context[name][row].cpu().double().numpy() for name in ("first", "projections"))
        return plate_now(unit(plates), unit(context["bare"][row]), first, now[view], view, self.table)


def _projections(prompt: VisualPrompt) -> Floats:
    """Those of a prompt's first frame, (b, V, 3, 4), of numbers that single precision has."""
    assert prompt.projections is not None  # as `check_prompt` has seen
    return np.asarray(prompt.projections[:, :, 0].cpu().double().numpy())
