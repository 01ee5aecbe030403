"""The compact world: the embedded model behind the `WorldModel` protocol, in real time on a CPU."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vap_sim.errors import BadFile, InvalidInput
from vap_sim.models.checkpoint import fill, load_tensors
from vap_sim.models.compact import carry, doubt, layers, reach
from vap_sim.models.compact.motion import apply, move
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, UNetConfig, to_blocks
from vap_sim.models.compact.packed import fast_dtype, packed
from vap_sim.models.compact.pixels import drawn_blocks, levels, planes, unit, unit_planes
from vap_sim.models.compact.placing import lay
from vap_sim.models.compact.slots import Slots
from vap_sim.models.protocol import Rollout, WorldModelSpec
from vap_sim.models.rollout import check_frames, check_prompt, check_state, imagine, start_keys
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState

if TYPE_CHECKING:
    from vap_sim.models.compact.demonstration import Demonstration

WEIGHTS = Path(__file__).parent / "weights" / "compact.safetensors"
FRAME_RATE = 5.0


class CompactWorld:
    """A dream in layers (see `layers`): plate, style and cut-outs of objects stay; their poses and two skeletons move
    on.

    One deterministic network pass a frame. Rows are computed one by one, so that a row's bits do not depend on the
    batch it is in; on a CPU that costs nothing, because one picture already fills the cores.
    """

    def __init__(
        self,
        network: CompactNetwork,
        profile: str = "compact",
        device: str = "cpu",
        *,
        dtype: torch.dtype | None = None,
        demonstration: Demonstration | None = None,
        frame_rate: float = FRAME_RATE,
        table_height: float = 0.0,
    ) -> None:
        """`network` is converted to `dtype`, by default bfloat16, or float32 on a processor that lacks it.

        demonstration: what watches clips that are shown at a dream's start; without it none can be shown. frame_rate:
        pictures a second of dreamt time [Hz], which changes nothing but what the spec says. table_height: of the table
        in the base frame [m], by which it is known what the robot reaches. Raises InvalidInput."""
        if not math.isfinite(table_height):
            raise InvalidInput("table_height of the compact world", table_height, "a finite number [m]")
        self.table = float(table_height)
        self.fingerprint = fingerprint_of(network, demonstration)
        if self.table:
            self.fingerprint = hashlib.sha256(f"{self.fingerprint} table {self.table!r}".encode()).hexdigest()[:16]
        self.demonstration = demonstration
        if demonstration is not None:
            demonstration.to(device=device, dtype=torch.float32).eval().requires_grad_(False)
        self._dtype = fast_dtype(device) if dtype is None else dtype
        network.cast(device, self._dtype)
        self.network = packed(network)
        self.device = torch.device(device)
        self._echoes = f"{self.fingerprint} doubt"
        self._carries = network.config.carry
        size = network.config.size
        self.spec = WorldModelSpec(
            name="compact",
            size=(size, size),
            views=1,
            frames_per_step=1,
            frame_rate=frame_rate,
            profile=profile,
            fingerprint=self.fingerprint,
            reads_reference=demonstration is not None,
            reads_cameras=self._carries,
            reads_tool=self._carries,
        )

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        device: str = "cpu",
        demonstration: Path | str | None = None,
        frame_rate: float | None = None,
        table_height: float = 0.0,
    ) -> CompactWorld:
        """The world of a weights file, by default the one that ships with the package; things are moved by sight, also
        with weights that know how to move them in space, which `opening.CompactWorlds` heeds.

        demonstration: a file of `demonstration.save_demonstration`, for worlds that are shown clips. frame_rate [Hz]
        and table_height [m]: see `opening.CompactWorlds`. Raises BadFile, and InvalidInput for a demonstration's
        weights of other sizes or a table nowhere.
        """
        path = WEIGHTS if path is None else Path(path)
        network, description, watching = read_weights(path, demonstration)
        rate = rate_of(description, frame_rate, path)
        profile = str(description.get("profile", "compact"))
        network = network.by_sight()
        return cls(network, profile, device, demonstration=watching, frame_rate=rate, table_height=table_height)

    def encode(self, frames: Tensor, prompt: VisualPrompt, seed: Sequence[int] | Tensor) -> WorldState:
        """Begin dreams from pictures (b, V, H, W, 3) uint8 and prompts of their poses (F = 1)."""
        check_frames(frames, self.spec)
        check_prompt(prompt, self.spec, rows=frames.shape[0], pixel_frames=1)
        parts = [self._encode_row(frames[row, 0], prompt.skeleton[row, 0, 0]) for row in range(frames.shape[0])]
        if self.demonstration is not None:
            clips = [None if prompt.reference is None else prompt.reference.index([row]) for row in range(len(parts))]
            parts = [{**part, **self.demonstration.watch(clip)} for part, clip in zip(parts, clips, strict=True)]
        context = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        context |= reach.begun(prompt, context["present"], context["centre"], self.table)
        return WorldState(context, *start_keys(frames.shape[0], seed, self.device), model=self.fingerprint)

    def step(self, state: WorldState, prompt: VisualPrompt) -> tuple[WorldState, Tensor]:
        """Dream one frame: the next state, and frames (b, V, 1, H, W, 3) uint8."""
        check_state(state, self.spec)
        check_prompt(prompt, self.spec, rows=state.rows, pixel_frames=1)
        after = self._advance(state, prompt)
        frames = [self._paint_row(after.context, row, prompt.skeleton[row, 0, 0]) for row in range(state.rows)]
        return after, (frames[0] if len(frames) == 1 else torch.cat(frames))[:, None, None]

    def imagine(self, state: WorldState, prompts: VisualPrompt, *, decode: bool = True) -> Rollout:
        """Dream as many frames as the prompts hold; see `rollout.imagine`. Not decoded, they are not painted either,
        which takes a third of the time: a state does not depend on what was painted."""
        return imagine(self, state, prompts, decode=decode, advance=self._advance)

    def begin_doubt(self, state: WorldState) -> WorldState:
        """Echoes of dreams at their start; see `DoubtingWorld` and `doubt`."""
        check_state(state, self.spec)
        return doubt.begin_rows(state, _rows(state), self._echoes)

    def doubt(
        self, memory: WorldState, before: WorldState, after: WorldState, prompt: VisualPrompt
    ) -> tuple[WorldState, Tensor]:
        """Echoes a step on, and how far they are from the dream (b,); see `DoubtingWorld`."""
        check_state(before, self.spec)
        check_state(after, self.spec)
        told, planes = doubt.told_echoes(self.demonstration, before), self._planes(before.context, prompt)
        seen, away = (_rows(before), _rows(after)), self._beyond(before.context, prompt)
        return doubt.advance_rows(self.network.motion, memory, *seen, told, self._echoes, planes, away)

    def _advance(self, state: WorldState, prompt: VisualPrompt) -> WorldState:
        context, parts = state.context, range(0, state.rows, _ROWS_AT_ONCE)
        if len(parts) == 1:
            return state.advanced({**context, **self._move(context, prompt, state.step)})
        moved = []
        for first in parts:
            rows = slice(first, first + _ROWS_AT_ONCE)
            old = {name: value[rows] for name, value in context.items()}
            moved.append({**old, **self._move(old, prompt.index(rows), state.step[rows])})
        return state.advanced(_joined(moved))

    def _planes(self, old: Mapping[str, Tensor], prompt: VisualPrompt) -> Tensor | None:
        """By what the tool would carry objects (b, 3, 3), see `carry`; None for a network that is not told."""
        if not self._carries:
            return None
        assert prompt.projections is not None  # as `check_prompt` has seen
        return carry.planes(prompt.projections[:, 0, 0], old["tool"], reach.told(old, prompt)["tool"])

    def _beyond(self, old: Mapping[str, Tensor], prompt: VisualPrompt) -> Tensor:
        """What of the objects (b, S) the robot does not reach, see `reach`; a demonstration moves things by itself."""
        if self.demonstration is not None:
            return torch.zeros_like(old["present"])
        return reach.beyond(old, prompt, self.table)

    @torch.no_grad()
    def _encode_row(self, frame: Tensor, skeleton: Tensor) -> dict[str, Tensor]:
        blocks = drawn_blocks(skeleton, self.device, self._dtype)
        reading = layers.read(self.network, unit_planes(frame, self.device), blocks)
        slots = layers.find_slots(unit(levels(reading.objects)))
        drawn = planes(skeleton, self.device)
        return {
            "plate": levels(reading.plate),
            "style": reading.style.to(self._dtype),
            "skeletons": torch.cat([drawn, drawn], dim=1),
            "patches": levels(slots.patches),
            **{name: getattr(slots, name) for name in _POSES},
            **self._laid(slots),
        }

    def _laid(self, slots: Slots) -> dict[str, Tensor]:
        """The slots rendered, in the forms that networks and painting want: the same until something moves."""
        objects = lay(slots, self.network.config.size)
        return {"objects": objects, "blocks": to_blocks(objects.to(self._dtype))}

    @torch.no_grad()
    def _move(self, old: Mapping[str, Tensor], prompt: VisualPrompt, step: Tensor) -> dict[str, Tensor]:
        """What changes in the context of b rows in a step (b,) to what the prompt, F = 1, tells."""
        drawn = prompt.skeleton[:, 0, 0].to(self.device).permute(0, 3, 1, 2).contiguous()
        history = torch.cat([drawn, old["skeletons"]], dim=1)
        changed: dict[str, Tensor] = {"skeletons": history[:, :6], **reach.told(old, prompt)}
        if bool(old["present"].any()):
            slots = Slots(unit(old["patches"]), **{name: old[name] for name in _POSES})
            told = () if self.demonstration is None else self.demonstration.told(old, step)
            planes = self._planes(old, prompt)
            motion = move(self.network.motion, unit(history), old["objects"], slots, told, planes)
            free = replace(slots, present=old["present"] & ~self._beyond(old, prompt))
            moved = replace(apply(free, motion), present=old["present"])
            changed |= {name: getattr(moved, name) for name in _POSES}
            if "lies" in old:
                changed["lies"] = old["lies"] & (moved.centre == slots.centre).all(-1)
            still = (moved.centre == slots.centre).all(2) & (moved.turn == slots.turn).all(2)
            rows = torch.nonzero(~still.all(1))[:, 0]
            if len(rows) == len(still):
                changed |= self._laid(moved)
            elif len(rows):
                laid = self._laid(Slots(*(getattr(moved, field.name)[rows] for field in fields(Slots))))
                changed |= {name: old[name].index_copy(0, rows, value) for name, value in laid.items()}
        return changed

    @torch.no_grad()
    def _paint_row(self, context: Mapping[str, Tensor], row: int, skeleton: Tensor) -> Tensor:
        """The frame (1, H, W, 3) uint8 of one row, whose objects have moved."""
        now = {name: context[name][row : row + 1] for name in ("plate", "style", "objects", "blocks")}
        painting = layers.paint(
            self.network,
            drawn_blocks(skeleton, self.device, self._dtype),
            now["objects"],
            now["style"],
            unit(now["plate"]),
            object_blocks=now["blocks"],
        )
        return levels(painting.frame).permute(0, 2, 3, 1).contiguous()


def _rows(state: WorldState) -> list[dict[str, Tensor]]:
    return [{name: value[row : row + 1] for name, value in state.context.items()} for row in range(state.rows)]


def _joined(rows: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([one[name] for one in rows]) for name in rows[0]}


def read_weights(
    path: Path, demonstration: Path | str | None = None
) -> tuple[CompactNetwork, dict[str, Any], Demonstration | None]:
    """The network of a weights file, what its header says of it, and what watches clips, if a file of that is given.

    Raises BadFile, and InvalidInput for a demonstration's weights of other sizes."""
    tensors, description = load_tensors(path)
    with torch.device("meta"):
        network = CompactNetwork(read_config(description.get("network"), path))
    fill(network, tensors, path)  # compares shapes: a file that lies about its own takes no memory
    network.to_empty(device="cpu")
    fill(network, tensors, path)
    if demonstration is None:
        return network, description, None
    from vap_sim.models.compact.demonstration import load_demonstration

    return network, description, load_demonstration(demonstration, network.config)


