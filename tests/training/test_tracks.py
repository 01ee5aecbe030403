"""Tracks of recorded objects: numbers, places and steps agree with the pictures and with how slots move."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation  # type: ignore[import-untyped, unused-ignore]
from torch import Tensor

from vap_sim.data.twin import FLOW_SCALE, TwinEpisode
from vap_sim.models.compact.slots import SLOTS, Slots, advance, cut, render
from vap_sim.robots.camera import Camera
from vap_sim.training.tracks import Bodies, Track, follow, see


@pytest.fixture(scope="module", params=[0, 1])
def view(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def bodies(recording: TwinEpisode) -> Bodies:
    return Bodies.of(recording)


@pytest.fixture(scope="module")
def camera(recording: TwinEpisode, view: int) -> Camera:
    return Camera.from_dict(recording.meta["cameras"][view])


@pytest.fixture(scope="module")
def track(bodies: Bodies, camera: Camera) -> Track:
    return follow(bodies, camera)


@pytest.fixture(scope="module")
def seen(bodies: Bodies, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    return see(bodies, camera, np.arange(10))


def as_layers(layers: np.ndarray) -> Tensor:
    return torch.from_numpy(layers).permute(0, 3, 1, 2).float() / 255


def test_shapes_and_types(track: Track, recording: TwinEpisode) -> None:
    count = recording.object_poses.shape[1]
    assert track.centres.shape == (10, SLOTS, 2) and track.steps.shape == (10, SLOTS, 4)
    assert track.centres.dtype == track.steps.dtype == np.float32
    assert not track.steps[0].any() and not track.steps[:, count:].any() and not track.centres[:, count:].any()


def test_objects_are_seen_as_the_renderer_sees_them(
    seen: tuple[np.ndarray, np.ndarray], recording: TwinEpisode, view: int
) -> None:
    numbers, alpha = seen
    labels, layer = recording.labels[view], recording.objects[view, ..., 3]
    assert numbers.dtype == alpha.dtype == np.uint8 and numbers.shape == alpha.shape == (10, 64, 64)
    assert (numbers[labels >= 2] == labels[labels >= 2] - 1).mean() > 0.98
    assert np.array_equal(numbers > 0, alpha > 0)
    somewhere = (layer > 0) | (alpha > 0)
    assert np.abs(layer.astype(int) - alpha)[somewhere].mean() < 12  # of 255, most of these pixels are edges
    assert float(alpha.sum()) == pytest.approx(float(layer.sum()), rel=0.02)


def test_what_is_seen_of_a_frame_does_not_depend_on_the_others(
    seen: tuple[np.ndarray, np.ndarray], bodies: Bodies, camera: Camera
) -> None:
    numbers, alpha = see(bodies, camera, np.array([7, 2]))
    assert np.array_equal(numbers, seen[0][[7, 2]]) and np.array_equal(alpha, seen[1][[7, 2]])


def two_cubes(*centres: tuple[float, float, float]) -> Bodies:
    signs = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3), axis=-1).reshape(8, 3)
    boxes = (np.asarray(centres)[:, None] + 0.1 * signs).astype(np.float32)
    return Bodies(boxes[None], tuple(box[None] for box in boxes))


ABOVE = Camera.look_at("above", (0.5, 0.0, 1.0), (0.5, 0.0, 0.0), size=(64, 64), focal_px=64.0, up=(1.0, 0.0, 0.0))


def test_the_nearer_object_hides_the_farther_one_and_what_is_outside_is_not_seen() -> None:
    numbers, alpha = see(two_cubes((0.5, 0, 0.05), (0.5, 0, 0.4), (0.5, 3, 0)), ABOVE, np.array([0]))
    assert set(np.unique(numbers)) == {0, 2}
    assert (alpha[numbers == 2] > 0).all()
    numbers, _ = see(two_cubes((0.5, 0, 0.4), (0.5, 0.06, 0.05)), ABOVE, np.array([0]))
    assert set(np.unique(numbers)) == {0, 1, 2} and (numbers == 1).sum() > (numbers == 2).sum()


def test_an_object_covers_the_area_that_its_hull_has() -> None:
    """A cube with its top 0.9 m below a camera of 64 px focal length: a square of side 0.1 * 64 / 0.9 = 7.11 px."""
    shifts = np.random.default_rng(0).uniform(0, 0.05, (40, 2))
    areas = [see(two_cubes((0.5 + x, y, 0.05)), ABOVE, np.array([0]))[1].sum() / 255 for x, y in shifts]
    assert np.mean(areas) == pytest.approx((0.1 * 64 / 0.9) ** 2, rel=0.02)
    assert np.ptp(areas) < 6  # a row of fine samples more or less


def test_centres_are_where_the_camera_sees_the_objects(track: Track, recording: TwinEpisode, camera: Camera) -> None:
    xy, _ = camera.project(torch.from_numpy(recording.object_poses[..., :3].copy()))
    count = xy.shape[1]
    assert np.abs(track.centres[:, :count] - xy.numpy()).max() < 0.5


def test_steps_add_up_to_the_way(track: Track) -> None:
    assert np.allclose(track.centres[0] + track.steps[..., :2].sum(0), track.centres[-1], atol=1e-3)
    assert np.abs(track.steps[:5, :, :2]).max() < 0.02  # at rest before the push
    assert np.abs(track.steps[5:, :, :2]).max() > 0.5


def test_steps_agree_with_the_recorded_motion(
    track: Track, seen: tuple[np.ndarray, np.ndarray], recording: TwinEpisode, view: int
) -> None:
    """The exact motion of each pixel, averaged over an object, is about minus the step of its box."""
    compared = 0
    for frame in range(5, 10):
        numbers = seen[0][frame][::2, ::2]
        for slot in range(recording.object_poses.shape[1]):
            flow = recording.flow[view, frame][:, numbers == slot + 1] / FLOW_SCALE
            flow = flow[:, (flow != 0).any(axis=0)]
            if flow.shape[1] >= 6:
                assert np.abs(flow.mean(axis=1) + track.steps[frame, slot, :2]).max() < 0.5
                compared += 1
    assert compared >= 2


def test_slots_that_take_these_steps_follow_the_recording(
    track: Track, seen: tuple[np.ndarray, np.ndarray], recording: TwinEpisode, view: int
) -> None:
    layers = as_layers(recording.objects[view])
    slots: Slots = cut(layers[4:5], torch.from_numpy(seen[0][4:5]))
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
    signs = np.stack(np.meshgrid(*[(-0.5, 0.5)] * 3), axis=-1).reshape(8, 3)
    turns = Rotation.from_quat(poses[:, 0, 3:]).as_matrix()
    boxes = np.einsum("tij,pj->tpi", turns, 0.06 * signs) + poses[:, :, :3]
    steps = follow(Bodies(boxes[:, None].astype(np.float32), ()), camera).steps[:, 0]
    # Seen from above with x up, a turn from x to y goes from up to left: against the clock, which runs right to down.
    assert steps[1] == pytest.approx([0, 0, -0.1, 0], abs=1e-4)
    assert steps[2, 2] == pytest.approx(0, abs=1e-4)
    assert steps[2, 3] == pytest.approx(np.log((1 - 0.03) / (1 - 0.13)), rel=0.02)
