"""The control encoder packs like the codec, never looks ahead, and goes on where it stopped."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.codec import TinyCodec
from vap_sim.models.cogvideox.config import parameter_count
from vap_sim.models.cogvideox.control_encoder import HISTORY, ControlEncoder

CHANNELS, WIDTH = 3, 8


@pytest.fixture(scope="module")
def encoder() -> ControlEncoder:
    """Do not change it."""
    return ControlEncoder(CHANNELS, WIDTH).eval().requires_grad_(False)


def drawn(frames: int, rows: int = 2, size: tuple[int, int] = (16, 24), seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, frames, *size, 3), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("frames", [1, 5, 13])
def test_it_packs_as_the_codec_does(encoder: ControlEncoder, frames: int) -> None:
    out, _ = encoder(drawn(frames))
    packed = TinyCodec(CHANNELS).encode(drawn(frames))
    assert out.shape == packed.shape
    assert out.isfinite().all()


@pytest.mark.parametrize("frame", [0, 1, 4, 5, 8])
def test_a_latent_frame_depends_on_its_own_frames_and_earlier_ones_alone(encoder: ControlEncoder, frame: int) -> None:
    """A changed pixel frame changes the latent frame that packs it, and none before that."""
    frames = drawn(9)
    changed = frames.clone()
    changed[:, frame] = 255 - changed[:, frame]
    before, after = encoder(frames)[0], encoder(changed)[0]
    own = -(-frame // 4)
    differs = (before - after).abs().amax(dim=(0, 2, 3, 4))
    assert not differs[:own].any()
    assert differs[own] > 1e-4


@pytest.mark.parametrize("parts", [(1, 4, 4, 4), (5, 8), (1, 12)], ids=str)
def test_streaming_equals_the_whole(encoder: ControlEncoder, parts: tuple[int, ...]) -> None:
    frames, start, carry, pieces = drawn(13), 0, None, []
    for count in parts:
        piece, carry = encoder(frames[:, start : start + count], carry)
        pieces.append(piece)
        start += count
    assert torch.allclose(torch.cat(pieces, dim=1), encoder(frames)[0], atol=1e-5)


def test_a_window_long_enough_equals_the_whole(encoder: ControlEncoder) -> None:
    """And one frame less does not: HISTORY is what the layers look back."""
    frames = drawn(4 * (HISTORY + 2) + 1)
    newest = encoder(frames)[0][:, -1]
    enough, short = (encoder(frames[:, -1 - 4 * count :])[0][:, -1] for count in (HISTORY, HISTORY - 1))
    assert torch.allclose(enough, newest, atol=1e-5)
    assert not torch.allclose(short, newest, rtol=0, atol=1e-6)


def test_rows_do_not_leak_and_rows_of_a_carry_can_be_chosen(encoder: ControlEncoder) -> None:
    frames = drawn(5)
    both, carry = encoder(frames)
    alone, own = encoder(frames[1:])
    # How libraries group their sums for two rows is the processor's affair.
    assert torch.allclose(both[1:], alone, atol=1e-5)
    assert all(torch.allclose(carry[name][1:], own[name], atol=1e-5) for name in own)
    loud = frames.clone()
    loud[0] = 255
    assert torch.equal(encoder(loud)[0][1], both[1])


def test_what_stands_still_does_so_from_the_first_frame(encoder: ControlEncoder) -> None:
    """The clip's start is no event: before it stands the first frame."""
    out, _ = encoder(drawn(1).expand(-1, 9, -1, -1, -1))
    assert torch.allclose(out, out[:, :1].expand_as(out), atol=1e-5)


def test_first_weights_follow_the_seed_and_leave_the_global_generator() -> None:
    state = torch.random.get_rng_state()
    one, same, other = ControlEncoder(3, 8, seed=1), ControlEncoder(3, 8, seed=1), ControlEncoder(3, 8, seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(one.leave.weight, same.leave.weight)
    assert not torch.equal(one.leave.weight, other.leave.weight)


def test_at_full_size_it_is_small() -> None:
    encoder = ControlEncoder().to("meta")
    out, carry = encoder(torch.empty(1, 49, 480, 720, 3, dtype=torch.uint8, device="meta"))
    assert out.shape == (1, 13, 48, 60, 90)
    convolutions = (192 + 5 * 128) * 128 * 27 + 6 * 128
    assert parameter_count(encoder) == convolutions + 4 * 2 * 128 + 128 * 48 + 48
    frames = [value.shape[1] * value.shape[2] for value in carry.values()]
    assert sum(frames) == 2 * 192 + 8 * 128, "of a latent frame's size"


@pytest.mark.parametrize(
    ("frames", "carried", "message"),
    [
        (drawn(4), False, r"pixel frames at the start of a clip: given 4, expected 1 \+ 4 k"),
        (drawn(5), True, "pixel frames that go on from a carry: given 5, expected 4 k"),
        (drawn(1)[:, :0], True, "given 0, expected 4 k"),
        (drawn(1).float(), False, "drawn frames: given torch.float32"),
        (drawn(1)[..., 0], False, r"expected torch.uint8 \(b, F, H, W, 3\)"),
        (drawn(1, size=(16, 20)), False, r"size \(H, W\) of drawn frames: given \(16, 20\), expected multiples of 8"),
        (drawn(4, rows=1), True, r"'enter' of a control encoder's carry: given \(2, 192, 2, 2, 3\), expected \(1,"),
    ],
)
def test_bad_frames_are_named(encoder: ControlEncoder, frames: Tensor, carried: bool, message: str) -> None:
    carry = encoder(drawn(1))[1] if carried else None
    with pytest.raises(InvalidInput, match=message):
        encoder(frames, carry)


def test_bad_sizes_and_carries_are_named(encoder: ControlEncoder) -> None:
    with pytest.raises(InvalidInput, match=r"channels and width of a control encoder: given \(0, 8\)"):
        ControlEncoder(0, 8)
    with pytest.raises(InvalidInput, match="'enter' of a control encoder's carry: given missing"):
        encoder(drawn(4), {})
