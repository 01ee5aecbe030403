"""The mount of a camera on the flange: recovered from matched points, refused where they do not bear it."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from tests.extraction.camera_clips import MODEL, poses
from vap_sim.extraction.motion_masks import Clip
from vap_sim.extraction.wrist import MountSettings, find_mount, fit_mount, line_distances
from vap_sim.extraction.wrist_matches import Matches, match_frames

SIZE = (320, 192)
TRUTH = np.array([0.07, 0.01, -0.02, 0.232, 0.319, 1.582, np.log(0.42), 0.06])
QUICK = MountSettings(candidates=1500, climbs=3)


@lru_cache(maxsize=1)
def flange() -> np.ndarray:
    """Poses (30, 4, 4) of a flange that looks down, turns and moves."""
    time = np.linspace(0, 6, 30)
    turns = np.stack([0.3 * np.sin(time), 0.35 * np.sin(1.7 * time + 1), 0.5 * np.sin(0.9 * time)], axis=-1)
    out = np.tile(np.eye(4), (30, 1, 1))
    out[:, :3, :3] = (Rotation.from_euler("x", np.pi) * Rotation.from_rotvec(turns)).as_matrix()
    out[:, :3, 3] = np.stack(
        [0.45 + 0.12 * np.sin(time), 0.15 * np.cos(1.3 * time), 0.45 + 0.1 * np.sin(2 * time)], axis=-1
    )
    return out


def seen(points: np.ndarray) -> np.ndarray:
    """Pixels and depth (30, P, 3) of points [m, base frame] by the true camera."""
    mount = np.eye(4)
    mount[:3, :3], mount[:3, 3] = Rotation.from_rotvec(TRUTH[3:6]).as_matrix(), TRUTH[:3]
    inverse = np.linalg.inv(flange() @ mount)
    rays = points @ inverse[:, :3, :3].swapaxes(-1, -2) + inverse[:, None, :3, 3]
    focal = SIZE[0] * np.exp(TRUTH[6]) * np.array([1, np.exp(TRUTH[7])])
    return np.concatenate([rays[..., :2] / rays[..., 2:] * focal + np.array([159.5, 95.5]), rays[..., 2:]], axis=-1)


@lru_cache(maxsize=1)
def matches() -> Matches:
    """Points of a table and of things on it in pairs of frames, half a pixel off, one in ten quite wrong."""
    rng = np.random.default_rng(0)
    points = np.concatenate(
        [rng.uniform([-0.1, -0.5, 0], [1, 0.5, 0.02], (300, 3)), rng.uniform([0.2, -0.3, 0], [0.7, 0.3, 0.2], (150, 3))]
    )
    pixels, inside = seen(points), None
    inside = ((pixels[..., :2] > 0) & (pixels[..., :2] < SIZE)).all(-1) & (pixels[..., 2] > 0.05)
    frames, both = [], []
    for a in range(26):
        rows = np.flatnonzero(inside[a] & inside[a + 4])[:40]
        pair = np.stack([pixels[a, rows, :2], pixels[a + 4, rows, :2]], axis=1) + rng.normal(0, 0.4, (len(rows), 2, 2))
        wrong = rng.random(len(rows)) < 0.1
        pair[wrong, 1] = rng.uniform(0, SIZE, (int(wrong.sum()), 2))
        frames.append(np.tile([a, a + 4], (len(rows), 1)))
        both.append(pair)
    return Matches(np.concatenate(frames), np.concatenate(both))


def moves() -> np.ndarray:
    first, second = matches().frames.T
    return np.linalg.inv(flange()[second]) @ flange()[first]


def test_true_matches_lie_on_their_lines() -> None:
    points = np.random.default_rng(1).uniform([0.2, -0.3, 0], [0.7, 0.3, 0.2], (40, 3))
    pixels = seen(points)
    both = np.stack([pixels[3, :, :2], pixels[9, :, :2]], axis=1)
    move = np.tile(np.linalg.inv(flange()[9]) @ flange()[3], (40, 1, 1))
    assert np.abs(line_distances(TRUTH[None], both, move, SIZE)).max() < 1e-6
    moved = both + np.array([[0.0, 0.0], [1.0, 1.0]])
    off = np.abs(line_distances(TRUTH[None], moved, move, SIZE)[0])
    assert (off <= 1.001 * np.sqrt(2)).all()
    assert off.max() > 0.5


def test_a_mount_among_others_and_alone() -> None:
    vectors = TRUTH + np.random.default_rng(2).normal(0, 0.05, (5, 8))
    together = line_distances(vectors, matches().pixels, moves(), SIZE)
    for row in range(5):
        alone = line_distances(vectors[row : row + 1], matches().pixels, moves(), SIZE)
        np.testing.assert_allclose(alone[0], together[row], rtol=1e-9, atol=1e-9)


def test_a_mount_is_found_from_nothing() -> None:
    found, covariance = fit_mount(matches(), flange(), SIZE, QUICK)
    assert np.linalg.norm(found[:3] - TRUTH[:3]) < 0.01
    turn = Rotation.from_rotvec(found[3:6]).inv() * Rotation.from_rotvec(TRUTH[3:6])
    assert turn.magnitude() < 0.01
    assert abs(found[6] - TRUTH[6]) < 0.02
    assert np.sqrt(np.diag(covariance))[:3].max() < 0.01
    again, _ = fit_mount(matches(), flange(), SIZE, QUICK)
    np.testing.assert_array_equal(found, again)


def test_matches_are_found_in_pictures_and_fingers_left_out() -> None:
    rng = np.random.default_rng(3)
    wall = cv2.GaussianBlur(rng.uniform(0, 255, (400, 500, 3)).astype(np.float32), (0, 0), 2)
    wall = np.clip((wall - 127) * 5 + 127, 0, 255).astype(np.uint8)
    frames = np.stack([wall[5 * k : 5 * k + 192, 7 * k : 7 * k + 320] for k in range(5)])
    finger = wall[300:380, 400:480]
    frames[:, 100:180, 100:180] = finger
    away = np.tile(np.eye(4), (5, 1, 1))
    away[:, 0, 3] = 0.03 * np.arange(5)
    found = match_frames(Clip("wrist", frames, poses(5)), away)
    assert len(found.frames) > 300
    gap = (found.frames[:, 1] - found.frames[:, 0])[:, None]
    right = np.abs(found.pixels[:, 0] - found.pixels[:, 1] - gap * np.array([7, 5])).max(1) < 1
    assert right.mean() > 0.95
    inside = ((found.pixels > 104) & (found.pixels < 176)).all((1, 2))
    assert inside.mean() < 0.02


@pytest.mark.parametrize(
    ("clip", "told"),
    [
        (Clip("blank", np.zeros((20, 96, 160, 3), np.uint8), poses(20)), "0 matched points, expected 150"),
        (Clip("still", np.zeros((20, 96, 160, 3), np.uint8), poses(20, reach=0.01)), "the flange turns by 0.0"),
    ],
)
def test_too_little_is_refused(clip: Clip, told: str) -> None:
    found = find_mount(clip, MODEL, "wrist")
    assert found.camera is None
    assert told in found.detail
