"""Windows by law: exact crops at whole pixels, the same for whatever moves along, frames as exact mirrors and turns."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from vap_sim.models.compact.slots import PATCH, place
from vap_sim.models.compact.windows import OVERVIEW, WINDOW, look, look_at_patch, offsets, overview

MIRROR = ((-1.0, 0.0), (0.0, 1.0))
QUARTER = ((0.0, -1.0), (1.0, 0.0))
"""Takes (1, 0) of the window to (0, 1) of the picture: what lies below the centre is seen at its right."""


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def near(one: Tensor, other: Tensor) -> None:
    assert one.shape == other.shape
    torch.testing.assert_close(one, other, rtol=0, atol=2e-4)


def through(frame: tuple[tuple[float, float], tuple[float, float]], count: int = 1) -> Tensor:
    return torch.tensor(frame).expand(count, 2, 2)


def seen(picture: Tensor, frame: tuple[tuple[float, float], tuple[float, float]]) -> Tensor:
    """A square picture as a whole, through an exact frame."""
    return picture.flip(-1) if frame == MIRROR else torch.rot90(picture, 1, (-2, -1))


def seen_at(centre: Tensor, frame: tuple[tuple[float, float], tuple[float, float]], size: int) -> Tensor:
    middle = (size - 1) / 2
    inverse: Tensor = torch.linalg.inv(torch.tensor(frame))
    return (centre - middle) @ inverse.T + middle


def test_offsets_are_pixels_from_the_centre() -> None:
    away = offsets()
    assert away.shape == (1, WINDOW, WINDOW, 2)
    assert away[0, WINDOW // 2, WINDOW // 2].tolist() == [0, 0]
    assert away[0, WINDOW // 2 + 3, WINDOW // 2 - 5].tolist() == [-5, 3]


def test_frames_take_offsets_of_the_window_to_those_of_the_picture() -> None:
    frames = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0))
    away = offsets(frames)
    assert away.shape == (3, WINDOW, WINDOW, 2)
    for row in range(3):
        near(away[row, 7, 50], frames[row] @ offsets()[0, 7, 50])
    assert torch.equal(offsets(torch.eye(2)[None]), offsets())


@pytest.mark.parametrize("centre", [(40, 50), (0, 0), (95, 3), (-20, 60), (200, 10)])
def test_a_window_of_a_whole_pixel_centre_is_the_crop(centre: tuple[int, int]) -> None:
    picture = noise(1, 3, 80, 96)
    x, y = centre
    wide = F.pad(picture, (200, 200, 200, 200))
    rows, columns = (slice(middle + 200 - WINDOW // 2, middle + 200 + WINDOW // 2) for middle in (y, x))
    near(look(picture, torch.tensor([centre]).float(), offsets()), wide[..., rows, columns])


def test_between_pixels_a_window_is_what_lies_between_them() -> None:
    picture = noise(1, 2, 70, 70)
    left, right, between = (look(picture, torch.tensor([[x, 30.0]]), offsets()) for x in (30.0, 31.0, 30.25))
    near(between, 0.75 * left + 0.25 * right)


def test_a_picture_that_moves_along_is_seen_the_same() -> None:
    picture = F.pad(noise(1, 3, 40, 40), (60, 60, 60, 60))
    centre = torch.tensor([[77.3, 81.6]])
    moved = torch.roll(picture, (-9, 17), dims=(2, 3))
    near(look(moved, centre + torch.tensor([17.0, -9.0]), offsets()), look(picture, centre, offsets()))


@pytest.mark.parametrize("framed", [False, True])
def test_one_picture_for_all_equals_copies_of_it(framed: bool) -> None:
    picture, centre = noise(1, 4, 48, 64), noise(5, 2) * 60
    away = offsets(torch.randn(5, 2, 2, generator=torch.Generator().manual_seed(1))) if framed else offsets()
    windows = look(picture, centre, away)
    near(windows, look(picture.expand(5, -1, -1, -1), centre, away))
    for row in range(5):
        near(windows[row : row + 1], look(picture, centre[row : row + 1], away[row : row + 1] if framed else away))


@pytest.mark.parametrize("frame", [MIRROR, QUARTER])
def test_a_frame_shows_the_picture_mirrored_or_turned(frame: tuple[tuple[float, float], tuple[float, float]]) -> None:
    picture, centre = noise(2, 3, 64, 64), torch.tensor([[20.0, 41.0], [3.0, 60.0]])
    expected = look(seen(picture, frame), seen_at(centre, frame, 64), offsets())
    near(look(picture, centre, offsets(through(frame, 2))), expected)
    assert not torch.allclose(look(picture, centre, offsets()), expected, atol=0.1)


def test_a_zoom_of_two_shows_every_second_pixel() -> None:
    picture, centre = noise(1, 3, 65, 65), torch.tensor([[20.0, 42.0]])
    near(look(picture, centre, offsets(2 * torch.eye(2)[None])), look(picture[..., ::2, ::2], centre / 2, offsets()))


@pytest.mark.parametrize("turn", [(1.0, 0.0), (0.8, 0.5), (0.0, -1.4), (-0.3, 0.1)])
def test_a_cut_out_lies_in_its_window_as_it_is_placed_in_a_picture(turn: tuple[float, float]) -> None:
    patches, turns = noise(2, 4, PATCH, PATCH), torch.tensor([turn, (1.0, 0.0)])
    middle = torch.full((2, 2), WINDOW / 2)
    own = look_at_patch(patches, turns, offsets())
    near(own, place(patches, middle, turns, WINDOW))
    centre = torch.tensor([[60.0, 50.0], [11.0, 90.0]])
    inside = place(patches, centre, turns, 128)
    near(look(inside, centre, offsets())[:, :, 12:-12, 12:-12], own[:, :, 12:-12, 12:-12] * _within(centre))


def _within(centre: Tensor) -> Tensor:
    """Which pixels of windows (without a border of 12) lie in a picture of 128."""
    place = centre[:, None, None] + offsets()[:, 12:-12, 12:-12]
    return ((place >= 0) & (place <= 127)).all(-1)[:, None].float()


@pytest.mark.parametrize("frame", [MIRROR, QUARTER])
def test_cut_outs_are_seen_through_frames_like_the_picture_they_lie_in(
    frame: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    patches, turns, centre = noise(1, 1, PATCH, PATCH), torch.tensor([[0.6, 0.4]]), torch.tensor([[64.0, 60.0]])
    away = offsets(through(frame))
    near(look_at_patch(patches, turns, away), look(place(patches, centre, turns, 128), centre, away))


def test_an_overview_is_the_means_of_blocks() -> None:
    picture = noise(2, 3, 64, 64)
    coarse = overview(picture)
    assert coarse.shape == (2, 3, OVERVIEW, OVERVIEW)
    near(coarse[1, 2, 3, 5], picture[1, 2, 12:16, 20:24].mean())


@pytest.mark.parametrize("size", [32, 65, 128])
def test_an_overview_through_no_frame_is_the_plain_one(size: int) -> None:
    picture = noise(2, 3, size, size)
    near(overview(picture, torch.eye(2).expand(2, 2, 2)), overview(picture))


@pytest.mark.parametrize("frame", [MIRROR, QUARTER])
def test_an_overview_is_mirrored_and_turned_like_the_picture(
    frame: tuple[tuple[float, float], tuple[float, float]],
) -> None:
    picture = noise(2, 3, 64, 64)
    near(overview(picture, through(frame, 2)), overview(seen(picture, frame)))
    near(overview(picture, through(frame, 2)), seen(overview(picture), frame))


def test_an_overview_from_farther_away_leaves_the_edges_black() -> None:
    coarse = overview(torch.ones(1, 1, 64, 64), 2 * torch.eye(2)[None])
    near(coarse[..., 5:11, 5:11], torch.ones(1, 1, 6, 6))
    assert not coarse[..., :4, :].any() and not coarse[..., -4:].any()
