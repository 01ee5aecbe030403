"""Points, pixels and planes: projection and its inverses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.models.compact.two_views import cameras, projections
from vap_sim.models.compact.geometry import (
    Floats,
    eyes_of,
    facing,
    likeness,
    meet,
    on_level,
    rays_of,
    responses,
    see,
)


@pytest.fixture
def seen() -> Floats:
    return projections(cameras(3)).double().numpy()


POINT = np.array([0.5, 0.1, 0.08])


def test_pixels_are_the_cameras(seen: Floats) -> None:
    for projection, camera in zip(seen, cameras(3), strict=True):
        xy, depth = camera.project(torch.tensor(POINT[None]).float())
        mine, deep = see(projection, POINT)
        assert np.allclose(mine, xy[0].numpy(), atol=1e-3) and np.isclose(deep, float(depth[0]), atol=1e-5)


def test_eyes_are_where_the_cameras_are(seen: Floats) -> None:
    """One by one and several at once; what they see there has no depth."""
    expected = [camera.T_parent_camera[:3, 3].numpy() for camera in cameras(3)]
    np.testing.assert_allclose(eyes_of(seen), expected, rtol=0, atol=1e-5)
    np.testing.assert_allclose(eyes_of(seen[None])[0, 1], eyes_of(seen[1]), rtol=0, atol=1e-12)
    np.testing.assert_allclose(see(seen, eyes_of(seen))[1], 0, rtol=0, atol=1e-9)


def test_rays_through_pixels_meet_where_they_came_from(seen: Floats) -> None:
    eyes, along = rays_of(seen, see(seen, POINT)[0])
    point, gap = meet(eyes, along)
    assert np.allclose(point, POINT, atol=1e-7) and gap < 1e-7
    assert np.allclose(np.linalg.norm(along, axis=1), 1)
    assert (np.einsum("nj,nj->n", along, POINT - eyes) > 0).all()  # forward


def test_rays_that_miss_meet_in_the_middle_and_say_by_how_much() -> None:
    eyes = np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.2]])
    point, gap = meet(eyes, np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]))
    assert np.allclose(point, [0, 0, 0.1], atol=1e-6) and np.isclose(gap, 0.1)


def test_parallel_rays_have_an_answer() -> None:
    point, _ = meet(np.array([[0, 0, 0], [0, 0.1, 0]]), np.array([[1.0, 0, 0]] * 2))
    assert np.isfinite(point).all()


def test_responses_are_what_small_steps_do(seen: Floats) -> None:
    linear, small = responses(seen, POINT), np.array([1e-5, -2e-5, 3e-5])
    (before, deep), (after, deeper) = see(seen, POINT), see(seen, POINT + small)
    shown = np.concatenate([after - before, -np.log(deeper / deep)[:, None]], axis=1)
    assert np.allclose(linear @ small, shown, rtol=1e-3)


def test_facing_moves_by_one_pixel_and_not_in_depth(seen: Floats) -> None:
    for projection in seen:
        across = facing(projection, POINT)
        assert np.allclose(responses(projection, POINT) @ across, [[1, 0], [0, 1], [0, 0]], atol=1e-9)


def test_a_pixel_shows_the_level_it_comes_down_to(seen: Floats) -> None:
    point = on_level(seen[0], see(seen[0], POINT)[0], POINT[2])
    assert point is not None and np.allclose(point, POINT)
    assert on_level(seen[0], np.array([64.0, -2000.0]), 0.0) is None  # above the horizon


def test_likeness_finds_turn_and_size() -> None:
    angle, size = 0.3, 1.7
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    assert np.allclose(likeness(turn), [size * np.cos(angle), size * np.sin(angle)])
