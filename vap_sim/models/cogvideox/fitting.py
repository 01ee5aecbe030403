"""Out of memory, explained: rough needs of every way to run a world, and the first of them that fits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.models.cogvideox.codec import FRAMES, SIDE
from vap_sim.models.cogvideox.config import ModelConfig, build_transformer, parameter_count
from vap_sim.models.cogvideox.positions import adds_positions
from vap_sim.models.cogvideox.settings import Settings

OFFLOADS = ("model", "sequential")
_SPARE = 0.9
"""Share of a device's memory that an estimate may fill."""


@dataclass(frozen=True)
class Way:
    """One way to run a world. dtype: of its weights; offload: None, "model" or "sequential"."""

    settings: Settings
    dtype: torch.dtype
    offload: str | None = None

    def __str__(self) -> str:
        mode = self.settings.mode
        long = f"history={self.settings.history}" if mode == "stream" else f"chunk={self.settings.chunk}"
        kind = str(self.dtype).removeprefix("torch.")
        return f"mode={mode!r}, {long}, dtype={kind!r}, offload={self.offload!r}"


def need(config: ModelConfig, way: Way, size: tuple[int, int], weights: int) -> int:
    """Bytes that a way takes on the device, roughly. size: (width, height); weights: numbers in the backbone."""
    settings, item = way.settings, way.dtype.itemsize
    streaming = settings.mode == "stream"
    patches = size[0] * size[1] // (SIDE * config.patch) ** 2
    frames = 1 + settings.chunk // FRAMES
    if streaming:
        frames = settings.window if adds_positions(config) and settings.renew else 1
    tokens = config.text_length + patches * frames
    passing = settings.rows_at_once * tokens * config.width * item * 16
    kept = 0
    if streaming:
        window = config.text_length + patches * settings.window
        passes = settings.rows_at_once * len(settings.guiding.branches)
        # Keys and values, and at the end of a step the old ones beside two copies of the new.
        kept = passes * 2 * config.blocks * config.width * window * item * 3
    decoding = size[0] * size[1] * (FRAMES if streaming else 2 * FRAMES) * 128 * item * 3
    if way.offload == "sequential":
        return weights * item // config.blocks + kept + max(passing, decoding)
    if way.offload == "model":
        return kept + max(weights * item + passing, decoding)
    return weights * item + kept + max(passing, decoding)


def advice(config: ModelConfig, way: Way, size: tuple[int, int], room: int) -> str:
    """What to try in `room` bytes after `way` did not fit: the least change first."""
    weights = parameter_count(build_transformer(config, device="meta"))
    modes = [way.settings]
    if way.settings.mode == "chunk":
        unguided = replace(way.settings, guidance=1.0, control_guidance=1.0, dynamic_guidance=False)
        modes.append(replace(unguided, mode="stream", reference_guidance=1.0))
    elif way.settings.history > 1:
        modes.append(replace(way.settings, history=1))
    offloads = (None, *OFFLOADS)[(None, *OFFLOADS).index(way.offload) :]
    kinds = (way.dtype, torch.bfloat16) if way.dtype.itemsize > 2 else (way.dtype,)
    tried = [Way(mode, kind, offload) for offload in offloads for mode in modes for kind in kinds]
    for other in tried[1:]:
        cost = need(config, other, size, weights)
        if cost <= _SPARE * room:
            return f"what should fit: {other} (about {_giga(cost)})"
    least = min(tried, key=lambda one: need(config, one, size, weights))
    cost = need(config, least, size, weights)
    return f"no mode should fit; least takes {least} (about {_giga(cost)}), or make a smaller size"


@contextmanager
def explained(config: ModelConfig, way: Way, size: tuple[int, int], device: torch.device) -> Iterator[None]:
    """Raise Unsupported that says which mode fits, where the body runs out of memory."""
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)):
            raise
        room = memory_of(device)
        told = f"a world of {size[0]} by {size[1]} pixels ({way}) ran out of memory on {device} of {_giga(room)}"
        raise Unsupported(f"{told}; {advice(config, way, size, room)}") from error


def memory_of(device: torch.device) -> int:
    """Bytes of a device's memory, used or not."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def check_offload(offload: str | None, device: torch.device) -> None:
    """Raise InvalidInput for an offload that does not exist, or that has nowhere to come from."""
    if offload is not None and offload not in OFFLOADS:
        raise InvalidInput("offload", repr(offload), f"None or one of {OFFLOADS}")
    if offload is not None and device.type == "cpu":
        raise InvalidInput("offload", repr(offload), "None on the CPU: the weights are there already")


def _giga(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
