"""Stream mode: one latent frame a step, which looks back at the cached keys and values of clean frames."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.cache import KeyValueCache, Past, causal_mask
from vap_sim.models.cogvideox.guidance import Branch
from vap_sim.models.cogvideox.injection import Noised, Prepared, first_frame_channels
from vap_sim.models.cogvideox.parts import (
    CAPTION,
    Context,
    Parts,
    below,
    caption_keys,
    captions_of,
    handed_out,
)
from vap_sim.models.cogvideox.positions import adds_positions
from vap_sim.models.cogvideox.prepared import carry_of, frames_of
from vap_sim.models.cogvideox.sampler import denoise
from vap_sim.prompts.visual_prompt import VisualPrompt

LATENT = "latent"
_CODEC, _SEEN = "codec/", "seen/"


class Stream:
    """Pure functions on the context of a state. b rows that are equally full, see `fullness`.

    The window holds the first frame (if kept) and the newest ones. A frame's place in time is its place in the window,
    so that a model never sees a place it was not trained at; the distance to the kept first frame stops growing when
    the window is full.

    Rotary positions are put on when a cache is read, so a kept frame moves to its new place for nothing. Learned ones
    and sines are added to the tokens before the first block and are in all keys and values that follow. If these were
    kept, every frame of a window that has slid would claim the last place, which no clip of training shows. So they
    are renewed: when the window slides, its clean frames pass through the model once more, as a clip of their own.
    That pass stands in for the one of the new frame alone and costs as many frames as the window has, always.

    In a state: the caches, padded to a full window, by pass and owner; the latents of the newest frame; what the codec
    and the conditioners carry on; for renewing, the window's latents and what was prepared for its frames.
    """

    def __init__(self, parts: Parts) -> None:
        config, window = parts.backbone.config, parts.settings.window
        if config.learned and window > config.frames - 1:
            most = config.frames - 1 - int(parts.settings.keep_first)
            expected = f"at most {most}: the model has learned positions for {config.frames} latent frames"
            raise InvalidInput("history", f"{parts.settings.history} latent frames", expected)
        self.parts, self.renews = parts, adds_positions(config) and parts.settings.renew
        self._patches = parts.shape[1] * parts.shape[2] // config.patch**2

    def begin(self, frames: Tensor, prompt: VisualPrompt) -> dict[str, Tensor]:
        """The context after pictures (b, V, H, W, 3) uint8, whose prompt has F = 1."""
        parts, captions = self.parts, captions_of(prompt)
        rows = len(frames)
        latents = parts.codec.encode(frames).to(parts.device, torch.float32)
        context = {LATENT: latents, CAPTION: caption_keys(captions, parts.device)}
        prepared, caption = parts.prepare(prompt), parts.words(captions)
        for branch in parts.settings.guiding.branches:
            words = caption if branch.text else parts.plain_words(rows)
            mask = causal_mask([1], self._patches, words.shape[1], parts.device)
            noised = self._noised(latents, 0, 0, words=words, mask=mask, collect=True)
            for owner, cache in parts.predict(noised, branch, prepared, {})[1].items():
                context |= self._kept(branch, owner, cache)
        context |= handed_out(prepared, carry_of) | self._seen({}, 0, latents, prepared)
        _, carry = parts.codec.decode_next(latents, None)
        return context | {_CODEC + name: value for name, value in carry.items()}

    def check(self, context: Context, prompt: VisualPrompt) -> None:
        """Raises InvalidInput for another caption than at the start, which the cache holds."""
        if prompt.text is not None:
            asked = caption_keys(prompt.text, context[CAPTION].device)
            if not torch.equal(asked, context[CAPTION]):
                expected = "the caption each dream began with, or None: a stream cannot change its caption"
                raise InvalidInput("text of the prompt", prompt.text, expected)

    def fullness(self, step: int) -> int:
        """Latent frames in the window before that step; only rows of equal fullness share a pass."""
        return min(step + 1, self.parts.settings.window)

    def advance(
        self, context: Context, step: Tensor, key: Tensor, prompt: VisualPrompt, *, decode: bool = True
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """The context one latent frame later, and its four pixel frames (b, 1, 4, H, W, 3) uint8.

        step, key: (b,) int64; prompt: F = 4; decode: False may leave out the frames.
        """
        parts, settings = self.parts, self.parts.settings
        filled = self.fullness(int(step[0]))
        prepared = parts.prepare(prompt, context)
        pasts = {branch: self._pasts(context, branch, filled) for branch in settings.guiding.branches}

        def predict(latents: Tensor, timestep: int) -> Tensor:
            noised = self._noised(latents, timestep, filled)
            return parts.guided(lambda branch: parts.predict(noised, branch, prepared, pasts[branch])[0], timestep)

        latents = denoise(
            parts.normals(key, step, 1),
            predict,
            parts.schedule,
            settings.steps,
            solver=settings.solver,
            fresh=lambda index: parts.normals(key, step, 1, stream=1 + index),
        )
        after = {**context, **handed_out(prepared, carry_of), LATENT: latents}
        after |= self._seen(context, filled, latents, prepared)
        if self.renews and filled == settings.window:
            after |= self._renewed(after, prepared)
        else:
            clean = self._noised(latents, 0, filled, collect=True)
            for branch in settings.guiding.branches:
                for owner, new in parts.predict(clean, branch, prepared, pasts[branch])[1].items():
                    after |= self._kept(branch, owner, self._cache(context, branch, owner, filled).append(new))
        carry = below(context, _CODEC)
        if not decode and not carry:
            return after, None
        parts.let_go()
        frames, carry_on = parts.codec.decode_next(latents, carry)
        return after | {_CODEC + name: value for name, value in carry_on.items()}, frames[:, None]

    def predict(self, context: Context, step: Tensor, noisy: Tensor, timestep: int, prompt: VisualPrompt) -> Tensor:
        """The velocity of a noisy next frame (b, 1, C, h, w) by the cache: what `uncached` computes without one."""
        filled, full = self.fullness(int(step[0])), self.parts.settings.guiding.branches[0]
        prepared = self.parts.prepare(prompt, context)
        noised = self._noised(noisy, timestep, filled)
        return self.parts.predict(noised, full, prepared, self._pasts(context, full, filled))[0]

    def _seen(self, context: Context, filled: int, latents: Tensor, prepared: Sequence[Prepared]) -> dict[str, Tensor]:
        """What renewing needs of the window's frames with a new one (b, 1, ...), each padded to (b, window, ...)."""
        if not self.renews:
            return {}
        news = {_SEEN + LATENT: latents}
        for number, one in enumerate(prepared):
            news |= {f"{_SEEN}{number}/{name}": value for name, value in frames_of(one).items()}
        settings, out = self.parts.settings, {}
        for name, new in news.items():
            whole = torch.cat([context[name][:, :filled], new], dim=1) if filled else new
            whole = whole[:, list(settings.kept(whole.shape[1]))]
            missing = whole.new_zeros(len(whole), settings.window - whole.shape[1], *whole.shape[2:])
            out[name] = torch.cat([whole, missing], dim=1)
        return out

    def _renewed(self, context: Context, prepared: Sequence[Prepared]) -> dict[str, Tensor]:
        """The caches of a full window whose frames pass once more, each in its place, beside the text that was kept."""
        parts, latents = self.parts, context[_SEEN + LATENT]
        frames = latents.shape[1]
        whole = [{**one, **below(context, f"{_SEEN}{number}/")} for number, one in enumerate(prepared)]
        clean = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)
        noised = Noised(
            latents,
            clean,
            None,
            first_frame_channels(latents[:, :1], frames) if parts.image_to_video else None,
            text_timestep=clean,
            mask=causal_mask([1] * frames, self._patches, 0, latents.device),
            collect=True,
        )
        out: dict[str, Tensor] = {}
        for branch in parts.settings.guiding.branches:
            words = self._pasts(context, branch, 0)
            for owner, new in parts.predict(noised, branch, whole, words)[1].items():
                out |= self._kept(branch, owner, self._cache(context, branch, owner, 0).append(new))
        return out

    def _noised(
        self,
        latents: Tensor,
        timestep: int,
        position: int,
        *,
        words: Tensor | None = None,
        mask: Tensor | None = None,
        collect: bool = False,
    ) -> Noised:
        """One frame (b, 1, C, h, w) at one level and place. Text has level 0 in all passes, since its keys are kept."""
        clean = torch.zeros(len(latents), dtype=torch.int64, device=latents.device)
        channels = None
        if self.parts.image_to_video:
            channels = latents if position == 0 else torch.zeros_like(latents)
        return Noised(
            latents,
            clean + timestep,
            words,
            channels,
            text_timestep=clean,
            positions=[position],
            mask=mask,
            collect=collect,
        )

    def _pasts(self, context: Context, branch: Branch, filled: int) -> dict[str, Past]:
        size = self.parts.shape[1:]
        owners = {name.split("/")[1] for name in context if name.startswith(f"{branch.name}/")}
        return {
            owner: self.parts.backbone.past(self._cache(context, branch, owner, filled), range(filled), size)
            for owner in sorted(owners)
        }

    def _cache(self, context: Context, branch: Branch, owner: str, filled: int) -> KeyValueCache:
        """The frames in a state's cache, without the padding."""
        keys, values = (context[f"{branch.name}/{owner}/{name}"] for name in ("keys", "values"))
        text = keys.shape[3] - self.parts.settings.window * self._patches
        end = text + filled * self._patches
        return KeyValueCache(keys[:, :, :, :end], values[:, :, :, :end], text, self._patches)

    def _kept(self, branch: Branch, owner: str, cache: KeyValueCache) -> dict[str, Tensor]:
        """A cache cut to the window and padded to it, by the names it has in a state."""
        settings = self.parts.settings
        cache = cache.recent(settings.history, first=int(settings.keep_first))
        missing = (settings.window - cache.frames) * self._patches
        return {
            f"{branch.name}/{owner}/{name}": F.pad(value, (0, 0, 0, missing)) for name, value in cache.tensors().items()
        }


