"""Hands in space: the camera sees them where they were seen, and they are as far as their size says."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.extraction.hand_figures import Blank, hand, shape
from vap_sim.errors import InvalidInput
from vap_sim.extraction.hand_cleaning import HandSeries, clean
from vap_sim.extraction.hand_detection import HandDetection
from vap_sim.extraction.hand_smoothing import OneEuro
from vap_sim.extraction.hand_space import PALM, assumed_focal, hand_camera, hand_joints, in_space, scales
from vap_sim.extraction.hand_tracks import HandTrack
from vap_sim.extraction.hands import HandSettings, join_hands
from vap_sim.robots.library import load_robot

SIZE = (640, 360)
STILL = OneEuro(rest=1e6)


def seen_at(distance: float, focal: float, *, metres: bool, placed: bool = False) -> HandDetection:
    """A hand so many metres away, as a camera with that focal length sees it."""
    at = np.add(shape(), (0.1, 0.05, distance))
    k = hand_camera(SIZE, focal).intrinsics.double().numpy()
    pixels = (at @ k.T)[:, :2] / at[:, 2:]
    return HandDetection("right", 0.9, pixels, (at if placed else shape()) if metres else None, placed=placed)


def series(*hands: HandDetection) -> HandSeries:
    return clean([HandTrack(dict(enumerate(hands)))], len(hands), SIZE)[1]


@pytest.mark.parametrize("metres", [True, False])
@pytest.mark.parametrize(("distance", "focal"), [(0.3, 500.0), (0.8, 300.0)])
def test_a_hand_is_as_far_as_its_size_says(distance: float, focal: float, metres: bool) -> None:
    hands = [seen_at(distance, focal, metres=metres)] * 6
    places = in_space(series(*hands), hand_camera(SIZE, focal), 30.0, STILL)
    palm = np.linalg.norm(shape()[[5, 9, 13, 17]], axis=1).max()
    expected = distance if metres else distance * PALM / palm
    np.testing.assert_allclose(places[..., 2], expected, rtol=0.01)


@pytest.mark.parametrize("metres", [True, False])
def test_the_camera_sees_hands_where_they_were_seen(metres: bool) -> None:
    hands = [seen_at(0.4 + 0.02 * t, 500.0, metres=metres) for t in range(8)]
    camera = hand_camera(SIZE, 500.0)
    places = in_space(series(*hands), camera, 30.0, STILL)
    xy, depth = camera.project(torch.from_numpy(places).float())
    assert bool((depth > 0).all())
    np.testing.assert_allclose(xy.numpy(), np.stack([one.points for one in hands]), atol=2e-2)


def test_hands_that_the_detector_placed_stay_in_their_place() -> None:
    hands = [seen_at(0.4 + 0.02 * t, 500.0, metres=True, placed=True) for t in range(8)]
    places = in_space(series(*hands), hand_camera(SIZE, 500.0), 30.0, STILL)
    np.testing.assert_allclose(places, np.stack([one.metres for one in hands]), atol=1e-5)  # type: ignore[misc]


def test_scale_does_not_depend_on_where_or_how_turned_a_hand_is() -> None:
    one = hand(100, 100)
    assert one.metres is not None
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    moved, metres = one.points @ turn.T + (50, -20), np.concatenate([one.metres[:, :2] @ turn.T, one.metres[:, 2:]], 1)
    first, second = scales(np.stack([one.points, moved]), np.stack([one.metres, metres]))
    assert first == pytest.approx(second)
    assert first == pytest.approx(100 / np.ptp(one.metres[:, :2], axis=0).max())


def test_joints_are_the_points_of_the_machine() -> None:
    rng = np.random.default_rng(0)
    left, right = rng.uniform(-0.5, 0.5, (2, 3, 21, 3))
    model = load_robot("human_hands")
    q = torch.from_numpy(hand_joints(left, right))
    points = model.skeleton.positions(model.robot, model.robot.forward(q))
    np.testing.assert_allclose(points.numpy(), np.concatenate([left, right], axis=1), atol=1e-6)
    names = [point.name for point in model.skeleton.points]
    assert names[0] == "left_wrist"
    assert names[8] == "left_index_tip"
    assert names[21 + 17] == "right_little_knuckle"
    assert len(model.skeleton.bones) == 40


def test_left_and_right_are_drawn_in_other_colours() -> None:
    bones = load_robot("human_hands").skeleton.bones
    left = {bone.color for bone in bones if bone.start.startswith("left")}
    right = {bone.color for bone in bones if bone.start.startswith("right")}
    assert len(left) == len(right) == 5
    assert not left & right


def test_a_missing_hand_is_behind_the_camera_and_pixels_come_back() -> None:
    truth = [hand(200 + 3 * t, 200) for t in range(20)]
    found = [[one] if t < 12 else [] for t, one in enumerate(truth)]
    motion = join_hands(found, Blank(20), 30.0, HandSettings(smoothing=STILL))
    hands = motion.joints.reshape(20, 2, 21, 3)
    assert (hands[:, 0, :, 2] == -1).all()
    assert (hands[12:, 1, :, 2] == -1).all()
    points = motion.points()
    np.testing.assert_allclose(points[:12, 1], np.stack([one.points for one in truth[:12]]), atol=1e-2)
    assert np.isnan(points[12:]).all()
    assert np.isnan(points[:, 0]).all()
    assert motion.there.tolist() == [True] * 12 + [False] * 8
    assert "assumed" in motion.notes[0]
    assert not join_hands(found, Blank(20), 30.0, HandSettings(focal=500.0)).notes
    told = motion.told()
    assert told["frames_with_a_hand"] == 12
    assert told["counts"] == {"left": {"absent": 20}, "right": {"kept": 12, "absent": 8}}
    assert told["frames"][13]["right"] == {"state": "absent", "reason": "no hand was found"}  # type: ignore[index]


def test_smoothing_does_not_reach_across_gaps() -> None:
    truth = [hand(100 if t < 10 else 500, 200) for t in range(30)]
    found = [[one] if not 10 <= t < 20 else [] for t, one in enumerate(truth)]
    motion = join_hands(found, Blank(30), 30.0, HandSettings(smoothing=OneEuro(rest=0.5, beta=0.0)))
    np.testing.assert_allclose(motion.points()[25, 1], truth[25].points, atol=1e-2)
    np.testing.assert_allclose(motion.points()[5, 1], truth[5].points, atol=1e-2)


def test_settings_of_smoothing_fit_hands_of_any_size() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(0, 0.02, (30, 21, 2))

    def wobble(size: float) -> np.ndarray:
        hands = [HandDetection("right", 0.9, hand(0, 0, size=size).points + size * step) for step in noise]
        motion = join_hands([[one] for one in hands], Blank(30, (4000, 4000)), 30.0)
        return motion.points()[:, 1] / size

    np.testing.assert_allclose(wobble(50), wobble(500), atol=2e-4)


def test_impossible_focal_lengths() -> None:
    assert assumed_focal(640) == pytest.approx(320 / np.tan(np.radians(30)))
    for focal in (0.0, -1.0, float("nan")):
        with pytest.raises(InvalidInput, match="focal"):
            hand_camera(SIZE, focal)
