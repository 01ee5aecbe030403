"""CogVideoX's own learned codec, diffusers' causal 3-D autoencoder, behind the protocol of all codecs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vap_sim.errors import Unsupported
from vap_sim.models.cogvideox.codec import FRAMES, Carry, check_frames, check_latents, to_bytes
from vap_sim.models.cogvideox.folder import CogVideoXFolder

_SLASH = "/"
_WAITING, _ODD = "waiting", "odd"


class VideoCodec:
    """The learned codec: `AutoencoderKLCogVideoX` with the scaling that its transformer was trained with.

    network: diffusers' object; tiling: work in overlapping tiles, for little memory at a large size; slicing: one row
    at a time. It runs where its weights are and in their type (bf16 for the published ones). The latents of a clip are
    the mean of what the encoder proposes, not a draw: the same frames give the same latents. Those of one frame are
    the first-frame latents of image-to-video. The network normalises over eight frames at a time (up to 15 at the
    start), so a latent frame may depend, a little, on later pixel frames of its group.
    """

    def __init__(self, network: Any, *, tiling: bool = False, slicing: bool = False) -> None:
        self.network: Any = network.eval().requires_grad_(False)
        config = self.network.config
        # The factor of version 1.5's image latents; the published 1.0 models do not have it.
        if config.invert_scale_latents or config.shift_factor is not None:
            raise Unsupported("a codec with invert_scale_latents or a shift_factor: that of CogVideoX 1.5")
        self._scale = float(config.scaling_factor)
        if tiling:
            self.network.enable_tiling()
        if slicing:
            self.network.enable_slicing()

    @classmethod
    def open(
        cls,
        folder: CogVideoXFolder,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        tiling: bool = False,
        slicing: bool = False,
    ) -> VideoCodec:
        """The codec of a CogVideoX folder. Raises BadFile as `CogVideoXFolder.vae` does."""
        return cls(folder.vae(dtype).to(device), tiling=tiling, slicing=slicing)

    @property
    def latent_channels(self) -> int:
        return int(self.network.config.latent_channels)

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        check_frames(frames)
        pixels = frames.to(self._device).to(torch.float32) / 127.5 - 1
        posterior = self.network.encode(pixels.permute(0, 4, 1, 2, 3).to(self._dtype)).latent_dist
        latents: Tensor = posterior.mode().permute(0, 2, 1, 3, 4) * self._scale
        return latents

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """The inverse of `encode`; see the protocol.

        diffusers decodes latent frames in pairs (the first three together) and normalises over each group. An even
        number of them it would take for a clip without a first frame, so the last is doubled and cut off again.
        """
        check_latents(latents, self.latent_channels)
        values = self._unscaled(latents)
        even = latents.shape[1] % 2 == 0
        values = torch.cat([values, values[:, :, -1:]], dim=2) if even else values
        pixels = self.network.decode(values).sample
        return self._frames(pixels[:, :, :-FRAMES] if even else pixels)

    @torch.no_grad()
    def decode_next(self, latents: Tensor, carry: Carry | None = None) -> tuple[Tensor, Carry]:
        """See the protocol. Every call costs two latent frames for each it is given; tiling does not apply.

        The network takes a lone latent frame for a still, so a frame is decoded in a pair: with itself, or with the
        one before if that was not yet followed. It is close to `decode` and not equal, because of the normalisation
        over a pair. The carry holds what the causal convolutions saw last and the unfollowed frame.
        """
        check_latents(latents, self.latent_channels)
        values = self._unscaled(latents)
        if self.network.post_quant_conv is not None:
            values = self.network.post_quant_conv(values)
        parts: list[Tensor] = []
        if carry is None:
            still, memory = self.network.decoder(values[:, :, :1])
            parts.append(still)
            carry = {**_flat(memory), _WAITING: torch.zeros_like(values[:, :, :1]), _ODD: _false(values)}
            values = values[:, :, 1:]
        for index in range(values.shape[2]):
            part, carry = self._one(values[:, :, index : index + 1], carry)
            parts.append(part)
        return self._frames(torch.cat(parts, dim=2)), carry

    def _one(self, value: Tensor, carry: Carry) -> tuple[Tensor, dict[str, Tensor]]:
        """One latent frame (b, C, 1, h, w) of rows that may each have, or not have, a frame that waits for its pair."""
        odd = carry[_ODD]
        rows = odd[:, None, None, None, None]
        before = {name: kept for name, kept in carry.items() if name not in (_WAITING, _ODD)}
        pair = torch.cat([torch.where(rows, carry[_WAITING], value), value], dim=2)
        pixels, after = self.network.decoder(pair, conv_cache=_nested(before))
        shown = torch.where(rows, pixels[:, :, -FRAMES:], pixels[:, :, :FRAMES])
        memory = {name: torch.where(rows, new, before[name]) for name, new in _flat(after).items()}
        return shown, {**memory, _WAITING: value, _ODD: ~odd}

    def _unscaled(self, latents: Tensor) -> Tensor:
        return latents.to(self._device, self._dtype).permute(0, 2, 1, 3, 4) / self._scale

    @staticmethod
    def _frames(pixels: Tensor) -> Tensor:
        return to_bytes(pixels.permute(0, 2, 3, 4, 1))

    @property
    def _device(self) -> torch.device:
        device: torch.device = next(self.network.parameters()).device
        return device

    @property
    def _dtype(self) -> torch.dtype:
        dtype: torch.dtype = next(self.network.parameters()).dtype
        return dtype


def _false(like: Tensor) -> Tensor:
    return torch.zeros(len(like), dtype=torch.bool, device=like.device)


def _flat(memory: Mapping[str, Any], prefix: str = "") -> dict[str, Tensor]:
    """Nested tables of tensors as one table, names joined by slashes."""
    flat: dict[str, Tensor] = {}
    for name, value in memory.items():
        if isinstance(value, Tensor):
            flat[prefix + name] = value
        elif value is not None:
            flat |= _flat(value, f"{prefix}{name}{_SLASH}")
    return flat


def _nested(flat: Mapping[str, Tensor]) -> dict[str, Any]:
    """The inverse of `_flat`."""
    nested: dict[str, Any] = {}
    for path, value in flat.items():
        *folders, name = path.split(_SLASH)
        here = nested
        for folder in folders:
            here = here.setdefault(folder, {})
        here[name] = value
    return nested