def uncached(
    stream: Stream, history: Tensor, noisy: Tensor, timestep: int, captions: Sequence[str], prompt: VisualPrompt
) -> Tensor:
    """The velocity of the next frame with nothing kept: one pass over the whole clip with the chunk-causal mask.

    history: (b, T, C, h, w) the clean latents of all frames so far; noisy: (b, 1, C, h, w); prompt: of the whole clip,
    1 + 4 T pixel frames. Equal to `Stream.predict` up to rounding while no frame has left the window, and for a stream
    that renews what it keeps also afterwards: the pass is then of the window's frames.
    """
    parts, rows, prepared = stream.parts, len(history), list(stream.parts.prepare(prompt))
    if stream.renews:
        kept = list(parts.settings.kept(history.shape[1]))
        history, seen = history[:, kept], [*kept, history.shape[1]]
        prepared = [{**one, **{name: v[:, seen] for name, v in frames_of(one).items()}} for one in prepared]
    frames = history.shape[1]
    words = parts.words(captions)
    patches = parts.shape[1] * parts.shape[2] // parts.backbone.config.patch**2
    levels = torch.zeros(rows, frames + 1, dtype=torch.int64, device=parts.device)
    levels[:, -1] = timestep
    noised = Noised(
        torch.cat([history, noisy], dim=1),
        levels,
        words,
        first_frame_channels(history[:, :1], frames + 1) if parts.image_to_video else None,
        text_timestep=torch.zeros_like(levels[:, 0]),
        mask=causal_mask([1] * (frames + 1), patches, words.shape[1], parts.device),
    )
    full = parts.settings.guiding.branches[0]
    return parts.predict(noised, full, prepared, {})[0][:, -1:]
