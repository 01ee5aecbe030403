"""Objects triangulated from masks: where they are, by how much pictures miss them, and what cannot be told."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vap_sim.errors import InvalidInput
from vap_sim.metrics.positions import position_errors, projection_of, triangulate
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot

SIZE = (96, 64)
CAMERAS = tuple(
    Camera.look_at(f"view {n}", eye, (0.4, 0.0, 0.05), size=SIZE, focal_px=90.0)
    for n, eye in enumerate([(1.2, 0.6, 0.7), (1.2, -0.7, 0.6), (0.5, 1.0, 0.9)])
)
SEEN = np.stack([projection_of(camera) for camera in CAMERAS])


def discs(point: np.ndarray) -> np.ndarray:
    """Masks (V, H, W) of a round thing at a point [m]."""
    across, down = np.meshgrid(np.arange(SIZE[0]), np.arange(SIZE[1]))
    masks = []
    for camera in CAMERAS:
        x, y = camera.project(torch.tensor(point[None]).float())[0][0].tolist()
        masks.append((across - x) ** 2 + (down - y) ** 2 <= 16)
    return np.stack(masks)


def test_projections_are_the_cameras() -> None:
    points = torch.rand(5, 3)
    for camera, matrix in zip(CAMERAS, SEEN, strict=True):
        rays = points.double().numpy() @ matrix[:, :3].T + matrix[:, 3]
        assert np.allclose(rays[:, :2] / rays[:, 2:], camera.project(points)[0].numpy(), atol=1e-3)


@pytest.mark.parametrize("views", [(0, 1), (1, 2), (0, 1, 2)])
def test_a_thing_is_found_where_it_is(views: tuple[int, ...]) -> None:
    point = np.array([0.45, 0.05, 0.06])
    found = triangulate(discs(point)[list(views)], SEEN[list(views)])
    assert np.linalg.norm(found - point) < 0.004


def test_fewer_than_two_pictures_tell_no_place() -> None:
    masks = discs(np.array([0.45, 0.05, 0.06]))
    masks[1:] = False
    assert np.isnan(triangulate(masks, SEEN)).all()
    masks[1, 10, 10:14] = True  # crumbs
    assert np.isnan(triangulate(masks, SEEN)).all()


def test_errors_count_what_is_judged_and_what_is_lost() -> None:
    places = np.array([[[0.4, 0.0, 0.05]], [[0.45, 0.05, 0.05]], [[0.5, 0.1, 0.05]]])  # T, K, 3
    masks = np.stack([discs(place[0]) for place in places], axis=1)[:, None]
    masks[1:, 0, 2] = False
    shifted = places + np.array([0.03, 0.0, 0.0])
    errors = position_errors(masks=masks, positions=shifted, judged=np.array([[False, True, True]]), cameras=CAMERAS)
    assert abs(errors[0] - 0.03) < 0.005 and np.isinf(errors[1]) and errors.shape == (2,)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InvalidInput, match="masks and projections"):
        triangulate(discs(np.zeros(3)), SEEN[:2])
    with pytest.raises(InvalidInput, match="objects in several views"):
        position_errors(
            masks=np.zeros((2, 1, 3, 4, 4), bool),
            positions=np.zeros((3, 1, 3)),
            judged=np.ones((1, 3), bool),
            cameras=CAMERAS,
        )
    with pytest.raises(InvalidInput, match="camera 'wrist': given one on link"):
        projection_of(load_robot("panda_robotiq").camera("wrist"))
    with pytest.raises(InvalidInput, match="given a batch of cameras"):
        projection_of(Camera.batch([CAMERAS[0]]))
