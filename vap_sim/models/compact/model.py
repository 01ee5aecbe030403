"""The compact world: the embedded model behind the `WorldModel` protocol, in real time on a CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vap_sim.errors import BadFile
from vap_sim.models.checkpoint import fill, load_tensors
from vap_sim.models.compact import layers
from vap_sim.models.compact.network import CompactConfig, CompactNetwork, UNetConfig
from vap_sim.models.compact.slots import Slots, advance, render
from vap_sim.models.protocol import Rollout, WorldModelSpec
from vap_sim.models.rollout import check_frames, check_prompt, check_state, imagine, start_keys
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState

WEIGHTS = Path(__file__).parent / "weights" / "compact.safetensors"
FRAME_RATE = 5.0


class CompactWorld:
    """A dream in layers (see `layers`): plate, style and cut-outs of objects stay; their poses and two skeletons move
    on.

    One deterministic network pass a frame. Rows are computed one by one, so that a row's bits do not depend on the
    batch it is in; on a CPU that costs nothing, because one picture already fills the cores.
    """

    def __init__(self, network: CompactNetwork, profile: str = "compact", device: str = "cpu") -> None:
        """`network` is used as it is from now on: converted to bfloat16 and channels-last, never trained again."""
        self.fingerprint = _fingerprint(network)
        self.network = network.eval().requires_grad_(False)
        self.network.to(device=device, dtype=torch.bfloat16, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.device = torch.device(device)
        size = network.config.size
        self.spec = WorldModelSpec(
            name="compact",
            size=(size, size),
            views=1,
            frames_per_step=1,
            frame_rate=FRAME_RATE,
            profile=profile,
            fingerprint=self.fingerprint,
        )

    @classmethod
    def load(cls, path: Path | str | None = None, *, device: str = "cpu") -> CompactWorld:
        """The world of a weights file, by default the one that ships with the package. Raises BadFile."""
        path = WEIGHTS if path is None else Path(path)
        tensors, description = load_tensors(path)
        network = CompactNetwork(read_config(description.get("network"), path))
        fill(network, tensors, path)
        return cls(network, str(description.get("profile", "compact")), device)

    def encode(self, frames: Tensor, prompt: VisualPrompt, seed: Sequence[int] | Tensor) -> WorldState:
        """Begin dreams from pictures (b, V, H, W, 3) uint8 and prompts of their poses (F = 1)."""
        check_frames(frames, self.spec)
        check_prompt(prompt, self.spec, rows=frames.shape[0], pixel_frames=1)
        parts = [self._encode_row(frames[row, 0], prompt.skeleton[row, 0, 0]) for row in range(frames.shape[0])]
        context = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        return WorldState(context, *start_keys(frames.shape[0], seed, self.device), model=self.fingerprint)

    def step(self, state: WorldState, prompt: VisualPrompt) -> tuple[WorldState, Tensor]:
        """Dream one frame: the next state, and frames (b, V, 1, H, W, 3) uint8."""
        check_state(state, self.spec)
        check_prompt(prompt, self.spec, rows=state.rows, pixel_frames=1)
        rows = [self._step_row(state.context, row, prompt.skeleton[row, 0, 0]) for row in range(state.rows)]
        if len(rows) == 1:
            context, frames = rows[0]
        else:
            context = {name: torch.cat([part[name] for part, _ in rows]) for name in rows[0][0]}
            frames = torch.cat([frame for _, frame in rows])
        return state.advanced(context), frames[:, None, None]

    def imagine(self, state: WorldState, prompts: VisualPrompt, *, decode: bool = True) -> Rollout:
        """Dream as many frames as the prompts hold; see `rollout.imagine`."""
        return imagine(self, state, prompts, decode=decode)

    @torch.no_grad()
    def _encode_row(self, frame: Tensor, skeleton: Tensor) -> dict[str, Tensor]:
        blocks = self._blocks(skeleton)
        reading = layers.read(self.network, self._unit(frame), blocks)
        slots = layers.find_slots(_snap(reading.objects))
        return {
            "plate": _snap(reading.plate),
            "style": reading.style.to(torch.bfloat16),
            "skeletons": blocks.repeat(1, 2, 1, 1),
            "objects": render(slots, self.network.config.size),
            **{name: getattr(slots, name) for name in _SLOT_FIELDS},
        }

    @torch.no_grad()
    def _step_row(self, context: Mapping[str, Tensor], row: int, skeleton: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        old = {name: value[row : row + 1] for name, value in context.items()}
        blocks = self._blocks(skeleton)
        history = torch.cat([blocks, old["skeletons"]], dim=1)
        slots = Slots(**{name: old[name] for name in _SLOT_FIELDS})
        motion = layers.move(self.network, history, old["objects"], slots)
        moves = motion.logit > 0
        slots = advance(slots, motion.shift, motion.twist, moves)
        objects = old["objects"]
        if bool((moves & slots.present).any()):
            objects = render(slots, self.network.config.size)
        painting = layers.paint(self.network, blocks, objects, old["style"], old["plate"])
        frame = (painting.frame * 255).round_().to(torch.uint8).permute(0, 2, 3, 1)
        new = {
            "plate": old["plate"],
            "style": old["style"],
            "skeletons": history[:, :24],
            "objects": objects,
            **{name: getattr(slots, name) for name in _SLOT_FIELDS},
        }
        return new, frame

    def _unit(self, image: Tensor) -> Tensor:
        """(H, W, C) uint8 -> (1, C, H, W) float32 in [0, 1]."""
        return image.to(self.device).permute(2, 0, 1)[None].float() / 255

    def _blocks(self, skeleton: Tensor) -> Tensor:
        return layers.skeleton_blocks(self._unit(skeleton)).to(torch.bfloat16)


def _snap(values: Tensor) -> Tensor:
    """Round to the 8-bit grid, so that what is carried on is what a picture could have shown."""
    return (values * 255).round() / 255


def read_config(values: Any, source: object) -> CompactConfig:
    """The network shape that a weights file describes. Raises BadFile naming the field."""
    if not isinstance(values, dict):
        raise BadFile(source, "its description has no field 'network'")
    try:
        nets = {name: UNetConfig(tuple(values[name]["widths"]), tuple(values[name]["blocks"])) for name in _NETS}
        return CompactConfig(size=int(values["size"]), style=int(values["style"]), **nets)
    except (KeyError, TypeError, ValueError) as error:
        raise BadFile(source, f"field 'network' of its description: {error!r}") from error


_SLOT_FIELDS = ("patches", "centre", "turn", "velocity", "present")
_NETS = ("scene", "motion", "robot")


def _fingerprint(network: CompactNetwork) -> str:
    digest = hashlib.sha256(repr(asdict(network.config)).encode())
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
