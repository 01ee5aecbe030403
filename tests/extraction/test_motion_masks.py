"""Clips and their frames: what changed and what only seemed to, the scene behind, and named refusals."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extraction.camera_clips import CAMERA, MODEL, SIZE, clip, poses, scene
from vap_sim.errors import InvalidInput
from vap_sim.extraction.cameras_prior import from_camera, projections
from vap_sim.extraction.motion_masks import Clip, change_levels, find_changes, gather_evidence, link_places
from vap_sim.extraction.motion_masks_scene import learn_odds
from vap_sim.extraction.silhouettes import draw_masks, pose_body

PAIR = np.array([[0, 1]])


def test_frames_of_different_poses_are_taken_in_order() -> None:
    evidence = gather_evidence([clip()], MODEL, 10)
    assert evidence.frames.shape == (10, SIZE[1], SIZE[0], 3)
    assert (evidence.seen, evidence.searched) == (SIZE, (80, 48))
    whole = clip()
    rows = [int(np.abs(whole.joints - q).sum(1).argmin()) for q in evidence.joints]
    assert rows == sorted(set(rows))
    np.testing.assert_array_equal(evidence.frames, whole.frames[rows])


def test_equal_poses_are_taken_once() -> None:
    still = Clip("still", np.zeros((6, 8, 8, 3), np.uint8), np.tile(poses(1), (6, 1)))
    assert len(gather_evidence([still], MODEL).frames) == 1


def test_pairs_stay_within_a_clip_and_move() -> None:
    evidence = gather_evidence([clip(), clip(seed=4)], MODEL, 20)
    places = link_places(MODEL, evidence.joints)
    changes = find_changes(evidence, places, 15)
    first, second = changes.pairs.T
    assert len(changes.pairs) == 15
    assert (evidence.clip[first] == evidence.clip[second]).all()
    assert (np.linalg.norm(places[first] - places[second], axis=-1).max(1) > 0.05).all()


def test_a_shift_of_a_pixel_and_a_change_of_exposure_are_no_change() -> None:
    picture = scene().clip(20, 220).astype(np.uint8)
    for other in (np.roll(picture, 1, axis=1), picture + np.uint8(20)):
        assert change_levels(np.stack([picture, other]), PAIR, (40, 24))[0, 2:-2, 2:-2].max() == 0
    painted = picture.copy()
    painted[24:48, 40:80] = 255 - painted[24:48, 40:80]
    levels = change_levels(np.stack([picture, painted]), PAIR, (40, 24))[0]
    assert (levels[7:11, 11:19] > 0).mean() > 0.5
    levels[6:12, 10:20] = 0
    assert not levels.any()


def test_the_odds_know_the_robot_and_the_empty_scene() -> None:
    evidence = gather_evidence([clip()], MODEL, 20)
    matrix = projections(from_camera(CAMERA)[None], SIZE)[0]
    masks = draw_masks(pose_body(MODEL, evidence.joints), matrix, SIZE)
    odds = learn_odds(evidence.frames, evidence.clip, masks, margin=3)
    assert odds.known.mean() > 0.7
    right = (odds.odds > 0) == (masks > 0)
    assert right[odds.known].mean() > 0.98
    away = odds.known[0] & (np.abs(odds.empty[0] - scene()).max(-1) < 6)
    assert away.mean() / odds.known[0].mean() > 0.99


def test_bad_clips_are_named() -> None:
    frames = np.zeros((5, 8, 8, 3), np.uint8)
    with pytest.raises(InvalidInput, match="frames of clip 'a'"):
        Clip("a", frames[..., 0], poses(5))
    with pytest.raises(InvalidInput, match="one row a frame"):
        Clip("a", frames, poses(4))
    with pytest.raises(InvalidInput, match="not finite"):
        Clip("a", frames, np.full((5, 8), np.nan))
    with pytest.raises(InvalidInput, match="joints of clip 'a': given 7 a frame, expected 8"):
        gather_evidence([Clip("a", frames, poses(5)[:, :7])], MODEL)
    with pytest.raises(InvalidInput, match="pictures of one size"):
        gather_evidence([clip(), Clip("b", frames, poses(5))], MODEL)
    with pytest.raises(InvalidInput, match="clips of a camera: given none"):
        gather_evidence([], MODEL)
