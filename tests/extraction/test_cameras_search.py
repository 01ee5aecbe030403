"""The search: what changes tell of a camera, candidates, climbing, and the same seed the same answer."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extraction.camera_clips import CAMERA, MODEL, SIZE, clip
from vap_sim.errors import InvalidInput
from vap_sim.extraction.cameras_prior import CameraPrior, from_camera, projections
from vap_sim.extraction.cameras_search import Judge, SearchEffort, climb, draw_candidates, information, search
from vap_sim.extraction.motion_masks import find_changes, gather_evidence, link_places
from vap_sim.extraction.silhouettes import pose_cloud

EVIDENCE = gather_evidence([clip()], MODEL, 16)
PLACES = link_places(MODEL, EVIDENCE.joints)
CHANGES = find_changes(EVIDENCE, PLACES, 8)
JUDGE = Judge(
    EVIDENCE.size,
    CHANGES.levels,
    pose_cloud(MODEL, EVIDENCE.joints, 0.05).pairs(CHANGES.pairs, 0.015),
    CameraPrior(),
    PLACES.mean((0, 1)),
)
TRUTH = from_camera(CAMERA)


def test_kinds_that_tell_nothing_have_no_information() -> None:
    strengths = np.array([800.0, 100.0, 60.0, 40.0])
    assert information(np.outer([5, 2, 1], strengths)) == pytest.approx(0, abs=1e-3)
    telling = np.array([[900.0, 50, 10, 0], [5, 10, 30, 200], [80, 10, 10, 100]])
    assert information(telling) > 0.3
    assert information(telling[[1, 0, 2]]) == 0  # pixels change where nothing moves


def test_the_true_camera_tells_more_than_others() -> None:
    moved = TRUTH + np.diag([0.15, 0.15, 0.15, 0.15, 0.15, 0.2, 0.3, 0.15])
    scores = JUDGE.scores(np.concatenate([TRUTH[None], moved, -moved * [1, 1, -1, 1, 1, 1, -1, 1]]))
    assert scores[0] > 0.1
    assert scores[0] > scores[1:].max()


def test_a_candidate_among_others_scores_as_it_does_alone() -> None:
    vectors = TRUTH + np.random.default_rng(0).normal(0, 0.1, (5, 8))
    together = JUDGE.scores(vectors)
    for row in range(5):
        assert JUDGE.scores(vectors[row : row + 1])[0] == together[row]


def test_a_judge_of_some_pairs_counts_those() -> None:
    tables = JUDGE.tables(TRUTH[None])
    np.testing.assert_array_equal(JUDGE.at(slice(2, 5)).tables(TRUTH[None]), tables[:, 2:5])
    assert (tables.sum((-1, -2)) == 80 * 48).all()


def test_what_lies_outside_the_prior_costs() -> None:
    high = TRUTH.copy()
    high[2] = 2.5
    free = Judge(JUDGE.size, JUDGE.levels, JUDGE.cloud, CameraPrior(height=(-5.0, 5.0)), JUDGE.middle)
    assert JUDGE.scores(high[None])[0] < free.scores(high[None])[0]


def test_candidates_look_at_a_place_of_the_robot_where_things_change() -> None:
    vectors = draw_candidates(JUDGE, PLACES, 200, np.random.default_rng(0))
    assert (JUDGE.prior.cost(vectors, JUDGE.middle) < 5).mean() > 0.9
    points = PLACES.reshape(-1, 3)
    for matrix in projections(vectors, SIZE):
        rays = points @ matrix[:, :3].T + matrix[:, 3]
        pixels = rays[:, :2] / rays[:, 2:]
        inside = (rays[:, 2] > 0) & (pixels > -1).all(1) & (pixels < SIZE).all(1)
        assert inside.any()
    other = draw_candidates(JUDGE, PLACES, 200, np.random.default_rng(0))
    np.testing.assert_array_equal(vectors, other)


def test_climbing_finds_the_top_of_a_slanted_hill() -> None:
    turn = np.linalg.qr(np.random.default_rng(2).normal(size=(8, 8)))[0]
    top, steep = np.arange(8) * 0.1, np.geomspace(1, 30, 8)

    def scores(vectors: np.ndarray) -> np.ndarray:
        return -(((vectors - top) @ turn * steep) ** 2).sum(1)

    begun = float(scores(np.zeros((1, 8)))[0])
    best, score = climb(scores, np.zeros(8), np.full(8, 0.3), np.random.default_rng(0), generations=40)
    assert score == pytest.approx(float(scores(best[None])[0]))
    assert score > 0.02 * begun


def test_search_keeps_to_its_seed_and_to_its_starts() -> None:
    effort = SearchEffort(300, 2, 8, 8, 2, 3, 1, 2)
    near = TRUTH + 0.02
    found = [search(JUDGE, JUDGE, PLACES, effort, np.random.default_rng(4), [near]) for _ in range(2)]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0][0] - TRUTH).max() < 0.3
    scores = JUDGE.scores(np.stack(found[0]))
    assert scores[0] >= JUDGE.scores(near[None])[0]


def test_no_effort_is_refused() -> None:
    with pytest.raises(InvalidInput, match="effort of a search"):
        SearchEffort(climbs=0)