class UntrainedRate(UserWarning):
    """A world dreams at a rate that its weights have not seen."""


def rate_of(description: Mapping[str, Any], asked: float | None, source: object) -> float:
    """The frame rate [Hz] that is asked for, by default one that the weights of this header have seen: FRAME_RATE, or
    their lowest. Warns with UntrainedRate of another. Raises BadFile for a header whose rates are none."""
    seen = description.get("frame_rates", [FRAME_RATE])
    if not isinstance(seen, list) or not seen or not all(isinstance(rate, int | float) and rate > 0 for rate in seen):
        raise BadFile(source, f"field 'frame_rates' of its description is {seen!r}, expected rates in Hz")
    if asked is None:
        return FRAME_RATE if FRAME_RATE in seen else float(min(seen))
    if not any(abs(asked - rate) < 1e-6 * rate for rate in seen):
        known = " and ".join(f"{rate:g}" for rate in seen)
        told = f"{source} has seen objects move at {known} Hz, not at {asked:g} Hz: they may go too far, or not enough"
        warnings.warn(told, UntrainedRate, stacklevel=3)
    return float(asked)


def read_config(values: Any, source: object) -> CompactConfig:
    """The network shape that a weights file describes. Raises BadFile naming the field."""
    if not isinstance(values, dict):
        raise BadFile(source, "its description has no field 'network'")
    try:
        nets = {name: UNetConfig(tuple(values[name]["widths"]), tuple(values[name]["blocks"])) for name in _NETS}
        carry = bool(values.get("carry", False))
        contact = bool(values.get("contact", False))
        near = None if values.get("near") is None else int(values["near"])
        size, style = int(values["size"]), int(values["style"])
        return CompactConfig(size=size, style=style, carry=carry, contact=contact, near=near, **nets)
    except (KeyError, TypeError, ValueError) as error:
        raise BadFile(source, f"field 'network' of its description: {error!r}") from error


_POSES = ("centre", "turn", "velocity", "present")
_ROWS_AT_ONCE = 24  # whose objects move together: the network is busy, and what it is shown stays in the caches
_NETS = ("scene", "motion", "robot")


def fingerprint_of(network: CompactNetwork, demonstration: Demonstration | None) -> str:
    """A hash of all weights."""
    # Weights from before there were these options keep the name that their states and records have.
    younger = ("carry", "contact", "near")
    config = {name: value for name, value in asdict(network.config).items() if name not in younger or value}
    digest = hashlib.sha256(repr(config).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    if demonstration is not None:
        digest.update(demonstration.fingerprint.encode())
    return digest.hexdigest()[:16]
