"""What both modes of rolling out stand on: the networks of a world, and one guided pass through them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.cache import KeyValueCache, Past
from vap_sim.models.cogvideox.codec import SIDE, Carry, Codec
from vap_sim.models.cogvideox.guidance import Branch
from vap_sim.models.cogvideox.injection import Conditioner, Injection, Noised, Prepared, combine, traits_of
from vap_sim.models.cogvideox.sampler import Schedule, dynamic_guidance
from vap_sim.models.cogvideox.settings import Settings
from vap_sim.models.cogvideox.text import UNCONDITIONAL, TextEncoder
from vap_sim.noise import standard_normals
from vap_sim.prompts.visual_prompt import VisualPrompt

MAIN = "main"
"""Whose cache it is: the backbone's. Those of conditioners go by their numbers."""
CAPTION, DRAWN, JOINTS = "caption", "drawn", "joints"
_TOLD = "told/"
Context = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Parts:
    """The networks of a world, which fit each other, and how they are used. Raises InvalidInput, Unsupported.

    size: (width, height) of the pictures; release: lets the backbone's memory go before pictures are decoded.
    """

    backbone: Backbone
    codec: Codec
    text: TextEncoder
    schedule: Schedule
    settings: Settings
    size: tuple[int, int]
    conditioners: tuple[Conditioner, ...] = ()
    device: torch.device = torch.device("cpu")
    dtype: torch.dtype = torch.float32
    release: Callable[[], None] | None = None

    def __post_init__(self) -> None:
        config = self.backbone.config
        cell = SIDE * config.patch
        if len(self.size) != 2 or min(self.size) < cell or self.size[0] % cell or self.size[1] % cell:
            raise InvalidInput("size of a CogVideoX world", self.size, f"(width, height), multiples of {cell} pixels")
        if self.codec.latent_channels != config.latent_channels:
            given = f"{self.codec.latent_channels} latent channels"
            raise InvalidInput("codec", given, f"{config.latent_channels}, as the transformer makes")
        if self.text.width != config.text_width or self.text.length > config.text_length:
            expected = f"at most {config.text_length} of width {config.text_width}, as the transformer takes"
            raise InvalidInput("text encoder", f"{self.text.length} tokens of width {self.text.width}", expected)
        if config.condition_channels not in (0, config.latent_channels):
            raise Unsupported(
                f"a CogVideoX with {config.condition_channels} condition channels: a world needs none, or "
                f"{config.latent_channels} for the first frame's latents"
            )
        self._check_conditioners()

    def _check_conditioners(self) -> None:
        traits, settings = [traits_of(one) for one in self.conditioners], self.settings
        apart = settings.reference_guidance != 1
        if settings.control_guidance != 1 and all(apart and one.demonstrated for one in traits):
            raise InvalidInput("guidance of control", settings.control_guidance, "1, because nothing controls")
        if apart and not any(one.demonstrated for one in traits):
            expected = "1, because no conditioner is told by a demonstration"
            raise InvalidInput("guidance of the reference", settings.reference_guidance, expected)
        if sum(one.stream for one in traits) > 1:
            names = [type(one).__name__ for one, own in zip(self.conditioners, traits, strict=True) if own.stream]
            raise InvalidInput("conditioners that bring a second stream", names, "one at most: blocks join one")
        for one, own in zip(self.conditioners, traits, strict=True):
            if settings.mode == "stream" and own.whole_clips is not None:
                raise Unsupported(f"{type(one).__name__} in stream mode: {own.whole_clips}")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, h, w) of a latent frame."""
        return self.backbone.config.latent_channels, self.size[1] // SIDE, self.size[0] // SIDE

    @property
    def image_to_video(self) -> bool:
        """Whether the model is told the first frame by condition channels."""
        return self.backbone.config.condition_channels > 0

    def words(self, captions: Sequence[str]) -> Tensor:
        """Embeddings (b, L, width of text) float32 on the device."""
        return self.text.encode(captions).to(self.device, torch.float32)

    def plain_words(self, rows: int) -> Tensor:
        """The embedding of the empty caption, once a row. It is the same in every step, and made once."""
        return self._plain.expand(rows, -1, -1)

    @cached_property
    def _plain(self) -> Tensor:
        # What is kept must serve training too, even if the first call came from inference.
        with torch.inference_mode(False), torch.no_grad():
            return self.words([UNCONDITIONAL])

    def normals(self, key: Tensor, draw: Tensor, frames: int, stream: int = 0) -> Tensor:
        """Standard normal latents (b, frames, C, h, w) float32."""
        return standard_normals(key.cpu(), draw.cpu(), (frames, *self.shape), stream=stream).to(self.device)

    def prepare(self, prompt: VisualPrompt, context: Context | None = None) -> tuple[Prepared, ...]:
        """What each conditioner makes of a prompt: of a dream's first, or of a later one of the dream of `context`."""
        out = []
        for number, one in enumerate(self.conditioners):
            carry = None if context is None else below(context, f"{_TOLD}{number}/")
            out.append(one.prepare(prompt, self.codec, carry, text=self.text))
        return tuple(out)

    def predict(
        self, noised: Noised, branch: Branch, prepared: Sequence[Prepared], pasts: Mapping[str, Past]
    ) -> tuple[Tensor, dict[str, KeyValueCache]]:
        """One pass: the velocity (b, T, C, h, w) float32, and if `noised.collect` the cache of each who keeps one."""
        noised = replace(
            noised,
            latents=noised.latents.to(self.dtype),
            channels=None if noised.channels is None else noised.channels.to(self.dtype),
            text=None if noised.text is None else noised.text.to(self.dtype),
        )
        injections = [Injection(channels=noised.channels)]
        caches: dict[str, KeyValueCache] = {}
        apart = self.settings.reference_guidance != 1
        for number, (one, ready) in enumerate(zip(self.conditioners, prepared, strict=True)):
            if not (branch.reference if apart and traits_of(one).demonstrated else branch.control):
                continue
            said = one.inject(ready, replace(noised, past=pasts.get(str(number)), captioned=branch.text))
            if said.cache is not None:
                caches[str(number)] = said.cache
            injections.append(replace(said, cache=None))
        out = self.backbone(
            noised.latents,
            noised.timestep,
            noised.text,
            combine(injections),
            text_timestep=noised.text_timestep,
            positions=noised.positions,
            mask=noised.mask,
            past=pasts.get(MAIN),
            collect=noised.collect,
        )
        if noised.collect:
            out, caches[MAIN] = out
        prediction: Tensor = out.float()
        return prediction, caches if noised.collect else {}

    def guided(self, pass_of: Callable[[Branch], Tensor], timestep: int) -> Tensor:
        """The mix of one prediction a branch."""
        guiding, steps = self.settings.guiding, self.settings.steps
        scale = dynamic_guidance(guiding.text, timestep, steps) if guiding.dynamic else None
        return guiding.mix([pass_of(branch) for branch in guiding.branches], scale)

    def let_go(self) -> None:
        """Make room for decoding, where asked to."""
        if self.release is not None:
            self.release()


