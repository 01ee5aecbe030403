"""Fast silhouettes against the exact ones, contour points against the outline, and pictures apart from each other."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch

from tests.extraction.camera_clips import CAMERA, MODEL, SIZE, poses
from vap_sim.extraction.cameras_prior import from_camera, projections
from vap_sim.extraction.silhouettes import draw_masks, pose_body, pose_cloud, splat_masks, trace_contour
from vap_sim.prompts.silhouette import silhouettes
from vap_sim.robots.camera import Camera

Q = poses(5)
MATRIX = projections(from_camera(CAMERA)[None], SIZE)[0]
CLOSE = Camera.look_at("close", (0.05, -0.25, 0.5), (0.4, 0.2, 0.3), size=SIZE, focal_px=70.0)


@pytest.mark.parametrize("camera", [CAMERA, CLOSE], ids=["before the robot", "with parts behind it"])
def test_masks_are_the_exact_ones_but_for_the_rim(camera: Camera) -> None:
    exact = silhouettes(MODEL, torch.from_numpy(Q)[None].float(), [camera], z_near=0.03)[0, 0].numpy()
    masks = draw_masks(pose_body(MODEL, Q), projections(from_camera(camera)[None], SIZE)[0], SIZE) > 0
    assert (masks | exact == masks).mean() > 0.9995
    rim = np.stack([cv2.dilate(m.astype(np.uint8), np.ones((3, 3), np.uint8)) for m in exact]) > 0
    assert not (masks & ~rim).any()


def test_contour_points_lie_on_the_outline_and_normals_point_out() -> None:
    body = pose_body(MODEL, Q)
    contour = trace_contour(body, MATRIX, SIZE)
    assert set(contour.frame.tolist()) == set(range(len(Q)))
    rays = contour.points @ MATRIX[:, :3].T + MATRIX[:, 3]
    np.testing.assert_allclose(rays[:, :2] / rays[:, 2:], contour.pixels, atol=1e-6)
    np.testing.assert_allclose(np.hypot(*contour.normals.T), 1)
    masks = draw_masks(body, MATRIX, SIZE)
    for step, covered in ((-1.5, True), (1.6, False)):
        column, row = np.rint(contour.pixels + step * contour.normals).astype(int).T
        inside = (column >= 0) & (row >= 0) & (column < SIZE[0]) & (row < SIZE[1])
        hit = masks[contour.frame, row.clip(0, SIZE[1] - 1), column.clip(0, SIZE[0] - 1)][inside] > 0
        assert (hit == covered).mean() > (0.95 if covered else 0.999)


def test_splats_cover_what_the_parts_cover() -> None:
    small = SIZE[0] // 4, SIZE[1] // 4
    matrix = projections(from_camera(CAMERA)[None], SIZE, small)
    masks = splat_masks(pose_cloud(MODEL, Q, 0.03), matrix, small)[0] > 0
    exact = silhouettes(MODEL, torch.from_numpy(Q)[None].float(), [CAMERA.resized(small)])[0, 0].numpy()
    rim = np.stack([cv2.dilate(m.astype(np.uint8), np.ones((3, 3), np.uint8)) for m in exact]) > 0
    assert masks[exact].mean() > 0.97
    assert rim[masks].mean() > 0.97


def test_a_camera_among_others_and_a_pose_among_others() -> None:
    vectors = from_camera(CAMERA) + np.random.default_rng(1).normal(0, 0.05, (4, 8))
    matrices, cloud, body = projections(vectors, SIZE, (40, 24)), pose_cloud(MODEL, Q, 0.05), pose_body(MODEL, Q)
    together = splat_masks(cloud, matrices, (40, 24))
    for row in range(4):
        np.testing.assert_array_equal(splat_masks(cloud, matrices[row : row + 1], (40, 24))[0], together[row])
    alone = draw_masks(body.at(np.array([3])), MATRIX, SIZE)
    np.testing.assert_array_equal(alone[0], draw_masks(body, MATRIX, SIZE)[3])


def test_pairs_leave_out_what_stands_still() -> None:
    cloud = pose_cloud(MODEL, Q, 0.05)
    pairs = np.array([[0, 1], [2, 2]])
    kept = cloud.pairs(pairs, 0.015)
    assert kept.points.shape[0] == 4
    assert kept.points.shape[1] < cloud.points.shape[1]
    assert not kept.shown[2:].any()
    moved = np.linalg.norm(kept.points[0] - kept.points[1], axis=-1)
    np.testing.assert_array_equal(kept.shown[0], moved >= 0.015)
    np.testing.assert_array_equal(kept.shown[0], kept.shown[1])


def test_nothing_is_drawn_of_a_robot_behind_the_camera() -> None:
    away = Camera.look_at("away", (1.5, 0.0, 0.5), (3.0, 0.0, 0.5), size=SIZE, focal_px=80.0)
    matrix = projections(from_camera(away)[None], SIZE)
    assert not draw_masks(pose_body(MODEL, Q), matrix[0], SIZE).any()
    assert not splat_masks(pose_cloud(MODEL, Q, 0.05), matrix, SIZE).any()
    assert not len(trace_contour(pose_body(MODEL, Q), matrix[0], SIZE).frame)
