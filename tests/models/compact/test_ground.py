"""What a camera that moves sees of the table: the same table."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.models.compact.two_views import cameras, projections
from vap_sim.models.compact.geometry import Floats, on_level
from vap_sim.models.compact.ground import plate_now
from vap_sim.robots.camera import Camera

SIZE = 64
SKY = 0.9


def matrices(views: tuple[Camera, ...]) -> Floats:
    return projections(views).double().numpy()


def painted(projection: Floats) -> Tensor:
    """(3, H, W): a smooth pattern on the table, grey where no table is."""
    out = torch.full((3, SIZE, SIZE), SKY)
    for y in range(SIZE):
        for x in range(SIZE):
            point = on_level(projection, np.array([x, y], float), 0.0)
            if point is not None and np.abs(point).max() < 3:
                out[:, y, x] = torch.tensor([0.5 + 0.3 * np.sin(4 * point[0]), 0.5 + 0.3 * np.cos(5 * point[1]), 0.4])
    return out


def moved(eye: tuple[float, float, float], target: tuple[float, float, float] = (0.45, 0.0, 0.0)) -> Camera:
    return Camera.look_at("moved", eye, target, size=(SIZE, SIZE), focal_px=1.4 * SIZE)


@pytest.fixture
def first() -> Floats:
    return matrices(cameras(2, SIZE))


@pytest.fixture
def plates(first: Floats) -> Tensor:
    return torch.stack([painted(one) for one in first])


@pytest.fixture
def bare() -> Tensor:
    return torch.ones(2, 1, SIZE, SIZE)


def test_from_where_it_stood_it_sees_what_it_saw(plates: Tensor, bare: Tensor, first: Floats) -> None:
    for view in range(2):
        assert torch.allclose(plate_now(plates, bare, first, first[view], view, 0.0)[0], plates[view], atol=1e-3)


def test_from_elsewhere_it_sees_the_same_table(plates: Tensor, bare: Tensor, first: Floats) -> None:
    now = matrices((moved((1.05, 0.5, 0.6)),))[0]
    seen, true = plate_now(plates, bare, first, now, 0, 0.0)[0], painted(now)
    assert float((seen - true).abs().mean()) < 0.01
    still = (plates[0] - true).abs().mean()  # what not moving at all would show
    assert float(still) > 0.05


def test_what_it_never_saw_it_takes_from_the_other_view(plates: Tensor, bare: Tensor, first: Floats) -> None:
    now = first[1]
    mine = plate_now(plates, bare, first, now, 0, 0.0)[0]
    assert float((mine - plates[1]).abs().mean()) < 0.02
    alone = plate_now(plates[:1], bare[:1], first[:1], now, 0, 0.0)[0]
    assert float((alone - plates[1]).abs().mean()) > 2 * float((mine - plates[1]).abs().mean())


def test_what_was_hidden_is_taken_from_where_it_was_bare(plates: Tensor, bare: Tensor, first: Floats) -> None:
    dirty, hidden = plates.clone(), bare.clone()
    dirty[0, :, 24:40, 24:40], hidden[0, :, 24:40, 24:40] = 0.0, 0.0
    seen = plate_now(dirty, hidden, first, first[0], 0, 0.0)[0]
    assert float((seen - plates[0]).abs()[:, 26:38, 26:38].mean()) < 0.05
    alone = plate_now(dirty[:1], hidden[:1], first[:1], first[0], 0, 0.0)[0]
    assert torch.allclose(alone, dirty[0], atol=1e-3)  # a guess is better than none


def test_above_the_horizon_it_sees_what_lay_in_that_direction() -> None:
    level = Camera.look_at("level", (1.0, 0.0, 0.3), (0.0, 0.0, 0.3), size=(SIZE, SIZE), focal_px=60.0)
    first = matrices((level,))
    plate = torch.zeros(1, 3, SIZE, SIZE)
    plate[:, :, : SIZE // 2] = torch.linspace(0.2, 0.8, SIZE)  # a wall that brightens to the right
    turn = torch.eye(4)
    angle = 0.1
    turn[0, 0], turn[0, 2], turn[2, 0], turn[2, 2] = np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)
    turned = Camera("turned", level.intrinsics, level.T_parent_camera @ turn, None, level.size)
    seen = plate_now(plate, torch.ones(1, 1, SIZE, SIZE), first, matrices((turned,))[0], 0, 0.0)[0, 0, 5]
    shift = 60 * np.tan(angle)
    middle = 0.2 + 0.6 * (31.5 + shift) / (SIZE - 1)
    assert abs(float(seen[31:33].mean()) - middle) < 0.01
    assert float(seen.min()) >= 0.19 and float(seen.max()) <= 0.81


@pytest.mark.parametrize(
    ("eye", "target"),
    [((-1.0, 2.0, 0.2), (-3.0, 5.0, 0.3)), ((0.45, 0.0, 0.5), (0.46, 0.0, 3.0)), ((1.3, 0.6, 0.4), (0.2, 1.2, 0.2))],
    ids=["elsewhere on the table", "up, where no picture looked", "a fourth of it seen"],
)
def test_no_pixel_has_a_colour_that_nobody_saw(
    plates: Tensor, bare: Tensor, first: Floats, eye: tuple[float, ...], target: tuple[float, ...]
) -> None:
    """What no picture shows is made of what they show, so it is no darker and no brighter than all of that."""
    seen = plate_now(plates, bare, first, matrices((moved(eye, target),))[0], 0, 0.0)[0]
    for channel in range(3):
        least, most = plates[:, channel].aminmax()
        assert float(least) - 1e-5 <= float(seen[channel].min()) and float(seen[channel].max()) <= float(most) + 1e-5


def test_far_from_all_that_is_known_it_sees_what_is_usual() -> None:
    """Turned to where no picture was taken, down to the table or up and away: the mean of each, never black."""
    cameras_of = [
        Camera.look_at("level", (1.0, 0.0, 0.3), (0.0, 0.0, 0.3), size=(SIZE, SIZE), focal_px=60.0),
        moved((0.45, 9.5, 0.5), (0.45, 9.6, 0.0)),
        moved((0.45, 0.0, 0.5), (0.46, 0.0, 3.0)),
    ]
    first, down, up = matrices(tuple(cameras_of))
    plates, bare = painted(first)[None], torch.ones(1, 1, SIZE, SIZE)
    seen = plate_now(plates, bare, first[None], down, 0, 0.0)[0]
    table = plates[0, :, plates[0, 2] != SKY].mean(1)
    assert (seen.mean((1, 2)) - table).abs().max() < 0.1
    assert (plate_now(plates, bare, first[None], up, 0, 0.0) - SKY).abs().max() < 0.1
