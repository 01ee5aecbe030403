"""Refinement: from nearby to a fraction of a pixel, edges inside pixels, and what it says of its own errors."""

from __future__ import annotations

import numpy as np

from tests.extraction.camera_clips import CAMERA, MODEL, SIZE, clip
from vap_sim.extraction.cameras_prior import from_camera, projections
from vap_sim.extraction.cameras_refine import find_edges, mixed_edges, refine
from vap_sim.extraction.motion_masks import gather_evidence, link_places
from vap_sim.extraction.motion_masks_scene import learn_odds
from vap_sim.extraction.silhouettes import Contour, draw_masks, pose_body, trace_contour

EVIDENCE = gather_evidence([clip()], MODEL, 24)
BODY = pose_body(MODEL, EVIDENCE.joints)
TRUTH = from_camera(CAMERA)
MATRIX = projections(TRUTH[None], SIZE)[0]


def test_a_camera_nearby_is_brought_to_the_truth() -> None:
    start = TRUTH + np.array([0.04, -0.03, 0.03, 0.03, -0.03, 0.03, 0.05, 0.01])
    found = refine(EVIDENCE, BODY, start)
    points, seen = link_places(MODEL, EVIDENCE.joints).reshape(-1, 3), []
    for matrix in projections(np.stack([TRUTH, start, found.vector]), SIZE):
        rays = points @ matrix[:, :3].T + matrix[:, 3]
        seen.append(rays[:, :2] / rays[:, 2:])
    before, after = (np.median(np.linalg.norm(seen[0] - other, axis=1)) for other in seen[1:])
    assert before > 2
    assert after < 0.3
    assert np.linalg.norm(found.vector[:3] - TRUTH[:3]) < 0.03
    assert found.found > 0.7
    assert found.residual < 0.5
    std = np.sqrt(np.diag(found.covariance))
    assert (np.abs(found.vector - TRUTH) < 4 * std + 0.005).all()
    assert np.linalg.norm(std[:3]) < 0.1


def test_edges_are_found_where_the_outline_was_moved_from() -> None:
    masks = draw_masks(BODY, MATRIX, SIZE)
    odds = learn_odds(EVIDENCE.frames, EVIDENCE.clip, masks, 3)
    contour = trace_contour(BODY, MATRIX, SIZE)
    for shift in (-2.0, 1.3):
        moved = Contour(contour.frame, contour.points, contour.pixels + shift * contour.normals, contour.normals)
        offset, trust = find_edges(odds, moved, 5)
        exact, sure = mixed_edges(odds, moved, offset, trust)
        known = trust > 0.3
        assert known.mean() > 0.3
        assert abs(np.median(offset[known]) + shift) < 0.9  # a pixel that shows a little of the robot counts as robot
        clear = sure > 0.3
        assert abs(np.median(exact[clear]) + shift) < 0.25


def test_a_camera_that_sees_no_robot_has_no_answer() -> None:
    away = TRUTH.copy()
    away[3] += np.pi
    found = refine(EVIDENCE, BODY, away)
    np.testing.assert_array_equal(found.vector, away)
    assert found.found == 0
    assert not np.isfinite(found.covariance).any()