def handed_out(prepared: Sequence[Prepared], choose: Callable[[Prepared], Carry]) -> dict[str, Tensor]:
    """What conditioners are given back, by the names it has in a state. choose: `carry_of` or `lasting_of`."""
    return {
        f"{_TOLD}{number}/{name}": value for number, one in enumerate(prepared) for name, value in choose(one).items()
    }


def below(context: Context, mark: str) -> dict[str, Tensor]:
    """The tensors whose names begin with a mark, by the rest of their names."""
    return {name.removeprefix(mark): value for name, value in context.items() if name.startswith(mark)}


def captions_of(prompt: VisualPrompt) -> tuple[str, ...]:
    """The captions of a prompt, empty ones where it has none."""
    return (UNCONDITIONAL,) * len(prompt) if prompt.text is None else prompt.text


def caption_keys(captions: Sequence[str], device: torch.device) -> Tensor:
    """By which a state knows its captions again: (b,) int64."""
    digests = [hashlib.sha256(caption.encode()).digest()[:8] for caption in captions]
    keys = [int.from_bytes(digest, "big", signed=True) for digest in digests]
    return torch.tensor(keys, dtype=torch.int64, device=device)


def begin_telling(prompt: VisualPrompt, keep: int) -> dict[str, Tensor]:
    """What a state remembers of prompts, `keep` pixel frames: at the start the first pose, held that long."""
    told = {DRAWN: prompt.skeleton[:, :, -1:].repeat(1, 1, keep, 1, 1, 1)}
    if prompt.joints is not None:
        told[JOINTS] = prompt.joints[:, -1:].repeat(1, keep, 1)
    return told


def told_so_far(context: Context, prompt: VisualPrompt, frames: int) -> VisualPrompt:
    """A prompt with the last `frames` remembered pixel frames before its own, without cameras and tool, which are not
    remembered. Raises InvalidInput."""
    joints = prompt.joints
    if (joints is None) != (JOINTS not in context):
        given, expected = ("none", "some") if joints is None else ("some", "none")
        raise InvalidInput("joints of the prompt", given, f"{expected}, as at the start of the dream")
    if joints is not None:
        if joints.shape[2] != context[JOINTS].shape[2]:
            raise InvalidInput("joints of the prompt", joints.shape[2], f"{context[JOINTS].shape[2]}, as at the start")
        joints = torch.cat([context[JOINTS][:, -frames:].to(joints), joints], dim=1)
    skeleton = torch.cat([context[DRAWN][:, :, -frames:], prompt.skeleton], dim=2)
    return replace(prompt, skeleton=skeleton, joints=joints, projections=None, tool=None, bones=None)


def remembered(whole: VisualPrompt, keep: int) -> dict[str, Tensor]:
    """What a state remembers of prompts after `whole`, which holds at least `keep` pixel frames."""
    told = {DRAWN: whole.skeleton[:, :, -keep:].contiguous()}
    if whole.joints is not None:
        told[JOINTS] = whole.joints[:, -keep:].contiguous()
    return told
