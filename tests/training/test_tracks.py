"""Tracks of recorded objects: numbers, places and steps agree with the pictures and with how slots move."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from vap_sim.data.twin import FLOW_SCALE, TwinEpisode
from vap_sim.models.compact.slots import SLOTS, Slots, advance, cut, render
from vap_sim.robots.camera import Camera
from vap_sim.training.tracks import Track, follow


@pytest.fixture(scope="module", params=[0, 1])
def view(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def track(recording: TwinEpisode, view: int) -> Track:
    return follow(recording, view)


def as_layers(layers: np.ndarray) -> Tensor:
    return torch.from_numpy(layers).permute(0, 3, 1, 2).float() / 255


def test_shapes_and_types(track: Track, recording: TwinEpisode) -> None:
    count = recording.object_poses.shape[1]
    assert track.numbers.shape == (10, 64, 64) and track.numbers.dtype == np.uint8
    assert track.centres.shape == (10, SLOTS, 2) and track.steps.shape == (10, SLOTS, 4)
    assert track.centres.dtype == track.steps.dtype == np.float32
    assert not track.steps[0].any() and not track.steps[:, count:].any() and not track.centres[:, count:].any()


def test_numbers_are_those_of_the_labels(track: Track, recording: TwinEpisode, view: int) -> None:
    labels = recording.labels[view]
    seen = (labels >= 2) & (recording.objects[view, ..., 3] == 255)
    assert (track.numbers[seen] == labels[seen] - 1).mean() > 0.97
    assert not track.numbers[recording.objects[view, ..., 3] == 0].any()


def test_centres_are_where_the_camera_sees_the_objects(track: Track, recording: TwinEpisode, view: int) -> None:
    camera = Camera.from_dict(recording.meta["cameras"][view])
    xy, _ = camera.project(torch.from_numpy(recording.object_poses[..., :3].copy()))
    count = xy.shape[1]
    assert np.abs(track.centres[:, :count] - xy.numpy()).max() < 0.5


def test_steps_add_up_to_the_way(track: Track) -> None:
    assert np.allclose(track.centres[0] + track.steps[..., :2].sum(0), track.centres[-1], atol=1e-3)
    assert np.abs(track.steps[:5, :, :2]).max() < 0.02  # at rest before the push
    assert np.abs(track.steps[5:, :, :2]).max() > 0.5


def test_steps_agree_with_the_recorded_motion(track: Track, recording: TwinEpisode, view: int) -> None:
    """The exact motion of each pixel, averaged over an object, is about minus the step of its box."""
    compared = 0
    for frame in range(5, 10):
        numbers = track.numbers[frame][::2, ::2]
        for slot in range(recording.object_poses.shape[1]):
            flow = recording.flow[view, frame][:, numbers == slot + 1] / FLOW_SCALE
            flow = flow[:, (flow != 0).any(axis=0)]
            if flow.shape[1] >= 6:
                assert np.abs(flow.mean(axis=1) + track.steps[frame, slot, :2]).max() < 0.5
                compared += 1
    assert compared >= 2


def test_slots_that_take_these_steps_follow_the_recording(track: Track, recording: TwinEpisode, view: int) -> None:
    layers = as_layers(recording.objects[view])
    slots: Slots = cut(layers[4:5], torch.from_numpy(track.numbers[4:5]))
    moves = torch.ones(1, SLOTS, dtype=torch.bool)
    for frame in range(5, 10):
        step = torch.from_numpy(track.steps[frame])[None]
        slots = advance(slots, step[..., :2], step[..., 2:], moves)
        error = (render(slots, 64) - layers[frame]).abs().sum()
        ignored = (layers[4] - layers[frame]).abs().sum()
        assert float(error) < 0.75 * float(ignored) or float(ignored) < 20
    assert float(error) < 0.5 * float(ignored)


def test_turns_are_from_right_to_down_and_growth_is_approach() -> None:
    """A cube that turns about the optical axis of a camera above it, and comes nearer."""
    camera = Camera.look_at("above", (0.5, 0.0, 1.0), (0.5, 0.0, 0.0), size=(64, 64), focal_px=60.0, up=(1.0, 0.0, 0.0))
    angles, heights = np.array([0.0, 0.1, 0.1]), np.array([0.03, 0.03, 0.13])
    poses = np.zeros((3, 1, 7), np.float32)
    poses[:, 0, 0], poses[:, 0, 2] = 0.5, heights
    poses[:, 0, 5], poses[:, 0, 6] = np.sin(angles / 2), np.cos(angles / 2)
    none = np.zeros
    episode = TwinEpisode(
        frames=none((1, 3, 64, 64, 3), np.uint8),
        objects=np.full((1, 3, 64, 64, 4), 255, np.uint8),
        plate=none((1, 64, 64, 3), np.uint8),
        robot=none((1, 3, 64, 64), np.uint8),
        labels=none((1, 3, 64, 64), np.uint8),
        flow=none((1, 3, 2, 32, 32), np.int16),
        joints=none((3, 8), np.float32),
        measured=none((3, 8), np.float32),
        actions=none((2, 8), np.float32),
        object_poses=poses,
        meta={"scene": {"objects": [{"size": (0.06, 0.06, 0.06)}]}, "cameras": [camera.to_dict()]},
    )
    steps = follow(episode, 0).steps[:, 0]
    # Seen from above with x up, a turn from x to y goes from up to left: against the clock, which runs right to down.
    assert steps[1] == pytest.approx([0, 0, -0.1, 0], abs=1e-4)
    assert steps[2, 2] == pytest.approx(0, abs=1e-4)
    assert steps[2, 3] == pytest.approx(np.log((1 - 0.03) / (1 - 0.13)), rel=0.02)
