"""Camera vectors: the same camera there and back, the same pixels as `Camera`, and ranges with edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.extraction.camera_clips import CAMERA, SIZE
from vap_sim.errors import InvalidInput
from vap_sim.extraction.cameras_prior import CameraPrior, angles, from_camera, projections, rotations, to_camera
from vap_sim.robots.camera import Camera

RNG = np.random.default_rng(0)
MIDDLE = np.array([0.4, 0.0, 0.3])


def some_vectors(count: int = 20) -> np.ndarray:
    low, high = CameraPrior().bounds(MIDDLE)
    low[3], high[3] = -np.pi, np.pi
    return RNG.uniform(low, high, (count, 8))


def test_turns_are_turns_and_angles_undo_them() -> None:
    vectors = some_vectors()
    turns = rotations(vectors)
    np.testing.assert_allclose(turns @ turns.swapaxes(-1, -2), np.broadcast_to(np.eye(3), turns.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    np.testing.assert_allclose([angles(turn) for turn in turns], vectors[:, 3:6], atol=1e-9)


def test_vector_and_camera_are_the_same() -> None:
    for vector in some_vectors():
        np.testing.assert_allclose(from_camera(to_camera(vector, "c", SIZE)), vector, atol=2e-6)


def test_projection_is_that_of_the_camera() -> None:
    points = RNG.uniform(-0.4, 0.8, (50, 3))
    vector = from_camera(CAMERA)
    for size in (SIZE, (53, 41)):
        rays = (
            points @ projections(vector[None], SIZE, size)[0][:, :3].T + projections(vector[None], SIZE, size)[0][:, 3]
        )
        pixels, depth = CAMERA.resized(size).project(torch.from_numpy(points).float())
        np.testing.assert_allclose(rays[:, 2], depth.numpy(), atol=1e-5)
        seen = rays[:, 2] > 0.1
        np.testing.assert_allclose((rays[:, :2] / rays[:, 2:])[seen], pixels.numpy()[seen], atol=2e-3)


def test_edges_are_named_and_costs_begin_there() -> None:
    prior, vector = CameraPrior(), from_camera(CAMERA)
    assert prior.edge(vector, MIDDLE) is None
    assert prior.cost(vector[None], MIDDLE)[0] == 0
    for index, name, value in (
        (2, "z", 1.99),
        (4, "pitch", 0.59),
        (6, "focal", np.log(0.351)),
        (7, "aspect", np.log(1.179)),
    ):
        moved = vector.copy()
        moved[index] = value
        assert prior.edge(moved, MIDDLE) == name
        moved[index] += 0.5 if value > 0 else -0.5
        assert prior.cost(moved[None], MIDDLE)[0] > 1
    near = vector.copy()
    near[:3] = MIDDLE + np.array([0.1, 0.0, 0.0])
    assert prior.edge(near, MIDDLE) == "reach"


def test_known_focal_length_narrows_the_prior() -> None:
    prior = CameraPrior.with_focal(80.0, 160)
    assert prior.focal == pytest.approx((0.4545, 0.55), abs=1e-3)
    with pytest.raises(InvalidInput, match=r"focal length \[px\]: given -3"):
        CameraPrior.with_focal(-3, 160)


def test_bad_priors_and_cameras_are_named() -> None:
    with pytest.raises(InvalidInput, match="roll of a camera prior"):
        CameraPrior(roll=(0.2, 0.1))
    with pytest.raises(InvalidInput, match="both positive"):
        CameraPrior(reach=(-1.0, 2.0))
    mounted = Camera.look_at("hand", (0, 0, 0), (0, 0, 1), size=SIZE, focal_px=80, up=(0, 1, 0), parent_link="tool")
    with pytest.raises(InvalidInput, match="fixed in the base frame"):
        from_camera(mounted)
