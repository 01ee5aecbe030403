"""Films by cameras that ride on links: what an object does is told apart from what the camera does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vap_sim.data.twin import TwinEpisode, save_episode
from vap_sim.errors import BadFile
from vap_sim.prompts.profiles import profile
from vap_sim.prompts.prompter import Prompter
from vap_sim.robots.camera import Camera
from vap_sim.robots.library import load_robot
from vap_sim.training.films import PictureFilm
from vap_sim.training.learned_from import learned_from
from vap_sim.training.motion import MotionTraining, PathSource
from vap_sim.training.motion_films import MotionFilm
from vap_sim.training.pictures import draw_pictures
from vap_sim.training.tracks import Bodies, follow, of_frames, ridden, see


@pytest.fixture
def riding(recording: TwinEpisode) -> Camera:
    """On the last link, so that it moves, and looking from afar, so that it sees objects."""
    model = load_robot(recording.meta["robot"])
    link = model.camera("wrist").parent_link
    own = Camera.from_dict(recording.meta["cameras"][0])
    assert link is not None
    poses = model.robot.forward(torch.from_numpy(recording.joints[0]))
    mount = torch.linalg.inv(poses[model.robot.link_index(link)]) @ own.T_parent_camera
    return replace(own, T_parent_camera=mount, parent_link=link)


@pytest.fixture
def film(recording: TwinEpisode, riding: Camera) -> MotionFilm:
    model = load_robot(recording.meta["robot"])
    turning = recording.joints.copy()
    turning[:, 0] += np.linspace(0, 0.15, len(turning), dtype=np.float32)
    return MotionFilm.of(replace(recording, joints=turning), riding, Prompter(model, profile("compact"), riding.size))


def test_a_camera_that_stands_still_is_one_that_rides_on_nothing(recording: TwinEpisode) -> None:
    model, camera = load_robot(recording.meta["robot"]), Camera.from_dict(recording.meta["cameras"][0])
    assert ridden(camera, model, recording.joints) is camera and of_frames(camera, np.arange(2)) is camera
    assert not follow(Bodies.of(recording), camera).carried.any()


def test_where_a_riding_camera_was_follows_from_the_joints(film: MotionFilm, riding: Camera) -> None:
    model = film.prompter.model
    links = model.robot.forward(torch.from_numpy(film.joints))
    point = torch.rand(film.length, 1, 3, generator=torch.Generator().manual_seed(0))
    by_links, depth = riding.project(point, links, model.robot)
    by_frames, _ = film.seen.project(point)
    ahead = depth > 0.05  # nearer, a hair's breadth is many pixels
    assert film.rides and ahead.any() and torch.allclose(by_links[ahead], by_frames[ahead], atol=0.02)


def test_places_are_what_camera_and_object_did(film: MotionFilm) -> None:
    there = (film.centres != 0).any(-1).all(0)
    gone = np.diff(film.centres, axis=0)
    assert np.allclose(gone[:, there], (film.carried + film.steps)[1:, there, :2], atol=1e-2)
    assert np.abs(film.carried[1:, there]).max() > 0.5


def test_what_rests_has_no_motion_of_its_own(film: MotionFilm, recording: TwinEpisode) -> None:
    rests = np.abs(np.diff(recording.object_poses, axis=0)).max(-1) < 1e-6
    steps = film.steps[1:, : rests.shape[1]]
    assert rests.any() and np.abs(steps[rests]).max() < 1e-3


def test_objects_are_seen_by_the_camera_of_a_later_frame(film: MotionFilm) -> None:
    frames = np.arange(film.length - 1)
    early, late = film.objects(frames)[1], film.objects(frames, later=1)[1]
    assert not np.array_equal(early, late)
    then = see(film.bodies, of_frames(film.seen, np.array([2])), np.array([1]))[1]
    assert np.array_equal(late[1], then[0])
    last = np.array([film.length - 1])
    assert np.array_equal(film.objects(last, later=1)[1], film.objects(last)[1])


def test_paths_of_moving_cameras_say_what_the_camera_did(film: MotionFilm) -> None:
    source = PathSource([film], MotionTraining(moving=0.0, near=0.0))
    paths = source.draw(np.random.default_rng(0), 3, 4)
    assert float(paths.carried[:, 1:].abs().max()) > 0.1
    gone = paths.centres[:, 1:] - paths.centres[:, :-1]
    assert torch.allclose(gone, (paths.carried + paths.steps)[:, 1:, :2], atol=1e-2)


def test_pictures_of_a_moving_view_come_with_the_plate_of_each_frame(recording: TwinEpisode) -> None:
    rng = np.random.default_rng(0)
    plates = rng.integers(0, 255, (1, *recording.frames.shape[1:]), dtype=np.uint8)
    cameras = [{**camera} for camera in recording.meta["cameras"]]
    cameras[-1]["parent_link"] = "some_link"
    moving = replace(recording, plates=plates, meta={**recording.meta, "cameras": cameras})
    last = len(cameras) - 1
    skeletons = np.zeros_like(recording.frames[last])
    films = [PictureFilm.of(moving, view, skeletons) for view in (0, last)]
    assert np.array_equal(films[1].plate, plates[0])
    assert films[0].plate.ndim == (4 if last == 0 else 3)
    pictures = draw_pictures(films[1:], rng, 2, 3)
    assert pictures.plate.shape == pictures.frames.shape
    first = np.sort(pictures.plate[0, 0].permute(1, 2, 0).numpy(), axis=-1)  # colors may be permuted
    assert any(np.array_equal(first, np.sort(plate, axis=-1)) for plate in plates[0])


def test_weights_say_what_they_have_seen(recording: TwinEpisode, tmp_path: Path) -> None:
    save_episode(tmp_path / "a.vap.npz", recording)
    slow = replace(recording, meta={**recording.meta, "control_dt": 1 / 3})
    save_episode(tmp_path / "b.vap.npz", slow)
    files = sorted(tmp_path.glob("*.npz"))
    assert learned_from(files) == {"frame_rates": [3.0, 5.0], "moving_views": False}
    bad = replace(recording, meta={**recording.meta, "control_dt": 0})
    save_episode(tmp_path / "c.vap.npz", bad)
    with pytest.raises(BadFile, match=r"c\.vap\.npz: meta\.json: control_dt or cameras"):
        learned_from([tmp_path / "c.vap.npz"])
