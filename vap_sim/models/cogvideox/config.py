"""What kind of CogVideoX: its sizes as a checked record, the published ones by name, and a tiny one for tests."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from vap_sim.errors import InvalidInput, UnknownName, Unsupported
from vap_sim.models.cogvideox.stock import stock

TRANSFORMER = "CogVideoXTransformer3DModel"
CODEC = "AutoencoderKLCogVideoX"

# Published values: every one that differs from the defaults of diffusers, and those a reader looks for.
_WIDE = {"num_attention_heads": 48, "num_layers": 42, "use_rotary_positional_embeddings": True}
_FULL: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "2b": {"num_attention_heads": 30, "num_layers": 30, "in_channels": 16},
        "5b": {**_WIDE, "in_channels": 16},
        "5b-i2v": {**_WIDE, "in_channels": 32, "use_learned_positional_embeddings": True},
    }
)
_SCALING = {"2b": 1.15258426}
_COUNTS = {
    "num_attention_heads": 1024, "attention_head_dim": 1024, "in_channels": 4096, "out_channels": 4096,
    "time_embed_dim": 65536, "text_embed_dim": 65536, "num_layers": 512, "sample_width": 4096, "sample_height": 4096,
    "sample_frames": 4096, "patch_size": 64, "temporal_compression_ratio": 64, "max_text_seq_length": 65536,
}  # fmt: skip
"""Whole numbers of a config and the largest that is believed: a hostile file shall not make us build for hours."""


@dataclass(frozen=True)
class ModelConfig:
    """The sizes of one CogVideoX. Raises InvalidInput for values that make no model, Unsupported for version 1.5.

    transformer: the values of diffusers' `CogVideoXTransformer3DModel`, those left out filled with its defaults; vae,
    scheduler: the values of `AutoencoderKLCogVideoX` and of the noise schedule, as far as they were given.
    """

    transformer: Mapping[str, Any]
    vae: Mapping[str, Any] = field(default_factory=dict)
    scheduler: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = _defaults(getattr(stock("diffusers"), TRANSFORMER))
        for name in self.transformer:
            if name not in known and not name.startswith("_"):
                raise UnknownName("value of a CogVideoX transformer's config", name, known)
        given = {name: value for name, value in self.transformer.items() if not name.startswith("_")}
        object.__setattr__(self, "transformer", MappingProxyType({**known, **given}))
        object.__setattr__(self, "vae", MappingProxyType(dict(self.vae)))
        object.__setattr__(self, "scheduler", MappingProxyType(dict(self.scheduler)))
        self._check()

    def __reduce__(self) -> tuple[type[ModelConfig], tuple[dict[str, Any], ...]]:
        return ModelConfig, (dict(self.transformer), dict(self.vae), dict(self.scheduler))  # proxies cannot be pickled

    def _check(self) -> None:
        values = self.transformer
        if values["patch_size_t"] is not None or values["ofs_embed_dim"] is not None:
            given = f"patch_size_t {values['patch_size_t']!r} and ofs_embed_dim {values['ofs_embed_dim']!r}"
            raise Unsupported(f"CogVideoX 1.5 ({given}): this package runs CogVideoX 1.0, that is 2B, 5B and 5B-I2V")
        for name, most in _COUNTS.items():
            value = values[name]
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
                raise InvalidInput(
                    f"{name} of a CogVideoX transformer", repr(value), f"a whole number from 1 to {most}"
                )
        if self.learned and not self.rotary:
            raise InvalidInput(
                "positions of a CogVideoX transformer",
                "learned without rotary",
                "rotary, learned and rotary, or neither",
            )
        if self.condition_channels < 0:
            raise InvalidInput("in_channels", self.in_channels, f"at least out_channels, {self.latent_channels}")
        if values["sample_height"] % self.patch or values["sample_width"] % self.patch:
            native = (values["sample_height"], values["sample_width"])
            raise InvalidInput("native latent size (h, w)", native, f"multiples of the patch size {self.patch}")
        if self.head_width % 16 or self.width % 16:
            raise InvalidInput("attention_head_dim", self.head_width, "a multiple of 16, for three rotary axes")
        own = self.vae.get("latent_channels", self.latent_channels)
        if own != self.latent_channels:
            raise InvalidInput(
                "latent_channels of the codec", own, f"out_channels of the transformer, {self.latent_channels}"
            )

    @property
    def heads(self) -> int:
        """Attention heads of a block."""
        return int(self.transformer["num_attention_heads"])

    @property
    def head_width(self) -> int:
        """Channels of one head."""
        return int(self.transformer["attention_head_dim"])

    @property
    def width(self) -> int:
        """Channels of a token, D."""
        return self.heads * self.head_width

    @property
    def blocks(self) -> int:
        """Number of transformer blocks."""
        return int(self.transformer["num_layers"])

    @property
    def in_channels(self) -> int:
        """Channels of what goes in: noisy latents, then condition channels."""
        return int(self.transformer["in_channels"])

    @property
    def latent_channels(self) -> int:
        """Channels of a latent frame and of the prediction, C."""
        return int(self.transformer["out_channels"])

    @property
    def condition_channels(self) -> int:
        """Channels beside the noisy latents: those of the first frame's latents for image-to-video, else 0."""
        return self.in_channels - self.latent_channels

    @property
    def patch(self) -> int:
        """Side of a patch [latent pixels]; one patch is one token."""
        return int(self.transformer["patch_size"])

    @property
    def text_length(self) -> int:
        """Text tokens a caption is padded to, L."""
        return int(self.transformer["max_text_seq_length"])

    @property
    def text_width(self) -> int:
        """Channels of a text embedding."""
        return int(self.transformer["text_embed_dim"])

    @property
    def time_width(self) -> int:
        """Channels of an embedded noise level, E."""
        return int(self.transformer["time_embed_dim"])

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens of a frame of the native size."""
        return self.transformer["sample_height"] // self.patch, self.transformer["sample_width"] // self.patch

    @property
    def frames(self) -> int:
        """Latent frames of a clip of the native length."""
        return int((self.transformer["sample_frames"] - 1) // self.transformer["temporal_compression_ratio"] + 1)

    @property
    def rotary(self) -> bool:
        """Whether attention rotates queries and keys by position."""
        return bool(self.transformer["use_rotary_positional_embeddings"])

    @property
    def learned(self) -> bool:
        """Whether a learned table of positions is added to the tokens (else sines, where not rotary)."""
        return bool(self.transformer["use_learned_positional_embeddings"])


def full_config_names() -> tuple[str, ...]:
    """The published models that `full_config` knows."""
    return tuple(_FULL)


def full_config(name: str) -> ModelConfig:
    """The sizes of a published model: "2b", "5b" or "5b-i2v". Raises UnknownName, and Unsupported for version 1.5."""
    if name.startswith("1.5"):
        raise Unsupported(f"CogVideoX {name}: version 1.5 packs two latent frames a token; known: {list(_FULL)}")
    if name not in _FULL:
        raise UnknownName("CogVideoX model", name, _FULL)
    return ModelConfig(_FULL[name], vae={"scaling_factor": _SCALING.get(name, 0.7), "latent_channels": 16})


def tiny_config(
    *,
    latent_channels: int = 16,
    blocks: int = 6,
    heads: int = 4,
    head_width: int = 16,
    size: tuple[int, int] = (8, 8),
    frames: int = 5,
    text_length: int = 16,
    text_width: int = 32,
    image: bool = True,
) -> ModelConfig:
    """A CogVideoX of a few hundred thousand parameters with every part of the large one.

    size: native latent (rows, columns); frames: native latent frames; image: with the condition channels and learned
    positions of image-to-video.
    """
    return ModelConfig(
        {
            "num_attention_heads": heads, "attention_head_dim": head_width, "num_layers": blocks,
            "in_channels": latent_channels * (2 if image else 1), "out_channels": latent_channels,
            "time_embed_dim": 64, "text_embed_dim": text_width, "max_text_seq_length": text_length,
            "sample_height": size[0], "sample_width": size[1], "sample_frames": 4 * (frames - 1) + 1,
            "use_rotary_positional_embeddings": True, "use_learned_positional_embeddings": image,
        },
        vae={"latent_channels": latent_channels},
    )  # fmt: skip


def build_transformer(
    config: ModelConfig, *, device: str = "cpu", dtype: torch.dtype | None = None, seed: int = 0
) -> Any:
    """diffusers' `CogVideoXTransformer3DModel` of these sizes with random weights, in evaluation mode.

    device: "meta" allocates nothing, for counting and checking; seed: decides the weights; the global generator is left
    as it was.
    """
    kind = getattr(stock("diffusers"), TRANSFORMER)
    # The modules draw their first weights from the global generator, so it is set for them and put back.
    devices = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.device(device):
        torch.default_generator.manual_seed(seed)
        for one in devices:
            with torch.cuda.device(one):
                torch.cuda.manual_seed(seed)
        transformer = kind(**config.transformer).eval()
    return transformer if dtype is None else transformer.to(dtype)


def parameter_count(module: nn.Module) -> int:
    """Trainable and frozen numbers of a module, shared ones once; buffers are none."""
    return sum(value.numel() for value in module.parameters())


def _defaults(kind: Any) -> dict[str, Any]:
    parameters = inspect.signature(kind.__init__).parameters
    return {name: value.default for name, value in parameters.items() if value.default is not value.empty}
