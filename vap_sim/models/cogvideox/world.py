"""CogVideoX behind the `WorldModel` protocol, streaming frame by frame or dreaming clip by clip."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vap_sim.models.cogvideox.chunk import Chunk
from vap_sim.models.cogvideox.config import ModelConfig
from vap_sim.models.cogvideox.fitting import Way, explained
from vap_sim.models.cogvideox.injection import Conditioner, traits_of
from vap_sim.models.cogvideox.parts import Parts
from vap_sim.models.cogvideox.settings import Settings, longest_chunk
from vap_sim.models.cogvideox.stream import Stream
from vap_sim.models.protocol import Rollout, WorldModelSpec
from vap_sim.models.rollout import check_frames, check_prompt, check_state, imagine, start_keys
from vap_sim.prompts.visual_prompt import VisualPrompt
from vap_sim.state import WorldState

FRAME_RATE = 8.0
"""Pixel frames a second that the published models were trained at [Hz]."""
PROFILE = "skeleton"
_WHOLE = 2**16
"""Numbers of a tensor up to which all of it enters the fingerprint."""


_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class ChunkTruncated(UserWarning):
    """A chunk is longer than the model was trained for, and was cut."""


class CogVideoXWorld:
    """A video model that dreams from one picture, a caption and drawn prompts. One view.

    `truncation` says why the chunks are shorter than asked for, or is None; `max_chunk` is the longest, in pixel
    frames. All memory is in the state; in stream mode most of it are keys and values. The caption is that of the
    prompt at `encode`; a chunk may be given another.
    """

    def __init__(
        self,
        parts: Parts,
        *,
        frame_rate: float = FRAME_RATE,
        profile: str = PROFILE,
        max_chunk: int | None = None,
        offload: str | None = None,
    ) -> None:
        """parts: its conditioners are installed here. frame_rate: pixel frames a second [Hz]; profile: how prompts
        are drawn; max_chunk: pixel frames the model was trained with, by default those of its config; offload: where
        the weights already wait, for the explanation of memory. Raises InvalidInput."""
        config = parts.backbone.config
        self.max_chunk = longest_chunk(config) if max_chunk is None else max_chunk
        self.truncation = _truncation(parts.settings, self.max_chunk)
        if self.truncation is not None:
            warnings.warn(self.truncation, ChunkTruncated, stacklevel=2)
            parts = replace(parts, settings=replace(parts.settings, chunk=self.max_chunk))
        self.settings = parts.settings
        self._mode: Stream | Chunk = Stream(parts) if parts.settings.mode == "stream" else Chunk(parts)
        self._undo = [one.install(parts.backbone) for one in parts.conditioners]
        self._parts, self._offload = parts, offload
        about = {"settings": self.settings.to_dict(), "size": list(parts.size), "rate": frame_rate, "profile": profile}
        self.fingerprint = _fingerprint(parts, about)
        self.spec = WorldModelSpec(
            name="cogvideox",
            size=parts.size,
            views=1,
            frames_per_step=self.settings.frames_per_step,
            frame_rate=frame_rate,
            profile=profile,
            fingerprint=self.fingerprint,
            reads_text=True,
            reads_reference=any(traits_of(one).demonstrated for one in parts.conditioners),
            motions=tuple(name for one in parts.conditioners for name in getattr(one, "motions", ())),
        )

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        *,
        device: str = "cpu",
        mode: str | None = None,
        steps: int | None = None,
        solver: str | None = None,
        guidance: float | None = None,
        control_guidance: float | None = None,
        reference_guidance: float | None = None,
        dynamic_guidance: bool | None = None,
        history: int | None = None,
        keep_first: bool | None = None,
        renew: bool | None = None,
        chunk: int | None = None,
        overlap: int | None = None,
        rows_at_once: int | None = None,
        size: tuple[int, int] | None = None,
        frame_rate: float | None = None,
        profile: str | None = None,
        control: Conditioner | Path | str | bool | None = None,
        conditioners: Mapping[str, Any] | bool | None = None,
        dtype: torch.dtype | str | None = None,
        offload: str | None = None,
        tiling: bool = False,
        compiled: bool = False,
        text_cache: Path | str | None = None,
    ) -> CogVideoXWorld:
        """The world of a CogVideoX folder, or of one that `loading.save_world` wrote.

        mode .. rows_at_once: see `Settings`; not given, they are what the folder says, else `settings.defaults`.
        size: (width, height); frame_rate [Hz]; profile: how prompts are drawn. control: a folder of a control branch,
        a conditioner, or False for none; not given, what the folder brings. conditioners: further ones by name, see
        `opening.SYSTEMS`: weights, or {"weights": ..., "scale": ...}, or a conditioner; without weights those that the
        folder brings; False leaves out one of these, and alone all of them. A released folder of Video-As-Prompt brings
        its expert. dtype: of the weights, by default bfloat16 on a GPU; offload: "model" or "sequential"; tiling:
        decode in tiles; compiled: compile the blocks; text_cache: a folder for embedded captions.

        Raises BadFile, InvalidInput, UnknownName, MissingDependency; Unsupported where memory does not suffice, with
        the mode that fits.
        """
        from vap_sim.models.cogvideox.loading import load_world

        chosen = {
            "mode": mode, "steps": steps, "solver": solver, "guidance": guidance, "control_guidance": control_guidance,
            "reference_guidance": reference_guidance, "dynamic_guidance": dynamic_guidance,
            "history": history, "keep_first": keep_first, "renew": renew,
            "chunk": chunk, "overlap": overlap, "rows_at_once": rows_at_once,
        }  # fmt: skip
        return load_world(
            path,
            device=torch.device(device),
            chosen={name: value for name, value in chosen.items() if value is not None},
            size=size,
            frame_rate=frame_rate,
            profile=profile,
            control=control,
            conditioners=conditioners,
            dtype=dtype,
            offload=offload,
            tiling=tiling,
            compiled=compiled,
            text_cache=None if text_cache is None else Path(text_cache),
        )

    @property
    def config(self) -> ModelConfig:
        """The sizes of the model."""
        return self._parts.backbone.config

    @property
    def parts(self) -> Parts:
        """The networks of the world."""
        return self._parts

    @property
    def mode(self) -> Stream | Chunk:
        """What makes the steps."""
        return self._mode

    def encode(self, frames: Tensor, prompt: VisualPrompt, seed: Sequence[int] | Tensor) -> WorldState:
        """Begin dreams from pictures (b, 1, H, W, 3) uint8, prompts of their poses (F = 1) and captions, if any."""
        check_frames(frames, self.spec)
        check_prompt(prompt, self.spec, rows=len(frames), pixel_frames=1)
        step, key = start_keys(len(frames), seed, self._parts.device)
        frames, prompt = frames.to(self._parts.device), prompt.to(self._parts.device)
        done = []
        with torch.no_grad(), self._explained():
            for rows in self._groups([0] * len(frames)):
                done.append(self._mode.begin(_take(frames, rows), prompt.index(rows.cpu())))
        return WorldState(_joined(done), step, key, model=self.fingerprint)

    def step(self, state: WorldState, prompt: VisualPrompt) -> tuple[WorldState, Tensor]:
        """Dream on: the next state, and frames (b, 1, F, H, W, 3) uint8. Raises InvalidInput, Unsupported."""
        after, frames = self._advance(state, prompt, decode=True)
        assert frames is not None, "a step that decodes has frames"
        return after, frames

    def imagine(self, state: WorldState, prompts: VisualPrompt, *, decode: bool = True) -> Rollout:
        """As many steps as the prompts hold; see `rollout.imagine`."""
        return imagine(self, state, prompts, decode=decode, advance=lambda *s: self._advance(*s, decode=False)[0])

    def release(self) -> None:
        """Take the conditioners out of the backbone again; the world cannot be used afterwards."""
        while self._undo:
            self._undo.pop()()

    def _advance(self, state: WorldState, prompt: VisualPrompt, *, decode: bool) -> tuple[WorldState, Tensor | None]:
        check_state(state, self.spec)
        check_prompt(prompt, self.spec, rows=state.rows, pixel_frames=self.spec.frames_per_step)
        state, prompt = state.to(self._parts.device), prompt.to(self._parts.device)
        self._mode.check(state.context, prompt)
        order, contexts, film = [], [], []
        with torch.no_grad(), self._explained():
            for rows in self._groups([self._mode.fullness(number) for number in state.step.tolist()]):
                context = {name: _take(value, rows) for name, value in state.context.items()}
                told = prompt.index(rows.cpu())
                part = _take(state.step, rows), _take(state.key, rows)
                after, frames = self._mode.advance(context, *part, told, decode=decode)
                order.append(rows)
                contexts.append(after)
                film += [] if frames is None else [frames]
        back = torch.cat(order).argsort()
        context = {name: _take(value, back) for name, value in _joined(contexts).items()}
        return state.advanced(context), _take(torch.cat(film), back) if film else None

    def _groups(self, fullness: Sequence[int]) -> Iterator[Tensor]:
        """Numbers of the rows that go through the networks together, group after group."""
        device, size = self._parts.device, self.settings.rows_at_once
        for level in sorted(set(fullness)):
            rows = torch.tensor([row for row, own in enumerate(fullness) if own == level], device=device)
            for first in range(0, len(rows), size):
                yield rows[first : first + size]

    def _explained(self) -> AbstractContextManager[None]:
        parts = self._parts
        return explained(self.config, Way(self.settings, parts.dtype, self._offload), parts.size, parts.device)


def _take(value: Tensor, rows: Tensor) -> Tensor:
    """The rows of these numbers; the value itself where that is all of it in order."""
    if len(rows) == len(value) and bool((rows[1:] > rows[:-1]).all()):
        return value
    return value.index_select(0, rows)


def _joined(contexts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    if len(contexts) == 1:
        return dict(contexts[0])
    return {name: torch.cat([context[name] for context in contexts]) for name in contexts[0]}


def _truncation(settings: Settings, longest: int) -> str | None:
    if settings.mode != "chunk" or settings.chunk <= longest:
        return None
    return f"chunk of {settings.chunk} frames cut to {longest}: the model was trained with clips of {longest}"


def _fingerprint(parts: Parts, about: Mapping[str, Any]) -> str:
    """Hash of the settings and of all weights; of large tensors a regular sample and their sum."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    digest.update(json.dumps(dict(parts.backbone.config.transformer), sort_keys=True, default=str).encode())
    digest.update(parts.schedule.alphas.numpy().tobytes())
    digest.update(f"{parts.schedule.last} {parts.schedule.spacing} {parts.schedule.offset} {parts.dtype}".encode())
    text = getattr(parts.text, "fingerprint", type(parts.text).__name__)
    digest.update(f"{text} {parts.text.length} {parts.text.width}".encode())
    networks: list[object] = [parts.backbone, getattr(parts.codec, "network", parts.codec), *parts.conditioners]
    for network in networks:
        own = getattr(network, "fingerprint", "") or getattr(network, "settings", "")
        digest.update(f"{type(network).__name__} {own}".encode())
        if isinstance(network, nn.Module):
            for name, value in sorted(network.state_dict().items()):
                digest.update(f"{name} {tuple(value.shape)}".encode())
                digest.update(_sample(value))
    return digest.hexdigest()[:16]


def _sample(value: Tensor) -> bytes:
    """Its bits read as whole numbers, whose sum has the same bits in any order of adding."""
    bits = value.detach().flatten().contiguous().view(_BITS[value.element_size()])
    if len(bits) > _WHOLE:
        bits = torch.cat([bits[:: len(bits) // _WHOLE].long(), bits.sum(dtype=torch.int64)[None]])
    return bits.cpu().numpy().tobytes()
