"""AICL (action in-context learning): the model watches a demonstration and listens to its motion while it denoises."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.block import Cross
from vap_sim.models.cogvideox.codec import FRAMES, SIDE, Carry, Codec
from vap_sim.models.cogvideox.config import ModelConfig
from vap_sim.models.cogvideox.control_encoder import check_count
from vap_sim.models.cogvideox.injection import Injection, Noised, Prepared, Traits, Uninstall
from vap_sim.models.cogvideox.prepared import goes_on, lasting_of, strength, with_carry
from vap_sim.models.cogvideox.skeleton_control import check_backbone, checked_scale
from vap_sim.models.cogvideox.text import TextEncoder
from vap_sim.models.conditioners.action_prism_encoder import PrismEncoder, PrismSizes, moments
from vap_sim.models.conditioners.action_prism_layers import FrameListener
from vap_sim.models.conditioners.action_prism_reference import resampled, told_words
from vap_sim.prompts.visual_prompt import VisualPrompt

MOTION, PLACE, DISTANCE = "motion", "place", "distance"
_EVERY = 3
"""Blocks between those that listen."""


class ActionPrism(nn.Module):
    """The conditioner of demonstrations after AICL (arXiv 2403.11535, section on the action prism and its integration).

    A prism turns the latent frames of a demonstration and the captions, of what is shown and of what is wanted, into
    motion tokens, once a clip: they depend on no noise level and last the dream. In chosen blocks, after attention, the
    video tokens of each frame listen to them through a temporal cross-attention whose output is zero at first.

    Tokens of several demonstrations are joined, and all are listened to at once. How far in time a frame is from a
    moment of the demonstration is counted from the start of the clip, in a stream from the start of the dream; after
    the demonstration's end a dream stays at its last moment.

    backbone: whose sizes it fits; it is not kept. preset: of the prism's sizes, see `PRESETS`; blocks: which listen, by
    default every third; frames: latent frames of a demonstration, by default those of the backbone's clips; scale:
    multiplies what is added, and 0 adds nothing at all; seed: of the first weights; device: where they are made, by
    default the backbone's, "meta" makes none; changes: of single sizes (`PrismSizes`). Raises InvalidInput and
    UnknownName.
    """

    traits = Traits(demonstrated=True)

    def __init__(
        self,
        backbone: Backbone,
        *,
        preset: str = "standard",
        blocks: Sequence[int] | None = None,
        frames: int | None = None,
        scale: float = 1.0,
        seed: int = 0,
        device: torch.device | str | None = None,
        **changes: int,
    ) -> None:
        super().__init__()
        config: ModelConfig = backbone.config
        self.config, self.scale = config, checked_scale(scale)
        self.sizes = PrismSizes.preset(
            preset,
            **{"patch": config.patch, **changes},
            channels=config.latent_channels,
            frames=max(2, config.frames) if frames is None else frames,
            text=config.text_width,
        )
        self.blocks = _chosen(blocks, config.blocks)
        weight = backbone.transformer.patch_embed.proj.weight
        place = weight.device if device is None else torch.device(device)
        with torch.random.fork_rng(devices=[]), torch.device(place if place.type == "meta" else "cpu"):
            torch.default_generator.manual_seed(seed)
            self.encoder = PrismEncoder(self.sizes, seed=seed)
            self.listeners = nn.ModuleDict({str(block): self._listener() for block in self.blocks})
        self.to(device=place, dtype=weight.dtype)

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made with, as plain data: `ActionPrism(backbone, **settings)` has the same tensors' shapes."""
        sizes = {name: value for name, value in asdict(self.sizes).items() if name not in ("channels", "text")}
        return {**sizes, "blocks": list(self.blocks), "scale": self.scale}

    def install(self, backbone: Backbone) -> Uninstall:
        """Nothing has to live inside the backbone. Raises InvalidInput for one of other sizes."""
        check_backbone(self.config, backbone)
        return lambda: None

    def motion(self, latents: Tensor, words: Tensor) -> Tensor:
        """Motion tokens (b, T Q, their width) of demonstrations that a codec encoded; gradients flow to the prism.

        latents: (b, T, C, h, w); words: (b, L, width of the text), embeddings of the captions of what is wanted and of
        what is shown, joined in that order. Raises InvalidInput.
        """
        out: Tensor = self.encoder(latents, words)
        return out

    def prepare(
        self, prompt: VisualPrompt, codec: Codec, carry: Carry | None = None, *, text: TextEncoder | None = None
    ) -> Prepared:
        """The demonstration's motion, which lasts the dream, and where in time these frames are.

        See `Conditioner.prepare`. A later prompt without demonstration goes on with the one before; one that shows
        others, as many as at the start, goes on with those. Raises InvalidInput for a first prompt without
        demonstration, and for a demonstration without captions or of fewer than two frames; warns `Resampled` for one
        of another length or size.
        """
        going = goes_on(prompt, carry)
        check_count(prompt.pixel_frames, started=going)
        motion = self._shown(prompt, codec, carry, text)
        count = prompt.pixel_frames // FRAMES if going else 1 + prompt.pixel_frames // FRAMES
        start = torch.zeros(len(prompt), 1, dtype=torch.int64, device=motion.device)
        if going and carry is not None:
            start = _kept(carry, PLACE, (len(prompt), 1)).to(start)
        # A model is never told a distance that no clip of training had.
        place = (start + torch.arange(count, device=start.device)).clamp(max=self.sizes.frames - 1)
        distance = place[:, :, None] - moments(self.sizes, motion.shape[1], place.device)
        return with_carry({DISTANCE: distance}, {PLACE: start + count}, {MOTION: motion})

    def inject(self, prepared: Prepared, noised: Noised) -> Injection:
        """What each listening block adds after its attention, the same at every noise level.

        Of more frames than the pass has, the newest listen. Raises InvalidInput for a prompt of other rows or fewer
        latent frames than the latents.
        """
        if self.scale == 0:
            return Injection()
        motion, distance = lasting_of(prepared).get(MOTION), prepared.get(DISTANCE)
        if motion is None or distance is None:
            raise InvalidInput("prepared of an action prism", sorted(prepared), "what its `prepare` made")
        rows, frames = noised.latents.shape[:2]
        if len(distance) != rows or distance.shape[1] < frames:
            expected = f"{(rows, frames)}, as of the noisy latents, or more frames"
            raise InvalidInput("rows and latent frames of the prompt", tuple(distance.shape[:2]), expected)
        distance = distance[:, -frames:]
        factor = strength(prepared, self.scale, noised.latents)
        return Injection(cross={block: self._ear(block, motion, distance, factor) for block in self.blocks})

    def _listener(self) -> FrameListener:
        # Half of the host's heads are as wide as motion tokens or wider, and cost half.
        heads, sizes = max(1, self.config.heads // 2), self.sizes
        inner = heads * self.config.head_width
        return FrameListener(self.config.width, sizes.motion, heads=heads, reach=sizes.frames - 1, inner=inner)

    def _ear(self, block: int, motion: Tensor, distance: Tensor, factor: Tensor | None) -> Cross:
        listener, kind = self.listeners[str(block)], self.encoder.queries.dtype

        def listen(tokens: Tensor) -> Tensor:
            heard: Tensor = listener(tokens.to(kind), motion.to(kind), distance)
            # The factor is of the latents' type: what is added must not change that of the tokens.
            return (heard if factor is None else heard * factor).to(tokens.dtype)

        return listen

    def _shown(self, prompt: VisualPrompt, codec: Codec, carry: Carry | None, text: TextEncoder | None) -> Tensor:
        clip = prompt.reference
        if clip is None:
            if carry is None:
                raise InvalidInput(
                    "VisualPrompt.reference", None, "a demonstration: an action prism is told by it alone"
                )
            return _kept(carry, MOTION, (len(prompt), None, self.sizes.motion))
        if codec.latent_channels != self.config.latent_channels:
            raise InvalidInput("latent channels of the codec", codec.latent_channels, self.config.latent_channels)
        cell = SIDE * self.sizes.patch
        if prompt.size[0] % cell or prompt.size[1] % cell:
            raise InvalidInput("size of the prompt", prompt.size, f"multiples of {cell} pixels")
        weight, pixel_frames = self.encoder.enter.weight, 1 + FRAMES * (self.sizes.frames - 1)
        heard = []
        for one in clip.each:
            frames = resampled(one.frames, pixel_frames, prompt.size)
            words = told_words(prompt, one, text).to(weight)
            heard.append(self.motion(codec.encode(frames.to(weight.device)).to(weight), words))
        motion = torch.cat(heard, dim=1)
        if carry is not None:
            _kept(carry, MOTION, tuple(motion.shape))  # a state has as many demonstrations at every step
        return motion


def _chosen(blocks: Sequence[int] | None, count: int) -> tuple[int, ...]:
    if blocks is None:
        return tuple(range(min(1, count - 1), count, _EVERY))
    chosen = tuple(blocks)
    whole = all(isinstance(block, int) and not isinstance(block, bool) for block in chosen)
    if not whole or not chosen or sorted(set(chosen)) != list(chosen) or not 0 <= chosen[0] <= chosen[-1] < count:
        raise InvalidInput("blocks that listen", list(blocks), f"rising numbers of 0 .. {count - 1}, at least one")
    return chosen


def _kept(carry: Carry, name: str, expected: tuple[int | None, ...]) -> Tensor:
    """What was handed out under that name. Raises InvalidInput if it is not there or of another shape."""
    found = carry.get(name)
    shape = () if found is None else tuple(found.shape)
    fits = len(shape) == len(expected) and all(b in (None, a) for a, b in zip(shape, expected, strict=True))
    if found is None or not fits:
        raise InvalidInput(f"{name!r} of an action prism's carry", shape or "missing", expected)
    return found
