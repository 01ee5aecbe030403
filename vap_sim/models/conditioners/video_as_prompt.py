"""Video-As-Prompt: experts beside the backbone's blocks read a demonstration, and each stream looks at the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.block import KeyStream, Levels, Shared, Tokens, TokenStream, walk
from vap_sim.models.cogvideox.codec import FRAMES, SIDE, Carry, Codec
from vap_sim.models.cogvideox.config import ModelConfig
from vap_sim.models.cogvideox.injection import Injection, Noised, Prepared, Traits, Uninstall, first_frame_channels
from vap_sim.models.cogvideox.prepared import KEEP, lasting_of, with_carry
from vap_sim.models.cogvideox.skeleton_control import check_backbone, checked_scale
from vap_sim.models.cogvideox.text import UNCONDITIONAL, TextEncoder
from vap_sim.models.conditioners.action_prism_reference import resampled
from vap_sim.models.conditioners.video_as_prompt_expert import (
    build_expert,
    expert_blocks,
    reference_positions,
    unheard,
)
from vap_sim.prompts.visual_prompt import ReferenceClip, VisualPrompt

LATENTS, WORDS, PLAIN = "reference", "words", "plain"
KEYS, VALUES = "keys", "values"


class VideoAsPrompt(nn.Module):
    """The conditioner of demonstrations after Video-As-Prompt (arXiv 2510.20888, sections on the mixture of
    transformers and the temporally biased positions), in its CogVideoX form.

    The demonstration and its caption are a second stream of tokens, with a patch embedding, a time embedding and, at
    chosen blocks, a block of its own: the expert, at first an exact copy of the backbone. There the attention of both
    streams goes over [text, video, reference text, reference video] at once. The reference hears the noise level of the
    video, though it is clean (of several levels in a clip, the highest), and stands right before the video in time.
    Nothing is zero at first: an untrained expert changes what the backbone predicts. What the last of its blocks would
    make of the reference is heard by nobody, so it is not computed, and those weights take no gradient.

    Both streams change with each other, so what a stream mode would keep of frames does not hold: with attention both
    ways it is for whole clips. `one_way` is ours: the reference looks at itself alone, at level 0, so that its keys are
    made once a dream and everything that is cached stays exact; it needs an expert trained so. It keeps its caption
    in every pass, while both ways the pass of guidance with the empty caption blanks that of the reference too.

    backbone: what is copied, before LoRA or offload hooks are on it; it is not kept. blocks: which have an expert, by
    number or by name ("released", "first_and_last", ...; see `expert_blocks`); frames: latent frames of a
    demonstration, by default those of the backbone's clips; scale: how many times its weight in the softmax a token of
    the reference has for the video, 1 as trained, 0 adds nothing at all; device: "meta" copies nothing, for counting
    and loading. Raises InvalidInput, UnknownName, and Unsupported for a backbone without rotary positions, by which
    the streams are told apart.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        blocks: str | Sequence[int] = "released",
        frames: int | None = None,
        one_way: bool = False,
        scale: float = 1.0,
        device: str | None = None,
    ) -> None:
        super().__init__()
        self.config: ModelConfig = backbone.config
        self.blocks = expert_blocks(blocks, backbone.config.blocks)
        self.frames = max(2, backbone.config.frames) if frames is None else frames
        most = backbone.config.frames if backbone.config.learned else self.frames
        if isinstance(self.frames, bool) or not isinstance(self.frames, int) or not 2 <= self.frames <= most:
            raise InvalidInput("latent frames of a demonstration", frames, f"a whole number from 2 to {most}")
        self.one_way, self.scale = bool(one_way), checked_scale(scale)
        self.expert = build_expert(backbone, self.blocks, device=device)
        self.requires_grad_(True)
        for part in unheard(self.expert):
            part.requires_grad_(False)

    @property
    def settings(self) -> dict[str, Any]:
        """What it was made with, as plain data: `VideoAsPrompt(backbone, **settings)` has the same tensors."""
        return {"blocks": list(self.blocks), "frames": self.frames, "one_way": self.one_way, "scale": self.scale}

    @property
    def traits(self) -> Traits:
        """Told by a demonstration, with a second stream, and both ways only for whole clips."""
        reason = "its reference and the frames look at each other; make it with one_way=True, or dream in chunks"
        return Traits(demonstrated=True, stream=True, whole_clips=None if self.one_way else reason)

    def install(self, backbone: Backbone) -> Uninstall:
        """Nothing has to live inside the backbone. Raises InvalidInput for one of other sizes."""
        check_backbone(self.config, backbone)
        return lambda: None

    def prepare(
        self, prompt: VisualPrompt, codec: Codec, carry: Carry | None = None, *, text: TextEncoder | None = None
    ) -> Prepared:
        """The demonstration's latents and captions, or one way its keys; they last the dream.

        See `Conditioner.prepare`; what the prompt draws is not looked at. A later prompt without demonstration goes on
        with the one before; one that shows others, as many as at the start, goes on with those. Raises InvalidInput for
        a first prompt without, and for one without captions or of fewer than two frames; warns `Resampled` for one of
        another length or size.
        """
        clip = prompt.reference
        if clip is None:
            if carry is None:
                raise InvalidInput("VisualPrompt.reference", None, "a demonstration, which Video-As-Prompt is told by")
            return with_carry({}, {}, self._kept(carry, len(prompt)))
        lasting = self._read(clip, prompt.size, codec, text)
        if self.one_way:
            lasting = self._keys(lasting)
        if carry is not None:
            for name, value in self._kept(carry, len(prompt)).items():
                if value.shape != lasting[name].shape:
                    given, expected = tuple(lasting[name].shape), f"{tuple(value.shape)}, as at the start of the dream"
                    raise InvalidInput(f"{name!r} of a later demonstration", given, expected)
        return with_carry({}, {}, lasting)

    def inject(self, prepared: Prepared, noised: Noised) -> Injection:
        """The reference's stream, or one way its keys. Rows that are to go without it do not look there.

        Raises InvalidInput for prompts of other rows or another size than the latents, and Unsupported for a pass with
        masked or cached frames where attention goes both ways.
        """
        shown, visible = lasting_of(prepared), prepared.get(KEEP)
        # Where it is trained the stream is made even if no row looks at it: processes that train together must use the
        # same weights.
        unseen = visible is not None and not torch.is_grad_enabled() and not bool(visible.any())
        if self.scale == 0 or unseen:
            return Injection()
        like = noised.latents
        bias = None if self.scale == 1 else like.new_full((1, 1), math.log(self.scale))
        if visible is not None:
            visible = visible.to(like.device)
        if self.one_way:
            keys, values = self._checked(shown, KEYS, len(like)), self._checked(shown, VALUES, len(like))
            pairs = {block: (keys[:, at].to(like), values[:, at].to(like)) for at, block in enumerate(self.blocks)}
            return Injection(stream=KeyStream(pairs, bias, visible))
        if noised.text is None or noised.mask is not None or noised.collect:
            raise Unsupported(f"Video-As-Prompt in a pass with masked or cached frames: {self.traits.whole_clips}")
        latents = self._checked(shown, LATENTS, len(like))
        if latents.shape[3:] != like.shape[3:]:
            expected = f"{tuple(like.shape[3:])}, as of the noisy latents"
            raise InvalidInput("latent size (h, w) of the demonstration", tuple(latents.shape[3:]), expected)
        words = self._checked(shown, WORDS if noised.captioned else PLAIN, len(like))
        level = noised.timestep if noised.timestep.ndim == 1 else noised.timestep.amax(dim=1)
        tokens, levels, rotary = self._entrance(latents, words, level)
        blocks = dict(zip(self.blocks, self.expert.blocks, strict=True))
        return Injection(stream=TokenStream(tokens, levels, rotary, blocks, bias, visible))

    def _read(
        self, clip: ReferenceClip, size: tuple[int, int], codec: Codec, text: TextEncoder | None
    ) -> dict[str, Tensor]:
        """Latents (b, n T, C, h, w) and words (b, n L, width) of n demonstrations, and as many of the empty caption."""
        if codec.latent_channels != self.config.latent_channels:
            raise InvalidInput("latent channels of the codec", codec.latent_channels, self.config.latent_channels)
        cell = SIDE * self.config.patch
        if size[0] % cell or size[1] % cell:
            raise InvalidInput("size of the prompt", size, f"multiples of {cell} pixels")
        if text is None:
            raise InvalidInput("text encoder of Video-As-Prompt", None, "one, for the captions of the demonstration")
        weight = self.expert.transformer.patch_embed.proj.weight
        latents, words, plain = [], [], []
        for one in clip.each:
            if one.text is None:
                raise InvalidInput("ReferenceClip.text", None, "a caption a row: it says what the demonstration shows")
            frames = resampled(one.frames, 1 + FRAMES * (self.frames - 1), size)
            # Weights that are offloaded have no place; then all is where the prompt is.
            place = frames.device if weight.is_meta else weight.device
            latents.append(codec.encode(frames).to(place, torch.float32))
            words.append(text.encode(one.text).to(latents[0]))
            plain.append(text.encode([UNCONDITIONAL]).to(latents[0]).expand(len(frames), -1, -1))
        return {LATENTS: torch.cat(latents, 1), WORDS: torch.cat(words, 1), PLAIN: torch.cat(plain, 1)}

    def _entrance(self, latents: Tensor, words: Tensor, level: Tensor) -> tuple[Tokens, Levels, Any]:
        """What enters the expert. Each demonstration has the added positions of a clip of its own, in the backbone's
        table; rotary ones go on from each to the next, up to the video."""
        kind = self.expert.transformer.patch_embed.proj.weight.dtype
        count = latents.shape[1] // self.frames
        video, text = [], []
        for clip, said in zip(latents.to(kind).chunk(count, 1), words.to(kind).chunk(count, 1), strict=True):
            if self.config.condition_channels:
                clip = torch.cat([clip, first_frame_channels(clip[:, :1], self.frames)], dim=2)
            tokens = self.expert.embed(clip, said)
            assert tokens.text is not None
            video.append(tokens.video)
            text.append(tokens.text)
        positions = reference_positions(count, self.frames)
        rotary = self.expert.rotary((latents.shape[3], latents.shape[4]), len(positions), positions, latents.device)
        return Tokens(torch.cat(video, 1), torch.cat(text, 1)), self.expert.levels(level, kind), rotary

    def _keys(self, read: dict[str, Tensor]) -> dict[str, Tensor]:
        """Keys, rotated, and values (b, N, heads, n L + n T P, head width) of a reference that looks at itself."""
        latents = read[LATENTS]
        clean = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)
        tokens, levels, rotary = self._entrance(latents, read[WORDS], clean)
        assert tokens.text is not None
        shared = Shared(levels, rotary, collect=True)
        walked = walk(self.expert.blocks, tokens, shared, checkpoint=self.expert.checkpoint)
        size = (latents.shape[3], latents.shape[4])
        pairs = [step.keys for step in walked if step.keys is not None]
        cache = self.expert.cache_of(pairs, tokens.text.shape[1], size)
        positions = reference_positions(latents.shape[1] // self.frames, self.frames)
        past = self.expert.past(cache, positions, size)
        return {KEYS: past.keys, VALUES: past.values}

    def _kept(self, carry: Carry, rows: int) -> dict[str, Tensor]:
        names = (KEYS, VALUES) if self.one_way else (LATENTS, WORDS, PLAIN)
        return {name: self._checked(carry, name, rows) for name in names}

    @staticmethod
    def _checked(kept: Carry, name: str, rows: int) -> Tensor:
        found = kept.get(name)
        if found is None:
            raise InvalidInput("what Video-As-Prompt kept of a demonstration", sorted(kept), f"{name!r} among it")
        if len(found) != rows:
            raise InvalidInput("rows of the demonstration", len(found), f"{rows}, as of the noisy latents")
        return found
