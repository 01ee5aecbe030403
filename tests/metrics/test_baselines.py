"""The codec's ceiling: what comes out is what the codec shows, and nothing else."""

import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.metrics.baselines import codec_round_trip
from vap_sim.metrics.fidelity import psnr


class Halving:
    """Keeps the upper bits of every level; `drop` loses as many frames at the end."""

    def __init__(self, keep: int, drop: int = 0) -> None:
        self.keep, self.drop = keep, drop

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        assert not torch.is_grad_enabled()
        return frames >> (8 - self.keep)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return (latents << (8 - self.keep))[:, : latents.shape[1] - self.drop]


FRAMES = torch.randint(0, 256, (2, 4, 6, 8, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_a_lossless_codec_gives_the_truth_and_a_coarser_one_less_of_it() -> None:
    assert torch.equal(codec_round_trip(Halving(8), FRAMES), FRAMES)
    values = [psnr(generated=codec_round_trip(Halving(keep), FRAMES), truth=FRAMES).mean() for keep in (7, 5, 3, 1)]
    assert values == sorted(values, reverse=True)


def test_clips_go_alone_as_together() -> None:
    together = codec_round_trip(Halving(3), FRAMES)
    assert torch.equal(codec_round_trip(Halving(3), FRAMES[1:]), together[1:])


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"frames: given torch.float32"):
        codec_round_trip(Halving(8), FRAMES.float())
    with pytest.raises(InvalidInput, match=r"frames from the codec: given torch.uint8 \(2, 3, 6, 8, 3\), expected"):
        codec_round_trip(Halving(8, drop=1), FRAMES)
