"""Calibration as a whole: a camera from nothing but pictures and joints, and every refusal by its name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.extraction.camera_clips import CAMERA, MODEL, SIZE, clip, poses, scene, still_clip
from vap_sim.errors import InvalidInput
from vap_sim.extraction.cameras import REASONS, Calibration, CalibrationSettings, calibrate
from vap_sim.extraction.cameras_prior import CameraPrior, from_camera
from vap_sim.extraction.cameras_search import SearchEffort
from vap_sim.extraction.motion_masks import Clip

QUICK = CalibrationSettings(effort=SearchEffort(4000, 4, 10, 14, 6, 14, 2, 8), frames=24)
HASTY = CalibrationSettings(effort=SearchEffort(60, 2, 3, 4, 1, 1, 1, 1), frames=10)
TRUTH = from_camera(CAMERA)


def test_a_camera_is_found_from_nothing() -> None:
    found = calibrate([clip()], MODEL, "front", QUICK)
    assert found.reason is None, found.detail
    assert found.camera is not None
    assert found.camera.size == SIZE
    vector = from_camera(found.camera)
    assert np.linalg.norm(vector[:3] - TRUTH[:3]) < 0.05
    np.testing.assert_allclose(vector[3:6], TRUTH[3:6], atol=0.03)
    assert abs(vector[6] - TRUTH[6]) < 0.05
    assert found.figures["overlap"] > 0.8
    assert found.std["place"] < 0.1
    assert found.clips == ("clip 3",)


def test_the_same_seed_gives_the_same_answer() -> None:
    first, second = (calibrate([clip()], MODEL, "front", HASTY).vector for _ in range(2))
    assert first is not None
    assert second is not None
    np.testing.assert_array_equal(first, second)


def refused(clips: list[Clip], settings: CalibrationSettings, starts: tuple[np.ndarray, ...] = ()) -> Calibration:
    found = calibrate(clips, MODEL, "front", settings, starts=starts)
    assert found.camera is None
    assert found.reason in REASONS
    return found


def test_a_short_clip_is_refused() -> None:
    short = Clip("short", clip().frames[:5], clip().joints[:5])
    assert refused([short], HASTY).detail == "fewer than 8 frames with a joint pose: 5"


def test_a_robot_that_stands_still_is_refused() -> None:
    found = refused([clip(frames=12, reach=0.01)], HASTY)
    assert found.reason == "still robot"
    assert "no key point of the robot moves by more than 0.05 m" in found.detail


def test_pictures_that_do_not_change_are_refused() -> None:
    assert refused([still_clip()], HASTY).reason == "no motion"


def test_a_camera_that_moves_is_refused() -> None:
    frames = np.stack([scene(seed).clip(0, 255) for seed in range(12)]).astype(np.uint8)
    assert refused([Clip("wrist", frames, poses(12))], HASTY).reason == "moving camera"


def test_motion_that_is_not_the_robot_s_is_unexplained() -> None:
    frames = np.repeat(scene()[None].clip(0, 255).astype(np.uint8), 16, axis=0)
    rng = np.random.default_rng(0)
    for picture in frames:
        x, y = rng.integers(10, 130), rng.integers(10, 70)
        picture[y : y + 16, x : x + 16] = 240
    assert refused([Clip("people", frames, poses(16))], HASTY).reason == "unexplained"


def test_an_answer_at_the_edge_of_the_prior_is_none() -> None:
    longer = float(np.exp(TRUTH[6])) * 0.995
    settings = replace(HASTY, prior=CameraPrior(focal=(longer / 2, longer)), frames=24)
    found = refused([clip()], settings, (TRUTH,))
    assert found.reason == "edge of prior"
    assert "focal" in found.detail
    assert found.vector is not None


def test_an_answer_that_is_not_sure_enough_is_none() -> None:
    found = refused([clip()], replace(HASTY, most_place=1e-4, frames=24), (TRUTH,))
    assert found.reason == "uncertain"
    assert "place to" in found.detail


def test_settings_that_cannot_be_used_are_named() -> None:
    with pytest.raises(InvalidInput, match="at least 4 frames"):
        CalibrationSettings(frames=1)
