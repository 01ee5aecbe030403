"""Codecs by their laws: packing, orthonormal rows, causality, a clip decoded piece by piece, and bad input."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput, Unsupported
from vap_sim.models.cogvideox.codec import Codec, TinyCodec
from vap_sim.models.cogvideox.video_codec import VideoCodec


def clip(frames: int = 9, rows: int = 2, size: int = 16, seed: int = 0) -> Tensor:
    """Smooth moving pictures, so that a codec has something to keep."""
    phase = torch.rand(rows, 1, 1, 1, 3, generator=torch.Generator().manual_seed(seed)) * 6
    t, y, x = (torch.arange(n, dtype=torch.float32) for n in (frames, size, size))
    wave = torch.sin(phase + 0.05 * t[:, None, None, None] + 0.15 * y[:, None, None] + 0.1 * x[:, None])
    return ((wave + 1) * 127.5).round().to(torch.uint8)


def network(seed: int = 0, **options: object):
    diffusers = pytest.importorskip("diffusers")
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return diffusers.AutoencoderKLCogVideoX(
            block_out_channels=(4, 4, 4, 4), layers_per_block=1, norm_num_groups=2, latent_channels=4,
            sample_height=64, sample_width=64, scaling_factor=0.7, **options,
        )  # fmt: skip


CODECS = {"tiny": lambda: TinyCodec(12), "video": lambda: VideoCodec(network())}


@pytest.fixture(params=CODECS)
def codec(request: pytest.FixtureRequest) -> Codec:
    return CODECS[request.param]()


def test_every_codec_packs_four_by_eight_by_eight(codec: Codec) -> None:
    for count in (0, 1, 2, 3):
        latents = codec.encode(clip(1 + 4 * count))
        assert latents.shape == (2, 1 + count, codec.latent_channels, 2, 2)
        frames = codec.decode(latents)
        assert frames.shape == (2, 1 + 4 * count, 16, 16, 3)
        assert frames.dtype == torch.uint8


def test_every_codec_packs_the_first_frame_alone_and_looks_at_no_later_one(codec: Codec) -> None:
    """The learned codec normalises over eight frames (nine at the start here) and is causal from group to group."""
    whole = clip(17)
    latents = codec.encode(whole)
    changed = whole.clone()
    changed[:, 9:] = 255 - changed[:, 9:]
    again = codec.encode(changed)
    assert torch.allclose(again[:, :3], latents[:, :3], atol=1e-5)
    assert not torch.allclose(again[:, 3:], latents[:, 3:], atol=1e-3)
    if isinstance(codec, TinyCodec):
        for count in (1, 5, 9):
            assert torch.allclose(codec.encode(whole[:, :count]), latents[:, : 1 + count // 4], atol=1e-5)


def test_every_codec_keeps_rows_apart_and_repeats_itself(codec: Codec) -> None:
    latents = codec.encode(clip())
    assert torch.equal(codec.encode(clip()), latents)
    assert torch.allclose(codec.encode(clip()[1:]), latents[1:], atol=1e-5)
    difference = codec.decode(latents[1:]).int() - codec.decode(latents)[1:].int()
    assert difference.abs().max() <= 1


def test_tiny_rows_are_orthonormal() -> None:
    codec = TinyCodec(96)
    for basis in (codec.basis, codec.still_basis):
        assert torch.allclose(basis @ basis.T, torch.eye(96), atol=1e-5)
    assert codec.basis.shape == (96, 768)
    assert codec.still_basis.shape == (96, 192)


def test_tiny_with_all_channels_returns_a_still_exactly() -> None:
    codec = TinyCodec(192)
    noise = torch.randint(0, 256, (2, 1, 16, 24, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(codec.decode(codec.encode(noise)), noise)


def test_tiny_decode_then_encode_changes_nothing_but_rounding() -> None:
    """A projection: what the latents can say is said again."""
    codec = TinyCodec(24)
    latents = codec.encode(clip()) * 0.5
    assert torch.allclose(codec.encode(codec.decode(latents)), latents, atol=0.05)


def test_more_channels_are_never_worse() -> None:
    errors = [((TinyCodec(c).decode(TinyCodec(c).encode(clip())).float() - clip()).square().mean()) for c in (1, 6, 48)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < errors[0] / 5


def test_tiny_clip_standing_still_has_the_latents_of_its_frame() -> None:
    """In the channels that are constant over time; the others are nothing there."""
    codec = TinyCodec(48)
    still = clip(1).expand(-1, 9, -1, -1, -1)
    latents = codec.encode(still)
    cells = codec.basis.reshape(48, 4, -1)
    constant = (cells - cells[:, :1]).abs().amax(dim=(1, 2)) < 1e-6
    assert 10 < constant.sum() < 48
    assert torch.allclose(latents[:, 1, constant], latents[:, 0, constant], atol=1e-5)
    assert torch.allclose(latents[:, 1, ~constant], torch.tensor(0.0), atol=1e-5)
    assert torch.equal(latents[:, 1], latents[:, 2])


def test_tiny_streamed_equals_whole() -> None:
    codec = TinyCodec(12)
    latents = codec.encode(clip(17))
    whole = codec.decode(latents)
    frames, carry = codec.decode_next(latents[:, :1])
    parts = [frames]
    assert frames.shape[1] == 1
    for first, last in ((1, 2), (2, 4), (4, 5)):
        frames, carry = codec.decode_next(latents[:, first:last], carry)
        parts.append(frames)
    assert torch.equal(torch.cat(parts, dim=1), whole)


def test_video_streams_frame_by_frame_and_row_by_row() -> None:
    """The pieces do not matter; nor does it what other rows of the batch have behind them."""
    codec = VideoCodec(network())
    latents = codec.encode(clip(13))
    at_once, _ = codec.decode_next(latents)
    frames, carry = codec.decode_next(latents[:, :2])
    assert frames.shape[1] == 5
    assert all(len(value) == 2 for value in carry.values())
    third, carry = codec.decode_next(latents[:, 2:3], carry)
    assert torch.equal(torch.cat([frames, third], dim=1), at_once[:, :9])

    _, early = codec.decode_next(latents[:, :2])
    mixed = {name: torch.stack([early[name][0], carry[name][1]]) for name in carry}
    both, _ = codec.decode_next(torch.stack([latents[0, 2:3], latents[1, 3:4]]), mixed)
    assert (both[0].int() - third[0].int()).abs().max() <= 1
    assert (both[1].int() - at_once[1, 9:].int()).abs().max() <= 1
    # Against the whole clip at once: alike, but for the normalisation over a group of frames.
    assert (at_once[:, :1].int() - codec.decode(latents[:, :1]).int()).abs().max() <= 1


def test_video_scales_as_the_pipelines_do_and_tiles() -> None:
    codec, frames = VideoCodec(network()), clip(1, size=48)
    pixels = (frames.float() / 127.5 - 1).permute(0, 4, 1, 2, 3)
    mean = codec.network.encode(pixels).latent_dist.mode()
    assert torch.allclose(codec.encode(frames), 0.7 * mean.permute(0, 2, 1, 3, 4), atol=1e-6)
    tileable = network()
    # With diffusers' own overlap a picture this small is not a whole number of tiles.
    tileable.tile_overlap_factor_height = tileable.tile_overlap_factor_width = 0.25
    tiled = VideoCodec(tileable, tiling=True, slicing=True)
    assert tiled.network.use_tiling
    assert tiled.network.use_slicing
    assert tiled.decode(tiled.encode(frames)).shape == frames.shape
    half = VideoCodec(network().bfloat16())
    assert half.encode(frames).dtype == torch.bfloat16
    assert half.decode(half.encode(frames)).dtype == torch.uint8


def test_bad_frames_and_latents_are_named(codec: Codec) -> None:
    for frames in (clip(8), clip(9).float(), clip(1, size=12), clip(1)[..., :2]):
        with pytest.raises(InvalidInput, match=r"frames to encode: .* expected torch.uint8 \(b, 1 \+ 4 k, H, W, 3\)"):
            codec.encode(frames)
    latents = codec.encode(clip(1))
    for wrong in (latents[:, :, 1:], latents[:, :0], latents.int()):
        with pytest.raises(InvalidInput, match=r"latents to decode: .* expected floats \(b, n,"):
            codec.decode(wrong)
        with pytest.raises(InvalidInput, match="latents to decode"):
            codec.decode_next(wrong)


def test_bad_codecs_are_named() -> None:
    for channels in (0, 193, 2.5):
        with pytest.raises(InvalidInput, match=r"channels of TinyCodec: .* a whole number from 1 to 192"):
            TinyCodec(channels)
    with pytest.raises(Unsupported, match=r"CogVideoX 1.5"):
        VideoCodec(network(invert_scale_latents=True))
