"""What CogVideoX weighs: parameters and bytes of every part, and of the keys and values that a stream keeps a frame.

Nothing is measured and nothing allocated: networks are built without memory and their numbers counted. Prints the
tables of docs/cogvideox.md.

    python benchmarks/cogvideox_sizes.py
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from vap_sim.models.cogvideox.backbone import Backbone
from vap_sim.models.cogvideox.codec import SIDE
from vap_sim.models.cogvideox.config import CODEC, ModelConfig, build_transformer, full_config, parameter_count
from vap_sim.models.cogvideox.lora import Lora, lora_parameters
from vap_sim.models.cogvideox.skeleton_control import SkeletonControl
from vap_sim.models.cogvideox.stock import stock

NAMES = {"2b": "2B", "5b": "5B", "5b-i2v": "5B-I2V"}
PICTURES = ((320, 192), (720, 480))
RANK = 64
# The encoder of T5 v1.1 XXL, which the published folders hold.
T5 = {
    "vocab_size": 32128, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
}  # fmt: skip


def backbone_of(config: ModelConfig) -> Backbone:
    """A backbone without memory."""
    return Backbone(build_transformer(config, device="meta"))


def text_encoder_parameters() -> int:
    """Numbers of the T5 encoder."""
    transformers = stock("transformers")
    with torch.device("meta"):
        return parameter_count(transformers.T5EncoderModel(transformers.T5Config(**T5)))


def codec_parameters() -> int:
    """Numbers of the causal 3-D codec, encoder and decoder."""
    with torch.device("meta"):
        return parameter_count(getattr(stock("diffusers"), CODEC)())


def lora_count(config: ModelConfig, rank: int = RANK) -> int:
    """Numbers that LoRA of a rank adds to the frozen backbone."""
    backbone = backbone_of(config)
    Lora(rank=rank, alpha=float(rank)).install(backbone)
    return sum(value.numel() for value in lora_parameters(backbone).values())


def parts() -> Iterator[tuple[str, int]]:
    """Every part by name, and its parameters."""
    for key, name in NAMES.items():
        backbone = backbone_of(full_config(key))
        yield f"transformer {name}", parameter_count(backbone)
        yield (
            f"control branch for {name}, {-(-backbone.config.blocks // 3)} blocks",
            parameter_count(SkeletonControl(backbone)),
        )
        yield f"LoRA of rank {RANK} for {name}", lora_count(full_config(key))
    yield "codec (causal 3-D VAE)", codec_parameters()
    yield "text encoder (T5 v1.1 XXL)", text_encoder_parameters()


def frame_bytes(config: ModelConfig, size: tuple[int, int], *, control: bool, item: int = 2) -> int:
    """Bytes of keys and values of one latent frame, which is four pictures of `size` (width, height), for one dream.

    control: with those of a control branch; item: bytes of a number, 2 for bfloat16.
    """
    tokens = size[0] * size[1] // (SIDE * config.patch) ** 2
    blocks = config.blocks + (-(-config.blocks // 3) if control else 0)
    return 2 * blocks * tokens * config.width * item


def rows() -> list[str]:
    """The lines of both tables."""
    lines = ["| part | parameters | float32 | bfloat16 |", "| --- | --- | --- | --- |"]
    lines += [f"| {name} | {count / 1e6:,.1f} M | {giga(4 * count)} | {giga(2 * count)} |" for name, count in parts()]
    heads = " | ".join(f"{width} x {height}" for width, height in PICTURES)
    lines += ["", f"| keys and values of a latent frame, bfloat16 | {heads} |", "| --- |" + " --- |" * len(PICTURES)]
    for key, name in NAMES.items():
        for control in (False, True):
            sizes = [f"{frame_bytes(full_config(key), size, control=control) / 2**20:.1f} MiB" for size in PICTURES]
            lines.append(f"| {name}{' with control branch' if control else ''} | {' | '.join(sizes)} |")
    return lines


def giga(count: int) -> str:
    """Bytes in GiB, to be read by people."""
    return f"{count / 2**30:.2f} GiB"


def main() -> None:
    print("\n".join(rows()))


if __name__ == "__main__":
    main()
