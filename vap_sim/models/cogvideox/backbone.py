"""diffusers' CogVideoX transformer, wrapped once so that an injection, a cache and a noise level a frame can enter."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.models.cogvideox.attention import Keys, Rotary
from vap_sim.models.cogvideox.block import (
    Additions,
    Checkpoint,
    Cross,
    KeyStream,
    Levels,
    Shared,
    Tokens,
    TokenStream,
    by_frame,
    open_blocks,
    walk,
)
from vap_sim.models.cogvideox.cache import KeyValueCache, Past
from vap_sim.models.cogvideox.config import ModelConfig
from vap_sim.models.cogvideox.injection import Injection
from vap_sim.models.cogvideox.positions import frame_numbers, position_table, rotary_table, rotate, token_grid

_NOTHING = Injection()


class Backbone(nn.Module):
    """A CogVideoX transformer and the ways into it.

    transformer: diffusers' own object, from then on reachable as `.transformer`: peft's adapters, saving and gradient
    checkpointing are switched on it. Its blocks are opened in place (`block.open_blocks`); called by itself it still
    computes what it always did. b rows, T latent frames, P tokens a frame, L text tokens, D channels a token.
    """

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        self.transformer: Any = transformer
        self.config = ModelConfig(dict(transformer.config))
        open_blocks(transformer.transformer_blocks)

    @property
    def blocks(self) -> Sequence[nn.Module]:
        """The transformer's blocks in order."""
        blocks: Sequence[nn.Module] = self.transformer.transformer_blocks
        return blocks

    @property
    def checkpoint(self) -> Checkpoint | None:
        """How to call a block so that its inner values are recomputed for gradients; None while that is off."""
        if not (self.transformer.gradient_checkpointing and torch.is_grad_enabled()):
            return None
        function: Checkpoint = self.transformer._gradient_checkpointing_func
        return function

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor | None,
        injection: Injection | None = None,
        *,
        text_timestep: Tensor | None = None,
        positions: Sequence[int] | Tensor | None = None,
        mask: Tensor | None = None,
        past: Past | None = None,
        collect: bool = False,
    ) -> Any:
        """The model's prediction (b, T, C, h, w) for noisy latents; with `collect` also the pass's `KeyValueCache`.

        latents: (b, T, c, h, w), c the latent channels, or all input channels if the injection brings none; timestep:
        (b,), or (b, T) for a noise level a latent frame, 0 .. 999; text: (b, L, width of the text encoder), or None if
        `past` holds it; injection: what is added; positions: the time index of each frame, 0 .. T - 1 if not given;
        mask: (L + T P, L + T P) bool, who may look at whom (`cache.causal_mask`), all at all if not given; past: what
        is attended to beside these frames (`past`).

        text_timestep: (b,), the level that text tokens are modulated with. Not given, it is the row's highest: where
        all levels are equal, that is diffusers' own, and where they are not, text is read as for the frame that still
        has most to be told. A cache of text needs a fixed one; give 0, the level of clean frames.

        With levels given but equal in every row the result has the bits of one level a row. Raises InvalidInput.
        """
        given = injection or _NOTHING
        latents = self._with_channels(latents, given)
        self._check(latents, timestep, text, past)
        frames, size = latents.shape[1], (latents.shape[3], latents.shape[4])
        levels = self.levels(timestep, latents.dtype, text_timestep)
        tokens = self.embed(latents, text, positions)
        if given.input_add is not None:
            tokens = Tokens(tokens.video + self._fitting("input_add", given.input_add, tokens), tokens.text)
        shared = Shared(levels, self.rotary(size, frames, positions, latents.device), mask, past, collect)
        additions = self._additions(given, tokens, shared, frames)
        kept: list[Keys] = []
        for step in walk(self.blocks, tokens, shared, additions, checkpoint=self.checkpoint):
            tokens = step.tokens
            kept += [step.keys] if step.keys is not None else []
        prediction = self.head(tokens.video, levels, size)
        return (prediction, self.cache_of(kept, 0 if text is None else text.shape[1], size)) if collect else prediction

    def embed(self, latents: Tensor, text: Tensor | None, positions: Sequence[int] | Tensor | None = None) -> Tokens:
        """Patches and words as tokens, with the positions that are added. latents: (b, T, all input channels, h, w)."""
        rows, frames = latents.shape[:2]
        size = (latents.shape[3], latents.shape[4])
        part = self.transformer.patch_embed
        words = None if text is None else part.text_proj(text)
        video = part.proj(latents.flatten(0, 1)).unflatten(0, (rows, frames)).flatten(3).transpose(2, 3).flatten(1, 2)
        table = position_table(
            self.config,
            getattr(part, "pos_embedding", None),
            size,
            frame_numbers(frames, positions),
            0 if words is None else words.shape[1],
            latents.device,
        )
        if table is not None:
            video = video + table[1].to(video.dtype)
            words = None if words is None else words + table[0].to(words.dtype)
        dropout = self.transformer.embedding_dropout
        return Tokens(dropout(video), None if words is None else dropout(words))

    def levels(self, timestep: Tensor, dtype: torch.dtype, text_timestep: Tensor | None = None) -> Levels:
        """Noise levels (b,) or (b, T), and that of the text (b,), embedded."""
        if timestep.ndim == 2:
            # Equal levels take diffusers' own way, whose bits a wider matrix product would not have. Where values
            # cannot be looked at, on meta tensors and while tracing, the result is the same up to rounding.
            tracing = timestep.is_meta or torch.compiler.is_compiling()
            if timestep.shape[1] == 1 or (not tracing and bool((timestep == timestep[:, :1]).all())):
                timestep = timestep[:, 0]
            elif text_timestep is None:
                text_timestep = timestep.amax(dim=1)
        frames = self._time(timestep.flatten(), dtype).reshape(*timestep.shape, -1)
        return Levels(frames, None if text_timestep is None else self._time(text_timestep, dtype))

    def rotary(
        self,
        size: tuple[int, int],
        frames: int,
        positions: Sequence[int] | Tensor | None = None,
        device: torch.device | str = "cpu",
    ) -> Rotary | None:
        """Rotary table of T latent frames of size (h, w), or None for a model without."""
        if not self.config.rotary:
            return None
        return rotary_table(self.config, size, frame_numbers(frames, positions), device)

    def head(self, video: Tensor, levels: Levels, size: tuple[int, int]) -> Tensor:
        """Video tokens (b, T P, D) after the last block to the prediction (b, T, C, h, w), size = (h, w)."""
        part = self.transformer
        rows, columns = token_grid(self.config, size)
        frames = video.shape[1] // (rows * columns)
        video = part.norm_final(video)
        if levels.frames.ndim == 2:
            video = part.norm_out(video, temb=levels.frames)
        else:
            shift, scale = part.norm_out.linear(part.norm_out.silu(levels.frames)).chunk(2, dim=2)
            video = by_frame(part.norm_out.norm(video), frames) * (1 + scale[:, :, None]) + shift[:, :, None]
            video = video.flatten(1, 2)
        patch = self.config.patch
        out: Tensor = part.proj_out(video).reshape(len(video), frames, rows, columns, -1, patch, patch)
        return out.permute(0, 1, 4, 2, 5, 3, 6).flatten(5, 6).flatten(3, 4)

    def past(
        self,
        cache: KeyValueCache,
        positions: Sequence[int] | Tensor,
        size: tuple[int, int],
        visible: Tensor | None = None,
    ) -> Past:
        """A cache placed in time: once a step, for all its passes.

        positions: the time index of each cached frame; size: latent (h, w); visible: (b, frames) bool, False for frames
        that a row shall not look at, such as padding. Works for the cache of a branch of copied blocks too. Raises
        InvalidInput.
        """
        numbers = frame_numbers(cache.frames, positions)
        rows, columns = token_grid(self.config, size)
        if rows * columns != cache.patches:
            raise InvalidInput("latent size (h, w)", size, f"one of {cache.patches} tokens, as in the cache")
        keys = cache.keys
        if self.config.rotary:
            table = rotary_table(self.config, size, numbers, keys.device)
            keys = torch.cat([keys[:, :, :, : cache.text], rotate(keys[:, :, :, cache.text :], table)], dim=3)
        if visible is not None:
            if visible.dtype != torch.bool or visible.shape != (len(keys), cache.frames):
                expected = f"torch.bool {(len(keys), cache.frames)}"
                raise InvalidInput("visible", f"{visible.dtype} {tuple(visible.shape)}", expected)
            text = visible.new_ones(len(keys), cache.text)
            visible = torch.cat([text, visible.repeat_interleave(cache.patches, dim=1)], dim=1)
        return Past(keys, cache.values, visible, cache.text)

    def cache_of(self, keys: Iterable[Keys], text: int, size: tuple[int, int]) -> KeyValueCache:
        """The keys and values that a walk handed out, block after block, as one cache. text: L of the pass."""
        pairs = list(keys)
        rows, columns = token_grid(self.config, size)
        return KeyValueCache(
            torch.stack([pair[0] for pair in pairs], dim=1),
            torch.stack([pair[1] for pair in pairs], dim=1),
            text,
            rows * columns,
        )

    def _time(self, timestep: Tensor, dtype: torch.dtype) -> Tensor:
        embedded: Tensor = self.transformer.time_embedding(self.transformer.time_proj(timestep).to(dtype), None)
        return embedded

    def _with_channels(self, latents: Tensor, injection: Injection) -> Tensor:
        if latents.ndim != 5:
            raise InvalidInput("latents", tuple(latents.shape), "(b, T, channels, h, w)")
        if injection.channels is not None:
            extra = injection.channels
            if extra.ndim != 5 or (*extra.shape[:2], *extra.shape[3:]) != (*latents.shape[:2], *latents.shape[3:]):
                rows, frames, _, height, width = latents.shape
                expected = f"({rows}, {frames}, channels, {height}, {width})"
                raise InvalidInput("channels of the injection", tuple(extra.shape), expected)
            latents = torch.cat([latents, extra], dim=2)
        if latents.shape[2] != self.config.in_channels:
            config = self.config
            expected = (
                f"{config.in_channels}: {config.latent_channels} noisy, {config.condition_channels} of a condition"
            )
            raise InvalidInput("channels of the latents", latents.shape[2], expected)
        return latents

    def _check(self, latents: Tensor, timestep: Tensor, text: Tensor | None, past: Past | None) -> None:
        rows, frames = latents.shape[:2]
        token_grid(self.config, (latents.shape[3], latents.shape[4]))
        if tuple(timestep.shape) not in ((rows,), (rows, frames)):
            raise InvalidInput("timestep", tuple(timestep.shape), f"({rows},) or ({rows}, {frames})")
        if text is not None and (text.ndim != 3 or text.shape[0] != rows or text.shape[2] != self.config.text_width):
            raise InvalidInput("text", tuple(text.shape), f"({rows}, tokens, {self.config.text_width})")
        if (text is None) == (past is None or not past.text):
            given = "neither in `text` nor in `past`" if text is None else "in `text` and in `past`"
            raise InvalidInput("text", given, "it in one of them")
        if past is not None and (len(past.keys) != rows or past.keys.shape[1] != self.config.blocks):
            raise InvalidInput("rows and blocks of the past", tuple(past.keys.shape[:2]), (rows, self.config.blocks))

    def _additions(self, injection: Injection, tokens: Tokens, shared: Shared, frames: int) -> Additions:
        """What the walk adds, checked."""
        stream = injection.stream
        of_stream = {} if stream is None else stream.keys if isinstance(stream, KeyStream) else stream.blocks
        named: dict[str, Mapping[int, Any]] = {
            "residuals": injection.residuals, "tokens": injection.tokens, "cross": injection.cross, "stream": of_stream
        }  # fmt: skip
        for name, values in named.items():
            for block in values:
                if not 0 <= block < self.config.blocks:
                    raise InvalidInput(f"block of an injection's {name}", block, f"0 .. {self.config.blocks - 1}")
        for block, value in injection.residuals.items():
            self._fitting(f"residuals[{block}]", value, tokens)
        rows, width = tokens.video.shape[0], self.config.width
        for block, value in injection.tokens.items():
            if value.ndim != 3 or value.shape[0] not in (1, rows) or value.shape[2] != width:
                raise InvalidInput(f"tokens[{block}] of an injection", tuple(value.shape), f"(1 or {rows}, m, {width})")
        _check_beside(injection, rows, frames)
        if stream is not None:
            self._check_stream(stream, rows, shared)
        cross = {block: self._watched(block, function) for block, function in injection.cross.items()}
        return Additions(injection.residuals, injection.tokens, injection.bias, injection.visible, cross, stream)

    def _check_stream(self, stream: TokenStream | KeyStream, rows: int, shared: Shared) -> None:
        heads = (rows, self.config.heads, "n", self.config.head_width)
        if isinstance(stream, KeyStream):
            for block, (key, value) in stream.keys.items():
                fits = key.ndim == 4 and (*key.shape[:2], "n", key.shape[3]) == heads and key.shape == value.shape
                if not fits:
                    given = f"{tuple(key.shape)} and {tuple(value.shape)}"
                    raise InvalidInput(f"keys and values[{block}] of a stream", given, f"two of {heads}")
        else:
            if len(stream.tokens.video) != rows:
                raise InvalidInput("rows of a stream", len(stream.tokens.video), f"{rows}, as of the latents")
            if shared.mask is not None or shared.past is not None or shared.collect:
                raise Unsupported(
                    "a stream of tokens that look at the video's, in a pass with cached or masked frames: what they "
                    "see changes with every frame, so what is cached would not hold; give keys of a stream that looks "
                    "at itself alone, or dream in chunks"
                )
        if stream.bias is not None and tuple(stream.bias.shape) not in ((1, 1), (rows, 1)):
            raise InvalidInput("bias of a stream", tuple(stream.bias.shape), f"(1 or {rows}, 1)")
        if stream.visible is not None and (
            stream.visible.dtype != torch.bool or tuple(stream.visible.shape) != (rows,)
        ):
            given = f"{stream.visible.dtype} {tuple(stream.visible.shape)}"
            raise InvalidInput("visible of a stream", given, f"torch.bool ({rows},)")

    def _watched(self, block: int, function: Cross) -> Cross:
        """The same function, whose result is checked before it is added."""

        def shown(video: Tensor) -> Tensor:
            return self._fitting(f"cross[{block}]", function(video), Tokens(video, None))

        return shown

    @staticmethod
    def _fitting(name: str, value: Tensor, tokens: Tokens) -> Tensor:
        if value.shape != tokens.video.shape:
            raise InvalidInput(f"{name} of an injection", tuple(value.shape), tuple(tokens.video.shape))
        return value


def _check_beside(injection: Injection, rows: int, frames: int) -> None:
    """Raise InvalidInput where what goes with an injection's tokens does not fit rows and frames."""
    for name, values in (("bias", injection.bias), ("visible", injection.visible)):
        for block, value in values.items():
            count = injection.tokens[block].shape[1]
            right = value.dtype == torch.bool if name == "visible" else value.is_floating_point()
            by_frame = value.shape[1:] == (frames, count)
            if not right or len(value) not in (1, rows) or not (value.shape[1:] == (count,) or by_frame):
                given, kind = f"{value.dtype} {tuple(value.shape)}", "bool" if name == "visible" else "floats"
                expected = f"(1 or {rows}, {count})" + (f", or (1 or {rows}, {frames}, {count})" * (name == "bias"))
                raise InvalidInput(f"{name}[{block}] of an injection", given, f"{kind} {expected}")
