"""Rotary and added tables against diffusers' own, and at sizes and lengths where diffusers has none or another."""

from __future__ import annotations

import pytest
import torch

from tests.models.cogvideox.conftest import draw, small_config, stock_rotary
from vap_sim.errors import InvalidInput
from vap_sim.models.cogvideox.config import full_config
from vap_sim.models.cogvideox.positions import position_table, rotary_table, rotate, token_grid


@pytest.mark.parametrize("size", [(60, 90), (40, 24), (24, 40), (2, 90)])
def test_rotary_table_has_the_bits_of_diffusers(size: tuple[int, int]) -> None:
    config = full_config("5b")
    for frames in (1, 7, 13, 50):
        expected = stock_rotary(config, size, frames)
        table = rotary_table(config, size, range(frames))
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(table, expected, strict=True))


def test_rotary_splits_a_head_into_time_rows_columns() -> None:
    """16 of 64 channels turn with time, 24 with the row, 24 with the column."""
    cosines, sines = rotary_table(full_config("5b"), (60, 90), [-13, 4])
    angle = torch.atan2(sines, cosines).reshape(2, 30, 45, 64)
    for part, axis in ((angle[..., :16], 0), (angle[..., 16:40], 1), (angle[..., 40:], 2)):
        others = [one for one in range(3) if one != axis]
        assert torch.equal(part, part.amax(dim=others, keepdim=True).expand_as(part))
    times = torch.tensor([-13.0, 4.0])
    assert torch.allclose(angle[:, 0, 0, 0], torch.atan2(times.sin(), times.cos()), atol=1e-5)


def test_rotate_is_diffusers_rotation() -> None:
    from diffusers.models.embeddings import apply_rotary_emb

    table = rotary_table(full_config("5b"), (4, 6), [0, 5])
    for dtype in (torch.float32, torch.bfloat16):
        values = draw(2, 3, 12, 64).to(dtype)
        assert torch.equal(rotate(values, table), apply_rotary_emb(values, table))
    lengths = rotate(draw(2, 3, 12, 64), table).norm(dim=-1)
    assert torch.allclose(lengths, draw(2, 3, 12, 64).norm(dim=-1), atol=1e-5)


def test_rotary_table_made_in_inference_serves_training() -> None:
    config = small_config("5b")
    with torch.inference_mode():
        table = rotary_table(config, (6, 10), [40, 41])
    values = draw(1, 2, 30, 16).requires_grad_()
    rotate(values, table).sum().backward()
    assert values.grad is not None


def test_learned_table_is_cut_and_picked() -> None:
    config = small_config()
    table = draw(1, 5 + 4 * 24, 32)
    text, video = position_table(config, table, (8, 12), [0, 1], 3)
    assert torch.equal(text, table[0, :3])
    assert torch.equal(video, table[0, 5 : 5 + 48])
    assert torch.equal(position_table(config, table, (8, 12), [3, 3], 0)[1][:24], table[0, -24:])


def test_learned_table_is_interpolated_for_another_size() -> None:
    """A plane that is the same everywhere stays so; one that rises evenly along the rows still does, inside."""
    config = small_config()
    table = torch.full((1, 5 + 4 * 24, 32), 7.0)
    assert torch.allclose(position_table(config, table, (16, 16), [0], 5)[1], torch.tensor(7.0), atol=1e-5)
    table[0, 5:] = torch.arange(6.0).repeat(16)[:, None]
    video = position_table(config, table, (8, 24), [0], 5)[1].reshape(4, 12, 32)
    assert video.shape == (4, 12, 32)
    steps = video[:, 3:9].diff(dim=1)
    assert 0.4 < steps.min() < 0.5 < steps.max() < 0.6


def test_sines_are_those_of_diffusers_and_go_on() -> None:
    from diffusers.models.embeddings import CogVideoXPatchEmbed

    config = small_config("2b")
    part = CogVideoXPatchEmbed(embed_dim=32, text_embed_dim=8, in_channels=4, max_text_seq_length=5)
    expected = part._get_positional_embeddings(6, 10, 4 * 7 + 1)
    text, video = position_table(config, None, (6, 10), range(8), 5)
    assert torch.equal(torch.cat([text, video])[None].float(), expected.float())
    late = position_table(config, None, (6, 10), [6, 7], 5)[1]
    assert torch.equal(late, video[-30:])
    assert position_table(small_config("5b"), None, (6, 10), [0], 5) is None


def test_bad_positions_are_named() -> None:
    with pytest.raises(InvalidInput, match=r"latent size \(h, w\): given \(5, 4\), expected positive multiples of"):
        token_grid(small_config(), (5, 4))
    with pytest.raises(InvalidInput, match="time index -1, expected 0 to any, those of the table of sines"):
        position_table(small_config("2b"), None, (8, 12), [-1], 5)
    with pytest.raises(InvalidInput, match="learned positions: given none"):
        position_table(small_config(), None, (8, 12), [0], 5)
